"""Synthetic score datasets: seeded, small, with every case the schema knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from deepjuice.results import aggregate, write_scores

REGIONS = ("V1", "V4", "EVC", "OTC")
SUBJECTS = ("subj01", "subj02")
SPLITS = ("train", "test", "all")
METRICS = ("eReg", "cRSA", "eRSA")
CELL = ("metric", "layer", "region", "subject", "split")
N_FEATURES = 100
EDGES = np.array([-np.inf, -4, -1, 0, 1, 4, np.inf])
MEANS = ("metric", "layer", "region", "split")


def make_scores(
    model_uid: str = "net_a",
    n_layers: int = 6,
    seed: int = 0,
    regions: tuple[str, ...] = REGIONS,
    subjects: tuple[str, ...] = SUBJECTS,
    voxels_per_pair: int = 5,
    missing_pairs: tuple[tuple[str, str], ...] = (("V4", "subj02"),),
    rdm_only: bool = False,
    benchmark: str = "toy",
    amplitude: float = 0.6,
) -> xr.Dataset:
    """One model's dataset: early regions peak early, late ones late; `missing_pairs` have no voxels and no scores."""
    rng = np.random.default_rng([seed, *model_uid.encode()])  # ceilings below come from `seed` alone
    brain = np.random.default_rng(seed)
    metrics = ("cRSA",) if rdm_only else METRICS
    depth = np.linspace(0, 1, n_layers) if n_layers > 1 else np.zeros(1)
    measured = np.array([[(r, s) not in missing_pairs for s in subjects] for r in regions])
    ceiling = np.repeat(brain.uniform(0.6, 0.9, (len(metrics), len(regions), len(subjects), 1)), 3, axis=-1)
    peak = np.linspace(0.2, 0.8, len(regions))
    shape = (len(metrics), n_layers, len(regions), len(subjects), 3)
    score = amplitude * np.exp(-8 * (depth[:, None] - peak) ** 2)[None, :, :, None, None] * ceiling[:, None]
    score = score + rng.normal(0, 0.02, shape)
    exists = np.broadcast_to(measured[None, :, :, None], (len(metrics), len(regions), len(subjects), 3)).copy()
    for i, metric in enumerate(metrics):
        exists[i, ..., 2] &= metric == "cRSA"
    score = np.where(exists[:, None], score, np.nan).astype("f4")
    ceiling = np.where(exists, ceiling, np.nan).astype("f4")
    data = {
        "score": (CELL, score),
        "score_normalized": (CELL, score / ceiling[:, None]),
        "ci_low": (CELL, score - np.float32(0.1)),
        "ci_high": (CELL, score + np.float32(0.12)),
        "p_value": (CELL, np.where(np.isfinite(score), rng.uniform(0, 1, shape), np.nan).astype("f4")),
        "p_max": (CELL, np.where(np.isfinite(score), rng.uniform(0, 1, shape), np.nan).astype("f4")),
        "mean_ci_low": (MEANS, np.nanmean(np.where(exists[:, None], score, -1), axis=3) - np.float32(0.08)),
        "mean_ci_high": (MEANS, np.nanmean(np.where(exists[:, None], score, -1), axis=3) + np.float32(0.08)),
        "ceiling": (("metric", "region", "subject", "split"), ceiling),
        "ceiling_low": (("metric", "region", "subject", "split"), ceiling - np.float32(0.05)),
        "subjects_resampled": ("region", np.arange(len(regions)) == 1),
        "n_features": ("layer", N_FEATURES + np.arange(n_layers)),
        "width": ("layer", np.full(n_layers, 64)),
        "effective_dimensionality": ("layer", rng.uniform(1, 40, n_layers).astype("f4")),
        "eigenspectrum": (("layer", "component"), -np.sort(-rng.exponential(1, (n_layers, 9)), axis=1).astype("f4")),
        **_telemetry(np.random.default_rng([seed, *model_uid.encode(), 1]), n_layers),
        **_nested(rng, metrics, regions, subjects),
    }
    coords = {
        "layer": [f"Conv2d-1-{i + 1}" for i in range(n_layers)],
        "layer_path": ("layer", [f"features.{i}" for i in range(n_layers)]),
        "layer_index": ("layer", np.arange(n_layers)),
        "layer_depth": ("layer", depth),
        "metric": list(metrics),
        "region": list(regions),
        "subject": list(subjects),
        "split": list(SPLITS),
        "best_of": [*subjects, "mean"],
        "bin_low": ("bin", EDGES[:-1]),
        "bin_high": ("bin", EDGES[1:]),
    }
    if not rdm_only:
        more, more_coords = _neuroids(rng, brain, n_layers, regions, subjects, measured, voxels_per_pair)
        data |= more
        coords |= more_coords
    attrs = {
        "model_uid": model_uid,
        "benchmark": benchmark,
        "title": "A toy <brain> & nothing more",
        "deepjuice_version": "0.1.0",
        "seed": seed,
        "device": "cpu",
        "config_digest": "0123456789abcdef",
        "wall_time_score": float(n_layers) / 3,
        "resampling": "{}",
    }
    return xr.Dataset(data, coords, attrs)


