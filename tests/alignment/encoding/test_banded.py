"""Banded ridge against himalaya, and against the same regression on columns weighted by hand."""

import numpy as np
import pytest
import torch
from himalaya.ridge import solve_group_ridge_random_search
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from deepjuice.alignment import TorchRidgeGCV
from deepjuice.alignment.encoding.banded import BandedRidge, simplex_candidates
from deepjuice.alignment.encoding.crossval import cross_val_predict
from juicyfruits.errors import InputError
from tests import oracles

ALPHAS = np.logspace(-1, 3, 5)


def spaces_and_targets(n=26, widths=(5, 9, 40), seed=0, dtype=np.float64):
    """Three spaces of other scales and offsets; targets of the first, the second, both, and of noise."""
    rng = np.random.default_rng(seed)
    spaces = {
        name: rng.normal(size=(n, p)) * 3 + rng.normal(size=p) * 10 for name, p in zip("abc", widths, strict=True)
    }
    a, b = (oracles.scaled(spaces[name]) @ rng.normal(size=(len(spaces[name].T), 1)) for name in "ab")
    Y = np.concatenate([a, b, a + b, np.zeros((n, 1))], 1) + rng.normal(size=(n, 4)) + 20
    return {name: X.astype(dtype) for name, X in spaces.items()}, Y.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "widths"), [(26, (5, 9, 40)), (60, (3, 4, 8))], ids=["wide", "tall"])
def test_weights_alphas_and_coefficients_are_himalayas(n, widths, dtype):
    spaces, Y = spaces_and_targets(n, widths, dtype=dtype)
    model = BandedRidge(ALPHAS, n_random=6, seed=3).fit(spaces, Y)
    candidates = simplex_candidates(3, 6, 3)
    deltas, weights, scores, intercept = solve_group_ridge_random_search(
        [oracles.scaled(X) for X in spaces.values()],
        Y.astype(np.float64),
        n_iter=np.maximum(candidates, 1e-30),
        alphas=ALPHAS,
        fit_intercept=True,
        cv=KFold(n),  # leaves one out
        return_weights=True,
        progress_bar=False,
        warn=False,
    )
    np.testing.assert_allclose(model.score_, np.max(scores, axis=0), rtol=1e-6)
    np.testing.assert_allclose(model.gamma_ / model.alpha_, np.exp(deltas), rtol=1e-6, atol=1e-20)
    assert len({tuple(gamma) for gamma in model.gamma_.T.tolist()}) > 1
    Z = np.concatenate([oracles.scaled(X) for X in spaces.values()], 1)
    np.testing.assert_allclose(model.predict(spaces), Z @ weights + intercept, rtol=1e-6, atol=1e-6)


def test_every_target_is_its_own_ridge_on_weighted_columns():
    spaces, Y = spaces_and_targets()
    model = BandedRidge(ALPHAS, n_random=8).fit(spaces, Y)
    new, _ = spaces_and_targets(seed=9)
    for j in range(Y.shape[1]):
        share = np.repeat(model.gamma_[:, j].numpy() ** 0.5, [X.shape[1] for X in spaces.values()])
        Z, Z_new = (
            np.concatenate([oracles.scaled(spaces[name], s[name]) for name in spaces], 1) * share for s in (spaces, new)
        )
        expected = Ridge(model.alpha_[j].item()).fit(Z, Y[:, j]).predict(Z_new)
        np.testing.assert_allclose(model.predict(new)[:, j], expected, rtol=1e-8)
        one = BandedRidge(ALPHAS, n_random=8).fit(spaces, Y[:, j])
        np.testing.assert_allclose(one.predict(new), expected, rtol=1e-8)
        assert one.alpha_.ndim == 0 and one.gamma_.shape == (3,) and one.coef_["b"].shape == (9,)
    parts = model.predict_parts(new)
    torch.testing.assert_close(
        sum(parts.values()) + torch.tensor(Y.mean(axis=0)), model.predict(new), rtol=1e-9, atol=1e-9
    )
    assert abs(model.predict_parts(spaces)["a"].mean(dim=0)).max() < 1e-9


def test_one_space_is_ridge():
    spaces, Y = spaces_and_targets()
    ridge = TorchRidgeGCV(ALPHAS).fit(spaces["c"], Y)
    banded = BandedRidge(ALPHAS).fit({"c": spaces["c"]}, Y)
    torch.testing.assert_close(banded.alpha_, ridge.alpha_)
    torch.testing.assert_close(banded.score_, ridge.score_)
    torch.testing.assert_close(banded.predict({"c": spaces["c"]}), ridge.predict(spaces["c"]), rtol=1e-9, atol=1e-9)


def test_a_space_of_noise_is_weighted_away():
    spaces, Y = spaces_and_targets(n=60, widths=(5, 9, 300))
    model = BandedRidge(n_random=20).fit(spaces, Y)
    assert (model.gamma_[2, :3] < 0.1).all()
    joined = TorchRidgeGCV().fit(np.concatenate(list(spaces.values()), 1), Y)
    assert (model.score_[:3] > joined.score_[:3] + 0.5).all()


