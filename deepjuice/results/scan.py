"""A first reading of all score files: whether they belong together, and all of them that is small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from deepjuice.results.cells import count_neuroids, measured_pairs
from deepjuice.results.schema import AGGREGATE_VARIABLES, LAYER_ARRAYS, OWN_VARIABLES, VARIABLES
from deepjuice.results.storage import checked, open_scores, read_arrays
from juicyfruits.errors import InputError
from juicyfruits.files import digest

CEILINGS = ("ceiling", "ceiling_low")
CEILING_TOLERANCE = 1e-4  # ceilings belong to the brain data: more than rounding between files means other data


class Models(NamedTuple):
    """The models of a benchmark: one aggregate without what stands for every layer and cell.

    Attributes:
        ds: the aggregate, without `LAYER_ARRAYS`.
        paths: every model's score file, in order.
        df: (metric, region, best_of), the least degrees of freedom that a model has.
    """

    ds: xr.Dataset
    paths: dict[str, Path]
    df: xr.DataArray

    def layers(self, number: int) -> slice:
        """Return where the layers of model `number` stand along `layer`."""
        own = np.flatnonzero(self.ds["model_uid"].values == self.ds["model"].values[number])
        return slice(int(own[0]), int(own[-1]) + 1)

    def read(self, number: int) -> tuple[xr.Dataset, dict[str, np.ndarray]]:
        """Return model `number` as an aggregate of one model, and its `LAYER_ARRAYS`, read from its file."""
        arrays = read_arrays(list(self.paths.values())[number], LAYER_ARRAYS)
        part = self.ds.isel(layer=self.layers(number), model=[number])
        return part.assign({name: (LAYER_ARRAYS[name].dims, values) for name, values in arrays.items()}), arrays


def scan(paths: Sequence[Path], progress: bool = True) -> Models:
    """Read and check one file after another; each must be of the first one's benchmark.

    Of a benchmark with voxels no array of voxels and layers is read. Raises the InputErrors of `aggregate`.
    """
    parts: dict[str, xr.Dataset] = {}
    first_identity: dict[str, object] = {}
    for path in tqdm(paths, "checking", unit="model", disable=not progress):
        part, identity = _read_small(path)
        uid = part.attrs["model_uid"]
        if uid in parts:
            raise InputError(f"{path}: model {uid!r} was already read from another file; give every model once.")
        first_identity = first_identity or identity
        _check_same(path, identity, paths[0], first_identity)
        first = next(iter(parts.values()), part)
        for name in CEILINGS:
            if not np.allclose(part[name], first[name], 0, CEILING_TOLERANCE, equal_nan=True):
                raise InputError(f"{path}: {name}s differ from those in {paths[0]}; score both on the same data.")
        parts[uid] = part
    ds, df = _together(parts)
    return Models(ds, dict(zip(parts, paths, strict=True)), df)


def _together(parts: dict[str, xr.Dataset]) -> tuple[xr.Dataset, xr.DataArray]:
    """Concatenate along `layer` and `model`; also return `Models.df`."""
    of_layers = [name for name, field in VARIABLES.items() if field.dims == ("layer",)]
    merged = xr.concat(
        [p[of_layers] for p in parts.values()], "layer", coords="minimal", compat="override", join="exact"
    )
    first = next(iter(parts.values()))
    merged = merged.assign(
        {name: first[name] for name in (*CEILINGS, "subjects_resampled", "n_neuroids") if name in first}
    )
    merged = merged.assign_coords({name: first[name] for name in ("bin_low", "bin_high")})
    of_models = [name for name in OWN_VARIABLES if name in AGGREGATE_VARIABLES]
    best = [p[[*of_models, "best_df"]].reset_coords(drop=True) for p in parts.values()]
    nested = xr.concat(best, xr.IndexVariable("model", list(parts)), join="exact")
    merged = merged.assign({name: nested[name] for name in of_models})
    # With RDMs alone this is read off the scores, so a pair that is undefined in one model is known by another.
    merged["measured"] = xr.concat([p["measured"] for p in parts.values()], "model").any("model")
    attrs = [p.attrs for p in parts.values()]
    merged.attrs = _shared(attrs)
    merged["model_attrs"] = ("model", [json.dumps(_plain(a)) for a in attrs])
    return merged, nested["best_df"].min("model", skipna=False)


def _read_small(path: Path) -> tuple[xr.Dataset, dict[str, object]]:
    """Check one model's file and return what is small of it; also return what all files must agree on."""
    with open_scores(path) as ds:
        if "model_uid" in ds.coords:
            raise InputError(f"{path}: this is an aggregate of several models; give the models' own score files.")
        ds = checked(ds, path, per_voxel=False)
        identity = {
            "benchmark": ds.attrs["benchmark"],
            **{f"{dim}s": ds[dim].values.tolist() for dim in ("metric", "region", "subject")},
            "best_of": ds["best_of"].values.tolist(),
            "resamples": ds.sizes["resample"],
            "bins": f"{ds.sizes['bin']} bins, digest {digest(ds['bin_low'].values, ds['bin_high'].values)}",
            "benchmark_digest": ds.attrs.get("benchmark_digest"),
            "resampling": ds.attrs.get("resampling"),
            "rdm_comparison": json.loads(ds.attrs.get("settings", "{}")).get("rdm_comparison"),
            "voxels": None,
        }
        large = [n for n, v in ds.variables.items() if {"neuroid", "component", "resample"} & set(v.dims)]
        part = ds.drop_vars([*large, *LAYER_ARRAYS]).load()
        part["measured"] = measured_pairs(ds)
        if "neuroid" in ds.dims:
            members = ds["neuroid_in_region"].values.astype(np.uint8)
            identity["voxels"] = f"{ds.sizes['neuroid']} voxels, digest {digest(ds['neuroid'].values, members)}"
            part["n_neuroids"] = count_neuroids(ds)
    model = np.full(part.sizes["layer"], part.attrs["model_uid"])
    return part.assign_coords(model_uid=("layer", model)), identity


def _check_same(path: Path, found: dict[str, object], first: Path, expected: dict[str, object]) -> None:
    for what, value in expected.items():
        if found[what] == value or (what == "benchmark_digest" and None in (value, found[what])):
            continue
        if what == "benchmark_digest":
            raise InputError(
                f"{path}: {what} {found[what]} differs from {value} in {first}, so the data have changed in between; "
                "score the older of the two again, or run the workflow again."
            )
        raise InputError(f"{path}: {what} {found[what]} differ from {value} in {first}; aggregate them apart.")


def _shared(attrs: Sequence[dict]) -> dict:
    """Return the attributes that all models have with one value; what is a model's own stands in `model_attrs`."""
    first = attrs[0]
    return {k: v for k, v in first.items() if k != "model_uid" and all(k in a and a[k] == v for a in attrs)}


def _plain(attrs: dict) -> dict:
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in attrs.items()}
