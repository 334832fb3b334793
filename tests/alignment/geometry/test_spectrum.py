"""Spectra against eigenvalues of NumPy's covariance, TorchPCA, and shapes whose spectrum is known."""

import numpy as np
import pytest
import torch

from deepjuice.alignment.geometry.spectrum import effective_dimensionality, eigenspectrum
from deepjuice.alignment.linalg import eigh
from deepjuice.reduction import TorchPCA, jl_width, make_projection
from juicyfruits.errors import InputError

SHAPES = [(9, 30), (12, 13), (13, 12), (12, 12), (40, 7), (2, 5), (30, 1)]


def features(shape, dtype=np.float64, seed=0):
    """Columns of unequal variance, correlated, and far from zero."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=shape) * np.geomspace(1, 0.05, shape[1]) + rng.normal(size=(shape[0], 1)) + 5
    return X.astype(dtype)


def eigenvalues_of(X):
    covariance = np.atleast_2d(np.cov(X.astype(np.float64).T))
    return np.linalg.eigvalsh(covariance)[::-1][: min(len(X) - 1, X.shape[1])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("shape", SHAPES)
def test_spectrum_is_that_of_the_covariance(shape, dtype, scale):
    X = features(shape, dtype) * dtype(scale)
    spectrum = eigenspectrum(torch.from_numpy(X))
    expected = eigenvalues_of(X)
    assert spectrum.shape == (min(shape[0] - 1, shape[1]),) and spectrum.dtype == torch.float64
    np.testing.assert_allclose(spectrum, expected, rtol=1e-10, atol=1e-13 * expected[0])
    assert effective_dimensionality(spectrum) == pytest.approx(expected.sum() ** 2 / (expected**2).sum(), rel=1e-10)
    assert spectrum.sum().item() == pytest.approx(X.astype(np.float64).var(axis=0, ddof=1).sum(), rel=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-10)])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_that_of_torch_pca(shape, dtype, tolerance):
    X = features(shape, dtype)
    pca, spectrum = TorchPCA().fit(X), eigenspectrum(X)
    first = pca.explained_variance_[: len(spectrum)].double()
    torch.testing.assert_close(first, spectrum, rtol=tolerance, atol=tolerance * spectrum[0].item())
    assert pca.effective_dimensionality_ == pytest.approx(effective_dimensionality(spectrum), rel=tolerance)


@pytest.mark.parametrize("shape", [(11, 29), (29, 11)])
@pytest.mark.parametrize("step", [1, 4, 11])
def test_blocks_of_any_size_are_the_same(shape, step, monkeypatch):
    X = features(shape)
    whole = eigenspectrum(X)
    cut = lambda n, _: (slice(i, min(i + step, n)) for i in range(0, n, step))  # noqa: E731
    monkeypatch.setattr("deepjuice.alignment.geometry.spectrum.blocks", cut)
    torch.testing.assert_close(eigenspectrum(X), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(50, 3), (3, 50)])
def test_no_matrix_larger_than_the_smaller_side_is_decomposed(shape, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "deepjuice.alignment.geometry.spectrum.eigh", lambda gram: seen.append(gram.shape) or eigh(gram)
    )
    eigenspectrum(features(shape))
    assert seen == [(3, 3)]


def test_known_spectra():
    corners = torch.cat([torch.eye(5), -torch.eye(5)])  # equal variance in five directions
    torch.testing.assert_close(eigenspectrum(corners), torch.full((5,), 2 / 9, dtype=torch.float64))
    assert effective_dimensionality(eigenspectrum(corners)) == pytest.approx(5)
    line = torch.arange(6.0)[:, None] * torch.tensor([3.0, 4.0, 0.0])
    assert eigenspectrum(line).tolist() == pytest.approx([25 * 3.5, 0, 0])
    assert effective_dimensionality(eigenspectrum(line)) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(20, 6), (6, 20)])
def test_what_is_constant_collinear_or_doubled_adds_exact_zeros(shape):
    X = features(shape)
    rank = 3
    low = X[:, :rank] @ np.random.default_rng(1).normal(size=(rank, shape[1]))
    spectrum = eigenspectrum(low)
    assert (spectrum[:rank] > 0).all() and (spectrum[rank:] == 0).all()
    twice = np.repeat(low, 2, axis=0)
    assert (eigenspectrum(twice)[rank:] == 0).all()
    padded = np.concatenate([X, np.full((shape[0], 3), 1e6 / 3)], axis=1)
    np.testing.assert_allclose(eigenspectrum(padded)[: len(eigenspectrum(X))], eigenspectrum(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 20), (20, 7)])
@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
def test_a_constant_map_has_a_zero_spectrum_and_no_dimensionality(dtype, shape, value):
    X = torch.full(shape, value, dtype=dtype)
    X[::2] = torch.nextafter(X[::2], torch.full((), 1e5, dtype=dtype)) if value else X[::2]  # but for the last bit
    spectrum = eigenspectrum(X)
    assert spectrum.shape == (min(shape[0] - 1, shape[1]),) and (spectrum == 0).all()
    assert np.isnan(effective_dimensionality(spectrum))


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_dimensionality_has_no_scale_and_no_order(scale):
    values = np.array([4.0, 2.0, 1.0, 1.0])
    assert effective_dimensionality(values * scale) == pytest.approx(64 / 22)
    assert effective_dimensionality(values[::-1].astype(np.float32)) == pytest.approx(64 / 22)


@pytest.mark.parametrize("method", ["signed_sums", "sparse"])
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_a_projected_map_deviates_as_documented(method, power):
    """20,000 features, directions at random, variances equal or falling as 1 / i."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 400)) / np.arange(1, 401) ** power
    X = torch.from_numpy((scores @ rng.normal(size=(400, 20_000)) + rng.normal(size=20_000)).astype(np.float32))
    width = jl_width(200, 0.1)
    spectrum, projected = eigenspectrum(X), eigenspectrum(make_projection(20_000, width, method, seed=3)(X))
    assert projected.shape == spectrum.shape
    assert projected.sum() / spectrum.sum() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(projected / spectrum, 1, atol=0.12)
    d = effective_dimensionality(spectrum)
    assert effective_dimensionality(projected) == pytest.approx(d / (1 + (d + 1) / width), rel=0.04)


def test_dimensionality_under_projection_is_the_formula_on_average():
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(60, 50)) @ rng.normal(size=(50, 4000)))
    d, width = effective_dimensionality(eigenspectrum(X)), 60
    found = [effective_dimensionality(eigenspectrum(make_projection(4000, width, seed=s)(X))) for s in range(40)]
    assert d > 20 and np.mean(found) == pytest.approx(d / (1 + (d + 1) / width), rel=0.02)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="at least 2 row"):
        eigenspectrum(np.ones((1, 4)))
    with pytest.raises(InputError, match="X has 1 of 6"):
        eigenspectrum([[1.0, np.nan], [2.0, 3.0], [1.0, 0.0]])
    with pytest.raises(InputError, match=r"from 0 up, but shape \(2, 1\) from -1 came"):
        effective_dimensionality([1.0, -1.0])
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        effective_dimensionality(np.eye(2))
