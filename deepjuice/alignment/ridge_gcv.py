"""The ridge estimator: `fit`, `predict` and `score` over the functions of `deepjuice.alignment.ridge`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepjuice.alignment.linalg import ArrayLike, as_matrix
from deepjuice.alignment.ridge import (
    DEFAULT_ALPHAS,
    loo_predictions,
    project,
    ridge_coefficients,
    ridge_decompose,
    ridge_weights,
    select_alphas,
)
from deepjuice.alignment.scores import columnwise_score, compute_score
from deepjuice.devices import get_device
from juicyfruits.errors import InputError


class TorchRidgeGCV:
    """Ridge regression with the penalty of every target chosen by exact leave-one-out.

        minimise |y - b - Xs w|^2 + alpha |w|^2,    Xs = (X - mean) / std

    Args:
        alphas: the penalties to choose from, all positive.
        fit_intercept: give every target an unpenalised intercept, refitted in every fold.
        scale_X: z-score the features by mean and population standard deviation of all training stimuli; constant
            columns become zero.
        scoring: what the leave-one-out predictions are judged by. The default, `neg_mean_squared_error`, is an unbiased
            guide. A correlation (`pearsonr`, `spearmanr`, `concordance`) is not: a left-out stimulus pulls the mean of
            the others away from itself, so that targets of pure noise score below zero, the more so the larger alpha
            is (towards -1), and small alphas are preferred.
        alpha_per_target: one alpha for every target, or one for all by their mean score.
        store_cv_values: keep `cv_values_`, the score of every alpha and target.
        device: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`; data are brought there by `fit` and `predict`.

    `fit` sets `alpha_` and `score_` (the best leave-one-out score), one a target, and `cv_y_pred_`, the leave-one-out
    predictions at the chosen alpha, in the shape of Y. `coef_` (targets, features) and `intercept_` are on the features
    as they came, and made when asked for. For Y of one dimension all lose their target axis. Results are float64
    tensors on the device (float32 on mps). scikit-learn's `RidgeCV(alpha_per_target=True)` is the nearest relative.

    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(30, 50, generator=generator)
    >>> Y = X[:, :2] + 100
    >>> model = TorchRidgeGCV().fit(X, Y)
    >>> model.predict(X).mean().round().item()
    100.0
    """

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        fit_intercept: bool = True,
        scale_X: bool = True,
        scoring: str = "neg_mean_squared_error",
        alpha_per_target: bool = True,
        store_cv_values: bool = False,
        device: str | int | torch.device = "cpu",
    ):
        columnwise_score(scoring)
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.scale_X = scale_X
        self.scoring = scoring
        self.alpha_per_target = alpha_per_target
        self.store_cv_values = store_cv_values
        self.device = get_device(device)

    def fit(self, X: ArrayLike, Y: ArrayLike) -> TorchRidgeGCV:
        """Fit features (n, p) to one target (n,) or several (n, t); X is kept by reference until the next fit.

        Raises InputError for NaN or infinity, fewer than 3 stimuli, and unequal numbers of rows.
        """
        X = as_matrix(X, "X", self.device, min_rows=3)
        self._one_target = torch.as_tensor(Y).ndim == 1
        Y = as_matrix(Y, "Y", self.device)
        if len(Y) != len(X):
            raise InputError(f"X and Y must have one row a stimulus, but they have {len(X)} and {len(Y)}; align them.")
        self.decomposition_ = ridge_decompose(X, scale=self.scale_X, fit_intercept=self.fit_intercept)
        chosen = select_alphas(self.decomposition_, Y, self.alphas, self.scoring, per_target=self.alpha_per_target)
        self._weights, self._y_mean = ridge_weights(self.decomposition_, Y, chosen.alpha)
        self._linear = None
        self.alpha_ = self._squeeze(chosen.alpha)
        self.score_ = self._squeeze(chosen.score)
        self.cv_y_pred_ = self._squeeze(loo_predictions(self.decomposition_, Y, chosen.alpha))
        self.cv_values_ = self._squeeze(chosen.scores) if self.store_cv_values else None
        return self

    def predict(self, X: ArrayLike) -> Tensor:
        """Predict the targets of features (m, p): (m, t), or (m,) where Y had one dimension."""
        self._check_fitted()
        basis = project(self.decomposition_, as_matrix(X, "X", self.device))
        return self._squeeze(torch.addmm(self._y_mean, basis, self._weights))

    def score(self, X: ArrayLike, Y: ArrayLike, scoring: str | None = None) -> Tensor:
        """Score the predictions for X against Y, one number a target, by `scoring` (default: that of the estimator)."""
        return compute_score(torch.as_tensor(Y, device=self.device), self.predict(X), scoring or self.scoring)

    @property
    def coef_(self) -> Tensor:
        """Coefficients on the features as they came: (t, p), or (p,) for one target."""
        return self._squeeze(self._coefficients()[0].T, dim=0)

    @property
    def intercept_(self) -> Tensor:
        """Prediction where all features as they came are zero: (t,), or 0-d for one target."""
        return self._squeeze(self._coefficients()[1])

    def to(self, device: str | int | torch.device) -> TorchRidgeGCV:
        """Move the estimator, and what it has fitted, to another device; returns itself."""
        self.device = get_device(device)
        if hasattr(self, "decomposition_"):
            self.decomposition_ = self.decomposition_.to(self.device)
            for name, value in vars(self).items():
                if isinstance(value, Tensor):
                    setattr(self, name, value.to(self.device))
            self._linear = None
        return self

    def _coefficients(self) -> tuple[Tensor, Tensor]:
        self._check_fitted()
        if self._linear is None:
            self._linear = ridge_coefficients(self.decomposition_, self._weights, self._y_mean)
        return self._linear

    def _squeeze(self, values: Tensor, dim: int = -1) -> Tensor:
        return values.squeeze(dim) if self._one_target else values

    def _check_fitted(self) -> None:
        if not hasattr(self, "decomposition_"):
            raise InputError("This TorchRidgeGCV has nothing to predict with yet; call fit(X, Y) first.")
