"""Comparisons of RDMs against scipy, rsatoolbox, plain loops and the covariance of distances written out."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from deepjuice.alignment.geometry.rdm import compute_rdm
from deepjuice.alignment.geometry.rdm_compare import (
    _VECTORS,
    COMPARISONS,
    compare_pairs,
    compare_rdm_to_many,
    compare_rdms,
    compare_vectors,
    comparison_vectors,
    upper_triangle,
)
from juicyfruits.errors import InputError
from tests import oracles

TOOLBOX = {
    "pearson": "corr",
    "spearman": "spearman",
    "rho_a": "rho-a",
    "kendall_tau_a": "tau-a",
    "cosine": "cosine",
    "whitened_cosine": "cosine_cov",
    "whitened_pearson": "corr_cov",
}


def pairs_of(n=9, seed=0, ties=False, scale=1.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, size=(n, 4)) if ties else rng.normal(size=(n, 6))
    return (pdist(X, "sqeuclidean") * scale).astype(dtype)


def tau_a(a, b):
    signs = [np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in itertools.combinations(range(len(a)), 2)]
    return np.mean(signs)


def rho_by_random_ties(a, b, draws=4000):
    """Spearman's rho, averaged over draws of an order for the ties."""
    rng = np.random.default_rng(0)
    ranks = lambda x: np.argsort(np.argsort(x + 1e-9 * rng.random(len(x))))  # noqa: E731
    return np.mean([np.corrcoef(ranks(a), ranks(b))[0, 1] for _ in range(draws)])


def whitened(a, b, centre):
    """With V, the covariance of squared distances under equal independent noise, written out: (C C')^2 elementwise."""
    n = round((1 + np.sqrt(1 + 8 * len(a))) / 2)
    contrasts = np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in itertools.combinations(range(n), 2)])
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    a, b = (a - a.mean(), b - b.mean()) if centre else (a, b)
    return a @ inverse @ b / np.sqrt(a @ inverse @ a) / np.sqrt(b @ inverse @ b)


ORACLES = {
    "pearson": lambda a, b: stats.pearsonr(a, b).statistic,
    "spearman": lambda a, b: stats.spearmanr(a, b).statistic,
    "kendall_tau_a": tau_a,
    "concordance": oracles.concordance,
    "cosine": lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    "whitened_cosine": lambda a, b: whitened(a, b, False),
    "whitened_pearson": lambda a, b: whitened(a, b, True),
}
EXAMPLES = [{}, {"ties": True}, {"n": 3}, {"n": 12, "scale": 1e-60}, {"scale": 1e60}, {"dtype": np.float32}]


@pytest.mark.parametrize("method", ORACLES)
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_equals_the_oracle(method, example):
    a, b = pairs_of(**example), pairs_of(**example, seed=1)
    expected = ORACLES[method](a.astype(np.float64), b.astype(np.float64))
    assert compare_rdms(squareform(a), squareform(b), method) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", TOOLBOX)
@pytest.mark.parametrize("ties", [False, True])
def test_equals_rsatoolbox(method, ties):
    toolbox = pytest.importorskip("rsatoolbox")
    a, b = np.stack([pairs_of(seed=s, ties=ties) for s in (0, 1)]), np.stack([pairs_of(seed=s) for s in (2, 3)])
    theirs = toolbox.rdm.compare(toolbox.rdm.RDMs(a), toolbox.rdm.RDMs(b), TOOLBOX[method])
    ours = compare_pairs(torch.tensor(a), torch.tensor(b), method)
    np.testing.assert_allclose(ours, np.diagonal(theirs), atol=1e-12)
    np.testing.assert_allclose(compare_pairs(torch.tensor(a[:1]), torch.tensor(b), method), theirs[0], atol=1e-12)


def test_rho_a_is_spearman_with_ties_broken_at_random():
    a, b = pairs_of(ties=True), pairs_of(ties=True, seed=1) + pairs_of(ties=True)
    rho = compare_rdms(squareform(a), squareform(b), "rho_a")
    assert rho == pytest.approx(rho_by_random_ties(a, b), abs=0.01)
    assert rho < compare_rdms(squareform(a), squareform(b), "spearman") - 0.01
    a, b = pairs_of(), pairs_of(seed=1)
    assert compare_rdms(squareform(a), squareform(b), "rho_a") == pytest.approx(stats.spearmanr(a, b).statistic)


@pytest.mark.parametrize("method", COMPARISONS)
def test_one_with_many_is_one_by_one(method):
    rdms = [squareform(pairs_of(seed=s, ties=s == 2)) for s in range(4)]
    together = compare_rdm_to_many(rdms[0], rdms, method)
    assert together.dtype == torch.float64 and together.shape == (4,)
    one_by_one = [compare_rdms(rdms[0], other, method) for other in rdms]
    assert together.tolist() == pytest.approx(one_by_one, abs=1e-12)
    assert together[0] == pytest.approx(1) and together[1:].max() < 0.99
    assert compare_rdm_to_many(rdms[0], np.stack(rdms), method).tolist() == together.tolist()
    backwards = [compare_rdms(other, rdms[0], method) for other in rdms]
    assert backwards == pytest.approx(one_by_one, abs=1e-12)


