"""How well predictions match targets, one number a column.

Two undefined cases are decided once for all correlations: a constant *target* (a voxel without variance) has no score
and gives NaN; a constant *prediction* of a target that does vary predicts nothing and gives 0, so that the mean over a
region is neither poisoned nor taken over fewer voxels than it says. Constant means: up to the rounding of the precision
the values came in.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepjuice.alignment.linalg import (
    ArrayLike,
    as_matrix,
    as_tensor,
    average_ranks,
    column_moments,
    is_constant,
    working_dtype,
)
from juicyfruits.errors import InputError, near_names

Score = Callable[[ArrayLike, ArrayLike], Tensor]


def pearsonr(y: ArrayLike, pred: ArrayLike) -> Tensor:
    """Return Pearson's correlation of every column: cov(y, pred) / (std(y) std(pred)), in -1 .. 1.

    `y` and `pred` are (n,) or (n, targets) of any real dtype; the answer is 0-d or (targets,), float64. A constant
    target gives NaN, a constant prediction 0. Raises InputError for unequal shapes, fewer than 2 rows, or NaN.

    >>> pearsonr([1.0, 2.0, 3.0], [2.0, 4.0, 6.1]).item() > 0.99
    True
    """
    return compute_score(y, pred, "pearsonr")


def spearmanr(y: ArrayLike, pred: ArrayLike) -> Tensor:
    """Return Spearman's rank correlation of every column: Pearson's of the ranks, ties sharing their mean rank.

    Shapes, undefined cases and errors as `pearsonr`.

    >>> round(spearmanr([1.0, 2.0, 3.0], [1.0, 10.0, 11.0]).item(), 6)
    1.0
    """
    return compute_score(y, pred, "spearmanr")


def r2(y: ArrayLike, pred: ArrayLike) -> Tensor:
    """Return the coefficient of determination of every column: 1 - sum (y - pred)^2 / sum (y - mean(y))^2.

    At most 1, below 0 where the mean would have done better. A constant target gives NaN (scikit-learn says 0 or 1).

    >>> r2([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]).item()
    0.0
    """
    return compute_score(y, pred, "r2")


def explained_variance(y: ArrayLike, pred: ArrayLike) -> Tensor:
    """Return the explained variance of every column: 1 - var(y - pred) / var(y), blind to an offset of `pred`.

    A constant target gives NaN (scikit-learn says 0 or 1).

    >>> explained_variance([1.0, 2.0, 3.0], [11.0, 12.0, 13.0]).item()
    1.0
    """
    return compute_score(y, pred, "explained_variance")


def concordance(y: ArrayLike, pred: ArrayLike) -> Tensor:
    """Return Lin's concordance of every column: 2 cov / (var(y) + var(pred) + (mean(y) - mean(pred))^2), in -1 .. 1.

    Population moments, as in Lin (1989, Biometrics 45, 255-268). Undefined cases as `pearsonr`.

    >>> concordance([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).item()
    1.0
    """
    return compute_score(y, pred, "concordance")


def get_scoring_method(name: str) -> Score:
    """Return the score of that name as a function `(y, pred)` -> one number a target.

    Names: `pearsonr, spearmanr, r2, explained_variance, concordance, neg_mean_squared_error`. Raises InputError for
    another one, with near names.

    >>> get_scoring_method("r2")([1.0, 2.0], [1.0, 2.0]).item()
    1.0
    """
    columnwise_score(name)
    return lambda y, pred: compute_score(y, pred, name)


def compute_score(y: ArrayLike, pred: ArrayLike, name: str = "pearsonr") -> Tensor:
    """Score predictions against targets, (n,) or (n, targets), by the score called `name`: 0-d or (targets,).

    The work is done in float64 on the device of `pred`. Errors as `pearsonr` and `get_scoring_method`.

    >>> compute_score([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]], [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], "r2")
    tensor([1., nan], dtype=torch.float64)
    """
    function = columnwise_score(name)
    pred = as_tensor(pred, "The predictions")
    pred_matrix = as_matrix(pred, "The predictions", min_rows=2)
    y_matrix = as_matrix(y, "The targets", pred_matrix.device, min_rows=2)
    if y_matrix.shape != pred_matrix.shape:
        raise InputError(
            f"Targets and predictions must have one shape, but {tuple(y_matrix.shape)} and "
            f"{tuple(pred_matrix.shape)} came; rows are stimuli, columns are targets."
        )
    scores = function(y_matrix, pred_matrix)
    return scores[0] if pred.ndim == 1 else scores


def columnwise_score(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the score of that name as a function of two checked (n, targets) tensors on one device."""
    if name not in _SCORES:
        raise InputError(f"The score {name!r} is unknown; {near_names(name, _SCORES)}")
    return _SCORES[name]


def _is_flat(values: Tensor) -> Tensor:
    mean, std = column_moments(values)
    return is_constant(std, mean, values.dtype)


def _defined(scores: Tensor, y: Tensor, pred: Tensor) -> Tensor:
    """Settle the two undefined cases of a correlation, by the values as they came."""
    return scores.masked_fill(_is_flat(pred), 0.0).masked_fill(_is_flat(y), torch.nan)


def _deviations(values: Tensor) -> Tensor:
    wide = values.to(working_dtype(values.device))
    return wide - wide.mean(dim=0)


def _correlation(y: Tensor, pred: Tensor) -> Tensor:
    a, b = _deviations(y), _deviations(pred)
    norms = torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0)
    return ((a * b).sum(dim=0) / norms).clamp(-1.0, 1.0)


def _pearsonr(y: Tensor, pred: Tensor) -> Tensor:
    return _defined(_correlation(y, pred), y, pred)


def _spearmanr(y: Tensor, pred: Tensor) -> Tensor:
    return _defined(_correlation(average_ranks(y, dim=0), average_ranks(pred, dim=0)), y, pred)


def _r2(y: Tensor, pred: Tensor) -> Tensor:
    dtype = working_dtype(y.device)
    residual = y.to(dtype) - pred.to(dtype)
    unexplained = residual.square().sum(dim=0) / _deviations(y).square().sum(dim=0)
    return (1.0 - unexplained).masked_fill(_is_flat(y), torch.nan)


def _explained_variance(y: Tensor, pred: Tensor) -> Tensor:
    a, b = _deviations(y), _deviations(pred)
    unexplained = (a - b).square().sum(dim=0) / a.square().sum(dim=0)
    return (1.0 - unexplained).masked_fill(_is_flat(y), torch.nan)


def _concordance(y: Tensor, pred: Tensor) -> Tensor:
    (y_mean, y_std), (mean, std) = column_moments(y), column_moments(pred)
    spread = y_std.square() + std.square() + (y_mean - mean).square()
    return _defined(2.0 * (_deviations(y) * _deviations(pred)).mean(dim=0) / spread, y, pred)


def _neg_mean_squared_error(y: Tensor, pred: Tensor) -> Tensor:
    dtype = working_dtype(y.device)
    return -(y.to(dtype) - pred.to(dtype)).square().mean(dim=0)


_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pearsonr": _pearsonr,
    "spearmanr": _spearmanr,
    "r2": _r2,
    "explained_variance": _explained_variance,
    "concordance": _concordance,
    "neg_mean_squared_error": _neg_mean_squared_error,
}
