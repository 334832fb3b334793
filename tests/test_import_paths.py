"""The names and paths that users' scripts import lead to one true home each."""

import subprocess
import sys
from importlib import import_module

import pytest

import deepjuice

# path -> true home -> names
PATHS = {
    "deepjuice.alignment": {
        "deepjuice.alignment.geometry.rdm": ["compare_rdms", "compute_rdm"],
        "deepjuice.alignment.encoding.ridge_gcv": ["TorchRidgeGCV"],
        "deepjuice.alignment.scores": ["compute_score", "get_scoring_method"],
    },
    "deepjuice.benchmark": {"deepjuice.results.tidy": ["get_results_max"]},
    "deepjuice.extraction": {
        "deepjuice.extraction.extractor": ["FeatureExtractor", "get_feature_maps"],
        "deepjuice.extraction.feature_maps": ["BatchedFeatureMaps", "FeatureMaps"],
        "deepjuice.extraction.metadata": ["get_feature_map_metadata"],
    },
    "deepjuice.model_zoo": {"deepjuice.model_zoo.registry": ["get_deepjuice_model", "get_model_options"]},
    "deepjuice.model_zoo.options": {"deepjuice.model_zoo.registry": ["get_deepjuice_model", "get_model_options"]},
    "deepjuice.procedural": {"deepjuice.frames": ["pandas_query"], "deepjuice.splits": ["CVIndexer"]},
    "deepjuice.procedural.cv_ops": {"deepjuice.splits": ["CVIndexer"]},
    "deepjuice.procedural.datasets": {"deepjuice.loaders": ["get_data_loader"]},
    "deepjuice.reduction": {
        "deepjuice.reduction.pca": ["TorchPCA"],
        "deepjuice.reduction.projection": ["jl_width"],
        "deepjuice.reduction.srp": ["compute_srp", "get_feature_map_srps", "make_srp_matrix"],
    },
    "deepjuice.structural": {"deepjuice.frames": ["flatten_nested_list"]},
    "deepjuice.systemops.devices": {
        "deepjuice.devices": ["cuda_device_report", "get_device_id", "get_device_name"],
    },
    "deepjuice.tensorops": {"deepjuice.tensors": ["apply_tensor_op", "convert_to_tensor"]},
}
CASES = [(path, home, name) for path, homes in PATHS.items() for home, names in homes.items() for name in names]

STAR = [
    "BatchedFeatureMaps",
    "CVIndexer",
    "FeatureExtractor",
    "FeatureMaps",
    "TorchPCA",
    "TorchRidgeGCV",
    "apply_tensor_op",
    "compare_rdms",
    "compute_rdm",
    "compute_score",
    "compute_srp",
    "convert_to_tensor",
    "cuda_device_report",
    "get_data_loader",
    "get_deepjuice_model",
    "get_device_id",
    "get_device_name",
    "get_feature_map_metadata",
    "get_feature_map_srps",
    "get_feature_maps",
    "get_model_options",
    "get_results_max",
    "get_scoring_method",
    "make_srp_matrix",
    "np",
    "pandas_query",
    "pd",
    "torch",
    "tqdm",
]


@pytest.mark.parametrize(("path", "home", "name"), CASES)
def test_every_path_leads_to_the_one_home(path, home, name):
    assert getattr(import_module(path), name) is getattr(import_module(home), name)
    assert name in import_module(path).__all__ or path == "deepjuice.benchmark"


def test_every_path_can_be_the_first_import():
    """A circle of imports shows only when it is entered at one place: in a process of its own, each begins anew."""
    code = """
import sys
from importlib import import_module
for path in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "deepjuice"]:
        del sys.modules[name]
    print(import_module(path).__name__)
"""
    run = subprocess.run([sys.executable, "-c", code, *PATHS], capture_output=True, text=True)
    assert (run.returncode, run.stdout.split()) == (0, list(PATHS)), run.stderr


def test_the_older_name_of_the_loader():
    datasets = import_module("deepjuice.procedural.datasets")
    assert datasets.get_image_loader is datasets.get_data_loader


def test_star_import_gives_every_name():
    names = {}
    exec("from deepjuice import *", names)
    assert [name for name in STAR if name not in names] == []
    for _, home, name in CASES:
        if name in names:
            assert names[name] is getattr(import_module(home), name)
    assert (names["np"], names["pd"], names["torch"]) == tuple(map(import_module, ("numpy", "pandas", "torch")))
    assert set(STAR) <= set(deepjuice.__all__) <= set(dir(deepjuice))


@pytest.mark.parametrize(("module", "heavy"), [("deepjuice", "torch numpy pandas tqdm"), ("deepjuice.cli", "torch")])
def test_the_package_and_its_help_come_at_once(module, heavy):
    code = f"import sys, {module}; print(*set('{heavy}'.split()) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