@pytest.mark.parametrize("method", COMPARISONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_nan_compares_with_nothing(method, bad):
    pairs = torch.tensor(np.stack([pairs_of(seed=s) for s in range(3)]))
    pairs[1, 4] = bad
    for a, b in ((pairs[:1], pairs), (pairs, pairs[:1].expand(3, -1)), (pairs, pairs)):
        assert compare_pairs(a, b, method).isnan().tolist() == [False, True, False]
    assert compare_pairs(pairs[1:2], pairs, method).isnan().all()


@pytest.mark.parametrize("method", COMPARISONS)
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_what_does_not_vary(method, value):
    flat, pairs = torch.full((1, 36), value, dtype=torch.float64), torch.tensor(pairs_of()[None])
    scores = [compare_pairs(flat, pairs, method), compare_pairs(pairs, flat, method), compare_pairs(flat, flat, method)]
    defined = value > 0 and method in ("cosine", "whitened_cosine")
    assert [bool(score.isnan()) for score in scores] == [not defined] * 3
    if defined:
        expected = ORACLES[method](flat[0].numpy(), pairs[0].numpy())
        assert [s.item() for s in scores] == pytest.approx([expected, expected, 1], abs=1e-12)


@pytest.mark.parametrize("method", ["pearson", "spearman", "kendall_tau_a", "concordance", "whitened_pearson"])
def test_an_rdm_of_rounding_does_not_vary(method):
    pairs = np.full(36, 0.1)
    pairs[::2] = np.nextafter(0.1, 1)
    assert compare_pairs(torch.tensor(pairs[None]), torch.tensor(pairs_of()[None]), method).isnan().all()


@pytest.mark.parametrize("method", _VECTORS)
def test_vectors_made_once_compare_as_pairs(method):
    pairs = torch.tensor(np.stack([pairs_of(seed=s, ties=s == 1) for s in range(4)])).float()
    pairs[3, 0] = torch.nan
    vectors = comparison_vectors(pairs, method)
    expected = compare_pairs(pairs[:1], pairs, method)
    torch.testing.assert_close(compare_vectors(vectors[:1], vectors), expected, equal_nan=True)
    torch.testing.assert_close(compare_vectors(vectors, vectors), compare_pairs(pairs, pairs, method), equal_nan=True)
    assert vectors.dtype == torch.float64 and expected.isnan().tolist() == [False, False, False, True]


@pytest.mark.parametrize("method", ["spearman", "kendall_tau_a", "rho_a"])
def test_ranks_know_no_scale(method):
    a, b = pairs_of(), pairs_of(seed=1)
    assert compare_rdms(squareform(np.exp(a)), squareform(b), method) == pytest.approx(
        compare_rdms(squareform(a), squareform(b), method), abs=1e-12
    )


def test_concordance_knows_the_scale():
    rdm = squareform(pairs_of())
    assert compare_rdms(rdm, rdm, "concordance") == pytest.approx(1, abs=1e-12)
    assert compare_rdms(rdm, 2 * rdm, "concordance") < 0.8
    assert compare_rdms(rdm, 2 * rdm) == pytest.approx(1, abs=1e-12)


def test_pairs_are_those_of_scipy():
    rdm = squareform(pairs_of())
    np.testing.assert_array_equal(upper_triangle(rdm), squareform(rdm))
    np.testing.assert_array_equal(upper_triangle(np.stack([rdm, 2 * rdm])), [squareform(rdm), 2 * squareform(rdm)])


@pytest.mark.parametrize("method", COMPARISONS)
def test_float32_pairs_are_widened(method):
    pairs = torch.tensor(np.stack([pairs_of(seed=s) for s in range(3)])).float()
    narrow, wide = compare_pairs(pairs[:1], pairs, method), compare_pairs(pairs[:1].double(), pairs.double(), method)
    assert torch.equal(narrow, wide)


def test_float32_rdms_are_widened():
    a, b = squareform(pairs_of(dtype=np.float32)), squareform(pairs_of(seed=1, dtype=np.float32))
    wide = compare_rdms(a.astype(np.float64), b.astype(np.float64), "whitened_cosine")
    assert compare_rdms(a, b, "whitened_cosine") == pytest.approx(wide, abs=1e-14)


def test_bad_input_is_named():
    rdm = compute_rdm(np.random.default_rng(0).normal(size=(6, 9)))
    with pytest.raises(InputError, match="did you mean 'spearman'"):
        compare_rdms(rdm, rdm, "spearmanr")
    with pytest.raises(InputError, match="'kendall_tau_a' is not an inner product"):
        comparison_vectors(upper_triangle(rdm)[None], "kendall_tau_a")
    with pytest.raises(InputError, match=r"\(6, 6\) and \(5, 5\)"):
        compare_rdms(rdm, rdm[1:, 1:])
    with pytest.raises(InputError, match="square"):
        compare_rdms(rdm[1:], rdm)
    with pytest.raises(InputError, match="none came"):
        compare_rdm_to_many(rdm, [])
    with pytest.raises(InputError, match=r"\(2, 15\) and \(3, 15\) came"):
        compare_pairs(torch.ones(2, 15), torch.ones(3, 15))
    with pytest.raises(InputError, match="but 14 came"):
        compare_pairs(torch.rand(1, 14), torch.rand(1, 14), "whitened_cosine")
