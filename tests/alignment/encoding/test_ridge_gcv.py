"""The estimator against scikit-learn's RidgeCV, and its manners."""

import numpy as np
import pytest
import torch

from deepjuice.alignment import TorchRidgeGCV, compute_score, pearsonr
from juicyfruits.errors import InputError
from tests import oracles
from tests.alignment.simulation import ALPHAS, SHAPES, simulated


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale_X", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_equals_sklearn(shape, dtype, scale_X, fit_intercept):
    X, Y = simulated(*shape, dtype=dtype, offset=5.0)
    X_test = simulated(*shape, seed=9, dtype=dtype)[0]
    X_ref, X_test_ref = (oracles.scaled(X, v) if scale_X else v.astype(np.float64) for v in (X, X_test))
    sk = oracles.sklearn_ridge_cv(X_ref, Y, ALPHAS, fit_intercept)
    ours = TorchRidgeGCV(ALPHAS, scale_X=scale_X, fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_array_equal(ours.alpha_, sk.alpha_)
    np.testing.assert_allclose(ours.score_, sk.best_score_, rtol=1e-7)
    np.testing.assert_allclose(ours.predict(X_test), sk.predict(X_test_ref), rtol=1e-7, atol=1e-8)
    std = X.astype(np.float64).std(axis=0) if scale_X else 1.0
    shift = X.astype(np.float64).mean(axis=0) if scale_X else 0.0
    np.testing.assert_allclose(ours.coef_, sk.coef_ / std, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, sk.intercept_ - (sk.coef_ / std * shift).sum(axis=1), atol=1e-6)
    linear = X_test.astype(np.float64) @ ours.coef_.numpy().T + ours.intercept_.numpy()
    np.testing.assert_allclose(ours.predict(X_test), linear, rtol=1e-9, atol=1e-9)


def test_one_shared_alpha_is_sklearns():
    from sklearn.linear_model import RidgeCV

    X, Y = simulated(30, 50)
    ours = TorchRidgeGCV(ALPHAS, alpha_per_target=False).fit(X, Y)
    sk = RidgeCV(ALPHAS).fit(oracles.scaled(X), Y)
    assert ours.alpha_.shape == (7,) and set(ours.alpha_.tolist()) == {sk.alpha_}


def test_predictions_keep_the_mean_of_the_target():
    X, Y = simulated(40, 10, offset=1000.0)
    model = TorchRidgeGCV().fit(X, Y)
    np.testing.assert_allclose(model.predict(X).mean(dim=0), Y.mean(axis=0), rtol=1e-12)
    assert 900 < model.predict(X[:1]).min() < model.predict(X[:1]).max() < 1100


def test_leave_one_out_predictions_at_the_chosen_alphas():
    X, Y = simulated(24, 60)
    model = TorchRidgeGCV(ALPHAS).fit(X, Y)
    for k, alpha in enumerate(model.alpha_.tolist()):
        expected = oracles.leave_one_out(oracles.scaled(X), Y[:, k : k + 1], alpha)[:, 0]
        np.testing.assert_allclose(model.cv_y_pred_[:, k], expected, rtol=0, atol=1e-9)


def test_one_target_has_no_target_axis():
    X, Y = simulated(20, 30)
    one, many = TorchRidgeGCV(ALPHAS, store_cv_values=True), TorchRidgeGCV(ALPHAS, store_cv_values=True)
    one.fit(X, Y[:, 2])
    many.fit(X, Y)
    assert one.alpha_.shape == one.score_.shape == one.intercept_.shape == ()
    assert one.coef_.shape == (30,) and many.coef_.shape == (7, 30)
    assert one.cv_values_.shape == (7,) and many.cv_values_.shape == (7, 7)
    torch.testing.assert_close(one.predict(X), many.predict(X)[:, 2])
    torch.testing.assert_close(one.cv_y_pred_, many.cv_y_pred_[:, 2])
    torch.testing.assert_close(one.score(X, Y[:, 2], "pearsonr"), many.score(X, Y, "pearsonr")[2])


def test_score_is_per_target_and_by_the_scoring():
    X, Y = simulated(20, 30)
    model = TorchRidgeGCV(scoring="pearsonr").fit(torch.tensor(X), Y.astype(np.float32))
    torch.testing.assert_close(model.score(X, Y), pearsonr(Y, model.predict(X)))
    np.testing.assert_allclose(
        model.score(X, Y, "neg_mean_squared_error"), -((model.predict(X).numpy() - Y) ** 2).mean(axis=0)
    )


def test_refitting_forgets_the_first_fit():
    X, Y = simulated(20, 30)
    model = TorchRidgeGCV(ALPHAS).fit(X, Y)
    assert model.coef_.shape == (7, 30) and model.score_.shape == (7,) and model.cv_y_pred_.shape == (20, 7)
    model.fit(X[:, :5], Y[:, 0])
    assert model.coef_.shape == (5,) and model.score_.shape == () and model.cv_y_pred_.shape == (20,)


def test_a_fit_that_fails_leaves_the_one_before_and_another_drops_its_values():
    X, Y = simulated(24, 5, n_targets=3)
    model = TorchRidgeGCV(ALPHAS, store_cv_values=True).fit(X, Y)
    expected = model.predict(X)
    model.alphas = [-1.0]
    for x, y, words in ((X[:20], Y[:20, :2], "positive number"), (X, Y[:20, 0], "24 and 20")):
        with pytest.raises(InputError, match=words):
            model.fit(x, y)
        assert torch.equal(model.predict(X), expected) and model.cv_values_.shape == (len(ALPHAS), 3)
    model.alphas, model.store_cv_values = ALPHAS, False
    assert not hasattr(model.fit(X, 2 * Y), "cv_values_")


def test_noise_scores_below_zero_by_correlation():
    """The numbers of the docstring: the mean of the others leans away from the stimulus that is left out."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(100, 4000)), rng.normal(size=(100, 2000))
    model = TorchRidgeGCV([0.1, 1e5], scoring="pearsonr", store_cv_values=True).fit(X, Y)
    np.testing.assert_allclose(model.cv_values_.mean(dim=1), [-0.07, -0.86], atol=0.015)
    assert (model.alpha_ == 0.1).all()
    unbiased = TorchRidgeGCV([0.1, 1e5]).fit(X, Y)
    assert (unbiased.alpha_ == 1e5).float().mean() > 0.6


@pytest.mark.parametrize("alpha_per_target", [True, False])
@pytest.mark.parametrize("scoring", ["neg_mean_squared_error", "spearmanr"])
def test_the_score_is_of_the_leave_one_out_predictions(scoring, alpha_per_target):
    X, Y = simulated(24, 60)
    model = TorchRidgeGCV(ALPHAS, scoring=scoring, alpha_per_target=alpha_per_target).fit(X, Y)
    torch.testing.assert_close(model.score_, compute_score(Y, model.cv_y_pred_, scoring), rtol=1e-9, atol=1e-12)
    stored = TorchRidgeGCV(ALPHAS, scoring=scoring, alpha_per_target=alpha_per_target, store_cv_values=True).fit(X, Y)
    assert torch.equal(stored.alpha_, model.alpha_)
    row = [ALPHAS.tolist().index(alpha) for alpha in stored.alpha_.tolist()]
    torch.testing.assert_close(stored.cv_values_[row, range(7)], model.score_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(24, 60), (24, 24), (50, 12)], ids=["wide", "square", "tall"])
@pytest.mark.parametrize("alpha", [0.1, 100.0])
def test_one_alpha_is_himalayas_kernel_ridge(shape, alpha):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidge

    set_backend("numpy")
    X, Y = simulated(*shape)
    X_test = simulated(*shape, seed=9)[0]
    reference = KernelRidge(alpha, fit_intercept=True).fit(oracles.scaled(X), Y)
    ours = TorchRidgeGCV([alpha]).fit(X, Y)
    np.testing.assert_allclose(ours.predict(X_test), reference.predict(oracles.scaled(X, X_test)), atol=1e-9)


def test_moving_keeps_everything():
    X, Y = simulated(24, 60)
    model = TorchRidgeGCV(ALPHAS, store_cv_values=True).fit(X, Y)
    before = [model.predict(X), model.score_, model.cv_y_pred_, model.coef_, model.intercept_]
    assert model.to("cpu") is model and "score_" not in vars(model), "what was made when asked is made again"
    after = [model.predict(X), model.score_, model.cv_y_pred_, model.coef_, model.intercept_]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert model.cv_values_.shape == (7, 7)


def test_bad_input_is_named():
    X, Y = simulated(10, 5)
    with pytest.raises(InputError, match="call fit"):
        TorchRidgeGCV().predict(X)
    for name in ("coef_", "intercept_", "score_", "cv_y_pred_"):
        with pytest.raises(InputError, match="call fit"):
            getattr(TorchRidgeGCV(), name)
    with pytest.raises(InputError, match="they have 10 and 9"):
        TorchRidgeGCV().fit(X, Y[:9])
    with pytest.raises(InputError, match="'neg_mean_squared_error'"):
        TorchRidgeGCV(scoring="mean_squared_error")
    with pytest.raises(InputError, match="1 or 2 dimensions"):
        TorchRidgeGCV().fit(X[None], Y)
    with pytest.raises(InputError, match="NaN"):
        TorchRidgeGCV().fit(X, Y).predict(np.full((2, 5), np.nan))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
def test_cuda_equals_cpu(shape):
    X, Y = simulated(*shape)
    cpu, gpu = TorchRidgeGCV(ALPHAS).fit(X, Y), TorchRidgeGCV(ALPHAS, device="cuda").fit(X, Y)
    assert gpu.predict(X).is_cuda and torch.equal(cpu.alpha_, gpu.alpha_.cpu())
    torch.testing.assert_close(cpu.predict(X), gpu.predict(X).cpu())
    torch.testing.assert_close(cpu.cv_y_pred_, gpu.to("cpu").cv_y_pred_)
    torch.testing.assert_close(cpu.coef_, gpu.coef_)
