"""Ridge regression as plain functions: one decomposition of the features, then any number of targets.

With features standardised beforehand, Xs = (X - mean) / scale, and an unpenalised intercept, the fit on n stimuli is

    y_hat = H y,    H = 1 1'/n + Xs (Xs' Xs + alpha I)^-1 Xs',

and leaving stimulus i out changes its residual to exactly (y_i - y_hat_i) / (1 - H_ii): each fold has its own mean and
its own weights, only the scaling is shared (Allen 1974, Technometrics 16, 125-127; Golub, Heath & Wahba 1979,
Technometrics 21, 215-223). Everything follows from `ridge_decompose`, which serves all subjects and regions that saw
these stimuli.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deepjuice.alignment.encoding.leave_one_out import (
    SQUARED_ERROR,
    all_loo_scores,
    loo_scores,
    target_blocks,
)
from deepjuice.alignment.encoding.ridge_decomposition import (
    RidgeDecomposition,
    as_alphas,
    as_targets,
    centre,
    project,
    ridge_decompose,
    standardise,
)
from deepjuice.alignment.encoding.ridge_screening import AlphaScreen, screens_in_float32
from deepjuice.alignment.linalg import BLOCK_BYTES, as_tensor, blocks
from juicyfruits.errors import InputError

__all__ = [
    "DEFAULT_ALPHAS",
    "AlphaSelection",
    "RidgeDecomposition",
    "RidgeFit",
    "choose_alphas",
    "count_at_edges",
    "fit_ridge",
    "project",
    "ridge_coefficients",
    "ridge_decompose",
    "ridge_weights",
    "select_alphas",
]

DEFAULT_ALPHAS: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-2, 17))
"""Nineteen alphas from 0.1 to 1e8, two a decade, for z-scored features (eigenvalues up to n p)."""


class AlphaSelection(NamedTuple):
    """The chosen `alpha` and its `score` (targets,), and all `scores` (alphas, targets) where they were asked for."""

    alpha: Tensor
    score: Tensor
    scores: Tensor | None = None


class RidgeFit(NamedTuple):
    """What predicts: `alpha` (t,), `weights` (r, t) in the decomposition's basis, and `mean` (t,) of every target."""

    alpha: Tensor
    weights: Tensor
    mean: Tensor


