"""Noise ceiling signal-to-noise ratio, estimated from repeated presentations."""

from __future__ import annotations

import numpy as np

BLOCK = 1024  # neuroids a block: bounds the memory for memory-mapped responses


def estimate_ncsnr(responses: np.ndarray) -> np.ndarray:
    """Estimate every neuroid's ncsnr, the SD of its signal over the SD of its noise in one presentation.

        noise variance  = mean over images i (with n_i >= 2) of the unbiased variance over the n_i repeats
        signal variance = variance over images of the mean response - noise variance * mean(1 / n_i), floored at 0
        ncsnr           = sqrt(signal variance / noise variance)

    `responses` is (neuroid, stimulus, repetition), any float dtype, NaN where a repeat is missing; images without
    any repeat are left out. Returns float64 (neuroid,): NaN where no image has two repeats or fewer than two images
    have any, and inf for a signal without noise. With equal n this is the procedure of Allen et al. 2022
    (Nature Neuroscience 25, Methods, "Noise ceiling estimation").

    >>> rng = np.random.default_rng(0)
    >>> signal = rng.standard_normal((1, 500, 1))
    >>> noise = 2 * rng.standard_normal((1, 500, 3))
    >>> float(estimate_ncsnr(signal + noise)[0].round(1))  # 1 / 2
    0.5
    """
    responses = np.asanyarray(responses)
    if responses.ndim != 3:
        raise ValueError(f"responses must be (neuroid, stimulus, repetition), got shape {responses.shape}")
    blocks = [_estimate_block(responses[i : i + BLOCK]) for i in range(0, len(responses), BLOCK)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _estimate_block(responses: np.ndarray) -> np.ndarray:
    values = np.array(responses, dtype=np.float64)
    present = ~np.isnan(values)
    n = present.sum(axis=2)
    means = _divide(np.where(present, values, 0.0).sum(axis=2), n)
    squares = np.where(present, values - means[:, :, None], 0.0) ** 2
    variances = _divide(squares.sum(axis=2), np.maximum(n - 1, 0))
    noise = _row_mean(variances, n >= 2)
    total = _unbiased_variance(means, n >= 1)
    signal = np.maximum(total - noise * _row_mean(_divide(1.0, n), n >= 1), 0.0)
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
