"""The score dataset of one model: empty, and what stands beside the scores."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
import xarray as xr

from deepjuice import versions
from deepjuice.alignment import count_at_edges, noise_ceiling_r, rdm_ceilings
from deepjuice.extraction.inspection import MapRecord
from deepjuice.extraction.store import FeatureStore
from deepjuice.extraction.telemetry import N_BINS, bin_edges
from deepjuice.results import SPLITS, existing_cells
from deepjuice.results.schema import TELEMETRY
from deepjuice.scoring.brain import Brain
from deepjuice.scoring.settings import RDM_METRICS, ScoreSettings
from juicyfruits import Benchmark
from juicyfruits.files import digest

log = logging.getLogger(__name__)

CELL = ("metric", "layer", "region", "subject", "split")


def empty_table(store: FeatureStore, brain: Brain, maps: Sequence[MapRecord]) -> xr.Dataset:
    """Return the dataset of some of a store's maps, with NaN where scores go; that of none has all dims, too."""
    benchmark = brain.benchmark
    sizes = {
        "metric": list(brain.metrics),
        "layer": np.array([record.uid for record in maps], dtype=str),
        "region": benchmark.rois,
        "subject": benchmark.subjects,
        "split": list(SPLITS),
        "neuroid": benchmark.metadata.index.astype(str).tolist(),
        "component": range(min(len(benchmark.train) - 1, max(store.header.width(record) for record in store.maps))),
    }

    def empty(*dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, np.full([len(sizes[dim]) for dim in dims], np.nan, dtype=np.float32)

    last = max(record.order for record in store.header.maps)
    coords = {dim: labels for dim, labels in sizes.items() if dim not in ("neuroid", "component")}
    coords["layer_path"] = ("layer", np.array([record.path for record in maps], dtype=str))
    coords["layer_index"] = ("layer", np.array([record.order for record in maps], dtype=np.int64))
    coords["layer_depth"] = ("layer", np.array([record.order / max(last, 1) for record in maps], dtype=np.float64))
    variables = {name: empty(*CELL) for name in ("score", "ci_low", "ci_high", "p_value")}
    variables |= {name: empty("metric", "layer", "region", "split") for name in ("mean_ci_low", "mean_ci_high")}
    variables |= {name: empty("metric", "region", "subject", "split") for name in ("ceiling", "ceiling_low")}
    variables["n_features"] = ("layer", np.array([record.n_features for record in maps], dtype=np.int64))
    variables["width"] = ("layer", np.array([store.header.width(record) for record in maps], dtype=np.int64))
    variables["effective_dimensionality"] = empty("layer")
    variables |= _telemetry(store, maps)
    coords["bin_low"], coords["bin_high"] = (("bin", edges) for edges in (bin_edges()[:-1], bin_edges()[1:]))
    variables["eigenspectrum"] = empty("layer", "component")
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


def _telemetry(store: FeatureStore, maps: Sequence[MapRecord]) -> dict[str, tuple]:
    """Return what the values of some maps are like, as variables on `layer`."""
    found = [store.telemetry(record.uid)._asdict() for record in maps]
    variables = {name: ("layer", np.array([f[name] for f in found], dtype=np.float32)) for name in TELEMETRY}
    variables["n_silent"] = "layer", np.array([f["n_silent"] for f in found], dtype=np.int64)
    histograms = np.array([f["activation_histogram"] for f in found], dtype=np.int64).reshape(-1, N_BINS)
    return variables | {"activation_histogram": (("layer", "bin"), histograms)}


def add_ceilings(table: xr.Dataset, brain: Brain) -> None:
    """Fill in what a perfect model could reach, and the scores as shares of it.

    eReg: the mean of the voxels' ceilings. The others: across subjects, a region's RDM against the mean RDM of all
    (upper, `ceiling`) and of the others (`ceiling_low`).
    """
    if brain.has_responses:
        repeats = brain.benchmark.repeats()
        for split, rows in brain.rows.items():
            ceiling = noise_ceiling_r(table["ncsnr"].values, repeats[:, rows.cpu().numpy()])
            table["neuroid_ceiling"].loc[:, split] = ceiling
            if "eReg" in brain.metrics and split != "all":
                for (region, subject), index in brain.cells.items():
                    mean = ceiling[index.cpu().numpy()].mean()
                    table["ceiling"].loc["eReg", region, subject, split] = mean
    for metric in set(RDM_METRICS) & set(brain.metrics):
        for split in SPLITS:
            _add_rdm_ceilings(table, brain, metric, split)
    for name in ("ceiling", "ceiling_low"):
        table[name] = table[name].where(existing_cells(table)).transpose(*table[name].dims)
    positive = table["ceiling"].where(table["ceiling"] > 0)
    table["score_normalized"] = (table["score"] / positive).transpose(*CELL).astype(np.float32)


def _add_rdm_ceilings(table: xr.Dataset, brain: Brain, metric: str, split: str) -> None:
    of_region = np.array([region for region, _ in brain.cells])
    for region in dict.fromkeys(of_region):
        cells = np.flatnonzero(of_region == region)
        bounds = rdm_ceilings(brain.rdms[split][torch.from_numpy(cells)], brain.settings.rdm_comparison)
        subjects = [brain.benchmark.subjects[brain.subjects[cell]] for cell in cells]
        for name, bound in zip(("ceiling_low", "ceiling"), bounds, strict=True):
            table[name].loc[metric, region, subjects, split] = bound.cpu().numpy()


def warn_of_edges(table: xr.Dataset, settings: ScoreSettings) -> None:
    """Count the fits at the edges of the grid of alphas, in the attributes and in the log."""
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


def attributes(
    store: FeatureStore, benchmark: Benchmark, settings: ScoreSettings, device: torch.device, seconds: float
) -> dict[str, str | int | float]:
    """Return what the scores were computed from, with and by."""
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
