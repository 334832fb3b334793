"""Spectra of weights against numpy, powerlaw, closed forms, and deep-data-profiler 2.0.1."""

import math
import sys
import warnings

import numpy as np
import powerlaw
import pytest
import torch
from torch import nn

from deepjuice.weight_spectra import SpectralAnalysis, power_law_exponent, weight_spectrum
from juicyfruits.errors import InputError


@pytest.fixture(scope="module")
def theirs():
    with warnings.catch_warnings(), torch.random.fork_rng():
        from deep_data_profiler.algorithms import SpectralAnalysis as Theirs
    return Theirs


class Nested(nn.Module):
    """Two convolutions, one of them in a block, two linear layers, and what has no weight matrix."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5)
        self.block = nn.ModuleDict({"norm": nn.BatchNorm2d(16), "conv": nn.Conv2d(16, 40, 3, groups=2)})
        self.classify = nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 10))


def heavy_tailed(shape, alpha, seed):
    """Weights whose eigenvalues w w' / rows are quantiles of lambda^-alpha from 1 on."""
    rng = np.random.default_rng(seed)
    n = min(shape)
    values = (1 - (np.arange(n) + 0.5) / n) ** (-1 / (alpha - 1))
    u, _ = np.linalg.qr(rng.standard_normal((shape[0], n)))
    v, _ = np.linalg.qr(rng.standard_normal((shape[1], n)))
    return torch.from_numpy((u * np.sqrt(values * shape[0])) @ v.T).float(), np.sort(values)[::-1]


@pytest.fixture(scope="module")
def net():
    model = Nested()
    with torch.no_grad():
        for seed, layer in enumerate((model.stem, model.block["conv"], model.classify[0], model.classify[2])):
            layer.weight.copy_(heavy_tailed(layer.weight.flatten(1).shape, 2 + seed / 4, seed)[0].view_as(layer.weight))
    return model


def test_eigenvalues_are_numpys(net):
    analysis = SpectralAnalysis(net)
    assert analysis.names == {1: "stem", 2: "block.conv", 3: "classify.0", 4: "classify.2"}
    found = analysis.spectral_analysis()
    for number, ratio in {1: 75 / 16, 2: 72 / 40, 3: 60 / 40, 4: 6}.items():
        matrix = net.get_submodule(analysis.names[number]).weight.detach().flatten(1).double().numpy()
        expected = np.linalg.svd(matrix, compute_uv=False) ** 2 / len(matrix)
        values, aspect = found[number]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13 * expected.max())
        assert aspect == pytest.approx(ratio) and values.dtype == np.float64


