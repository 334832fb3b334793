"""Score tables as data frames: a row a cell, and the choice of the best layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.frames import pandas_query
from deepjuice.results.cells import existing_cells, scored_layers
from juicyfruits.errors import InputError, near_names

TIDY_COLUMNS = (
    "model_uid",
    "model_layer",
    "model_layer_index",
    "model_layer_depth",
    "metric",
    "region",
    "subj_id",
    "cv_split",
    "score",
    "score_normalized",
    "ci_low",
    "ci_high",
    "ci_over",
    "p_value",
    "p_max",
    "ceiling",
    "ceiling_low",
    "effective_dimensionality",
)
BEST_COLUMNS = (
    "model_uid",
    "metric",
    "region",
    "subj_id",
    "model_layer",
    "model_layer_index",
    "model_layer_depth",
    "score_train",
    "score_test",
    "score_normalized",
    "ci_low",
    "ci_high",
    "ci_over",
    "p_value",
    "p_max",
    "ceiling",
    "ceiling_low",
    "effective_dimensionality",
)
_CELL = ("layer", "metric", "region", "subject", "split")
_VALUES = tuple(c for c in TIDY_COLUMNS[8:] if c != "ci_over")
OVER_STIMULI, OVER_BOTH = "stimuli", "stimuli and subjects"  # what a confidence interval generalises to
MEAN = "mean"  # the subject of rows that are means over subjects


def to_tidy(ds: xr.Dataset) -> pd.DataFrame:
    """Return one row for every existing cell of `ds`, columns `TIDY_COLUMNS`, scores as float64.

    Rows stand in the order layer, metric, region, subject, split. Cells that never exist (`existing_cells`,
    `scored_layers`) have no row; an existing cell whose score is undefined keeps its row, with NaN. Works for one
    model's dataset and for the aggregate.
    """
    sizes = {dim: ds.sizes[dim] for dim in _CELL}
    at = np.indices(tuple(sizes.values())).reshape(len(_CELL), -1)
    exists = (existing_cells(ds) & scored_layers(ds)).transpose(*_CELL).values.ravel()
    at = dict(zip(_CELL, at[:, exists], strict=True))
    columns = cell_labels(ds, at) | {name: _values(ds, name, at) for name in _VALUES} | {"ci_over": OVER_STIMULI}
    return pd.DataFrame(columns, columns=list(TIDY_COLUMNS))


def cell_labels(ds: xr.Dataset, at: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns that say which cell a row is, of those dims that `at` has positions for."""
    layer = at["layer"]
    model = ds["model_uid"].values if "model_uid" in ds.coords else np.full(ds.sizes["layer"], ds.attrs["model_uid"])
    names = {"metric": "metric", "region": "region", "subject": "subj_id", "split": "cv_split"}
    return {
        "model_uid": model[layer],
        "model_layer": ds["layer"].values[layer],
        "model_layer_index": ds["layer_index"].values[layer].astype(np.int64),
        "model_layer_depth": ds["layer_depth"].values[layer].astype(np.float64),
        **{column: ds[dim].values[at[dim]] for dim, column in names.items() if dim in at},
    }


def _values(ds: xr.Dataset, name: str, at: dict[str, np.ndarray]) -> np.ndarray:
    dims = ds[name].dims
    return ds[name].values[tuple(at[dim] for dim in dims)].astype(np.float64)


def mean_over_subjects(tidy: pd.DataFrame, ds: xr.Dataset | None = None) -> pd.DataFrame:
    """Return a tidy table with the mean over subjects of score, normalised score and ceilings, `subj_id` "mean".

    Undefined scores of single subjects are left out of the mean. The interval of a mean is not the mean of intervals:
    it is taken from `ds`, which resampled it, and is NaN without; `ci_over` says what was resampled. p-values are NaN.
    """
    averaged = ["score", "score_normalized", "ceiling", "ceiling_low", "effective_dimensionality"]
    fixed = [c for c in TIDY_COLUMNS[:8] if c != "subj_id"]
    means = tidy.groupby(fixed, sort=False, as_index=False)[averaged].mean().assign(subj_id=MEAN)
    if ds is None:
        means = means.assign(ci_low=np.nan, ci_high=np.nan, ci_over="")
    else:
        dims = [dim for dim in _CELL if dim != "subject"]
        at = dict(zip(dims, np.indices([ds.sizes[dim] for dim in dims]).reshape(len(dims), -1), strict=True))
        intervals = {name: _values(ds, f"mean_{name}", at) for name in ("ci_low", "ci_high")}
        intervals = pd.DataFrame(cell_labels(ds, at) | intervals).drop(
            columns=["model_layer_index", "model_layer_depth"]
        )
        keys = ["model_uid", "model_layer", "metric", "region", "cv_split"]
        over = dict(zip(ds["region"].values, np.where(ds["subjects_resampled"], OVER_BOTH, OVER_STIMULI), strict=True))
        means = means.merge(intervals, on=keys, how="left").assign(ci_over=means["region"].map(over))
    return means.assign(p_value=np.nan, p_max=np.nan)[list(TIDY_COLUMNS)]


