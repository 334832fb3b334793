"""A thousand models: the workflow's plan, and the aggregate and the report of their score files.

plan       what `snakemake --dry-run` takes for 10, 100 and 1,000 models, each on 8 benchmarks of one subject, and on
           one benchmark of 8 subjects; 3 metrics. The models are stubs that only have a card, NSD is an empty folder.
aggregate  what `deepjuice aggregate` and `deepjuice report` take for as many score files of 60 layers and 30,000
           voxels in 8 subjects and 20 regions, with 1,000 resamples. Scores are noise and shrink as badly as real
           ones; what stands for every voxel is constant, since nobody reads it here.

score      what `deepjuice score` takes for a layer: 1,000 pictures, 30,000 voxels in 8 subjects and 20 regions, a map
           of 5,920 columns, 1,000 resamples and shuffles; from stores of one map and of two.

Every run is a process of its own: wall time, time on the CPU (which other work on the machine hardly changes), and peak
resident memory (VmHWM). 1,000 models take 8 GB of disk.

usage: OMP_NUM_THREADS=1 python perf/scale.py [plan aggregate score] [--models 10 100 1000] [--out FILE]
(results/scale.txt is the record of whole runs; others are kept where --out says)
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import xarray as xr
import yaml
from recording import record

ROOT = Path(__file__).parents[1]
SUBJECTS = [f"subj0{i}" for i in range(1, 9)]
REGIONS = [f"region{i:02d}" for i in range(20)]
METRICS, SPLITS = ["eReg", "cRSA", "eRSA"], ["train", "test", "all"]
N_LAYERS, N_VOXELS, N_RESAMPLES, N_PICTURES = 60, 30_000, 1_000, 1_000
PLANS = {
    "8 benchmarks of one subject": {"image_set": "all"},
    "1 benchmark of 8 subjects": {"image_set": "shared1000"},
}
PLAN_LIMITS, AGGREGATE_LIMIT, REPORT_LIMIT = (60, 2.0), 4.0, 2.0  # s and GB; GB; GB


class Cost(NamedTuple):
    """Seconds by the clock and on the CPU, and peak memory in GB."""

    wall: float
    cpu: float
    peak: float

    def __str__(self) -> str:
        return f"{self.wall:8.1f} s {self.cpu:8.1f} s {self.peak:9.2f} GB"


HEAD = f"{'wall time':>10} {'CPU time':>10} {'peak memory':>12}"


def measured(work: Callable[..., object], *args: object) -> Cost:
    """Run in a fresh process, what it prints going nowhere."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, work, args).result()


def _measure(work: Callable[..., object], args: tuple) -> Cost:
    with tempfile.TemporaryFile() as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
        start, on_cpu = time.perf_counter(), time.process_time()
        work(*args)
        wall, cpu = time.perf_counter() - start, time.process_time() - on_cpu
    # ru_maxrss of a started process begins at the size of the one that started it
    return Cost(wall, cpu, int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9)


class Stubs:
    """A source of models which are known by their uids, and cannot be loaded."""

    def __init__(self, uids: list[str]) -> None:
        self.uids = uids

    def cards(self) -> Iterator:
        """Yield the cards of this source."""
        from deepjuice.model_zoo.cards import ModelCard

        about = {"source": "stub", "architecture": "stub", "weights": "random", "train_task": "none"}
        for uid in self.uids:
            yield ModelCard(uid=uid, license="none", url="", load=None, **about)


def plan(folder: Path, uids: list[str]) -> None:
    """Run `snakemake --dry-run` in a folder, on models that the registry has not."""
    from snakemake.cli import main

    from deepjuice.model_zoo import registry

    registry.SOURCES = (Stubs(uids),)
    sys.argv = ["snakemake"]
    try:
        main(["-s", str(ROOT / "workflow" / "Snakefile"), "-d", str(folder), "-n", "--configfile", "scale.yaml"])
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"snakemake ended with {end.code}") from end


