"""The scoring stage: one model's feature store against one benchmark, every layer by every metric."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from deepjuice import versions
from deepjuice.alignment import (
    COMPARISONS,
    DEFAULT_ALPHAS,
    compare_pairs,
    compute_rdm,
    count_at_edges,
    loo_predictions,
    noise_ceiling_r,
    pearsonr,
    project,
    projected_pearson_rdm,
    ridge_decompose,
    ridge_weights,
    select_alphas,
    upper_triangle,
)
from deepjuice.devices import get_device
from deepjuice.extraction.store import FeatureStore
from deepjuice.results import SPLITS, get_results_max
from juicyfruits import Benchmark
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import digest

__all__ = ["METRICS", "ScoreSettings", "get_results_max", "score_model"]

METRICS = ("eReg", "cRSA", "eRSA")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreSettings:
    """What is computed.

    Attributes:
        metrics: `eReg` (encoding by ridge regression), `cRSA` (classical RSA), `eRSA` (RSA of the predicted responses).
        alphas: grid of ridge penalties, for z-scored features.
        rois: regions to score; all of the benchmark's by default.
        rdm_comparison: `pearson` or `spearman` between the pairs of two RDMs.
    """

    metrics: tuple[str, ...] = METRICS
    alphas: tuple[float, ...] = DEFAULT_ALPHAS
    rois: tuple[str, ...] | None = None
    rdm_comparison: str = "pearson"

    def __post_init__(self) -> None:
        for metric in self.metrics:
            if metric not in METRICS:
                raise InputError(f"metric {metric!r} is unknown; {near_names(metric, METRICS)}")
        if self.rdm_comparison not in COMPARISONS:
            hint = near_names(self.rdm_comparison, COMPARISONS)
            raise InputError(f"RDM comparison {self.rdm_comparison!r} is unknown; {hint}")
        if not self.alphas or not all(0 < alpha < float("inf") for alpha in self.alphas):
            raise InputError(f"alphas {self.alphas}: expected positive numbers; leave them out for the default grid.")
        for name in ("metrics", "alphas", "rois"):
            values = getattr(self, name) or ()
            if len(set(values)) < len(values):
                raise InputError(f"{name} {values}: expected every one once; leave out the repeated.")


def score_model(
    store: FeatureStore,
    benchmark: Benchmark,
    settings: ScoreSettings | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> xr.Dataset:
    """Score every map of a store against every region and subject of a benchmark.

    Features are z-scored by the train stimuli. eReg: ridge regression with an alpha a neuroid, chosen by exact
    leave-one-out squared error on the train stimuli; Pearson r per neuroid, of the leave-one-out predictions on train
    and of the predictions on test, averaged over the neuroids of a region. eRSA: Pearson RDMs of the same predictions
    against those of the responses. cRSA: the Pearson RDM of the row-centred map against that of the responses, on
    train, test and all stimuli. A benchmark of RDMs has cRSA only.

    Args:
        store: features of the benchmark's stimuli.
        benchmark: responses or RDMs.
        settings: what to compute, `ScoreSettings()` by default.
        device: where the numerical work runs.
        progress: whether to show a bar.

    Returns:
        The score dataset of `docs/results-schema.md`, float32.

    Raises:
        InputError: when the store is of other stimuli, or a region is unknown.
    """
    settings, device = settings or ScoreSettings(), get_device(device)
    if store.header.stimulus_digest != benchmark.stimulus_digest:
        raise InputError(
            f"feature store {store.path}: expected features of the stimuli of {benchmark.name!r} "
            f"({benchmark.stimulus_digest}), got others ({store.header.stimulus_digest}); extract again."
        )
    start = time.perf_counter()
    benchmark = benchmark.select(rois=settings.rois)
    brain = _Brain(benchmark, settings, device)
    table = _empty_table(store, brain)
    bar = tqdm(store.maps, f"{store.header.model_uid}: scoring", unit="map", disable=not progress)
    for layer, record in enumerate(bar):
        X = torch.from_numpy(store[record.uid]).to(device)
        if "cRSA" in brain.metrics:
            rdm = projected_pearson_rdm(X, store.row_means(record.uid), store.ones(record.uid))
            _score_geometry(table, brain, layer, rdm)
        if {"eReg", "eRSA"} & set(brain.metrics):
            _score_encoding(table, brain, layer, X)
    _add_ceilings(table, brain)
    _warn_of_edges(table, settings)
    table.attrs.update(_attributes(store, benchmark, settings, device, time.perf_counter() - start))
    return table


class _Brain:
    """The benchmark's side of every comparison, made once: responses and RDMs by cell (region, subject) and split."""

    def __init__(self, benchmark: Benchmark, settings: ScoreSettings, device: torch.device):
        self.benchmark, self.settings = benchmark, settings
        self.has_responses = benchmark.kind == "responses"
        self.metrics = [m for m in settings.metrics if self.has_responses or m == "cRSA"]
        if not self.metrics:
            raise InputError(f"benchmark {benchmark.name!r} holds RDMs only: the one metric for it is cRSA, add it.")
        rows = {"train": np.flatnonzero(benchmark.train), "test": np.flatnonzero(benchmark.test)}
        rows["all"] = np.arange(len(benchmark.train))
        self.rows = {split: torch.from_numpy(index).to(device) for split, index in rows.items()}
        if self.has_responses:
            benchmark.check_varies()
            Y = torch.tensor(benchmark.response_data.to_numpy().T, device=device)
            self.Y = {split: Y[self.rows[split]] for split in ("train", "test")}
            self.cells = {
                (roi, subject): torch.from_numpy(index).to(device)
                for roi, by_subject in benchmark.get_roi_indices().items()
                for subject, index in by_subject.items()
            }
            rdms = [compute_rdm(Y[:, index]) for index in self.cells.values()]
        else:
            self.cells = {(roi, subject): None for roi in benchmark.rdms for subject in benchmark.rdms[roi]}
            rdms = [torch.from_numpy(benchmark.rdms[roi][subject]).to(device) for roi, subject in self.cells]
        self.pairs = {split: self.among(torch.stack(rdms), split) for split in self.rows}
        self._regions = [benchmark.rois.index(region) for region, _ in self.cells]
        self._subjects = [benchmark.subjects.index(subject) for _, subject in self.cells]

    def among(self, rdm: Tensor, split: str) -> Tensor:
        """Return the pairs of a split's stimuli in an RDM (n, n) or a stack (k, n, n)."""
        rows = self.rows[split]
        return upper_triangle(rdm[..., rows, :][..., rows])

    def fill(self, table: xr.Dataset, metric: str, layer: int, split: str, scores: Sequence[float]) -> None:
        """Write one score a cell into a table; positions are much faster than labels here."""
        if metric in self.metrics:
            place = (self.metrics.index(metric), layer, self._regions, self._subjects, SPLITS.index(split))
            table["score"].values[place] = scores


