"""One reading of a map, block by block as they fit the processor's cache, for all that telemetry needs of it."""

from __future__ import annotations

import torch

from deepjuice.extraction.moments import PIECE, row_sums
from deepjuice.extraction.telemetry import N_CODES

BLOCK = 2**17  # values at a time on the CPU: with the working memory, what a core's cache holds
BLOCK_ON_DEVICE = 2**25  # elsewhere, where starting an operation costs more than moving memory
LANES = 4  # neighbours are counted apart: many equal values in a row would wait for one another


class Meter:
    """Takes of maps what adds up over rows; its working memory serves all of them.

    Args:
        device: where the maps are.

    >>> active = torch.zeros(3, dtype=torch.bool)
    >>> moments, codes = Meter("cpu")(torch.tensor([[1.0, 0.0, -2.0], [3.0, 0.0, 0.0]]), active)
    >>> moments.tolist(), active.tolist(), int(codes.sum())
    ([[-0.3333333432674408, 1.0], [1.6666666269302368, 3.0], [1.0, 1.0]], [True, False, True], 6)
    """

    def __init__(self, device: torch.device | str):
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu"
        self._block, self._lanes = (BLOCK, LANES) if on_cpu else (BLOCK_ON_DEVICE, 1)
        self._floats = torch.empty(0, device=self.device)
        self._ints = torch.empty(0, device=self.device, dtype=torch.int32)

    def __call__(self, flat: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Read some rows of a map.

        Args:
            flat: (n, d), any floating dtype; values are taken as float32.
            active: (d,) bool, set where a feature is not 0 for one of the rows.

        Returns:
            `row_moments` (3, n) float32, and the numbers of values by sign and exponent (512,) int64, for `fold_codes`.
        """
        n, d = flat.shape
        step = max(PIECE, self._block // n // PIECE * PIECE)
        sums, codes = [], torch.zeros(N_CODES, dtype=torch.int64, device=self.device)
        for start in range(0, d, step):
            part = slice(start, min(start + step, d))
            values = flat[:, part].float()
            magnitudes = torch.abs(values, out=self._take("_floats", values.shape))
            sums.append(row_sums(values, magnitudes))
            active[part] |= magnitudes.amax(0) > 0
            codes += self._count(values)
        return torch.stack(sums).sum(0) / d, codes

    def _count(self, values: torch.Tensor) -> torch.Tensor:
        codes = self._take("_ints", values.shape)
        torch.bitwise_right_shift(values.view(torch.int32), 23, out=codes)  # -256 to 255: sign and exponent
        if self.device.type == "cuda":  # bincount would wait for the device, to learn the largest code
            return torch.histc(codes.add_(N_CODES // 2), N_CODES, 0, N_CODES).long()
        lanes = torch.arange(values.shape[1], dtype=torch.int32, device=self.device) % self._lanes
        codes.add_(lanes.mul_(N_CODES).add_(N_CODES // 2))
        return torch.bincount(codes.view(-1), minlength=N_CODES * self._lanes).view(-1, N_CODES).sum(0)

    def _take(self, name: str, shape: tuple[int, int]) -> torch.Tensor:
        """Return working memory of a shape; it grows to the largest that was asked for."""
        n_values = shape[0] * shape[1]
        if getattr(self, name).numel() < n_values:
            setattr(self, name, torch.empty(n_values, dtype=getattr(self, name).dtype, device=self.device))
        return getattr(self, name)[:n_values].view(shape)

    @staticmethod
    def memory(n_features: int, n_rows: int, on_cpu: bool) -> int:
        """Return the most bytes that reading a map takes while it lasts, 12 a value of a block."""
        most = max(PIECE * n_rows, BLOCK if on_cpu else BLOCK_ON_DEVICE)
        return 12 * min(most, n_rows * n_features)
