"""Representational dissimilarity matrices (RDMs): made from features, from projections, and compared.

Kriegeskorte, Mur & Bandettini (2008, Frontiers in Systems Neuroscience 2, 4). A stimulus whose row is constant (a dead
map) has no correlation with any other: its pairs are NaN, and so is every comparison with that RDM. Nothing is dropped
in silence; who wants such a stimulus left out selects rows first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from deepjuice.alignment.linalg import (
    ArrayLike,
    as_matrix,
    average_ranks,
    blocks,
    column_moments,
    is_constant,
    working_dtype,
)
from deepjuice.devices import get_device
from juicyfruits.errors import InputError, near_names

RDM_METHODS = ("pearson", "spearman", "euclidean", "squared_euclidean", "cosine")
COMPARISONS = ("pearson", "spearman")


def compute_rdm(
    X: ArrayLike, method: str = "pearson", norm: bool = False, device: str | int | torch.device | None = None
) -> Tensor:
    """Return the dissimilarity of every pair of rows (stimuli) of X (n, p) as an (n, n) matrix.

        pearson 1 - r (0 .. 2), spearman 1 - rho, cosine 1 - cos, euclidean |x - y|, squared_euclidean |x - y|^2

    Not divided by the number of features. `norm=True` divides by the largest dissimilarity, so that the RDM reaches
    from 0 to 1. float64 (float32 on mps), symmetric, zero on the diagonal, on `device` or where X is. Pairs with a row
    that is constant (pearson, spearman) or zero (cosine) are NaN. Raises InputError for fewer than 2 rows, NaN or
    infinity in X, and an unknown method.

    >>> compute_rdm([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    tensor([[0., 2.],
            [2., 0.]], dtype=torch.float64)
    """
    if method not in RDM_METHODS:
        raise InputError(f"The RDM method {method!r} is unknown; {near_names(method, RDM_METHODS)}")
    X = as_matrix(X, "X", None if device is None else get_device(device), min_rows=2)
    if method in ("pearson", "spearman"):
        rdm = _correlation_distance(X, of_ranks=method == "spearman")
    elif method == "cosine":
        gram = _gram(X)
        rdm = _cosine_distance(gram, gram.diagonal() == 0)
    else:
        rdm = _squared_distance(X)
        rdm = rdm.sqrt_() if method == "euclidean" else rdm
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
    centred = stored.to(dtype) - mean @ ones.T
    size = torch.linalg.vector_norm(centred, dim=1)
    rounding = 16 * torch.finfo(stored.dtype).eps * mean[:, 0].abs() * torch.linalg.vector_norm(ones)
    return _cosine_distance(centred @ centred.T, size <= rounding)


def compare_rdms(a: ArrayLike, b: ArrayLike, method: str = "pearson") -> float:
    """Correlate two RDMs (n, n) over the pairs above the diagonal, by `pearson` or `spearman`: in -1 .. 1.

    NaN where one of them has a NaN or does not vary. Raises InputError for unequal sizes, fewer than 3 stimuli, and an
    unknown method.

    >>> X = torch.randn(6, 20)
    >>> round(compare_rdms(compute_rdm(X), compute_rdm(3 * X + 1)), 6)
    1.0
    """
    return compare_rdm_to_many(a, [b], method)[0].item()


def compare_rdm_to_many(rdm: ArrayLike, others: ArrayLike | Sequence[ArrayLike], method: str = "pearson") -> Tensor:
    """Compare one RDM (n, n) with many (k, n, n), say a layer with every subject and region: (k,), as `compare_rdms`.

    >>> rdms = torch.stack([compute_rdm(torch.randn(6, 20)) for _ in range(3)])
    >>> compare_rdm_to_many(rdms[0], rdms).shape
    torch.Size([3])
    """
    return compare_pairs(upper_triangle(rdm)[None], upper_triangle(torch.stack(_same_size(rdm, others))), method)


def compare_pairs(a: Tensor, b: Tensor, method: str = "pearson") -> Tensor:
    """Compare RDMs given by their pairs, row by row: a (k, pairs) or (1, pairs) with b (k, pairs) -> (k,).

    For many comparisons with the same brains, whose pairs (`upper_triangle`) are then taken once. As `compare_rdms`.
    """
    if method not in COMPARISONS:
        raise InputError(f"The RDM comparison {method!r} is unknown; {near_names(method, COMPARISONS)}")
    a = a.to(b)
    no_answer = _says_nothing(a) | _says_nothing(b)
    if method == "spearman":
        a, b = average_ranks(a), average_ranks(b)
    a, b = (rows - rows.mean(dim=1, keepdim=True) for rows in (a, b))
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    products = (b @ a[0]) if len(a) == 1 else torch.linalg.vecdot(a, b)
    return (products / norms).clamp(-1.0, 1.0).masked_fill(no_answer, torch.nan)


def upper_triangle(rdm: ArrayLike) -> Tensor:
    """Return the n (n - 1) / 2 pairs above the diagonal of an RDM (n, n), row by row (scipy's condensed form).

    A stack (k, n, n) gives (k, pairs).

    >>> upper_triangle([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    tensor([1., 2., 3.], dtype=torch.float64)
    """
    matrix = torch.as_tensor(rdm)
    n = matrix.shape[-1] if matrix.ndim else 0
    if matrix.ndim not in (2, 3) or matrix.shape[-2] != n or n < 3:
        raise InputError(f"An RDM must be square with 3 stimuli or more, but its shape is {tuple(matrix.shape)}.")
    return matrix.flatten(-2)[..., _pair_index(n, matrix.device)].to(working_dtype(matrix.device))


@lru_cache(maxsize=16)  # train, test and all stimuli of a few benchmarks; making it costs more than using it
def _pair_index(n: int, device: torch.device) -> Tensor:
    rows, columns = torch.triu_indices(n, n, offset=1, device=device)
    return rows * n + columns


def _says_nothing(pairs: Tensor) -> Tensor:
    """Tell which RDMs, given as (k, pairs), have a NaN or do not vary."""
    mean, std = column_moments(pairs.T)
    return pairs.isnan().any(dim=1) | is_constant(std, mean, pairs.dtype)


def _same_size(rdm: ArrayLike, others: ArrayLike | Sequence[ArrayLike]) -> list[Tensor]:
    n = len(rdm)
    matrices = [torch.as_tensor(other) for other in others]
    for k, other in enumerate(matrices):
        if other.shape != (n, n):
            raise InputError(
                f"RDMs must have one size to be compared, but {(n, n)} and {tuple(other.shape)} came (number {k}); "
                "make both from the same stimuli."
            )
    if not matrices:
        raise InputError("An RDM needs at least one other to be compared with, but none came.")
    return matrices


def _correlation_distance(X: Tensor, of_ranks: bool) -> Tensor:
    mean, std = column_moments(X.T)
    flat = is_constant(std, mean, X.dtype)  # before ranks, which would blow rounding up into an order
    if of_ranks:
        X = torch.cat([average_ranks(X[rows]) for rows in blocks(len(X), 64 * X.shape[1])])
        mean = torch.full_like(mean, (X.shape[1] + 1) / 2)
    return _cosine_distance(_gram(X, mean[:, None]), flat)


def _gram(X: Tensor, offset: Tensor | float = 0.0) -> Tensor:
    """(X - offset) (X - offset)' with a row offset, in working precision, over blocks of columns."""
    dtype = working_dtype(X.device)
    gram = torch.zeros(len(X), len(X), dtype=dtype, device=X.device)
    for columns in blocks(X.shape[1], 8 * len(X)):
        block = X[:, columns].to(dtype) - offset
        gram.addmm_(block, block.T)
    return gram


def _cosine_distance(gram: Tensor, undefined: Tensor) -> Tensor:
    length = gram.diagonal().sqrt().masked_fill(undefined, torch.nan)
    cosine = gram / length[:, None] / length
    return _finished((1.0 - cosine).clamp_(0.0, 2.0))


def _squared_distance(X: Tensor) -> Tensor:
    """|x|^2 + |y|^2 - 2 x'y, after columns are centred (distances do not change, cancellation does)."""
    dtype = working_dtype(X.device)
    gram = torch.zeros(len(X), len(X), dtype=dtype, device=X.device)
    for columns in blocks(X.shape[1], 16 * len(X)):
        block = X[:, columns].to(dtype)
        block = block - block.mean(dim=0)
        gram.addmm_(block, block.T)
    squares = gram.diagonal()
    total = squares[:, None] + squares
    distance = total - 2 * gram
    # Below the rounding of this difference rows count as the same, so that a stimulus shown twice has distance 0.
    return _finished(distance.masked_fill_(distance <= 16 * torch.finfo(dtype).eps * total, 0.0))


def _finished(rdm: Tensor) -> Tensor:
    """Exactly symmetric, exactly zero on the diagonal."""
    rdm = (rdm + rdm.T) / 2
    return rdm.fill_diagonal_(0.0)


def _normalised(rdm: Tensor) -> Tensor:
    largest = rdm.nan_to_num(nan=0.0).max()
    return rdm / largest if largest > 0 else rdm
