"""The whole job of perf/alignment.py, from PNGs to scores: ours, and the plainest assembly of peers."""

from __future__ import annotations

import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from extraction import make_pictures
from PIL import Image
from torchvision.models.feature_extraction import create_feature_extractor

from deepjuice.alignment import (
    compare_rdm_to_many,
    compare_rdms,
    compute_rdm,
    fit_ridge,
    pearsonr,
    project,
    projected_pearson_rdm,
    ridge_decompose,
)
from deepjuice.extraction import FeatureStore, extract_features
from deepjuice.loaders import get_data_loader
from deepjuice.model_zoo import get_deepjuice_model
from deepjuice.reduction import jl_width

ALPHAS = np.logspace(-1, 5, 7)
N_REGIONS, BATCH = 4, 64


@dataclass
class Side:
    """What one side took and found."""

    seconds: dict[str, float]
    peak: float  # GB of resident memory
    scores: dict[str, np.ndarray]  # metric -> (maps, regions)


def run(n_pictures: int, n_targets: int, eps: float) -> dict[str, Side]:
    """Do the job by ours, by the peers, and by the peers with another seed of the projection."""
    with tempfile.TemporaryDirectory() as folder:
        paths = make_pictures(Path(folder))[:n_pictures]
        Y = simulate_responses(paths, n_targets)
        found = {"ours": alone(ours, paths, Y, eps, Path(folder) / "store.zarr")}
        nodes = [re.sub(r":\d+$", "", record.path) for record in FeatureStore(Path(folder) / "store.zarr").maps]
        for seed, name in enumerate(("peer", "peer, another seed")):
            found[name] = alone(peers, paths, Y, eps, nodes, seed)
    return found


def alone(work, *args: object) -> Side:
    """Run in a process of its own, whose peak memory is read at its end."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, args)


def peak() -> float:
    """Return this process's peak resident memory in GB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**20


def simulate_responses(paths: list[Path], n_targets: int) -> np.ndarray:
    """Return (pictures, targets) float32: mixtures of the colours of 4 x 4 patches, and as much noise."""
    rng = np.random.default_rng(0)
    coarse = [np.asarray(Image.open(path).resize((4, 4), Image.Resampling.BOX), dtype=float).ravel() for path in paths]
    signal = np.stack(coarse) @ rng.standard_normal((48, n_targets))
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    return (signal + rng.standard_normal(signal.shape)).astype(np.float32)


def regions(n_targets: int) -> list[slice]:
    """Cut the targets into regions of one size."""
    size = n_targets // N_REGIONS
    return [slice(k * size, (k + 1) * size) for k in range(N_REGIONS)]


