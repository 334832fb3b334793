"""A structured random projection at the speed of reading the maps once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from deepjuice.reduction.scratch import RandomProjection

GATHER_BYTES = 2**28  # working memory of a projection on a GPU


class SignedSums(RandomProjection):
    """Balanced signed sums: every feature is added, with a random sign, to one of k sums of equally many features.

    The features are cut into blocks of k; block b is rotated by a random number r_b of places and added up:
    y_j = sum_b s_i x_i, i = b k + (j - r_b) mod k. Two features of one block never meet, two of different blocks meet
    with probability 1/k, so that E |Rx|^2 = |x|^2 and Var |Rx|^2 <= 2 |x|^4 / k, the bound of a dense Gaussian matrix
    (a count sketch, Charikar, Chen & Farach-Colton 2004, doi:10.1016/S0304-3975(03)00400-6, with balanced sums).

    Made, called and seeded as every `RandomProjection`.

    >>> projection = SignedSums(10_000, width=500, seed=0)
    >>> projection(torch.ones(3, 10_000)).shape
    torch.Size([3, 500])
    """

    def _draw(self, seed: int) -> None:
        d, k = self.n_features, self.width
        rng = np.random.default_rng([seed, d, k, 1])
        self._signs = torch.from_numpy(rng.integers(0, 2, d, dtype=np.int8)).to(self.device).float().mul_(2).sub_(1)
        self._rotations = rng.integers(0, k, -(-d // k)).tolist()

    def _project(self, features: torch.Tensor) -> torch.Tensor:
        return self._add_blocks(features) if features.device.type == "cpu" else self._gather(features)

    def _add_blocks(self, features: torch.Tensor) -> torch.Tensor:
        """Add block after block into sums that stay in the cache: the maps are read once, in any dtype, not copied."""
        k = self.width
        sums = self.scratch.take(len(features), 2 * k).zero_()  # twice as wide, so that a rotated block is one piece
        for block, rotation in enumerate(self._rotations):
            part = slice(block * k, min((block + 1) * k, self.n_features))
            sums[:, rotation : rotation + part.stop - part.start].addcmul_(features[:, part], self._signs[part])
        return sums[:, :k] + sums[:, k:]

    def _gather(self, features: torch.Tensor) -> torch.Tensor:
        """The same sums in three operations, for devices where starting an operation costs more than moving memory."""
        source, signs = self._places
        rows = max(1, GATHER_BYTES // (8 * len(source)))
        return torch.cat([self._sum(part.index_select(1, source), signs) for part in features.split(rows)])

    def _sum(self, placed: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
        return placed.float().mul_(signs).view(len(placed), -1, self.width).sum(1)

    def _spread(self, projected: torch.Tensor) -> torch.Tensor:
        """Feature i reads the one sum that it was added to, (i + r_b) mod k, with its sign."""
        rotations = torch.tensor(self._rotations, device=self.device).repeat_interleave(self.width)[: self.n_features]
        places = (torch.arange(self.n_features, device=self.device) + rotations) % self.width
        return projected.float().index_select(1, places).mul_(self._signs)

    @cached_property
    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """For every place of every rotated block the feature that stands there, and its sign, 0 behind the last one."""
        k = self.width
        rotations = torch.tensor(self._rotations, device=self.device)[:, None]
        starts = k * torch.arange(len(rotations), device=self.device)[:, None]
        source = ((torch.arange(k, device=self.device) - rotations) % k + starts).flatten()
        inside = source < self.n_features
        source = source.where(inside, 0)
        return source.int(), self._signs[source] * inside

    @staticmethod
    def memory(n_features: int, width: int, n_rows: int, on_cpu: bool) -> tuple[int, int]:
        """Return the bytes that a projection keeps, and those that it takes while it projects n rows."""
        if on_cpu:
            return 4 * n_features, 12 * n_rows * width
        placed = n_features + width  # at most
        return 4 * n_features + 8 * placed, 4 * n_rows * width + min(2 * GATHER_BYTES, 8 * n_rows * placed)

    @property
    def n_bytes(self) -> int:
        """Bytes that the signs take."""
        return self._signs.numel() * self._signs.element_size()
