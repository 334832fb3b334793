"""The state of a results folder in words, on one screen however many models there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from deepjuice.job_logs import fraction_done, last_lines
from deepjuice.sizes import counted, format_bytes
from deepjuice.status import (
    DONE,
    NONE,
    OTHER_SCORES,
    YES,
    BenchmarkStatus,
    FolderStatus,
    JobStatus,
    ModelStatus,
)

SHOWN = 12  # unfinished models of a benchmark, and jobs, unless all are asked for
SILENT_S = 120.0  # a job that shows progress writes more often
WIDTH = 160  # of a line of a log


def status_text(status: FolderStatus, every: bool = False) -> str:
    """Return counts of all models, a line for each unfinished one (or `every` one), and jobs that did not end well."""
    size = format_bytes(sum(b.n_bytes for b in status.benchmarks), 1)
    lines = [f"{status.path}: {counted(len(status.benchmarks), 'benchmark')}, {size}"]
    if status.run:
        lines.append("a run is on (process {pid} on {host}, since {since})".format(**status.run))
    lines.append(f"report.html: {status.report}")
    for benchmark in status.benchmarks:
        lines += ["", *_benchmark(benchmark, every)]
    if status.jobs:
        lines += ["", *_jobs(status.jobs, bool(status.run), every)]
    return "\n".join(lines)


def _benchmark(benchmark: BenchmarkStatus, every: bool) -> Iterator[str]:
    models = benchmark.models
    yield f"{benchmark.name}: {counted(len(models), 'model')}, {format_bytes(benchmark.n_bytes, 1)}"
    yield f"  features  {_counts((m.features for m in models), 'in part')}"
    yield f"  scores    {_counts((m.scores for m in models), 'in part')}"
    yield f"  tables    {_tables(benchmark)}"
    listed = models if every else [m for m in models if not m.finished]
    shown = listed if every else listed[:SHOWN]
    if shown:
        rows = [("model", "features", "scores", "in tables"), *((m.uid, m.features, m.scores, m.tables) for m in shown)]
        yield from _columns(rows)
    if len(listed) > len(shown):
        yield f"  and {len(listed) - len(shown)} more unfinished ones (--all lists every model)"


def _counts(states: Iterable[str], partly: str) -> str:
    """Count states; those that say how much of something there is, as "3 of 8 parts", are counted as one."""
    counts = Counter(partly if state[0].isdigit() else state for state in states)
    order = sorted(counts, key=lambda state: (state != DONE, state == NONE, state))
    return ", ".join(f"{counts[state]} {state}" for state in order) or "none"


def _tables(benchmark: BenchmarkStatus) -> str:
    if benchmark.tables_written is None:
        return NONE
    scored: list[ModelStatus] = [m for m in benchmark.models if m.scores == DONE]
    missing = sum(m.tables != YES and m.tables != OTHER_SCORES for m in scored)
    other = sum(m.tables == OTHER_SCORES for m in benchmark.models)
    gone = sum(m.tables == YES and m.scores != DONE for m in benchmark.models)
    problems = [
        *([f"without {counted(missing, 'scored model')}"] if missing else []),
        *([f"with other scores of {counted(other, 'model')} than are here"] if other else []),
        *([f"with {counted(gone, 'model')} whose scores are no longer here or are of other features"] if gone else []),
    ]
    held = sum(m.tables in (YES, OTHER_SCORES) for m in benchmark.models)
    return f"of {counted(held, 'model')}" + (f": {'; '.join(problems)}" if problems else ", up to date")


def _jobs(jobs: Sequence[JobStatus], run_is_on: bool, every: bool) -> Iterator[str]:
    running = [job for job in jobs if run_is_on and job.silent_s < SILENT_S]
    ended = [job for job in jobs if job not in running]
    if running:
        yield "running:"
        yield from (f"  {job.name}  {fraction_done(job.log):.0%}" for job in _some(running, every))
        yield from _more(running, every)
    if ended:
        yield "failed, stopped or silent for long:" if run_is_on else "failed or stopped at the last attempt:"
        for job in _some(ended, every):
            last = (last_lines(job.log, 1) or ["(its log is empty)"])[0].strip()
            yield f"  {job.name}: {last[:WIDTH]}"
            yield f"    log: {job.log}"
        yield from _more(ended, every)


def _some(jobs: Sequence[JobStatus], every: bool) -> Sequence[JobStatus]:
    return jobs if every else jobs[:SHOWN]


def _more(jobs: Sequence[JobStatus], every: bool) -> Iterator[str]:
    if len(jobs) > len(_some(jobs, every)):
        yield f"  and {len(jobs) - SHOWN} more (--all)"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield ("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()
