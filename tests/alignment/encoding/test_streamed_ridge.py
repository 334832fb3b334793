"""Ridge from statistics against scikit-learn, fold by fold, on the images themselves."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepjuice.alignment import compute_score
from deepjuice.alignment.encoding.streamed_ridge import (
    STREAMED_SCORES,
    held_out_scores,
    kfold_ridge,
    streamed_coefficients,
)
from deepjuice.alignment.encoding.streaming import RidgeStatistics
from juicyfruits.errors import InputError
from tests.alignment.simulation import ALPHAS, simulated

K = 4


def folds_of(n, seed=5):
    return np.random.default_rng(seed).permutation(np.arange(n) % K)


def statistics(X, Y, folds, step=17, **places):
    stats = RidgeStatistics(X.shape[1], Y.shape[1], K, **places)
    for start in range(0, len(X), step):
        stats.update(*(values[start : start + step] for values in (X, Y, folds)))
    return stats


def predict(X, Y, train, test, alpha):
    model = make_pipeline(StandardScaler(), Ridge(alpha, solver="svd"))
    return model.fit(X[train].astype(float), Y[train].astype(float)).predict(X[test].astype(float))


def table(X, Y, folds, scoring, used=range(K)):
    """Mean over folds of a score of scikit-learn's predictions, (alphas, targets)."""
    scores = []
    for alpha in ALPHAS:
        parts = []
        for fold in used:
            train, test = np.isin(folds, used) & (folds != fold), folds == fold
            parts.append(compute_score(Y[test].astype(float), predict(X, Y, train, test, alpha), scoring))
        scores.append(torch.stack(parts).mean(dim=0))
    return torch.stack(scores)


