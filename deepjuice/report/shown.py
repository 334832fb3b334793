"""What of a benchmark's tables is shown: all of a dozen networks; of more the leading ones, and the best a region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.results import BEST_COLUMNS, MEAN, best_table, existing_cells, open_scores, to_tidy
from deepjuice.results.storage import checked
from juicyfruits.errors import InputError
from juicyfruits.files import reading

MAX_NETWORKS = 12  # curves in a panel, and columns of a table
MAX_ROWS = 20  # networks a region in a table, where there are more than MAX_NETWORKS
LAYERS_AT_ONCE = 256  # of which undefined scores are counted
_TEXTS = ("model_uid", "metric", "region", "subj_id", "model_layer", "ci_over")


class Shown(NamedTuple):
    """A benchmark's part of the page.

    Attributes:
        ds, tidy: scores of the networks that are drawn.
        drawn: their uids, in the order of the legend.
        best: the best layers (`best_table`) of all networks.
        layer_paths: {(model_uid, layer uid): dotted path}, of all networks.
        sizes: how many networks, layers, regions and subjects there are.
        n_scores, n_undefined: how many scores, and how many of them are NaN.
    """

    ds: xr.Dataset
    tidy: pd.DataFrame
    drawn: list[str]
    best: pd.DataFrame
    layer_paths: dict[tuple[str, str], str]
    sizes: dict[str, int]
    n_scores: int
    n_undefined: int

    @property
    def is_part(self) -> bool:
        """Whether there are networks that are not drawn."""
        return len(self.drawn) < self.sizes["model"]


def read_shown(directory: Path) -> Shown:
    """Read what is shown of the aggregate in `directory`; the scores of other networks are counted, and not kept.

    Raises InputError if `scores.nc` is not valid, or if there are many networks and `best_layers.csv` is not of them.
    """
    path = directory / "scores.nc"
    with open_scores(path) as ds:
        models = ds["model"].values.tolist()
        best = None if len(models) <= MAX_NETWORKS else _read_best(directory / "best_layers.csv", models)
        drawn = models if best is None else leading_networks(best, MAX_NETWORKS)
        own = {"layer": np.isin(ds["model_uid"].values, drawn), "model": np.isin(models, drawn)}
        part = ds.isel({dim: np.flatnonzero(chosen) for dim, chosen in own.items()}).load()
        labels = zip(ds["model_uid"].values.tolist(), ds["layer"].values.tolist(), strict=True)
        layer_paths = dict(zip(labels, ds["layer_path"].values.tolist(), strict=True))
        sizes = {dim: ds.sizes[dim] for dim in ("model", "layer", "region", "subject")}
        counts = _count_scores(ds)
    tidy = to_tidy(checked(part, path))
    best = best_table(part, tidy) if best is None else best
    return Shown(part, tidy, drawn, best, layer_paths, sizes, *counts)


def leading_networks(best: pd.DataFrame, n: int) -> list[str]:
    """Return the `n` networks that rank highest in any metric, the first of every metric first.

    A network's rank is by the train score of its best layers, mean over subjects and regions: by test scores, the
    best of many would owe their place to chance, too.
    """
    means = best[best.subj_id == MEAN].groupby(["metric", "model_uid"], sort=False)["score_train"].mean()
    ranked = [means[metric].sort_values(ascending=False, kind="stable").index for metric in best.metric.unique()]
    return list(dict.fromkeys(uid for of_rank in zip(*ranked, strict=True) for uid in of_rank))[:n]


def best_on_train(best: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return, of a metric's rows of `best`, the `n` of each region and subject with the best train score, in order."""
    ranked = best.sort_values("score_train", ascending=False, kind="stable")
    top = ranked.groupby(["region", "subj_id"], sort=False).head(n)
    regions = dict.fromkeys(best.region)
    return pd.concat([top[top.region == region] for region in regions])


def _read_best(path: Path, models: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"No {path}, which 'deepjuice aggregate' writes beside scores.nc; aggregate again.")
    with reading(path, "CSV"):
        # A region may be called NA, and a subject 01.
        best = pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str), keep_default_na=False, na_values=[""])
    if list(best.columns) != list(BEST_COLUMNS) or set(best["model_uid"]) != set(models):
        raise InputError(f"{path} is not of the models of scores.nc beside it; aggregate again.")
    return best


def _count_scores(ds: xr.Dataset) -> tuple[int, int]:
    """Count the scores of an open aggregate and those that are NaN, some layers at a time."""
    exists = existing_cells(ds).transpose("metric", "region", "subject", "split").values
    n_undefined = 0
    for start in range(0, ds.sizes["layer"], LAYERS_AT_ONCE):
        score = ds["score"].isel(layer=slice(start, start + LAYERS_AT_ONCE))
        values = score.transpose("metric", "region", "subject", "split", "layer").values[exists]
        n_undefined += int(np.isnan(values).sum())
    return int(exists.sum()) * ds.sizes["layer"], n_undefined
