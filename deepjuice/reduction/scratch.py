"""Working memory that projections share."""

from __future__ import annotations

import torch


class Scratch:
    """Working memory that is kept between calls, since fresh pages cost more than the work done in them."""

    def __init__(self, device: torch.device | str = "cpu"):
        self._memory = torch.empty(0, device=device)

    def take(self, n_rows: int, n_columns: int) -> torch.Tensor:
        """Return an uninitialised float32 matrix, overwritten by the next taker."""
        if self._memory.numel() < n_rows * n_columns:
            self._memory = torch.empty(n_rows * n_columns, device=self._memory.device)
        return self._memory[: n_rows * n_columns].view(n_rows, n_columns)
