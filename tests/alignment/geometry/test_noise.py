"""Noise models and crossnobis against explicit covariances, scikit-learn, scipy, loops over pairs, and rsatoolbox."""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from deepjuice.alignment.geometry.crossnobis import crossnobis_rdm
from deepjuice.alignment.geometry.noise import noise_from_precision, noise_from_residuals, repeat_residuals
from deepjuice.alignment.geometry.rdm import compute_rdm
from juicyfruits.errors import InputError

SHAPES = [(40, 7), (8, 7), (7, 7), (12, 30)]  # residuals: many, one more than voxels, as many, fewer


def residuals_of(m, p, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(m, 2)) @ rng.normal(size=(2, p))
    return ((rng.normal(size=(m, p)) + shared) * 10.0 ** rng.uniform(-3, 3, p) + 50).astype(dtype)


def covariance(residuals, shrinkage, dof=None):
    centred = residuals - residuals.mean(axis=0)
    cov = centred.T @ centred / (dof or len(residuals) - 1)
    return shrinkage * np.diag(np.diag(cov)) + (1 - shrinkage) * cov


def optimal_shrinkage(residuals):
    """Schafer & Strimmer's formula, voxel pair by voxel pair."""
    m, p = residuals.shape
    z = (residuals - residuals.mean(axis=0)) / residuals.std(axis=0, ddof=1)
    variances = squares = 0.0
    for i, j in itertools.permutations(range(p), 2):
        w = z[:, i] * z[:, j]
        variances += m / (m - 1) ** 3 * ((w - w.mean()) ** 2).sum()
        squares += (m / (m - 1) * w.mean()) ** 2
    return min(1.0, variances / squares)


