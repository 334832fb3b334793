"""The best layer of every model, with intervals that know it was chosen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.results.tidy import best_layers, mean_over_subjects

_KEY = ["model_uid", "metric", "region", "subj_id"]
_BEST_DIMS = ("metric", "region", "best_of")


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
