"""Representational dissimilarity matrices (RDMs) made from features, responses or projections.

Kriegeskorte, Mur & Bandettini (2008, Frontiers in Systems Neuroscience 2, 4). A stimulus whose row is constant (a dead
map) has no correlation with any other: its pairs are NaN, and so is every comparison with that RDM. Nothing is dropped
in silence; who wants such a stimulus left out selects rows first. Rows that differ by no more than the rounding of the
arithmetic count as the same, so that a stimulus shown twice has distance 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from deepjuice.alignment.geometry.noise import NoiseModel
from deepjuice.alignment.geometry.rdm_compare import (
    COMPARISONS,
    compare_pairs,
    compare_rdm_to_many,
    compare_rdms,
    upper_triangle,
)
from deepjuice.alignment.linalg import (
    ArrayLike,
    as_matrix,
    average_ranks,
    blocks,
    column_moments,
    is_constant,
    row_gram,
    working_dtype,
)
from deepjuice.devices import get_device
from juicyfruits.errors import InputError, near_names

__all__ = [
    "COMPARISONS",
    "RDM_METHODS",
    "compare_pairs",
    "compare_rdm_to_many",
    "compare_rdms",
    "compute_rdm",
    "projected_pearson_rdm",
    "upper_triangle",
]

WEIGHTED = ("pearson", "concordance", "cosine", "euclidean", "squared_euclidean")
WHITENED = ("mahalanobis", "squared_mahalanobis")
RDM_METHODS = (*WEIGHTED, "spearman", *WHITENED)
ROUNDING = 16
"""Differences below this many eps of what they are the difference of are rounding, and count as zero."""

_QUARTER = 4
"""Blocks are a quarter of what they may be: the memory of one then serves the next, and is not fetched as new pages."""


def compute_rdm(
    X: ArrayLike,
    method: str = "pearson",
    norm: bool = False,
    device: str | int | torch.device | None = None,
    weights: ArrayLike | None = None,
    noise: NoiseModel | None = None,
) -> Tensor:
    """Return the dissimilarity of every pair of rows (stimuli) of X (n, p) as an (n, n) matrix.

        pearson      1 - r        spearman           1 - rho        euclidean           |x - y|
        cosine       1 - cos      concordance        1 - Lin's      squared_euclidean   |x - y|^2
        mahalanobis  sqrt(d2)     squared_mahalanobis  d2 = (x - y)' S^-1 (x - y)

    The first four reach from 0 to 2. Nothing is divided by the number of features (rsatoolbox divides, and means
    d2 by `mahalanobis` and the square by `euclidean`). `norm=True` divides by the largest dissimilarity, so that the
    RDM reaches from 0 to 1. float64 (float32 on mps), symmetric, zero on the diagonal, on `device` or where X is.

    `weights` (p,), from 0 up, say how much a column counts: moments, products and squares become weighted sums, as if
    a column of weight 2 were there twice; not for spearman and mahalanobis. `noise` (for mahalanobis, which must have
    it) holds S: `noise_from_residuals` or `noise_from_precision`. Pairs with a row that is constant (pearson, spearman,
    concordance) or zero (cosine) are NaN. Raises InputError for fewer than 2 rows, NaN or infinity in X, weights that
    do not fit, and an unknown method.

    >>> compute_rdm([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    tensor([[0., 2.],
            [2., 0.]], dtype=torch.float64)
    >>> compute_rdm([[1.0, 2.0, 9.0], [4.0, 6.0, 0.0]], "euclidean", weights=[1, 1, 0])[0, 1].item()
    5.0
    """
    if method not in RDM_METHODS:
        raise InputError(f"The RDM method {method!r} is unknown; {near_names(method, RDM_METHODS)}")
    X = as_matrix(X, "X", None if device is None else get_device(device), min_rows=2)
    _check_options(method, weights, noise)
    weights = None if weights is None else _column_weights(weights, X)
    X, scale = within_range(X)
    if method in ("pearson", "concordance"):
        rdm = _correlation_distance(X, weights, method)
    elif method == "spearman":
        rdm = _rank_distance(X)
    elif method == "cosine":
        gram = row_gram(_wide_blocks(X, weights))
        rdm = _cosine_distance(gram, gram.diagonal() == 0)
    else:
        squared = _squared_distance(X if noise is None else noise.whiten(column_centred(X)), weights)
        rdm = squared.mul_(scale).mul_(scale) if method.startswith("squared") else squared.sqrt_().mul_(scale)
    return _normalised(rdm) if norm else rdm


def projected_pearson_rdm(projected: ArrayLike, row_means: ArrayLike, ones_projection: ArrayLike) -> Tensor:
    """Return the Pearson RDM (n, n) of maps that were projected without being centred.

    With Z = X R' (n, k), row means m (n,) and the projection R 1 (k,) of the all-ones vector, Z - m (R 1)' is the
    projection of the row-centred maps, and its cosines estimate their correlations:

        1 - cos(z_i - m_i R 1, z_j - m_j R 1)

    Pairs with a row that is constant before projection, within the rounding of `projected`, are NaN.

    >>> X, R = torch.randn(5, 40), torch.randn(8, 40)
    >>> projected_pearson_rdm(X @ R.T, X.mean(dim=1), R.sum(dim=1)).shape
    torch.Size([5, 5])
    """
    stored = as_matrix(projected, "The projection", min_rows=2)
    dtype = working_dtype(stored.device)
    mean = as_matrix(row_means, "The row means", stored.device).to(dtype)
    ones = as_matrix(ones_projection, "The projection of ones", stored.device).to(dtype)
    if mean.shape != (len(stored), 1) or ones.shape != (stored.shape[1], 1):
        raise InputError(
            f"A projection of shape {tuple(stored.shape)} needs one row mean a row and one projected 1 a column, but "
            f"{len(mean)} and {len(ones)} came; take all three from one store."
        )
    centred = torch.addmm(stored.to(dtype), mean, ones.T, alpha=-1)
    gram = row_gram([centred])
    size = gram.diagonal().sqrt()
    rounding = 16 * torch.finfo(stored.dtype).eps * mean[:, 0].abs() * torch.linalg.vector_norm(ones)
    return _cosine_distance(gram, size <= rounding)


def _check_options(method: str, weights: ArrayLike | None, noise: NoiseModel | None) -> None:
    if weights is not None and method not in WEIGHTED:
        raise InputError(f"The RDM method {method!r} takes no column weights; those that do are {', '.join(WEIGHTED)}.")
    if (noise is not None) != (method in WHITENED) or not isinstance(noise, NoiseModel | None):
        came = "none came" if noise is None else f"{type(noise).__name__} came with {method!r}"
        raise InputError(
            f"A noise model belongs to the RDM methods {' and '.join(WHITENED)}, and to no other, but {came}; "
            "make one by noise_from_residuals or noise_from_precision, or leave it out."
        )


def _column_weights(weights: ArrayLike, X: Tensor) -> Tensor:
    weights = as_matrix(weights, "The weights", X.device).to(working_dtype(X.device))
    if weights.shape != (X.shape[1], 1) or weights.min() < 0 or weights.max() == 0:
        raise InputError(
            f"Weights must be {X.shape[1]} numbers from 0 up, one a column and not all 0, but {weights.numel()} came, "
            f"from {weights.min().item():g} to {weights.max().item():g}; clip negative reliabilities to 0."
        )
    return weights[:, 0]


def within_range(X: Tensor) -> tuple[Tensor, float]:
    """Return X / scale and scale, which keeps sums of squares from over- and underflowing; 1 for all but absurd values.

    It is a power of two, so that no digit changes.
    """
    dtype = working_dtype(X.device)
    safe = math.log2(torch.finfo(dtype).max) / 5  # products of two sums of squares have four times the exponent
    if math.log2(torch.finfo(X.dtype).max) <= safe:
        return X, 1.0
    low, high = (value.item() for value in torch.aminmax(X))
    exponent = math.frexp(max(-low, high))[1]
    if abs(exponent) <= safe:
        return X, 1.0
    exponent = max(-1000, min(1000, exponent))
    return X.to(dtype) * 2.0**-exponent, 2.0**exponent


def _wide_blocks(X: Tensor, weights: Tensor | None, row_offset: Tensor | float = 0.0) -> Iterator[Tensor]:
    """Yield sqrt(w) (X - row offset) in working precision, block of columns by block."""
    dtype = working_dtype(X.device)
    for columns in blocks(X.shape[1], _QUARTER * dtype.itemsize * len(X)):
        block = X[:, columns].to(dtype, copy=True).sub_(row_offset)
        yield block if weights is None else block.mul_(weights[columns].sqrt())


def _row_means(X: Tensor, weights: Tensor | None) -> Tensor:
    dtype = working_dtype(X.device)
    if weights is None:
        row_blocks = blocks(len(X), _QUARTER * dtype.itemsize * X.shape[1])
        return torch.cat([X[rows].to(dtype).mean(dim=1, keepdim=True) for rows in row_blocks])
    first = X[:, [weights.argmax()]].to(dtype)  # of a constant row only zeros are summed: its mean is exact
    share = (weights / weights.sum())[:, None]
    column_blocks = blocks(X.shape[1], _QUARTER * dtype.itemsize * len(X))
    return first + sum((X[:, columns].to(dtype) - first) @ share[columns] for columns in column_blocks)


def _correlation_distance(X: Tensor, weights: Tensor | None, method: str) -> Tensor:
    mean = _row_means(X, weights)
    gram = row_gram(_wide_blocks(X, weights, mean))
    variance = gram.diagonal() / (X.shape[1] if weights is None else weights.sum())
    flat = is_constant(variance.sqrt(), mean[:, 0], X.dtype)
    if method == "pearson":
        return _cosine_distance(gram, flat)
    total = X.shape[1] if weights is None else weights.sum()
    spread = variance[:, None] + variance + (mean - mean.T).square()
    return _distance(gram.mul_(2.0 / total).div_(spread.masked_fill_(flat | flat[:, None], torch.nan)))


def _rank_distance(X: Tensor) -> Tensor:
    mean, std = column_moments(X.T)
    flat = is_constant(std, mean, X.dtype)  # before ranks, which would blow rounding up into an order
    ranks = torch.cat([average_ranks(X[rows]) for rows in blocks(len(X), 64 * X.shape[1])])
    return _cosine_distance(row_gram(_wide_blocks(ranks, None, (X.shape[1] + 1) / 2)), flat)


def _cosine_distance(gram: Tensor, undefined: Tensor) -> Tensor:
    squares = gram.diagonal().masked_fill(undefined, torch.nan)
    return _distance(gram.div_(torch.outer(squares, squares).sqrt_()))  # equal rows: the root of a square, exactly


def _distance(similarity: Tensor) -> Tensor:
    """1 - similarity, in place: 0 where that is only rounding, not above 2, zero on the diagonal."""
    rdm = similarity.neg_().add_(1.0).clamp_(max=2.0)
    return rdm.masked_fill_(rdm <= ROUNDING * torch.finfo(rdm.dtype).eps, 0.0).fill_diagonal_(0.0)


def column_centred(X: Tensor) -> Tensor:
    """Return X (n, p) less the mean of every column, in working precision; distances stay."""
    X = X.to(working_dtype(X.device))
    return X - X.mean(dim=0)


def _squared_distance(X: Tensor, weights: Tensor | None = None) -> Tensor:
    """|x|^2 + |y|^2 - 2 x'y of column-centred rows."""
    column_blocks = blocks(X.shape[1], _QUARTER * working_dtype(X.device).itemsize * len(X))
    roots = None if weights is None else weights.sqrt()
    centred = (column_centred(X[:, c]) if roots is None else column_centred(X[:, c]) * roots[c] for c in column_blocks)
    gram = row_gram(centred)
    return squared_distance_of(gram, gram.diagonal())


def squared_distance_of(gram: Tensor, squares: Tensor) -> Tensor:
    """Return g_ii + g_jj - 2 g_ij, and 0 where that is below the rounding of the sums of `squares` (n,)."""
    own = gram.diagonal()
    distance = (own[:, None] + own).sub_(gram, alpha=2)
    rounding = ROUNDING * torch.finfo(gram.dtype).eps * (squares[:, None] + squares)
    return distance.masked_fill_(distance.abs() <= rounding, 0.0).fill_diagonal_(0.0)


def _normalised(rdm: Tensor) -> Tensor:
    largest = rdm.nan_to_num(nan=0.0).max()
    return rdm / largest if largest > 0 else rdm
