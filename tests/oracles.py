"""Slow, plain references: each does what a textbook says, in the order it says it, with somebody else's arithmetic."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler


def scaled(X: np.ndarray, X_new: np.ndarray | None = None) -> np.ndarray:
    """z-score by the statistics of X, as scikit-learn does it, in float64."""
    scaler = StandardScaler().fit(X.astype(np.float64))
    return scaler.transform((X if X_new is None else X_new).astype(np.float64))


def sklearn_ridge_cv(X: np.ndarray, Y: np.ndarray, alphas, fit_intercept: bool = True) -> RidgeCV:
    """scikit-learn's leave-one-out ridge with an alpha for every target, on features as they are given."""
    return RidgeCV(alphas, fit_intercept=fit_intercept, alpha_per_target=True).fit(X, Y.astype(np.float64))


def leave_one_out(X: np.ndarray, Y: np.ndarray, alpha: float, fit_intercept: bool = True) -> np.ndarray:
    """Predict every row from a ridge that really never saw it; X is scaled beforehand, or not at all."""
    predictions = np.empty(Y.shape)
    for i in range(len(X)):
        others = np.arange(len(X)) != i
        model = Ridge(alpha, fit_intercept=fit_intercept, solver="svd").fit(X[others], Y[others])
        predictions[i] = model.predict(X[i : i + 1])[0]
    return predictions


def columnwise(function, y: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Apply a score of two vectors to every column."""
    return np.array([function(a, b) for a, b in zip(y.T, pred.T, strict=True)])


def concordance(y: np.ndarray, pred: np.ndarray) -> float:
    """Lin's concordance from r: r times the bias correction, the other way round from the code."""
    r = stats.pearsonr(y, pred).statistic
    ratio = y.std() / pred.std()
    shift = (y.mean() - pred.mean()) / np.sqrt(y.std() * pred.std())
    return r * 2 / (ratio + 1 / ratio + shift**2)


def rdm_by_pairs(X: np.ndarray, distance) -> np.ndarray:
    """Fill an RDM pair by pair."""
    rdm = np.zeros((len(X), len(X)))
    for i in range(len(X)):
        for j in range(len(X)):
            if i != j:
                rdm[i, j] = distance(X[i], X[j])
    return rdm
