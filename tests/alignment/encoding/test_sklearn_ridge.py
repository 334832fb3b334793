"""The estimator with scikit-learn's manners: scikit-learn's own checks, and the numbers of the one beneath it."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from deepjuice.alignment import TorchRidgeGCV
from deepjuice.alignment.encoding.sklearn_ridge import RidgeGCV
from tests import oracles
from tests.alignment.simulation import ALPHAS, simulated


@parametrize_with_checks([RidgeGCV(), RidgeGCV(scoring="pearsonr", alpha_per_target=False, scale_X=False)])
def test_passes_every_check_of_sklearn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
@pytest.mark.parametrize("one_target", [True, False])
def test_is_the_torch_estimator(shape, one_target):
    X, Y = simulated(*shape)
    Y = Y[:, 1] if one_target else Y
    ours = RidgeGCV(ALPHAS, store_cv_values=True).fit(X, Y)
    torch_ridge = TorchRidgeGCV(ALPHAS, store_cv_values=True).fit(X, Y)
    for name in ("alpha_", "score_", "cv_y_pred_", "cv_values_", "coef_", "intercept_"):
        value = getattr(ours, name)
        np.testing.assert_allclose(value, getattr(torch_ridge, name), rtol=1e-10, atol=1e-12)
        assert not isinstance(value, torch.Tensor)
    np.testing.assert_allclose(ours.predict(X[:3]), torch_ridge.predict(X[:3]), rtol=1e-10)
    assert isinstance(ours.intercept_, float) == one_target


def test_in_a_pipeline_it_equals_sklearn():
    X, Y = simulated(30, 50, dtype=np.float32)
    pipeline = make_pipeline(StandardScaler(), RidgeGCV(ALPHAS, scale_X=False)).fit(X.astype(np.float64), Y)
    sk = oracles.sklearn_ridge_cv(oracles.scaled(X), Y, ALPHAS)
    np.testing.assert_array_equal(pipeline[-1].alpha_, sk.alpha_)
    np.testing.assert_allclose(pipeline.predict(X.astype(np.float64)), sk.predict(oracles.scaled(X)), atol=1e-9)
    score = pipeline.score(X.astype(np.float64), Y)
    assert isinstance(score, float)
    assert score == pytest.approx(sk.score(oracles.scaled(X), Y.astype(np.float64)), abs=1e-9)


def test_in_a_grid_search():
    X, Y = simulated(30, 10, n_targets=2)
    search = GridSearchCV(RidgeGCV(), {"fit_intercept": [True, False]}, cv=3).fit(X, Y + 100)
    assert search.best_params_ == {"fit_intercept": True}


@pytest.mark.parametrize("change", [lambda v: v[::-1, ::-1], np.asfortranarray, lambda v: v.astype(">f8")])
def test_layouts_change_nothing(change):
    X, Y = simulated(24, 10)
    X, Y = X[::-1, ::-1].copy(), Y[::-1, ::-1].copy()
    changed = RidgeGCV(ALPHAS).fit(change(X), change(Y))
    plain = RidgeGCV(ALPHAS).fit(np.ascontiguousarray(change(X)), np.ascontiguousarray(change(Y)).astype(float))
    np.testing.assert_array_equal(changed.alpha_, plain.alpha_)
    np.testing.assert_allclose(changed.predict(change(X)), plain.predict(change(X)), rtol=1e-12)


def test_read_only_arrays_are_taken():
    X, Y = simulated(24, 10)
    X.flags.writeable = Y.flags.writeable = False
    assert RidgeGCV().fit(X, Y).predict(X).shape == Y.shape
