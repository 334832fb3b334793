"""The one rule that tells few large values from the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_LOOK = 256  # values that are sorted at first, as a row seldom accepts more


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
        values: (n_rows, n); of half precision they are taken as float32.
        share: what part of its row's sum is the goal.
        goal: (n_rows,), instead of a share.

    >>> found = accept(torch.tensor([[1.0, 5.0, 0.0, 4.0]]), share=0.6)
    >>> found.column.tolist(), found.weight.tolist()
    ([1, 3], [0.5555555820465088, 0.4444444477558136])
    """
    if not values.shape[1]:
        empty = torch.zeros(0, dtype=torch.int64, device=values.device)
        return Accepted(empty, empty, values.new_zeros(0))
    values = at_least_single(values)
    if goal is None:
        goal = share * values.sum(dim=1)
        if share == 1:  # of positive values that is all, whatever the rounding of their sum
            goal = torch.where(values.amin(dim=1) >= 0, torch.inf, goal)
    for k in (FIRST_LOOK, values.shape[1]):
        falling, columns, last = _largest(values, goal, min(k, values.shape[1]))
        if falling.shape[1] == values.shape[1] or (falling.gather(1, last[:, None])[:, 0] > falling[:, -1]).all():
            break
    taken = torch.arange(falling.shape[1], device=values.device) <= last[:, None]
    taken &= falling > 0
    weights = falling / falling.cumsum(dim=1).gather(1, last[:, None])
    row, place = taken.nonzero(as_tuple=True)
    return Accepted(row, columns[row, place], weights[row, place])


def at_least_single(tensor: Tensor) -> Tensor:
    """Return a tensor of half precision, whose sums overflow and which has no decompositions, as float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _largest(values: Tensor, goal: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's k largest values, falling, of equal ones the first; their columns; and which is the last."""
    if k < values.shape[1]:
        columns = values.topk(k, dim=1, sorted=False).indices.sort(dim=1).values
        falling, order = values.gather(1, columns).sort(dim=1, descending=True, stable=True)
        columns = columns.gather(1, order)
    else:
        falling, columns = values.sort(dim=1, descending=True, stable=True)
    below = (falling.cumsum(dim=1) <= goal[:, None]).to(torch.uint8).cummin(dim=1).values
    return falling, columns, below.sum(dim=1).clamp(max=k - 1)
