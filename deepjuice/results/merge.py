"""All models of a benchmark in one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from deepjuice.results.best import best_table, compare_models
from deepjuice.results.cells import count_neuroids, measured_pairs
from deepjuice.results.schema import AGGREGATE_VARIABLES, OWN_VARIABLES, VARIABLES
from deepjuice.results.storage import checked, open_scores, write_scores
from deepjuice.results.summary import summary
from deepjuice.results.tidy import to_tidy
from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path, digest

CEILINGS = ("ceiling", "ceiling_low")
CEILING_TOLERANCE = 1e-4  # ceilings belong to the brain data: more than rounding between files means other data


def aggregate(paths: Iterable[str | Path], out_dir: str | Path, report: str | Path | None = None) -> dict[str, Path]:
    """Merge the models' score files of one benchmark into tables under `out_dir`; return {name: path} of what it wrote.

    `scores.nc` (all layers of all models, region level only: per-voxel arrays stay in the models' own files),
    `scores.parquet` (`to_tidy`), `best_layers.csv` (`best_table`), `comparisons.parquet` (`compare_models`) and
    `summary.txt` (`summary`, which names `report`, by default `report.html` beside `out_dir`). Files are read one after
    another, so memory holds the per-voxel arrays of one model at most. Everything is computed before the first file is
    written.

    Raises InputError if there is no file, if one is not valid, if two hold the same model, or if one differs from the
    first in benchmark, metrics, regions, subjects, data, voxels, resamples or ceilings (it says which file and what).
    """
    paths = [Path(p) for p in paths]
    if not paths:
        raise InputError("No score files to aggregate; score at least one model first.")
    merged, nested = _merge(paths)
    tidy = to_tidy(merged)
    best = best_table(merged, tidy)
    compared = compare_models(best, nested["best_resamples"], nested["best_df"])
    out = Path(out_dir)
    names = ("scores.nc", "scores.parquet", "best_layers.csv", "comparisons.parquet", "summary.txt")
    written = {name: out / name for name in names}
    write_scores(merged, written["scores.nc"])
    for name, table in (("scores.parquet", tidy), ("comparisons.parquet", compared)):
        with atomic_path(written[name]) as tmp:
            table.to_parquet(tmp, index=False)
    with atomic_path(written["best_layers.csv"]) as tmp:
        best.to_csv(tmp, index=False, float_format="%.6g")
    with atomic_path(written["summary.txt"]) as tmp:
        text = summary(merged, tidy, out, report or out.parent / "report.html")
        tmp.write_text(text, encoding="utf-8")
    return written


def _merge(paths: Sequence[Path]) -> tuple[xr.Dataset, xr.Dataset]:
    """Concatenate the region-level part of the files along `layer`; each must be of the first one's benchmark.

    Also return what was resampled of all models' best layers, with the dim `model`.
    """
    parts: list[xr.Dataset] = []
    attrs: dict[str, dict] = {}
    first_identity: dict[str, object] = {}
    for path in paths:
        part, identity = _read_region_level(path)
        uid = part.attrs["model_uid"]
        if uid in attrs:
            raise InputError(f"{path}: model {uid!r} was already read from another file; give every model once.")
        first_identity = first_identity or identity
        _check_same(path, identity, paths[0], first_identity)
        for name in CEILINGS:
            if parts and not np.allclose(part[name], parts[0][name], 0, CEILING_TOLERANCE, equal_nan=True):
                raise InputError(f"{path}: {name}s differ from those in {paths[0]}; score both on the same data.")
        attrs[uid] = dict(part.attrs)
        parts.append(part)
    by_layer = [name for name, field in VARIABLES.items() if "layer" in field.dims]
    merged = xr.concat([p[by_layer] for p in parts], "layer", coords="minimal", compat="override", join="exact")
    merged = merged.assign(
        {name: parts[0][name] for name in (*CEILINGS, "subjects_resampled", "n_neuroids") if name in parts[0]}
    )
    of_best = [p[[name for name in OWN_VARIABLES if name in p]].reset_coords(drop=True) for p in parts]
    nested = xr.concat(of_best, xr.IndexVariable("model", list(attrs)), join="exact")
    merged = merged.assign({name: nested[name] for name in AGGREGATE_VARIABLES if name in nested})
    # With RDMs alone this is read off the scores, so a pair that is undefined in one model is known by another.
    merged["measured"] = xr.concat([p["measured"] for p in parts], "model").any("model")
    merged.attrs = _shared(list(attrs.values()))
    merged["model_attrs"] = ("model", [json.dumps(_plain(a)) for a in attrs.values()])
    return merged, nested


def _read_region_level(path: Path) -> tuple[xr.Dataset, dict[str, object]]:
    """Read one model's file without its per-voxel arrays; also return what all files must agree on."""
    with open_scores(path) as ds:
        if "model_uid" in ds.coords:
            raise InputError(f"{path}: this is an aggregate of several models; give the models' own score files.")
        ds = checked(ds, path)
        identity = {
            "benchmark": ds.attrs["benchmark"],
            **{f"{dim}s": ds[dim].values.tolist() for dim in ("metric", "region", "subject")},
            "benchmark_digest": ds.attrs.get("benchmark_digest"),
            "resampling": ds.attrs.get("resampling"),
            "rdm_comparison": json.loads(ds.attrs.get("settings", "{}")).get("rdm_comparison"),
            "voxels": None,
        }
        detail = {"neuroid", "component"}
        part = ds.drop_vars([n for n, v in ds.variables.items() if detail & set(v.dims)]).load()
        part["measured"] = measured_pairs(ds)
        if "neuroid" in ds.dims:
            members = ds["neuroid_in_region"].values.astype(np.uint8)
            identity["voxels"] = f"{ds.sizes['neuroid']} voxels, digest {digest(*ds['neuroid'].values, members)}"
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
