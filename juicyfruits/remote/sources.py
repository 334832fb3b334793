"""A store of files: what it says of a file, and how its bytes are read; here one on this machine's disks."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from juicyfruits.errors import InputError
from juicyfruits.remote.checksums import MIB, Checksum, parse_sums, verify
from juicyfruits.remote.errors import Corrupt, FetchError, Forbidden, NotFound, RemoteChanged, Unreachable

SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class RemoteFile:
    """One version of a file in a store: its key, its address, its size in bytes, and what tells versions apart.

    `etag` is the ETag that the store states, without quotes, or else the time of the last change.
    """

    key: str
    url: str
    size: int
    etag: str


class Source(ABC):
    """A store of files, known by their keys, such as `nsddata/experiments/nsd/nsd_expdesign.mat`.

    It may be used by many threads at once.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._sums: dict[str, str] | None = None
        self._sums_lock = threading.Lock()

    @abstractmethod
    def stat(self, key: str) -> RemoteFile:
        """Ask the store about a file; a `FetchError` of the fitting kind where it cannot be had."""

    @abstractmethod
    def read(self, file: RemoteFile, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield bytes `start` to `stop` (by default the end) of this very version, in blocks of any size.

        Broken connections are taken up again where they broke. Raises `RemoteChanged` where the store now has another
        version, and never gives fewer bytes than asked for.
        """

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return the sum that the store publishes for this version, here from the file SHA256SUMS at its root."""
        value = self._published_sums().get(file.key)
        return Checksum("sha256", value) if value else None

    def read_bytes(self, key: str) -> bytes:
        """Return a small file as a whole, verified; a wrong sum or a change on the way means one more try."""
        try:
            return self._read_whole(key)
        except (RemoteChanged, Corrupt):
            return self._read_whole(key)

    def _read_whole(self, key: str) -> bytes:
        file = self.stat(key)
        data = b"".join(self.read(file))
        verdict = verify([data], file.size, self.checksum(file))
        if verdict.problem:
            raise Corrupt(f"{file.url} came damaged twice: {verdict.problem}; try later, or take another source")
        return data

    def _published_sums(self) -> dict[str, str]:
        with self._sums_lock:
            if self._sums is None:
                self._sums = self._read_sums()
            return self._sums

    def _read_sums(self) -> dict[str, str]:
        try:
            file = self.stat(SUMS)
        except (NotFound, Forbidden):
            return {}
        return parse_sums(b"".join(self.read(file)).decode(errors="replace"), file.url)


class LocalSource(Source):
    """A folder on a disk of this machine, in the layout of the store.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("seven b")
    >>> source = LocalSource(folder)
    >>> b"".join(source.read(source.stat("a.txt"), 1, 5))
    b'even'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        super().__init__(self.folder.as_uri())
        if not self.folder.is_dir():
            raise NotFound(f"{self.folder} is not a folder that can be read; check the address of the source")

    def stat(self, key: str) -> RemoteFile:
        """Look at the file; its version is told by the time of its last change, in nanoseconds."""
        path = self.folder / checked_key(key)
        with _local_errors(path):
            found = path.stat()
        if not path.is_file():
            raise NotFound(f"{path} is not a file; check the folder that is given as the source")
        return RemoteFile(key, path.as_uri(), found.st_size, f"mtime {found.st_mtime_ns}")

    def checksum(self, file: RemoteFile) -> Checksum:
        """Return the published sum or else, as it is all on this machine, that of the bytes."""
        return super().checksum(file) or Checksum("sha256", verify(self.read(file), file.size, None).sha256)

    def read(self, file: RemoteFile, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of the file, one MiB at a time."""
        path = self.folder / file.key
        left = (file.size if stop is None else stop) - start
        if self.stat(file.key) != file:
            raise RemoteChanged(f"{path} was changed since it was looked at; try again when nothing writes to it")
        with _local_errors(path), path.open("rb") as handle:
            handle.seek(start)
            while left > 0:
                block = handle.read(min(left, MIB))
                if not block:
                    raise RemoteChanged(f"{path} became shorter while it was read; try again when nothing writes to it")
                left -= len(block)
                yield block


def checked_key(key: str) -> str:
    """Return `key` if it names a file below a root, such as `a/b.txt`; anything else is an `InputError`.

    >>> checked_key("../secret")
    Traceback (most recent call last):
    juicyfruits.errors.InputError: the key '../secret' leads out of the folder it is fetched to; give a relative path
    """
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise InputError(f"the key {key!r} leads out of the folder it is fetched to; give a relative path")
    return key


@contextmanager
def _local_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{path} does not exist; check the folder that is given as the source, or choose other files"
        ) from error
    except PermissionError as error:
        raise Forbidden(f"{path} may not be read by this user; ask for permission or take another source") from error
    except FetchError:
        raise
    except OSError as error:
        raise Unreachable(f"{path} cannot be read ({error}); check the disk, or take another source") from error
