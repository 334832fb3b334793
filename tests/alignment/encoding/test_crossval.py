"""Cross-validation against scikit-learn's pipelines, fold by fold."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from sklearn.model_selection import cross_val_predict as sklearn_cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepjuice.alignment import TorchRidgeGCV, compute_score
from deepjuice.alignment.encoding.banded import BandedRidge
from deepjuice.alignment.encoding.crossval import cross_val_predict, cross_val_score
from deepjuice.splits import CVIndexer
from juicyfruits.errors import InputError
from tests.alignment.simulation import ALPHAS, simulated


def reference():
    return make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True))


ENCODER = TorchRidgeGCV(ALPHAS)


@pytest.mark.parametrize("shape", [(30, 70), (32, 24), (60, 9)], ids=["wide", "square in training", "tall"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_are_those_of_a_pipeline(shape, dtype):
    X, Y = simulated(*shape, dtype=dtype, offset=50.0)
    cv = KFold(4, shuffle=True, random_state=1)
    expected = sklearn_cross_val_predict(reference(), X.astype(float), Y.astype(float), cv=cv)
    np.testing.assert_allclose(cross_val_predict(X, Y, cv, encoder=ENCODER), expected, rtol=1e-7, atol=1e-7)
    one = cross_val_predict(torch.tensor(X), torch.tensor(Y[:, 1]), cv, encoder=ENCODER)
    assert one.shape == (shape[0],)
    np.testing.assert_allclose(one, expected[:, 1], rtol=1e-7, atol=1e-7)


class Spy:
    """An encoder that notes the rows it is given: the features are row numbers."""

    seen: list = []  # noqa: RUF012

    def fit(self, X, Y):
        self.seen.append((X[:, 0].tolist(), Y.tolist()))

    def predict(self, X):
        self.seen.append(X[:, 0].tolist())
        return X[:, 0]


def test_nothing_of_the_test_rows_enters_a_fit():
    rows = np.arange(6.0)
    splits = [([0, 2], [5, 1]), ([5, 3], [0, 2, 4]), ([0], [3])]
    predicted = cross_val_predict(rows, rows * 10, splits, encoder=Spy())
    assert predicted.tolist() == rows.tolist()
    fits, tests = Spy.seen[::2], Spy.seen[1::2]
    assert [train for train, _ in splits] == [x for x, _ in fits]
    assert all([10 * row for row in x] == y for x, y in fits)
    assert [test for _, test in splits] == tests


@pytest.mark.parametrize("scoring", ["pearsonr", "spearmanr", "r2", "neg_mean_squared_error"])
def test_scores_are_those_of_every_fold(scoring):
    X, Y = simulated(30, 12)
    folds = CVIndexer(30, iterations=2, random_state=5).kfold_split(3)
    scores = cross_val_score(X, Y, folds, encoder=ENCODER, scoring=scoring)
    splits = [split for iteration in folds for split in iteration.values()]
    assert scores.shape == (6, Y.shape[1])
    for ours, split in zip(scores, splits, strict=True):
        predicted = reference().fit(X[split["train"]], Y[split["train"]]).predict(X[split["test"]])
        torch.testing.assert_close(ours, compute_score(Y[split["test"]], predicted, scoring), rtol=1e-7, atol=1e-7)
    one = cross_val_score(X, Y[:, 2], folds, encoder=ENCODER, scoring=scoring)
    torch.testing.assert_close(one, scores[:, 2], rtol=1e-12, atol=1e-12)


def test_repeated_folds_are_averaged_and_groups_stay_together():
    X, Y = simulated(24, 10)
    folds = CVIndexer(24, iterations=3, random_state=0).kfold_split(3)
    mean = sum(cross_val_predict(X, Y, iteration, encoder=ENCODER) for iteration in folds) / 3
    torch.testing.assert_close(cross_val_predict(X, Y, folds, encoder=ENCODER), mean, rtol=1e-12, atol=1e-12)
    uneven = [*({"train": s["train"], "test": s["test"]} for s in folds[0].values()), folds[1][0]]
    expected = cross_val_predict(X, Y, folds[0], encoder=ENCODER)
    again = cross_val_predict(X, Y, folds[1], encoder=ENCODER)[folds[1][0]["test"]]
    expected[folds[1][0]["test"]] = (expected[folds[1][0]["test"]] + again) / 2
    torch.testing.assert_close(cross_val_predict(X, Y, uneven, encoder=ENCODER), expected, rtol=1e-12, atol=1e-12)
    groups = np.arange(24) // 2
    grouped = sklearn_cross_val_predict(reference(), X, Y, cv=GroupKFold(4), groups=groups)
    np.testing.assert_allclose(cross_val_predict(X, Y, 4, groups, encoder=ENCODER), grouped, rtol=1e-8, atol=1e-8)


def test_the_default_encoder_is_ridge_and_the_callers_stays_unfitted():
    X, Y = simulated(24, 10)
    mine = TorchRidgeGCV()
    torch.testing.assert_close(cross_val_predict(X, Y, 4), cross_val_predict(X, Y, 4, encoder=mine), rtol=0, atol=0)
    assert not hasattr(mine, "alpha_")


def test_awkward_columns_have_the_scores_of_one_fit():
    X, Y = simulated(24, 10)
    X[:, 3], X[:, 4] = 7.0, X[:, 5]  # constant, collinear
    X[:, 6] *= 1e-12
    X[:, 7] *= 1e12
    Y[:, 0] = 3.0
    Y[:8, 1] = 1.0  # constant within a fold only
    X[10] = X[2]
    scores = cross_val_score(X, Y, KFold(3), encoder=ENCODER)
    assert torch.isnan(scores[:, 0]).all() and torch.isnan(scores[:, 1]).tolist() == [True, False, False]
    assert torch.isfinite(scores[:, 2:]).all()
    expected = sklearn_cross_val_predict(reference(), X, Y, cv=KFold(3))
    np.testing.assert_allclose(cross_val_predict(X, Y, KFold(3), encoder=ENCODER), expected, rtol=1e-7, atol=1e-7)


def test_what_cannot_be_done_is_refused():
    X, Y = simulated(24, 10)
    with pytest.raises(InputError, match="but 15 of 24 are in none"):
        cross_val_predict(X, Y, ShuffleSplit(2, test_size=5, random_state=3))
    with pytest.raises(InputError, match="they have 24 and 23"):
        cross_val_score(X, Y[:-1])
    with pytest.raises(InputError, match="score 'r3' is unknown"):
        cross_val_score(X, Y, scoring="r3")
    with pytest.raises(InputError, match="one has 1; give fewer folds"):
        cross_val_score(X, Y, 24)
    with pytest.raises(InputError, match="X has 1 of 240 values that are NaN"):
        cross_val_score(np.where(X[3, 3] == X, np.nan, X), Y)
    with pytest.raises(InputError, match="none came"):
        cross_val_score({}, Y)
    with pytest.raises(InputError, match=r"they have \{'a': 24, 'b': 23\}"):
        cross_val_score({"a": X, "b": X[1:]}, Y)
    with pytest.raises(InputError, match="give a BandedRidge"):
        cross_val_score({"a": X}, Y)
    with pytest.raises(InputError, match="but a ndarray came"):
        BandedRidge().fit(X, Y)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_features_stay_on_their_device():
    X, Y = simulated(24, 10)
    predicted = cross_val_predict(torch.tensor(X, device="cuda"), Y, 4)
    assert predicted.is_cuda
    torch.testing.assert_close(predicted.cpu(), cross_val_predict(X, Y, 4), rtol=1e-9, atol=1e-9)
    scores = cross_val_score(
        {"a": torch.tensor(X, device="cuda")}, Y, 4, encoder=BandedRidge(n_random=0, device="cuda")
    )
    expected = cross_val_score({"a": X}, Y, 4, encoder=BandedRidge(n_random=0))
    torch.testing.assert_close(scores.cpu(), expected, rtol=1e-9, atol=1e-9)


def test_an_encoder_of_scikit_learn_may_answer_in_arrays():
    X, Y = simulated(24, 5)
    found = cross_val_predict(X, Y, cv=KFold(3), encoder=LinearRegression())
    np.testing.assert_allclose(
        found, sklearn_cross_val_predict(LinearRegression(), np.asarray(X), np.asarray(Y), cv=KFold(3))
    )
    for encoder in ("ridge", TorchRidgeGCV):
        with pytest.raises(InputError, match="object with fit and predict"):
            cross_val_predict(X, Y, encoder=encoder)


def test_tables_are_taken_as_arrays_are():
    X, Y = (np.asarray(values, dtype=float) for values in simulated(24, 5))
    expected = cross_val_predict(X, Y, cv=3)
    for kind in (pd.DataFrame, np.ndarray.tolist, lambda values: values.astype(">f8")):
        assert torch.equal(cross_val_predict(kind(X), kind(Y), cv=3), expected)
    assert cross_val_predict(X, pd.Series(Y[:, 0]), cv=3).shape == (24,)
