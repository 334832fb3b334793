"""What a run does, stage by stage: a stage is a rule with all its jobs. Told by Snakemake's events, free of output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deepjuice.job_logs import fraction_done, last_lines

SKEW_S = 2.0  # clocks of a file server and of this machine differ by less, or the log's change is seen instead
SURE_S = 2.0  # a stage's speed is not told before


@dataclass
class Job:
    """A job that was started or handed to a cluster, at its latest attempt."""

    id: int
    rule: str
    wildcards: dict[str, str]
    logs: list[str]
    began: float
    attempts: int = 1
    ended: float | None = None
    running: bool = True
    fraction: float = 0.0
    message: str = ""

    def __post_init__(self) -> None:
        self._before = self._log_state()

    @property
    def name(self) -> str:
        """The rule and what it is about, as "score: benchmark nsd, model alexnet"."""
        about = ", ".join(f"{key} {value}" for key, value in self.wildcards.items())
        return f"{self.rule}: {about}" if about else self.rule

    def look(self) -> None:
        """Read in the log whether the job runs, rather than waits in a queue, and how far it is."""
        state = self._log_state()
        if state and (state != self._before or state[0] >= self.began - SKEW_S):
            self.running, self.fraction = True, fraction_done(self.logs[0])

    def _log_state(self) -> tuple[float, int] | None:
        try:
            found = os.stat(self.logs[0])
        except (OSError, IndexError):
            return None
        return found.st_mtime, found.st_size


@dataclass
class Stage:
    """A rule, the number of its jobs in this run, and their states. Times are seconds since the epoch."""

    name: str
    total: int
    done: int = 0
    under_way: dict[int, Job] = field(default_factory=dict)
    failed: dict[int, Job] = field(default_factory=dict)
    began: float | None = None
    ended: float | None = None

    @property
    def fraction(self) -> float:
        """How much of the stage is done, from 0 to 1, running jobs counted by what their logs show."""
        return self._work() / self.total if self.total else 1.0

    @property
    def settled(self) -> bool:
        """Whether every job has ended, well or not."""
        return self.done + len(self.failed) == self.total

    def time_left(self, now: float) -> int | None:
        """Return the seconds until the stage ends if it goes on as so far; None where that cannot be told yet."""
        work, left = self._work(), self.total - len(self.failed)
        if not self.under_way or work <= 0 or now - self.began < SURE_S:
            return None
        return round((now - self.began) * (left - work) / work)

    def text(self, now: float) -> str:
        """Say in one line how far the stage is: "3/10, 2 running, 1 failed, 12 min left"."""
        running = sum(job.running for job in self.under_way.values())
        counts = {"running": running, "queued": len(self.under_way) - running, "failed": len(self.failed)}
        parts = [f"{self.done}/{self.total}", *(f"{count} {what}" for what, count in counts.items() if count)]
        left = self.time_left(now)
        if left:
            parts.append(f"{duration(left)} left")
        elif self.settled:
            parts.append(f"took {duration(self.ended - self.began)}")
        return ", ".join(parts)

    def _work(self) -> float:
        return self.done + sum(job.fraction for job in self.under_way.values())


class Run:
    """The stages of a run in their order, kept up to date by Snakemake's events."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.up_to_date: dict[str, int] = {}
        self.began: float | None = None
        self.stopped = False
        self._jobs: dict[int, Job] = {}

    def plan(self, counts: Mapping[str, int], of_all: Mapping[str, int]) -> None:
        """Take the number of jobs that will run of every rule, in order, and of all its jobs, run or not."""
        names = [name for name in counts if name not in ("total", "all")]
        self.stages = {name: Stage(name, counts[name]) for name in names}
        rest = {name: of_all[name] - counts.get(name, 0) for name in of_all if name != "all"}
        self.up_to_date = {name: count for name, count in rest.items() if count > 0}

    def begin(
        self, id: int, rule: str, wildcards: Mapping[str, str], logs: Iterable[str], runs_here: bool, now: float
    ) -> None:
        """Take a job that starts, or starts again after it failed; elsewhere than here it may wait in a queue."""
        if rule not in self.stages:
            return
        stage, earlier = self.stages[rule], self._jobs.get(id)
        attempts = earlier.attempts + 1 if earlier else 1
        logs = list(logs)
        job = Job(id, rule, dict(wildcards), logs, now, attempts, running=runs_here or not logs)
        stage.failed.pop(id, None)
        self._jobs[id] = stage.under_way[id] = job
        stage.began = stage.began or now
        self.began = self.began or now

    def finish(self, id: int, now: float) -> None:
        """Take a job that ended well."""
        job = self._end(id, now)
        if job:
            self.stages[job.rule].done += 1

    def fail(self, id: int, message: str, logs: Iterable[str], now: float) -> None:
        """Take a job that failed, with what is known of the reason; `logs` may hold a cluster's own."""
        job = None if self.stopped else self._end(id, now)
        if job:
            job.message, job.logs = message, list(logs) or job.logs
            self.stages[job.rule].failed[id] = job

    def stop(self, now: float) -> None:
        """Take the user's Ctrl-C: the jobs that it ended did not fail."""
        self.stopped = True
        for stage in self.stages.values():
            for id, job in list(stage.failed.items()):
                if job.ended > now - SURE_S:
                    stage.under_way[id] = stage.failed.pop(id)

    @property
    def failed(self) -> list[Job]:
        """The jobs that failed and were not tried again."""
        return [job for stage in self.stages.values() for job in stage.failed.values()]

    @property
    def under_way(self) -> list[Job]:
        """The jobs that run or wait in a queue."""
        return [job for stage in self.stages.values() for job in stage.under_way.values()]

    @property
    def not_run(self) -> dict[str, int]:
        """The number of jobs of every stage that were not begun or not ended."""
        left = {s.name: s.total - s.done - len(s.failed) for s in self.stages.values()}
        return {name: count for name, count in left.items() if count > 0}

    def _end(self, id: int, now: float) -> Job | None:
        job = self._jobs.get(id)
        if job is None or self.stages[job.rule].under_way.pop(id, None) is None:
            return None
        job.ended = self.stages[job.rule].ended = now
        return job


def counted(counts: Mapping[str, int]) -> str:
    """Say how many jobs of which stages.

    >>> counted({"extract": 2, "report": 1})
    '2 extract, 1 report'
    """
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def duration(seconds: float) -> str:
    """Say a time as a person would, in its two largest units.

    >>> duration(7.4), duration(754), duration(7260), duration(200_000)
    ('7 s', '12 min 34 s', '2 h 1 min', '2 d 7 h')
    """
    seconds = round(seconds)
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    first = next((i for i, (_, size) in enumerate(units) if seconds >= size), len(units) - 1)
    parts = []
    for unit, size in units[first : first + 2]:
        parts.append(f"{seconds // size} {unit}")
        seconds %= size
    return " ".join(part for i, part in enumerate(parts) if i == 0 or not part.startswith("0 "))


def why(job: Job, n_lines: int) -> list[str]:
    """Return what is known of a job's failure: the cluster's message, and the last lines of its logs."""
    lines = [line for path in job.logs for line in last_lines(path, n_lines)]
    return [*job.message.splitlines(), *lines]
