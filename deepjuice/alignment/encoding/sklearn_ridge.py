"""The ridge estimator with scikit-learn's manners: arrays in, arrays out, for pipelines and grid searches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from deepjuice.alignment.encoding.ridge import DEFAULT_ALPHAS
from deepjuice.alignment.encoding.ridge_gcv import TorchRidgeGCV


class RidgeGCV(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """`TorchRidgeGCV` for NumPy: the same arguments, the same fit, arrays instead of tensors.

    `fit` sets `ridge_` (the fitted TorchRidgeGCV), `alpha_` and `n_features_in_`; `score_`, `cv_y_pred_`, `cv_values_`,
    `coef_` and `intercept_` are that estimator's. `score` is scikit-learn's: the R^2 of predictions, one float,
    averaged over targets; `ridge_.score` gives one a target, by the scoring that alphas were chosen by. Raises what
    scikit-learn raises for bad input, a ValueError that says what was wrong; 3 stimuli are the fewest.

    >>> X = np.random.default_rng(0).normal(size=(30, 4))
    >>> RidgeGCV().fit(X, X[:, 0] + 5).score(X, X[:, 0] + 5) > 0.99
    True
    """

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        fit_intercept: bool = True,
        scale_X: bool = True,
        scoring: str = "neg_mean_squared_error",
        alpha_per_target: bool = True,
        store_cv_values: bool = False,
        device: str = "cpu",
    ):
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.scale_X = scale_X
        self.scoring = scoring
        self.alpha_per_target = alpha_per_target
        self.store_cv_values = store_cv_values
        self.device = device

    def fit(self, X: ArrayLike, y: ArrayLike) -> RidgeGCV:
        """Fit features (n, p) to one target (n,) or several (n, t), as `TorchRidgeGCV.fit` does."""
        types = [np.float64, np.float32]
        X, y = validate_data(self, X, y, dtype=types, multi_output=True, y_numeric=True, ensure_min_samples=3)
        self.ridge_ = TorchRidgeGCV(**self.get_params()).fit(_tensor(X), _tensor(y))
        self.alpha_ = _array(self.ridge_.alpha_)
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict the targets of features (m, p): (m, t), or (m,) where y had one dimension, float64."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return _array(self.ridge_.predict(_tensor(X)))

    @property
    def score_(self) -> np.ndarray | float:
        """Leave-one-out score of every target at its alpha: (t,), or a float for one target."""
        return self._fitted("score_")

    @property
    def cv_y_pred_(self) -> np.ndarray:
        """Leave-one-out predictions of the training stimuli at the chosen alphas, in the shape of y."""
        return self._fitted("cv_y_pred_")

    @property
    def cv_values_(self) -> np.ndarray:
        """Score of every alpha and target (alphas, t), where `store_cv_values` asked for them."""
        return self._fitted("cv_values_")

    @property
    def coef_(self) -> np.ndarray:
        """Coefficients on the features as they came: (t, p), or (p,) for one target."""
        return self._fitted("coef_")

    @property
    def intercept_(self) -> np.ndarray | float:
        """Prediction where all features as they came are zero: (t,), or a float for one target."""
        return self._fitted("intercept_")

    def _fitted(self, name: str) -> np.ndarray | float:
        check_is_fitted(self)
        return _array(getattr(self.ridge_, name))


def _tensor(values: np.ndarray) -> Tensor:
    # Tensors know neither read-only memory nor foreign byte orders nor negative strides; copies are made only of these.
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _array(values: Tensor) -> np.ndarray | float:
    array = values.cpu().numpy()
    return array if array.ndim else float(array)
