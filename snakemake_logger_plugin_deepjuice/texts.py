"""What is said at the beginning and at the end of a run."""

from __future__ import annotations

from pathlib import Path

from snakemake_logger_plugin_deepjuice.stages import Job, Run, counted, duration, why

LOG_LINES = 15
DETAILED = 10  # failed jobs that are told with their logs; of a thousand the rest is named only
NAMED = 20


def opening(run: Run) -> str:
    """Say in one line what is going to run and what need not."""
    to_do = counted({name: stage.total for name, stage in run.stages.items()})
    rest = f"; up to date: {counted(run.up_to_date)}" if run.up_to_date else ""
    return f"to do: {to_do}{rest}"


def failure(job: Job) -> str:
    """Say in one line that a job failed, and why as far as one line of its log tells."""
    reason = why(job, 1)
    return f"failed: {job.name}" + (f" - {reason[-1].strip()}" if reason else "")


def closing(run: Run, now: float, results: str, folder: str | None, brief: bool = False) -> str:
    """Say what ran, what was up to date, what failed and why, how to go on, and where the results are.

    Args:
        run: as it ended.
        now: seconds since the epoch.
        results: what was found, of a run that ended well.
        folder: where the results are, if the workflow told.
        brief: not what ran, as of a quiet run, which is not told which jobs ended well.
    """
    whole = not run.failed and (bool(results) or not run.not_run)
    end = "finished" if whole else "stopped" if run.stopped or not run.failed else "ended with failures"
    lines = ["", f"{end} after {duration(now - run.began)}"]
    if not brief:
        lines += _what_ran(run)
    if run.failed:
        lines += _failures(run.failed)
    if run.not_run and not brief:
        what = "not run, as they need what failed" if end == "ended with failures" else "stopped or not begun"
        lines.append(f"{what}: {counted(run.not_run)}")
    if not whole:
        lines += _how_to_go_on(run, folder)
    return "\n".join([*lines, results] if results else lines)


def _what_ran(run: Run) -> list[str]:
    rows = [(s.name, s.done, duration(s.ended - s.began)) for s in run.stages.values() if s.done]
    rows += [(name, count, "up to date") for name, count in run.up_to_date.items()]
    width = max((len(name) for name, *_ in rows), default=0)
    return [f"  {name:<{width}}  {count:>5} job{'s' if count != 1 else ' '}  {what}" for name, count, what in rows]


def _failures(failed: list[Job]) -> list[str]:
    lines = [f"failed: {len(failed)} job{'s' * (len(failed) != 1)}"]
    for job in failed[:DETAILED]:
        tried = f" (tried {job.attempts} times)" if job.attempts > 1 else ""
        lines += [f"  {job.name}{tried}", *(f"    | {line}" for line in why(job, LOG_LINES))]
        logs = [path for path in job.logs if Path(path).exists()]
        lines += [f"    log: {path}" for path in logs] or ["    it left no log"]
    lines += [f"  {failure(job).removeprefix('failed: ')}" for job in failed[DETAILED:NAMED]]
    if len(failed) > NAMED:
        lines.append(f"  and {len(failed) - NAMED} more")
    return lines


def _how_to_go_on(run: Run, folder: str | None) -> list[str]:
    remedy = "mend what failed, then give" if run.failed else "to go on give"
    lost = "; an older result of a job that failed is gone, as it was out of date" if run.failed else ""
    lines = [f"{remedy} the same command again; what is finished stays{lost}"]
    if folder:
        lines.append(f"results so far: {folder} (`deepjuice status {folder}` lists them)")
    return lines
