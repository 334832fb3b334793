"""Both projections: what their entries are, what they do to distances, and that all paths to a result agree.

The sparse matrix is compared with what Li, Hastie & Church (2006) say of it, signed sums with plain loops over the
entries and with all signs and rotations there are.
"""

import itertools

import numpy as np
import pytest
import torch
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim
from torch.utils._python_dispatch import TorchDispatchMode

from deepjuice.reduction import METHODS, ProjectionPool, SignedSums, SparseProjection, jl_width, make_projection
from deepjuice.reduction import signed_sums as signed_sums_module
from deepjuice.reduction.projection import DEFAULT_METHOD, pool_memory
from juicyfruits.errors import InputError

both_methods = pytest.mark.parametrize("method", METHODS)


@pytest.mark.parametrize(("n", "eps"), [(2, 0.5), (92, 0.1), (160, 0.1), (240, 0.1), (1000, 0.1), (73_000, 0.3)])
def test_width_is_scikit_learns(n, eps):
    assert jl_width(n, eps) == johnson_lindenstrauss_min_dim(n, eps=eps)


def test_impossible_widths_and_unknown_methods_are_refused():
    for n, eps in [(1, 0.1), (100, 0.0), (100, 1.0)]:
        with pytest.raises(InputError, match="projection width"):
            jl_width(n, eps)
    with pytest.raises(InputError, match="'signed_sums', 'sparse'"):
        make_projection(100, 10, method="gaussian")


@pytest.mark.parametrize(("n_features", "width"), [(401, 97), (2500, 400)])
def test_sparse_entries_are_drawn_as_li_2006_says(n_features, width):
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


