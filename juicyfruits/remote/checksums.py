"""Sums by which a file is known to be whole, as stores of files publish them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from juicyfruits.errors import InputError

MIB = 1 << 20
USUAL_PART_SIZES = tuple(n * MIB for n in (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 500, 512, 1024))
"""Part sizes, in bytes, that uploading programs use: 8 MiB is the default of the AWS command line and boto3, 5 MiB the
smallest that S3 allows (Amazon S3 user guide, "Amazon S3 multipart upload limits")."""


@dataclass(frozen=True)
class Checksum:
    """A sum that a file's bytes must have.

    `algorithm` is "sha256", "md5", or "md5 of parts": the MD5 of the MD5s of all parts, written `HEX-PARTS`. With
    several `part_sizes` (bytes) any of them may be the right one, and a mismatch proves nothing: it is not `certain`.
    """

    algorithm: str
    value: str
    part_sizes: tuple[int, ...] = ()
    certain: bool = True


@dataclass(frozen=True)
class Verdict:
    """What a reading of all bytes gave: their SHA-256, by what they were proved, and what is wrong with them.

    `proof` is the algorithm of the `Checksum`, or "size" where there was none to rely on. `problem` is empty for a
    good file, and otherwise the end of a sentence with both sizes or both sums.
    """

    sha256: str
    proof: str
    problem: str


class PartedMD5:
    """MD5 of the MD5s of consecutive parts of `part_size` bytes, as S3 forms the ETag of a multipart upload.

    >>> parted = PartedMD5(4)
    >>> parted.update(b"abcdef")
    >>> both = hashlib.md5(b"abcd").digest() + hashlib.md5(b"ef").digest()
    >>> parted.hexdigest() == hashlib.md5(both).hexdigest() + "-2"
    True
    """

    def __init__(self, part_size: int) -> None:
        self._part_size = part_size
        self._digests: list[bytes] = []
        self._part, self._filled = hashlib.md5(usedforsecurity=False), 0

    def update(self, data: bytes) -> None:
        """Take in more bytes."""
        view = memoryview(data)
        while len(view):
            if self._filled == self._part_size:
                self._digests.append(self._part.digest())
                self._part, self._filled = hashlib.md5(usedforsecurity=False), 0
            piece = view[: self._part_size - self._filled]
            self._part.update(piece)
            self._filled += len(piece)
            view = view[len(piece) :]

    def hexdigest(self) -> str:
        """Return the sum over what came so far, as `HEX-PARTS`."""
        digests = [*self._digests, self._part.digest()]
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def verify(blocks: Iterable[bytes], size: int, checksum: Checksum | None) -> Verdict:
    """Read `blocks` once and say whether they are the file of `size` bytes with that `checksum`.

    >>> verify([b"ab", b"c"], 3, Checksum("md5", hashlib.md5(b"abc").hexdigest())).problem
    ''
    >>> verify([b"ab", b"c"], 4, None).problem
    'its size is 3 bytes, not 4'
    """
    sha256, hashers, n_bytes = hashlib.sha256(), _hashers(checksum), 0
    for block in blocks:
        n_bytes += len(block)
        for hasher in (sha256, *hashers):
            hasher.update(block)
    sums = [hasher.hexdigest() for hasher in hashers]
    proved = checksum is not None and (checksum.certain or checksum.value in sums)
    problem = ""
    if n_bytes != size:
        problem = f"its size is {n_bytes:,} bytes, not {size:,}"
    elif proved and checksum.value not in sums:
        problem = f"its {checksum.algorithm} is {sums[0]}, not {checksum.value}"
    return Verdict(sha256.hexdigest(), checksum.algorithm if proved else "size", problem)


def file_blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, one MiB at a time."""
    with path.open("rb") as file:
        while block := file.read(MIB):
            yield block


def etag_checksum(etag: str, size: int, part_size: int | None) -> Checksum | None:
    """Return what an S3 ETag says about the bytes, None where it is no sum of them.

    A single upload has the MD5 of its bytes, a multipart upload of N parts `HEX-N` (Amazon S3 user guide, "Checking
    object integrity"). `part_size` is the first part's size in bytes if the store told it; else the usual sizes that
    give N parts are candidates. Parts need not be equally large: where N parts of that size cannot make `size` bytes,
    there is no sum to form.

    >>> etag_checksum("9e107d9d372bb6826bd81d3542a419d6-3", 20 * MIB, None).part_sizes == (8 * MIB,)
    True
    """
    found = re.fullmatch(r"[0-9a-f]{32}(?:-([0-9]{1,5}))?", etag)  # S3 allows 10,000 parts
    if not found:
        return None
    parts = found[1]
    if not parts:
        return Checksum("md5", etag)
    known = (part_size,) if part_size else USUAL_PART_SIZES
    fitting = tuple(n for n in known if -(-size // n) == int(parts))
    if not fitting:
        return None
    return Checksum("md5 of parts", etag, fitting, certain=part_size is not None)


def parse_sums(text: str, where: str) -> dict[str, str]:
    """Read the lines that `sha256sum` writes, `HEX  PATH` or `HEX *PATH`, as {path: hex}.

    >>> parse_sums("a" * 64 + "  ./x/y.nii.gz", "SHA256SUMS") == {"x/y.nii.gz": "a" * 64}
    True
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        value, name = line[:64].lower(), line[66:]
        if not set(value) <= set("0123456789abcdef") or line[64:66] not in ("  ", " *") or not name:
            raise InputError(f"{where}, line {number}, is not a sum as sha256sum writes it ({line[:80]!r}); repair it")
        sums[name.removeprefix("./")] = value
    return sums


def _hashers(checksum: Checksum | None) -> list:
    if checksum is None:
        return []
    if checksum.part_sizes:
        return [PartedMD5(n) for n in checksum.part_sizes]
    return [hashlib.new(checksum.algorithm, usedforsecurity=False)]
