"""One decomposition of the features of a layer, from which ridge regressions on any number of targets start.

It is the eigendecomposition of Xs Xs' (dual) or of Xs' Xs (primal, where the features are fewer), which knows
nothing of the targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deepjuice.alignment.linalg import (
    as_matrix,
    as_tensor,
    blocks,
    column_moments,
    eigh,
    is_constant,
    row_gram,
    working_dtype,
)
from juicyfruits.errors import InputError

COLUMNS_BYTES = 16 * 1024**2
"""Features that are standardised and multiplied at a time: few enough to be in the cache still."""


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

    @property
    def own_share(self) -> float:
        """What is left of 1 - H_ii when the weights are zero: the intercept's part, 1/n, is gone."""
        return 1.0 - 1.0 / len(self.X) if self.fit_intercept else 1.0

    def to(self, device: torch.device) -> RidgeDecomposition:
        """Return the decomposition with its tensors on `device`."""
        moved = {name: v.to(device) for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


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
    dual = n - fit_intercept <= p  # n - 1 dimensions are left of centred stimuli
    gram = _gram(partial, dual)
    if not (torch.isfinite(gram).all() and torch.isfinite(std).all()):
        raise InputError("X must have squares that fit into float64, but its values are too large; divide X first.")
    if dual:
        eigenvalues, basis = _eigh_centred(gram) if fit_intercept else eigh(gram)
        rotation = None
    else:
        eigenvalues, rotation = eigh(gram)
        basis = torch.cat([standardise(partial, X[rows]) @ rotation for rows in blocks(n, 8 * p)])
    return replace(partial, eigenvalues=eigenvalues.clamp_(min=0), basis=basis, rotation=rotation)


def standardise(dec: RidgeDecomposition, X: Tensor, columns: slice = slice(None)) -> Tensor:
    """Centre and scale features (m, p), or some of their columns, as the decomposed ones were: float64."""
    return X[:, columns].to(dec.mean.dtype, copy=True).sub_(dec.mean[columns]).mul_(dec.inverse_scale[columns])


def _gram(dec: RidgeDecomposition, dual: bool) -> Tensor:
    n, p = dec.X.shape
    if dual:
        return row_gram(standardise(dec, dec.X, columns) for columns in blocks(p, 8 * n, COLUMNS_BYTES))
    return row_gram(standardise(dec, dec.X[rows]).T for rows in blocks(n, 8 * p))


def _cross_gram(dec: RidgeDecomposition, X_new: Tensor) -> Tensor:
    """Xs_new Xs' (m, n), summed over blocks of columns so that maps of millions of features need no wide copy."""
    n, p = dec.X.shape
    cross = dec.mean.new_zeros(len(X_new), n)
    for columns in blocks(p, 8 * (n + len(X_new)), COLUMNS_BYTES):
        cross.addmm_(standardise(dec, X_new, columns), standardise(dec, dec.X, columns).T)
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
    eigenvalues, vectors = eigh((inner + inner.T) / 2)
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
    return torch.cat([standardise(dec, X_new[rows]) @ dec.rotation for rows in blocks(len(X_new), 8 * X_new.shape[1])])


def centre(dec: RidgeDecomposition, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Return targets (n, t) less their means, and the means (t,), zero without an intercept: float64."""
    Y = Y.to(dec.mean.dtype, copy=True)
    y_mean = Y.mean(dim=0) if dec.fit_intercept else torch.zeros_like(Y[0])
    return Y.sub_(y_mean), y_mean


def as_targets(dec: RidgeDecomposition, Y: Tensor) -> Tensor:
    """Check targets (n,) or (n, t) against a decomposition and return them as (n, t) on its device."""
    Y = as_matrix(Y, "Y", dec.X.device)
    if len(Y) != len(dec.X):
        raise InputError(f"Y must have the {len(dec.X)} stimuli of X as rows, but it has {len(Y)}; align the two.")
    return Y


def as_alphas(dec: RidgeDecomposition, alpha: Tensor | float, n_targets: int | None = None) -> Tensor:
    """Check one penalty or several: positive, finite, float64 on the decomposition's device; one a target (t,)."""
    alpha = as_tensor(alpha, "Alpha").to(dec.X.device, working_dtype(dec.X.device))
    if not bool((torch.isfinite(alpha) & (alpha > 0)).all()):
        raise InputError(f"Every alpha must be a positive number, but {alpha.min().item():g} came; drop it.")
    if n_targets is None:
        return alpha
    if alpha.ndim > 1 or alpha.numel() not in (1, n_targets):
        raise InputError(f"Alpha must be one number, or one for each of {n_targets} targets, not {tuple(alpha.shape)}.")
    return alpha.expand(n_targets)