def _score_geometry(table: xr.Dataset, brain: _Brain, layer: int, rdm: Tensor) -> None:
    for split in brain.rows:
        scores = compare_pairs(brain.among(rdm, split)[None], brain.pairs[split], brain.settings.rdm_comparison)
        brain.fill(table, "cRSA", layer, split, scores.tolist())


def _score_encoding(table: xr.Dataset, brain: _Brain, layer: int, X: Tensor) -> None:
    """Fit once; the predictions of both splits serve eReg and eRSA of all subjects and regions."""
    Y = brain.Y["train"]
    decomposition = ridge_decompose(X[brain.rows["train"]])
    alpha = select_alphas(decomposition, Y, brain.settings.alphas).alpha
    weights, mean = ridge_weights(decomposition, Y, alpha)
    predictions = {
        "train": loo_predictions(decomposition, Y, alpha),
        "test": mean + project(decomposition, X[brain.rows["test"]]) @ weights,
    }
    table["alpha"].values[layer] = alpha.cpu()
    for split, predicted in predictions.items():
        r = pearsonr(brain.Y[split], predicted)
        table["encoding"].values[layer, :, SPLITS.index(split)] = r.cpu()
        brain.fill(table, "eReg", layer, split, [r[index].mean().item() for index in brain.cells.values()])
        if "eRSA" in brain.metrics:
            rdms = torch.stack([compute_rdm(predicted[:, index]) for index in brain.cells.values()])
            scores = compare_pairs(upper_triangle(rdms), brain.pairs[split], brain.settings.rdm_comparison)
            brain.fill(table, "eRSA", layer, split, scores.tolist())


