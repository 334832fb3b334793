"""RDMs against scipy, pairs in a loop, and rsatoolbox."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from deepjuice.alignment.geometry.rdm import compare_rdms, compute_rdm, projected_pearson_rdm
from deepjuice.alignment.linalg import blocks
from juicyfruits.errors import InputError
from tests import oracles

METRICS = {
    "pearson": "correlation",
    "spearman": lambda a, b: 1 - stats.spearmanr(a, b).statistic,
    "cosine": "cosine",
    "euclidean": "euclidean",
    "squared_euclidean": "sqeuclidean",
    "concordance": lambda a, b: 1 - oracles.concordance(a, b),
}
WEIGHTED = [method for method in METRICS if method != "spearman"]
SCALE_FREE = [method for method in METRICS if "euclidean" not in method]


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


def test_norm_reaches_one():
    X = features()
    np.testing.assert_allclose(compute_rdm(X, norm=True), compute_rdm(X) / compute_rdm(X).max())
    assert compute_rdm(X, "euclidean", norm=True).max() == 1
    assert (compute_rdm(np.ones((4, 3)), "euclidean", norm=True) == 0).all()


@pytest.mark.parametrize("method", METRICS)
def test_a_stimulus_shown_twice_has_distance_zero(method):
    X = features(offset=100)
    rdm = compute_rdm(np.concatenate([X, X[:2]]), method)
    assert rdm[0, 12] == 0 and rdm[1, 13] == 0 and rdm[0, 13] > 0


@pytest.mark.parametrize("method", METRICS)
@pytest.mark.parametrize("shape", [(150, 2003), (64, 64), (40, 9)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_shown_twice(method, shape, dtype):
    X = features(*shape, offset=1, dtype=dtype)
    rdm = compute_rdm(np.concatenate([X, X]), method)
    n = len(X)
    assert (rdm[range(n), range(n, 2 * n)] == 0).all() and (rdm == 0).sum() == 4 * n
    expected = squareform(pdist(X[:20].astype(np.float64), METRICS[method]))
    np.testing.assert_allclose(rdm[:20, :20], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["pearson", "cosine", "spearman"])
@pytest.mark.parametrize("shape", [(150, 2003), (64, 64), (40, 9)], ids=str)
def test_opposites_are_two_apart_and_not_more(method, shape):
    X = features(*shape)
    n = len(X)
    rdm = compute_rdm(np.concatenate([X, -X]), method)
    assert rdm.max() <= 2 and (rdm[range(n), range(n, 2 * n)] > 2 - 1e-12).all()


@pytest.mark.parametrize("method", METRICS)
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-30, 1e30, 1e150, 1e300])
def test_any_scale(method, scale):
    X = features(offset=2)
    rdm = compute_rdm(X * scale, method)
    if method == "squared_euclidean" and not 1e-30 <= scale <= 1e30:
        scale = {True: 1e-300, False: np.inf}[scale < 1]  # beyond the numbers there are: zero or infinity, not nonsense
        assert (rdm[0, 1:] <= 1e-300).all() if scale < 1 else (rdm[0, 1:] > 1e300).all()
        return
    factor = {"euclidean": scale, "squared_euclidean": scale * scale}.get(method, 1)
    np.testing.assert_allclose(rdm / factor, compute_rdm(X, method), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["pearson", "cosine", "concordance", "euclidean"])
@pytest.mark.parametrize("exponent", [-1060, 1023])
def test_the_ends_of_float64(method, exponent):
    X = np.round(features() * 4) / 64  # few digits, for there are few where numbers end
    X = -np.abs(X) / np.abs(X).max()
    X[0, 0] = 0  # none is above zero
    X = np.ldexp(np.ldexp(X, 6).round(), exponent - 6)
    rdm, expected = compute_rdm(X, method), compute_rdm(np.ldexp(X, -exponent), method)
    if method == "euclidean":
        expected = torch.tensor(np.ldexp(expected.numpy(), exponent))
    torch.testing.assert_close(rdm, expected, rtol=1e-4, atol=1e-11 if method != "euclidean" else 0)


@pytest.mark.parametrize("method", SCALE_FREE)
def test_rows_of_different_scales(method):
    X = features()
    factors = 10.0 ** np.linspace(-40, 35, 12)[:, None] if method != "concordance" else np.ones((12, 1))
    X32 = (X * factors).astype(np.float32)
    expected = squareform(pdist((X32 / factors).astype(np.float64), METRICS[method]))
    np.testing.assert_allclose(compute_rdm(X32, method), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["euclidean", "squared_euclidean"])
def test_distances_far_from_the_origin(method):
    X = features(p=3000, offset=1e7)
    rdm = compute_rdm(np.concatenate([X, X[:6]]), method)
    np.testing.assert_allclose(rdm[:12, :12], squareform(pdist(X, METRICS[method])), rtol=1e-9)
    assert (rdm[range(6), range(12, 18)] == 0).all()


@pytest.mark.parametrize("method", ["pearson", "spearman", "concordance"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_of_rounding_is_dead(method, dtype):
    X = features(dtype=dtype)
    X[3] = 0.1
    X[3, ::2] = np.nextafter(X[3, 0], dtype(1))
    assert compute_rdm(X, method)[3].isnan().sum() == 11


@pytest.mark.parametrize("method", SCALE_FREE)
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


def weighted_distance(method, w):
    """The distance of two vectors, every moment with its weights."""
    mean = lambda x: np.average(x, weights=w)  # noqa: E731
    cov = lambda x, y: mean((x - mean(x)) * (y - mean(y)))  # noqa: E731
    return {
        "pearson": lambda x, y: 1 - cov(x, y) / np.sqrt(cov(x, x) * cov(y, y)),
        "concordance": lambda x, y: 1 - 2 * cov(x, y) / (cov(x, x) + cov(y, y) + (mean(x) - mean(y)) ** 2),
        "cosine": lambda x, y: 1 - (w * x * y).sum() / np.sqrt((w * x * x).sum() * (w * y * y).sum()),
        "euclidean": lambda x, y: np.sqrt((w * (x - y) ** 2).sum()),
        "squared_euclidean": lambda x, y: (w * (x - y) ** 2).sum(),
    }[method]


@pytest.mark.parametrize("method", WEIGHTED)
@pytest.mark.parametrize("example", [{}, {"offset": 30}, {"p": 3}, {"dtype": np.float32}], ids=str)
@pytest.mark.parametrize("block_bytes", [64 * 1024**2, 1000])
def test_weighted_equals_the_loop(method, example, block_bytes, monkeypatch):
    X = features(**example)
    w = np.random.default_rng(3).uniform(0, 2, X.shape[1])
    w[1] = 0
    monkeypatch.setattr(blocks, "__defaults__", (block_bytes,))
    expected = oracles.rdm_by_pairs(X.astype(np.float64), weighted_distance(method, w))
    np.testing.assert_allclose(compute_rdm(X, method, weights=w), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", WEIGHTED)
def test_weights_count_columns(method):
    X = features(offset=1)
    counts = np.arange(40) % 4
    repeated = compute_rdm(np.repeat(X, counts, axis=1), method)
    torch.testing.assert_close(compute_rdm(X, method, weights=counts), repeated, rtol=1e-11, atol=1e-11)
    ones = compute_rdm(X.astype(np.float32), method, weights=torch.ones(40))
    torch.testing.assert_close(ones, compute_rdm(X.astype(np.float32), method), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["pearson", "concordance", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_dead_where_weights_look(method, dtype):
    X, w = features(p=3000, dtype=dtype), np.random.default_rng(0).uniform(0, 1, 3000)
    w[::7] = 0
    X[3, w > 0] = 0 if method == "cosine" else 0.1
    rdm = compute_rdm(X, method, weights=w)
    assert rdm[3].isnan().sum() == 11 and rdm.isnan().sum() == 22
    assert not compute_rdm(X, method).isnan().any()


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
    with pytest.raises(InputError, match="did you mean 'pearson'"):
        compute_rdm(features(), "pearsonr")
    with pytest.raises(InputError, match="takes no column weights"):
        compute_rdm(features(), "spearman", weights=np.ones(40))
    for weights in (np.ones(39), -np.ones(40), np.zeros(40), np.ones((40, 2))):
        with pytest.raises(InputError, match="Weights must be 40"):
            compute_rdm(features(), weights=weights)
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
