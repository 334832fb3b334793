"""Cross-validation of encoders: all that is learnt, scaling and penalties too, is learnt on the training rows.

An encoder is anything with `fit(X, Y)` and `predict(X)`, as `TorchRidgeGCV`. Folds are whatever `as_splits` takes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike as NumpyLike
from torch import Tensor

from deepjuice.alignment.encoding.ridge_gcv import TorchRidgeGCV
from deepjuice.alignment.linalg import ArrayLike, as_matrix, as_tensor
from deepjuice.alignment.scores import columnwise_score, compute_score
from deepjuice.splits import as_splits
from juicyfruits.errors import InputError

Features = ArrayLike | Mapping[str, ArrayLike]
"""Features (n, p), or several named feature spaces of the same stimuli."""


class Encoder(Protocol):
    """What cross-validation asks of an encoding model."""

    def fit(self, X: Any, Y: Any) -> Any:
        """Fit features to targets."""

    def predict(self, X: Any) -> Tensor:
        """Predict the targets of features."""


def cross_val_predict(
    X: Features, Y: ArrayLike, cv: Any = 5, groups: NumpyLike | None = None, encoder: Encoder | None = None
) -> Tensor:
    """Predict every row of Y (n,) or (n, t) by encoders that never saw it: a tensor in the shape of Y.

        y_hat_i = mean over the splits that test i of predict(fit(X_train, Y_train), x_i)

    Each split fits a copy of `encoder` to its training rows alone: by default `TorchRidgeGCV()` on the device of X,
    which z-scores by their moments and chooses every target's alpha by exact leave-one-out among them. Where splits are
    repeated, the predictions of a row are averaged, which scores a little higher than single fits do; scores of single
    splits are `cross_val_score`'s. Raises InputError for a row that no split tests, for what `as_splits` refuses, and
    for unequal numbers of rows.

    >>> X = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    >>> cross_val_predict(X, X[:, :2], cv=4).shape
    torch.Size([20, 2])
    """
    X, Y = _checked(X, Y, encoder)
    splits = as_splits(cv, len(Y), groups)
    times = np.bincount(np.concatenate([test for _, test in splits]), minlength=len(Y))
    if not times.all():
        raise InputError(
            f"Every row must be tested by a split, but {int((times == 0).sum())} of {len(Y)} are in none; "
            "use folds, or cross_val_score."
        )
    total = None
    for test, predicted in _held_out(X, Y, splits, encoder):
        total = predicted.new_zeros(Y.shape) if total is None else total
        total[test] += predicted
    return total / torch.as_tensor(times, device=total.device).reshape(-1, *[1] * (Y.ndim - 1))


def cross_val_score(
    X: Features,
    Y: ArrayLike,
    cv: Any = 5,
    groups: NumpyLike | None = None,
    encoder: Encoder | None = None,
    scoring: str = "pearsonr",
) -> Tensor:
    """Score predictions of held-out rows, one number a split and target: (splits, t), or (splits,) for Y (n,).

    `scoring` is any score of `deepjuice.alignment.scores`, with its undefined cases: a target that is constant in a
    test set has no correlation there (NaN). Encoders and errors as `cross_val_predict`, but rows may remain untested;
    a test set needs 2 rows.

    >>> X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> bool((cross_val_score(X, X[:, 0], cv=4) > 0.9).all())
    True
    """
    columnwise_score(scoring)
    X, Y = _checked(X, Y, encoder)
    splits = as_splits(cv, len(Y), groups)
    fewest = min(len(test) for _, test in splits)
    if fewest < 2:
        raise InputError(
            f"A test set must have 2 rows or more to be scored, but one has {fewest}; give fewer folds, or score what "
            "cross_val_predict predicts."
        )
    return torch.stack([compute_score(Y[test], y, scoring) for test, y in _held_out(X, Y, splits, encoder)])


def _held_out(X: Any, Y: Tensor, splits: list, encoder: Encoder | None) -> Iterator[tuple[Tensor, Tensor]]:
    encoder = TorchRidgeGCV(device=Y.device) if encoder is None else copy.copy(encoder)  # the caller's stays unfitted
    for train, test in splits:
        train, test = torch.from_numpy(train), torch.from_numpy(test)  # rows on the CPU index tensors of any device
        encoder.fit(_take(X, train), Y[train])
        yield test, as_tensor(encoder.predict(_take(X, test)), "The predictions")  # scikit-learn's are arrays


def _take(X: Tensor | dict[str, Tensor], rows: Tensor) -> Any:
    return {name: space[rows] for name, space in X.items()} if isinstance(X, dict) else X[rows]


def _checked(X: Features, Y: ArrayLike, encoder: Encoder | None) -> tuple[Tensor | dict[str, Tensor], Tensor]:
    """Features on the device of their first space, and targets there in the number of dimensions they came in."""
    works = all(hasattr(encoder, name) for name in ("fit", "predict")) and not isinstance(encoder, type)
    if encoder is not None and not works:
        raise InputError(f"The encoder must be an object with fit and predict, but {encoder!r} came; make one.")
    if isinstance(X, Mapping):
        X, first = as_spaces(X)
        if encoder is None:
            raise InputError("Named feature spaces need an encoder for them, but there is none; give a BandedRidge.")
    else:
        X = first = as_matrix(X, "X")
    Y = as_tensor(Y, "Y")
    one_target = Y.ndim == 1
    Y = as_matrix(Y, "Y", first.device)
    if len(Y) != len(first):
        raise InputError(f"X and Y must have one row a stimulus, but they have {len(first)} and {len(Y)}; align them.")
    return X, Y[:, 0] if one_target else Y


def as_spaces(spaces: Mapping[str, ArrayLike], device: torch.device | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """Check named feature spaces of the same stimuli: each as a matrix (n, p_i) on one device, and the first of them.

    `device=None` is that of the first. Raises InputError for no space at all and for unequal numbers of rows.
    """
    if not isinstance(spaces, Mapping) or not spaces:
        came = "none" if isinstance(spaces, Mapping) else f"a {type(spaces).__name__}"
        raise InputError(f"Feature spaces must be {{name: features}}, one at least, but {came} came; name them.")
    checked: dict[str, Tensor] = {}
    for name, X in spaces.items():
        checked[name] = as_matrix(X, f"The feature space {name!r}", device)
        device = checked[name].device
    rows = {name: len(X) for name, X in checked.items()}
    if len(set(rows.values())) > 1:
        raise InputError(f"Feature spaces must have one row a stimulus, but they have {rows}; align them.")
    return checked, next(iter(checked.values()))
