"""How well two estimates of the same voxels' ncsnr agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

MIN_PAIRS = 30  # neuroids below which agreement says nothing
MIN_CORRELATION = 0.5
MAX_DIFFERENCE = 0.25  # as a share of the given median


@dataclass(frozen=True)
class Agreement:
    """A given ncsnr against one estimated from repeats, over the `n` neuroids that have both.

    Attributes:
        correlation: Spearman's rank correlation.
        difference: median of estimated - given.
        level: median of the given ones.
    """

    n: int
    correlation: float
    difference: float
    level: float

    @property
    def is_close(self) -> bool:
        """Whether the median difference is at most a quarter of the median."""
        return abs(self.difference) <= MAX_DIFFERENCE * self.level

    def __str__(self) -> str:
        return (
            f"rank correlation {self.correlation:.2f}, median difference {self.difference:+.3f} from {self.level:.3f}, "
            f"over {self.n:,} of them"
        )


def agreement(given: np.ndarray, estimated: np.ndarray) -> Agreement | None:
    """Compare two estimates (neuroid,); None where fewer than 30 neuroids have both, or one of the two is constant.

    >>> print(agreement(np.arange(40), np.arange(40) + 0.5))
    rank correlation 1.00, median difference +0.500 from 19.500, over 40 of them
    """
    both = np.isfinite(given) & np.isfinite(estimated)
    given, estimated = np.asarray(given)[both].astype(np.float64), np.asarray(estimated)[both].astype(np.float64)
    if len(given) < MIN_PAIRS or np.ptp(given) == 0 or np.ptp(estimated) == 0:
        return None
    correlation = float(spearmanr(given, estimated)[0])
    return Agreement(len(given), correlation, float(np.median(estimated - given)), float(np.median(given)))
