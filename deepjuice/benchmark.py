"""The scoring stage: one model's feature store against one benchmark, every layer by every metric."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor
from tqdm.auto import tqdm

from deepjuice.alignment import (
    compute_rdm,
    effective_dimensionality,
    eigenspectrum,
    fit_ridge,
    loo_predictions,
    pearsonr,
    project,
    projected_pearson_rdm,
    ridge_decompose,
)
from deepjuice.alignment.inference.rdm_stack import RDMStack
from deepjuice.devices import get_device
from deepjuice.extraction.store import FeatureStore
from deepjuice.influence.neuron_sets import NeuronSets
from deepjuice.results import SPLITS, get_results_max
from deepjuice.scoring.brain import Brain
from deepjuice.scoring.join import join_parts
from deepjuice.scoring.parts import Part
from deepjuice.scoring.profiled import profiled_maps
from deepjuice.scoring.settings import DEFAULT_METRICS, METRICS, ScoreSettings
from deepjuice.scoring.table import add_ceilings, attributes, empty_table
from deepjuice.scoring.uncertainty import Uncertainty
from juicyfruits import Benchmark

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Part",
    "ScoreSettings",
    "get_results_max",
    "join_parts",
    "score_model",
    "score_part",
]


def score_model(
    store: FeatureStore,
    benchmark: Benchmark,
    settings: ScoreSettings | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    profiles: NeuronSets | None = None,
) -> xr.Dataset:
    """Score every map of a store against every region and subject of a benchmark.

    Features are z-scored by the train stimuli. eReg: ridge regression with an alpha a neuroid, chosen by exact
    leave-one-out squared error on the train stimuli; Pearson r per neuroid, of the leave-one-out predictions on train
    and of the predictions on test, averaged over the neuroids of a region. eRSA: Pearson RDMs of the same predictions
    against those of the responses. cRSA: the Pearson RDM of the row-centred map against that of the responses, on
    train, test and all stimuli. pRSA: as cRSA, of the RDM by which pictures differ in the neurons that carried the
    network's answer; NaN for maps that are no layer of a profile. A benchmark of RDMs has cRSA and pRSA only. The fits
    stay while stimuli and subjects are
    resampled for intervals, and test stimuli shuffled for p-values (docs/uncertainty.md).

    Args:
        store: features of the benchmark's stimuli.
        benchmark: responses or RDMs.
        settings: what to compute, `ScoreSettings()` by default.
        device: where the numerical work runs.
        progress: whether to show a bar.
        profiles: of the same model and stimuli, for pRSA alone (`deepjuice.influence.profile_images`).

    Returns:
        The score dataset of `docs/results-schema.md`, float32.

    Raises:
        InputError: when the store is of other stimuli, a region is unknown, or one of pRSA and profiles is missing.
    """
    return join_parts([score_part(store, benchmark, Part(), settings, device, progress, profiles)])


def score_part(
    store: FeatureStore,
    benchmark: Benchmark,
    part: Part,
    settings: ScoreSettings | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    profiles: NeuronSets | None = None,
) -> xr.Dataset:
    """Score one range of a store's maps; `join_parts` makes of all ranges what `score_model` returns, to the bit.

    Each part prepares the brain's side anew. The bits are those of one machine with one number of threads.

    Args:
        store, benchmark, settings, device, progress, profiles: as of `score_model`.
        part: which range of the maps, in the order of the computation; it may be empty.

    Returns:
        The scores of these maps, and what joining needs of them, for `write_part` or `join_parts`.

    Raises:
        InputError: as `score_model`.
    """
    settings, device = settings or ScoreSettings(), get_device(device)
    store.check_stimuli(benchmark.name, benchmark.stimulus_digest)
    start = time.perf_counter()
    profiled = profiled_maps(store, profiles, settings.metrics)
    benchmark = benchmark.subset(rois=settings.rois)
    brain = Brain(benchmark, settings, device)
    maps = store.maps[part.layers(len(store.maps))]
    scores = _Scores(brain, empty_table(store, brain, maps))
    label = "" if part.of == 1 else f" part {part}"
    bar = tqdm(maps, f"{store.header.model_uid}: scoring{label}", unit="map", disable=not progress)
    for layer, record in enumerate(bar):
        X = torch.from_numpy(store[record.uid]).to(device)
        scores.spectrum(layer, X)
        if "cRSA" in brain.metrics:
            scores.geometry(layer, projected_pearson_rdm(X, store.row_means(record.uid), store.ones(record.uid)))
        if record.uid in profiled:
            rdm = torch.from_numpy(profiles.rdm(profiled[record.uid])).to(device)
            scores.geometry(layer, rdm, "pRSA")
        if {"eReg", "eRSA"} & set(brain.metrics):
            scores.encoding(layer, X)
    scores.uncertainty.add_state()
    add_ceilings(scores.table, brain)
    scores.table.attrs.update(attributes(store, benchmark, settings, device, time.perf_counter() - start))
    scores.table.attrs["part"] = str(part)
    if profiled:
        scores.table.attrs["profiles"] = profiles.header.summary
    return scores.table


class _Scores:
    """Fills the table of one part, a layer at a time."""

    def __init__(self, brain: Brain, table: xr.Dataset):
        self.brain, self.table = brain, table
        self.uncertainty = Uncertainty(brain, table)

    def spectrum(self, layer: int, X: Tensor) -> None:
        """Write how many dimensions a map spreads over, and its eigenvalues."""
        eigenvalues = eigenspectrum(X)
        self.table["effective_dimensionality"].values[layer] = effective_dimensionality(eigenvalues)
        self.table["eigenspectrum"].values[layer, : len(eigenvalues)] = eigenvalues.cpu()

    def geometry(self, layer: int, rdm: Tensor, metric: str = "cRSA") -> None:
        """Compare an RDM of a layer, of all stimuli, with the brain's: cRSA, pRSA."""
        for split in self.brain.rows:
            self._compare(metric, layer, split, self.brain.among(rdm, split)[None])

    def encoding(self, layer: int, X: Tensor) -> None:
        """Fit once; the predictions of both splits serve eReg and eRSA of all subjects and regions."""
        brain = self.brain
        Y = brain.Y["train"]
        decomposition = ridge_decompose(X[brain.rows["train"]])
        alpha, weights, mean = fit_ridge(decomposition, Y, brain.settings.alphas)
        predictions = {
            "train": loo_predictions(decomposition, Y, alpha, weights=weights),
            "test": torch.addmm(mean, project(decomposition, X[brain.rows["test"]]), weights),
        }
        self.table["alpha"].values[layer] = alpha.cpu()
        for split, predicted in predictions.items():
            r = pearsonr(brain.Y[split], predicted)
            self.table["encoding"].values[layer, :, SPLITS.index(split)] = r.cpu()
            if "eReg" in brain.metrics:
                self._write("eReg", layer, split, [r[index].mean().item() for index in brain.cells.values()])
                self.uncertainty.encoding(layer, split, predicted)
            if "eRSA" in brain.metrics:
                rdms = [compute_rdm(predicted[:, index]) for index in brain.cells.values()]
                self._compare("eRSA", layer, split, torch.stack(rdms))

    def _compare(self, metric: str, layer: int, split: str, rdms: Tensor) -> None:
        model = RDMStack(rdms)
        self._write(metric, layer, split, self.brain.compare(split, model))
        self.uncertainty.geometry(metric, layer, split, model)

    def _write(self, metric: str, layer: int, split: str, scores: Sequence[float] | Tensor) -> None:
        self.brain.fill(self.table, "score", metric, layer, split, scores)
