"""What the log file of a job tells: its last lines, and how far the job has come."""

from __future__ import annotations

import os
import re
from pathlib import Path

END = 16384  # bytes, enough for the last lines of any log and for a bar that is drawn over and over
PERCENT = re.compile(r"(\d{1,3})%\|")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def last_lines(path: str | Path, n_lines: int = 15) -> list[str]:
    """Return the last lines of a log as a terminal would leave them: of a bar that was redrawn, the last state.

    Empty lines are left out; a file that is missing or cannot be read has none.

    >>> import tempfile
    >>> log = Path(tempfile.mkdtemp(), "job.log")
    >>> _ = log.write_text("begun\\n\\rmaps:  50%|#####     |\\rmaps: 100%|##########|\\nno memory\\n")
    >>> last_lines(log, 2)
    ['maps: 100%|##########|', 'no memory']
    """
    lines = (_as_left(line) for line in _end(path).split("\n"))
    return [line for line in lines if line][-n_lines:]


def fraction_done(path: str | Path) -> float:
    """Return how far the last progress bar in a log is, from 0 to 1; without one 0.

    >>> import tempfile
    >>> log = Path(tempfile.mkdtemp(), "job.log")
    >>> _ = log.write_text("\\rmaps:  25%|##        |\\rmaps:  50%|#####     |")
    >>> fraction_done(log), fraction_done("absent")
    (0.5, 0.0)
    """
    shown = PERCENT.findall(_end(path))
    return min(int(shown[-1]), 100) / 100 if shown else 0.0


def _as_left(line: str) -> str:
    states = [state for state in ESCAPES.sub("", line).split("\r") if state.strip()]
    return states[-1].rstrip() if states else ""


def _end(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
