"""The ridge estimator: `fit`, `predict` and `score` over the functions of `deepjuice.alignment.encoding.ridge`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from deepjuice.alignment.encoding.leave_one_out import loo_predictions, loo_scores
from deepjuice.alignment.encoding.ridge import (
    DEFAULT_ALPHAS,
    fit_ridge,
    project,
    ridge_coefficients,
    ridge_decompose,
    ridge_weights,
    select_alphas,
)
from deepjuice.alignment.linalg import ArrayLike, as_matrix, as_tensor
from deepjuice.alignment.scores import columnwise_score, compute_score
from deepjuice.devices import get_device
from juicyfruits.errors import InputError

_WHEN_ASKED = ("score_", "cv_y_pred_", "_weights", "_linear")


class TorchRidgeGCV:
    """Ridge regression with the penalty of every target chosen by exact leave-one-out.

        minimise |y - b - Xs w|^2 + alpha |w|^2,    Xs = (X - mean) / std

    Args:
        alphas: the penalties to choose from, all positive.
        fit_intercept: give every target an unpenalised intercept, refitted in every fold.
        scale_X: z-score the features by mean and population standard deviation of all training stimuli; constant
            columns become zero.
        scoring: what the leave-one-out predictions are judged by: `neg_mean_squared_error` (the default, an unbiased
            guide), `r2`, `explained_variance`, `pearsonr`, `spearmanr` or `concordance`. Choosing by a correlation is
            biased: a left-out stimulus pulls the mean of the others away from itself, so that targets of pure noise
            score below zero, the more so the larger alpha is (Pearson, 100 stimuli, 4,000 noise features: -0.07 on
            average at alpha 0.1, -0.86 at 1e5), and small alphas are preferred.
        alpha_per_target: one alpha for every target, or one for all by their mean score.
        store_cv_values: keep `cv_values_`, the score of every alpha and target.
        device: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`; data are brought there by `fit` and `predict`.

    `fit` decomposes X and chooses `alpha_`, one a target; with `store_cv_values` it keeps `cv_values_` (alphas,
    targets). The rest is made when first asked for, from X and Y, which are kept by reference (do not change them in
    place): `score_`, the leave-one-out score at the chosen alpha, one a target; `cv_y_pred_`, those predictions, in the
    shape of Y; `coef_` (targets, features) and `intercept_`, on the features as they came. For Y of one dimension all
    lose their target axis. Results are float64 tensors on the device (float32 on mps). scikit-learn's
    `RidgeCV(alpha_per_target=True)` is the nearest relative; `RidgeGCV` is this estimator for NumPy.

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
        Y = as_tensor(Y, "Y")
        one_target = Y.ndim == 1
        Y = as_matrix(Y, "Y", self.device)
        if len(Y) != len(X):
            raise InputError(f"X and Y must have one row a stimulus, but they have {len(X)} and {len(Y)}; align them.")
        dec = ridge_decompose(X, scale=self.scale_X, fit_intercept=self.fit_intercept)
        how = {"per_target": self.alpha_per_target}
        scores = None
        if self.store_cv_values:
            alpha, _, scores = select_alphas(dec, Y, self.alphas, self.scoring, keep_scores=True, **how)
            weights, mean = ridge_weights(dec, Y, alpha)
        else:
            alpha, weights, mean = fit_ridge(dec, Y, self.alphas, self.scoring, **how)
        for name in (*_WHEN_ASKED, "cv_values_"):  # only now: a fit that fails leaves the one before
            vars(self).pop(name, None)
        self.decomposition_, self._Y, self._one_target = dec, Y, one_target
        self._alpha, self._weights, self.alpha_ = alpha, (weights, mean), self._squeeze(alpha)
        if scores is not None:
            self.cv_values_ = self._squeeze(scores)
        return self

    def predict(self, X: ArrayLike) -> Tensor:
        """Predict the targets of features (m, p): (m, t), or (m,) where Y had one dimension."""
        self._check_fitted()
        weights, y_mean = self._weights
        return self._squeeze(torch.addmm(y_mean, project(self.decomposition_, X), weights))

    def score(self, X: ArrayLike, Y: ArrayLike, scoring: str | None = None) -> Tensor:
        """Score the predictions for X against Y, one number a target, by `scoring` (default: that of the estimator)."""
        return compute_score(as_tensor(Y, "Y").to(self.device), self.predict(X), scoring or self.scoring)

    @cached_property
    def score_(self) -> Tensor:
        """Leave-one-out score of every target at its alpha: (t,), or 0-d for one target."""
        self._check_fitted()
        return self._squeeze(
            loo_scores(self.decomposition_, self._Y, self._alpha, self.scoring, weights=self._weights[0])
        )

    @cached_property
    def cv_y_pred_(self) -> Tensor:
        """Leave-one-out predictions of the training stimuli at the chosen alphas: (n, t), or (n,) for one target."""
        self._check_fitted()
        weights, _ = self._weights
        return self._squeeze(loo_predictions(self.decomposition_, self._Y, self._alpha, weights=weights))

    @property
    def coef_(self) -> Tensor:
        """Coefficients on the features as they came: (t, p), or (p,) for one target."""
        return self._squeeze(self._linear[0].T, dim=0)

    @property
    def intercept_(self) -> Tensor:
        """Prediction where all features as they came are zero: (t,), or 0-d for one target."""
        return self._squeeze(self._linear[1])

    def to(self, device: str | int | torch.device) -> TorchRidgeGCV:
        """Move the estimator, and what it has fitted, to another device; returns itself."""
        self.device = get_device(device)
        if hasattr(self, "decomposition_"):
            self.decomposition_ = self.decomposition_.to(self.device)
            for name in _WHEN_ASKED:
                vars(self).pop(name, None)
            for name, value in vars(self).items():
                if isinstance(value, Tensor):
                    setattr(self, name, value.to(self.device))
        return self

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor]:
        return ridge_weights(self.decomposition_, self._Y, self._alpha)

    @cached_property
    def _linear(self) -> tuple[Tensor, Tensor]:
        self._check_fitted()
        return ridge_coefficients(self.decomposition_, *self._weights)

    def _squeeze(self, values: Tensor, dim: int = -1) -> Tensor:
        return values.squeeze(dim) if self._one_target else values

    def _check_fitted(self) -> None:
        if not hasattr(self, "decomposition_"):
            raise InputError("This TorchRidgeGCV has nothing to predict with yet; call fit(X, Y) first.")
