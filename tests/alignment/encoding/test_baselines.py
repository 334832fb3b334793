"""The baselines against scikit-learn itself, and against closed forms."""

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.model_selection import KFold
from sklearn.model_selection import cross_val_predict as sklearn_cross_val_predict

from deepjuice.alignment import compute_score
from deepjuice.alignment.encoding.baselines import PLS, LeastSquares
from deepjuice.alignment.encoding.crossval import cross_val_predict
from juicyfruits.errors import InputError
from tests.alignment.simulation import simulated


@pytest.mark.parametrize("shape", [(50, 12), (24, 24), (24, 60)], ids=["tall", "square", "wide"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_least_squares_is_the_pseudoinverse(shape, dtype):
    X, Y = simulated(*shape, dtype=dtype, offset=100.0)
    X[:, 1], X[:, 2] = X[:, 0], 7.0
    new, _ = simulated(*shape, seed=1, dtype=dtype)
    model = LeastSquares().fit(X, Y)
    wide_X, wide_Y = X.astype(float), Y.astype(float)
    weights = np.linalg.pinv(wide_X - wide_X.mean(0), rcond=1e-12) @ (wide_Y - wide_Y.mean(0))
    expected = (new.astype(float) - wide_X.mean(0)) @ weights + wide_Y.mean(0)
    np.testing.assert_allclose(model.predict(new), expected, rtol=1e-7, atol=1e-7)
    one = LeastSquares().fit(torch.tensor(X), torch.tensor(Y[:, 1])).predict(torch.tensor(new))
    assert one.dtype == torch.float64 and one.shape == (len(X),)
    np.testing.assert_allclose(one, expected[:, 1], rtol=1e-7, atol=1e-7)


def by_folds(X, Y, n, cv, scoring):
    parts = []
    for train, test in cv.split(X):
        predicted = PLSRegression(n).fit(X[train], Y[train]).predict(X[test])
        parts.append(compute_score(Y[test], predicted, scoring).nanmean())
    return np.mean(parts)


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
def test_components_are_chosen_by_folds_within_the_fit(scoring):
    X, Y = simulated(40, 20)
    cv, numbers = KFold(4), (8, 5, 1, 3, 2)
    model = PLS(numbers, cv, scoring).fit(X, Y)
    expected = [by_folds(X, Y, n, cv, scoring) for n in numbers]
    np.testing.assert_allclose(model.scores_, expected, rtol=1e-9)
    assert model.n_components_ == numbers[int(np.argmax(expected))] != numbers[0]
    new, _ = simulated(40, 20, seed=3)
    np.testing.assert_allclose(model.predict(new), PLSRegression(model.n_components_).fit(X, Y).predict(new), rtol=1e-9)


def test_a_number_of_components_is_taken_as_it_is():
    X, Y = simulated(40, 20)
    expected = PLSRegression(3).fit(X, Y[:, 1]).predict(X)
    model = PLS(3).fit(X, Y[:, 1])
    assert model.n_components_ == 3 and not hasattr(model, "scores_")
    np.testing.assert_allclose(model.predict(X), expected.reshape(-1), rtol=1e-9)


@pytest.mark.filterwarnings("ignore:y residual is constant")
def test_constant_targets_have_no_say():
    X, Y = simulated(40, 20)
    Y[:, 2] = 4.0
    model = PLS((1, 3), KFold(4)).fit(X, Y)
    kept = [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(model.scores_, PLS((1, 3), KFold(4)).fit(X, Y[:, kept]).scores_, rtol=1e-6)
    np.testing.assert_allclose(model.predict(X)[:, 2], 4.0)


def test_they_can_be_cross_validated():
    X, Y = simulated(40, 12)
    expected = sklearn_cross_val_predict(PLSRegression(3), X, Y, cv=KFold(4))
    np.testing.assert_allclose(cross_val_predict(X, Y, KFold(4), encoder=PLS(3)), expected, rtol=1e-9)


@pytest.mark.parametrize("model", [PLS(2), LeastSquares()], ids=["pls", "least squares"])
def test_what_cannot_be_done_is_refused(model):
    X, Y = simulated(20, 6)
    with pytest.raises(InputError, match=f"This {type(model).__name__} has nothing"):
        model.predict(X)
    with pytest.raises(InputError, match="they have 20 and 19"):
        model.fit(X, Y[1:])
    with pytest.raises(InputError, match="values that are NaN"):
        model.fit(X, np.full_like(Y, np.nan))
    with pytest.raises(InputError, match="must have the 6 features"):
        model.fit(X, Y).predict(X[:, 1:])


@pytest.mark.filterwarnings("ignore:y residual is constant")
def test_too_many_components_are_refused():
    X, Y = simulated(20, 18)
    PLS(18).fit(X, Y)
    PLS((1, 14), 4).fit(X, Y)  # 15 rows less their mean are of rank 14
    with pytest.raises(InputError, match="has 18 components at most, but 19"):
        PLS(19).fit(X, Y)
    with pytest.raises(InputError, match="has 14 components at most, but 15"):
        PLS((1, 15), 4).fit(X, Y)
    for numbers in ((), 0, (3, 0), 2.5, "2", None, True):
        with pytest.raises(InputError, match="from 1 up"):
            PLS(numbers)


def test_components_beyond_the_rank_are_refused_rather_than_made_of_rounding():
    X, Y = simulated(20, 3)
    repeated, constant = np.repeat(X[:, :1], 5, axis=1), np.full_like(X, 0.1)
    with pytest.raises(InputError, match="of rank 1 has 1 components at most, but 3"):
        PLS(3).fit(repeated, Y)  # scikit-learn predicts values of 1e15 here
    with pytest.raises(InputError, match="of rank 0"):
        PLS(1).fit(constant, Y)
    one = torch.as_tensor(PLS(1).fit(X[:, :1], Y).predict(X[:, :1]))
    torch.testing.assert_close(torch.as_tensor(PLS(1).fit(repeated, Y).predict(repeated)), one)
    assert PLS(np.int64(2)).fit(X, Y).n_components_ == 2


@pytest.mark.parametrize("model", [PLS(1), LeastSquares()], ids=["PLS", "LeastSquares"])
def test_the_rounding_of_a_constant_feature_is_no_feature(model):
    X, Y = simulated(20, 3)
    flat = np.full((20, 1), 0.1)
    flat[::3] = np.nextafter(0.1, 1)
    expected = model.fit(X, Y).predict(X)
    torch.testing.assert_close(model.fit(np.hstack([X, flat]), Y).predict(np.hstack([X, flat])), expected)
