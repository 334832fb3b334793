"""A summary for the terminal: where the tables are, and the best layers at first sight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.results.tidy import mean_over_subjects

METRICS = ("eReg", "eRSA", "cRSA")  # the first that was computed is shown
COUNTED = ("model", "layer", "region", "subject")
N_LINES = 3


def summary(ds: xr.Dataset, tidy: pd.DataFrame, directory: Path, report: str | Path) -> str:
    """Say in a few lines where the tables and the report are, and name the best layers of the largest regions.

    Of each of the three regions with the most neuroids (without neuroids: the first three) the model and layer with
    the best train score, averaged over subjects, and how it tests. Fewer regions have their next best models named as
    well, and then the models' next best layers, until there are three.
    """
    metric = next(m for m in (*METRICS, *ds["metric"].values) if m in ds["metric"].values)
    undefined = int(tidy["score"].isna().sum())
    lines = [
        f"{ds.attrs['benchmark']}: {', '.join(_counted(ds.sizes[dim], dim) for dim in COUNTED)}",
        f"  tables  {directory / 'scores.parquet'}",
        f"          {directory / 'best_layers.csv'}",
        f"          {directory / 'scores.nc'}",
        f"  best layers{_which(ds)} ({metric} on test, mean over subjects; chosen on train):",
        *_lines(best_at_first_sight(tidy[tidy["metric"] == metric], headline_regions(ds))),
        *([f"  {undefined} of {len(tidy)} scores are undefined (NaN)"] if undefined else []),
        f"report    {report}\n",
    ]
    return "\n".join(lines)


def headline_regions(ds: xr.Dataset) -> list[str]:
    """Return up to three regions, those with the most neuroids first; without neuroids the first three."""
    regions = ds["region"].values
    if "n_neuroids" in ds:
        regions = regions[np.argsort(-ds["n_neuroids"].sum("subject").values, kind="stable")]
    return regions[:N_LINES].tolist()


def best_at_first_sight(tidy: pd.DataFrame, regions: list[str]) -> pd.DataFrame:
    """Return up to three test rows of a metric's tidy table, means over subjects, chosen by the train score.

    Every region's best layer of all models comes first, in the order of `regions`; then every region's best layer of
    another model, and so on; layers that are only a model's second best in a region come last.
    """
    means = mean_over_subjects(tidy[tidy["region"].isin(regions)])
    cell = ["region", "model_uid", "model_layer"]
    train = means.loc[means["cv_split"] == "train", [*cell, "score"]]
    rows = means[means["cv_split"] == "test"].merge(train, on=cell, suffixes=("", "_train"))
    rows = rows.dropna(subset=["score", "score_train"]).sort_values("score_train", ascending=False, kind="stable")
    rows["rank_in_model"] = rows.groupby(["region", "model_uid"]).cumcount()
    rows = rows.sort_values("rank_in_model", kind="stable")
    rows["rank"] = rows.groupby("region").cumcount()
    rows["place"] = rows["region"].map(regions.index)
    return rows.sort_values(["rank", "place"]).head(N_LINES)


def _which(ds: xr.Dataset) -> str:
    if ds.sizes["region"] <= N_LINES:
        return ""
    return f" of the {N_LINES} {'largest' if 'n_neuroids' in ds else 'first'} regions"


def _lines(best: pd.DataFrame) -> list[str]:
    if best.empty:
        return ["    none: no test score is defined"]
    names = [best[c].str.pad(best[c].str.len().max(), side="right") for c in ("model_uid", "model_layer", "region")]
    ceilings = [f"  (ceiling {c:.3f})" if np.isfinite(c) else "" for c in best["ceiling"]]
    cells = zip(*names, best["score"], ceilings, strict=True)
    return [f"    {i}. {m}  {x}  {r}  {s:.3f}{c}" for i, (m, x, r, s, c) in enumerate(cells, start=1)]


def _counted(count: int, what: str) -> str:
    """Return "1 model", "2 models"."""
    return f"{count} {what}{'s' * (count != 1)}"
