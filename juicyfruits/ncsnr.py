"""Noise ceiling signal-to-noise ratio, estimated from repeated presentations."""

from __future__ import annotations

import numpy as np

BLOCK = 1024  # neuroids a block: bounds the memory for memory-mapped responses
MIN_CORRELATION, MAX_DIFFERENCE = 0.95, 0.05  # of a map of ncsnr with what the repeats give
MIN_VOXELS = 20  # for a correlation to mean anything


def estimate_ncsnr(responses: np.ndarray, total_variance: float | None = None) -> np.ndarray:
    """Estimate every neuroid's ncsnr, the SD of its signal over the SD of its noise in one presentation.

        noise variance  = mean over images i (with n_i >= 2) of the unbiased variance over the n_i repeats
        signal variance = variance over images of the mean response - noise variance * mean(1 / n_i), floored at 0,
                          or, where the variance of single responses is known, total variance - noise variance
        ncsnr           = sqrt(signal variance / noise variance)

    `responses` is (neuroid, stimulus, repetition), any float dtype, NaN where a repeat is missing; images without
    any repeat are left out. NSD's own maps rest on betas that are z-scored within each session, so `total_variance`
    is 1 there (and on the images shown three times alone). Returns float64 (neuroid,): NaN where no image has two
    repeats or fewer than two images have any, and inf for a signal without noise. Sources: Allen et al. 2022 (Nature
    Neuroscience 25, Methods, "Noise ceiling estimation"); `export_noiseceiling.m` and `translatevmetric.m` of
    https://github.com/cvnlab/nsddatapaper, which wrote the maps.

    >>> rng = np.random.default_rng(0)
    >>> signal = rng.standard_normal((1, 500, 1))
    >>> noise = 2 * rng.standard_normal((1, 500, 3))
    >>> float(estimate_ncsnr(signal + noise)[0].round(1)), float(estimate_ncsnr(signal + noise, 5.0)[0].round(1))  # 1/2
    (0.5, 0.5)
    """
    responses = np.asanyarray(responses)
    if responses.ndim != 3:
        raise ValueError(f"responses must be (neuroid, stimulus, repetition), got shape {responses.shape}")
    blocks = [_estimate_block(responses[i : i + BLOCK], total_variance) for i in range(0, len(responses), BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def compare_ncsnr(shipped: np.ndarray, estimated: np.ndarray, degrees: int) -> dict[str, float | int | bool | None]:
    """Compare a map of ncsnr with what the repeats give, over the voxels (voxel,) where both are finite.

        d = degrees, the sum over images of (repeats - 1)
        error_v = sqrt(2 / d) (1 + s_v^2) / (2 s_v): the sampling SD of an estimate of the true value s_v from z-scored
                  responses, as its noise variance 1 / (1 + s^2) has a relative SD of sqrt(2 / d)
        reliability = sqrt(var(s) / (var(s) + mean(error^2))): the correlation to be had of a true map s, by attenuation

    They match if the correlation is at least 0.95 x reliability (of 20 voxels or more, fewer are not judged by it) and
    the median of (estimated - shipped) within +-(0.05 + 4 median(error) / sqrt(n_voxels)). Returns n_voxels,
    correlation, median_difference, reliability, matches; what does not exist, as a correlation of values that are all
    alike, is None and not judged. Source of the attenuation: Spearman 1904, American Journal of Psychology 15.

    >>> s = np.linspace(0.3, 1.2, 50)
    >>> compare_ncsnr(s, s + 0.01, 20_000)["matches"], compare_ncsnr(s, s[::-1], 20_000)["matches"]
    (True, False)
    """
    both = np.isfinite(shipped) & np.isfinite(estimated)
    s, e = (np.asarray(values, dtype=np.float64)[both] for values in (shipped, estimated))
    found = {"n_voxels": len(s), "correlation": None, "median_difference": None, "reliability": None, "matches": True}
    if not len(s):
        return found
    error = np.sqrt(2 / degrees) * (1 + s**2) / (2 * np.maximum(s, 0.1))
    found["median_difference"] = float(np.median(e - s))
    tolerance = MAX_DIFFERENCE + 4 * np.median(error) / np.sqrt(len(s))
    matches = abs(found["median_difference"]) <= tolerance
    if np.ptp(s) > 0 and np.ptp(e) > 0:
        found["correlation"] = float(np.corrcoef(s, e)[0, 1])
        found["reliability"] = float(np.sqrt(s.var() / (s.var() + np.mean(error**2))))
        matches &= len(s) < MIN_VOXELS or found["correlation"] >= MIN_CORRELATION * found["reliability"]
    return {**found, "matches": bool(matches)}


def _estimate_block(responses: np.ndarray, total_variance: float | None) -> np.ndarray:
    values = np.array(responses, dtype=np.float64)
    present = ~np.isnan(values)
    n = present.sum(axis=2)
    means = _divide(np.where(present, values, 0.0).sum(axis=2), n)
    squares = np.where(present, values - means[:, :, None], 0.0) ** 2
    variances = _divide(squares.sum(axis=2), np.maximum(n - 1, 0))
    noise = _row_mean(variances, n >= 2)
    if total_variance is None:
        total = _unbiased_variance(means, n >= 1)
        signal = np.maximum(total - noise * _row_mean(_divide(1.0, n), n >= 1), 0.0)
    else:
        signal = np.maximum(total_variance - noise, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(signal / noise)


def _divide(numerator: np.ndarray | float, denominator: np.ndarray) -> np.ndarray:
    """Divide, with 0 where the denominator is 0: those entries are never used."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 0.0)


def _row_mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    count = where.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(where, values, 0.0).sum(axis=1) / np.where(count > 0, count, np.nan)


def _unbiased_variance(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    count = where.sum(axis=1)
    centred = np.where(where, values - _row_mean(values, where)[:, None], 0.0)
    return (centred**2).sum(axis=1) / np.where(count > 1, count - 1, np.nan)
