"""The logger `deepjuice` for Snakemake: one progress line a stage, and at the end what ran and where the results are.

Snakemake tells loggers of this kind what happens (`snakemake_interface_logger_plugins`). While all goes well nothing is
printed but the stages' lines; warnings, errors, dry runs, and everything with `--verbose` or `--printshellcmds`, go
through Snakemake's own handler. Snakemake's log file under `.snakemake/log` holds all of its messages as ever.

A workflow can tell more by records with attributes: before anything runs `about`, a dict with `workflow`, `summary` (a
function that returns what was found) and `results` (the folder); at the end, on the text of what was found, `found`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from logging import WARNING, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_deepjuice.display import Bars, Lines, room
from snakemake_logger_plugin_deepjuice.stages import Run
from snakemake_logger_plugin_deepjuice.texts import closing, failure, opening

BEFORE = "Assuming unrestricted shared filesystem usage"  # said before every run
NOTHING_TO_DO = "Nothing to be done"
INTERRUPTED = "Terminating processes on user request"
ENDED = "Will exit after finishing currently running jobs (scheduler)"  # by a SIGTERM, which jobs may have got as well
SAID = (INTERRUPTED, ENDED, "SLURM run ID")  # of Snakemake's messages that are not events
SAID_BY_US = ("At least one job did not complete successfully", "Exiting because a job execution failed")
LOGS_A_SECOND = 100  # are looked at; a thousand jobs on a cluster's file system take ten seconds


class LogHandler(LogHandlerBase):
    """Shows a run's stages, and hands to Snakemake's own handler what is not about them."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
        from snakemake.settings.enums import Quietness

        common = self.common_settings
        quiet = set(common.quiet or ())
        self.stream = sys.stdout if common.stdout else sys.stderr
        self.plain = ColorizingTextHandler(
            common.nocolor,
            self.stream,
            DefaultFormatter(quiet, common.show_failed_logs),
            DefaultFilter(quiet, common.debug_dag, common.verbose, common.dryrun, common.printshellcmds),
        )
        self.shows_all = common.verbose or common.printshellcmds or common.debug_dag
        self.shows_progress = not quiet & {Quietness.PROGRESS, Quietness.ALL}
        self.shows_end = Quietness.ALL not in quiet
        self.run = Run()
        self.about: dict[str, Any] = {}
        self.display: Bars | Lines | None = None
        self.is_run = self.is_planned = False
        self.found = ""
        self._told: set[tuple[int, int]] = set()  # failed jobs, by id and attempt
        self._over = threading.Event()

    def emit(self, record: LogRecord) -> None:
        """Take one of Snakemake's records, in the thread that hands them out."""
        if self._over.is_set():
            return
        try:
            event = getattr(record, "event", None)
            self.about = getattr(record, "about", self.about)
            if event == LogEvent.WORKFLOW_STARTED:
                self.is_run = not self.common_settings.dryrun
            text = str(record.msg)
            if not self.is_run:
                if not text.startswith(BEFORE):
                    self.plain.handle(record)
                return
            if self.shows_all or not self._is_ours(record, event, text):
                with self.display.writing() if self.display else nullcontext():
                    self.plain.handle(record)
            self._take(record, event, text)
        except BrokenPipeError:  # whoever read has read enough, such as `head`
            self._over.set()
        except Exception:
            self.handleError(record)

    def _is_ours(self, record: LogRecord, event: LogEvent | None, text: str) -> bool:
        """Whether a record is about the stages, or about what nobody needs to know while all goes well."""
        if event in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR) or hasattr(record, "found"):
            return True
        if record.levelno >= WARNING:
            command_failed = event == LogEvent.ERROR and "CalledProcessError" in text
            known = bool(self.run.failed) or self.run.stopped
            return command_failed or (known and any(words in text for words in SAID_BY_US))
        if event is not None:
            return True
        return _is_snakemakes(record.pathname) and (self.run.stopped or not text.startswith(SAID))  # said once

    def _take(self, record: LogRecord, event: LogEvent | None, text: str) -> None:
        """Keep the stages up to date."""
        run, now = self.run, record.created
        if event == LogEvent.RUN_INFO:
            self._begin(record.stats)
        elif event == LogEvent.JOB_INFO:
            run.begin(record.jobid, record.rule_name, record.wildcards or {}, record.log or [], record.local, now)
        elif event == LogEvent.JOB_FINISHED:
            run.finish(record.job_id, now)
        elif event == LogEvent.JOB_ERROR:
            run.fail(record.jobid, record.rule_msg or "", record.log or [], now)
        elif hasattr(record, "found"):
            self.found = text
        elif text.startswith((INTERRUPTED, ENDED)):
            run.stop(now)
        elif text.startswith(NOTHING_TO_DO) and self.shows_end:
            found = self.about["summary"]() if self.about else ""
            print(f"nothing to do: everything is up to date\n{found}", file=self.stream, flush=True)

    def _begin(self, counts: dict[str, int]) -> None:
        """Say what is going to run, and follow it from now on."""
        of_all = _jobs_of_rules(self.about["workflow"]) if self.about else {}
        self.run.plan(counts, of_all)
        if not self.shows_progress or not self.run.stages:
            return
        print(opening(self.run), file=self.stream, flush=True)
        stages = self.run.stages.values()
        fits = room(self.stream) > len(stages) and not self.shows_all
        self.display = Bars(self.stream, stages) if fits else Lines(self.stream)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        """Look at the logs of running jobs and show the stages, once a second until the end."""
        pause = 1.0
        while not self._over.wait(pause):
            with self.lock:
                jobs = self.run.under_way
            for job in jobs:
                job.look()
            with self.lock:
                if not self._over.is_set():
                    self._show(time.time())
            pause = max(1.0, len(jobs) / LOGS_A_SECOND)

    def _show(self, now: float) -> None:
        for job in self.run.failed:
            # A little later, when it is known whether Ctrl-C ended it.
            if (job.id, job.attempts) not in self._told and now > job.ended + 1:
                self._told.add((job.id, job.attempts))
                with self.display.writing():
                    print(failure(job), file=self.stream, flush=True)
        for stage in self.run.stages.values():
            self.display.show(stage, now)

    def close(self) -> None:
        """End the stages' lines, and say what ran and where the results are."""
        if not self._over.is_set():
            self._over.set()
            with self.lock:
                if self.display:
                    self._show(time.time())
                    self.display.close()
                if self.run.began and self.shows_end:
                    folder, brief = self.about.get("results"), not self.shows_progress
                    print(closing(self.run, time.time(), self.found, folder, brief), file=self.stream, flush=True)
        super().close()


def _jobs_of_rules(workflow: Any) -> dict[str, int]:
    """Count the jobs of every rule, whether they need to run or not, in the order in which the rules stand."""
    jobs = list(workflow.dag.jobs)  # at once, as the scheduler goes on meanwhile
    counts = Counter(job.rule.name for job in jobs)
    return {rule.name: counts[rule.name] for rule in workflow.rules}


def _is_snakemakes(path: str) -> bool:
    """Whether code lies where Snakemake and its plugins are installed, not in a workflow."""
    import snakemake

    return Path(path).is_relative_to(Path(snakemake.__file__).parents[1])
