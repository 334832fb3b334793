"""Models compared by their best layers: every two of them, or of very many each with the best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from tqdm.auto import tqdm

MAX_ALL_PAIRS = 100  # with more models every model is compared with the best of each cell
COMPARISON_COLUMNS = (
    "model_a",
    "model_b",
    "metric",
    "region",
    "subj_id",
    "score_a",
    "score_b",
    "difference",
    "ci_low",
    "ci_high",
    "ci_over",
    "p_value",
    "q_value",
)
_FIELDS = {"low": "ci_low", "high": "ci_high", "p": "p_value"}
_CELL = ["metric", "region", "subj_id"]
_DIMS = ("metric", "region", "best_of")
NOBODY = -1
Plan = list[tuple[np.ndarray, range]]  # the number of a model for every cell, and the models to compare with it


def compare_models(
    best: pd.DataFrame,
    resamples_of: Callable[[str], np.ndarray],
    df: xr.DataArray,
    max_all_pairs: int = MAX_ALL_PAIRS,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare models by the test scores of their best layers: columns `COMPARISON_COLUMNS`.

    Up to `max_all_pairs` models: every two of them. With more: `model_a` is the model whose best layer has the highest
    train score of all in this metric, region and subject (the first of equal ones), and every other model is a
    `model_b`. It is chosen on train and compared on test, so that the choice favours nobody. Where no model has a train
    score there is no row.

    `best` is `best_table`'s. `resamples_of(model_uid)` gives those scores in resamples that all models share, float32
    (metric, region, best_of, resample); two models' at a time are held. `df` (metric, region, best_of) are
    their degrees of freedom. `difference` is `score_a - score_b`; its interval and two-sided p-value come from the
    paired resamples, and `q_value` is the false discovery rate over all rows (Benjamini & Hochberg). Pairs of region
    and subject that nobody measured have no row. `progress` shows a bar.
    """
    models = best["model_uid"].unique()
    if len(models) < 2:
        return pd.DataFrame(columns=list(COMPARISON_COLUMNS))
    cells = best.loc[best["model_uid"] == models[0], _CELL].reset_index(drop=True)
    columns = {n: best[n].to_numpy().reshape(len(models), -1) for n in ("score_train", "score_test", "ci_over")}
    at = tuple(pd.Index(df[dim].values).get_indexer(cells[name]) for dim, name in zip(_DIMS, _CELL, strict=True))
    of_all = len(models) <= max_all_pairs
    plan = _every_pair(len(models), len(cells)) if of_all else _with_the_best(columns["score_train"])
    found = _tested(
        plan,
        columns["score_test"],
        lambda model: resamples_of(models[model])[at],
        df.transpose(*_DIMS).values[at],
        progress,
    )
    a, b, cell = (found.pop(name) for name in ("a", "b", "cell"))
    table = cells.iloc[cell].reset_index(drop=True).assign(model_a=models[a], model_b=models[b])
    scores = {"score_a": columns["score_test"][a, cell], "score_b": columns["score_test"][b, cell]}
    return table.assign(**scores, **found, ci_over=columns["ci_over"][a, cell])[list(COMPARISON_COLUMNS)]


def _every_pair(n_models: int, n_cells: int) -> Plan:
    return [(np.full(n_cells, a), range(a + 1, n_models)) for a in range(n_models - 1)]


def _with_the_best(train: np.ndarray) -> Plan:
    """Choose in every cell by train scores (model, cell), and compare all with the choice."""
    defined = ~np.isnan(train)
    top = np.where(defined, train, -np.inf).argmax(axis=0)
    return [(np.where(defined.any(axis=0), top, NOBODY), range(len(train)))]


def _tested(
    plan: Plan, scores: np.ndarray, resamples_of: Callable[[int], np.ndarray], df: np.ndarray, progress: bool
) -> dict[str, np.ndarray]:
    """Return a row a comparison: numbers of models `a` and `b` and of the `cell`, and the fields of the table."""
    import torch  # not loaded by who only reads tables

    from deepjuice.alignment.inference.model_comparison import benjamini_hochberg, paired_test

    n_pairs = sum(len(others) for _, others in plan)
    # Room for all rows at once: small arrays between the large ones of the tests would keep memory from being reused.
    numbers = {name: np.empty(n_pairs * scores.shape[1], dtype=np.int32) for name in ("a", "b", "cell")}
    fields = {name: np.empty(n_pairs * scores.shape[1]) for name in ("difference", "low", "high", "p")}
    n_rows = 0
    with tqdm(total=n_pairs, desc="comparing", unit="pair", disable=not progress) as bar:
        for first, others in plan:
            held = _of_first(first, resamples_of)
            for second in others:
                bar.update()
                cell = np.flatnonzero((first != NOBODY) & (first != second))
                if not len(cell):  # the best everywhere
                    continue
                a, own = first[cell], resamples_of(second)
                differences = torch.from_numpy(held[cell]).T - torch.from_numpy(own[cell]).T
                observed = torch.from_numpy(scores[a, cell] - scores[second, cell])
                test = paired_test(observed, differences, df=torch.from_numpy(df[cell]))
                rows = slice(n_rows, n_rows + len(cell))
                for name, values in {"a": a, "b": second, "cell": cell}.items():
                    numbers[name][rows] = values
                for name, room in fields.items():
                    room[rows] = getattr(test, name).numpy()
                n_rows = rows.stop
    found = {_FIELDS.get(name, name): values[:n_rows] for name, values in (numbers | fields).items()}
    return found | {"q_value": benjamini_hochberg(found["p_value"]).numpy()}


def _of_first(first: np.ndarray, resamples_of: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return (cell, resample) of the model that `first` names for each cell; other cells hold anything."""
    chosen = np.unique(first[first != NOBODY]).tolist() or [0]
    held = resamples_of(chosen[0])
    for model in chosen[1:]:
        held[first == model] = resamples_of(model)[first == model]
    return held
