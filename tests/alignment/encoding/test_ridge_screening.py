"""Screening in float32 must not change a single alpha."""

import numpy as np
import pytest
import torch

from deepjuice.alignment import DEFAULT_ALPHAS, loo_predictions, ridge_decompose, select_alphas
from deepjuice.alignment.encoding import ridge_screening
from deepjuice.alignment.encoding.ridge import choose_alphas
from deepjuice.alignment.encoding.ridge_screening import AlphaScreen, screens_in_float32
from tests.alignment.simulation import ALPHAS, SHAPES, simulated

FINE = np.logspace(0, 4, 200)  # neighbours differ by 5 %: their errors are nearly equal


def in_float64(dec, Y, alphas):
    return select_alphas(dec, Y, alphas, keep_scores=True).alpha


def unit_rows(dec, Y):
    """Centred targets (t, n), each divided by its largest value."""
    centred = Y - Y.mean(dim=0) if dec.fit_intercept else Y
    return (centred / centred.abs().amax(dim=0)).T


def screened(dec, Y, alphas):
    """Errors and bounds of the screening, the exact errors, and whether an alpha was looked at at all."""
    grid = torch.as_tensor(alphas, dtype=torch.float64)
    screen, Z = AlphaScreen(dec, grid), unit_rows(dec, Y)
    errors, bounds = ridge_screening._screen(screen._rough, Z.float(), (Z @ screen._exact.P).float())
    reference = -select_alphas(dec, Z.T, alphas, keep_scores=True).scores * len(Y)
    return errors, bounds, reference, errors.isfinite()


@pytest.mark.parametrize("shape", [(60, 200), (60, 60), (90, 20)], ids=["wide", "square", "tall"])
@pytest.mark.parametrize("alphas", [ALPHAS, DEFAULT_ALPHAS, FINE], ids=["decades", "default", "fine"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_thousands_of_targets_get_the_alphas_of_float64(shape, alphas, fit_intercept):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=1500, seed=4))
    dec = ridge_decompose(X, fit_intercept=fit_intercept)
    assert torch.equal(choose_alphas(dec, Y, alphas), in_float64(dec, Y, alphas))
    errors, bounds, exact, seen = screened(dec, Y, alphas)
    assert 0 < ((errors - exact).abs() / bounds)[seen].max() < 0.5
    assert (bounds[~seen] == 0).all() and not seen.all()
    assert (exact > exact.amin(dim=0))[~seen].all(), "what is ruled out unseen is not the best"


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
    assert torch.equal(choose_alphas(dec, Y * 1e160, ALPHAS), in_float64(dec, Y, ALPHAS))


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
    expected, product = in_float64(dec, Y, ALPHAS), ridge_screening._squared_errors

    def overflowing(residuals, Z, *args):
        return product(residuals, Z, *args) * (torch.inf if Z.dtype == torch.float32 else 1.0)

    monkeypatch.setattr(ridge_screening, "_squared_errors", overflowing)
    assert torch.equal(choose_alphas(dec, Y, ALPHAS), expected)


def test_products_of_less_than_float32_are_not_screened_with(monkeypatch):
    device = torch.device("cpu")
    assert screens_in_float32(device) and not screens_in_float32(torch.device("mps"))
    monkeypatch.setattr(torch, "eye", lambda n, device: torch.full((n, n), 1.0 / n).fill_diagonal_(1.0 + 1.0 / n))
    assert not screens_in_float32(device), "a product that does not give every digit back"
    monkeypatch.setattr("deepjuice.alignment.encoding.ridge.screens_in_float32", lambda device: False)
    monkeypatch.setattr("deepjuice.alignment.encoding.ridge.AlphaScreen", None)
    X, Y = (torch.tensor(v) for v in simulated(24, 60, n_targets=500))
    dec = ridge_decompose(X)
    assert torch.equal(choose_alphas(dec, Y, FINE), in_float64(dec, Y, FINE))


