"""A remote file as a seekable one, of which only the parts that are read travel."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable

from juicyfruits.remote.sources import RemoteFile, Source
from juicyfruits.remote.threads import Threads

BLOCK = 64 * 1024
N_BLOCKS = 256
PIECE = 64 * BLOCK


class RangeFile(io.RawIOBase):
    """One version of a remote file, to be read like a local one, for instance by `h5py.File(RangeFile(...))`.

    What is read comes in blocks of 64 KiB, of which the last 256 used are kept (16 MiB); what is known to be needed is
    better announced by `prefetch`. Raises as `Source.read` does.

    >>> import tempfile
    >>> from juicyfruits.remote.sources import LocalSource
    >>> source = LocalSource(tempfile.mkdtemp())
    >>> _ = (source.folder / "a.txt").write_text("seven b")
    >>> with RangeFile(source, source.stat("a.txt")) as file:
    ...     file.seek(2), file.read(3)
    (2, b'ven')
    """

    def __init__(self, source: Source, file: RemoteFile, *, jobs: int = 8) -> None:
        super().__init__()
        self._source, self._file = source, file
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._ahead: dict[int, bytes] = {}
        # Kept for the file's lifetime, as each thread keeps its connection.
        self._threads = Threads(jobs)

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch byte ranges (start, stop) side by side into memory, in place of what an earlier call left there.

        Touching and overlapping ranges are joined and fetched in pieces of at most 4 MiB. Each piece is dropped when it
        has been read to its end, so that reading in ascending order holds no more than what is still to be read.
        """
        joined = _merged((start, min(stop, self._file.size)) for start, stop in ranges)
        spans = [(at, min(at + PIECE, stop)) for start, stop in joined for at in range(start, stop, PIECE)]
        self._ahead = {}
        parts = self._threads.map(lambda span: self._fetch(*span), spans)
        try:
            self._ahead = {start: part.result() for (start, _), part in zip(spans, parts, strict=True)}
        finally:
            for part in parts:
                part.cancel()

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` from the present position; returns the number of bytes, 0 at the end of the file."""
        view = memoryview(buffer).cast("B")
        begin = at = self._position
        stop = min(begin + len(view), self._file.size)
        while at < stop:
            data = self._from_ahead(at, stop) or self._from_blocks(at, self._next_ahead(at, stop))
            view[at - begin : at - begin + len(data)] = data
            at += len(data)
        self._position = max(begin, stop)
        return self._position - begin

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte, counted from the start, the present position or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to byte {base + offset}; a file begins at byte 0")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the present position in bytes."""
        return self._position

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that any byte can be gone to."""
        return True

    def close(self) -> None:
        """Let go of the memory and the connections."""
        self._blocks, self._ahead = OrderedDict(), {}
        self._threads.close()
        super().close()

    def _from_ahead(self, start: int, stop: int) -> memoryview | None:
        """Return what one prefetched piece holds from `start` on, at most to `stop`; drop it once read to its end."""
        for first, piece in self._ahead.items():
            last = first + len(piece)
            if first <= start < last:
                if stop >= last:
                    del self._ahead[first]
                return memoryview(piece)[start - first : min(stop, last) - first]
        return None

    def _next_ahead(self, start: int, stop: int) -> int:
        return min((first for first in self._ahead if start < first < stop), default=stop)

    def _from_blocks(self, start: int, stop: int) -> bytes:
        wanted = range(start // BLOCK, -(-stop // BLOCK))
        got = {n: self._blocks[n] for n in wanted if n in self._blocks}
        for first, last in _merged((n, n + 1) for n in wanted if n not in got):
            data = self._fetch(first * BLOCK, min(last * BLOCK, self._file.size))
            got |= {n: data[(n - first) * BLOCK : (n - first + 1) * BLOCK] for n in range(first, last)}
        for n in wanted:
            self._blocks[n] = got[n]
            self._blocks.move_to_end(n)
        while len(self._blocks) > N_BLOCKS:
            self._blocks.popitem(last=False)
        joined = b"".join(got[n] for n in wanted)
        return joined[start - wanted.start * BLOCK : stop - wanted.start * BLOCK]

    def _fetch(self, start: int, stop: int) -> bytes:
        return b"".join(self._source.read(self._file, start, stop))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join half-open spans that touch or overlap, in ascending order; empty ones vanish.

    >>> _merged([(5, 7), (0, 2), (2, 4), (9, 9)])
    [(0, 4), (5, 7)]
    """
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
