"""Open the files of the release, or say in one sentence what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np

from juicyfruits.errors import InputError


def require(path: Path, what: str) -> Path:
    """Return `path` if the file is there; otherwise raise `InputError` naming it."""
    if not path.is_file():
        raise InputError(
            f"{what} is missing: there is no {path}; fetch it, or check that the source folder is the root"
        )
    return path


@contextmanager
def open_hdf5(path: Path, dataset: str) -> Iterator[h5py.Dataset]:
    """Yield one dataset of an HDF5 file, open for reading."""
    require(path, f"/{dataset}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is no whole HDF5 file ({error}); fetch it again") from error
    with file:
        if dataset not in file:
            raise InputError(f"{path} has no /{dataset}, only {', '.join(file) or 'nothing'}; fetch it again")
        yield file[dataset]


def read_volume(path: Path) -> np.ndarray:
    """Return a NIfTI volume (X, Y, Z) in its stored dtype."""
    require(path, "a volume")
    try:
        return np.asarray(nib.load(path).dataobj)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError) as error:
        raise InputError(f"{path} is no whole NIfTI file ({error}); fetch it again") from error
