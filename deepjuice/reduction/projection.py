"""Random projection: wide feature maps down to the Johnson-Lindenstrauss width, distances kept."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from deepjuice.reduction.scratch import RandomProjection, Scratch, check_rows
from deepjuice.reduction.signed_sums import SignedSums
from deepjuice.reduction.sparse import SparseProjection
from juicyfruits.errors import InputError

METHODS: dict[str, type[RandomProjection]] = {"signed_sums": SignedSums, "sparse": SparseProjection}
DEFAULT_METHOD = "signed_sums"


def jl_width(n_samples: int, eps: float = 0.1) -> int:
    """Return the width that keeps all distances between n samples within a factor 1 +- eps.

    k = 4 ln(n) / (eps^2 / 2 - eps^3 / 3), rounded down (Dasgupta & Gupta 2003, doi:10.1002/rsa.10073).

    >>> jl_width(160), jl_width(1000)
    (4350, 5920)
    """
    if n_samples < 2 or not 0 < eps < 1:
        raise InputError(f"projection width for n={n_samples}, eps={eps}: expected n >= 2 and 0 < eps < 1.")
    return int(4 * math.log(n_samples) / (eps**2 / 2 - eps**3 / 3))


class Identity:
    """The projection of maps that are no wider than k: they stay as they are."""

    def __init__(self, n_features: int):
        self.n_features = self.width = n_features

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return a copy of the features as float32."""
        check_rows(features, self.n_features)
        return features.to(torch.float32, copy=True)


Projection = RandomProjection | Identity


def make_projection(
    n_features: int,
    width: int,
    method: str = DEFAULT_METHOD,
    seed: int = 0,
    device: torch.device | str = "cpu",
    scratch: Scratch | None = None,
) -> Projection:
    """Return the projection of maps of one width.

    Args:
        n_features: width d of the maps.
        width: k; where d <= k, the maps stay as they are.
        method: `'signed_sums'` (`SignedSums`) or `'sparse'` (`SparseProjection`).
        seed: with d and k it fixes every entry, on every machine.
        device: where the projection runs.
        scratch: working memory, which several projections can share.
    """
    if method not in METHODS:
        raise InputError(f"projection method {method!r}: expected one of {', '.join(map(repr, METHODS))}.")
    if n_features < 1 or width < 1:
        raise InputError(f"projection of {n_features} features to {width} columns: expected at least 1 of each.")
    if n_features <= width:
        return Identity(n_features)
    return METHODS[method](n_features, width, seed, device, scratch)


class ProjectionPool:
    """One projection for every width of map, made when first needed and shared by all maps of that width.

    Args:
        width: k; maps of at most k features are left as they are.
        method: see `make_projection`.
        seed: of every matrix.
        device: where the projections run.
    """

    def __init__(self, width: int, method: str = DEFAULT_METHOD, seed: int = 0, device: torch.device | str = "cpu"):
        self.width, self.method, self.seed, self.device = width, method, seed, device
        self._scratch = Scratch(device)
        self._made: dict[int, Projection] = {}

    def __getitem__(self, n_features: int) -> Projection:
        if n_features not in self._made:
            self._made[n_features] = make_projection(
                n_features, self.width, self.method, self.seed, self.device, self._scratch
            )
        return self._made[n_features]

    def ones(self, n_features: int) -> torch.Tensor:
        """Return R 1, the projection of the all-ones vector of that width, shape (k,)."""
        return self[n_features](torch.ones((1, n_features), device=self.device))[0]


def pool_memory(
    n_features: Iterable[int], width: int, method: str, n_rows: int, on_cpu: bool = True
) -> tuple[int, int]:
    """Return the bytes that the projections of maps of these widths keep, and the most that one takes as it works."""
    needs = [METHODS[method].memory(n, width, n_rows, on_cpu) for n in set(n_features) if n > width]
    return sum(kept for kept, _ in needs), max((working for _, working in needs), default=0)
