"""Files that are never half-written, and digests of what they hold."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from juicyfruits.errors import InputError, first_names


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, and rename it into place only if the block succeeds.

    Works for files and for directories. A file replaces only a file and a directory only a directory, anything else is
    an `InputError`; on an error what stood at `path` stays, and nothing else is left behind. What a killed process
    left of an earlier write to `path` is removed.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "table.csv"
    >>> with atomic_path(target) as tmp:
    ...     _ = tmp.write_text("a,b")
    >>> target.read_text()
    'a,b'
    """
    path = Path(path).absolute()
    if path.name in ("", ".."):
        raise InputError(f"{path} cannot be written as a file or folder of its own; give it a name")
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove_leftovers(path)
    remove(tmp)
    try:
        yield tmp
        _move(tmp, path)
    finally:
        remove(tmp)


def check_replaceable(folder: str | Path, marker: str, parts: Iterable[str] = ()) -> None:
    """Raise `InputError` if `folder` holds anything but an earlier result, known by its file `marker`.

    Where the names of all its `parts` are given, whatever else lies there, hidden files apart, forbids replacing it.

    >>> import tempfile
    >>> check_replaceable(tempfile.mkdtemp(), "benchmark.json")  # an empty folder may be replaced
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder; choose another place")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).exists():
        raise InputError(f"{folder} is not empty and has no {marker}, so it will not be replaced; choose another place")
    if parts and folder.is_dir():
        others = sorted(name for name in os.listdir(folder) if name not in parts and not name.startswith("."))
        if others:
            raise InputError(
                f"{folder} also holds {first_names(others)}, which would be lost, so it will not be replaced; move it "
                "away, or choose another place"
            )


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a parser raises within the block into an `InputError` that names the file.

    Put nothing but the parser's call into the block: on garbage, parsers raise errors of any type.

    >>> with reading(Path("info.json"), "JSON"):
    ...     raise KeyError("x")
    Traceback (most recent call last):
    juicyfruits.errors.InputError: info.json cannot be read as JSON (KeyError: 'x'); replace the file or make it again
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path} cannot be read as {what} ({reason}); replace the file or make it again") from error


def remove(path: Path) -> None:
    """Delete a file or a whole directory; a missing one is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _move(tmp: Path, path: Path) -> None:
    """Rename `tmp` to `path`; a directory there is set aside until the new one stands."""
    if path.exists() and path.is_dir() != tmp.is_dir():
        raise InputError(f"{path} is a {'folder' if path.is_dir() else 'file'}; choose another place")
    if not (tmp.is_dir() and os.path.lexists(path)):
        os.replace(tmp, path)
        return
    aside = tmp.with_suffix(".old")
    os.rename(path, aside)
    try:
        os.rename(tmp, path)
    except BaseException:
        os.rename(aside, path)
        raise
    remove(aside)


def _remove_leftovers(path: Path) -> None:
    """Remove `.NAME.PID.tmp` of processes that are gone, and `.NAME.PID.old` where `path` itself stands."""
    for found in path.parent.glob(f".{glob.escape(path.name)}.*"):
        match = re.fullmatch(r"(\d+)\.(tmp|old)", found.name.removeprefix(f".{path.name}."))
        if match and not is_alive(int(match[1])) and (match[2] == "tmp" or path.exists()):
            remove(found)


def is_alive(pid: int) -> bool:
    """Return whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def digest(*parts: str | bytes | np.ndarray | Path) -> str:
    """Return a short SHA-256 (16 hex digits) over texts, bytes, arrays (dtype, shape and values) and files (content).

    Every part enters with its length, so that ("ab", "c") and ("a", "bc") differ.

    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    sha = hashlib.sha256()
    for part in parts:
        sha.update(_part_digest(part))
    return sha.hexdigest()[:16]


def _part_digest(part: str | bytes | np.ndarray | Path) -> bytes:
    if isinstance(part, Path):
        with part.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    if isinstance(part, np.ndarray):
        head = f"{part.dtype.str}{part.shape}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(part).tobytes()).digest()
    data = part.encode() if isinstance(part, str) else part
    return hashlib.sha256(data).digest()