def best_layers(tidy: pd.DataFrame) -> pd.DataFrame:
    """Return, for every model, metric, region and subject, the layer with the best train score and how it tests.

    Columns `BEST_COLUMNS`: `score_train` is what the layer was chosen by; all after it are of the test split. The first
    of equal layers is taken. Where no layer has a train score the row is kept, its layer and scores empty.
    """
    group = ["model_uid", "metric", "region", "subj_id"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedScores)  # such groups are shown as empty rows instead
        chosen = get_results_max(tidy, "score", group, ["model_layer"], criterion={"cv_split": "train"})
    train = chosen.loc[chosen.cv_split == "train", [*group, "score"]].rename(columns={"score": "score_train"})
    test = chosen[chosen.cv_split == "test"].rename(columns={"score": "score_test"}).drop(columns="cv_split")
    best = tidy[group].drop_duplicates().merge(train, on=group, how="left").merge(test, on=group, how="left")
    best["model_layer_index"] = best["model_layer_index"].astype("Int64")  # whole numbers, with room for "none"
    return best[list(BEST_COLUMNS)].reset_index(drop=True)


class UndefinedScores(UserWarning):
    """A group has no defined score to choose by."""


def get_results_max(
    results: pd.DataFrame,
    score: str = "score",
    group_vars: str | Sequence[str] = ("metric", "region", "subj_id"),
    max_over: str | Sequence[str] = ("model_layer",),
    criterion: Mapping[str, object] | None = None,
    filters: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """Choose by some rows, report all: the rows of the `max_over` value whose criterion rows score best in each group.

    1. `filters` ({column: value or list of values}) keeps the rows that take part at all.
    2. Of these, the rows that match `criterion` (default {"cv_split": "train"}; {} for all rows) decide: within every
       group of equal `group_vars`, the value of `max_over` with the greatest `score` is chosen. Columns of the
       criterion are no part of the group. Several criterion rows of one choice (say the subjects, where `subj_id` is
       not in `group_vars`) are averaged first, undefined scores left out. Of equal choices the first is taken, by
       `model_layer_index` where that column exists, otherwise by the order of the rows.
    3. Every filtered row of the choice comes back, on all splits, in the order and with the columns of `results`.

    A group without any defined criterion score has no choice and no rows; a warning `UndefinedScores` counts these.

    Raises InputError for an unknown column, and where rows of several models or metrics would be averaged into one.

    >>> table = pd.DataFrame({"model_layer": ["a", "b"] * 2, "cv_split": ["train"] * 2 + ["test"] * 2,
    ...                       "region": "EVC", "score": [0.1, 0.3, 0.9, 0.2]})
    >>> get_results_max(table, "score", ["region"], ["model_layer"])[["model_layer", "cv_split", "score"]]
      model_layer cv_split  score
    1           b    train    0.3
    3           b     test    0.2
    """
    criterion = {"cv_split": "train"} if criterion is None else criterion
    filters = filters or {}
    group = [c for c in _names(group_vars) if c not in criterion]
    choice = [c for c in _names(max_over) if c not in group]
    for name in (score, *group, *choice, *criterion, *filters):
        if name not in results.columns:
            raise InputError(f"The results have no column {name!r}; {near_names(name, results.columns)}")
    if not choice:
        raise InputError("max_over names no column that is not in group_vars; expected for example 'model_layer'.")
    rows = pandas_query(results, filters)
    deciding = pandas_query(rows, criterion)
    if "model_layer_index" in rows.columns:
        deciding = deciding.sort_values("model_layer_index", kind="stable")
    best = _best_choices(deciding, score, group, choice)
    chosen = pd.MultiIndex.from_frame(best[group + choice])
    return rows[pd.MultiIndex.from_frame(rows[group + choice]).isin(chosen)]


def _best_choices(deciding: pd.DataFrame, score: str, group: list[str], choice: list[str]) -> pd.DataFrame:
    """Return one row a group: its `group` and `choice` columns."""
    keys = deciding.groupby(group + choice, sort=False, dropna=False)
    for name in ("model_uid", "metric"):
        if name in deciding.columns and name not in group + choice and (keys[name].nunique() > 1).any():
            raise InputError(
                f"Rows that differ in {name!r} would be averaged into one score; "
                f"add {name!r} to group_vars or max_over, or filter for one."
            )
    means = keys[score].mean().reset_index()
    defined = means[means[score].notna()]
    n_groups = len(means[group].drop_duplicates()) if group else min(len(means), 1)
    # A stable sort keeps the first of equal choices first.
    best = defined.sort_values(score, ascending=False, kind="stable")
    best = best.drop_duplicates(group) if group else best.head(1)
    if len(best) < n_groups:
        warnings.warn(
            f"{n_groups - len(best)} of {n_groups} groups have no defined {score!r} to choose by and are left out.",
            UndefinedScores,
            stacklevel=3,
        )
    return best


def _names(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)
