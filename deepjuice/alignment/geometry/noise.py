"""The noise of the voxels, and responses measured in units of it: the S of Mahalanobis distances and crossnobis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepjuice.alignment.linalg import (
    ArrayLike,
    as_matrix,
    as_tensor,
    column_moments,
    is_constant,
    row_gram,
    working_dtype,
)
from juicyfruits.errors import InputError


@dataclass(frozen=True)
class NoiseModel:
    """A noise covariance S (p, p), kept as what whitens it; made by `noise_from_residuals` or `noise_from_precision`.

    S^-1/2 = D (rest (I - V V') + V diag(gains) V'), with D diagonal and V orthonormal: with fewer residuals than voxels
    nothing of size p x p is ever made. S^-1/2 times its transpose is the precision.
    """

    inverse_std: Tensor  # (p,) the diagonal of D
    directions: Tensor  # (p, k) V
    gains: Tensor  # (k,)
    rest: float  # the gain of everything orthogonal to V; 0 where V spans all
    shrinkage: float  # 0 .. 1, of the covariance towards its diagonal; 0 for a given precision

    def whiten(self, X: ArrayLike) -> Tensor:
        """Return X S^-1/2 (n, p): squared Euclidean distances of its rows are (x - y)' S^-1 (x - y).

        Raises InputError where X has another number of columns.
        """
        X = as_matrix(X, "X")
        p = len(self.inverse_std)
        if X.shape[1] != p:
            raise InputError(
                f"This noise model is of {p} voxels, but X has {X.shape[1]} columns; make both from the same voxels."
            )
        inverse_std, directions, gains = (t.to(X.device) for t in (self.inverse_std, self.directions, self.gains))
        scaled = X.to(inverse_std.dtype) * inverse_std
        return scaled * self.rest + (scaled @ directions * (gains - self.rest)) @ directions.T


def noise_from_residuals(
    residuals: ArrayLike, shrinkage: float | None = None, degrees_of_freedom: int | None = None
) -> NoiseModel:
    """Estimate the noise covariance of p voxels from residuals (m, p), shrunk towards its diagonal.

        S = shrinkage diag(C) + (1 - shrinkage) C,    C = R'R / degrees of freedom,  R the residuals less their means

    `shrinkage=None` takes the one that minimises the expected squared error of the correlations, in the analytic form
    of Ledoit & Wolf (2003) for this target: the sum of the estimated variances of the correlations of different voxels
    over the sum of their squares, cut to 0 .. 1 (Schafer & Strimmer 2005, Statistical Applications in Genetics and
    Molecular Biology 4, 32). `degrees_of_freedom` is m - 1 where nothing is said; say n (r - 1) for residuals of n
    stimuli shown r times. For m < p the work is O(m^2 p), and memory holds (m, p). float64, where the residuals are.
    Raises InputError for NaN, fewer than 2 rows, a voxel without noise, a shrinkage outside 0 .. 1, and a covariance
    that cannot be inverted: with m <= p it must be shrunk.

    >>> residuals = torch.randn(40, 100, generator=torch.Generator().manual_seed(0))
    >>> noise = noise_from_residuals(residuals)
    >>> 0.9 < noise.shrinkage <= 1 and noise.whiten(residuals).shape == (40, 100)
    True
    """
    R = as_matrix(residuals, "The residuals", min_rows=2)
    m, p = R.shape
    degrees_of_freedom = m - 1 if degrees_of_freedom is None else degrees_of_freedom
    if not 1 <= degrees_of_freedom < math.inf or not (shrinkage is None or 0 <= shrinkage <= 1):
        raise InputError(
            f"Shrinkage must be from 0 to 1 and degrees of freedom 1 or more, but {shrinkage} and {degrees_of_freedom} "
            "came; leave either out to have it estimated."
        )
    mean, std = column_moments(R)
    n_silent = int(is_constant(std, mean, R.dtype).sum())
    if n_silent:
        raise InputError(f"{n_silent} of {p} voxels have no noise in the residuals, but all must vary; leave them out.")
    if not torch.isfinite(std).all():
        raise InputError("Residuals must have squares that fit into float64, but some have not; divide them first.")
    std = std * (m / degrees_of_freedom) ** 0.5
    Z = (R.to(std.dtype) - mean) / std
    shrinkage = _optimal_shrinkage(Z) if shrinkage is None else float(shrinkage)
    eigenvalues, directions = _principal_axes(Z)
    if shrinkage == 0 and len(eigenvalues) < p:
        raise InputError(
            f"The noise covariance of {p} voxels from {m} residuals has rank {len(eigenvalues)} and cannot be inverted "
            "as it is; use a shrinkage above 0."
        )
    variances = shrinkage + (1 - shrinkage) * eigenvalues / degrees_of_freedom
    rest = shrinkage**-0.5 if len(eigenvalues) < p else 0.0
    return NoiseModel(1 / std, directions, variances.rsqrt(), rest, shrinkage)


def noise_from_precision(precision: ArrayLike) -> NoiseModel:
    """Return the noise model with a given precision S^-1 (p, p). Raises InputError if it is not positive definite.

    >>> noise_from_precision([[4.0, 0.0], [0.0, 9.0]]).whiten([[1.0, 1.0]])
    tensor([[2., 3.]], dtype=torch.float64)
    """
    P = as_matrix(precision, "The precision")
    if P.shape[0] != P.shape[1] or not torch.allclose(P, P.T, rtol=1e-5, atol=1e-6 * P.abs().max().item()):
        raise InputError(f"A precision must be a symmetric (p, p) matrix, but {tuple(P.shape)} came, or an asymmetric.")
    P = P.to(working_dtype(P.device))
    eigenvalues, directions = torch.linalg.eigh((P + P.T) / 2)
    if eigenvalues[0] <= len(P) * torch.finfo(P.dtype).eps * eigenvalues[-1]:
        raise InputError(
            f"A precision must be positive definite, but its eigenvalues reach from {eigenvalues[0].item():g} to "
            f"{eigenvalues[-1].item():g}; shrink the covariance before it is inverted (noise_from_residuals does)."
        )
    return NoiseModel(P.new_ones(len(P)), directions, eigenvalues.sqrt(), 0.0, 0.0)


def repeat_residuals(repeats: ArrayLike) -> Tensor:
    """Return what is left of responses (r, n, p) when every stimulus's mean over its repeats is taken away: (r n, p).

    They have n (r - 1) degrees of freedom. Raises InputError for another number of dimensions, one repeat, and NaN.

    >>> repeat_residuals([[[1.0], [5.0]], [[3.0], [5.0]]]).T
    tensor([[-1.,  0.,  1.,  0.]], dtype=torch.float64)
    """
    stack = as_repeats(repeats)
    return (stack - stack.mean(dim=0)).flatten(0, 1)


def as_repeats(repeats: ArrayLike) -> Tensor:
    """Return `repeats` as a finite (r, n, p) tensor in working precision with r, n >= 2, or raise InputError."""
    stack = as_tensor(repeats, "The repeats")
    if stack.ndim != 3 or min(stack.shape[:2]) < 2:
        raise InputError(
            "Repeats must be (repeats, stimuli, voxels) with 2 repeats and 2 stimuli or more, "
            f"but their shape is {tuple(stack.shape)}; stack the repeats along a new first axis."
        )
    matrix = as_matrix(stack.flatten(0, 1), "The responses (every stimulus needs all its repeats)")
    return matrix.to(working_dtype(matrix.device)).view(stack.shape)


def _optimal_shrinkage(Z: Tensor) -> float:
    """Sums over pairs of voxels i != j of the variance of their correlation and of its square, without the pairs.

    With w_kij = z_ki z_kj, the sum of (sum_k w_kij)^2 over all i, j is |Z'Z|^2 = |ZZ'|^2.
    """
    m, p = Z.shape
    squares = Z.square()
    products = squares.sum(dim=1).square().sum() - squares.square().sum()
    gram = row_gram([Z]) if m < p else row_gram([Z.T])
    sums = gram.square().sum() - squares.sum(dim=0).square().sum()
    if sums <= 0:
        return 1.0  # no two voxels are correlated: the diagonal is all there is
    return min(1.0, max(0.0, (m / (m - 1) * (products - sums / m) / sums).item()))


def _principal_axes(Z: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of Z'Z that are not rounding, and their eigenvectors (p, k), by the smaller of Z'Z and ZZ'."""
    m, p = Z.shape
    eigenvalues, vectors = torch.linalg.eigh(row_gram([Z]) if m < p else row_gram([Z.T]))
    real = eigenvalues > max(m, p) * torch.finfo(Z.dtype).eps * eigenvalues[-1]
    eigenvalues, vectors = eigenvalues[real], vectors[:, real]
    return eigenvalues, Z.T @ vectors / eigenvalues.sqrt() if m < p else vectors
