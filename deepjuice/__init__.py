"""deepjuice: which layer of which network predicts which region of visual cortex?

The names below are loaded when first used, so that importing the package, and asking the command line for help, is
quick. `from deepjuice import *` gives all of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from deepjuice.lazy import lazy_names
from deepjuice.versions import __version__

_HOMES = {
    "deepjuice.alignment": ["TorchRidgeGCV", "compare_rdms", "compute_rdm", "compute_score", "get_scoring_method"],
    "deepjuice.attached": ["FittedEncoder", "attach_encoder", "fit_encoder", "gradient_map"],
    "deepjuice.benchmark": ["ScoreSettings", "get_results_max", "score_model"],
    "deepjuice.devices": ["cuda_device_report", "get_device", "get_device_id", "get_device_name"],
    "deepjuice.extraction": [
        "BatchedFeatureMaps",
        "FeatureExtractor",
        "FeatureMaps",
        "FeatureStore",
        "extract_features",
        "get_feature_map_metadata",
        "get_feature_maps",
    ],
    "deepjuice.extraction.tensor_fns": ["average_groups", "token_pooling"],
    "deepjuice.frames": ["pandas_query"],
    "deepjuice.loaders": ["get_data_loader"],
    "deepjuice.model_zoo": ["get_deepjuice_model", "get_model_options"],
    "deepjuice.reduction": [
        "TorchPCA",
        "compute_srp",
        "get_feature_map_srps",
        "jl_width",
        "make_srp_matrix",
        "pool_space",
        "pool_to_grid",
        "pool_tokens",
        "tokens_to_grid",
    ],
    "deepjuice.splits": ["CVIndexer"],
    "deepjuice.synthesis": ["drive_region"],
    "deepjuice.tensors": ["apply_tensor_op", "convert_to_tensor"],
    "tqdm.auto": ["tqdm"],
}
_ALIASES = {"np": "numpy", "pd": "pandas", "torch": "torch"}  # what notebooks expect from the star import
_find, _names = lazy_names(__name__, _HOMES)

__all__ = ["__version__", *_ALIASES, *_names]


def __getattr__(name: str) -> Any:
    return import_module(_ALIASES[name]) if name in _ALIASES else _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
