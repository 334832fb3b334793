"""Fetching files whole: side by side, resumed where they broke, verified, and never left half under their own name."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from juicyfruits.errors import InputError
from juicyfruits.remote.checksums import file_blocks, verify
from juicyfruits.remote.errors import Corrupt, DiskFull, FetchError, RemoteChanged
from juicyfruits.remote.records import Record, read_record, write_record
from juicyfruits.remote.sources import RemoteFile, Source, checked_key
from juicyfruits.remote.threads import StoppedError, in_threads

STAT_JOBS = 16
MAX_VERSIONS = 3
LOCK_POLL = 0.2
OVERLAP = 64 * 1024


def download(source: Source, keys: Iterable[str], root: str | Path, *, jobs: int = 4) -> list[Record]:
    """Bring files into `root`, under their keys, and return what is known of each, in the order of the keys.

    A file that was fetched before is not fetched again; one that is there without a record is adopted if a sum proves
    it to be the remote one. What comes grows in `.NAME.VERSION.part` beside its place, is resumed by the next call
    whatever ended the last one, and is renamed only when its size and the published sum are right; where no sum is
    published, a part must end as the remote file goes on. Of several processes, one fetches and the others wait.
    `jobs` files travel at a time.

    Raises the `FetchError` of the first file that fails, when the others have stopped; their parts stay.

    >>> import tempfile
    >>> from juicyfruits.remote.sources import LocalSource
    >>> source = LocalSource(tempfile.mkdtemp())
    >>> _ = (source.folder / "a.txt").write_text("seven b")
    >>> [record] = download(source, ["a.txt"], tempfile.mkdtemp())
    >>> record.size, record.proof
    (7, 'sha256')
    """
    if jobs < 1:
        raise InputError(f"{jobs} files cannot be fetched at a time; give jobs of at least 1")
    root = Path(root).absolute()
    files = stat_files(source, keys)
    left = sum(file.size - _size_here(root / file.key, file) for file in files)
    check_space(root, left, f"the {len(files)} files need")
    with _Progress(source, files, root) as progress:
        return in_threads(lambda file, stop: _fetch(source, file, root, progress, stop), files, jobs)


def stat_files(source: Source, keys: Iterable[str]) -> list[RemoteFile]:
    """Ask for size and version of many files side by side, each key once."""
    unique = [checked_key(key) for key in dict.fromkeys(keys)]
    return in_threads(lambda key, _: source.stat(key), unique, STAT_JOBS)


def _fetch(source: Source, file: RemoteFile, root: Path, progress: _Progress, stop: threading.Event) -> Record:
    target = root / file.key
    if target.is_symlink() and not target.exists():
        raise FetchError(
            f"{target} is a link to {os.readlink(target)}, which is not there; bring that back, or delete the link"
        )
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target, stop):
            here = target.exists()
            record = _kept(source, file, root) if here else _brought(source, file, root, progress, stop)
    progress.set(file.key, file.size)
    return record


def _kept(source: Source, file: RemoteFile, root: Path) -> Record:
    """Return the record of a file that is there, if it is (still) the remote one; otherwise raise.

    Where another source can prove nothing, what was proved before is what is known.
    """
    target, record = root / file.key, read_record(root, file.key)
    if record is None:
        return _adopted(source, file, root)
    size = target.stat().st_size
    if size != record.size:
        raise Corrupt(
            f"{target} has {size:,} bytes and had {record.size:,} when it was fetched from {record.url}; delete it "
            "and run it again"
        )
    if not _is_version(record, file):
        file = source.stat(file.key)  # another process may have brought a version newer than the one asked about
    if _is_version(record, file):
        return record
    verdict = verify(file_blocks(target), file.size, source.checksum(file))
    if verdict.sha256 != record.sha256:
        raise Corrupt(
            f"{target} was damaged or changed here since it was fetched from {record.url}: its sha256 is "
            f"{verdict.sha256}, not {record.sha256}; delete it and run it again"
        )
    if not verdict.problem and verdict.proof != "size":
        return write_record(root, file, replace(verdict, proof="sha256") if record.proof == "sha256" else verdict)
    if record.url == file.url:
        raise RemoteChanged(
            f"{target}, fetched {record.fetched_at} with ETag {record.etag!r} ({record.size:,} bytes), was changed "
            f"at {file.url} to {file.etag!r} ({file.size:,} bytes); delete the file here to fetch the new one"
        )
    _check_same(target, file, verdict.problem)
    return record


def _adopted(source: Source, file: RemoteFile, root: Path) -> Record:
    """Write down a file that is there and of which nothing is known, if a sum proves it to be the remote one."""
    verdict = verify(file_blocks(root / file.key), file.size, source.checksum(file))
    unproved = "its size is the same, but no sum is known by which it could be verified"
    _check_same(root / file.key, file, verdict.problem or (unproved if verdict.proof == "size" else ""))
    return write_record(root, file, verdict)


def _check_same(target: Path, file: RemoteFile, problem: str) -> None:
    if problem:
        raise Corrupt(
            f"{target} is there, but is not known to be {file.url}: {problem}; delete it, or choose another folder"
        )


def _is_version(record: Record, file: RemoteFile) -> bool:
    return (record.url, record.size, record.etag) == (file.url, file.size, file.etag)


def _brought(source: Source, file: RemoteFile, root: Path, progress: _Progress, stop: threading.Event) -> Record:
    """Fetch a file, starting again with the new version where it is changed meanwhile."""
    for _ in range(MAX_VERSIONS):
        try:
            return _brought_version(source, file, root, progress, stop)
        except RemoteChanged as error:
            _say(f"{error}: starting again with the new version")
            file = source.stat(file.key)
    raise RemoteChanged(
        f"{file.url} was changed {MAX_VERSIONS} times while it was fetched; run it again when it is left alone"
    )


def _brought_version(
    source: Source, file: RemoteFile, root: Path, progress: _Progress, stop: threading.Event
) -> Record:
    """Fetch one version of a file, with a second try from the first byte where the sum is wrong."""
    target = root / file.key
    part = _part_path(target, file)
    for other in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        if other != part:
            other.unlink()
    checksum, came = source.checksum(file), set()
    overlap = 0 if checksum is not None and checksum.certain else OVERLAP
    for _ in range(2):
        _fill(part, source, file, overlap, progress, stop)
        verdict = verify(file_blocks(part), file.size, checksum)
        # A sum of parts whose sizes can only be guessed may rightly differ, if the same bytes come again.
        if not verdict.problem and (verdict.proof != "size" or checksum is None or verdict.sha256 in came):
            record = write_record(root, file, verdict)
            os.replace(part, target)
            return record
        part.unlink()
        came.add(verdict.sha256)
        problem = verdict.problem or f"no usual size of parts gives its ETag, and its sha256 is {verdict.sha256}"
        _say(f"{file.url} came damaged: {problem}; it is thrown away")
    raise Corrupt(
        f"{target} could not be fetched: {file.url} came damaged twice, at last {problem}, and was thrown away both "
        "times; try again later, or take another source"
    )


def _fill(
    part: Path, source: Source, file: RemoteFile, overlap: int, progress: _Progress, stop: threading.Event
) -> None:
    """Append to `part` what it lacks, or begin anew where its last `overlap` bytes are not those of the remote file."""
    with part.open("a+b", buffering=0) as out:
        have = out.tell()
        start = max(0, have - overlap)
        out.seek(start)
        known = out.read(have - start)
        progress.set(file.key, have)
        for block in source.read(file, start):
            compared = min(len(known), len(block))
            if known[:compared] != block[:compared]:
                out.truncate(0)
                return _fill(part, source, file, overlap, progress, stop)
            known, left = known[compared:], memoryview(block)[compared:]
            have += len(left)
            while len(left):
                left = left[out.write(left) :]
            if stop.is_set():
                raise StoppedError
            progress.set(file.key, have)
        os.fsync(out.fileno())


def _part_path(target: Path, file: RemoteFile) -> Path:
    version = hashlib.sha256(f"{file.url} {file.size} {file.etag}".encode()).hexdigest()[:8]
    return target.with_name(f".{target.name}.{version}.part")


def check_space(folder: Path, n_bytes: int, who_needs: str) -> None:
    """Raise `DiskFull` if the disk of a folder, which need not be there yet, has no room for so many bytes more."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if n_bytes > free:
        raise DiskFull(
            f"{folder} has {free:,} bytes of free space and {who_needs} {n_bytes:,} more; make space there, or choose "
            "another folder"
        )


