"""The first moments of every map's rows, taken as the maps go by."""

from __future__ import annotations

import pandas as pd
import torch

from deepjuice.extraction.telemetry import mean_and_std
from deepjuice.tracing import Event, tensors_in

PIECE = 1024


def row_sums(values: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Return the sums of every row, of its squares and of its magnitudes, (3, n) float32, for `Meter`'s blocks.

    Args:
        values: (n, d) float32.
        magnitudes: their absolute values.
    """
    d = values.shape[1]
    whole = d // PIECE * PIECE
    if 0 < whole < d:
        return row_sums(values[:, :whole], magnitudes[:, :whole]) + row_sums(values[:, whole:], magnitudes[:, whole:])
    # A float32 sum of a million squares loses digits; sums of short pieces, added up, do not.
    pieces = (-1, PIECE) if whole else (1, d)
    values, magnitudes = values.unflatten(1, pieces), magnitudes.unflatten(1, pieces)
    squares = torch.linalg.vector_norm(magnitudes, dim=2).square_()
    return torch.stack([values.sum(2), squares, magnitudes.sum(2)]).sum(2)


def row_moments(flat: torch.Tensor) -> torch.Tensor:
    """Return the mean of every row, of its squares and of its magnitudes.

    Args:
        flat: (n, d), any floating dtype.

    Returns:
        (3, n) float32 on the same device.

    >>> row_moments(torch.tensor([[1.0, -3.0]])).tolist()
    [[-1.0], [5.0], [2.0]]
    """
    values = flat.float()
    return row_sums(values, values.abs()) / flat.shape[1]


class Moments:
    """A listener that takes the mean and the standard deviation of every map over all inputs and features.

    It keeps three numbers an input and map, by row, so that a batch that is heard again counts once.

    Args:
        n_inputs: rows of the whole set.

    >>> from deepjuice.tracing import Tracer
    >>> moments = Moments(2)
    >>> with Tracer(torch.nn.ReLU(), moments) as tracer:
    ...     _ = tracer(torch.tensor([[-1.0, 3.0], [4.0, 2.0]]))
    >>> moments.table().round(3).to_dict("records")
    [{'uid': 'ReLU-0-1', 'n_features': 2, 'mean': 2.25, 'std': 1.479}]
    """

    def __init__(self, n_inputs: int):
        self.n_inputs = n_inputs
        self._found: dict[str, tuple[int, torch.Tensor]] = {}

    def __call__(self, event: Event) -> None:
        """Take the moments of one call's maps."""
        for uid, tensor in tensors_in(event.call.uid, event.output):
            if tensor.is_floating_point() and tensor.ndim > 1 and len(tensor) == event.rows.stop - event.rows.start:
                flat = tensor.detach().flatten(1)
                if uid not in self._found:
                    moments = torch.full((3, self.n_inputs), torch.nan, device=tensor.device)
                    self._found[uid] = (flat.shape[1], moments)
                self._found[uid][1][:, event.rows] = row_moments(flat)

    def table(self) -> pd.DataFrame:
        """Return uid, n_features, mean and std (divided by the number of values), a row a map as they complete."""
        rows = []
        for uid, (n_features, moments) in self._found.items():
            mean, std = mean_and_std(moments.cpu().numpy())
            rows.append({"uid": uid, "n_features": n_features, "mean": mean, "std": std})
        return pd.DataFrame(rows)
