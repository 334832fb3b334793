"""Scores of voxels beside scipy's and scikit-learn's."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from deepjuice.alignment import explained_variance, pearsonr, r2, spearmanr
from deepjuice.verify.differences import Difference, Quantity, find_differences
from deepjuice.verify.ridge import as_float64

PEARSON = Quantity("score: pearsonr", 1e-9)
SPEARMAN = Quantity("score: spearmanr", 1e-9)
R2 = Quantity("score: r2", 1e-9)
EXPLAINED = Quantity("score: explained_variance", 1e-9)


def compare_scores(Y: Tensor, predictions: Tensor) -> list[Difference]:
    """Compare the scores of predictions (n, t) of responses Y (n, t) with scipy's and scikit-learn's.

    Both must vary in every column: a correlation with a constant has no value, and the peers' answers to that differ.

    >>> import torch
    >>> any(found.differs for found in compare_scores(torch.randn(9, 3), torch.randn(9, 3)))
    False
    """
    functions = {PEARSON: pearsonr, SPEARMAN: spearmanr, R2: r2, EXPLAINED: explained_variance}
    ours = {quantity: as_float64(function(Y, predictions)) for quantity, function in functions.items()}
    y, predicted = as_float64(Y), as_float64(predictions)
    return [
        *find_differences(ours, "scipy", lambda: scipy_scores(y, predicted)),
        *find_differences(ours, "scikit-learn", lambda: scikit_learn_scores(y, predicted)),
    ]


def scipy_scores(y: np.ndarray, predicted: np.ndarray) -> dict[Quantity, np.ndarray]:
    """Correlate column by column."""
    from scipy import stats

    columns = list(zip(y.T, predicted.T, strict=True))
    return {
        PEARSON: np.array([stats.pearsonr(a, b).statistic for a, b in columns]),
        SPEARMAN: np.array([stats.spearmanr(a, b).statistic for a, b in columns]),
    }


def scikit_learn_scores(y: np.ndarray, predicted: np.ndarray) -> dict[Quantity, np.ndarray]:
    """Return the scores of every column."""
    from sklearn import metrics

    return {
        R2: metrics.r2_score(y, predicted, multioutput="raw_values"),
        EXPLAINED: metrics.explained_variance_score(y, predicted, multioutput="raw_values"),
    }
