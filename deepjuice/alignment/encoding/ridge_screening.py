"""Alphas by leave-one-out squared error: every alpha is looked at in float32, every close call settled in float64.

The leave-one-out residuals of a target z (centred, largest value 1) at one alpha are a fixed matrix times it,

    dual    e = A z,             A = D^-1 U diag(alpha / (eigenvalues + alpha)) U'
    primal  e = D^-1 z - B c,    B = D^-1 U diag(s / (eigenvalues + alpha)),    c = U' z / s,

with U the basis, D = diag(1 - H_ii), and s = sqrt(eigenvalues + smallest alpha), which keeps |c| <= |z|. Matrices, z
and c are made in float64 and rounded to float32, in which the products are several times faster. Rounding errors of a
sum of n products grow as sqrt(n) eps (Higham & Mary 2019, SIAM J. Sci. Comput. 41, A2815-A2835), so that the residuals
of a target are off by no more than about

    |error| <= 4 sqrt(n) eps (largest 1 / D_ii + |O|_F) |z|,    O = B, or A less its diagonal, which is 1,

and |e|^2 by 2 |e| |error| + |error|^2. An alpha that another one beats by more than their two errors is out; where
more than one is left, their residuals are computed once more in float64. So the choice is that of float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from deepjuice.alignment.encoding.ridge_decomposition import RidgeDecomposition
from deepjuice.alignment.linalg import blocks, row_gram, working_dtype

SAFETY = 4.0
"""How many times sqrt(n) eps a float32 sum of n products may be off; about 100 times what is seen."""


class _Operator(NamedTuple):
    """The leave-one-out residuals at one alpha as matrices; `matrix` (n, n) dual, (n, p) primal."""

    matrix: Tensor  # float32
    own: Tensor | None  # primal: 1 / D (n,), float32
    error: float  # the bound above for |z| = 1


def screens_in_float32(device: torch.device) -> bool:
    """Tell whether `device` has float64 to decide in, and its float32 products really are of float32.

    Settings of PyTorch let them be of TF32 or bfloat16 instead, which the bound on errors does not cover.
    """
    if working_dtype(device) != torch.float64:
        return False
    probe = torch.full((64, 64), 1.0 + 2.0**-12, device=device)  # the last digit is beyond TF32 and bfloat16
    return torch.equal(_times_transposed(probe, torch.eye(64, device=device)), probe)


def screened_choice(dec: RidgeDecomposition, Y: Tensor, alphas: Tensor, block_bytes: int) -> Tensor:
    """Return the position (t,) in `alphas` (k,) of the smallest leave-one-out squared error of every target (n, t).

    Ties in float64 go to the first.

    >>> from deepjuice.alignment.encoding.ridge_decomposition import ridge_decompose
    >>> X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> screened_choice(ridge_decompose(X), X[:, :1], torch.tensor([0.1, 10.0], dtype=torch.float64), 2**20)
    tensor([0])
    """
    operators, scale = _operators(dec, alphas)
    exact = _Exact(dec, alphas)
    best = torch.empty(Y.shape[1], dtype=torch.long, device=Y.device)
    n, r = dec.basis.shape
    for targets in blocks(Y.shape[1], 8 * (3 * n + r), block_bytes):
        Z = _unit_rows(dec, Y[:, targets])
        errors, bounds = _screen(dec, Z, operators, scale)
        close = ~(errors - bounds > (errors + bounds).amin(dim=0))  # also where float32 overflowed
        unsure = (close.sum(dim=0) > 1).nonzero()[:, 0]
        if len(unsure):
            errors[:, unsure] = exact.squared_errors(Z[unsure], close[:, unsure])
        best[targets] = errors.nan_to_num(nan=torch.inf).argmin(dim=0)
    return best


def _unit_rows(dec: RidgeDecomposition, Y: Tensor) -> Tensor:
    """Centred targets as rows (t, n), each divided by its largest value, so that float32 holds its squares."""
    Z = Y.T.to(dec.mean.dtype, copy=True, memory_format=torch.contiguous_format)
    if dec.fit_intercept:
        Z -= Z.mean(dim=1, keepdim=True)
    low, high = torch.aminmax(Z, dim=1, keepdim=True)
    largest = torch.maximum(-low, high)
    return Z.div_(largest.masked_fill_(largest == 0, 1.0))


def _operators(dec: RidgeDecomposition, alphas: Tensor) -> tuple[list[_Operator], Tensor]:
    """Return the operator of every alpha, and s (r,)."""
    n = len(dec.basis)
    squared = dec.basis.square()
    scale = (dec.eigenvalues + alphas.min()).sqrt()
    unit = SAFETY * n**0.5 * torch.finfo(torch.float32).eps
    operators = []
    for alpha in alphas:
        inverse = 1.0 / (dec.eigenvalues + alpha)
        if dec.is_dual:
            kept = alpha * inverse
            own = 1.0 / (squared @ kept)
            matrix = row_gram([dec.basis * kept.sqrt()]) * own[:, None]
            off_diagonal, largest, own = (squared @ kept.square() * own.square() - 1.0).clamp_(min=0).sum(), 1.0, None
        else:
            own = 1.0 / (dec.own_share - squared @ inverse)
            matrix = dec.basis * (scale * inverse) * own[:, None]
            off_diagonal, largest, own = matrix.square().sum(), own.max().item(), own.float()
        error = unit * (largest + off_diagonal.sqrt().item())
        operators.append(_Operator(matrix.float(), own, error))
    return operators, scale


def _screen(dec: RidgeDecomposition, Z: Tensor, operators: list[_Operator], scale: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors (alphas, t) of rows Z (t, n) by float32 products, and how far each may be off; both float64."""
    narrow = Z.float()
    inputs = narrow if dec.is_dual else ((Z @ dec.basis) / scale).float()
    norms = Z.new_empty(len(operators), len(Z))
    for norm, operator in zip(norms, operators, strict=True):
        residual = _times_transposed(inputs, operator.matrix)
        if operator.own is not None:
            residual = torch.addcmul(residual, narrow, operator.own, value=-1)
        norm.copy_(torch.linalg.vector_norm(residual, dim=1))
    error = torch.linalg.vector_norm(narrow, dim=1) * Z.new_tensor([operator.error for operator in operators])[:, None]
    return norms.square(), (2.0 * norms + error) * error


