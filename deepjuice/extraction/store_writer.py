"""Writing a feature store: row by row, so that a run that is killed goes on where it was, and half a store is none."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import zarr
from filelock import FileLock, Timeout

from deepjuice.extraction.store import StoreHeader, check_is_store, row_checksums
from deepjuice.extraction.telemetry import N_BINS
from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path, remove

CHUNK = "c/0/0"  # the file of a matrix that is one chunk, as Zarr 3 names it


class StoreWriter:
    """Write a store by rows under `NAME.partial`; a second writer of the same content goes on where it ended.

    Every array is one uncompressed chunk, so that rows go to their place in its file whatever the size of a batch.
    Use it as a context manager: inside, no other process can write the same store.

    Args:
        path: where the finished store will stand; an earlier store is replaced, anything else is refused.
        header: what it holds. A `.partial` of other content is discarded.
        ones: R 1 for every stored map, uid -> (k,).

    Attributes:
        active: a flag a feature of every map, which the caller sets where it is not 0 for a stimulus; `commit` keeps
            them. Flags of rows that do not count yet do no harm, since these rows come again.
        features: uid -> where its flags are.
    """

    def __init__(self, path: str | Path, header: StoreHeader, ones: Mapping[str, np.ndarray]):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.header, self._ones = header, ones
        self._column = {record.uid: column for column, record in enumerate(header.distinct)}
        shape = (header.n_stimuli, len(self._column))
        types = dict.fromkeys(("row_means", "row_mean_squares", "row_mean_magnitudes"), np.float32)
        types["row_checksums"] = np.uint32
        self._small = {name: np.zeros(shape, dtype) for name, dtype in types.items()}
        ends = np.cumsum([0, *(record.n_features for record in header.distinct)]).tolist()
        self.features = {record.uid: slice(*ends[place : place + 2]) for place, record in enumerate(header.distinct)}
        self.active = np.zeros(ends[-1], dtype=bool)
        self._histograms = np.zeros((len(self._column), N_BINS), dtype=np.int64)
        self._heard: dict[tuple[str, int], np.ndarray] = {}  # histograms of rows that are not committed
        self._progress = self.partial / "progress.json"
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)

    def __enter__(self) -> StoreWriter:
        for folder in (self.path, self.partial):
            check_is_store(folder)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"feature store {self.path}: another process is writing it; wait for that, or stop it."
            ) from None
        try:
            self.rows_done = self._resume()
            if self.rows_done == 0:
                self._create()
        except BaseException:
            self.__exit__()  # which Python calls only for a block that has begun
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        Path(self._lock.lock_file).unlink(missing_ok=True)  # while it is ours: later it may be another writer's
        self._lock.release()

    def write(self, uid: str, rows: slice, features: np.ndarray, moments: np.ndarray, histogram: np.ndarray) -> None:
        """Write some rows of one map, (rows, k); committed, they count.

        Of the unprojected rows: `row_moments` (3, rows) and the histogram of all their values (67,).
        """
        block = np.ascontiguousarray(features, dtype=self.header.dtype)
        self._write_rows(f"features/{uid}", rows.start, block)
        for name, values in zip(self._small, (*moments, row_checksums(block)), strict=True):
            self._small[name][rows, self._column[uid]] = values
        self._heard[uid, rows.start] = histogram  # rows that come twice, where memory ran out, begin at one place

    def commit(self, rows_done: int) -> None:
        """Record that all maps are whole up to a row: from here a later writer goes on."""
        for name, values in self._small.items():
            self._write_rows(name, self.rows_done, values[self.rows_done : rows_done])
        for (uid, _), histogram in self._heard.items():
            self._histograms[self._column[uid]] += histogram
        self._heard.clear()
        before, self.rows_done = self._totals(self.rows_done), rows_done
        totals = self._histograms.tobytes() + np.packbits(self.active).tobytes()
        self._totals(rows_done).write_bytes(totals)
        with atomic_path(self._progress) as tmp:  # only now do these rows count
            tmp.write_text(json.dumps({"rows_done": rows_done, "checksum": self._checksum(rows_done, totals)}))
        before.unlink(missing_ok=True)

    def _checksum(self, rows_done: int, totals: bytes = b"") -> int:
        return zlib.crc32(b"".join([*(values[:rows_done].tobytes() for values in self._small.values()), totals]))

    def _totals(self, rows_done: int) -> Path:
        """Return the file of what is known of all rows up to one together: one a commit, as it cannot be undone."""
        return self.partial / f"totals-{rows_done}.bin"

    def finish(self) -> Path:
        """Rename the whole store into place."""
        if self.rows_done != self.header.n_stimuli:
            raise InputError(
                f"feature store {self.path}: expected {self.header.n_stimuli} rows before it is finished, "
                f"got {self.rows_done}; run the extraction again, it goes on from there."
            )
        if self._progress.exists():  # otherwise an earlier writer was killed below
            self._close()
        # From here the store is whole; the other files to go are of a kill while Zarr wrote.
        for pattern in (self._progress.name, "totals-*.bin", "*.partial"):
            for left_over in self.partial.glob(pattern):
                left_over.unlink(missing_ok=True)
        aside = self.path.with_name(f".{self.path.name}.old")
        remove(aside)  # of a run that was killed here
        if self.path.exists():
            self.path.rename(aside)  # removed in place and killed half-way, it would look like a folder of the user's
            remove(aside)
        self.partial.rename(self.path)
        return self.path

    def _close(self) -> None:
        """Write what is known of all rows together, and the checksums."""
        group = zarr.open_group(self.partial, mode="r+")
        n_dead = [int((~self.active[place]).sum()) for place in self.features.values()]
        totals = {"histograms": self._histograms, "n_dead": np.array(n_dead, dtype=np.int64)}
        for name, values in totals.items():
            group.create_array(name, data=values, compressors=None, overwrite=True)
        small = {**self._small, **totals, **{f"ones/{uid}": values for uid, values in self._ones.items()}}
        checksums = {name: zlib.crc32(np.ascontiguousarray(values)) for name, values in small.items()}
        group.attrs.update({"checksums": checksums, "checksum": self._checksum(self.rows_done)})

    def _resume(self) -> int:
        """Read back what an earlier writer of the same content committed, and return its number of rows."""
        try:
            group = zarr.open_group(self.partial, mode="r")
            whole = {"rows_done": self.header.n_stimuli, "checksum": group.attrs.get("checksum")}
            state = json.loads(self._progress.read_text()) if self._progress.exists() else whole
            rows = int(state["rows_done"])
            if group.attrs["digest"] != self.header.digest or not 0 < rows <= self.header.n_stimuli:
                return 0
            for name, values in self._small.items():
                values[:rows] = group[name][:rows]
            totals = self._totals(rows).read_bytes() if self._progress.exists() else b""
            if state["checksum"] != self._checksum(rows, totals) or not self._has_all_files():
                return 0
            if totals:
                size = self._histograms.nbytes
                self._histograms.flat = np.frombuffer(totals[:size], dtype=np.int64)
                self.active[:] = np.unpackbits(np.frombuffer(totals[size:], np.uint8), count=len(self.active))
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return rows

    def _has_all_files(self) -> bool:
        """Whether no file of the unfinished store was lost since it was begun."""
        names = [f"features/{uid}/{CHUNK}" for uid in self._column] + [f"ones/{uid}/c/0" for uid in self._column]
        return all((self.partial / name).exists() for name in names)

    def _create(self) -> None:
        n, dtype = self.header.n_stimuli, self.header.dtype
        attributes = {"header": asdict(self.header), "digest": self.header.digest}
        with atomic_path(self.partial) as folder:
            group = zarr.create_group(folder, attributes=attributes)
            for record in self.header.distinct:
                shape = (n, self.header.width(record))
                _create_array(group, f"features/{record.uid}", shape, dtype, asdict(record))
                group.create_array(f"ones/{record.uid}", data=self._ones[record.uid], compressors=None)
            for name, values in self._small.items():
                _create_array(group, name, values.shape, str(values.dtype), {})

    def _write_rows(self, name: str, start: int, rows: np.ndarray) -> None:
        with open(self.partial / name / CHUNK, "r+b") as file:
            file.seek(start * rows[:1].nbytes)
            file.write(np.ascontiguousarray(rows).data)


def _create_array(group: zarr.Group, name: str, shape: tuple[int, int], dtype: str, attributes: dict) -> None:
    """Create an array of one chunk, and the chunk's file at its full size, to be filled row by row."""
    # Projected values are noise to a compressor: it would take time and save nothing.
    group.create_array(name, shape=shape, chunks=shape, dtype=dtype, compressors=None, attributes=attributes)
    chunk = Path(group.store.root) / name / CHUNK
    chunk.parent.mkdir(parents=True)
    with open(chunk, "wb") as file:
        file.truncate(math.prod(shape) * np.dtype(dtype).itemsize)
