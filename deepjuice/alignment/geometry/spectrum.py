"""Over how many directions a feature map spreads its variance: eigenspectrum and effective dimensionality."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from deepjuice.alignment.linalg import (
    ArrayLike,
    as_matrix,
    blocks,
    column_moments,
    eigh,
    is_constant,
    row_gram,
    working_dtype,
)
from juicyfruits.errors import InputError


def eigenspectrum(X: ArrayLike) -> Tensor:
    """Return the variances of X (n, p) along its principal components, the largest first.

        l_i = eigenvalues of Xc' Xc / (n - 1),    Xc = X - column means

    They are those of the smaller of Xc' Xc (p, p) and Xc Xc' (n, n), summed in float64 over blocks of X. The answer is
    (min(n - 1, p),), float64, where X is, in squared units of X; their sum is the variance of all columns together.
    Columns that are constant to the rounding of X's dtype add nothing, and eigenvalues below the rounding of the
    largest, max(n, p) eps l_1, are 0: the spectrum of a constant map is zero. `TorchPCA.explained_variance_` has the
    same numbers in the precision of X. Raises InputError for fewer than 2 rows, NaN and infinity.

    Of a projected map Z = X R' it is the spectrum of Xc R', since centring over stimuli and projecting commute: the row
    means and the projected 1 of a feature store play no part. Distances are kept to eps, and so is what they add up
    to, the total variance; the single eigenvalues have no such bound. On average over R the effective dimensionality d
    comes out as d / (1 + (d + 1) / width), lower. Measured on 200 stimuli with 20,000 features at eps 0.1 (width
    4,541), directions at random, variances equal or falling as 1 / i, 10 seeds of either method: total variance within
    1 %, every eigenvalue within 12 %, d (132 and 25) within 5 % of that formula. Where single features hold much of the
    variance the sparse method deviates by up to a third (docs/projection.md); signed sums do not.

    >>> eigenspectrum([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    tensor([4., 0.], dtype=torch.float64)
    """
    X = as_matrix(X, "X", min_rows=2)
    n, p = X.shape
    gram = row_gram(_centred_columns(X) if n < p else _centred_rows(X))
    variances = eigh(gram)[0].flip(0)[: min(n - 1, p)] / (n - 1)
    rounding = max(n, p) * torch.finfo(variances.dtype).eps * variances[0]
    return variances.masked_fill(variances <= rounding, 0.0)


def effective_dimensionality(eigenvalues: ArrayLike) -> float:
    """Return how many directions of equal variance would be as spread out as these: (sum l)^2 / sum l^2.

    Also called participation ratio (Gao et al. 2017, bioRxiv 214262): from 1, all in one direction, to the number of
    eigenvalues that are not 0. `eigenvalues` (k,) are variances, as `eigenspectrum` returns them, in any order and
    unit. NaN where all are 0: nothing is spread. Raises InputError for negative values, NaN and infinity.

    >>> effective_dimensionality([3.0, 3.0, 0.0])
    2.0
    """
    values = as_matrix(eigenvalues, "The eigenvalues")
    if values.shape[1] != 1 or values.min() < 0:
        raise InputError(
            f"Eigenvalues must be one row of variances from 0 up, but shape {tuple(values.shape)} from "
            f"{values.min().item():g} came; take them from eigenspectrum(X)."
        )
    values = values.to(working_dtype(values.device))
    shares = values / values.max()  # their squares neither over- nor underflow
    return (shares.sum().square() / shares.square().sum()).item()


def _centred_columns(X: Tensor) -> Iterator[Tensor]:
    mean, flat = _moments(X)
    for columns in blocks(X.shape[1], 2 * mean.dtype.itemsize * len(X)):
        yield (X[:, columns].to(mean.dtype) - mean[columns]).masked_fill_(flat[columns], 0.0)


def _centred_rows(X: Tensor) -> Iterator[Tensor]:
    mean, flat = _moments(X)
    for rows in blocks(len(X), 2 * mean.dtype.itemsize * X.shape[1]):
        yield (X[rows].to(mean.dtype) - mean).masked_fill_(flat, 0.0).T


def _moments(X: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = column_moments(X)
    return mean, is_constant(std, mean, X.dtype)
