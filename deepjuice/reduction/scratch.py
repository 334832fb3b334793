"""What random projections share: how they are made and called, and their working memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from juicyfruits.errors import InputError


def check_rows(features: torch.Tensor, n_features: int) -> None:
    """Raise `InputError` unless features are (n, n_features): others would be broadcast or cut in silence."""
    if features.ndim != 2 or features.shape[1] != n_features:
        raise InputError(
            f"features to project: expected shape (n, {n_features}), got {tuple(features.shape)}; flatten maps to "
            "one row an input."
        )


class Scratch:
    """Working memory that is kept between calls, since fresh pages cost more than the work done in them."""

    def __init__(self, device: torch.device | str = "cpu"):
        self._memory = torch.empty(0, device=device)

    def take(self, n_rows: int, n_columns: int) -> torch.Tensor:
        """Return an uninitialised float32 matrix, overwritten by the next taker."""
        if self._memory.numel() < n_rows * n_columns:
            self._memory = torch.empty(n_rows * n_columns, device=self._memory.device)
        return self._memory[: n_rows * n_columns].view(n_rows, n_columns)


class RandomProjection:
    """A random matrix R (k, d), drawn once, that projects rows.

    A method of projection says how: `_draw(seed)` makes what it keeps, `_project(features)` uses it, and so does
    `_spread(projected)`, which goes the other way. Gradients of any order pass; R itself is never made for them.

    Args:
        n_features: width d of the maps to project.
        width: k, smaller than d.
        seed: with d and k it fixes every entry, on every machine.
        device: where the projection runs.
        scratch: working memory, which several projections can share.
    """

    def __init__(
        self,
        n_features: int,
        width: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        scratch: Scratch | None = None,
    ):
        self.n_features, self.width, self.device = n_features, width, torch.device(device)
        self.scratch = scratch or Scratch(device)
        self._draw(seed)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Project rows: features (n, d), any floating dtype, on the projection's device -> (n, k) float32."""
        check_rows(features, self.n_features)
        return _Linear.apply(features, self._project, self._spread)

    def adjoint(self, projected: torch.Tensor) -> torch.Tensor:
        """Return the adjoint's rows y R: projected (n, k), any floating dtype -> (n, d) float32."""
        check_rows(projected, self.width)
        return _Linear.apply(projected, self._spread, self._project)

    def dense(self) -> torch.Tensor:
        """Return R itself, shape (k, d), float32: for checks on small sizes."""
        return self(torch.eye(self.n_features, device=self.device)).T


class _Linear(torch.autograd.Function):
    """A linear map of rows given by what it does, whose gradient is its adjoint."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, function: Callable, adjoint: Callable) -> torch.Tensor:
        ctx.functions = function, adjoint
        return function(rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        function, adjoint = ctx.functions
        return _Linear.apply(gradient, adjoint, function), None, None
