"""What the values of a map are like, from numbers that add up over rows and batches (docs/telemetry.md)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SMALLEST, LARGEST = -16, 16
"""Powers of two between which values are counted by octave: 2^16 is where float16 overflows."""
N_CODES = 512
_ZERO = 127  # the exponent field of 1.0 in float32


def bin_edges() -> np.ndarray:
    """Return the edges of a histogram's bins, (68,) float64: -inf, -2^16 ... -2^-16, 2^-16 ... 2^16, inf.

    The middle bin holds what is near zero, the first and the last what is out of range. A value on an edge belongs
    to the bin farther from zero.

    >>> bin_edges()[[0, 1, 33, 34, 66, 67]].tolist()
    [-inf, -65536.0, -1.52587890625e-05, 1.52587890625e-05, 65536.0, inf]
    """
    powers = np.append(2.0 ** np.arange(SMALLEST, LARGEST + 1), np.inf)
    return np.concatenate([-powers[::-1], powers])


N_BINS = len(bin_edges()) - 1


def fold_codes(counts: np.ndarray) -> np.ndarray:
    """Return the histogram (67,) int64 of values counted by sign and exponent.

    Args:
        counts: (512,), as `Meter` counts: by exponent field of a float32, those of negative values first.
    """
    low, high = _ZERO + SMALLEST, _ZERO + LARGEST
    negative, positive = counts.reshape(2, -1).astype(np.int64)
    near_zero = negative[:low].sum() + positive[:low].sum()
    octaves = negative[low:high][::-1], [near_zero], positive[low:high]
    return np.concatenate([[negative[high:].sum()], *octaves, [positive[high:].sum()]])


class Telemetry(NamedTuple):
    """What the values of one map are like, over all stimuli and all features of the map before projection.

    Attributes:
        activation_mean, activation_std: mean and standard deviation (divided by the number of values).
        dead_share: share of the features that are 0 for every stimulus.
        treves_rolls: (mean |a|)^2 / mean a^2 over features, mean over stimuli; small is sparse.
        hoyer: (sqrt d - L1 / L2) / (sqrt d - 1) over the d features, mean over stimuli; large is sparse.
        n_silent: stimuli whose map is 0 everywhere; they are left out of both.
        activation_histogram: (67,) int64, values between `bin_edges`.
    """

    activation_mean: float
    activation_std: float
    dead_share: float
    treves_rolls: float
    hoyer: float
    n_silent: int
    activation_histogram: np.ndarray


def summarize(moments: np.ndarray, n_features: int, n_dead: int, histogram: np.ndarray) -> Telemetry:
    """Return the telemetry of a map.

    Args:
        moments: (3, n), the mean of every row, of its squares and of its magnitudes (`row_moments`).
        n_features: d.
        n_dead: features that are 0 for every stimulus.
        histogram: (67,) int64.
    """
    mean, std = mean_and_std(moments)
    sparse = sparseness(moments[1], moments[2], n_features)
    n_silent = int((moments[1] == 0).sum())
    return Telemetry(mean, std, n_dead / n_features, *sparse, n_silent, histogram)


def mean_and_std(moments: np.ndarray) -> tuple[float, float]:
    """Return mean and population standard deviation over all values, from `row_moments` (3, n)."""
    mean, square = moments[:2].astype(np.float64).mean(axis=1).tolist()
    return mean, max(square - mean**2, 0.0) ** 0.5


def sparseness(mean_squares: np.ndarray, mean_magnitudes: np.ndarray, n_features: int) -> tuple[float, float]:
    """Return population sparseness by Treves & Rolls (1991) and by Hoyer (2004), each the mean over stimuli.

    Rows that are 0 everywhere have neither and are left out; NaN where none is left, and for Hoyer's of one feature.

    >>> sparseness(np.array([0.25]), np.array([0.25]), 4)  # one of four features is 1, the others are 0
    (0.25, 1.0)
    """
    squares, magnitudes = mean_squares.astype(np.float64), mean_magnitudes.astype(np.float64)
    heard = squares > 0
    if not heard.any():
        return np.nan, np.nan
    ratio = np.minimum(magnitudes[heard] ** 2 / squares[heard], 1)  # over 1 it is by rounding
    if n_features == 1:
        return float(ratio.mean()), np.nan
    root = np.sqrt(n_features)  # L1 / L2 = root * sqrt(ratio)
    return float(ratio.mean()), float(np.maximum(root * (1 - np.sqrt(ratio)) / (root - 1), 0).mean())