class Clock:
    """Seconds by part of the job."""

    def __init__(self):
        self.start = self.last = time.perf_counter()
        self.seconds = {"all": 0.0}

    def lap(self, part: str) -> None:
        """Count what has passed since the last lap."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
        self.last, self.seconds["all"] = now, now - self.start


def ours(paths: list[Path], Y: np.ndarray, eps: float, out: Path) -> Side:
    """extract_features, then every map with the functions of deepjuice.alignment."""
    clock = Clock()
    model, preprocess = get_deepjuice_model("torchvision_alexnet_random")
    store = extract_features(
        *(model, preprocess, paths, out),
        model_uid="alexnet",
        stimulus_digest="generated",
        eps=eps,
        device="cpu",
        batch_size=BATCH,
        progress=False,
    )
    clock.lap("extract and project")
    Y, cells = torch.from_numpy(Y), regions(Y.shape[1])
    brains = torch.stack([compute_rdm(Y[:, cell]) for cell in cells])
    test_brains = torch.stack([compute_rdm(Y[1::2, cell]) for cell in cells])
    scores: dict[str, list] = {"eReg": [], "cRSA": [], "eRSA": []}
    clock.lap("RSA")
    for record in store.maps:
        X = torch.from_numpy(store[record.uid])
        decomposition = ridge_decompose(X[::2])
        fit = fit_ridge(decomposition, Y[::2], ALPHAS)
        predicted = torch.addmm(fit.mean, project(decomposition, X[1::2]), fit.weights)
        r = pearsonr(Y[1::2], predicted)
        scores["eReg"].append([r[cell].mean().item() for cell in cells])
        clock.lap("ridge")
        rdm = projected_pearson_rdm(X, store.row_means(record.uid), store.ones(record.uid))
        scores["cRSA"].append(compare_rdm_to_many(rdm, brains).tolist())
        rdms = [compute_rdm(predicted[:, cell]) for cell in cells]
        scores["eRSA"].append([compare_rdms(a, b) for a, b in zip(rdms, test_brains, strict=True)])
        clock.lap("RSA")
    return Side(clock.seconds, peak(), {metric: np.array(rows) for metric, rows in scores.items()})


def peers(paths: list[Path], Y: np.ndarray, eps: float, nodes: list[str], seed: int) -> Side:
    """torchvision's extractor, scikit-learn's projection, himalaya's faster ridge, rsatoolbox's RDMs.

    In-place ReLUs, which overwrite the maps that torchvision's extractor keeps, are switched off for it.
    """
    projection, ridge, pearson_rdm, compare = sparse_projection(eps, seed), himalaya_ridge(), *rsatoolbox()
    clock = Clock()  # imports, which take rsatoolbox seconds, are not counted
    model, preprocess = get_deepjuice_model("torchvision_alexnet_random")
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    extractor = create_feature_extractor(model, nodes)
    batches: dict[str, list[torch.Tensor]] = {node: [] for node in nodes}
    with torch.no_grad():
        for x in get_data_loader(paths, preprocess, batch_size=BATCH):
            for node, values in extractor(x).items():
                batches[node].append(values.flatten(1))
    maps = {node: torch.cat(batches.pop(node)).numpy() for node in nodes}
    clock.lap("extract")
    features = {node: projection(maps.pop(node)) for node in nodes}
    clock.lap("project")
    cells = regions(Y.shape[1])
    brains = [pearson_rdm(Y[:, cell]) for cell in cells]
    test_brains = [pearson_rdm(Y[1::2, cell]) for cell in cells]
    scores: dict[str, list] = {"eReg": [], "cRSA": [], "eRSA": []}
    clock.lap("RSA")
    for X in features.values():
        predicted = ridge(X[::2], Y[::2], X[1::2])
        scores["eReg"].append([columnwise_r(Y[1::2, cell], predicted[:, cell]).mean() for cell in cells])
        clock.lap("ridge")
        rdm = pearson_rdm(X)
        scores["cRSA"].append([compare(rdm, brain) for brain in brains])
        rdms = [pearson_rdm(predicted[:, cell]) for cell in cells]
        scores["eRSA"].append([compare(a, b) for a, b in zip(rdms, test_brains, strict=True)])
        clock.lap("RSA")
    return Side(clock.seconds, peak(), {metric: np.array(rows) for metric, rows in scores.items()})


def sparse_projection(eps: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that projects to the Johnson-Lindenstrauss width what is wider than that."""
    from sklearn.random_projection import SparseRandomProjection

    def projection(X: np.ndarray) -> np.ndarray:
        width = jl_width(len(X), eps)
        return SparseRandomProjection(width, random_state=seed).fit_transform(X) if X.shape[1] > width else X

    return projection


def himalaya_ridge() -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return a function of X, Y and X_test that predicts by z-scored features and an alpha a target of 5 folds.

    The estimator is the faster one for the shape.
    """
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV
    from sklearn.preprocessing import StandardScaler

    set_backend("torch")

    def ridge(X: np.ndarray, Y: np.ndarray, X_test: np.ndarray) -> np.ndarray:
        scaler = StandardScaler().fit(X)
        kind = KernelRidgeCV if X.shape[1] >= len(X) else RidgeCV
        X, X_test = (torch.from_numpy(scaler.transform(values)) for values in (X, X_test))
        model = kind(ALPHAS, cv=5, fit_intercept=True).fit(X, torch.from_numpy(np.ascontiguousarray(Y)))
        return model.predict(X_test).numpy()

    return ridge


def columnwise_r(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's r of every column; 0 where a prediction is constant."""
    a, b = (values - values.mean(axis=0, dtype=np.float64) for values in (a, b))
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.divide((a * b).sum(axis=0), norms, out=np.zeros_like(norms), where=norms > 0)


def rsatoolbox() -> tuple:
    """Return rsatoolbox's Pearson RDM, and its Pearson comparison, as functions."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    return (
        lambda X: calc_rdm(Dataset(X), method="correlation"),
        lambda a, b: compare(a, b, method="corr").item(),
    )
