"""Histograms of activations over a range that is fixed beforehand, and how often each seed of the lessons counted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from juicyfruits.errors import InputError

_PIECE = 2**24  # a float32 counts by ones up to here


@dataclass(frozen=True)
class Histogram:
    """Bins of one width from `low` to `high`, both included; what lies outside is counted apart, below and above.

    Args:
        bins: how many.
        low: where the first begins.
        high: where the last ends.
        absolute: count the absolute values.
        near_zero: the bins that are said to be near zero, as (first, one past the last).

    Raises:
        InputError: for no bins, an empty range, or `near_zero` outside the bins.
    """

    bins: int
    low: float
    high: float
    absolute: bool = False
    near_zero: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        first, last = self.near_zero
        if self.bins < 1 or not self.low < self.high or not 0 <= first < last <= self.bins:
            raise InputError(f"{self}: expected bins, a range from low to high, and bins near zero among them.")

    def count(self, values: Tensor) -> Tensor:
        """Return how many values lie below, in each bin, and above (1 + bins + 1,); NaN is nowhere.

        Values of float32 or float64, of any shape; counts in float64 (on mps float32), on the values' device. A value
        on the edge of two bins belongs to the upper one.

        >>> Histogram(4, 0, 4).count(torch.tensor([0.5, 1.0, 4.0, 5.0, 6.0])).tolist()
        [0.0, 1.0, 1.0, 0.0, 1.0, 2.0]
        """
        return sum(self._count(piece).to(wide_dtype(values)) for piece in values.flatten().split(_PIECE))

    def _count(self, values: Tensor) -> Tensor:
        values = values.abs() if self.absolute else values
        below, above = torch.count_nonzero(values < self.low), torch.count_nonzero(values > self.high)
        return torch.cat([below[None], values.histc(self.bins, self.low, self.high), above[None]])


def wide_dtype(values: Tensor) -> torch.dtype:
    """Return the widest float that the values' device has."""
    return torch.float32 if values.device.type == "mps" else torch.float64


HISTOGRAM_2022 = Histogram(40, 0.0, 10.0, absolute=True, near_zero=(0, 1))
"""The fast.ai course of 2022: absolute values; near zero is below 0.25."""

HISTOGRAM_2019 = Histogram(40, -7.0, 7.0, near_zero=(19, 22))
"""The fast.ai course of 2019, as it ends: signed values; near zero is -0.35 to 0.7, three bins, so not symmetric."""

HISTOGRAM_2019_POSITIVE = Histogram(40, 0.0, 10.0, near_zero=(0, 1))
"""The course of 2019 as it begins, for what comes out of a ReLU: signed values, those below zero out of range."""
