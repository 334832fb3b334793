"""Alignment of models and brains: encoding models, geometry, and how sure we are of their scores.

The names below are loaded when first used; each lives in the module that is named beside it.
"""

from __future__ import annotations

from typing import Any

from deepjuice.lazy import lazy_names

_ENCODING, _GEOMETRY, _INFERENCE = (f"{__name__}.{room}" for room in ("encoding", "geometry", "inference"))
_HOMES = {
    f"{__name__}.scores": [
        *("compute_score", "concordance", "explained_variance", "get_scoring_method", "pearsonr", "r2", "spearmanr"),
    ],
    f"{_ENCODING}.ridge_decomposition": ["RidgeDecomposition", "project", "ridge_decompose"],
    f"{_ENCODING}.ridge": [
        *("DEFAULT_ALPHAS", "AlphaSelection", "choose_alphas", "count_at_edges"),
        *("RidgeFit", "fit_ridge", "ridge_coefficients", "ridge_weights", "select_alphas"),
    ],
    f"{_ENCODING}.leave_one_out": ["loo_predictions", "loo_scores"],
    f"{_ENCODING}.ridge_gcv": ["TorchRidgeGCV"],
    f"{_ENCODING}.sklearn_ridge": ["RidgeGCV"],
    f"{_ENCODING}.crossval": ["cross_val_predict", "cross_val_score"],
    f"{_ENCODING}.streaming": ["RidgeStatistics", "gather_statistics"],
    f"{_ENCODING}.streamed_ridge": ["held_out_scores", "kfold_ridge", "streamed_coefficients"],
    f"{_ENCODING}.banded": ["BandedRidge"],
    f"{_ENCODING}.partition": ["split_explained_variance", "variance_partition"],
    f"{_ENCODING}.baselines": ["PLS", "LeastSquares"],
    f"{_GEOMETRY}.rdm": ["RDM_METHODS", "compute_rdm", "projected_pearson_rdm"],
    f"{_GEOMETRY}.rdm_compare": [
        *("COMPARISONS", "compare_pairs", "compare_rdm_to_many", "compare_rdms", "compare_vectors"),
        *("comparison_vectors", "upper_triangle"),
    ],
    f"{_GEOMETRY}.noise": ["NoiseModel", "noise_from_precision", "noise_from_residuals", "repeat_residuals"],
    f"{_GEOMETRY}.crossnobis": ["crossnobis_rdm"],
    f"{_GEOMETRY}.rsa": ["classical_rsa", "encoding_rsa", "projected_rsa"],
    f"{_GEOMETRY}.similarity": ["linear_cka", "procrustes_distance", "procrustes_similarity"],
    f"{_GEOMETRY}.spectrum": ["effective_dimensionality", "eigenspectrum"],
    f"{_GEOMETRY}.rsatoolbox_io": ["to_rsatoolbox"],
    f"{_INFERENCE}.ceilings": ["noise_ceiling_r", "rdm_ceilings", "split_half_ceiling"],
    f"{_INFERENCE}.resampling": ["MaxNull", "NestedBest", "ResamplingPlan", "confidence_interval", "p_values"],
    f"{_INFERENCE}.bootstrap": ["RESAMPLED_COMPARISONS", "EncodingResampler", "GeometryResampler"],
    f"{_INFERENCE}.spread": ["deflate", "over_subjects"],
    f"{_INFERENCE}.model_comparison": ["benjamini_hochberg", "compare_models", "paired_test"],
}
_find, _names = lazy_names(__name__, _HOMES)

__all__ = ["get_scorer", *_names]


def __getattr__(name: str) -> Any:
    return _find("get_scoring_method" if name == "get_scorer" else name)  # its older name in users' scripts


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
