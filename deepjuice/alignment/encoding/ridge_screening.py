"""Alphas by leave-one-out squared error: most ruled out unseen, others looked at in float32, close calls in float64.

With basis U and its coordinates c = P' z of a target z (centred, largest value 1), P = U in the dual form and U / s in
the primal, s = sqrt(eigenvalues + smallest alpha), which keeps |c| <= |z|, the residuals at one alpha are

    r = P (kept c),     kept = alpha / (eigenvalues + alpha)        dual
    r = z - P (fit c),  fit = s^2 / (eigenvalues + alpha)           primal; dual with s^2 = eigenvalues

and those of left-out stimuli r / D, D = diag(1 - H_ii). Their squared sum is never less than |r|^2 / max(D)^2, and
|r|^2 = sum_j kept_j^2 c_j^2, or |z|^2 - sum_j c_j^2 (2 fit_j - eigenvalue_j fit_j^2 / s_j^2), is one thin product for
all alphas. So every target is evaluated at the alpha of its smallest |r| / mean(D), which is generalised
cross-validation (Golub, Heath & Wahba 1979, Technometrics 21, 215-223), and then only at those alphas that could still
be better.

Products are of float32, several times faster, of what was made in float64. Rounding errors of a sum of n products grow
as sqrt(n) eps (Higham & Mary 2019, SIAM J. Sci. Comput. 41, A2815-A2835), so that r / D is off by no more than about

    |error| <= 4 sqrt(n) eps |D^-1 P kept|_F |z|,    or  4 sqrt(n) eps (1 / min(D) + |D^-1 P fit|_F) |z|

(in the dual form that of the two is taken which loses less), and |r / D|^2 by 2 |r / D| |error| + |error|^2. An alpha
that another one beats by more than their two errors is out; where more than one is left, they are evaluated once more
in float64. So the choice is that of float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepjuice.alignment.encoding.ridge_decomposition import RidgeDecomposition
from deepjuice.alignment.linalg import working_dtype

SAFETY = 4.0
"""How many times sqrt(n) eps a float32 sum of n products may be off; about 100 times what is seen."""


class _Residuals(NamedTuple):
    """Left-out residuals at k alphas, r / D = inverse_D (own z + P (factors c)) with c = P' z, and what bounds them."""

    P: Tensor  # (n, r)
    factors: Tensor  # (k, r)
    own: Tensor  # (k,), 1 or 0
    inverse_D: Tensor  # (k, n)
    size: Tensor  # (k,), norm of the matrices between z and r / D, which rounding errors go with
    least: Tensor  # (k, r)
    least_of_own: Tensor  # (k,): |r / D|^2 >= least_of_own |z|^2 + sum_j least_j c_j^2
    spread: Tensor  # (k,), by which the lower bound becomes the error of generalised cross-validation


def screens_in_float32(device: torch.device) -> bool:
    """Tell whether `device` has float64 to decide in, and its float32 products really are of float32.

    Settings of PyTorch let them be of TF32 or bfloat16 instead, which the bound on errors does not cover.
    """
    if working_dtype(device) != torch.float64:
        return False
    probe = torch.full((64, 64), 1.0 + 2.0**-12, device=device)  # the last digit is beyond TF32 and bfloat16
    return torch.equal(probe @ torch.eye(64, device=device), probe)


class AlphaScreen:
    """Chooses the alpha of every target, given in blocks: made once for a decomposition and a grid of alphas (k,)."""

    def __init__(self, dec: RidgeDecomposition, alphas: Tensor):
        self._exact = _dual(dec, alphas) if dec.is_dual else _primal(dec, alphas)
        self._rough = _Residuals(*(part.float() for part in self._exact))
        # Of the coordinates in the basis: c = P' z. A dual form needs none.
        self._root = None if dec.is_dual else (dec.eigenvalues + alphas.min()).sqrt()

    def choose(self, centred: Tensor, rotated: Tensor) -> Tensor:
        """Return the position (m,) among the alphas of the smallest leave-one-out squared error of every target.

        `centred` are the targets (n, m) less their means, `rotated` (m, r) is centred' basis. Ties in float64 go to
        the first.
        """
        largest = _largest(centred)
        Z, C = (centred / largest).T.float().contiguous(), self._coordinates(rotated, largest)
        errors, bounds = _screen(self._rough, Z, C.float())
        close = ~(errors - bounds > (errors + bounds).amin(dim=0))  # also where float32 overflowed
        unsure = (close.sum(dim=0) > 1).nonzero()[:, 0]
        if len(unsure):
            Z = (centred[:, unsure] / largest[unsure]).T
            errors[:, unsure] = _squared_errors(self._exact, Z, C[unsure], close[:, unsure])
        return errors.nan_to_num(nan=torch.inf).argmin(dim=0)

    def _coordinates(self, rotated: Tensor, largest: Tensor) -> Tensor:
        C = rotated / largest[:, None]
        return C if self._root is None else C.div_(self._root)


