"""Alignment of models and brains: encoding models, geometry, and how sure we are of their scores.

The names below are loaded when first used; each lives in the module that is named beside it.
"""

from __future__ import annotations

from typing import Any

from deepjuice.lazy import lazy_names

_HERE = "deepjuice.alignment"
_HOMES = {
    f"{_HERE}.banded": ["BandedRidge"],
    f"{_HERE}.baselines": ["PLS", "LeastSquares"],
    f"{_HERE}.bootstrap": ["RESAMPLED_COMPARISONS", "EncodingResampler", "GeometryResampler"],
    f"{_HERE}.ceilings": ["noise_ceiling_r", "rdm_ceilings", "split_half_ceiling"],
    f"{_HERE}.crossnobis": ["crossnobis_rdm"],
    f"{_HERE}.crossval": ["cross_val_predict", "cross_val_score"],
    f"{_HERE}.model_comparison": ["benjamini_hochberg", "compare_models", "paired_test"],
    f"{_HERE}.noise": ["NoiseModel", "noise_from_precision", "noise_from_residuals", "repeat_residuals"],
    f"{_HERE}.partition": ["split_explained_variance", "variance_partition"],
    f"{_HERE}.rdm": ["RDM_METHODS", "compute_rdm", "projected_pearson_rdm"],
    f"{_HERE}.rdm_compare": ["COMPARISONS", "compare_pairs", "compare_rdm_to_many", "compare_rdms", "upper_triangle"],
    f"{_HERE}.resampling": ["MaxNull", "NestedBest", "ResamplingPlan", "confidence_interval", "p_values"],
    f"{_HERE}.ridge": [
        "DEFAULT_ALPHAS",
        "AlphaSelection",
        "choose_alphas",
        "count_at_edges",
        "loo_predictions",
        "loo_scores",
        "ridge_coefficients",
        "ridge_weights",
        "select_alphas",
    ],
    f"{_HERE}.ridge_decomposition": ["RidgeDecomposition", "project", "ridge_decompose"],
    f"{_HERE}.ridge_gcv": ["TorchRidgeGCV"],
    f"{_HERE}.rsa": ["classical_rsa", "encoding_rsa", "projected_rsa"],
    f"{_HERE}.rsatoolbox_io": ["to_rsatoolbox"],
    f"{_HERE}.scores": [
        "compute_score",
        "concordance",
        "explained_variance",
        "get_scoring_method",
        "pearsonr",
        "r2",
        "spearmanr",
    ],
    f"{_HERE}.similarity": ["linear_cka", "procrustes_distance", "procrustes_similarity"],
    f"{_HERE}.sklearn_ridge": ["RidgeGCV"],
    f"{_HERE}.spectrum": ["effective_dimensionality", "eigenspectrum"],
    f"{_HERE}.spread": ["deflate", "over_subjects"],
    f"{_HERE}.streamed_ridge": ["kfold_ridge", "streamed_coefficients"],
    f"{_HERE}.streaming": ["RidgeStatistics", "gather_statistics"],
}
_find, _names = lazy_names(__name__, _HOMES)

__all__ = ["get_scorer", *_names]


def __getattr__(name: str) -> Any:
    return _find("get_scoring_method" if name == "get_scorer" else name)  # its older name in users' scripts


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
