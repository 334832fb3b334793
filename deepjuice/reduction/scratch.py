"""Working memory that projections share."""

from __future__ import annotations

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
