"""Open the files of the release, or say in one sentence what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd

from juicyfruits.errors import InputError, first_names
from juicyfruits.files import reading


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
        if not isinstance(file[dataset], h5py.Dataset):
            raise InputError(f"{path}: /{dataset} must be an array, but is a group; fetch the file again")
        yield file[dataset]


def read_table(path: Path, what: str, numbers: tuple[str, ...], sep: str = ",") -> pd.DataFrame:
    """Return a table of the release after checking that it has these columns and that they hold whole numbers."""
    require(path, what)
    with reading(path, "a table"):
        table = pd.read_csv(path, sep=sep)
    for name in numbers:
        if name not in table.columns:
            raise InputError(f"{path} lacks the column {name!r}; fetch the file again")
        if table[name].dtype.kind in "iub":
            continue
        odd = table[name][pd.to_numeric(table[name], errors="coerce").mod(1) != 0].unique()
        if len(odd):
            raise InputError(f"{path}: column {name!r} must hold whole numbers, not {first_names(odd)}; fetch it again")
    return table


def read_volume(path: Path) -> np.ndarray:
    """Return a NIfTI volume (X, Y, Z) in its stored dtype."""
    require(path, "a volume")
    with reading(path, "a whole NIfTI file"):
        return np.asarray(nib.load(path).dataobj)