def _size_here(target: Path, file: RemoteFile) -> int:
    """Return how many bytes need not be fetched, as far as one can tell before looking closer."""
    if target.exists():
        return file.size
    part = _part_path(target, file)
    return min(part.stat().st_size, file.size) if part.exists() else 0


@contextmanager
def alone(target: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the lock of `target`, having said so if another process has it first."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    waiting = False
    while not stop.is_set():
        try:
            with lock.acquire(timeout=1 if waiting else 0, poll_interval=LOCK_POLL):
                yield
            return
        except Timeout:
            if not waiting:
                _say(f"waiting for another process that fetches {target}")
            waiting = True
    raise StoppedError


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Tell what this machine's disk refuses; sources tell their own troubles as `FetchError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"{target} does not fit ({error.strerror}); make space in {target.parent} and run it again: what has "
                "come so far is kept"
            ) from error
        raise FetchError(f"{target} could not be written ({error}); check the folder and its permissions") from error


class _Progress:
    """One bar over the bytes of all files; what is there already counts from the start. Threads may set it."""

    def __init__(self, source: Source, files: list[RemoteFile], root: Path) -> None:
        self._have = {file.key: _size_here(root / file.key, file) for file in files}
        self._lock = threading.Lock()
        self._bar = tqdm(
            desc=f"fetching from {source.url}",
            total=sum(file.size for file in files),
            initial=sum(self._have.values()),
            unit="B",
            unit_scale=True,
            mininterval=0.1 if sys.stderr.isatty() else 10,
        )

    def set(self, key: str, n_bytes: int) -> None:
        """Say how many bytes of a file are here."""
        with self._lock:
            self._bar.update(n_bytes - self._have[key])
            self._have[key] = n_bytes

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _say(message: str) -> None:
    tqdm.write(message, file=sys.stderr)
