"""A summary for the terminal: where the tables are, and the best layers at first sight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.results.compare import MAX_ALL_PAIRS
from deepjuice.results.tidy import mean_over_subjects
from deepjuice.sizes import counted

METRICS = ("eReg", "eRSA", "cRSA")  # the first that was computed is shown
COUNTED = ("model", "layer", "region", "subject")
N_LINES = 3


class Glance:
    """What a summary shows, gathered from the tidy tables of one model after another.

    Attributes:
        metric: the metric that is shown.
        n_scores, n_undefined: how many scores there are, and how many of them are NaN.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self.metric = next(m for m in (*METRICS, *ds["metric"].values) if m in ds["metric"].values)
        self.n_scores = self.n_undefined = 0
        self._regions = headline_regions(ds)
        self._rows: list[pd.DataFrame] = []

    def add(self, tidy: pd.DataFrame) -> None:
        """Take in a model's tidy table."""
        self.n_scores += len(tidy)
        self.n_undefined += int(tidy["score"].isna().sum())
        rows = candidates(tidy[tidy["metric"] == self.metric], self._regions)
        self._rows.append(rows[rows["rank_in_model"] < N_LINES])  # no more of a model can be shown

    def best(self) -> pd.DataFrame:
        """Return up to three test rows, means over subjects, chosen by the train score.

        Every region's best layer of all models comes first, in the order of the regions; then every region's best
        layer of another model, and so on; layers that are only a model's second best in a region come last.
        """
        rows = pd.concat(self._rows).sort_values("score_train", ascending=False, kind="stable")
        rows = rows.sort_values("rank_in_model", kind="stable")
        rows["rank"] = rows.groupby("region").cumcount()
        rows["place"] = rows["region"].map(self._regions.index)
        return rows.sort_values(["rank", "place"]).head(N_LINES)


def summary(ds: xr.Dataset, glance: Glance, directory: Path, report: str | Path) -> str:
    """Say in a few lines where the tables and the report are, and name the best layers of the largest regions.

    Of each of the three regions with the most neuroids (without neuroids: the first three) the model and layer with
    the best train score, averaged over subjects, and how it tests. Fewer regions have their next best models named as
    well, and then the models' next best layers, until there are three.
    """
    undefined = f"  {glance.n_undefined} of {glance.n_scores} scores are undefined (NaN)"
    with_the_best = "  comparisons.parquet: every model against the best of each region, not every two models"
    lines = [
        f"{ds.attrs['benchmark']}: {', '.join(counted(ds.sizes[dim], dim) for dim in COUNTED)}",
        f"  tables  {directory / 'scores.parquet'}",
        f"          {directory / 'best_layers.csv'}",
        f"          {directory / 'scores.nc'}",
        f"  best layers{_which(ds)} ({glance.metric} on test, mean over subjects; chosen on train):",
        *_lines(glance.best()),
        *([undefined] if glance.n_undefined else []),
        *([with_the_best] if ds.sizes["model"] > MAX_ALL_PAIRS else []),
        f"report    {report}\n",
    ]
    return "\n".join(lines)


def headline_regions(ds: xr.Dataset) -> list[str]:
    """Return up to three regions, those with the most neuroids first; without neuroids the first three."""
    regions = ds["region"].values
    if "n_neuroids" in ds:
        regions = regions[np.argsort(-ds["n_neuroids"].sum("subject").values, kind="stable")]
    return regions[:N_LINES].tolist()


def candidates(tidy: pd.DataFrame, regions: list[str]) -> pd.DataFrame:
    """Return a metric's test rows in some regions, means over subjects, best train score first.

    `score_train` is added, and `rank_in_model`, 0 for a model's best layer in a region.
    """
    means = mean_over_subjects(tidy[tidy["region"].isin(regions)])
    cell = ["region", "model_uid", "model_layer"]
    train = means.loc[means["cv_split"] == "train", [*cell, "score"]]
    rows = means[means["cv_split"] == "test"].merge(train, on=cell, suffixes=("", "_train"))
    rows = rows.dropna(subset=["score", "score_train"]).sort_values("score_train", ascending=False, kind="stable")
    rows["rank_in_model"] = rows.groupby(["region", "model_uid"]).cumcount()
    return rows


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