def plan_rows(numbers: list[int]) -> Iterator[str]:
    """Yield the lines of the table of plans."""
    yield f"{'snakemake --dry-run':30} {'models':>7} {'score jobs':>11} {HEAD}"
    for name, choice in PLANS.items():
        for n in numbers:
            uids = [f"stub_{number:04d}" for number in range(n)]
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                write_configuration(folder, uids, choice)
                os.chdir(folder)
                cost = measured(plan, folder, uids)
                os.chdir(ROOT)
            goal = ""
            if n >= 1000:
                verdict = "met" if cost.wall < PLAN_LIMITS[0] and cost.peak < PLAN_LIMITS[1] else "MISSED"
                goal = f"  goal {PLAN_LIMITS[0]} s and {PLAN_LIMITS[1]:.0f} GB: {verdict}"
            jobs = n * (len(SUBJECTS) if choice["image_set"] == "all" else 1)
            yield f"{name:30} {n:7,} {jobs:11,} {cost}{goal}"


def write_configuration(folder: Path, uids: list[str], choice: dict[str, str]) -> None:
    """Write what a run of the workflow needs: the default, the models, and a release that is an empty folder."""
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "config" / "models.tsv").write_text("\n".join(["model_uid", *uids, ""]))
    (folder / "release").mkdir()
    nsd = {"source": "nsd", "path": str(folder / "release"), "subjects": SUBJECTS, **choice}
    (folder / "scale.yaml").write_text(yaml.safe_dump({"benchmarks": {"nsd_mini": None, "nsd": nsd}}))


def make_scores() -> xr.Dataset:
    """Return one model's score dataset of full size."""
    from deepjuice.extraction.telemetry import bin_edges
    from deepjuice.results.schema import TELEMETRY

    rng = np.random.default_rng(0)
    shape = {"metric": 3, "layer": N_LAYERS, "region": len(REGIONS), "subject": len(SUBJECTS), "split": 3}
    cell = tuple(shape)
    exists = np.ones((3, 1, 1, 1, 3), bool)
    exists[[0, 2], ..., 2] = False  # nothing is fitted on all images
    score = np.where(exists, rng.normal(0.3, 0.1, tuple(shape.values())), np.nan).astype("f4")
    p = np.full_like(score, np.nan)
    p[..., 1] = rng.integers(1, N_RESAMPLES + 2, p.shape[:-1]) / (N_RESAMPLES + 1)
    mean = score.mean(axis=3)
    ceiling = np.where(exists[:, 0], np.float32(0.8), np.nan) * np.ones((3, len(REGIONS), len(SUBJECTS), 3), "f4")
    resamples = rng.normal(0.3, 0.05, (3, len(REGIONS), len(SUBJECTS) + 1, N_RESAMPLES)).astype("f4")
    best, place = ("metric", "region", "best_of"), ("metric", "region", "subject", "split")
    n_own = N_VOXELS // len(SUBJECTS)
    variables = {
        **{"score": (cell, score), "score_normalized": (cell, score / np.float32(0.8))},
        **{"ci_low": (cell, score - rng.uniform(0.1, 0.2, score.shape).astype("f4"))},
        **{"ci_high": (cell, score + rng.uniform(0.1, 0.2, score.shape).astype("f4"))},
        **{"p_value": (cell, p), "p_max": (cell, p)},
        **{f"mean_ci_{end}": (("metric", "layer", "region", "split"), mean) for end in ("low", "high")},
        **{name: (place, ceiling.astype("f4")) for name in ("ceiling", "ceiling_low")},
        "subjects_resampled": ("region", np.ones(len(REGIONS), bool)),
        **{name: ("layer", np.full(N_LAYERS, 5920)) for name in ("n_features", "width")},
        "effective_dimensionality": ("layer", rng.uniform(1, 40, N_LAYERS).astype("f4")),
        **{name: ("layer", rng.random(N_LAYERS, "f4")) for name in TELEMETRY},
        "n_silent": ("layer", np.zeros(N_LAYERS, np.int64)),
        "activation_histogram": (("layer", "bin"), rng.multinomial(5920 * N_PICTURES, np.ones(67) / 67, N_LAYERS)),
        "eigenspectrum": (("layer", "component"), np.ones((N_LAYERS, 499), "f4")),
        **{f"best_ci_{end}": (best, resamples[..., 0]) for end in ("low", "high")},
        "best_df": (best, np.full(resamples.shape[:-1], 29, "f4")),
        "best_resamples": ((*best, "resample"), resamples),
        "encoding": (("layer", "neuroid", "split"), np.full((N_LAYERS, N_VOXELS, 3), 0.25, "f4")),
        "alpha": (("layer", "neuroid"), np.full((N_LAYERS, N_VOXELS), 10, "f4")),
        "neuroid_ceiling": (("neuroid", "split"), np.full((N_VOXELS, 3), 0.8, "f4")),
        "neuroid_in_region": (("neuroid", "region"), np.arange(N_VOXELS)[:, None] % 20 == np.arange(20)),
    }
    variables["encoding"][1][..., 2] = np.nan
    coords = {
        **{"metric": METRICS, "region": REGIONS, "subject": SUBJECTS, "split": SPLITS, "best_of": [*SUBJECTS, "mean"]},
        "layer": [f"Conv2d-3-{i}" for i in range(N_LAYERS)],
        "layer_path": ("layer", [f"features.{i // 6}.block.{i % 6}.conv" for i in range(N_LAYERS)]),
        "layer_index": ("layer", np.arange(N_LAYERS)),
        "layer_depth": ("layer", np.linspace(0, 1, N_LAYERS)),
        **{f"bin_{end}": ("bin", edges) for end, edges in (("low", bin_edges()[:-1]), ("high", bin_edges()[1:]))},
        "neuroid": [f"{subject}_{i}" for subject in SUBJECTS for i in range(n_own)],
        "neuroid_subject": ("neuroid", np.repeat(SUBJECTS, n_own)),
        "ncsnr": ("neuroid", np.full(N_VOXELS, 0.5)),
    }
    attrs = {"model_uid": "stub_0000", "benchmark": "stub", "resampling": "{}", "settings": "{}", "device": "cpu"}
    return xr.Dataset(variables, coords, attrs)


