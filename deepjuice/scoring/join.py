"""From the parts of one model's scoring to its score file: what is known only when all layers are."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from deepjuice.alignment.inference.resampling import MaxNull, NestedBest, confidence_interval
from deepjuice.results import MEAN, SPLITS
from deepjuice.scoring.parts import OWN_ATTRIBUTES
from deepjuice.scoring.settings import ScoreSettings
from deepjuice.scoring.table import CELL, warn_of_edges
from deepjuice.scoring.uncertainty import LEVEL

STATE_DIMS = ("cell", "place")
"""Of what a part holds beside its scores (`Uncertainty.add_state`), all of it on one of these dims."""


def join_parts(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join all parts of one model's scoring, in the order of their layers, into its score dataset.

    A part is what `score_part` returns, in memory or from `open_parts`. What depends on all layers is read off the
    parts' states: p-values over all layers, from the largest null score of every part, and the best layer, from the
    best of every part, whose resamples compete like those of one more layer. So it is the same to the bit for every
    division.

    Returns:
        The score dataset of `docs/results-schema.md`, float32, in memory; its `wall_time_score_s` is the parts' sum.
    """
    table = _layers(parts)
    table.attrs = {name: value for name, value in table.attrs.items() if name not in OWN_ATTRIBUTES}
    table["p_max"] = CELL, _corrected(parts, table["score"].values)
    _add_best(table, parts)
    warn_of_edges(table, ScoreSettings(**json.loads(table.attrs["settings"])))
    table.attrs["wall_time_score_s"] = round(sum(part.attrs["wall_time_score_s"] for part in parts), 2)
    return table


def _layers(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put the scores of all layers one after another; what is the brain's stands in every part."""
    tables = [part.drop_dims(STATE_DIMS) for part in parts]
    if len(tables) == 1:  # the usual case, in which the largest arrays are not copied
        return tables[0].load()
    options = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "exact"}
    return xr.concat(tables, "layer", combine_attrs="override", **options).load()


def _corrected(parts: Sequence[xr.Dataset], score: np.ndarray) -> np.ndarray:
    """Return the p-values over all layers, of the dims of the scores."""
    p_max, test = np.full_like(score, np.nan), SPLITS.index("test")
    n_cells = parts[0].sizes["cell"]
    regions, subjects = (parts[0][name].values[:n_cells] for name in ("place_region", "place_best_of"))
    for metric in range(len(score) if parts[0].sizes["shuffle"] else 0):
        null = MaxNull()
        for part in parts:
            null.update(_state(part, "null_max", metric))
        observed = torch.from_numpy(score[metric, ..., test][:, regions, subjects])
        p_max[metric, ..., test][:, regions, subjects] = null.p_values(observed)
    return p_max


def _add_best(table: xr.Dataset, parts: Sequence[xr.Dataset]) -> None:
    """Write the resamples of the best layers, chosen anew in each, and their intervals."""
    dims = ("metric", "region", "best_of")
    best_of = [*table["subject"].values.tolist(), MEAN]
    shape = table.sizes["metric"], table.sizes["region"], len(best_of)
    resamples = np.full((*shape, parts[0].sizes["resample"]), np.nan, dtype=np.float32)
    ends, dfs = np.full((2, *shape), np.nan, dtype=np.float32), np.full(shape, np.nan, dtype=np.float32)
    places = parts[0]["place_region"].values, parts[0]["place_best_of"].values
    for metric in range(shape[0] if resamples.shape[-1] else 0):
        best, df = NestedBest(), torch.tensor(torch.inf)
        for part in parts:
            best.update(_state(part, "best_train", metric), _state(part, "best_test", metric))
            df = torch.minimum(df, _state(part, "least_df", metric))
        resamples[metric, *places] = best.resamples.T
        dfs[metric, *places] = df
        for end, values in zip(ends, confidence_interval(best.resamples, LEVEL, df), strict=True):
            end[metric, *places] = values
    table["best_resamples"] = ((*dims, "resample"), resamples)
    for name, values in (("best_ci_low", ends[0]), ("best_ci_high", ends[1]), ("best_df", dfs)):
        table[name] = (dims, values)
    table.coords["best_of"] = best_of


def _state(part: xr.Dataset, name: str, metric: int) -> Tensor:
    return torch.from_numpy(part[name][metric].values)