def test_awkward_columns():
    spaces, Y = spaces_and_targets()
    spaces["b"][:, 0] = 0.1
    spaces["c"][:, 1] = spaces["c"][:, 0]
    spaces["c"][:, 2] *= 1e-90
    spaces["c"][:, 3] *= 1e90
    Y[:, 3] = 5.0
    Y[:, 2] *= 1e12
    model = BandedRidge(ALPHAS, n_random=4).fit(spaces, Y)
    assert (model.coef_["b"][0] == 0).all()
    assert model.gamma_[:, 3].tolist() == pytest.approx([1 / 3] * 3), "of equally good weights the first"
    predicted = model.predict(spaces)
    torch.testing.assert_close(predicted[:, 3], torch.full((26,), 5.0, dtype=torch.float64))
    spaces["b"] = spaces["b"][:, 1:]
    without = BandedRidge(ALPHAS, n_random=4).fit(spaces, Y).predict(spaces)
    torch.testing.assert_close(predicted, without, rtol=1e-9, atol=1e-9)
    constant = BandedRidge(ALPHAS, n_random=4, scoring="pearsonr").fit(spaces, Y)
    assert constant.score_.isnan().tolist() == [False, False, False, True]
    assert constant.gamma_[:, 3].tolist() == pytest.approx([1 / 3] * 3)


def test_features_that_are_rounding_noise_are_constant():
    spaces, Y = spaces_and_targets(dtype=np.float32)
    spaces["b"][:, 0] = 3.0 + np.float32(3e-7) * (np.arange(26) % 2)  # the last bit of float32
    assert (BandedRidge(ALPHAS, n_random=2).fit(spaces, Y).coef_["b"][0] == 0).all()


def test_it_can_be_cross_validated():
    spaces, Y = spaces_and_targets()
    encoder = BandedRidge(ALPHAS, n_random=3)
    train, test = np.arange(13, 26), np.arange(13)
    predicted = cross_val_predict(spaces, Y, [(train, test), (test, train)], encoder=encoder)[:13]
    expected = BandedRidge(ALPHAS, n_random=3).fit({k: X[13:] for k, X in spaces.items()}, Y[13:])
    torch.testing.assert_close(predicted, expected.predict({k: X[:13] for k, X in spaces.items()}))


def test_candidates_lie_on_the_simplex_and_follow_the_seed():
    candidates = simplex_candidates(4, 30, seed=2)
    assert candidates.shape == (35, 4) and (candidates >= 0).all()
    np.testing.assert_allclose(candidates.sum(axis=1), 1)
    np.testing.assert_array_equal(candidates[:5], [[0.25] * 4, *np.eye(4)])
    np.testing.assert_array_equal(candidates, simplex_candidates(4, 30, seed=2))
    assert not np.array_equal(candidates, simplex_candidates(4, 30, seed=3))
    assert candidates[6::2].max(axis=1).mean() > candidates[5::2].max(axis=1).mean() + 0.2
    np.testing.assert_array_equal(simplex_candidates(1, 5), [[1.0]])


def test_what_cannot_be_done_is_refused():
    spaces, Y = spaces_and_targets()
    with pytest.raises(InputError, match="call fit"):
        BandedRidge().predict(spaces)
    model = BandedRidge(ALPHAS, n_random=0).fit(spaces, Y)
    for wrong in ({"a": spaces["a"]}, {**spaces, "b": spaces["a"]}):
        with pytest.raises(InputError, match=r"columns of the fit, {'a': 5, 'b': 9, 'c': 40}, but"):
            model.predict(wrong)
    with pytest.raises(InputError, match="The feature space 'b' has 1 of"):
        BandedRidge().fit({**spaces, "b": np.where(spaces["b"] == spaces["b"][0, 0], np.nan, spaces["b"])}, Y)
    with pytest.raises(InputError, match="Y must have the 26 stimuli"):
        BandedRidge().fit(spaces, Y[1:])
    with pytest.raises(InputError, match="is unknown"):
        BandedRidge(scoring="r3")
    with pytest.raises(InputError, match="positive number"):
        BandedRidge([0.0]).fit(spaces, Y)
    with pytest.raises(InputError, match="none came"):
        BandedRidge().fit({}, Y)


def test_numbers_of_weightings_and_values_that_overflow_are_refused():
    X, Y = np.random.default_rng(0).normal(size=(2, 12, 3))
    for number in (-1, 1.5, "2"):
        with pytest.raises(InputError, match="n_random must be a whole number"):
            BandedRidge(n_random=number).fit({"a": X}, Y)
    with pytest.raises(InputError, match="too large"):
        BandedRidge(n_random=1).fit({"a": X, "b": 1e300 * X}, Y)
