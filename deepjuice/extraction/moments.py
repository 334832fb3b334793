"""The first two moments of every map, taken as the maps go by."""

from __future__ import annotations

import pandas as pd
import torch

from deepjuice.tracing import Event, tensors_in

PIECE = 4096


def row_moments(flat: torch.Tensor) -> torch.Tensor:
    """Return the mean of every row and of its squares.

    Args:
        flat: (n, d), any floating dtype.

    Returns:
        (2, n) float32 on the same device.

    >>> row_moments(torch.tensor([[1.0, 3.0]])).tolist()
    [[2.0], [5.0]]
    """
    d = flat.shape[1]
    whole = d // PIECE * PIECE
    # A float32 sum of a million squares loses digits; sums of short pieces, added up, do not.
    pieces = [flat[:, :whole].unflatten(1, (-1, PIECE)), flat[:, None, whole:]] if whole else [flat[:, None]]
    dtype = torch.promote_types(flat.dtype, torch.float32)
    squares = sum(torch.linalg.vector_norm(p, dim=2, dtype=dtype).square_().sum(1) for p in pieces)
    return torch.stack([flat.mean(1, dtype=dtype), squares / d]).float()


class Moments:
    """A listener that takes the mean and the standard deviation of every map over all inputs and features.

    It keeps two numbers an input and map, by row, so that a batch that is heard again counts once.

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
                    both = torch.full((2, self.n_inputs), torch.nan, device=tensor.device)
                    self._found[uid] = (flat.shape[1], both)
                self._found[uid][1][:, event.rows] = row_moments(flat)

    def table(self) -> pd.DataFrame:
        """Return uid, n_features, mean and std (divided by the number of values), a row a map as they complete."""
        rows = []
        for uid, (n_features, both) in self._found.items():
            mean, square = both.double().cpu().mean(1).tolist()
            rows.append({"uid": uid, "n_features": n_features, "mean": mean, "std": max(square - mean**2, 0.0) ** 0.5})
        return pd.DataFrame(rows)