def _telemetry(rng, n_layers):
    """What normal values of 20 stimuli are like; a tenth of the features are dead."""
    histogram = np.stack(
        [np.histogram(rng.normal(0.5, 1 + i, 20 * (N_FEATURES + i)), EDGES)[0] for i in range(n_layers)]
    )
    shares = {name: rng.uniform(0.1, 0.6, n_layers) for name in ("dead_share", "treves_rolls", "hoyer")}
    values = {"activation_mean": np.full(n_layers, 0.5), "activation_std": 1.0 + np.arange(n_layers), **shares}
    return {
        **{name: ("layer", value.astype("f4")) for name, value in values.items()},
        "n_silent": ("layer", np.arange(n_layers) % 2),
        "activation_histogram": (("layer", "bin"), histogram.astype(np.int64)),
    }


def _nested(rng, metrics, regions, subjects):
    """Test scores of the best layer in forty resamples, with the ends of their intervals."""
    resamples = rng.normal(0.4, 0.1, (len(metrics), len(regions), len(subjects) + 1, 40)).astype("f4")
    low, high = np.quantile(resamples, (0.025, 0.975), axis=-1).astype("f4")
    dims = ("metric", "region", "best_of")
    return {
        "best_resamples": ((*dims, "resample"), resamples),
        "best_ci_low": (dims, low),
        "best_ci_high": (dims, high),
        "best_df": (dims, np.full(low.shape, 29.0, "f4")),
    }


def _neuroids(rng, brain, n_layers, regions, subjects, measured, per_pair):
    region_of, subject_of = [], []
    for (r, s), there in np.ndenumerate(measured):
        region_of += [r] * per_pair * int(there)
        subject_of += [s] * per_pair * int(there)
    n = len(region_of)
    encoding = rng.uniform(-0.2, 0.8, (n_layers, n, 3)).astype("f4")
    encoding[..., 2] = np.nan
    data = {
        "encoding": (("layer", "neuroid", "split"), encoding),
        "alpha": (("layer", "neuroid"), rng.choice([1.0, 10.0, 100.0], (n_layers, n)).astype("f4")),
        "neuroid_ceiling": (("neuroid", "split"), brain.uniform(0.5, 0.9, (n, 3)).astype("f4")),
        "neuroid_in_region": (("neuroid", "region"), np.eye(len(regions), dtype=bool)[region_of]),
    }
    coords = {
        "neuroid": [f"{subjects[s]}_{i}" for i, s in enumerate(subject_of)],
        "neuroid_subject": ("neuroid", [subjects[s] for s in subject_of]),
        "ncsnr": ("neuroid", brain.uniform(0.2, 1.5, n).astype("f4")),
        "voxel_x": ("neuroid", brain.integers(0, 80, n)),
    }
    return data, coords


@pytest.fixture
def make():
    """The maker itself: `make(model_uid, n_layers, ...)`."""
    return make_scores


def toy_models() -> list[xr.Dataset]:
    return [make_scores(uid, n) for uid, n in (("net_a", 6), ("net_b", 9), ("net_a_random", 6))]


def rdm_models() -> list[xr.Dataset]:
    """Two networks on RDMs only; one pair without a ceiling, which is undefined in the first network."""
    made = [make_scores(uid, n, rdm_only=True, benchmark="rdms", missing_pairs=()) for uid, n in (("a", 5), ("b", 7))]
    pair = {"region": "V4", "subject": "subj01"}
    for ds in made:
        ds["ceiling"].loc[pair] = np.nan
        ds["ceiling_low"].loc[pair] = np.nan
        ds["score_normalized"].loc[pair] = np.nan
    for name in ("score", "ci_low", "ci_high", "p_value", "p_max"):
        made[0][name].loc[pair] = np.nan
    return made


def build(datasets: list[xr.Dataset], results: Path) -> dict[str, Path]:
    """Write the models' files and their aggregate under `results`/{benchmark}."""
    folder = results / datasets[0].attrs["benchmark"]
    return aggregate([write_scores(ds, folder / "scores" / f"{ds.attrs['model_uid']}.nc") for ds in datasets], folder)


@pytest.fixture(name="build")
def build_fixture():
    return build


@pytest.fixture
def models() -> list[xr.Dataset]:
    """Three networks with different numbers of layers on one brain."""
    return toy_models()


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """A results folder with two aggregated benchmarks, toy (of `models`) and rdms; only to be read."""
    folder = tmp_path_factory.mktemp("results")
    build(toy_models(), folder)
    build(rdm_models(), folder)
    return folder
