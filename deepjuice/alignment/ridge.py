"""Ridge regression as plain functions: one decomposition of the features, then any number of targets.

With features standardised beforehand, Xs = (X - mean) / scale, and an unpenalised intercept, the fit on n stimuli is

    y_hat = H y,    H = 1 1'/n + Xs (Xs' Xs + alpha I)^-1 Xs',

and leaving stimulus i out changes its residual to exactly (y_i - y_hat_i) / (1 - H_ii): each fold has its own mean and
its own weights, only the scaling is shared (Allen 1974, Technometrics 16, 125-127; Golub, Heath & Wahba 1979,
Technometrics 21, 215-223). Everything follows from one eigendecomposition, of Xs Xs' (dual, n <= p) or of Xs' Xs
(primal, n > p), which knows nothing of the targets: it serves all subjects and regions that saw these stimuli.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from deepjuice.alignment.linalg import (
    BLOCK_BYTES,
    as_matrix,
    blocks,
    column_moments,
    is_constant,
    working_dtype,
)
from deepjuice.alignment.scores import columnwise_score
from juicyfruits.errors import InputError

DEFAULT_ALPHAS: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-2, 17))
"""Nineteen alphas from 0.1 to 1e8, two a decade, for z-scored features (eigenvalues up to n p)."""


@dataclass(frozen=True)
class RidgeDecomposition:
    """The features of one layer, made ready for ridge regression on any targets; made by `ridge_decompose`.

    n stimuli, p features, r = n - 1 (dual, with intercept), n (dual, without) or p (primal).
    """

    X: Tensor  # (n, p) as it came, not copied: do not change it in place afterwards
    mean: Tensor  # (p,) subtracted from every column
    inverse_scale: Tensor  # (p,) multiplied onto every column; 0 where a column is constant
    eigenvalues: Tensor  # (r,) of Xs Xs' or Xs' Xs, ascending, not negative
    basis: Tensor  # (n, r) dual: orthonormal eigenvectors U; primal: Xs V
    rotation: Tensor | None  # primal: the eigenvectors V (p, p); dual: None
    fit_intercept: bool

    @property
    def is_dual(self) -> bool:
        """Whether the stimuli (n x n) rather than the features (p x p) were decomposed."""
        return self.rotation is None

    def to(self, device: torch.device) -> RidgeDecomposition:
        """Return the decomposition with its tensors on `device`."""
        moved = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


class AlphaSelection(NamedTuple):
    """What `select_alphas` found: the chosen `alpha` and its `score` (targets,), and all `scores` (alphas, targets)."""

    alpha: Tensor
    score: Tensor
    scores: Tensor


def ridge_decompose(X: Tensor, *, scale: bool = True, fit_intercept: bool = True) -> RidgeDecomposition:
    """Decompose features (n, p) once, on the device they are on, for every ridge regression that starts from them.

    `scale` z-scores each column by its mean and population standard deviation (as scikit-learn's StandardScaler);
    columns that are constant up to the rounding of their own precision become zero. Eigenvalues are good to about
    1e-16 of the largest, so alphas far below that say nothing. Raises InputError for fewer than 3 stimuli, no
    features, NaN or infinity, and values whose squares overflow.

    >>> dec = ridge_decompose(torch.eye(4, 6))
    >>> dec.is_dual, dec.basis.shape
    (True, torch.Size([4, 3]))
    """
    X = as_matrix(X, "X", min_rows=3)
    n, p = X.shape
    mean, std = column_moments(X)
    inverse_scale = (1.0 / std).masked_fill(is_constant(std, mean, X.dtype), 0.0) if scale else torch.ones_like(std)
    if not (scale or fit_intercept):
        mean = torch.zeros_like(mean)
    partial = RidgeDecomposition(X, mean, inverse_scale, std, std, None, fit_intercept)
    gram = _gram(partial, dual=n <= p)
    if not (torch.isfinite(gram).all() and torch.isfinite(std).all()):
        raise InputError("X must have squares that fit into float64, but its values are too large; divide X first.")
    if n <= p:
        eigenvalues, basis = _eigh_centred(gram) if fit_intercept else torch.linalg.eigh(gram)
        rotation = None
    else:
        eigenvalues, rotation = torch.linalg.eigh(gram)
        basis = torch.cat([_standardise(partial, X[rows]) @ rotation for rows in blocks(n, 8 * p)])
    return replace(partial, eigenvalues=eigenvalues.clamp_(min=0), basis=basis, rotation=rotation)


def _standardise(dec: RidgeDecomposition, X: Tensor, columns: slice = slice(None)) -> Tensor:
    return (X[:, columns].to(dec.mean.dtype) - dec.mean[columns]) * dec.inverse_scale[columns]


def _gram(dec: RidgeDecomposition, dual: bool) -> Tensor:
    n, p = dec.X.shape
    if dual:
        return _cross_gram(dec, dec.X)
    gram = dec.mean.new_zeros(p, p)
    for rows in blocks(n, 8 * p):
        block = _standardise(dec, dec.X[rows])
        gram.addmm_(block.T, block)
    return gram


def _cross_gram(dec: RidgeDecomposition, X_new: Tensor) -> Tensor:
    """Xs_new Xs' (m, n), summed over blocks of columns so that maps of millions of features need no wide copy."""
    n, p = dec.X.shape
    cross = dec.mean.new_zeros(len(X_new), n)
    for columns in blocks(p, 8 * (n + len(X_new))):
        known = _standardise(dec, dec.X, columns)
        new = known if X_new is dec.X else _standardise(dec, X_new, columns)
        cross.addmm_(new, known.T)
    return cross


def _eigh_centred(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n - 1,) and eigenvectors (n, n - 1) of a centred Gram matrix within the space of centred vectors.

    Its eigenvector 1/sqrt(n) belongs to the intercept and has eigenvalue 0, where rounding and duplicated stimuli mix
    it with others. A Householder reflection that carries it to the first axis lets it be left out exactly.
    """
    n = len(gram)
    v = gram.new_full((n, 1), n**-0.5)
    v[0] += 1.0

    def reflect(A: Tensor) -> Tensor:
        return A - v @ (v.T @ A) * (2.0 / v.square().sum())

    inner = reflect(reflect(gram).T)[1:, 1:]
    eigenvalues, vectors = torch.linalg.eigh((inner + inner.T) / 2)
    return eigenvalues, reflect(torch.cat([vectors.new_zeros(1, n - 1), vectors]))


def project(dec: RidgeDecomposition, X_new: Tensor) -> Tensor:
    """Express the features (m, p) of other stimuli in the decomposition's basis: (m, r), the same for all targets.

    Dual: Xs_new Xs' U; primal: Xs_new V. Predictions are `y_mean + project(dec, X_new) @ weights`. Raises InputError
    where the number of features differs.
    """
    X_new = as_matrix(X_new, "X", dec.X.device)
    if X_new.shape[1] != dec.X.shape[1]:
        raise InputError(
            f"X must have the {dec.X.shape[1]} features that the model was fitted on, but it has {X_new.shape[1]}; "
            "extract both with the same layer and projection."
        )
    if dec.is_dual:
        return _cross_gram(dec, X_new) @ dec.basis
    return torch.cat([_standardise(dec, X_new[rows]) @ dec.rotation for rows in blocks(len(X_new), 8 * X_new.shape[1])])


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
    alpha = _as_alpha(dec, alpha)
    centred, y_mean = _centre(dec, Y)
    return (dec.basis.T @ centred) / (dec.eigenvalues[:, None] + alpha), y_mean


def ridge_coefficients(dec: RidgeDecomposition, weights: Tensor, y_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Turn weights (r, t) into coefficients (p, t) on the features as they came, and intercepts (t,)."""
    if dec.is_dual:
        dual = dec.basis @ weights
        parts = blocks(dec.X.shape[1], 8 * len(dec.X))
        coefficients = torch.cat([_standardise(dec, dec.X, columns).T @ dual for columns in parts])
    else:
        coefficients = dec.rotation @ weights
    coefficients *= dec.inverse_scale[:, None]
    return coefficients, y_mean - dec.mean @ coefficients


def loo_predictions(
    dec: RidgeDecomposition, Y: Tensor, alpha: Tensor | float, *, block_bytes: int = BLOCK_BYTES
) -> Tensor:
    """Predict every stimulus of Y (n, t) from a fit on all the others, at one alpha or one a target (t,).

        y_i - (y_i - y_hat_i) / (1 - H_ii)

    Exact for the intercept of every fold; the scaling of X stays that of all stimuli.
    """
    Y = as_targets(dec, Y)
    alpha = _as_alpha(dec, alpha).expand(Y.shape[1])
    predictions = dec.mean.new_empty(Y.shape)
    for targets in _target_blocks(dec, Y, block_bytes):
        centred, _ = _centre(dec, Y[:, targets])
        shrink = dec.eigenvalues[:, None] + alpha[targets]
        rotated = dec.basis.T @ centred
        if dec.is_dual:
            kept = alpha[targets] / shrink
            residual = dec.basis @ rotated.mul_(kept)
            residual /= dec.basis.square() @ kept
        else:
            residual = centred - dec.basis @ (rotated / shrink)
            residual /= _own_share(dec) - dec.basis.square() @ shrink.reciprocal()
        predictions[:, targets] = Y[:, targets] - residual
    return predictions


def select_alphas(
    dec: RidgeDecomposition,
    Y: Tensor,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    scoring: str = "neg_mean_squared_error",
    *,
    per_target: bool = True,
    block_bytes: int = BLOCK_BYTES,
) -> AlphaSelection:
    """Choose the alpha of every target (n, t) by the score of its exact leave-one-out predictions.

    Ties go to the alpha named first. `per_target=False` chooses one alpha by the mean score over targets; targets
    without a score (a constant has no correlation) have no say in it. Targets are worked through in blocks and alphas
    in a loop, so that no (n, targets, alphas) array exists. Raises InputError for alphas that are not positive.
    """
    Y = as_targets(dec, Y)
    if len(alphas) == 0:
        raise InputError("The alphas must be at least one positive number, but none came; see DEFAULT_ALPHAS.")
    alphas = _as_alpha(dec, torch.as_tensor(alphas, dtype=torch.float64))
    score = columnwise_score(scoring)
    scores = dec.mean.new_empty(len(alphas), Y.shape[1])
    operators = _loo_operators(dec)
    for targets in _target_blocks(dec, Y, block_bytes):
        block = Y[:, targets].to(dec.mean.dtype)
        centred, _ = _centre(dec, block)
        rotated = dec.basis.T @ centred
        for k, alpha in enumerate(alphas):
            residual = operators(alpha, rotated, centred)
            if scoring == "neg_mean_squared_error":  # without the detour over predictions
                scores[k, targets] = -residual.square_().mean(dim=0)
            else:
                scores[k, targets] = score(block, block - residual)
    comparable = scores if per_target else scores.nanmean(dim=1, keepdim=True)
    best = comparable.nan_to_num(nan=-torch.inf).argmax(dim=0).expand(Y.shape[1])
    return AlphaSelection(alphas[best], scores.gather(0, best[None])[0], scores)


def _loo_operators(dec: RidgeDecomposition) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return a function of (alpha, basis' Yc, Yc) that gives the leave-one-out residuals (n, targets)."""
    squared = dec.basis.square()

    def dual(alpha: Tensor, rotated: Tensor, centred: Tensor) -> Tensor:
        # I - H = U diag(alpha / (e + alpha)) U': no difference of nearly equal numbers, however small alpha is.
        kept = alpha / (dec.eigenvalues + alpha)
        return (dec.basis * kept / (squared @ kept)[:, None]) @ rotated

    def primal(alpha: Tensor, rotated: Tensor, centred: Tensor) -> Tensor:
        inverse = 1.0 / (dec.eigenvalues + alpha)
        residual = torch.addmm(centred, dec.basis * inverse, rotated, alpha=-1)
        return residual.div_((_own_share(dec) - squared @ inverse)[:, None])

    return dual if dec.is_dual else primal


def _own_share(dec: RidgeDecomposition) -> float:
    return 1.0 - 1.0 / len(dec.X) if dec.fit_intercept else 1.0


def _centre(dec: RidgeDecomposition, Y: Tensor) -> tuple[Tensor, Tensor]:
    Y = Y.to(dec.mean.dtype)
    y_mean = Y.mean(dim=0) if dec.fit_intercept else torch.zeros_like(Y[0])
    return Y - y_mean, y_mean


def _target_blocks(dec: RidgeDecomposition, Y: Tensor, block_bytes: int):
    n, r = dec.basis.shape
    return blocks(Y.shape[1], 8 * (3 * n + 2 * r), block_bytes)


def as_targets(dec: RidgeDecomposition, Y: Tensor) -> Tensor:
    """Check targets (n,) or (n, t) against a decomposition and return them as (n, t) on its device."""
    Y = as_matrix(Y, "Y", dec.X.device)
    if len(Y) != len(dec.X):
        raise InputError(f"Y must have the {len(dec.X)} stimuli of X as rows, but it has {len(Y)}; align the two.")
    return Y


def _as_alpha(dec: RidgeDecomposition, alpha: Tensor | float) -> Tensor:
    alpha = torch.as_tensor(alpha, dtype=working_dtype(dec.X.device), device=dec.X.device)
    if not bool((torch.isfinite(alpha) & (alpha > 0)).all()):
        raise InputError(f"Every alpha must be a positive number, but {alpha.min().item():g} came; drop it.")
    return alpha


def count_at_edges(alpha: Tensor, alphas: Sequence[float] = DEFAULT_ALPHAS) -> tuple[int, int]:
    """Count the targets whose chosen alpha is the lowest and the highest of the grid: a grid too narrow shows here.

    Targets without any signal belong at the upper edge, for their best prediction is the mean.

    >>> count_at_edges(torch.tensor([0.1, 1.0, 10.0, 10.0]), alphas=(0.1, 1.0, 10.0))
    (1, 2)
    """
    low, high = (torch.tensor(edge, dtype=alpha.dtype, device=alpha.device) for edge in (min(alphas), max(alphas)))
    return int(torch.isclose(alpha, low).sum()), int(torch.isclose(alpha, high).sum())
