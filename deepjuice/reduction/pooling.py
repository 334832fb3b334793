"""Averages and picks over the tokens of a text and over the places of a picture, for maps of one batch or of many.

Every function keeps the dtype. Means are summed in float64 (float32 on mps, and over the cells of a grid), so that a
layer that says the same of every token has the same mean for every text, not one that differs by rounding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from juicyfruits.errors import InputError

TOKEN_POOLINGS = ("cls", "mean", "last")
SPATIAL_POOLINGS = ("mean", "max")


def pool_tokens(tokens: torch.Tensor, how: str = "mean", mask: torch.Tensor | None = None) -> torch.Tensor:
    """Reduce token maps (n, tokens, d) to one row a text (n, d).

    Args:
        tokens: floating point, (n, tokens, d).
        how: `'cls'` takes the first token, `'last'` the last, `'mean'` averages all; padding never counts, on
            whichever side it is.
        mask: attention mask (n, tokens), zero at padding; by default nothing is padding.

    Raises:
        InputError: for other shapes, another `how`, or a text that is nothing but padding.

    >>> tokens = torch.tensor([[[1.0], [2.0], [9.0]], [[4.0], [6.0], [8.0]]])
    >>> pool_tokens(tokens, "mean", mask=torch.tensor([[1, 1, 0], [1, 1, 1]])).flatten()
    tensor([1.5000, 6.0000])
    """
    check_choice("token pooling", how, TOKEN_POOLINGS)
    _check_maps(tokens, 3, "(n, tokens, d)")
    real = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask.to(tokens.device) != 0
    if real.shape != tokens.shape[:2]:
        raise InputError(
            f"attention mask: expected shape {list(tokens.shape[:2])} as the token maps have, got {list(real.shape)}; "
            "give the mask of the same batch."
        )
    empty = ~real.any(1)
    if empty.any():
        raise InputError(
            f"attention mask: expected at least one token a text, got only padding in {int(empty.sum())} rows, the "
            f"first in row {int(empty.int().argmax())}; drop empty texts."
        )
    if how == "mean":
        # by selection, not by multiplication: what a network makes of padding may be NaN
        kept = tokens.masked_fill(~real[..., None], 0)
        return (kept.sum(1, dtype=summing_dtype(tokens)) / real.sum(1, keepdim=True)).to(tokens.dtype)
    place = real.int().argmax(1) if how == "cls" else real.shape[1] - 1 - real.flip(1).int().argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), place]


def pool_space(maps: torch.Tensor, how: str = "mean") -> torch.Tensor:
    """Reduce maps (n, channels, height, width) to their `'mean'` or `'max'` over all places, (n, channels).

    >>> pool_space(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]), "max")
    tensor([[6.]])
    """
    check_choice("spatial pooling", how, SPATIAL_POOLINGS)
    _check_maps(maps, 4, "(n, channels, height, width)")
    if how == "max":
        return maps.amax((2, 3))
    return maps.mean((2, 3), dtype=summing_dtype(maps)).to(maps.dtype)


def pool_to_grid(maps: torch.Tensor, grid: int | tuple[int, int]) -> torch.Tensor:
    """Average maps (n, channels, height, width) over a grid of cells, (n, channels, rows, columns).

    Cell i of r over a height h holds the rows floor(i h / r) to ceil((i + 1) h / r), so that cells overlap by one where
    r does not divide h.

    >>> pool_to_grid(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, 0]
    tensor([[ 2.5000,  4.5000],
            [10.5000, 12.5000]])
    """
    _check_maps(maps, 4, "(n, channels, height, width)")
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    if not (1 <= rows <= maps.shape[2] and 1 <= columns <= maps.shape[3]):
        raise InputError(
            f"grid {rows} x {columns}: expected from 1 x 1 to the map's {maps.shape[2]} x {maps.shape[3]} places."
        )
    working = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return F.adaptive_avg_pool2d(working, (rows, columns)).to(maps.dtype)


def tokens_to_grid(tokens: torch.Tensor, grid: tuple[int, int] | None = None, n_prefix: int = 1) -> torch.Tensor:
    """Lay the patch tokens of a vision transformer (n, tokens, d) out as maps (n, d, rows, columns).

    Args:
        tokens: row by row of the picture, after `n_prefix` others.
        grid: rows and columns of patches; by default a square.
        n_prefix: tokens in front that are no patches, and are left out: the class token, registers.

    Returns:
        A view of the tokens.

    Raises:
        InputError: when the patches do not fill the grid.

    >>> tokens_to_grid(torch.zeros(2, 1 + 14 * 14, 768)).shape
    torch.Size([2, 768, 14, 14])
    """
    _check_maps(tokens, 3, "(n, tokens, d)")
    n_patches = tokens.shape[1] - n_prefix
    rows, columns = grid or (math.isqrt(max(n_patches, 0)),) * 2
    if n_prefix < 0 or n_patches < 1 or rows * columns != n_patches:
        raise InputError(
            f"{tokens.shape[1]} tokens, {n_prefix} of them in front: expected patches that fill a grid of {rows} x "
            f"{columns}, got {n_patches}; give grid=(rows, columns) or n_prefix."
        )
    return tokens[:, n_prefix:].unflatten(1, (rows, columns)).permute(0, 3, 1, 2)


def summing_dtype(maps: torch.Tensor) -> torch.dtype:
    """Return the dtype in which means of maps are summed."""
    return torch.float32 if maps.device.type == "mps" else torch.float64


def check_choice(what: str, given: str, known: tuple[str, ...]) -> None:
    """Refuse a way of pooling that is not one of the known ones."""
    if given not in known:
        raise InputError(f"{what} {given!r}: expected one of {', '.join(map(repr, known))}.")


def _check_maps(maps: torch.Tensor, ndim: int, shape: str) -> None:
    if maps.ndim != ndim or not maps.is_floating_point():
        raise InputError(
            f"maps to pool: expected floating point of shape {shape}, got {str(maps.dtype).removeprefix('torch.')} of "
            f"shape {list(maps.shape)}; choose maps of that shape."
        )
