"""CKA and Procrustes against kernels written out, loops over quadruples, and scipy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group
from torch.overrides import TorchFunctionMode

from deepjuice.alignment.geometry import similarity
from deepjuice.alignment.geometry.rdm import compute_rdm
from deepjuice.alignment.geometry.rdm_compare import compare_rdms
from deepjuice.alignment.geometry.similarity import linear_cka, procrustes_distance, procrustes_similarity
from deepjuice.alignment.linalg import blocks
from juicyfruits.errors import InputError

WIDTHS = [(5, 8), (12, 12), (40, 70), (3, 90), (90, 3), (1, 1)]  # of 12 stimuli


def two(p, q, n=12, dtype=np.float64, offset=0.0, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3))
    X, Y = (shared @ rng.normal(size=(3, k)) + 0.5 * rng.normal(size=(n, k)) + offset for k in (p, q))
    return (X * scale).astype(dtype), (Y * scale).astype(dtype)


def centred(X):
    return X.astype(np.float64) - X.astype(np.float64).mean(axis=0)


def cka_by_kernels(X, Y):
    n = len(X)
    H = np.eye(n) - 1 / n
    hsic = lambda A, B: np.trace(A @ A.T @ H @ B @ B.T @ H)  # noqa: E731
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    return hsic(X, Y) / np.sqrt(hsic(X, X) * hsic(Y, Y))


def hsic_unbiased(X, Y):
    """Song et al.'s estimator as they write it, with kernels whose diagonal is zero."""
    n = len(X)
    K, L = (M.astype(np.float64) @ M.astype(np.float64).T for M in (X, Y))
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n)
    third = 2 / (n - 2) * (one @ K @ L @ one)
    return (np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / (n - 1) / (n - 2) - third) / (n * (n - 3))


def hsic_by_quadruples(X, Y):
    """The U-statistic it is: the mean over all quadruples of different stimuli."""
    K, L = X @ X.T, Y @ Y.T
    terms = [K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]) for i, j, q, r in itertools.permutations(range(len(X)), 4)]
    return np.mean(terms)


def procrustes_by_scipy(X, Y):
    width = max(X.shape[1], Y.shape[1])
    A, B = (np.pad(centred(M), ((0, 0), (0, width - M.shape[1]))) for M in (X, Y))
    A, B = A / np.linalg.norm(A), B / np.linalg.norm(B)
    Q, total = orthogonal_procrustes(A, B)
    return total, np.linalg.norm(A @ Q - B) ** 2


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("options", [{}, {"offset": 100}, {"dtype": np.float32}, {"scale": 1e-30}], ids=str)
def test_equals_the_oracles(widths, options):
    X, Y = two(*widths, **options)
    assert linear_cka(X, Y) == pytest.approx(cka_by_kernels(centred(X), centred(Y)), abs=1e-10)
    parts = [hsic_unbiased(centred(A), centred(B)) for A, B in ((X, Y), (X, X), (Y, Y))]
    expected = parts[0] / np.sqrt(parts[1]) / np.sqrt(parts[2])
    assert linear_cka(X, Y, unbiased=True) == pytest.approx(max(-1, min(1, expected)), abs=1e-10)
    total, squared = procrustes_by_scipy(X, Y)
    assert procrustes_similarity(X, Y) == pytest.approx(total, abs=1e-12)
    assert procrustes_distance(X, Y, "squared") == pytest.approx(squared, abs=1e-12)
    assert math.cos(procrustes_distance(X, Y)) == pytest.approx(total, abs=1e-12)


def test_unbiased_hsic_is_the_u_statistic():
    X, Y = two(4, 6, n=7, offset=1)
    parts = [hsic_by_quadruples(A, B) for A, B in ((X, Y), (X, X), (Y, Y))]
    assert linear_cka(X, Y, unbiased=True) == pytest.approx(parts[0] / np.sqrt(parts[1] * parts[2]), abs=1e-12)


@pytest.mark.parametrize("n", [4, 5])
def test_few_stimuli(n):
    X, Y = two(3, 5, n=n, seed=2)
    parts = [hsic_unbiased(A, B) for A, B in ((X, Y), (X, X), (Y, Y))]
    if min(parts[1:]) <= 0:
        assert math.isnan(linear_cka(X, Y, unbiased=True))
    else:
        assert linear_cka(X, Y, True) == pytest.approx(np.clip(parts[0] / np.sqrt(parts[1] * parts[2]), -1, 1))


@pytest.mark.parametrize("widths", [(40, 70), (3, 90), (5, 8)], ids=str)
def test_blocks_change_nothing(widths, monkeypatch):
    X, Y = two(*widths)
    measures = (linear_cka, lambda a, b: linear_cka(a, b, unbiased=True), procrustes_similarity)
    whole = [measure(X, Y) for measure in measures]
    monkeypatch.setattr(blocks, "__defaults__", (1000,))
    monkeypatch.setattr(similarity, "MIN_QR_WIDTH", 1)
    assert [measure(X, Y) for measure in measures] == pytest.approx(whole, abs=1e-12)


class Largest(TorchFunctionMode):
    """Notes the size of the largest tensor that any call returns."""

    numel = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.numel = max(self.numel, result.numel() if isinstance(result, torch.Tensor) else 0)
        return result


@pytest.mark.parametrize("shape", [(300, 400, 10), (300, 3, 10), (2, 9, 300), (9, 5, 300)], ids=str)
def test_nothing_of_features_by_features_nor_stimuli_by_stimuli_is_made(shape):
    p, q, n = shape
    X, Y = two(p, q, n)
    with Largest() as cka:
        linear_cka(X, Y)
        linear_cka(X, Y, unbiased=True)
    assert cka.numel == n * max(p, q)
    with Largest() as procrustes:
        procrustes_similarity(X, Y)
    assert procrustes.numel <= n * (max(p, q) + n if max(p, q) > n else max(p, q))