@pytest.mark.parametrize(("n_features", "width"), [(401, 97), (2500, 400), (1200, 400), (401, 400)])
def test_signed_sums_are_balanced(n_features, width):
    """Every feature goes, with sign +-1, into one sum; a sum has one feature of every block, but of the last if cut."""
    R = SignedSums(n_features, width, seed=3).dense().numpy()
    assert set(np.unique(R)) <= {-1, 0, 1}
    assert np.all(np.count_nonzero(R, axis=0) == 1)
    whole, rest = divmod(n_features, width)
    terms = np.count_nonzero(R, axis=1)
    assert np.count_nonzero(terms == whole + 1) == rest and np.count_nonzero(terms == whole) == width - rest
    assert abs((R.sum(0) > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(n_features)


def test_signed_sums_rotate_whole_blocks():
    """y_j = sum_b s_i x_i with i = b k + (j - r_b) mod k, written out as two loops."""
    d, k = 47, 10
    projection = SignedSums(d, k, seed=5)
    x = np.random.default_rng(0).standard_normal(d)
    expected = np.zeros(k)
    for b, rotation in enumerate(projection._rotations):
        for j in range(k):
            i = b * k + (j - rotation) % k
            if i < d:
                expected[j] += projection._signs[i].item() * x[i]
    got = projection(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert len(set(projection._rotations)) > 1


def test_features_meet_as_often_as_chance_has_it():
    """Features of one block never share a sum, features of different blocks do with probability 1 / k."""
    d, k, n_seeds = 13, 5, 4000
    meetings = np.zeros((d, d))
    together = np.zeros((d, d))  # sum of products of the signs of two features
    for seed in range(n_seeds):
        R = SignedSums(d, k, seed).dense().numpy()
        meetings += np.abs(R).T @ np.abs(R)
        signs = R.sum(0)
        together += np.outer(signs, signs)
    apart = ~np.eye(d, dtype=bool)
    block = np.arange(d) // k
    same_block = block[:, None] == block
    assert np.all(meetings[same_block & apart] == 0)
    assert np.all(np.abs(meetings[~same_block] / n_seeds - 1 / k) < 4.5 * np.sqrt(1 / k * (1 - 1 / k) / n_seeds))
    assert np.all(np.abs(together[apart]) < 4.5 * np.sqrt(n_seeds))


def test_moments_of_signed_sums_over_all_signs_and_rotations_there_are():
    """E |Rx|^2 = |x|^2 for any rotation, Var |Rx|^2 over signs = 4 sum of x_i^2 x_j^2 over the pairs that meet.

    Over all rotations the latter averages 4 / k times the sum over pairs of different blocks, at most 2 |x|^4 / k.
    """
    d, k = 8, 3
    x = np.random.default_rng(1).standard_normal(d)
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)))
    variances = []
    for rotations in itertools.product(range(k), repeat=3):
        projection = SignedSums(d, k)
        projection._rotations = list(rotations)
        projection._signs = torch.ones(d)
        lengths = projection(signs * torch.from_numpy(x).float()).double().square().sum(1)  # R x with every sign
        meet = projection.dense().numpy()
        by_loop = sum(
            4 * x[i] ** 2 * x[j] ** 2 for i in range(d) for j in range(i) if any(row[i] * row[j] for row in meet)
        )
        assert lengths.mean().item() == pytest.approx((x**2).sum(), rel=1e-5)
        assert lengths.var(correction=0).item() == pytest.approx(by_loop, rel=1e-4)
        variances.append(by_loop)
    between = sum(4 * x[i] ** 2 * x[j] ** 2 / k for i in range(d) for j in range(i) if i // k != j // k)
    assert np.mean(variances) == pytest.approx(between, rel=1e-9)
    assert between < 2 * (x**2).sum() ** 2 / k


@both_methods
@pytest.mark.parametrize("kind", ["dense", "concentrated"])
def test_mean_and_variance_of_squared_lengths_over_seeds(method, kind):
    """E |Rx|^2 = |x|^2; Var = (2 |x|^4 + (s - 3) sum x^4) / k for Li's matrix, for signed sums at most 2 |x|^4 / k."""
    d, k, n_seeds = 36, 8, 4000
    x = np.random.default_rng(2).standard_normal(d)
    if kind == "concentrated":
        x[np.arange(d) % 6 != 0] = 0
    lengths = np.array(
        [METHODS[method](d, k, seed)(torch.from_numpy(x)[None])[0].double().square().sum() for seed in range(n_seeds)]
    )
    squares = x**2
    if method == "sparse":
        expected = (2 * squares.sum() ** 2 + (np.sqrt(d) - 3) * (squares**2).sum()) / k
    else:
        blocks = np.array([squares[b : b + k].sum() for b in range(0, d, k)])
        expected = 2 * (squares.sum() ** 2 - (blocks**2).sum()) / k
        assert expected < 2 * squares.sum() ** 2 / k
    assert abs(lengths.mean() - squares.sum()) < 4 * np.sqrt(expected / n_seeds)
    deviations = (lengths - squares.sum()) ** 2
    assert abs(deviations.mean() - expected) < 4 * deviations.std() / np.sqrt(n_seeds) < 0.5 * expected


@both_methods
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 64])
def test_it_is_a_plain_matrix_product(method, n, dtype):
    torch.manual_seed(n)
    projection = METHODS[method](777, 50, seed=1)
    x = torch.randn(n, 777).to(dtype)
    expected = x.double() @ projection.dense().double().T
    got = projection(x)
    assert got.dtype == torch.float32 and got.shape == (n, 50)
    # Sums of some 28 terms in float32, scaled by 0.75: values reach 20, and 1e-5 of that is what float32 can promise.
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("d", "k"), [(777, 50), (1000, 100), (101, 100)])
def test_signed_sums_by_gathering_are_the_same(d, k, dtype, monkeypatch):
    """The path of GPUs, run here on the CPU, also where its working memory holds only a few rows at a time."""
    projection = SignedSums(d, k, seed=1)
    x = torch.randn(13, d, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = projection(x)
    assert projection._gather(x).dtype == torch.float32
    for n_bytes in (signed_sums_module.GATHER_BYTES, 5 * 8 * (d + k), 1):
        monkeypatch.setattr(signed_sums_module, "GATHER_BYTES", n_bytes)
        torch.testing.assert_close(projection._gather(x), expected, rtol=1e-5, atol=1e-5)


@both_methods
def test_maps_that_are_not_contiguous_are_projected_as_they_read(method):
    x = torch.randn(900, 6).T
    projection = METHODS[method](900, 50)
    assert torch.equal(projection(x), projection(x.contiguous()))
    kept = x.clone()
    projection(x)
    assert torch.equal(x, kept)


@both_methods
def test_the_answer_does_not_depend_on_the_batch_or_on_other_maps(method):
    pool = ProjectionPool(50, method, seed=2)
    x = torch.randn(13, 900)
    whole = pool[900](x)
    before = whole.clone()
    pool[4000](torch.randn(3, 4000))  # shares the working memory
    assert torch.equal(whole, before)
    for size in (1, 2, 5, 12):
        assert torch.equal(torch.cat([pool[900](part) for part in x.split(size)]), whole)
    assert torch.equal(METHODS[method](900, 50, seed=2)(x), whole)
    assert not torch.equal(METHODS[method](900, 50, seed=3)(x), whole)


@both_methods
def test_seed_and_both_widths_fix_every_entry(method):
    def entries(*args):
        return METHODS[method](*args).dense()

    torch.manual_seed(0)
    np.random.seed(0)
    R = entries(300, 20, 7)
    torch.manual_seed(1)
    np.random.seed(1)
    assert torch.equal(entries(300, 20, 7), R)
    others = [entries(300, 20, 8), entries(301, 20, 7)[:, :300], entries(300, 21, 7)[:20]]
    for other in others:
        chance = (R.sign() * other.sign()).sum() / (R.sign() * other.sign()).abs().sum()
        assert not torch.equal(other.sign(), R.sign()) and abs(chance) < 0.6


@both_methods
def test_maps_no_wider_than_k_stay_as_they_are(method):
    pool = ProjectionPool(50, method, seed=0)
    x = torch.randn(4, 50)
    assert torch.equal(pool[50](x), x) and torch.equal(pool.ones(50), torch.ones(50))
    assert pool[51](torch.randn(4, 51)).shape == (4, 50)
    torch.testing.assert_close(pool.ones(700), pool[700].dense().sum(1), rtol=1e-5, atol=1e-5)


def test_the_default_method_is_one_of_them():
    assert isinstance(make_projection(100, 10), METHODS[DEFAULT_METHOD])


@both_methods
@pytest.mark.parametrize("kind", ["dense", "sparse", "concentrated"])
def test_distances_are_kept_within_the_bound(method, kind):
    """A pair of n points leaves 1 +- eps with a probability of at most 2 / n^2 (Dasgupta & Gupta); no bias."""
    rng = np.random.default_rng(0)
    n, d, eps = 40, 20_000, 0.2
    x = rng.standard_normal((n, d)).astype(np.float32)
    if kind == "sparse":
        x *= rng.random((n, d)) < 0.05
    if kind == "concentrated":
        x[:, : d - 2000] = 0
    ratio = squared_distance_ratios(METHODS[method], torch.from_numpy(x), jl_width(n, eps), n_seeds=10)
    assert ((ratio - 1).abs() > eps).float().mean() < 2 / n**2
    assert (ratio - 1).abs().max() < 1.25 * eps
    spread = ratio.mean(1).std() / len(ratio) ** 0.5  # pairs share points, seeds share nothing
    assert abs(ratio.mean() - 1) < 4 * spread < 0.02


@pytest.mark.parametrize(("channels", "side"), [(64, 56), (64, 28), (256, 14), (640, 7)])
@pytest.mark.parametrize("kind", ["position", "channel", "patch"])
def test_signed_sums_keep_distances_of_spatially_concentrated_maps(kind, channels, side):
    """Energy at one position of all channels, in one channel, or in a 3 x 3 patch of all channels, flattened.

    The mean squared error keeps to the bound 2 / k, and is no larger than that of the sparse matrix.
    """
    n, eps, n_seeds = 24, 0.3, 12
    place = {
        "position": (slice(None), side // 2, side // 2),
        "channel": (channels // 2,),
        "patch": (slice(None), slice(1, 4), slice(1, 4)),
    }[kind]
    maps = torch.zeros(n, channels, side, side)
    maps[:, *place] = torch.randn(maps[:, *place].shape, generator=torch.Generator().manual_seed(side))
    width = jl_width(n, eps)
    errors = {
        kind: squared_distance_ratios(kind, maps.flatten(1), width, n_seeds) - 1
        for kind in (SignedSums, SparseProjection)
    }
    assert (errors[SignedSums].abs() > eps).float().mean() < 2 / n**2
    signed, sparse = (error.square().mean(1) for error in errors.values())
    chance = (signed.var() / n_seeds) ** 0.5
    assert signed.mean() < 2 / width + 3 * chance and chance < 0.3 * 2 / width
    assert signed.mean() < sparse.mean() + 3 * ((signed.var() + sparse.var()) / n_seeds) ** 0.5


def squared_distance_ratios(kind, x, width, n_seeds):
    """Squared distances of all pairs after projection over those before, (n_seeds, pairs)."""
    before = torch.pdist(x)
    return torch.stack([(torch.pdist(kind(x.shape[1], width, s)(x)) / before) ** 2 for s in range(n_seeds)])


@both_methods
def test_memory_is_what_is_held(method):
    """What is kept is the tensors of the projection; what is taken besides, its scratch memory and its sums."""
    d, k, n = 40_000, 1000, 16
    projection = METHODS[method](d, k)
    held = {id(t): t for t in tensors_of(projection) if t is not projection.scratch._memory}
    held_bytes = sum(t.numel() * t.element_size() for t in held.values())
    kept, working = METHODS[method].memory(d, k, n, on_cpu=True)
    assert projection.n_bytes == held_bytes == pytest.approx(kept, rel=0.02)
    projected = projection(torch.randn(n, d))
    scratch, rows = projection.scratch._memory.numel() * 4, projected.numel() * 4
    sums_at_once = {"signed_sums": 1, "sparse": 3}[method]  # plus, minus, and their difference
    assert working == scratch + sums_at_once * rows
    places = projection._places if method == "signed_sums" else ()  # which a GPU keeps too
    kept_there, _ = METHODS[method].memory(d, k, n, on_cpu=False)
    assert kept_there == pytest.approx(kept + sum(t.nbytes for t in places), rel=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_signed_sums_make_no_copy_of_the_maps(dtype):
    """Also not of maps in half precision, which are read as they are."""
    projection, x = SignedSums(40_000, 1000), torch.ones(16, 40_000, dtype=dtype)
    with NewTensors(x, projection._signs) as made:
        projection(x)
    assert 0 < made.largest <= 4 * 16 * 2 * 1000  # the sums, twice as wide as k


@both_methods
def test_memory_of_a_pool_adds_what_is_kept_and_takes_the_largest_of_what_works(method):
    widths, k, n = [700, 3000, 50, 3000, 900], 50, 8  # 50 stays as it is, 3000 is shared
    each = [METHODS[method].memory(width, k, n, True) for width in (700, 900, 3000)]
    assert pool_memory(widths, k, method, n) == (sum(kept for kept, _ in each), each[2][1])
    assert pool_memory([50, 3], k, method, n) == (0, 0)
    pool = ProjectionPool(k, method)
    made = {id(pool[width]): pool[width] for width in widths if width > k}
    assert len(made) == 3
    kept = sum(projection.n_bytes for projection in made.values())
    assert kept == pytest.approx(pool_memory(widths, k, method, n)[0], rel=0.05)
    assert len({id(projection.scratch) for projection in made.values()}) == 1


class NewTensors(TorchDispatchMode):
    """Keeps the bytes of the largest tensor that any operation makes, views of the given ones aside."""

    def __init__(self, *given):
        super().__init__()
        self.given, self.largest = {tensor.untyped_storage().data_ptr() for tensor in given}, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in self.given:
            self.largest = max(self.largest, made.untyped_storage().nbytes())
        return made


def tensors_of(thing):
    """All tensors in the attributes of an object, also those in lists and tuples."""
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, (list, tuple)):
        return [tensor for item in thing for tensor in tensors_of(item)]
    return [tensor for item in getattr(thing, "__dict__", {}).values() for tensor in tensors_of(item)]
