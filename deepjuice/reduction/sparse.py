"""The very sparse random projection of Li, Hastie and Church."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from deepjuice.reduction.scratch import RandomProjection

Bags = list[tuple[torch.Tensor, torch.Tensor]]  # of the positive and the negative entries: places, and bags' starts


class SparseProjection(RandomProjection):
    """Very sparse random projection R of Li, Hastie & Church (2006), doi:10.1145/1150402.1150436.

    Each of the k x d entries is, independently, 0 with probability 1 - 1/s and +-sqrt(s / k) otherwise, s = sqrt(d),
    so that E |Rx|^2 = |x|^2. Only the positions of the non-zeros are stored: k sqrt(d) int32 values.

    Made, called and seeded as every `RandomProjection`.

    >>> projection = SparseProjection(10_000, width=500, seed=0)
    >>> x = torch.ones(3, 10_000)
    >>> projection(x).shape
    torch.Size([3, 500])
    """

    def _draw(self, seed: int) -> None:
        d, k = self.n_features, self.width
        self.scale = math.sqrt(math.sqrt(d) / k)
        columns, starts, positive = _draw_nonzeros(d, k, np.random.default_rng([seed, d, k]))
        self._bags = [
            (
                torch.from_numpy(columns[chosen]).to(self.device),
                torch.from_numpy(np.concatenate([[0], np.cumsum(chosen)])[starts].astype(np.int32)).to(self.device),
            )
            for chosen in (positive, ~positive)
        ]

    def _project(self, features: torch.Tensor) -> torch.Tensor:
        # With the inputs side by side for every feature, each non-zero reads one short contiguous row.
        by_feature = self.scratch.take(self.n_features, len(features))
        by_feature.copy_(features.T)
        return self._sum(by_feature, self._bags)

    def _spread(self, projected: torch.Tensor) -> torch.Tensor:
        return self._sum(projected.float().T.contiguous(), self._bags_by_feature)

    def _sum(self, values: torch.Tensor, bags: Bags) -> torch.Tensor:
        plus, minus = (
            embedding_bag(places, values, starts, mode="sum", include_last_offset=True) for places, starts in bags
        )
        return (plus - minus).mul_(self.scale).T

    @cached_property
    def _bags_by_feature(self) -> Bags:
        """The same non-zeros, column after column: as much memory again, taken when the adjoint is first asked for."""
        turned = []
        for columns, starts in self._bags:
            row = torch.arange(self.width, dtype=torch.int32, device=self.device).repeat_interleave(starts.diff())
            counts = torch.bincount(columns, minlength=self.n_features)
            starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
            turned.append((row[columns.argsort(stable=True)], starts))
        return turned

    @staticmethod
    def memory(n_features: int, width: int, n_rows: int, on_cpu: bool) -> tuple[int, int]:
        """Return the bytes that a projection keeps, and those that it takes while it projects n rows."""
        return int(4 * width * (math.sqrt(n_features) + 2)), 4 * n_rows * (n_features + 3 * width)

    @property
    def n_bytes(self) -> int:
        """Bytes that the positions take."""
        return sum(t.numel() * t.element_size() for bag in self._bags for t in bag)


def _draw_nonzeros(n_features: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw which entries of a k x d matrix are not zero, and their signs.

    The entries, row after row, are Bernoulli trials with probability 1/sqrt(d); the gaps between successes are
    geometric, so that only the non-zeros are ever drawn.

    Returns:
        columns: (nnz,) int32, the column of each non-zero, row after row.
        starts: (k + 1,) int64, where each row begins.
        positive: (nnz,) bool.
    """
    n_cells, density = width * n_features, 1 / math.sqrt(n_features)
    expected = n_cells * density
    cells = np.empty(0, dtype=np.int64)
    last = -1
    while last < n_cells:
        gaps = rng.geometric(density, size=int(expected + 6 * math.sqrt(expected) + 16))
        cells = np.concatenate([cells, last + np.cumsum(gaps)])
        last = int(cells[-1])
    cells = cells[: np.searchsorted(cells, n_cells)]
    starts = np.searchsorted(cells, np.arange(width + 1, dtype=np.int64) * n_features)
    positive = rng.integers(0, 2, size=len(cells), dtype=np.int8).astype(bool)
    return (cells % n_features).astype(np.int32), starts, positive