def fit_ridge(
    dec: RidgeDecomposition,
    Y: Tensor,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    scoring: str = SQUARED_ERROR,
    *,
    per_target: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> RidgeFit:
    """Choose alphas as `choose_alphas` and fit as `ridge_weights`, with the product that both need made once.

    >>> X, Y = torch.randn(9, 4), torch.randn(9, 2)
    >>> dec = ridge_decompose(X)
    >>> fit = fit_ridge(dec, Y)
    >>> (fit.mean + project(dec, X) @ fit.weights).shape
    torch.Size([9, 2])
    """
    Y = as_targets(dec, Y)
    grid = _as_grid(dec, alphas)
    if not _can_screen(Y, scoring, per_target):
        alpha = choose_alphas(dec, Y, alphas, scoring, per_target=per_target, block_bytes=block_bytes)
        return RidgeFit(alpha, *ridge_weights(dec, Y, alpha))
    weights, (alpha, mean) = dec.mean.new_empty(dec.basis.shape[1], Y.shape[1]), dec.mean.new_empty(2, Y.shape[1])
    for targets, y_mean, rotated, chosen in _screened(dec, Y, grid, block_bytes):
        alpha[targets], mean[targets] = grid[chosen], y_mean
        torch.div(rotated, dec.eigenvalues[:, None] + alpha[targets], out=weights[:, targets])
    return RidgeFit(alpha, weights, mean)


def ridge_weights(dec: RidgeDecomposition, Y: Tensor, alpha: Tensor | float) -> tuple[Tensor, Tensor]:
    """Fit targets (n, t) at one alpha or one a target (t,): weights (r, t) in the decomposition's basis, means (t,).

        weights = basis' (Y - mean) / (eigenvalues + alpha)

    >>> X, Y = torch.randn(9, 4), torch.randn(9, 2)
    >>> dec = ridge_decompose(X)
    >>> weights, y_mean = ridge_weights(dec, Y, alpha=1.0)
    >>> (y_mean + project(dec, X) @ weights).shape
    torch.Size([9, 2])
    """
    Y = as_targets(dec, Y)
    alpha = as_alphas(dec, alpha, Y.shape[1])
    weights, y_mean = dec.mean.new_empty(dec.basis.shape[1], Y.shape[1]), dec.mean.new_empty(Y.shape[1])
    for targets in target_blocks(dec, Y, BLOCK_BYTES):
        centred, y_mean[targets] = centre(dec, Y[:, targets])
        torch.div(dec.basis.T @ centred, dec.eigenvalues[:, None] + alpha[targets], out=weights[:, targets])
    return weights, y_mean


def ridge_coefficients(dec: RidgeDecomposition, weights: Tensor, y_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Turn weights (r, t) into coefficients (p, t) on the features as they came, and intercepts (t,).

    >>> dec = ridge_decompose(torch.eye(4, 6))
    >>> coefficients, intercept = ridge_coefficients(dec, *ridge_weights(dec, torch.ones(4, 2), 1.0))
    >>> coefficients.shape, intercept
    (torch.Size([6, 2]), tensor([1., 1.], dtype=torch.float64))
    """
    if dec.is_dual:
        dual = dec.basis @ weights
        parts = blocks(dec.X.shape[1], 8 * len(dec.X))
        coefficients = torch.cat([standardise(dec, dec.X, columns).T @ dual for columns in parts])
    else:
        coefficients = dec.rotation @ weights
    coefficients *= dec.inverse_scale[:, None]
    return coefficients, y_mean - dec.mean @ coefficients


def select_alphas(
    dec: RidgeDecomposition,
    Y: Tensor,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    scoring: str = SQUARED_ERROR,
    *,
    per_target: bool = True,
    keep_scores: bool = False,
    block_bytes: int = BLOCK_BYTES,
) -> AlphaSelection:
    """Choose as `choose_alphas` does, and score the choice; `keep_scores` also keeps the scores of all alphas.

    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(20, 3, generator=generator)
    >>> select_alphas(ridge_decompose(X), X[:, :1], alphas=(0.1, 10.0)).alpha
    tensor([0.1000], dtype=torch.float64)
    """
    Y = as_targets(dec, Y)
    if not keep_scores:
        alpha = choose_alphas(dec, Y, alphas, scoring, per_target=per_target, block_bytes=block_bytes)
        return AlphaSelection(alpha, loo_scores(dec, Y, alpha, scoring, block_bytes=block_bytes))
    grid = _as_grid(dec, alphas)
    scores = all_loo_scores(dec, Y, grid, scoring, block_bytes)
    best = best_positions(scores, per_target)
    return AlphaSelection(grid[best], scores.gather(0, best[None])[0], scores)


def choose_alphas(
    dec: RidgeDecomposition,
    Y: Tensor,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    scoring: str = SQUARED_ERROR,
    *,
    per_target: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> Tensor:
    """Return the alpha (t,) at which the exact leave-one-out predictions of each target of Y (n, t) score best.

    Ties go to the alpha named first. `per_target=False` chooses one alpha by the mean score over targets; targets
    without a score (a constant has no correlation) have no say in it. Targets are worked through in blocks of about
    `block_bytes` and alphas in a loop, so that no (n, targets, alphas) array exists. Squared errors with an alpha a
    target are screened in float32 and decided in float64 (`ridge_screening`); all else is float64 throughout. Raises
    InputError for alphas that are not positive and an unknown scoring.

    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(20, 3, generator=generator)
    >>> choose_alphas(ridge_decompose(X), X[:, :1], alphas=(0.1, 10.0))
    tensor([0.1000], dtype=torch.float64)
    """
    Y = as_targets(dec, Y)
    grid = _as_grid(dec, alphas)
    if _can_screen(Y, scoring, per_target):
        return grid[torch.cat([chosen for *_, chosen in _screened(dec, Y, grid, block_bytes)])]
    return grid[best_positions(all_loo_scores(dec, Y, grid, scoring, block_bytes), per_target)]


def _can_screen(Y: Tensor, scoring: str, per_target: bool) -> bool:
    return scoring == SQUARED_ERROR and per_target and screens_in_float32(Y.device)


def _screened(
    dec: RidgeDecomposition, Y: Tensor, grid: Tensor, block_bytes: int
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield targets, their means (m,), basis' targets (r, m), and where in the grid the alpha of each stands (m,)."""
    screen = AlphaScreen(dec, grid)
    for targets in target_blocks(dec, Y, block_bytes):
        centred, mean = centre(dec, Y[:, targets])
        rotated = centred.T @ dec.basis
        yield targets, mean, rotated.T, screen.choose(centred, rotated)


def _as_grid(dec: RidgeDecomposition, alphas: Sequence[float]) -> Tensor:
    grid = as_tensor(alphas, "The alphas")
    if grid.ndim != 1 or not len(grid):
        raise InputError(
            f"The alphas must be a list of positive numbers, but {tuple(grid.shape)} came; see DEFAULT_ALPHAS."
        )
    return as_alphas(dec, grid.to(dec.mean.dtype))


def best_positions(scores: Tensor, per_target: bool) -> Tensor:
    """Return the position (t,) of the alpha with the best of scores (alphas, t), for each target or by their mean."""
    comparable = scores if per_target else scores.nanmean(dim=1, keepdim=True)
    return comparable.nan_to_num(nan=-torch.inf).argmax(dim=0).expand(scores.shape[1])


def count_at_edges(alpha: Tensor, alphas: Sequence[float] = DEFAULT_ALPHAS) -> tuple[int, int]:
    """Count the targets whose chosen alpha is the lowest and the highest of the grid: a grid too narrow shows here.

    Targets without any signal belong at the upper edge, for their best prediction is the mean.

    >>> count_at_edges(torch.tensor([0.1, 1.0, 10.0, 10.0]), alphas=(0.1, 1.0, 10.0))
    (1, 2)
    """
    low, high = (torch.tensor(edge, dtype=alpha.dtype, device=alpha.device) for edge in (min(alphas), max(alphas)))
    return int(torch.isclose(alpha, low).sum()), int(torch.isclose(alpha, high).sum())
