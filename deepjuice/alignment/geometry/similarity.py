"""How alike two representations of the same stimuli are, each of its own width: linear CKA and Procrustes.

Both are blind to rotations and to a common scale of the features, and to their means. Unlike RDM comparisons they take
the features themselves. Nothing of size p x p is made where there are fewer stimuli than features, and nothing of size
n x n where there are fewer features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from deepjuice.alignment.geometry.rdm import column_centred, within_range
from deepjuice.alignment.linalg import (
    ArrayLike,
    as_matrix,
    blocks,
    column_moments,
    is_constant,
    row_gram,
    working_dtype,
)
from juicyfruits.errors import InputError, near_names

PROCRUSTES_KINDS = ("angular", "squared")
MIN_QR_WIDTH = 4096


def linear_cka(X: ArrayLike, Y: ArrayLike, unbiased: bool = False) -> float:
    """Return the linear centred kernel alignment of X (n, p) and Y (n, q), rows being the same stimuli.

        HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)),    HSIC = |Xc' Yc|^2  (Frobenius; Xc, Yc less their column means)

    From 0 to 1 (Kornblith et al. 2019, ICML). With few stimuli and many features this is near 1 even for noise;
    `unbiased=True` takes the U-statistic of HSIC instead (Song et al. 2012, JMLR 13, 1393-1434; for CKA: Nguyen et al.
    2021, ICLR), which is 0 on average for independent features, and from -1 to 1. With d_i = |row i of Xc|^2 and
    e_i that of Yc it is

        (|Xc' Yc|^2 - n/(n - 2) sum d_i e_i + sum d_i sum e_i / ((n - 1)(n - 2))) / (n (n - 3))

    float64. NaN where a representation does not vary; unbiased, where all its stimuli are equally far apart. Raises
    InputError for unequal numbers of rows, fewer than 2 (unbiased: 4), and NaN or infinity.

    >>> X = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    >>> round(linear_cka(X, 3 * X.flip(1) + 1), 6)
    1.0
    """
    X, Y = _two_representations(X, Y, min_rows=4 if unbiased else 2)
    if _is_flat(X) or _is_flat(Y):
        return math.nan
    cross, own_x, own_y = _squared_products(X, Y)
    if unbiased:
        d, e = _row_squares(X), _row_squares(Y)
        cross, own_x, own_y = _debiased(cross, d, e), _debiased(own_x, d, d), _debiased(own_y, e, e)
    if own_x <= 0 or own_y <= 0:
        return math.nan
    return max(-1.0, min(1.0, cross / math.sqrt(own_x) / math.sqrt(own_y)))


def procrustes_similarity(X: ArrayLike, Y: ArrayLike) -> float:
    """Return how well an orthogonal map takes X (n, p) to Y (n, q) after centring and scaling to unit Frobenius norm.

        max over orthogonal Q of <X Q, Y> = |X' Y|_*,    the sum of the singular values, from 0 to 1

    The cosine of the angle between the two shapes; the narrower one is thought of as padded by zeros. NaN where a
    representation does not vary. Raises InputError for unequal numbers of rows, fewer than 2, and NaN or infinity.

    >>> X = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    >>> round(procrustes_similarity(X, 3 * X.flip(1) + 1), 6)
    1.0
    """
    X, Y = _two_representations(X, Y, min_rows=2)
    if _is_flat(X) or _is_flat(Y):
        return math.nan
    return min(1.0, torch.linalg.svdvals(_unit_factor(X).T @ _unit_factor(Y)).sum().item())


def procrustes_distance(X: ArrayLike, Y: ArrayLike, kind: str = "angular") -> float:
    """Return the orthogonal Procrustes distance of X (n, p) and Y (n, q), centred and scaled to unit Frobenius norm.

        angular   arccos |X' Y|_*,  in radians, 0 .. pi/2: a metric (Williams et al. 2021, NeurIPS)
        squared   min over orthogonal Q of |X Q - Y|^2 = 2 - 2 |X' Y|_*,  0 .. 2 (Ding et al. 2021, NeurIPS)

    Undefined cases and errors as `procrustes_similarity`. Rounding of 1e-16 in a cosine near 1 is an angle of 1e-8.

    >>> round(procrustes_distance([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [[1.0], [-1.0], [0.0]], "squared"), 3)
    0.268
    """
    if kind not in PROCRUSTES_KINDS:
        raise InputError(f"The Procrustes distance {kind!r} is unknown; {near_names(kind, PROCRUSTES_KINDS)}")
    similarity = procrustes_similarity(X, Y)
    return math.acos(similarity) if kind == "angular" else 2.0 - 2.0 * similarity


def _two_representations(X: ArrayLike, Y: ArrayLike, min_rows: int) -> tuple[Tensor, Tensor]:
    X = as_matrix(X, "X", min_rows=min_rows)
    Y = as_matrix(Y, "Y", X.device, min_rows=min_rows)
    if len(X) != len(Y):
        raise InputError(f"X and Y must have one row a stimulus, but they have {len(X)} and {len(Y)}; align them.")
    return within_range(X)[0], within_range(Y)[0]


def _is_flat(X: Tensor) -> bool:
    mean, std = column_moments(X)
    return bool(is_constant(std, mean, X.dtype).all())


def _centred_blocks(X: Tensor, width: int | None = None) -> Iterator[Tensor]:
    slices = blocks(X.shape[1], 16 * len(X)) if width is None else blocks(X.shape[1], 1, width)
    return (column_centred(X[:, columns]) for columns in slices)


def _squared_products(X: Tensor, Y: Tensor) -> tuple[float, float, float]:
    """|Xc'Yc|^2, |Xc'Xc|^2, |Yc'Yc|^2 by whichever products are smaller: features by features or stimuli by stimuli."""
    n, p, q = len(X), X.shape[1], Y.shape[1]
    if p * q > n * n:
        K, L = row_gram(_centred_blocks(X)), row_gram(_centred_blocks(Y))
        return (K * L).sum().item(), K.square().sum().item(), L.square().sum().item()
    narrow, wide = (X, Y) if p <= q else (Y, X)
    narrow = column_centred(narrow)
    cross = sum((narrow.T @ block).square().sum().item() for block in _centred_blocks(wide))
    return cross, _own_product(X), _own_product(Y)


def _own_product(X: Tensor) -> float:
    n, p = X.shape
    return row_gram(_centred_blocks(X) if p > n else [column_centred(X).T]).square().sum().item()


def _row_squares(X: Tensor) -> Tensor:
    return sum(block.square().sum(dim=1) for block in _centred_blocks(X))


def _debiased(product: float, d: Tensor, e: Tensor) -> float:
    n = len(d)
    both = (d.sum() * e.sum()).item() / ((n - 1) * (n - 2))
    total = product - n / (n - 2) * (d @ e).item() + both
    rounding = n * torch.finfo(d.dtype).eps * (product + both)
    return total / (n * (n - 3)) if abs(total) > rounding else 0.0


def _unit_factor(X: Tensor) -> Tensor:
    """A matrix F (n, min(n, p)) with F F' = Xc Xc' / |Xc|^2: Xc turned, by QR over blocks of features if p > n.

    Not by the root of the Gram matrix, which would lose half of the digits.
    """
    n, p = X.shape
    if p <= n:
        factor = column_centred(X)
    else:
        rest = X.new_empty(0, n, dtype=working_dtype(X.device))
        for block in _centred_blocks(X, width=max(2 * n, MIN_QR_WIDTH)):
            rest = torch.linalg.qr(torch.cat([rest, block.T]), mode="r").R
        factor = rest.T
    return factor / torch.linalg.vector_norm(factor)