@pytest.mark.parametrize("n", [5, 8, 60])
def test_stimuli_that_are_equally_far_apart(n):
    X, Y = 3 * np.eye(n) + 1, two(4, 6, n=n)[0]
    assert math.isnan(linear_cka(X, Y, unbiased=True)) and math.isnan(linear_cka(Y, X, unbiased=True))
    assert 0 < linear_cka(X, Y) < 1
    for seed in range(5):
        turned = X @ ortho_group.rvs(n, random_state=seed)
        assert math.isnan(linear_cka(turned, Y, unbiased=True))
    bent = X + 1e-4 * two(n, 1, n=n)[0]
    parts = [hsic_unbiased(centred(A), centred(B)) for A, B in ((bent, Y), (bent, bent), (Y, Y))]
    expected = parts[0] / np.sqrt(parts[1] * parts[2])
    assert linear_cka(bent, Y, unbiased=True) == pytest.approx(expected, rel=1e-4)


def test_never_above_one():
    for seed in range(50):
        X = two(7, 3, seed=seed)[0]
        assert 1 - 1e-12 < linear_cka(X, X) <= 1 and 1 - 1e-12 < linear_cka(X, 3 * X, unbiased=True) <= 1


@pytest.mark.parametrize("p", [6, 30])
def test_what_they_are_blind_to(p):
    X, Y = two(p, 9)
    turned = 7 * X @ ortho_group.rvs(p, random_state=0) + np.arange(p)
    for measure in (linear_cka, procrustes_similarity, lambda a, b: linear_cka(a, b, unbiased=True)):
        assert measure(turned, Y) == pytest.approx(measure(X, Y), abs=1e-12)
        assert measure(turned, X) == pytest.approx(1, abs=1e-12) and measure(X, Y) < 0.99
        assert measure(Y, X) == pytest.approx(measure(X, Y), abs=1e-12)
    assert procrustes_distance(turned, X) < 1e-6 and procrustes_distance(X, X, "squared") < 1e-12
    columns = np.diag(np.arange(1, p + 1.0))
    assert linear_cka(X @ columns, Y) != pytest.approx(linear_cka(X, Y), abs=1e-3)


def test_unbiased_is_zero_for_independent_features_and_biased_is_not():
    rng = np.random.default_rng(0)
    draws = [(rng.normal(size=(12, 200)), rng.normal(size=(12, 200))) for _ in range(50)]
    assert abs(np.mean([linear_cka(X, Y, unbiased=True) for X, Y in draws])) < 0.05
    assert np.mean([linear_cka(X, Y) for X, Y in draws]) > 0.8


def test_cka_is_the_whitened_cosine_of_squared_distances():
    X, Y = two(20, 6)
    rdms = [compute_rdm(M, "squared_euclidean") for M in (X, Y)]
    assert compare_rdms(*rdms, "whitened_cosine") == pytest.approx(linear_cka(X, Y), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-40, 1e40, 1e200])
def test_any_scale(scale):
    X, Y = two(20, 6)
    for measure in (linear_cka, procrustes_similarity):
        assert measure(X * scale, Y / scale) == pytest.approx(measure(X, Y), abs=1e-10)


@pytest.mark.parametrize("value", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_does_not_vary_is_undefined(value, dtype):
    X, Y = two(20, 6)[0], np.full((12, 6), value, dtype=dtype)
    for a, b in ((X, Y), (Y, X)):
        assert math.isnan(linear_cka(a, b)) and math.isnan(linear_cka(a, b, unbiased=True))
        assert math.isnan(procrustes_similarity(a, b)) and math.isnan(procrustes_distance(a, b, "squared"))
        assert math.isnan(procrustes_distance(a, b))


def test_ties_and_collinear_features():
    X, Y = two(4, 6)
    X = np.concatenate([X, X, X[:, :1] * 0 + 3], axis=1)
    X[5], Y[5] = X[4], Y[4]
    assert procrustes_similarity(X, Y) == pytest.approx(procrustes_by_scipy(X, Y)[0], abs=1e-12)
    assert linear_cka(X, Y) == pytest.approx(cka_by_kernels(X, Y), abs=1e-12)


def test_bad_input_is_named():
    X, Y = two(4, 6)
    for function in (linear_cka, procrustes_similarity, procrustes_distance):
        with pytest.raises(InputError, match="12 and 11; align"):
            function(X, Y[1:])
        with pytest.raises(InputError, match="Y has 1 of 72"):
            function(X, np.where(np.arange(72).reshape(12, 6) == 5, np.nan, Y))
    with pytest.raises(InputError, match="at least 4 row"):
        linear_cka(X[:3], Y[:3], unbiased=True)
    with pytest.raises(InputError, match="did you mean 'angular'"):
        procrustes_distance(X, Y, "angle")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_cuda_equals_cpu(widths):
    X, Y = two(*widths)
    on_gpu = [torch.tensor(M, device="cuda") for M in (X, Y)]
    assert linear_cka(*on_gpu) == pytest.approx(linear_cka(X, Y), abs=1e-10)
    assert linear_cka(*on_gpu, unbiased=True) == pytest.approx(linear_cka(X, Y, unbiased=True), abs=1e-9)
    assert procrustes_similarity(*on_gpu) == pytest.approx(procrustes_similarity(X, Y), abs=1e-10)
