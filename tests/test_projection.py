import numpy as np
import pytest
import torch
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim

from deepjuice.reduction import ProjectionPool, SparseProjection, jl_width
from juicyfruits.errors import InputError


@pytest.mark.parametrize(("n", "eps"), [(2, 0.5), (92, 0.1), (160, 0.1), (240, 0.1), (1000, 0.1), (73_000, 0.3)])
def test_width_is_scikit_learns(n, eps):
    assert jl_width(n, eps) == johnson_lindenstrauss_min_dim(n, eps=eps)


def test_impossible_widths_are_refused():
    for n, eps in [(1, 0.1), (100, 0.0), (100, 1.0)]:
        with pytest.raises(InputError, match="projection width"):
            jl_width(n, eps)


@pytest.mark.parametrize(("n_features", "width"), [(401, 97), (2500, 400)])
def test_entries_are_drawn_as_li_2006_says(n_features, width):
    """Values are 0 or +-sqrt(s / k), s = sqrt(d); the share of non-zeros is 1 / s, half of them positive."""
    R = SparseProjection(n_features, width, seed=3).dense().numpy()
    s = np.sqrt(n_features)
    values = np.unique(R)
    np.testing.assert_allclose(values, [-np.sqrt(s / width), 0, np.sqrt(s / width)], rtol=1e-6, atol=0)
    n = R.size
    nonzero = R != 0
    assert abs(nonzero.mean() - 1 / s) < 4 * np.sqrt(1 / s / n)
    assert abs((R[nonzero] > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(nonzero.sum())
    # the first and last cells are as likely as any other
    edges = np.mean([SparseProjection(16, 4, seed).dense().numpy()[[0, -1], [0, -1]] != 0 for seed in range(2000)], 0)
    assert np.all(np.abs(edges - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000))
    theirs = SparseRandomProjection(width, density="auto", random_state=0).fit(np.zeros((2, n_features))).components_
    np.testing.assert_allclose(np.unique(theirs.data), values[[0, 2]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_it_is_a_plain_matrix_product(n, dtype):
    torch.manual_seed(n)
    projection = SparseProjection(777, 50, seed=1)
    x = torch.randn(n, 777).to(dtype)
    expected = x.double() @ projection.dense().double().T
    got = projection(x)
    assert got.dtype == torch.float32
    # Sums of some 28 terms in float32, scaled by 0.75: values reach 20, and 1e-5 of that is what float32 can promise.
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=2e-5)


def test_the_answer_does_not_depend_on_the_batch_or_on_other_maps():
    pool = ProjectionPool(50, seed=2)
    x = torch.randn(13, 900)
    whole = pool[900](x)
    pool[4000](torch.randn(3, 4000))  # shares the working memory
    assert torch.equal(torch.cat([pool[900](part) for part in x.split(5)]), whole)
    assert torch.equal(SparseProjection(900, 50, seed=2)(x), whole)
    assert not torch.equal(SparseProjection(900, 50, seed=3)(x), whole)


def test_maps_no_wider_than_k_stay_as_they_are():
    pool = ProjectionPool(50, seed=0)
    x = torch.randn(4, 50)
    assert torch.equal(pool[50](x), x) and torch.equal(pool.ones(50), torch.ones(50))
    assert pool[51](torch.randn(4, 51)).shape == (4, 50)
    torch.testing.assert_close(pool.ones(700), pool[700].dense().sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "sparse", "concentrated"])
def test_distances_are_kept_within_the_bound(kind):
    """All pairs of n points stay within 1 +- eps (Dasgupta & Gupta); the mean squared distance is unbiased."""
    rng = np.random.default_rng(0)
    n, d, eps = 40, 20_000, 0.2
    x = rng.standard_normal((n, d)).astype(np.float32)
    if kind == "sparse":
        x *= rng.random((n, d)) < 0.05
    if kind == "concentrated":
        x[:, : d - 2000] = 0
    x = torch.from_numpy(x)
    seeds = [SparseProjection(d, jl_width(n, eps), seed)(x) for seed in range(10)]
    ratio = torch.stack([(torch.pdist(projected) / torch.pdist(x)) ** 2 for projected in seeds])
    assert (ratio - 1).abs().max() < eps
    spread = ratio.mean(1).std() / len(seeds) ** 0.5  # pairs share points, seeds share nothing
    assert abs(ratio.mean() - 1) < 4 * spread < 0.02


def test_nothing_but_the_positions_is_stored():
    projection = SparseProjection(40_000, 1000, seed=0)
    assert projection.n_bytes < 1.1 * 4 * (1000 * 200 + 2 * 1001)
