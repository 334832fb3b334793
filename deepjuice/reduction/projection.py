"""Random projection: wide feature maps down to the Johnson-Lindenstrauss width, distances kept."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from juicyfruits.errors import InputError


def jl_width(n_samples: int, eps: float = 0.1) -> int:
    """Return the width that keeps all distances between n samples within a factor 1 +- eps.

    k = 4 ln(n) / (eps^2 / 2 - eps^3 / 3), rounded down (Dasgupta & Gupta 2003, doi:10.1002/rsa.10073).

    >>> jl_width(160), jl_width(1000)
    (4350, 5920)
    """
    if n_samples < 2 or not 0 < eps < 1:
        raise InputError(f"projection width for n={n_samples}, eps={eps}: expected n >= 2 and 0 < eps < 1.")
    return int(4 * math.log(n_samples) / (eps**2 / 2 - eps**3 / 3))


class Scratch:
    """Working memory that is kept between calls, since fresh pages cost more than the work done in them."""

    def __init__(self, device: torch.device | str = "cpu"):
        self._memory = torch.empty(0, device=device)

    def take(self, n_rows: int, n_columns: int) -> torch.Tensor:
        """Return an uninitialised float32 matrix, overwritten by the next taker."""
        if self._memory.numel() < n_rows * n_columns:
            self._memory = torch.empty(n_rows * n_columns, device=self._memory.device)
        return self._memory[: n_rows * n_columns].view(n_rows, n_columns)


class SparseProjection:
    """Very sparse random projection R of Li, Hastie & Church (2006), doi:10.1145/1150402.1150436.

    Each of the k x d entries is, independently, 0 with probability 1 - 1/s and +-sqrt(s / k) otherwise, s = sqrt(d),
    so that E |Rx|^2 = |x|^2. Only the positions of the non-zeros are stored: k sqrt(d) int32 values.

    Args:
        n_features: width d of the maps to project.
        width: k, smaller than d.
        seed: with d and k it fixes every entry, on every machine.
        device: where the projection runs.
        scratch: working memory, which several projections can share.

    >>> projection = SparseProjection(10_000, width=500, seed=0)
    >>> x = torch.ones(3, 10_000)
    >>> projection(x).shape
    torch.Size([3, 500])
    """

    def __init__(
        self,
        n_features: int,
        width: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        scratch: Scratch | None = None,
    ):
        self.n_features, self.width = n_features, width
        self.scratch = scratch or Scratch(device)
        self.scale = math.sqrt(math.sqrt(n_features) / width)
        columns, starts, positive = _draw_nonzeros(n_features, width, np.random.default_rng([seed, n_features, width]))
        self._bags = [
            (
                torch.from_numpy(columns[chosen]).to(device),
                torch.from_numpy(np.concatenate([[0], np.cumsum(chosen)])[starts].astype(np.int32)).to(device),
            )
            for chosen in (positive, ~positive)
        ]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Project rows: features (n, d), any floating dtype, on the projection's device -> (n, k) float32."""
        # With the inputs side by side for every feature, each non-zero reads one short contiguous row.
        by_feature = self.scratch.take(self.n_features, len(features))
        by_feature.copy_(features.T)
        plus, minus = (
            embedding_bag(columns, by_feature, starts, mode="sum", include_last_offset=True)
            for columns, starts in self._bags
        )
        return (plus - minus).mul_(self.scale).T

    @property
    def n_bytes(self) -> int:
        """Bytes that the positions take."""
        return sum(t.numel() * t.element_size() for bag in self._bags for t in bag)

    def dense(self) -> torch.Tensor:
        """Return R itself, shape (k, d), float32: for checks on small sizes."""
        return self(torch.eye(self.n_features, device=self._bags[0][0].device)).T


class Identity:
    """The projection of maps that are no wider than k: they stay as they are."""

    def __init__(self, n_features: int):
        self.n_features = self.width = n_features

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features as float32."""
        return features.float()


class ProjectionPool:
    """One projection for every width of map, made when first needed and shared by all maps of that width.

    Args:
        width: k; maps of at most k features are left as they are.
        seed: of every matrix.
        device: where the projections run.
    """

    def __init__(self, width: int, seed: int = 0, device: torch.device | str = "cpu"):
        self.width, self.seed, self.device = width, seed, device
        self._scratch = Scratch(device)
        self._made: dict[int, SparseProjection | Identity] = {}

    def __getitem__(self, n_features: int) -> SparseProjection | Identity:
        if n_features not in self._made:
            self._made[n_features] = (
                SparseProjection(n_features, self.width, self.seed, self.device, self._scratch)
                if n_features > self.width
                else Identity(n_features)
            )
        return self._made[n_features]

    def ones(self, n_features: int) -> torch.Tensor:
        """Return R 1, the projection of the all-ones vector of that width, shape (k,)."""
        return self[n_features](torch.ones((1, n_features), device=self.device))[0]


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
