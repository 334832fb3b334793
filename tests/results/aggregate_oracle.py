"""What `aggregate` must write, made plainly: every file whole in memory, one table of all models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from deepjuice.alignment import compare_models
from deepjuice.results import SCHEMA_VERSION, best_table, measured_pairs, read_scores, to_tidy
from deepjuice.results.cells import count_neuroids
from deepjuice.results.schema import VARIABLES

KEY = ["model_uid", "metric", "region", "subj_id"]


def merged(paths: list[Path]) -> xr.Dataset:
    """The aggregate of some score files, with all models' `best_resamples` and `best_df` along `model`."""
    files = [read_scores(path) for path in paths]
    parts = []
    for ds in files:
        uid = np.full(ds.sizes["layer"], ds.attrs["model_uid"])
        part = ds[[name for name in VARIABLES if name in ds]].assign_coords(model_uid=("layer", uid))
        parts.append(part.drop_dims("neuroid", errors="ignore"))
    by_layer = [name for name, field in VARIABLES.items() if "layer" in field.dims]
    table = xr.concat([p[by_layer] for p in parts], "layer", coords="minimal", compat="override", join="exact")
    table = table.assign({name: files[0][name] for name in ("ceiling", "ceiling_low", "subjects_resampled")})
    nested = ["best_ci_low", "best_ci_high", "best_resamples", "best_df"]
    model = xr.IndexVariable("model", [ds.attrs["model_uid"] for ds in files])
    table = table.assign(xr.concat([ds[nested].reset_coords(drop=True) for ds in files], model).data_vars)
    table["measured"] = xr.concat([measured_pairs(ds) for ds in files], "model").any("model")
    if "neuroid" in files[0].dims:
        table["n_neuroids"] = count_neuroids(files[0])
    shared = [n for n, v in files[0].attrs.items() if all(ds.attrs.get(n) == v for ds in files)]
    table.attrs = {name: files[0].attrs[name] for name in shared if len(files) > 1 or name != "model_uid"}
    attrs = [{n: getattr(v, "item", lambda v=v: v)() for n, v in ds.attrs.items()} for ds in files]
    table["model_attrs"] = ("model", [json.dumps(a) for a in attrs])
    return table.assign_attrs(schema_version=SCHEMA_VERSION)


def tables(paths: list[Path]) -> dict[str, xr.Dataset | pd.DataFrame]:
    """All tables by the names of their files, `summary.txt` apart."""
    ds = merged(paths)
    tidy = to_tidy(ds)
    best = best_table(ds, tidy)
    return {
        "scores.nc": ds.drop_vars(["best_resamples", "best_df"]),
        "scores.parquet": tidy,
        "best_layers.csv": best,
        "comparisons.parquet": every_pair(best, ds),
    }


def every_pair(best: pd.DataFrame, ds: xr.Dataset) -> pd.DataFrame:
    """Every two models in every cell, all at once."""
    rows = best.set_index(KEY)
    models = ds["model"].values
    cells = rows.loc[models[0]].index
    scores = np.stack([rows["score_test"].loc[m].reindex(cells) for m in models])
    labels = (xr.DataArray(list(c)) for c in zip(*cells, strict=True))
    cell = dict(zip(("metric", "region", "best_of"), labels, strict=True))
    resamples = ds["best_resamples"].sel(cell).transpose("model", "dim_0", "resample").values
    found = compare_models(
        torch.from_numpy(scores),
        torch.from_numpy(resamples).transpose(1, 2),
        df=torch.from_numpy(ds["best_df"].sel(cell).transpose("model", "dim_0").values.min(axis=0)),
    )
    tables = []
    for number, (a, b) in enumerate(zip(found.first.tolist(), found.second.tolist(), strict=True)):
        values = {"model_a": models[a], "model_b": models[b]} | cells.to_frame(index=False).to_dict("series")
        values |= {"score_a": scores[a], "score_b": scores[b]}
        for name, field in {"difference": "difference", "low": "ci_low", "high": "ci_high"}.items():
            values[field] = getattr(found, name)[number]
        values["ci_over"] = rows["ci_over"].loc[models[a]].reindex(cells).to_numpy()
        tables.append(pd.DataFrame(values | {"p_value": found.p[number], "q_value": found.q[number]}))
    return pd.concat(tables, ignore_index=True)