SHAPES = {"tall": (60, 9), "few more images": (60, 40), "wide": (40, 55)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("scoring", STREAMED_SCORES)
def test_scores_and_alphas_are_those_of_every_fold(shape, scoring):
    X, Y = simulated(*shape, offset=30.0)
    folds = folds_of(len(X))
    expected = table(X, Y, folds, scoring)
    chosen = kfold_ridge(statistics(X, Y, folds), ALPHAS, scoring)
    torch.testing.assert_close(chosen.scores, expected, rtol=1e-8, atol=1e-8)
    best = expected.argmax(dim=0)
    assert len(set(best.tolist())) > 1
    np.testing.assert_array_equal(chosen.alpha, ALPHAS[best])
    torch.testing.assert_close(chosen.score, expected.max(dim=0).values, rtol=1e-8, atol=1e-8)
    shared = kfold_ridge(statistics(X, Y, folds), ALPHAS, scoring, per_target=False)
    assert set(shared.alpha.tolist()) == {ALPHAS[expected.mean(dim=1).argmax()]}
    torch.testing.assert_close(shared.score, expected[expected.mean(dim=1).argmax()], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scoring", STREAMED_SCORES)
def test_float32_features_with_large_offsets(scoring):
    X, Y = simulated(60, 20)
    X = (X + 1e4 * np.arange(1, 21)).astype(np.float32)
    Y = (Y + 500).astype(np.float32)
    folds = folds_of(60)
    ours = kfold_ridge(statistics(X, Y, folds, step=7), ALPHAS, scoring).scores
    torch.testing.assert_close(ours, table(X, Y, folds, scoring), rtol=1e-6, atol=1e-6)


def awkward():
    """Constant, almost constant, collinear, tiny and huge features; one that varies in a single fold; flat targets."""
    X, Y = simulated(60, 14)
    folds = folds_of(60)
    X[:, 0] = 0.1
    X[:, 1] = np.where(folds == 1, X[:, 1], 1 / 3)
    X[:, 2] = X[:, 3] * 2 + 1
    X[:, 4] *= 1e-100
    X[:, 5] *= 1e100
    X[40] = X[41]
    Y[:, 0] = 0.7
    Y[folds == 2, 1] = 0.7
    Y[:, 3] *= 1e-12
    Y[:, 4] *= 1e12
    return X, Y, folds


@pytest.mark.parametrize("scoring", STREAMED_SCORES)
def test_awkward_columns(scoring):
    X, Y, folds = awkward()
    expected = table(X, Y, folds, scoring)
    ours = kfold_ridge(statistics(X, Y, folds), ALPHAS, scoring).scores
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7, equal_nan=True)
    if scoring != "neg_mean_squared_error":
        assert ours[:, :2].isnan().all() and not ours[:, 2:].isnan().any()


def test_features_that_are_rounding_noise_are_constant():
    X, Y = simulated(60, 5, dtype=np.float32)
    folds = folds_of(60)
    X[:, 2] = 3.0 + np.float32(3e-7) * (folds % 2)  # the last bit of float32
    with_noise = kfold_ridge(statistics(X, Y, folds), ALPHAS).scores
    X[:, 2] = 3.0
    torch.testing.assert_close(with_noise, kfold_ridge(statistics(X, Y, folds), ALPHAS).scores, rtol=1e-12, atol=0)


def test_targets_that_are_rounding_noise_are_constant():
    X, Y = simulated(60, 5)
    folds = folds_of(60)
    Y = Y.astype(np.float32)
    Y[folds == 1, 2] = 3.0 + np.float32(3e-7) * (np.arange((folds == 1).sum()) % 2)
    chosen = kfold_ridge(statistics(X, Y, folds), ALPHAS, "pearsonr")
    assert chosen.score.isnan().tolist() == [False, False, True, False, False, False, False]
    assert chosen.alpha[2] == ALPHAS[0]


def test_targets_without_a_score_have_no_say():
    X, Y, folds = awkward()
    Y = Y[:, [2, 5, 6, 0, 1]]
    stats = statistics(X, Y, folds)
    shared = kfold_ridge(stats, ALPHAS, "pearsonr", per_target=False)
    expected = table(X, Y[:, :3], folds, "pearsonr").mean(dim=1).argmax()
    assert set(shared.alpha.tolist()) == {ALPHAS[expected]}


def test_constant_predictions_correlate_by_zero():
    X, Y = simulated(60, 5)
    X[:] = 2.0
    folds = folds_of(60)
    stats = statistics(X, Y, folds)
    for scoring in ("pearsonr", "concordance"):
        assert (kfold_ridge(stats, ALPHAS, scoring).scores == 0).all()
    expected = table(X, Y, folds, "r2")
    torch.testing.assert_close(kfold_ridge(stats, ALPHAS, "r2").scores, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("block_bytes", [1, 2500])
def test_blocks_and_files_change_nothing(block_bytes, tmp_path):
    X, Y = simulated(60, 9, n_targets=11)
    folds = folds_of(60)
    whole, parts = statistics(X, Y, folds), statistics(X, Y, folds, folder=tmp_path)
    one, other = kfold_ridge(whole, ALPHAS, "r2"), kfold_ridge(parts, ALPHAS, "r2", block_bytes=block_bytes)
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-12, atol=1e-12)
    assert torch.equal(one.alpha, other.alpha)
    one, other = (held_out_scores(s, one.alpha, 2, block_bytes=b) for s, b in ((whole, 10**9), (parts, block_bytes)))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scoring", STREAMED_SCORES)
def test_a_fold_that_was_left_out_is_scored_honestly(scoring):
    X, Y = simulated(60, 9)
    folds = folds_of(60)
    stats = statistics(X, Y, folds)
    chosen = kfold_ridge(stats, ALPHAS, folds=[0, 2, 3])
    inner = table(X, Y, folds, "neg_mean_squared_error", used=[0, 2, 3])
    torch.testing.assert_close(chosen.scores, inner, rtol=1e-8, atol=1e-8)
    predicted = np.stack(
        [predict(X, Y[:, [j]], folds != 1, folds == 1, alpha).ravel() for j, alpha in enumerate(chosen.alpha.tolist())],
        1,
    )
    ours = held_out_scores(stats, chosen.alpha, 1, scoring)
    torch.testing.assert_close(ours, compute_score(Y[folds == 1], predicted, scoring), rtol=1e-8, atol=1e-8)
    two = held_out_scores(stats, 10.0, 1, scoring, folds=[0, 3])
    expected = compute_score(Y[folds == 1], predict(X, Y, np.isin(folds, [0, 3]), folds == 1, 10.0), scoring)
    torch.testing.assert_close(two, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_coefficients_are_those_of_all_images(shape):
    X, Y = simulated(*shape, n_targets=11, offset=30.0)
    folds = folds_of(len(X))
    alpha = torch.logspace(-1, 3, 11)
    for used in (None, [0, 2]):
        rows = np.isin(folds, range(K) if used is None else used)
        parts = list(
            streamed_coefficients(statistics(X, Y, folds), alpha, folds=used, block_bytes=8 * 6 * shape[1] * 4)
        )
        assert [targets for targets, *_ in parts] == [slice(0, 4), slice(4, 8), slice(8, 11)]
        coefficients, intercepts = torch.cat([p[1] for p in parts], 1), torch.cat([p[2] for p in parts])
        for j in range(11):
            expected = predict(X, Y[:, [j]], rows, slice(None), alpha[j].item()).ravel()
            np.testing.assert_allclose(
                X @ coefficients[:, j].numpy() + intercepts[j].item(), expected, rtol=1e-8, atol=1e-8
            )


def test_what_cannot_be_done_is_refused():
    X, Y = simulated(24, 3)
    stats = statistics(X, Y, folds_of(24))
    with pytest.raises(InputError, match="'spearmanr' cannot be had from sums over images"):
        kfold_ridge(stats, ALPHAS, "spearmanr")
    for alphas in ((), (1.0, 0.0), (-1.0,), (float("nan"),), (float("inf"),)):
        with pytest.raises(InputError, match="Alphas must be positive"):
            kfold_ridge(stats, alphas)
    with pytest.raises(InputError, match="Alpha must be numbers"):
        held_out_scores(stats, "one", 0)
    for folds in ([0], [], [0, 0, 1], [0, 4]):
        with pytest.raises(InputError, match="2 or more of 0 to 3"):
            kfold_ridge(stats, folds=folds)
    with pytest.raises(InputError, match="Fold 1 must not train"):
        held_out_scores(stats, 1.0, 1, folds=[0, 1])
    with pytest.raises(InputError, match="1 or more of 0 to 3"):
        held_out_scores(stats, 1.0, 4)
    empty = RidgeStatistics(3, 7, K)
    with pytest.raises(InputError, match=r"\[0, 1, 2, 3\] are empty"):
        next(streamed_coefficients(empty, 1.0))
    empty.update(X[:3], Y[:3], [0, 1, 1])
    with pytest.raises(InputError, match="A fit needs 3 images"):
        kfold_ridge(empty, folds=[0, 1])
    empty.update(X[:3], Y[:3], [1, 1, 2])
    with pytest.raises(InputError, match="fold 0 holds 1"):
        kfold_ridge(empty, folds=[0, 1])
    huge = statistics(X * 1e200, Y, folds_of(24))
    with pytest.raises(InputError, match="squares that fit"):
        kfold_ridge(huge)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mapped", [False, True], ids=["on the device", "in a file"])
def test_cuda_equals_cpu(mapped, tmp_path):
    X, Y = simulated(60, 9, dtype=np.float32)
    folds = folds_of(60)
    places = {"folder": tmp_path} if mapped else {}
    stats = [statistics(X, Y, folds, device=device, **places) for device in ("cpu", "cuda")]
    cpu, gpu = (kfold_ridge(s, ALPHAS, "pearsonr") for s in stats)
    assert gpu.scores.is_cuda and gpu.alpha.tolist() == cpu.alpha.tolist()
    torch.testing.assert_close(gpu.scores.cpu(), cpu.scores, rtol=1e-9, atol=1e-9)
    cpu, gpu = (held_out_scores(s, chosen.alpha, 1) for s, chosen in zip(stats, (cpu, gpu), strict=True))
    torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-9, atol=1e-9)
    stats[1].save(tmp_path / "state")
    again = RidgeStatistics.load(tmp_path / "state", device="cuda", **places)
    for (_, *ours), (_, *theirs) in zip(*(streamed_coefficients(s, 3.0) for s in (again, stats[0])), strict=True):
        for gpu, cpu in zip(ours, theirs, strict=True):
            torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-8, atol=1e-8)
