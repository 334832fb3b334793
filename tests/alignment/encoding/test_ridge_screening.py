"""Screening in float32 must not change a single alpha."""

import numpy as np
import pytest
import torch

from deepjuice.alignment import DEFAULT_ALPHAS, ridge_decompose, select_alphas
from deepjuice.alignment.encoding import ridge_screening
from deepjuice.alignment.encoding.ridge import choose_alphas
from deepjuice.alignment.encoding.ridge_screening import screens_in_float32
from tests.alignment.simulation import ALPHAS, SHAPES, simulated

FINE = np.logspace(0, 4, 200)  # neighbours differ by 5 %: their errors are nearly equal


def in_float64(dec, Y, alphas):
    return select_alphas(dec, Y, alphas, keep_scores=True).alpha


def bounds_hold(dec, Y, alphas):
    """How far screened errors are off, at most, in units of their bounds."""
    grid = torch.as_tensor(alphas, dtype=torch.float64)
    Z = ridge_screening._unit_rows(dec, Y)
    errors, bounds = ridge_screening._screen(dec, Z, *ridge_screening._operators(dec, grid))
    exact = -select_alphas(dec, Z.T, alphas, keep_scores=True).scores * len(Y)
    return ((errors - exact).abs() / bounds).max().item()


@pytest.mark.parametrize("shape", [(60, 200), (60, 60), (90, 20)], ids=["wide", "square", "tall"])
@pytest.mark.parametrize("alphas", [ALPHAS, DEFAULT_ALPHAS, FINE], ids=["decades", "default", "fine"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_thousands_of_targets_get_the_alphas_of_float64(shape, alphas, fit_intercept):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=1500, seed=4))
    dec = ridge_decompose(X, fit_intercept=fit_intercept)
    assert torch.equal(choose_alphas(dec, Y, alphas), in_float64(dec, Y, alphas))
    assert 0 < bounds_hold(dec, Y, alphas) < 0.5


@pytest.mark.parametrize("shape", [(60, 200), (90, 20)], ids=["wide", "tall"])
def test_a_wrong_bound_would_be_noticed(shape, monkeypatch):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=3000, seed=4))
    dec, alphas = ridge_decompose(X), np.logspace(2, 2.01, 200)
    expected = in_float64(dec, Y, alphas)
    assert torch.equal(choose_alphas(dec, Y, alphas), expected)
    monkeypatch.setattr(ridge_screening, "SAFETY", 0.0)
    assert not torch.equal(choose_alphas(dec, Y, alphas), expected)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e150])
def test_huge_and_tiny_targets(shape, scale):
    X, Y = (torch.tensor(v) for v in simulated(*shape))
    dec = ridge_decompose(X)
    assert torch.equal(choose_alphas(dec, Y * scale, ALPHAS), in_float64(dec, Y, ALPHAS))


def test_huge_targets_below_zero_without_an_intercept():
    X, Y = (torch.tensor(v) for v in simulated(24, 60))
    Y, dec = Y - Y.amax(dim=0), ridge_decompose(X, fit_intercept=False)
    assert torch.equal(choose_alphas(dec, Y * 1e150, ALPHAS), in_float64(dec, Y, ALPHAS))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_offset(shape, dtype):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=50, offset=1e6))
    Y, dec = Y.to(dtype), ridge_decompose(X)
    assert torch.equal(choose_alphas(dec, Y, ALPHAS), in_float64(dec, Y, ALPHAS))
    assert torch.equal(choose_alphas(dec, Y, ALPHAS), in_float64(dec, Y.double() - Y.double().mean(dim=0), ALPHAS))


def test_features_of_all_sizes_unscaled():
    X, Y = (torch.tensor(v) for v in simulated(40, 15, n_targets=500))
    for factor in (1e-30, 1e-3, 1e3, 1e15):
        for x in (X, torch.cat([X, X.roll(1, 0), X.roll(2, 0)], dim=1)):
            dec = ridge_decompose(x * factor, scale=False)
            alphas = [alpha * factor**2 for alpha in ALPHAS.tolist()]
            assert torch.equal(choose_alphas(dec, Y, alphas), in_float64(dec, Y, alphas))


