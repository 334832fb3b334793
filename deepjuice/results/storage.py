"""Score files: how a score dataset is written, read and opened."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import xarray as xr

from deepjuice.results.schema import SCHEMA_VERSION, Field, check_scores
from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path

_DAMAGED = (OSError, KeyError, RuntimeError, UnicodeDecodeError)  # what h5py and h5netcdf raise for wrong bytes


def write_scores(ds: xr.Dataset, path: str | Path) -> Path:
    """Check `ds` and write it to `path` as compressed NetCDF4, whole or not at all; return the path.

    The file gains the attribute `schema_version`; `ds` itself is left as it is. How a file that `ds` was read from
    was packed (`ds[...].encoding`) has no say: text of that file's width would cut longer names short.

    Raises InputError if `ds` is not valid (nothing is written) and OSError if the disk refuses.
    """
    check_scores(ds)
    path = Path(path)
    with atomic_path(path) as tmp:
        _write(ds, tmp)
    return path


def write_with_room(ds: xr.Dataset, path: str | Path, fields: Mapping[str, Field]) -> None:
    """Write `ds`, unchecked, with room for further variables: `fill_layers` brings their values, a part a call.

    `ds` must have all their dims. Until they are filled they are NaN, or 0 where they are whole numbers.
    """
    _write(ds, Path(path))
    with h5netcdf.File(path, "a") as file:
        coordinates = file["n_features"].attrs["coordinates"]  # by which readers know what labels a layer
        for name, field in fields.items():
            sizes = {dim: ds.sizes[dim] for dim in field.dims}
            # Whole numbers with a fill value would be read as floats, so that NaN could stand for it.
            fill = np.float32(np.nan) if field.kind == "float32" else None
            room = {"dtype": np.dtype(field.kind), "fillvalue": fill}
            packing = {"chunks": _chunks(sizes), "compression": "gzip", "compression_opts": 1, "shuffle": True}
            variable = file.create_variable(name, field.dims, **room, **packing)
            variable.attrs["coordinates"] = coordinates


def fill_layers(file: h5py.File, start: int, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Field]) -> None:
    """Put arrays to their place in a file of `write_with_room`, from layer number `start` on."""
    for name, values in arrays.items():
        axis = fields[name].dims.index("layer")
        place = (slice(None),) * axis + (slice(start, start + values.shape[axis]),)
        file[name][place] = values


def read_arrays(path: str | Path, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    """Return some variables of a score file that was checked before: {name: array}.

    Opening the whole dataset takes a hundred times as long, which counts where a thousand files are gone through.
    Raises InputError if the file cannot be read or a variable is not stored as its field says.
    """
    try:
        with h5py.File(path) as file:
            arrays = {name: file[name][...] for name in fields}
    except _DAMAGED as error:
        raise InputError(f"Score file {path} is no readable NetCDF4 ({error}); delete it, score again.") from error
    for name, values in arrays.items():
        if values.dtype != fields[name].kind:
            raise InputError(
                f"{path}: {name!r} is stored as {values.dtype}, expected {fields[name].kind}; score again."
            )
    return arrays


def read_scores(path: str | Path) -> xr.Dataset:
    """Read, check and return the score dataset at `path`, wholly in memory.

    Raises InputError if the file is missing, is no NetCDF4, has another schema version or fails `check_scores`.
    """
    with open_scores(path) as ds:
        ds = ds.load()
    return checked(ds, path)


@contextmanager
def open_scores(path: str | Path) -> Iterator[xr.Dataset]:
    """Open the score dataset at `path` without checking it; arrays are read when used, inside the block.

    Raises InputError if the file is missing, is no NetCDF4, is a part of one or has another schema version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No score file at {path}; 'deepjuice score' writes one for each model.")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as ds:
            if "part" in ds.attrs:
                part = ds.attrs["part"]
                raise InputError(f"{path} is part {part} of a model's scores; 'deepjuice join' puts all together.")
            version = ds.attrs.get("schema_version")
            if version != SCHEMA_VERSION:
                raise InputError(f"Score file {path} has schema version {version}, not {SCHEMA_VERSION}; score again.")
            yield with_texts(ds)
    except _DAMAGED as error:
        raise InputError(f"Score file {path} is no readable NetCDF4 ({error}); delete it, score again.") from error


def with_texts(ds: xr.Dataset) -> xr.Dataset:
    """Return what was read from NetCDF with its texts of the type that they had before they were written."""
    return ds.assign({n: c.astype(str) for n, c in ds.variables.items() if c.dtype.kind in "OT"})


def checked(ds: xr.Dataset, path: str | Path, per_voxel: bool = True) -> xr.Dataset:
    """Return `ds` if it is valid; otherwise raise the InputError of `check_scores`, with the file's name before it."""
    try:
        check_scores(ds, per_voxel)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return ds


def _write(ds: xr.Dataset, path: Path) -> None:
    """Write compressed NetCDF4: every numeric array is deflated (scores hardly shrink at higher levels)."""
    encoding = {
        str(name): {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": _chunks(variable.sizes)}
        for name, variable in ds.variables.items()
        if variable.dtype.kind in "fiub" and variable.size
    }
    ds = ds.drop_encoding().assign_attrs(schema_version=SCHEMA_VERSION)
    ds.to_netcdf(path, engine="h5netcdf", format="NETCDF4", encoding=encoding)


def _chunks(sizes: Mapping[Hashable, int]) -> tuple[int, ...]:
    """One layer a chunk, to be read alone."""
    return tuple(1 if dim == "layer" and len(sizes) > 1 else n for dim, n in sizes.items())
