"""Pictures as the rows of one HDF5 file, for sets that are too large for a file each.

    images.hdf5
      /images   uint8 (picture, height, width, 3), RGB, uncompressed

A picture's address is the file's path, `#` and its row, such as `data/nsd/images.hdf5#17`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from juicyfruits.errors import InputError
from juicyfruits.files import reading

DATASET = "images"


def split_address(path: str | Path) -> tuple[Path, int] | None:
    """Return (file, row) of a picture in an HDF5 file, or None for the path of a file of its own.

    >>> split_address("data/images.hdf5#17")[1], split_address("data/cat#1.png")
    (17, None)
    """
    match = re.fullmatch(r"(.+\.hdf5)#([0-9]{1,18})", str(path), re.DOTALL)
    return (Path(match[1]), int(match[2])) if match else None


def count_pictures(file: Path) -> int:
    """Return how many pictures an HDF5 file holds; an `InputError` says what is wrong with it."""
    with _open(file) as images:
        return len(images)


def read_picture(file: Path, row: int) -> np.ndarray:
    """Return one picture, uint8 (height, width, 3).

    The file is opened for every picture, which is quick beside decoding a PNG, so nothing is shared among threads, or
    inherited by the forked workers of a loader. Raises `InputError` for a file that is not whole and for a row that it
    does not have.
    """
    with _open(file) as images:
        if row >= len(images):
            raise InputError(f"{file} holds {len(images)} pictures, rows 0 to {len(images) - 1}, but not row {row}")
        with reading(file, "pictures"):
            return images[row]


def write_pictures(file: Path, n_pictures: int, pictures: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write pictures, given one by one as (stimulus_id, uint8 (height, width, 3)), into a new HDF5 file.

    Raises `InputError`, naming the stimulus, for a picture of another size than the first.
    """
    with h5py.File(file, "w") as store:
        images = None
        for row, (stimulus_id, picture) in enumerate(pictures):
            if images is None:
                images = store.create_dataset(DATASET, (n_pictures, *picture.shape), np.uint8)
            if picture.shape != images.shape[1:]:
                (height, width), (first_height, first_width) = picture.shape[:2], images.shape[1:3]
                raise InputError(
                    f"image of stimulus {stimulus_id!r} is {height} x {width}, but the first is {first_height} x "
                    f"{first_width}; {n_pictures} pictures become one file and must be of one size, so resize them"
                )
            images[row] = picture


@contextmanager
def _open(file: Path) -> Iterator[h5py.Dataset]:
    with reading(file, "an HDF5 file of pictures"):
        store = h5py.File(file, "r", locking=False)  # many read, none writes, and some shared disks have no locks
    with store:
        images = store.get(DATASET)
        if not isinstance(images, h5py.Dataset) or images.dtype != np.uint8 or images.shape[3:] != (3,):
            got = (
                f"{images.dtype} {images.shape}" if isinstance(images, h5py.Dataset) else ", ".join(store) or "nothing"
            )
            raise InputError(
                f"{file} must hold /{DATASET}, uint8 (picture, height, width, 3), but has {got}; write it again"
            )
        yield images
