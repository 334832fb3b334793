"""Scores against scipy and scikit-learn, and the two undefined cases."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

from deepjuice.alignment import compute_score, get_scoring_method, pearsonr
from deepjuice.alignment.linalg import average_ranks
from juicyfruits.errors import InputError
from tests import oracles

REFERENCES = {
    "pearsonr": lambda y, pred: stats.pearsonr(y, pred).statistic,
    "spearmanr": lambda y, pred: stats.spearmanr(y, pred).statistic,
    "r2": metrics.r2_score,
    "explained_variance": metrics.explained_variance_score,
    "concordance": oracles.concordance,
    "neg_mean_squared_error": lambda y, pred: -metrics.mean_squared_error(y, pred),
}


def targets_and_predictions(dtype=np.float64, offset=0.0):
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 6)) * np.array([1e-8, 1e-2, 1, 10, 1e3, 1e8]) + offset
    pred = 0.7 * y + 0.6 * y.std(axis=0) * rng.normal(size=y.shape) + 0.3 * y.std(axis=0)
    return y.astype(dtype), pred.astype(dtype)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_reference(name, dtype):
    y, pred = targets_and_predictions(dtype)
    ours = compute_score(torch.tensor(y), pred, name)
    expected = oracles.columnwise(REFERENCES[name], y.astype(np.float64), pred.astype(np.float64))
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours, expected, rtol=1e-10)
    assert compute_score(y[:, 2], pred[:, 2], name).item() == pytest.approx(expected[2])
    assert torch.equal(get_scoring_method(name)(y, pred), ours)


@pytest.mark.parametrize("name", ["pearsonr", "r2", "explained_variance", "concordance"])
def test_an_offset_of_1000_costs_no_digits(name):
    y, pred = (v[:, 2:] + 1000.0 for v in targets_and_predictions())
    np.testing.assert_allclose(compute_score(y, pred, name), oracles.columnwise(REFERENCES[name], y, pred), rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_ties_share_their_mean_rank(dtype):
    rng = np.random.default_rng(1)
    y, pred = rng.integers(0, 4, size=(2, 40, 5)).astype(dtype)
    np.testing.assert_array_equal(average_ranks(torch.tensor(y), dim=0), stats.rankdata(y, axis=0))
    np.testing.assert_array_equal(average_ranks(torch.tensor(y)), stats.rankdata(y, axis=1))
    np.testing.assert_allclose(
        compute_score(y, pred, "spearmanr"), oracles.columnwise(REFERENCES["spearmanr"], y, pred)
    )


@pytest.mark.parametrize("n", [1, 2])
def test_ranks_of_few(n):
    np.testing.assert_array_equal(average_ranks(torch.zeros(3, n)), stats.rankdata(np.zeros((3, n)), axis=1))


@pytest.mark.parametrize("name", ["pearsonr", "spearmanr", "concordance"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1000.1])
def test_a_constant_prediction_scores_zero_and_a_constant_target_nothing(name, constant):
    y = np.arange(7.0)
    flat = np.full(7, constant, dtype=np.float32)
    assert compute_score(y, flat, name).item() == 0.0
    assert np.isnan(compute_score(flat, y, name).item())
    assert np.isnan(compute_score(flat, flat, name).item())


@pytest.mark.parametrize("name", ["pearsonr", "spearmanr", "concordance"])
def test_rounding_counts_as_constant(name):
    y, flat = np.arange(7.0), np.full(7, 1000.1)
    flat[::2] = np.nextafter(1000.1, 2000)
    assert compute_score(y, flat, name).item() == 0.0
    assert np.isnan(compute_score(flat, y, name).item())


@pytest.mark.parametrize("name", ["r2", "explained_variance"])
def test_a_constant_target_has_no_variance_to_explain(name):
    scores = compute_score([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]], [[0.1, 1.0], [0.3, 2.0], [0.2, 3.0]], name)
    assert scores[0].isnan() and scores[1] == 1


def test_bad_input_is_named():
    y, pred = targets_and_predictions()
    with pytest.raises(InputError, match="'pearson' is unknown; did you mean 'pearsonr'"):
        get_scoring_method("pearson")
    with pytest.raises(InputError, match=r"\(50, 6\) and \(50, 1\)"):
        pearsonr(y, pred[:, 0])
    with pytest.raises(InputError, match="The predictions has 300 of 300"):
        pearsonr(y, pred * np.nan)
    with pytest.raises(InputError, match="at least 2 row"):
        pearsonr([1.0], [1.0])
