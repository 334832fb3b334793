"""RDMs and their comparison against scipy, pairs in a loop, and rsatoolbox."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from deepjuice.alignment import (
    compare_rdm_to_many,
    compare_rdms,
    compute_rdm,
    projected_pearson_rdm,
    upper_triangle,
)
from deepjuice.alignment.linalg import blocks
from juicyfruits.errors import InputError
from tests import oracles

METRICS = {
    "pearson": "correlation",
    "spearman": lambda a, b: 1 - stats.spearmanr(a, b).statistic,
    "cosine": "cosine",
    "euclidean": "euclidean",
    "squared_euclidean": "sqeuclidean",
}


def features(n=12, p=40, offset=0.0, ties=False, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 5, size=(n, p)) if ties else rng.normal(size=(n, p)) * rng.uniform(0.1, 10, p)
    return (X + offset).astype(dtype)


@pytest.mark.parametrize("method", METRICS)
@pytest.mark.parametrize("example", [{}, {"ties": True}, {"offset": 1000}, {"p": 3}, {"dtype": np.float32}], ids=str)
def test_equals_scipy(method, example):
    X = features(**example)
    rdm = compute_rdm(torch.tensor(X), method)
    expected = squareform(pdist(X.astype(np.float64), METRICS[method]))
    np.testing.assert_allclose(rdm, expected, rtol=1e-9, atol=1e-10)
    assert rdm.dtype == torch.float64 and torch.equal(rdm, rdm.T) and (rdm.diagonal() == 0).all()


@pytest.mark.parametrize("method", METRICS)
def test_blocks_of_features_change_nothing(method, monkeypatch):
    X = features(offset=3)
    whole = compute_rdm(X, method)
    monkeypatch.setattr(blocks, "__defaults__", (1000,))
    torch.testing.assert_close(compute_rdm(X, method), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_equals_rsatoolbox(method):
    toolbox = pytest.importorskip("rsatoolbox")
    X = features()
    theirs = toolbox.rdm.calc_rdm(toolbox.data.Dataset(X), method=method).get_matrices()[0]
    ours = {"correlation": compute_rdm(X), "euclidean": compute_rdm(X, "squared_euclidean") / X.shape[1]}[method]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)  # its euclidean is squared and divided by the features


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_comparison_equals_scipy_and_rsatoolbox(method):
    a, b = compute_rdm(features()), compute_rdm(features(seed=1, ties=True), "squared_euclidean")
    pairs = [squareform(rdm.numpy(), checks=False) for rdm in (a, b)]
    np.testing.assert_array_equal(upper_triangle(a), pairs[0])
    expected = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method](*pairs).statistic
    assert compare_rdms(a, b, method) == pytest.approx(expected, abs=1e-12)
    toolbox = pytest.importorskip("rsatoolbox")
    theirs = toolbox.rdm.compare(*(toolbox.rdm.RDMs(p[None]) for p in pairs), {"pearson": "corr"}.get(method, method))
    assert compare_rdms(a.float().numpy(), b, method) == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_one_with_many_is_one_by_one(method):
    rdms = [compute_rdm(features(seed=s, ties=True)) for s in range(4)]
    together = compare_rdm_to_many(rdms[0], rdms, method).tolist()
    assert together == pytest.approx([compare_rdms(rdms[0], other, method) for other in rdms], abs=1e-12)
    assert together[0] == pytest.approx(1) and together[1] < 0.9
    assert compare_rdm_to_many(rdms[0], torch.stack(rdms).numpy(), method).tolist() == together


def test_norm_reaches_one():
    X = features()
    np.testing.assert_allclose(compute_rdm(X, norm=True), compute_rdm(X) / compute_rdm(X).max())
    assert compute_rdm(X, "euclidean", norm=True).max() == 1
    assert (compute_rdm(np.ones((4, 3)), "euclidean", norm=True) == 0).all()


@pytest.mark.parametrize("method", METRICS)
def test_a_stimulus_shown_twice_has_distance_zero(method):
    X = features(offset=100)
    rdm = compute_rdm(np.concatenate([X, X[:2]]), method)
    assert rdm[0, 12] == pytest.approx(0, abs=1e-12) and rdm[1, 13] == pytest.approx(0, abs=1e-12)
    assert rdm[0, 13] > 0


@pytest.mark.parametrize("method", ["euclidean", "squared_euclidean"])
def test_distances_far_from_the_origin(method):
    X = features(p=3000, offset=1e7)
    rdm = compute_rdm(np.concatenate([X, X[:6]]), method)
    np.testing.assert_allclose(rdm[:12, :12], squareform(pdist(X, METRICS[method])), rtol=1e-9)
    assert (rdm[range(6), range(12, 18)] == 0).all()


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_of_rounding_is_dead(method, dtype):
    X = features(dtype=dtype)
    X[3] = 0.1
    X[3, ::2] = np.nextafter(X[3, 0], dtype(1))
    assert compute_rdm(X, method)[3].isnan().sum() == 11


@pytest.mark.parametrize("method", ["pearson", "spearman", "cosine"])
@pytest.mark.parametrize("dead", [0.0, 0.1])
def test_a_dead_row_is_nan_and_stays_nan(method, dead):
    X = features(dtype=np.float32)
    X[3] = dead
    rdm = compute_rdm(X, method)
    undefined = torch.zeros(12, 12, dtype=torch.bool)
    if dead == 0 or method != "cosine":
        undefined[3] = undefined[:, 3] = True
        undefined[3, 3] = False
        assert np.isnan(compare_rdms(rdm, compute_rdm(X, "euclidean")))
        assert np.isnan(compare_rdms(compute_rdm(X, "euclidean"), rdm, "spearman"))
    assert torch.equal(rdm.isnan(), undefined)
    others = np.delete(np.arange(12), 3)
    torch.testing.assert_close(rdm[others][:, others], compute_rdm(X[others], method))
    scaled = compute_rdm(X, method, norm=True)
    assert torch.equal(scaled.isnan(), undefined) and scaled[~undefined].max() == 1


@pytest.mark.parametrize("flat", [0, 1])
def test_a_constant_rdm_compares_with_nothing(flat):
    rdms = [compute_rdm(features()), torch.full((12, 12), 0.1).fill_diagonal_(0)]
    assert np.isnan(compare_rdms(rdms[flat], rdms[1 - flat]))


def test_projected_is_as_if_centred_before():
    X = features(10, 300, offset=20)
    R = np.random.default_rng(5).normal(size=(64, 300))
    centred = (X - X.mean(axis=1, keepdims=True)) @ R.T
    expected = oracles.rdm_by_pairs(centred, lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    ours = projected_pearson_rdm(X @ R.T, X.mean(axis=1), R.sum(axis=1))
    np.testing.assert_allclose(ours, expected, atol=1e-10)
    whole = projected_pearson_rdm(X, X.mean(axis=1), np.ones(300))
    torch.testing.assert_close(whole, compute_rdm(X), rtol=0, atol=1e-10)
    assert abs(projected_pearson_rdm(X @ R.T, 0 * X.mean(axis=1), R.sum(axis=1)) - ours).max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("dead", [0.0, 0.1, -3.0])
def test_projected_dead_row_is_nan(dtype, dead):
    X = torch.tensor(features(10, 300))
    X[3] = dead
    R = torch.randn(64, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rdm = projected_pearson_rdm((X @ R.T / 20).to(dtype), X.mean(dim=1), R.sum(dim=1) / 20)
    assert rdm[3, :3].isnan().all() and rdm[4:, 3].isnan().all()
    assert rdm.isnan().sum() == 18


def test_bad_input_is_named():
    rdm = compute_rdm(features())
    with pytest.raises(InputError, match="did you mean 'pearson'"):
        compute_rdm(features(), "pearsonr")
    with pytest.raises(InputError, match="did you mean 'spearman'"):
        compare_rdms(rdm, rdm, "spearmanr")
    with pytest.raises(InputError, match=r"\(12, 12\) and \(11, 11\)"):
        compare_rdms(rdm, rdm[1:, 1:])
    with pytest.raises(InputError, match="square"):
        compare_rdms(rdm[1:], rdm)
    with pytest.raises(InputError, match="none came"):
        compare_rdm_to_many(rdm, [])
    with pytest.raises(InputError, match="X has 1 of 480"):
        compute_rdm(np.where(np.arange(480).reshape(12, 40) == 7, np.inf, features()))
    with pytest.raises(InputError, match="9 and 40 came"):
        projected_pearson_rdm(features(), np.zeros(9), np.zeros(40))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METRICS)
def test_cuda_equals_cpu(method):
    X = features(ties=True)
    gpu = compute_rdm(X, method, device="cuda")
    assert gpu.is_cuda
    torch.testing.assert_close(gpu.cpu(), compute_rdm(X, method))
