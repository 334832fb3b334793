"""Encoders to compare with, by scikit-learn: partial least squares, and least squares without any penalty."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression
from torch import Tensor

from deepjuice.alignment.encoding.crossval import cross_val_score
from deepjuice.alignment.linalg import ArrayLike, as_matrix, as_tensor, column_moments, is_constant, working_dtype
from deepjuice.splits import as_splits
from juicyfruits.errors import InputError


class _SklearnEncoder(ABC):
    """`fit` and `predict` on tensors or arrays over an estimator of scikit-learn, which works on the CPU in float64.

    Predictions are tensors on the device of the features.
    """

    def fit(self, X: ArrayLike, Y: ArrayLike) -> _SklearnEncoder:
        """Fit features (n, p) to one target (n,) or several (n, t)."""
        X = as_matrix(X, "X", min_rows=3)
        Y = as_tensor(Y, "Y")
        self._one_target = Y.ndim == 1
        Y = as_matrix(Y, "Y", X.device)
        if len(Y) != len(X):
            raise InputError(f"X and Y must have one row a stimulus, but they have {len(X)} and {len(Y)}; align them.")
        flat = is_constant(*column_moments(X)[::-1], X.dtype)  # rounding, which scikit-learn would take for a feature
        features = X.cpu().double().masked_fill(flat.cpu(), 0.0)
        self.estimator_ = self._make(features, Y).fit(features.numpy(), Y.cpu().double().numpy())
        return self

    def predict(self, X: ArrayLike) -> Tensor:
        """Predict the targets of features (m, p): (m, t), or (m,) where Y had one dimension."""
        if not hasattr(self, "estimator_"):
            raise InputError(f"This {type(self).__name__} has nothing to predict with yet; call fit(X, Y) first.")
        X = as_matrix(X, "X")
        if X.shape[1] != self.estimator_.n_features_in_:
            raise InputError(
                f"X must have the {self.estimator_.n_features_in_} features that the model was fitted on, but it has "
                f"{X.shape[1]}; extract both with the same layer and projection."
            )
        predicted = torch.from_numpy(self.estimator_.predict(X.cpu().double().numpy()))
        predicted = predicted.to(X.device, working_dtype(X.device))
        return predicted[:, 0] if self._one_target else predicted

    @abstractmethod
    def _make(self, X: Tensor, Y: Tensor) -> Any:
        """Return the estimator for features (n, p) and targets (n, t), not fitted."""


class LeastSquares(_SklearnEncoder):
    """Linear regression without a penalty: minimise |y - b - X w|^2, of the smallest |w| where many are as good.

    What regularisation is worth is seen beside it. With more features than stimuli it repeats its training targets.

    >>> X = torch.randn(20, 3, dtype=torch.float64)
    >>> torch.allclose(LeastSquares().fit(X, X[:, 0] + 1).predict(X), X[:, 0] + 1)
    True
    """

    def _make(self, X: Tensor, Y: Tensor) -> LinearRegression:
        return LinearRegression()


class PLS(_SklearnEncoder):
    """Partial least squares of all targets at once (PLS2, z-scored), its number of components chosen by k-fold.

    Args:
        n_components: a number, or several to choose from by the mean of `scoring` over folds and targets; targets that
            have no score in a fold (constant there) have no say. Ties go to the number named first. 25 is what
            Brain-Score takes.
        cv: folds within the rows of the fit, anything that `as_splits` takes.
        scoring: any score of `deepjuice.alignment.scores`.

    There are as many components as the z-scored features have rank, at most; more would be made of rounding. `fit`
    raises InputError where more are asked for, within its folds too. It sets `n_components_` and, where there was a
    choice, `scores_` (numbers,).

    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(40, 6, generator=generator)
    >>> PLS(n_components=(1, 4)).fit(X, X[:, :3]).n_components_
    4
    """

    def __init__(self, n_components: int | Sequence[int] = (2, 5, 10, 25), cv: Any = 5, scoring: str = "r2"):
        self.n_components = tuple(np.atleast_1d(n_components).tolist())  # NumPy's numbers become Python's
        self.cv, self.scoring = cv, scoring
        if not self.n_components or not all(type(n) is int and n >= 1 for n in self.n_components):
            raise InputError(f"n_components must be numbers from 1 up, one at least, but {n_components} came; see PLS.")

    def _make(self, X: Tensor, Y: Tensor) -> PLSRegression:
        most, asked = _rank(X), max(self.n_components)
        if asked > most:
            raise InputError(
                f"PLS of {tuple(X.shape)} features of rank {most} has {most} components at most, but {asked} were "
                "asked for; give smaller n_components."
            )
        self.n_components_ = self.n_components[0]
        if len(self.n_components) > 1:
            splits = as_splits(self.cv, len(X))
            tables = [cross_val_score(X, Y, splits, None, PLS(n), self.scoring) for n in self.n_components]
            self.scores_ = torch.stack([table.nanmean() for table in tables])
            self.n_components_ = self.n_components[int(self.scores_.nan_to_num(nan=-torch.inf).argmax())]
        return PLSRegression(self.n_components_)


def _rank(X: Tensor) -> int:
    """The rank of z-scored features: what scikit-learn's deflation leaves after as many components is rounding."""
    mean, std = column_moments(X)
    Z = (X - mean) * (1.0 / std).masked_fill(is_constant(std, mean, X.dtype), 0.0)
    return int(torch.linalg.matrix_rank(Z))