def _times_transposed(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return rows (t, r) times matrix (n, r) transposed: (t, n), contiguous.

    A convolution of one pixel is this product. On the CPU oneDNN makes it, and on processors that are not Intel's two
    to three times as fast as MKL, which makes PyTorch's matrix products.
    """
    if rows.device.type == "cpu" and torch.backends.mkldnn.is_available():
        pixels = rows.T[None, :, None, :]
        return functional.conv2d(pixels, matrix[:, :, None, None])[0, :, 0, :].T
    return rows @ matrix.T


class _Exact:
    """Leave-one-out squared errors in float64 of a few targets at a few alphas."""

    def __init__(self, dec: RidgeDecomposition, alphas: Tensor):
        self.dec = dec
        inverse = 1.0 / (dec.eigenvalues[:, None] + alphas)
        self.factors = (alphas * inverse if dec.is_dual else inverse).T  # (k, r)
        own = dec.basis.square() @ self.factors.T
        self.own = (own if dec.is_dual else dec.own_share - own).T  # (k, n), the D of every alpha

    def squared_errors(self, Z: Tensor, wanted: Tensor) -> Tensor:
        """Squared errors (k, t) of rows Z (t, n) where `wanted` (k, t), infinity elsewhere."""
        errors = torch.full(wanted.shape, torch.inf, dtype=Z.dtype, device=Z.device)
        rotated = Z @ self.dec.basis
        for k, (factor, own) in enumerate(zip(self.factors, self.own, strict=True)):
            rows = wanted[k].nonzero()[:, 0]
            fitted = (rotated[rows] * factor) @ self.dec.basis.T
            residual = fitted if self.dec.is_dual else Z[rows] - fitted
            errors[k, rows] = torch.linalg.vector_norm(residual / own, dim=1).square()
        return errors