def whitening_covariance(noise, p):
    """S from the model: the inverse of W W', where W is what whitening does to the identity."""
    W = noise.whiten(torch.eye(p, dtype=torch.float64)).numpy()
    return np.linalg.inv(W @ W.T)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("shrinkage", [None, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_covariance_is_the_shrunk_one(shape, shrinkage, dtype):
    residuals = residuals_of(*shape, dtype=dtype)
    noise = noise_from_residuals(residuals, shrinkage)
    wide = residuals.astype(np.float64)
    expected = optimal_shrinkage(wide) if shrinkage is None else shrinkage
    assert noise.shrinkage == pytest.approx(expected, abs=1e-10)
    std = wide.std(axis=0)
    np.testing.assert_allclose(
        whitening_covariance(noise, shape[1]) / np.outer(std, std),
        covariance(wide, expected) / np.outer(std, std),
        atol=1e-8,
    )


@pytest.mark.parametrize("shape", [(40, 7), (8, 7)], ids=str)
def test_no_shrinkage_and_degrees_of_freedom(shape):
    residuals = residuals_of(*shape)
    noise = noise_from_residuals(residuals, shrinkage=0, degrees_of_freedom=5)
    expected = covariance(residuals, 0, 5)
    std = np.sqrt(np.diag(expected))
    ratio = whitening_covariance(noise, 7) / np.outer(std, std)
    np.testing.assert_allclose(ratio, expected / np.outer(std, std), atol=1e-7)


def test_shrinkage_grows_with_noise():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(20, 10))
    assert noise_from_residuals(independent).shrinkage > 0.5
    assert noise_from_residuals(residuals_of(2000, 10)).shrinkage < 0.02
    assert noise_from_residuals(rng.normal(size=(20, 1))).shrinkage == 1
    cut = [noise_from_residuals(rng.normal(size=(5, 3))).shrinkage for _ in range(30)]
    assert max(cut) == 1 and min(cut) > 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mahalanobis_equals_scipy_and_rsatoolbox(shape):
    toolbox = pytest.importorskip("rsatoolbox")
    X, residuals = residuals_of(9, shape[1], seed=1), residuals_of(*shape)
    X = np.concatenate([X, X[:2]])
    noise = noise_from_residuals(residuals, 0.2)
    precision = np.linalg.inv(covariance(residuals, 0.2))
    squared = compute_rdm(X, "squared_mahalanobis", noise=noise)
    np.testing.assert_allclose(squared, cdist(X, X, "mahalanobis", VI=precision) ** 2, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(compute_rdm(X, "mahalanobis", noise=noise), squared.sqrt(), rtol=1e-12)
    given = compute_rdm(X, "squared_mahalanobis", noise=noise_from_precision(precision))
    np.testing.assert_allclose(given, squared, rtol=1e-6, atol=1e-6)
    theirs = toolbox.rdm.calc_rdm(toolbox.data.Dataset(X), method="mahalanobis", noise=precision).get_matrices()[0]
    np.testing.assert_allclose(squared / shape[1], theirs, rtol=1e-6, atol=1e-6)
    assert squared[0, 9] == 0 and squared[1, 10] == 0 and torch.equal(squared, squared.T) and squared[0, 10] > 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mahalanobis_far_from_the_origin_and_of_any_scale(shape):
    rng = np.random.default_rng(1)
    X, noise = np.round(rng.normal(size=(9, shape[1])) * 100), noise_from_residuals(rng.normal(size=shape), 0.2)
    for method, power in (("mahalanobis", 1), ("squared_mahalanobis", 2)):
        near = compute_rdm(X, method, noise=noise)
        np.testing.assert_allclose(compute_rdm(X + 1e12, method, noise=noise), near, rtol=1e-9)
        np.testing.assert_allclose(compute_rdm(X * 1e-130, method, noise=noise) / 1e-130**power, near, rtol=1e-9)


def repeats_of(r=3, n=6, p=20, signal=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return signal * rng.normal(size=(n, p)) + rng.normal(size=(r, n, p)) + rng.normal(size=p) * 10


def crossnobis_by_pairs(repeats, precision):
    r, n, _ = repeats.shape
    rdm = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        differences = repeats[:, i] - repeats[:, j]
        rdm[i, j] = np.mean(
            [differences[a] @ precision @ differences[b] for a, b in itertools.permutations(range(r), 2)]
        )
    return rdm


@pytest.mark.parametrize("r", [2, 3, 5])
@pytest.mark.parametrize("p", [4, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_crossnobis_equals_pairs_and_rsatoolbox(r, p, dtype):
    toolbox = pytest.importorskip("rsatoolbox")
    repeats = repeats_of(r, p=p).astype(dtype)
    wide = repeats.astype(np.float64)
    residuals = repeat_residuals(repeats)
    noise = noise_from_residuals(residuals, 0.3, degrees_of_freedom=6 * (r - 1))
    precision = np.linalg.inv(covariance(residuals.numpy(), 0.3, 6 * (r - 1)))
    ours = crossnobis_rdm(repeats, noise)
    np.testing.assert_allclose(ours, crossnobis_by_pairs(wide, precision), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(crossnobis_rdm(repeats), crossnobis_by_pairs(wide, np.eye(p)), rtol=1e-9, atol=1e-9)
    runs = [run for run in "vwxyz"[:r] for _ in range(6)]
    dataset = toolbox.data.Dataset(wide.reshape(-1, p), obs_descriptors={"stimulus": list("abcdef") * r, "run": runs})
    theirs = toolbox.rdm.calc_rdm(dataset, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=precision)
    np.testing.assert_allclose(ours / p, theirs.get_matrices()[0], rtol=1e-6, atol=1e-6)
    assert torch.equal(ours, ours.T) and (ours.diagonal() == 0).all() and ours.dtype == torch.float64


def test_crossnobis_is_unbiased_and_plain_distance_is_not():
    pure = [repeats_of(3, 10, 50, signal=0, seed=s) for s in range(40)]
    crossed = torch.stack([crossnobis_rdm(repeats) for repeats in pure])
    plain = torch.stack([compute_rdm(repeats.mean(axis=0), "squared_euclidean") for repeats in pure])
    off = ~torch.eye(10, dtype=torch.bool)
    assert abs(crossed.mean(dim=0)[off].mean()) < 0.5 and plain.mean(dim=0)[off].mean() > 30
    assert (crossed[:, off] < 0).float().mean() > 0.3


@pytest.mark.parametrize("scale", [1e-100, 1e-20, 1e20, 1e100])
def test_crossnobis_of_any_scale(scale):
    repeats = repeats_of()
    np.testing.assert_allclose(crossnobis_rdm(repeats * scale) / scale / scale, crossnobis_rdm(repeats), rtol=1e-9)


@pytest.mark.parametrize("shape", [(3, 6, 20), (2, 60, 1003), (4, 50, 7), (3, 40, 9)], ids=str)
def test_crossnobis_of_all_shown_twice_is_zero(shape):
    repeats = repeats_of(*shape)
    n = shape[1]
    twice = crossnobis_rdm(np.concatenate([repeats, repeats], axis=1))
    assert (twice[range(n), range(n, 2 * n)] == 0).all() and (twice == 0).sum() == 4 * n


def test_crossnobis_far_from_the_origin():
    repeats = np.round(repeats_of(), 3)
    far = crossnobis_rdm(repeats + 1e9 * np.arange(3)[:, None, None])
    np.testing.assert_allclose(far, crossnobis_rdm(repeats), rtol=1e-4, atol=1e-4)


def test_residuals_are_what_the_mean_leaves():
    repeats = repeats_of(3)
    expected = np.concatenate([repeat - repeats.mean(axis=0) for repeat in repeats])
    np.testing.assert_allclose(repeat_residuals(repeats), expected, atol=1e-12)


def test_bad_input_is_named():
    residuals = residuals_of(12, 30)
    with pytest.raises(InputError, match="rank 11"):
        noise_from_residuals(residuals, shrinkage=0)
    with pytest.raises(InputError, match="1 of 30 voxels have no noise"):
        noise_from_residuals(np.where(np.arange(30) == 3, 0.1, residuals))
    with pytest.raises(InputError, match=r"1\.5 and 11"):
        noise_from_residuals(residuals, shrinkage=1.5)
    with pytest.raises(InputError, match="None and 0 came"):
        noise_from_residuals(residuals, degrees_of_freedom=0)
    with pytest.raises(InputError, match="The residuals has 1 of 360"):
        noise_from_residuals(np.where(np.arange(360).reshape(12, 30) == 7, np.nan, residuals))
    with pytest.raises(InputError, match="30 voxels, but X has 29"):
        compute_rdm(residuals[:, 1:], "mahalanobis", noise=noise_from_residuals(residuals))
    with pytest.raises(InputError, match="symmetric"):
        noise_from_precision([[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(InputError, match="positive definite"):
        noise_from_precision([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(InputError, match="none came"):
        compute_rdm(residuals, "mahalanobis")
    with pytest.raises(InputError, match="ndarray came with 'mahalanobis'"):
        compute_rdm(residuals, "mahalanobis", noise=np.eye(30))
    with pytest.raises(InputError, match="NoiseModel came with 'euclidean'"):
        compute_rdm(residuals, "euclidean", noise=noise_from_residuals(residuals))
    for shape in ((1, 6, 20), (3, 1, 20), (6, 20)):
        with pytest.raises(InputError, match="Repeats must be"):
            crossnobis_rdm(np.ones(shape))
    repeats = repeats_of()
    repeats[2, 0] = np.nan
    with pytest.raises(InputError, match=r"all its repeats\) has 20 of 360"):
        crossnobis_rdm(repeats)


def test_noise_that_is_no_number_is_refused():
    residuals = np.random.default_rng(0).normal(size=(9, 3))
    for degrees in (np.nan, np.inf):
        with pytest.raises(InputError, match="degrees of freedom 1 or more"):
            noise_from_residuals(residuals, degrees_of_freedom=degrees)
    with pytest.raises(InputError, match="squares"):
        noise_from_residuals(1e300 * residuals)
    with pytest.raises(InputError, match="a ndarray came; make one by noise_from_residuals"):
        crossnobis_rdm(np.ones((2, 4, 3)), np.eye(3))