def _largest(centred: Tensor) -> Tensor:
    """The largest size (m,) of any value of every target, by which it is divided so that float32 holds its squares."""
    largest = torch.maximum(centred.amax(dim=0), -centred.amin(dim=0))  # aminmax is several times slower along a dim
    return largest.masked_fill_(largest == 0, 1.0)


def _dual(dec: RidgeDecomposition, alphas: Tensor) -> _Residuals:
    e, P, squared = dec.eigenvalues, dec.basis, dec.basis.square()
    inverse = 1.0 / (e + alphas[:, None])
    kept, fit = alphas[:, None] * inverse, e * inverse
    D = kept @ squared.T
    largest = D.amax(dim=1, keepdim=True)
    of_kept, of_fit = _size(squared, kept, D), 1.0 / D.amin(dim=1) + _size(squared, fit, D)
    own = of_fit < of_kept
    kept /= largest  # of small alphas it would be too small for float32
    factors = torch.where(own[:, None], -fit, kept)
    inverse_D = torch.where(own[:, None], 1.0, largest) / D
    size = torch.where(own, of_fit, of_kept).masked_fill_(inverse_D.amax(dim=1) > 1e30, torch.inf)  # float32 underflows
    spread = (largest[:, 0] / D.mean(dim=1)).square()
    return _Residuals(P, factors, own.to(D), inverse_D, size, kept.square(), torch.zeros_like(size), spread)


def _primal(dec: RidgeDecomposition, alphas: Tensor) -> _Residuals:
    e, s2 = dec.eigenvalues, dec.eigenvalues + alphas.min()
    inverse = 1.0 / (e + alphas[:, None])
    fit, P = s2 * inverse, dec.basis / s2.sqrt()
    squared = P.square()
    D = dec.own_share - fit @ squared.T
    size = 1.0 / D.amin(dim=1) + _size(squared, fit, D)
    least_of_own = D.amax(dim=1) ** -2
    least = -fit * (2.0 - e * inverse) * least_of_own[:, None]
    spread = (D.amax(dim=1) / D.mean(dim=1)).square()
    return _Residuals(P, -fit, torch.ones_like(size), 1.0 / D, size, least, least_of_own, spread)


def _size(squared: Tensor, factors: Tensor, D: Tensor) -> Tensor:
    """Frobenius norms (k,) of D^-1 P diag(factors), with P elementwise squared."""
    return ((factors.square() @ squared.T) / D.square()).sum(dim=1).sqrt()


def _screen(rough: _Residuals, Z: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors (k, m) of targets Z (m, n) with coordinates C (m, r), and how far each may be off: float64.

    Infinity, without a doubt, stands where an alpha cannot be the best.
    """
    norm = torch.linalg.vector_norm(Z, dim=1).double()
    unit = SAFETY * Z.shape[1] ** 0.5 * torch.finfo(Z.dtype).eps
    error = unit * rough.size.double()[:, None] * norm
    least = (rough.least @ C.square().T).double() + rough.least_of_own[:, None] * norm.square()
    first = one_hot((least * rough.spread[:, None]).argmin(dim=0), len(rough.own)).T.bool()
    doubt = 4.0 * unit * (rough.least_of_own + torch.linalg.vector_norm(rough.least, dim=1))
    least -= doubt[:, None] * norm.square()

    errors = _squared_errors(rough, Z, C, first)
    rest = ~first & ~(least > (errors + (2.0 * errors.sqrt() + error) * error).amin(dim=0))
    errors = torch.minimum(errors, _squared_errors(rough, Z, C, rest))
    return errors, ((2.0 * errors.sqrt() + error) * error).masked_fill_(~(first | rest), 0.0)


def _squared_errors(residuals: _Residuals, Z: Tensor, C: Tensor, wanted: Tensor) -> Tensor:
    """Squared errors (k, m) of targets Z (m, n), with C = Z P, where `wanted` (k, m), infinity elsewhere: float64."""
    errors = torch.full(wanted.shape, torch.inf, dtype=torch.float64, device=Z.device)
    for k, own in enumerate(residuals.own.tolist()):
        targets = wanted[k].nonzero()[:, 0]
        if len(targets):
            fitted = C.index_select(0, targets).mul_(residuals.factors[k])
            residual = fitted @ residuals.P.T
            if own:
                residual += Z.index_select(0, targets)
            residual *= residuals.inverse_D[k]
            errors[k, targets] = torch.linalg.vector_norm(residual, dim=1).double().square_()
    return errors
