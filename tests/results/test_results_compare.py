"""Comparisons of many models with the best, against those of every two models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from aggregate_oracle import merged

from deepjuice.results import COMPARISON_COLUMNS, best_table, compare_models, to_tidy

KEY = ["metric", "region", "subj_id"]


@pytest.fixture(scope="module")
def of_toy(results):
    """Best layers, resamples by model, and degrees of freedom of the three toy models."""
    ds = merged([results / "toy" / "scores" / f"{uid}.nc" for uid in ("net_a", "net_b", "net_a_random")])
    return best_table(ds, to_tidy(ds)), lambda uid: ds["best_resamples"].sel(model=uid).values, ds["best_df"][0]


def test_many_models_are_compared_with_the_best_on_train(of_toy):
    best, resamples_of, df = of_toy
    found = compare_models(best, resamples_of, df, max_all_pairs=2, progress=False)
    assert tuple(found.columns) == COMPARISON_COLUMNS and len(found) == 2 * 3 * (7 + 4)
    assert found.groupby("metric").model_a.nunique().min() > 1  # one model is not the best everywhere
    pairs = compare_models(best, resamples_of, df, progress=False).set_index(["model_a", "model_b", *KEY])
    train = best.set_index(["model_uid", *KEY]).score_train.unstack("model_uid")
    for row in found.itertuples():
        cell = (row.metric, row.region, row.subj_id)
        assert row.model_a == train.loc[cell].idxmax() != row.model_b
        turned = (row.model_a, row.model_b, *cell) not in pairs.index
        models = (row.model_b, row.model_a) if turned else (row.model_a, row.model_b)
        pair = pairs.loc[(*models, *cell)]
        ends = (-pair.ci_high, -pair.ci_low) if turned else (pair.ci_low, pair.ci_high)
        scores = (pair.score_b, pair.score_a) if turned else (pair.score_a, pair.score_b)
        assert (row.score_a, row.score_b) == scores and row.ci_over == pair.ci_over
        expected = [-pair.difference if turned else pair.difference, *ends, pair.p_value]
        np.testing.assert_allclose([row.difference, row.ci_low, row.ci_high, row.p_value], expected, rtol=1e-5)
    np.testing.assert_allclose(found.q_value, scipy.stats.false_discovery_control(found.p_value))
    assert not found.duplicated(["model_b", *KEY]).any()


def test_cells_without_a_train_score_have_no_best(of_toy):
    best, resamples_of, df = of_toy
    nobody = (best.metric == "cRSA") & (best.region == "V1") & (best.subj_id == "subj01")
    one = (best.metric == "eRSA") & (best.region == "V1") & (best.subj_id == "subj01") & (best.model_uid == "net_a")
    best = best.assign(score_train=best.score_train.mask(nobody | one), score_test=best.score_test.mask(nobody | one))
    found = compare_models(best, resamples_of, df, max_all_pairs=2, progress=False)
    assert len(found) == 2 * (3 * (7 + 4) - 1)
    undefined = found[found.difference.isna()]
    assert undefined[["model_b", *KEY]].values.tolist() == [["net_a", "eRSA", "V1", "subj01"]]
    assert undefined[["p_value", "q_value"]].isna().all(axis=None) and "net_a" not in set(undefined.model_a)


def test_of_equal_models_the_first_is_the_best(of_toy):
    best, resamples_of, df = of_toy
    found = compare_models(best.assign(score_train=0.5), resamples_of, df, max_all_pairs=2, progress=False)
    assert set(found.model_a) == {"net_a"}


def test_one_model_is_compared_with_nobody(of_toy):
    best, resamples_of, df = of_toy
    found = compare_models(best[best.model_uid == "net_a"], resamples_of, df, progress=False)
    pd.testing.assert_frame_equal(found, pd.DataFrame(columns=list(COMPARISON_COLUMNS)))