def _empty_table(store: FeatureStore, brain: _Brain) -> xr.Dataset:
    """Return the whole dataset with NaN where scores go."""
    maps, benchmark = store.maps, brain.benchmark
    sizes = {
        "metric": list(brain.metrics),
        "layer": [record.uid for record in maps],
        "region": benchmark.rois,
        "subject": benchmark.subjects,
        "split": list(SPLITS),
        "neuroid": benchmark.metadata.index.astype(str).tolist(),
    }

    def empty(*dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, np.full([len(sizes[dim]) for dim in dims], np.nan, dtype=np.float32)

    last = max(record.order for record in store.header.maps)
    coords = {dim: labels for dim, labels in sizes.items() if dim != "neuroid"}
    coords["layer_path"] = ("layer", [record.path for record in maps])
    coords["layer_index"] = ("layer", [record.order for record in maps])
    coords["layer_depth"] = ("layer", [record.order / max(last, 1) for record in maps])
    variables = {
        name: empty("metric", "layer", "region", "subject", "split") for name in ("score", "ci_low", "ci_high")
    }
    variables["ceiling"] = empty("metric", "region", "subject", "split")
    variables["n_features"] = ("layer", np.array([record.n_features for record in maps], dtype=np.int64))
    variables["width"] = ("layer", np.array([store.header.width(record) for record in maps], dtype=np.int64))
    if brain.has_responses:
        metadata = benchmark.metadata
        coords["neuroid"] = sizes["neuroid"]
        coords["neuroid_subject"] = ("neuroid", metadata["subject"].astype(str).tolist())
        coords["ncsnr"] = ("neuroid", metadata["ncsnr"].to_numpy(dtype=np.float64))
        for axis in ("voxel_x", "voxel_y", "voxel_z"):
            if axis in metadata:
                coords[axis] = ("neuroid", metadata[axis].to_numpy())
        variables["encoding"] = empty("layer", "neuroid", "split")
        variables["alpha"] = empty("layer", "neuroid")
        variables["neuroid_in_region"] = (("neuroid", "region"), metadata[benchmark.rois].to_numpy(dtype=bool))
        variables["neuroid_ceiling"] = empty("neuroid", "split")
    return xr.Dataset(variables, coords)


def _add_ceilings(table: xr.Dataset, brain: _Brain) -> None:
    """Fill in the voxels' ceilings and, for eReg, their means over regions; scores are normalised by the latter."""
    if brain.has_responses:
        repeats = brain.benchmark.repeats()
        for split, rows in brain.rows.items():
            ceiling = noise_ceiling_r(table["ncsnr"].values, repeats[:, rows.cpu().numpy()])
            table["neuroid_ceiling"].loc[:, split] = ceiling
            if "eReg" in brain.metrics and split != "all":
                for (region, subject), index in brain.cells.items():
                    mean = ceiling[index.cpu().numpy()].mean()
                    table["ceiling"].loc["eReg", region, subject, split] = mean
    positive = table["ceiling"].where(table["ceiling"] > 0)
    table["score_normalized"] = (table["score"] / positive).transpose(*table["score"].dims).astype(np.float32)


def _warn_of_edges(table: xr.Dataset, settings: ScoreSettings) -> None:
    if "alpha" not in table:
        return
    lowest, highest = count_at_edges(torch.from_numpy(table["alpha"].values), settings.alphas)
    total = table["alpha"].size
    table.attrs.update(alphas_at_lowest=lowest / total, alphas_at_highest=highest / total)
    if lowest or highest:
        log.warning(
            "of %d fits (layers x neuroids) %d (%.1f %%) chose the lowest alpha, %g, and %d (%.1f %%) the highest, %g; "
            "neuroids without signal belong at the highest, those best predicted without a penalty at the lowest; "
            "if the grid is your own, see that a wider one (alphas) leaves fewer there",
            *(total, lowest, 100 * lowest / total, min(settings.alphas)),
            *(highest, 100 * highest / total, max(settings.alphas)),
        )


def _attributes(
    store: FeatureStore, benchmark: Benchmark, settings: ScoreSettings, device: torch.device, seconds: float
) -> dict[str, str | int | float]:
    header = store.header
    return {
        "model_uid": header.model_uid,
        "benchmark": benchmark.name,
        "title": str(benchmark.info.get("title", benchmark.name)),
        "deepjuice_version": versions.__version__,
        "torch_version": str(torch.__version__),
        "stage_extract": header.stage_version,
        "stage_score": versions.SCORE,
        "seed": header.reduction["seed"],
        "reduction": json.dumps(header.reduction),
        "preprocessing": header.preprocessing,
        "weights_digest": header.weights_digest,
        "features_digest": store.digest,
        "benchmark_digest": benchmark.digest,
        "settings": json.dumps(asdict(settings)),
        "config_digest": digest(json.dumps(asdict(settings), sort_keys=True)),
        "device": str(device),
        "wall_time_score_s": round(seconds, 2),
    }
