"""The file of the pictures that were fetched of NSD's: filled in any order, each picture with a sum of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import xxhash
from tqdm import tqdm

from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path, reading
from juicyfruits.nsd.files import open_hdf5


def picture_digest(nsd_id: int, picture: np.ndarray) -> int:
    """Return XXH3 (64 bits) of a 0-based nsd id, as int64 in little-endian order, and the bytes of its picture.

    It is never 0, which stands for a picture that has not come.
    """
    state = xxhash.xxh3_64(int(nsd_id).to_bytes(8, "little", signed=True))
    state.update(np.ascontiguousarray(picture))
    return state.intdigest() or 1


def is_brick(brick: object) -> bool:
    """Say whether this is a dataset of pictures, uint8 (picture, height, width, 3)."""
    return isinstance(brick, h5py.Dataset) and brick.dtype == np.uint8 and brick.ndim == 4 and brick.shape[3] == 3


@dataclass(frozen=True)
class ChosenPictures:
    """An open file: `/imgBrick` uint8 (picture, height, width, 3), `/nsd_id` int64, `/digest` uint64, and the ETag."""

    path: Path
    brick: h5py.Dataset
    ids: np.ndarray
    digests: np.ndarray
    etag: str

    def read(self, row: int) -> np.ndarray:
        """Return one picture; `InputError` if it is not the one that came."""
        with reading(self.path, "pictures"):
            picture = self.brick[row]
        if picture_digest(self.ids[row], picture) != self.digests[row]:
            raise InputError(
                f"{self.path}: the picture with the nsd id {self.ids[row]} is not the one that was fetched; fetch "
                "again, which replaces it"
            )
        return picture


@contextmanager
def open_chosen(path: Path) -> Iterator[ChosenPictures]:
    """Open the file for reading, having verified all but the pictures: one id for each, and these ascending."""
    with open_hdf5(path, "imgBrick") as brick:
        with reading(path, "a file of fetched pictures"):
            file = brick.file
            ids, digests, etag = file["nsd_id"][:], file["digest"][:], str(file["nsd_id"].attrs["etag"])
            in_place = None not in (brick.id.get_offset(), file["digest"].id.get_offset())
        kinds = is_brick(brick) and ids.dtype == np.int64 and digests.dtype == np.uint64 and in_place
        if not kinds or not ids.shape == digests.shape == (len(brick),) or (np.diff(ids) <= 0).any():
            raise InputError(
                f"{path} must hold pictures /imgBrick, uint8 (picture, height, width, 3), and for each its /nsd_id, "
                f"int64 and ascending, and its /digest, uint64, but these are {brick.dtype} {brick.shape}, {ids.dtype} "
                f"{ids.shape} and {digests.dtype} {digests.shape}, or the ids are not in order; fetch again"
            )
        yield ChosenPictures(path, brick, ids, digests, etag)


@dataclass(frozen=True)
class Held:
    """What a file was found to hold: its ids, which of their pictures are whole, the brick's shape, the ETag."""

    path: Path
    ids: np.ndarray
    good: np.ndarray
    shape: tuple[int, ...]
    etag: str | None

    @property
    def whole(self) -> np.ndarray:
        """Ids of the pictures that are whole."""
        return self.ids[self.good]


def examine_chosen(path: Path) -> Held:
    """Verify every picture of a file; what is damaged is told in a line, and counts as not there."""
    held = Held(path, np.empty(0, np.int64), np.empty(0, bool), (0,), None)
    if not path.exists():
        return held
    try:
        with open_chosen(path) as chosen:
            rows = tqdm(range(len(chosen.ids)), desc="verifying pictures", unit="picture")
            good = np.array([chosen.digests[row] > 0 and _is_good(chosen, row) for row in rows], dtype=bool)
            held = Held(path, chosen.ids, good, chosen.brick.shape, chosen.etag)
            n_damaged = int((~good & (chosen.digests > 0)).sum())
        problem = f"{path} has {n_damaged} damaged pictures, which are fetched again" if n_damaged else ""
    except InputError as error:
        problem = f"{error}: all its pictures are fetched again"
    if problem:
        tqdm.write(problem, file=sys.stderr)
    return held


def begin_chosen(path: Path, nsd_ids: np.ndarray, picture: tuple[int, ...], etag: str, earlier: Iterable[Held]) -> None:
    """Make a file with room for these pictures, and put into it what earlier files have of them."""
    with atomic_path(path) as new:
        _allocate(new, nsd_ids, picture, etag)
        with Rows(new) as rows:
            for held in earlier:
                if not held.good.any():
                    continue
                with open_chosen(held.path) as chosen:
                    for row in np.flatnonzero(held.good):
                        rows.write(int(np.searchsorted(nsd_ids, held.ids[row])), chosen.read(row))


class Rows:
    """Pictures of an allocated file, written straight into their places, so that a kill leaves it readable."""

    def __init__(self, path: Path) -> None:
        with open_chosen(path) as chosen:
            self._ids, self._size = chosen.ids, int(np.prod(chosen.brick.shape[1:]))
            self._start, self._digests = chosen.brick.id.get_offset(), chosen.brick.file["digest"].id.get_offset()
        self._path = path

    def __enter__(self) -> Rows:
        self._handle = os.open(self._path, os.O_RDWR)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            os.fsync(self._handle)
        finally:
            os.close(self._handle)

    def write(self, row: int, picture: np.ndarray) -> None:
        """Write one picture, and only then its digest."""
        _write_at(self._handle, np.ascontiguousarray(picture).tobytes(), self._start + row * self._size)
        digest = picture_digest(self._ids[row], picture)
        _write_at(self._handle, digest.to_bytes(8, "little"), self._digests + 8 * row)


def _is_good(chosen: ChosenPictures, row: int) -> bool:
    try:
        chosen.read(row)
    except InputError:
        return False
    return True


def _allocate(path: Path, nsd_ids: np.ndarray, picture: tuple[int, ...], etag: str) -> None:
    """Create the file with room for all pictures, so that filling it changes no metadata."""
    with h5py.File(path, "w") as file:
        layout_of = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout_of.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout_of.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout_of.set_obj_track_times(False)  # the same pictures make the same file
        space = h5py.h5s.create_simple((len(nsd_ids), *picture))
        h5py.h5d.create(file.id, b"imgBrick", h5py.h5t.STD_U8LE, space, layout_of)
        file["nsd_id"] = np.asarray(nsd_ids, dtype="<i8")
        file["nsd_id"].attrs["etag"] = etag
        file["digest"] = np.zeros(len(nsd_ids), "<u8")


def _write_at(handle: int, data: bytes, place: int) -> None:
    while data:
        n = os.pwrite(handle, data, place)
        data, place = data[n:], place + n
