"""Alignment of models and brains: encoding models, dissimilarity matrices, scores and ceilings."""

from deepjuice.alignment.ceilings import noise_ceiling_r
from deepjuice.alignment.rdm import (
    COMPARISONS,
    compare_pairs,
    compare_rdm_to_many,
    compare_rdms,
    compute_rdm,
    projected_pearson_rdm,
    upper_triangle,
)
from deepjuice.alignment.ridge import (
    DEFAULT_ALPHAS,
    AlphaSelection,
    RidgeDecomposition,
    count_at_edges,
    loo_predictions,
    project,
    ridge_coefficients,
    ridge_decompose,
    ridge_weights,
    select_alphas,
)
from deepjuice.alignment.ridge_gcv import TorchRidgeGCV
from deepjuice.alignment.scores import (
    compute_score,
    concordance,
    explained_variance,
    get_scoring_method,
    pearsonr,
    r2,
    spearmanr,
)

get_scorer = get_scoring_method  # its older name in users' scripts

__all__ = [
    "COMPARISONS",
    "DEFAULT_ALPHAS",
    "AlphaSelection",
    "RidgeDecomposition",
    "TorchRidgeGCV",
    "compare_pairs",
    "compare_rdm_to_many",
    "compare_rdms",
    "compute_rdm",
    "compute_score",
    "concordance",
    "count_at_edges",
    "explained_variance",
    "get_scorer",
    "get_scoring_method",
    "loo_predictions",
    "noise_ceiling_r",
    "pearsonr",
    "project",
    "projected_pearson_rdm",
    "r2",
    "ridge_coefficients",
    "ridge_decompose",
    "ridge_weights",
    "select_alphas",
    "spearmanr",
    "upper_triangle",
]