def test_what_deep_data_profiler_finds(theirs, net):
    """Where no alpha is above 3, from which on it is cut off by powerlaw 2."""
    ours, other = SpectralAnalysis(net), theirs(net)
    spectra = other.spectral_analysis()
    for number, (values, aspect) in ours.spectral_analysis().items():
        np.testing.assert_allclose(values, spectra[number][0], rtol=1e-4)
        assert aspect == pytest.approx(spectra[number][1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = other.fit_power_law(spectra)
    assert fits.keys() == ours.fit_power_law().keys()
    for number, (alpha, eig_max) in ours.fit_power_law().items():
        assert (alpha, eig_max) == pytest.approx(fits[number], rel=1e-3) and alpha < 3
    assert ours.universal_metric() == pytest.approx(other.universal_metric(fits), rel=1e-3)
    assert len(other.layer_RMT(fits)) == len(ours.layer_RMT(fits)) == 4


@pytest.mark.parametrize("alpha", [1.8, 2.5, 3.5, 6.0])
def test_the_exponent_is_that_of_the_spectrum(alpha):
    values, ratio = weight_spectrum(heavy_tailed((400, 500), alpha, 0)[0])
    np.testing.assert_allclose(values, heavy_tailed((400, 500), alpha, 0)[1], rtol=1e-4)
    assert power_law_exponent(values, ratio) == pytest.approx(alpha, rel=0.05)


def most_likely(x):
    """Return alpha in closed form, from the value on whose share of smaller ones the fit is closest to."""
    x = np.sort(x)
    best = math.inf, math.nan
    for first in range(len(x) - 2):
        logs, m = np.log(x[first:] / x[first]), len(x) - first
        alpha = 1 + m / logs.sum()
        distance = np.abs(1 - np.exp((1 - alpha) * logs) - np.arange(m) / m).max()
        best = min(best, (distance, alpha))
    return best[1]


@pytest.mark.parametrize("seed", range(4))
def test_exponents_above_3_are_found(seed):
    """Of random weights, to which powerlaw 2 by itself gives an alpha of 3 at most: none would be untrained."""
    values = np.linalg.svd(np.random.default_rng(seed).standard_normal((120, 150)), compute_uv=False) ** 2 / 120
    assert power_law_exponent(values, 1.25) == pytest.approx(most_likely(values), rel=1e-9)
    assert power_law_exponent(values, 1.25) > 3.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        capped = powerlaw.Fit(values, verbose=False).power_law.alpha
    assert capped <= 3


def test_rounding_of_zeros_is_no_tail():
    """Of weights of rank 4: with what rounding makes of the zeros, alpha would at times be little above 1."""
    rng, misled = np.random.default_rng(0), 0
    for _ in range(12):
        weight = (rng.standard_normal((80, 4)) @ rng.standard_normal((4, 100))).astype(np.float32)
        values, ratio = weight_spectrum(torch.from_numpy(weight))
        rounded = np.linalg.svd(weight, compute_uv=False).astype(float) ** 2 / 80
        assert len(values) == len(rounded) == 80
        assert power_law_exponent(values, ratio) == pytest.approx(most_likely(values[:4]), rel=1e-9)
        assert power_law_exponent(rounded, ratio) == pytest.approx(most_likely(rounded[:4]), rel=1e-9)
        misled += most_likely(rounded) < 1.5 < 2 < most_likely(rounded[:4])
    assert misled > 2


def test_too_few_eigenvalues_say_nothing():
    assert math.isnan(power_law_exponent(np.array([3.0, 2, 1]))) and math.isnan(power_law_exponent(np.ones(9)))
    assert math.isnan(power_law_exponent(np.zeros(9))) and math.isnan(power_law_exponent(np.zeros(0)))
    analysis = SpectralAnalysis(nn.Linear(7, 2))
    alpha, eig_max = analysis.fit_power_law()[1]
    assert math.isnan(alpha) and eig_max > 0 and math.isnan(analysis.universal_metric())
    assert analysis.verdicts()[1].verdict == "unknown" and "too few" in analysis.layer_RMT()[0]


@pytest.mark.parametrize(
    ("alpha", "verdict"),
    [
        *((alpha, "regularized") for alpha in (1.0, 3.0)),
        *((alpha, "somewhat regularized") for alpha in (3.01, 4.49)),
        *((alpha, "untrained") for alpha in (4.5, 0.9)),
    ],
)
def test_verdicts_follow_mu(theirs, net, alpha, verdict):
    analysis = SpectralAnalysis(net)
    (found,) = analysis.verdicts({2: (alpha, 5.0)}).values()
    assert (found.layer, found.name, found.alpha, found.eig_max) == (2, "block.conv", alpha, 5.0)
    assert found.verdict == verdict and found.mu == pytest.approx(2 * (alpha - 1))
    (sentence,) = analysis.layer_RMT({2: (alpha, 5.0)})
    assert sentence.startswith("Layer 2 (block.conv), mu = ")
    (other,) = theirs(net).layer_RMT({2: (alpha, 5.0)})
    assert ("not trained" in other) == ("most likely, trained" in sentence) == (verdict == "untrained")
    assert ("somewhat" in other) == ("somewhat" in sentence) == (verdict == "somewhat regularized")


def test_the_metric_is_the_mean_over_fitted_layers(net):
    fits = {1: (2.0, math.e), 2: (3.0, math.e**2), 3: (math.nan, 7.0)}
    assert SpectralAnalysis(net).universal_metric(fits) == pytest.approx((2 + 6) / 2)


def test_any_module_will_do():
    shared = nn.Linear(20, 20)
    assert SpectralAnalysis(shared).names == {1: ""}
    assert SpectralAnalysis(nn.Sequential(shared, nn.ReLU(), shared)).names == {1: "0"}
    assert "Linear" in SpectralAnalysis(shared).layer_RMT()[0]
    half = SpectralAnalysis(nn.Linear(20, 20).bfloat16()).spectral_analysis()[1][0]
    assert half.shape == (20,) and np.isfinite(half).all()
    before = shared.weight.detach().clone()
    SpectralAnalysis(shared).universal_metric()
    assert torch.equal(shared.weight, before) and shared.weight.requires_grad


def test_bad_input_is_refused(monkeypatch):
    with pytest.raises(InputError, match="expected a Linear or Conv2d layer, found none"):
        SpectralAnalysis(nn.ReLU())
    with pytest.raises(InputError, match="got Tensor"):
        SpectralAnalysis(torch.ones(3, 3))
    broken = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        broken[1].weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"layer 2 \('1'\): expected finite weights"):
        SpectralAnalysis(broken).spectral_analysis()
    monkeypatch.setitem(sys.modules, "powerlaw", None)
    with pytest.raises(InputError, match=r"pip install powerlaw\."):
        SpectralAnalysis(nn.Linear(9, 9)).fit_power_law()
