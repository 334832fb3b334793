"""Files that are never half-written, and digests of what they hold."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, and rename it into place only if the block succeeds.

    Works for files and for directories; whatever stood at `path` is replaced, and on an error nothing is left behind.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "table.csv"
    >>> with atomic_path(target) as tmp:
    ...     _ = tmp.write_text("a,b")
    >>> target.read_text()
    'a,b'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(tmp)
    try:
        yield tmp
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(tmp, path)
    finally:
        remove(tmp)


def remove(path: Path) -> None:
    """Delete a file or a whole directory; a missing one is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
