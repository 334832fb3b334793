"""The one rule that tells few large values from the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Accepted:
    """The largest values of each row: `values[row]` has `weight` of what its row accepted.

    Attributes:
        row, column: (n,) int64, rows in order and values falling within each.
        weight: (n,) > 0; sums to 1 over a row that accepted any.
    """

    row: Tensor
    column: Tensor
    weight: Tensor


def accept(values: Tensor, share: float = 1.0, goal: Tensor | None = None) -> Accepted:
    """Take the largest values of each row, until the first that carries their sum beyond a goal.

    Values are sorted from the largest, all whose cumulative sum is at most the goal are taken, and the next one. What
    is not positive is never taken.

    Args:
        values: (n_rows, n).
        share: what part of its row's sum is the goal.
        goal: (n_rows,), instead of a share.

    >>> found = accept(torch.tensor([[1.0, 5.0, 0.0, 4.0]]), share=0.6)
    >>> found.column.tolist(), found.weight.tolist()
    ([1, 3], [0.5555555820465088, 0.4444444477558136])
    """
    if not values.shape[1]:
        empty = torch.zeros(0, dtype=torch.int64, device=values.device)
        return Accepted(empty, empty, values.new_zeros(0))
    falling, columns = values.sort(dim=1, descending=True, stable=True)
    reached = falling.cumsum(dim=1)
    goal = share * reached[:, -1] if goal is None else goal
    below = (reached <= goal[:, None]).to(torch.uint8).cummin(dim=1).values.bool()
    last = below.sum(dim=1).clamp(max=values.shape[1] - 1)
    taken = torch.arange(values.shape[1], device=values.device) <= last[:, None]
    taken &= falling > 0
    weights = falling / reached.gather(1, last[:, None])
    row, place = taken.nonzero(as_tuple=True)
    return Accepted(row, columns[row, place], weights[row, place])