def write_models(folder: Path, n: int) -> list[Path]:
    """Write n score files: copies of the first, each with a uid and a level of its own."""
    from deepjuice.results import write_scores

    first = write_scores(make_scores(), folder / "stub_0000.nc")
    rng = np.random.default_rng(1)
    for number in range(1, n):
        path = folder / f"stub_{number:04d}.nc"
        shutil.copy(first, path)
        with h5py.File(path, "a") as file:
            file.attrs["model_uid"] = path.stem
            file["score"][...] += np.float32(rng.normal(0, 0.05))
    return [folder / f"stub_{number:04d}.nc" for number in range(n)]


def aggregate(paths: list[Path], out: Path) -> None:
    """What `deepjuice aggregate` does."""
    from deepjuice.cli import main

    _finish(main(["aggregate", str(out), *map(str, paths)]))


def report(out: Path) -> None:
    """What `deepjuice report` does."""
    from deepjuice.cli import main

    _finish(main(["report", str(out), str(out / "report.html")]))


def _finish(code: int | None) -> None:
    if code:
        raise RuntimeError(f"the command ended with {code}")


def aggregate_rows(numbers: list[int]) -> Iterator[str]:
    """Yield the lines of the table of aggregates and reports."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        paths = write_models(folder, max(numbers))
        size = paths[-1].stat().st_size / 1e6
        yield (
            f"score files of {N_LAYERS} layers, {N_VOXELS:,} voxels (constant), {len(REGIONS)} regions, "
            f"{len(SUBJECTS)} subjects, {N_RESAMPLES:,} resamples; {size:.1f} MB each"
        )
        yield f"{'':10} {'models':>7} {HEAD}   written"
        for n in numbers:
            out = folder / "out"
            for name, work, limit in (
                ("aggregate", lambda n=n, out=out: measured(aggregate, paths[:n], out), AGGREGATE_LIMIT),
                ("report", lambda out=out: measured(report, out), REPORT_LIMIT),
            ):
                before = set(out.iterdir()) if out.is_dir() else set()
                cost = work()
                made_now = sorted(set(out.iterdir()) - before)
                sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:,.1f} MB" for path in made_now)
                goal = f"  goal {limit:.0f} GB: {'met' if cost.peak < limit else 'MISSED'}" if n >= 1000 else ""
                yield f"{name:10} {n:7,} {cost}   {sizes}{goal}"
            shutil.rmtree(out)


def write_stub_benchmark(folder: Path) -> None:
    """Write a benchmark of noise: many voxels, small pictures."""
    import pandas as pd

    from juicyfruits import write_benchmark

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (N_PICTURES, 80, 80, 3), dtype=np.uint8)
    neuroids = pd.DataFrame(
        {"neuroid_id": np.arange(N_VOXELS), "subject": np.repeat(SUBJECTS, N_VOXELS // len(SUBJECTS))}
    )
    for number, region in enumerate(REGIONS):
        neuroids[f"roi_{region}"] = (np.arange(N_VOXELS) % len(REGIONS) == number).astype(int)
    neuroids["ncsnr"] = 0.5
    responses = rng.standard_normal((N_VOXELS, N_PICTURES, 1), dtype=np.float32)
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:04d}" for i in range(N_PICTURES)]})
    write_benchmark(folder, stimuli, pictures, neuroids=neuroids, responses=responses)


def extract_stub(folder: Path, n_maps: int, out: Path) -> None:
    """Extract maps that are wider than their projection."""
    import torch
    from torch import nn
    from torchvision.transforms.functional import pil_to_tensor

    from deepjuice.extraction import extract_features
    from juicyfruits import Benchmark

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(n_maps)]
    benchmark = Benchmark(folder)
    options = {"model_uid": "stub", "stimulus_digest": benchmark.stimulus_digest, "device": "cpu", "progress": False}
    to_tensor = lambda picture: pil_to_tensor(picture).float() / 255  # noqa: E731
    extract_features(nn.Sequential(*layers), to_tensor, benchmark.image_paths, out, **options)


def score(features: Path, benchmark: Path, out: Path, *options: str) -> None:
    """What `deepjuice score` does."""
    from deepjuice.cli import main

    _finish(main(["score", str(features), str(benchmark), str(out), "--device", "cpu", *options]))


def score_rows(numbers: list[int]) -> Iterator[str]:
    """Yield the lines of the table of scorings."""
    yield f"{'deepjuice score':25} {'maps':>5} {HEAD}"
    none = ("--n-bootstraps", "0", "--n-permutations", "0")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        measured(write_stub_benchmark, folder / "benchmark")
        for n_maps in (1, 2):
            store = folder / f"{n_maps}.zarr"
            measured(extract_stub, folder / "benchmark", n_maps, store)
            for name, options in (("", ()), ("no resamples or shuffles", none)):
                cost = measured(score, store, folder / "benchmark", folder / f"{n_maps}.nc", *options)
                yield f"{name:25} {n_maps:5} {cost}"


PARTS = {"plan": plan_rows, "aggregate": aggregate_rows, "score": score_rows}


def main() -> None:
    """Print and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    parser.add_argument("--models", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    whole = not args.parts and args.models == parser.get_default("models")
    out = args.out or (Path(__file__).parent / "results" / "scale.txt" if whole else Path(os.devnull))
    head = f"perf/scale.py on {date.today()}, {multiprocessing.cpu_count()} CPU cores ({platform.machine()}); no GPU"
    parts = [rows for name, rows in PARTS.items() if not args.parts or name in args.parts]
    record(chain([head], *(chain([""], rows(args.models)) for rows in parts)), out)


if __name__ == "__main__":
    main()