@pytest.mark.parametrize("shape", [(400, 800), (800, 100)], ids=["wide", "tall"])
def test_little_is_evaluated_and_less_in_float64(shape, monkeypatch):
    """How many alphas a target are looked at: few where there is signal; of noise few are a close call all the same."""
    counts, squared_errors = {}, ridge_screening._squared_errors

    def counted(residuals, Z, C, wanted):
        counts[Z.dtype] = counts.get(Z.dtype, 0) + wanted.sum().item() / 100
        return squared_errors(residuals, Z, C, wanted)

    monkeypatch.setattr(ridge_screening, "_squared_errors", counted)
    (n, p), rng = shape, torch.Generator().manual_seed(0)
    latent = torch.randn(n, p, generator=rng) * torch.arange(1, p + 1) ** -0.5
    noise = torch.randn(n, 100, generator=rng)
    signal = latent[:, :10] @ torch.randn(10, 100, generator=rng)
    dec = ridge_decompose(latent @ torch.randn(p, p, generator=rng))
    for Y, most_seen, most_exact in ((signal + noise, 9, 0.6), (noise, 13, 4)):
        counts.clear()
        choose_alphas(dec, Y, DEFAULT_ALPHAS)
        assert 1 <= counts[torch.float32] < most_seen and counts.get(torch.float64, 0) < most_exact


def uneven(n, p, n_targets, seed=0):
    """Stimuli of very unequal leverage: the smallest D is hundreds of times the largest, and bounds rule out little."""
    rng = np.random.default_rng(seed)
    X = np.exp(2 * rng.normal(size=(n, 1))) * rng.normal(size=(n, p))
    signal = X @ rng.normal(size=(p, n_targets)) / p**0.5
    return torch.tensor(X), torch.tensor(signal + rng.normal(size=(n, n_targets)) * np.exp(rng.normal(size=n_targets)))


@pytest.mark.parametrize("shape", [(60, 200), (90, 20)], ids=["wide", "tall"])
@pytest.mark.parametrize("alphas", [ALPHAS, DEFAULT_ALPHAS, FINE], ids=["decades", "default", "fine"])
def test_stimuli_of_unequal_leverage(shape, alphas):
    X, Y = uneven(*shape, 1000)
    dec = ridge_decompose(X)
    expected = in_float64(dec, Y, alphas)
    assert torch.equal(choose_alphas(dec, Y, alphas), expected) and len(expected.unique()) > 2
    errors, bounds, exact, seen = screened(dec, Y, alphas)
    assert ((errors - exact).abs() <= bounds)[seen].all() and (exact > exact.amin(dim=0))[~seen].all()


@pytest.mark.parametrize("shape", [(40, 60), (50, 12)], ids=["wide", "tall"])
def test_the_lower_bound_is_below_and_residuals_are_the_loops(shape):
    X, Y = uneven(*shape, 20)
    dec, grid = ridge_decompose(X), torch.as_tensor(ALPHAS)
    form = ridge_screening._dual(dec, grid) if dec.is_dual else ridge_screening._primal(dec, grid)
    Z = unit_rows(dec, Y)
    C = Z @ form.P
    exact = torch.stack([(Z.T - loo_predictions(dec, Z.T, alpha)).square().sum(dim=0) for alpha in ALPHAS])
    everything = torch.ones_like(exact, dtype=torch.bool)
    torch.testing.assert_close(ridge_screening._squared_errors(form, Z, C, everything), exact, rtol=1e-9, atol=1e-12)
    least = form.least @ C.square().T + form.least_of_own[:, None] * Z.square().sum(dim=1)
    assert (least <= exact * (1 + 1e-9)).all() and (least[-1] > 0.5 * exact[-1]).all()
    assert (C.norm(dim=1) <= Z.norm(dim=1) * (1 + 1e-12)).all()


def test_a_stimulus_that_alone_knows_a_feature_is_left_to_float64():
    """Its D is alpha / 1e16, beyond float32; the others have fewer features than they are, and alphas that matter."""
    rng = np.random.default_rng(0)
    X = torch.zeros(30, 40, dtype=torch.float64)
    X[0, 0], X[1:, 1:5] = 1e8, torch.tensor(rng.normal(size=(29, 4)))
    Y = X[:, 1:5] @ torch.tensor(rng.normal(size=(4, 300))) + 2 * torch.tensor(rng.normal(size=(30, 300)))
    dec = ridge_decompose(X, scale=False, fit_intercept=False)
    alphas = np.array([1e-20, 1.0, 10.0, 100.0])
    expected = in_float64(dec, Y, alphas)
    assert torch.equal(choose_alphas(dec, Y, alphas), expected) and len(expected.unique()) > 2
    assert ridge_screening._dual(dec, torch.tensor(alphas)).size[0] == torch.inf