@pytest.mark.parametrize("p", [15, 200], ids=["tall", "wide"])
def test_collinear_features_duplicated_stimuli_and_constant_columns(p):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(30, 4)) @ rng.normal(size=(4, p))
    X = torch.tensor(np.concatenate([X, X[:15]]))
    X[:, 2] = 7.0
    Y = torch.tensor(rng.normal(size=(45, 1000))) + X @ torch.tensor(rng.normal(size=(p, 1000)))
    Y[:, 5] = 0.0
    dec = ridge_decompose(X)
    for alphas in (ALPHAS, (1e-6, 1e-3, 1.0)):
        assert torch.equal(choose_alphas(dec, Y, alphas), in_float64(dec, Y, alphas))


@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
def test_ties_go_to_the_alpha_named_first(shape):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=40))
    Y[:, 3] = 2.5  # without variance every alpha is as good
    dec = ridge_decompose(X)
    once, twice = choose_alphas(dec, Y, ALPHAS[::-1].copy()), choose_alphas(dec, Y, np.repeat(ALPHAS[::-1], 2))
    assert torch.equal(once, twice) and once[3] == 1e5
    assert choose_alphas(ridge_decompose(torch.ones(9, 5)), Y[:9], [3.0, 1.0]).unique().tolist() == [3.0]


@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
def test_targets_without_noise(shape):
    X, _ = simulated(*shape)
    weights = np.random.default_rng(1).normal(size=(shape[1], 500))
    Y, dec = torch.tensor(X @ weights), ridge_decompose(torch.tensor(X))
    alphas = np.logspace(-8, 2, 21)
    assert torch.equal(choose_alphas(dec, Y, alphas), in_float64(dec, Y, alphas))


@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
@pytest.mark.parametrize("block_bytes", [1, 5_000, 30_011])
def test_block_size_changes_nothing(shape, block_bytes):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=53))
    dec = ridge_decompose(X)
    assert torch.equal(choose_alphas(dec, Y, FINE), choose_alphas(dec, Y, FINE, block_bytes=block_bytes))


def test_float32_that_overflows_is_left_to_float64(monkeypatch):
    X, Y = (torch.tensor(v) for v in simulated(24, 60, n_targets=50))
    dec = ridge_decompose(X)
    expected = in_float64(dec, Y, ALPHAS)
    broken = ridge_screening._times_transposed
    monkeypatch.setattr(
        "deepjuice.alignment.encoding.ridge.screens_in_float32", lambda device: True
    )  # which would see it
    monkeypatch.setattr(ridge_screening, "_times_transposed", lambda rows, matrix: broken(rows, matrix) * torch.inf)
    assert torch.equal(choose_alphas(dec, Y, ALPHAS), expected)


def test_products_of_less_than_float32_are_not_screened_with(monkeypatch):
    assert screens_in_float32(torch.device("cpu"))
    product = ridge_screening._times_transposed
    blurred = lambda rows, matrix: product(rows.bfloat16().float(), matrix)  # noqa: E731
    monkeypatch.setattr(ridge_screening, "_times_transposed", blurred)
    assert not screens_in_float32(torch.device("cpu"))
    X, Y = (torch.tensor(v) for v in simulated(24, 60, n_targets=500))
    dec = ridge_decompose(X)
    assert torch.equal(choose_alphas(dec, Y, FINE), in_float64(dec, Y, FINE))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 5), (300, 90, 40)])
def test_the_convolution_is_the_product(shape):
    t, n, r = shape
    rng = torch.Generator().manual_seed(0)
    rows, matrix = torch.randn(t, r, generator=rng), torch.randn(n, r, generator=rng)
    product = ridge_screening._times_transposed(rows, matrix)
    torch.testing.assert_close(product.double(), rows.double() @ matrix.double().T, rtol=1e-5, atol=1e-5)
    assert product.shape == (t, n)
