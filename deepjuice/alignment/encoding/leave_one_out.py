"""Leave-one-out predictions of ridge regression and their scores, exact and in closed form.

Leaving stimulus i out of a fit y_hat = H y changes its residual to (y_i - y_hat_i) / (1 - H_ii): `ridge` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deepjuice.alignment.encoding.ridge_decomposition import RidgeDecomposition, as_alphas, as_targets, centre
from deepjuice.alignment.linalg import BLOCK_BYTES, as_matrix, blocks
from deepjuice.alignment.scores import columnwise_score
from juicyfruits.errors import InputError

SQUARED_ERROR = "neg_mean_squared_error"


def loo_predictions(
    dec: RidgeDecomposition,
    Y: Tensor,
    alpha: Tensor | float,
    *,
    weights: Tensor | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Tensor:
    """Predict every stimulus of Y (n, t) from a fit on all the others, at one alpha or one a target (t,): (n, t).

        y_i - (y_i - y_hat_i) / (1 - H_ii)

    Exact for the intercept of every fold; the scaling of X stays that of all stimuli. `weights` (r, t), those of
    `fit_ridge` or `ridge_weights` at these alphas, save a product where they are at hand.

    >>> from deepjuice.alignment import ridge_decompose
    >>> loo_predictions(ridge_decompose(torch.ones(4, 2)), torch.tensor([[1.0], [2.0], [3.0], [6.0]]), 1.0).T
    tensor([[3.6667, 3.3333, 3.0000, 2.0000]], dtype=torch.float64)
    """
    Y = as_targets(dec, Y)
    predictions = dec.mean.new_empty(Y.shape)
    for targets, residual in _loo_residuals(dec, Y, alpha, weights, block_bytes):
        torch.sub(Y[:, targets], residual, out=predictions[:, targets])
    return predictions


def loo_scores(
    dec: RidgeDecomposition,
    Y: Tensor,
    alpha: Tensor | float,
    scoring: str = SQUARED_ERROR,
    *,
    weights: Tensor | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Tensor:
    """Score the leave-one-out predictions of Y (n, t) at one alpha or one a target (t,): (t,), float64.

    `weights` as in `loo_predictions`.

    >>> from deepjuice.alignment import ridge_decompose
    >>> dec = ridge_decompose(torch.ones(4, 2))
    >>> loo_scores(dec, torch.tensor([1.0, 2.0, 3.0, 6.0]), 1.0)
    tensor([-6.2222], dtype=torch.float64)
    """
    Y = as_targets(dec, Y)
    score = columnwise_score(scoring)
    scores = dec.mean.new_empty(Y.shape[1])
    for targets, residual in _loo_residuals(dec, Y, alpha, weights, block_bytes):
        scores[targets] = _score_residual(score, scoring, Y[:, targets], residual)
    return scores


def all_loo_scores(dec: RidgeDecomposition, Y: Tensor, grid: Tensor, scoring: str, block_bytes: int) -> Tensor:
    """Score the leave-one-out predictions of checked targets at every alpha of a checked grid: (alphas, targets)."""
    score = columnwise_score(scoring)
    scores = dec.mean.new_empty(len(grid), Y.shape[1])
    squared = dec.basis.square()
    for targets in target_blocks(dec, Y, block_bytes):
        centred, _ = centre(dec, Y[:, targets])
        rotated = dec.basis.T @ centred
        for k, alpha in enumerate(grid):
            weights = rotated / (dec.eigenvalues[:, None] + alpha)
            residual = _residual(dec, squared, centred, weights, alpha[None])
            scores[k, targets] = _score_residual(score, scoring, Y[:, targets], residual)
    return scores


def target_blocks(dec: RidgeDecomposition, Y: Tensor, block_bytes: int) -> Iterator[slice]:
    """Cut the targets into blocks that are worked on in about `block_bytes`."""
    n, r = dec.basis.shape
    return blocks(Y.shape[1], 8 * (3 * n + 2 * r), block_bytes)


def _loo_residuals(
    dec: RidgeDecomposition, Y: Tensor, alpha: Tensor | float, weights: Tensor | None, block_bytes: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield targets and their leave-one-out residuals (n, targets), block by block."""
    alpha = as_alphas(dec, alpha, Y.shape[1])
    weights = None if weights is None else _as_weights(dec, weights, Y.shape[1])
    squared = dec.basis.square()
    for targets in target_blocks(dec, Y, block_bytes):
        centred, _ = centre(dec, Y[:, targets])
        if weights is None:
            own = (dec.basis.T @ centred).div_(dec.eigenvalues[:, None] + alpha[targets])
        else:
            own = weights[:, targets]
        yield targets, _residual(dec, squared, centred, own, alpha[targets])


def _as_weights(dec: RidgeDecomposition, weights: Tensor, n_targets: int) -> Tensor:
    weights = as_matrix(weights, "The weights", dec.X.device).to(dec.mean.dtype)
    expected = dec.basis.shape[1], n_targets
    if weights.shape != expected:
        raise InputError(
            f"Weights must be {expected} for these targets, but {tuple(weights.shape)} came; take those of fit_ridge."
        )
    return weights


def _residual(dec: RidgeDecomposition, squared: Tensor, centred: Tensor, weights: Tensor, alpha: Tensor) -> Tensor:
    """Leave-one-out residuals (n, t) of centred targets with their weights (r, t), at alphas (t,) or one (1,)."""
    values, each = alpha.unique(return_inverse=True)  # 1 - H_ii once an alpha, not once a target
    inverse = 1.0 / (dec.eigenvalues[:, None] + values)
    if dec.is_dual:
        # I - H = U diag(alpha / (e + alpha)) U': no difference of nearly equal numbers, however small alpha is.
        residual = dec.basis @ (weights * alpha)
        return residual.div_((squared @ (values * inverse))[:, each])
    residual = torch.addmm(centred, dec.basis, weights, alpha=-1)
    return residual.div_((dec.own_share - squared @ inverse)[:, each])


def _score_residual(score: Callable[[Tensor, Tensor], Tensor], scoring: str, Y: Tensor, residual: Tensor) -> Tensor:
    if scoring == SQUARED_ERROR:  # without the detour over predictions, which cancels where targets have an offset
        return -residual.square_().mean(dim=0)
    wide = Y.to(residual.dtype)
    return score(wide, wide - residual)
