"""The best layer of every model, with intervals that know it was chosen, and models compared by their best layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.results.tidy import best_layers, mean_over_subjects

_KEY = ["model_uid", "metric", "region", "subj_id"]
_BEST_DIMS = ("metric", "region", "best_of")
_FIELDS = {"low": "ci_low", "high": "ci_high", "p": "p_value", "q": "q_value"}
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


def best_table(ds: xr.Dataset, tidy: pd.DataFrame) -> pd.DataFrame:
    """Return `best_layers` of an aggregate for every subject and for the mean over them (`subj_id` "mean").

    `ci_low` and `ci_high` are of the choice: in every resample of the stimuli the layer is chosen anew on train, and
    its test score is what varies. `tidy` is `to_tidy(ds)`, or rows of it.
    """
    best = best_layers(pd.concat([tidy, mean_over_subjects(tidy, ds)], ignore_index=True))
    best = best.iloc[best.groupby(_KEY[:3], sort=False).ngroup().argsort(kind="stable")].reset_index(drop=True)
    dims = ("model", *_BEST_DIMS)
    at = [pd.Index(ds[dim].values).get_indexer(best[column]) for dim, column in zip(dims, _KEY, strict=True)]
    for name in ("ci_low", "ci_high"):
        chosen = ds[f"best_{name}"].transpose(*dims).values[*at].astype(np.float64)
        best[name] = np.where(best["model_layer"].notna(), chosen, np.nan)
    return best


def compare_models(best: pd.DataFrame, resamples: xr.DataArray, df: xr.DataArray) -> pd.DataFrame:
    """Compare every two models by the test scores of their best layers: columns `COMPARISON_COLUMNS`.

    `best` is `best_table`'s. `resamples` (model, metric, region, best_of, resample) hold those scores in resamples that
    all models share, `df` (model, metric, region, best_of) their degrees of freedom. `difference` is
    `score_a - score_b`; its interval and two-sided p-value come from the paired resamples, and `q_value` is the false
    discovery rate over all rows (Benjamini & Hochberg). Pairs of region and subject that nobody measured have no row.
    """
    rows = best.set_index(_KEY)
    models = resamples["model"].values
    if len(models) < 2:
        return pd.DataFrame(columns=list(COMPARISON_COLUMNS))
    import torch  # not loaded by who only reads tables

    from deepjuice.alignment.inference import model_comparison

    cells = rows.loc[models[0]].index
    at = [pd.Index(resamples[dim].values).get_indexer(cells.get_level_values(n)) for n, dim in enumerate(_BEST_DIMS)]
    scores = np.stack([rows["score_test"].loc[model].reindex(cells).to_numpy() for model in models])
    of_cells = resamples.transpose("model", *_BEST_DIMS, "resample").values[:, *at]
    found = model_comparison.compare_models(
        torch.from_numpy(scores),
        torch.from_numpy(of_cells).transpose(1, 2),
        df=torch.from_numpy(df.transpose("model", *_BEST_DIMS).values.min(axis=0)[*at]),
    )
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    tables = []
    for number, (a, b) in enumerate(pairs):
        values = {"score_a": scores[a], "score_b": scores[b]}
        for name in ("difference", "low", "high", "p", "q"):
            values[_FIELDS.get(name, name)] = getattr(found, name)[number].numpy()
        table = pd.DataFrame(values, index=cells).reset_index().assign(model_a=models[a], model_b=models[b])
        tables.append(table.assign(ci_over=rows["ci_over"].loc[models[a]].reindex(cells).to_numpy()))
    return pd.concat(tables, ignore_index=True)[list(COMPARISON_COLUMNS)]
