"""One run of the workflow at a time on a folder, and jobs that do not outlive their run.

The locks are the operating system's: they vanish with the processes that hold them, however these end, so that nothing
is left to be removed by hand. Of two files in a folder, `.run.lock` is held by the run, which writes into it who it is,
and `.jobs.lock` by all of its jobs together, on whatever machine they are.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from juicyfruits.errors import InputError
from juicyfruits.files import is_alive

VARIABLE = "DEEPJUICE_RUN"  # tells a job its run; Snakemake hands the environment on, and so does Slurm
RUN, JOBS = ".run.lock", ".jobs.lock"
POLL = 1.0  # seconds between two looks of a job at its run
PATIENCE = 2.0  # seconds for which a run tries to get a lock
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)

_held: list[int] = []  # open files, locked for as long as this process lives


@dataclass(frozen=True)
class Run:
    """A run of the workflow, as it stands in the first of the folders that it has for itself."""

    folders: list[str]
    pid: int
    host: str
    pids: str  # the space in which `pid` is a process: that of the machine, or of a container
    since: str

    @classmethod
    def here(cls, folders: Iterable[Path]) -> Run:
        """Describe the run whose process this is."""
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        return cls([str(folder) for folder in folders], os.getpid(), os.uname().nodename, _pids(), since)

    def has_ended(self) -> bool:
        """Whether its process is gone, where that can be seen from here, or another run has its folder now."""
        if (self.host, self.pids) == (os.uname().nodename, _pids()) and not is_alive(self.pid):
            return True
        return _read(Path(self.folders[0])) not in (self, None)


def start_run(own: Iterable[str | Path], read: Iterable[str | Path] = ()) -> Run:
    """Take folders for this process until it ends, and let the jobs that it starts know their run.

    Jobs that are left of a killed run on these folders end by themselves (`join_run`), and are waited for.

    Args:
        own: folders in which something is made; they are this run's alone.
        read: folders from which is only read, as others may do at the same time.

    Raises InputError where another run has a folder, and says which one.
    """
    own = list(dict.fromkeys(Path(folder).resolve() for folder in own))
    run = Run.here(own)
    for folder in own:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / RUN, os.O_RDWR | os.O_CREAT, 0o666)
        _take(file, fcntl.LOCK_EX, folder)
        os.ftruncate(file, 0)
        os.write(file, json.dumps(asdict(run)).encode())
    for folder in {Path(folder).resolve() for folder in read}.difference(own):
        if file := _open_to_read(folder / RUN):
            _take(file, fcntl.LOCK_SH, folder)
    for folder in own:
        _wait_for_jobs(folder)
    os.environ[VARIABLE] = json.dumps(asdict(run))
    return run


def join_run() -> None:
    """Make this process a job of the run that started it, if one did: when the run has ended, so does the job.

    Otherwise a job of a killed run would go on, and might replace what a later run, perhaps with other settings, has
    made. Raises InputError if the run has ended already.
    """
    if VARIABLE not in os.environ:
        return
    run, parent = Run(**json.loads(os.environ[VARIABLE])), os.getppid()
    for folder in run.folders:
        file = os.open(Path(folder, JOBS), os.O_RDWR | os.O_CREAT, 0o666)
        _lock(file, fcntl.LOCK_SH)
        _held.append(file)
    # In this order: a run that comes next says who it is, and then waits for the jobs that hold the lock.
    if run.has_ended():
        raise InputError("the run of the workflow that started this job has ended; start the workflow again")
    threading.Thread(target=_end_with, args=(run, parent), daemon=True).start()


def _end_with(run: Run, parent: int) -> None:
    while os.getppid() == parent and not run.has_ended():
        time.sleep(POLL)
    try:
        print("the run of the workflow that started this job has ended, and so does the job", file=sys.stderr)
    finally:
        os._exit(1)


def _take(file: int, mode: int, folder: Path) -> None:
    """Lock a run's file for as long as this process lives; be patient, as others may look in passing who has it."""
    until = time.monotonic() + PATIENCE
    while not _lock(file, mode | fcntl.LOCK_NB):
        if time.monotonic() > until:
            os.close(file)
            other = _read(folder)
            who = f" (process {other.pid} on {other.host}, since {other.since})" if other else ""
            raise InputError(
                f"{folder} is in use by another run of the workflow{who}; wait until it has ended, or stop it, and "
                "give the command again; or give this run other folders as `data` and `results`"
            )
        time.sleep(0.1)
    _held.append(file)


def _wait_for_jobs(folder: Path) -> None:
    file, told = os.open(folder / JOBS, os.O_RDWR | os.O_CREAT, 0o666), False
    while not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
        if not told:
            print(f"{folder}: jobs of a run that was killed are about to end; waiting for them", file=sys.stderr)
            told = True
        time.sleep(0.1)
    os.close(file)


def _lock(file: int, mode: int) -> bool:
    """Lock an open file, and return whether that came about; where a file system knows no locks, all is allowed."""
    try:
        fcntl.flock(file, mode)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _open_to_read(path: Path) -> int | None:
    """Open the file of a lock that is shared, or return None where there is none and none can be made."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # the folder may be someone else's
        try:
            return os.open(path, flags, 0o666)
        except OSError:
            continue
    return None


def _read(folder: Path) -> Run | None:
    """Return the run that last took a folder for itself, or None where that cannot be read."""
    try:
        return Run(**json.loads((folder / RUN).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _pids() -> str:
    """Name the space of process numbers, as containers have their own; empty where there is no such thing."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
