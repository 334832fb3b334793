"""Ridge regression beside scikit-learn's and himalaya's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepjuice.alignment import DEFAULT_ALPHAS, TorchRidgeGCV
from deepjuice.verify.differences import Difference, Quantity, find_differences

ALPHA = Quantity("ridge: log10 of the chosen alphas", 1e-9)
LOO_ERROR = Quantity("ridge: leave-one-out squared error", 1e-7)
LEFT_OUT = Quantity("ridge: predictions of left-out stimuli", 1e-7)
TEST = Quantity("ridge: test predictions", 1e-7)
COEFFICIENTS = Quantity("ridge: coefficients", 1e-7)


def compare_ridge(
    X_train: Tensor,
    Y_train: Tensor,
    X_test: Tensor,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    *,
    n_left_out: int = 5,
    seed: int = 0,
) -> list[Difference]:
    """Compare a ridge regression with an alpha a target with scikit-learn's and himalaya's.

    The alphas and their mean squared leave-one-out error are those of `RidgeCV(alpha_per_target=True)`. At the alphas
    that we chose: leave-one-out predictions of some stimuli, by a `Ridge` that really was fitted without each of them;
    predictions of the test stimuli; coefficients. Features are z-scored by the train stimuli, in float64, and columns
    that are constant within the rounding of their own dtype become zero, for all alike. Everything is in standard
    deviations of the target (errors in variances), so that responses may have any unit.

    Args:
        X_train, X_test: features (n, p) and (m, p), on one device.
        Y_train: responses (n, t) there; every target must vary.
        alphas: penalties to choose from.
        n_left_out: how many train stimuli are really left out, drawn by `seed`.

    >>> X, Y = torch.randn(20, 30), torch.randn(20, 2)
    >>> any(found.differs for found in compare_ridge(X[:12], Y[:12], X[12:], alphas=(1.0, 100.0)))
    False
    """
    rows = np.sort(np.random.default_rng(seed).choice(len(X_train), min(n_left_out, len(X_train)), replace=False))
    model = TorchRidgeGCV(alphas, device=X_train.device).fit(X_train, Y_train)
    alpha, left_out = as_float64(model.alpha_), as_float64(model.cv_y_pred_)[rows]
    task = _Task.of(X_train, Y_train, X_test, np.asarray(alphas, dtype=np.float64), alpha, rows)
    ours = {
        ALPHA: np.log10(alpha),
        LOO_ERROR: -as_float64(model.score_) / task.Y_std**2,
        LEFT_OUT: (left_out - task.Y_mean) / task.Y_std,
        TEST: (as_float64(model.predict(X_test)) - task.Y_mean) / task.Y_std,
        COEFFICIENTS: as_float64(model.coef_) * as_float64(X_train).std(axis=0) / task.Y_std[:, None],
    }
    return [
        *find_differences(ours, "scikit-learn", lambda: scikit_learn_ridge(task)),
        *find_differences(ours, "himalaya", lambda: himalaya_ridge(task)),
    ]


def as_float64(values: Tensor) -> np.ndarray:
    """Return a tensor of any device and precision as a float64 array."""
    return values.detach().cpu().numpy().astype(np.float64)


@dataclass(frozen=True)
class _Task:
    """What every peer is given: z-scored features and targets, in float64."""

    X: np.ndarray
    Y: np.ndarray
    X_test: np.ndarray
    Y_mean: np.ndarray
    Y_std: np.ndarray
    alphas: np.ndarray  # the grid
    alpha: np.ndarray  # one a target, as chosen by us
    left_out: np.ndarray  # rows of X

    @classmethod
    def of(
        cls, X: Tensor, Y: Tensor, X_test: Tensor, alphas: np.ndarray, alpha: np.ndarray, left_out: np.ndarray
    ) -> _Task:
        """z-score features and targets with NumPy."""
        eps, X, Y = torch.finfo(X.dtype).eps, as_float64(X), as_float64(Y)
        mean, std = X.mean(axis=0), X.std(axis=0)
        flat = std <= 2 * eps * np.abs(mean)
        scale = np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, std))
        Y_mean, Y_std = Y.mean(axis=0), Y.std(axis=0)
        X_test = (as_float64(X_test) - mean) * scale
        return cls((X - mean) * scale, (Y - Y_mean) / Y_std, X_test, Y_mean, Y_std, alphas, alpha, left_out)


def scikit_learn_ridge(task: _Task) -> dict[Quantity, np.ndarray]:
    """Choose by RidgeCV, then fit at our alphas by Ridge, through the singular values of the features."""
    from sklearn.linear_model import Ridge, RidgeCV

    chosen = RidgeCV(task.alphas, alpha_per_target=True).fit(task.X, task.Y)
    fitted = Ridge(task.alpha, solver="svd").fit(task.X, task.Y)
    left_out = []
    for row in task.left_out:
        others = np.arange(len(task.X)) != row
        left_out.append(Ridge(task.alpha, solver="svd").fit(task.X[others], task.Y[others]).predict(task.X[[row]]))
    n_targets = task.Y.shape[1]  # of one, scikit-learn leaves its axis out
    return {
        ALPHA: np.log10(np.atleast_1d(chosen.alpha_)),
        LOO_ERROR: -np.atleast_1d(chosen.best_score_),
        LEFT_OUT: np.reshape(left_out, (-1, n_targets)),
        TEST: fitted.predict(task.X_test).reshape(-1, n_targets),
        COEFFICIENTS: np.atleast_2d(fitted.coef_),
    }


def himalaya_ridge(task: _Task) -> dict[Quantity, np.ndarray]:
    """Fit at our alphas by KernelRidge, or by Ridge where there are more stimuli than features."""
    from himalaya.backend import get_backend, set_backend
    from himalaya.kernel_ridge import KernelRidge
    from himalaya.ridge import Ridge

    n, p = task.X.shape
    before = get_backend()
    set_backend("numpy")
    try:
        kind = KernelRidge(task.alpha, solver="eigenvalues", fit_intercept=True) if n <= p else None
        fitted = (kind or Ridge(task.alpha, fit_intercept=True)).fit(task.X, task.Y)
        return {TEST: fitted.predict(task.X_test)}
    finally:
        set_backend(before)
