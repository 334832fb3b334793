"""Feature extraction against the bare forward pass, in one run: seconds, ratios, and peak resident memory.

Three networks with random weights over generated 425 px PNGs, the same loader for all. "listen" hears every map and
takes its moments; "project" is `extract_features`: every distinct map projected to the Johnson-Lindenstrauss width of
1,000 pictures and written to a store. "keep" keeps every leaf's map whole and joins the batches, against torchvision's
`create_feature_extractor` with `torch.cat`, on fewer pictures where all of them would not fit in memory.

usage: python perf/extraction.py [--networks alexnet resnet50 vit_b_16] [--rounds 3] [--device cpu] [--out FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from deepjuice.extraction import extract_features, get_feature_maps
from deepjuice.extraction.inputs import Inputs
from deepjuice.extraction.moments import Moments
from deepjuice.extraction.passes import run_pass
from deepjuice.loaders import get_data_loader
from deepjuice.model_zoo import get_deepjuice_model
from deepjuice.reduction import jl_width

N_PICTURES, PIXELS, BATCH = 320, 425, 64
WIDTH = jl_width(1000)
KEPT = {"alexnet": (320, 64), "resnet50": (80, 16), "vit_b_16": (80, 16)}  # pictures and batch whose maps fit twice
LIMITS = {"listen": 1.15, "project": 1.35, "keep": 1.0}


def make_pictures(folder: Path) -> list[Path]:
    """Write smooth random colour pictures: they compress about as photographs do."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:03d}.png" for i in range(N_PICTURES)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (27, 27, 3), dtype=np.uint8))
        coarse.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC).save(path)
    return paths


def eps_of(width: int, n: int) -> float:
    """Return an eps for which n pictures are projected to this width."""
    low, high = 0.01, 0.5
    while jl_width(n, (low + high) / 2) != width:
        middle = (low + high) / 2
        low, high = (middle, high) if jl_width(n, middle) > width else (low, middle)
    return (low + high) / 2


class Contest:
    """One network, one loader, and the ways to run it that are compared."""

    def __init__(self, name: str, paths: list[Path], device: str):
        self.name, self.paths, self.device = name, paths, torch.device(device)
        model, self.preprocess = get_deepjuice_model(f"torchvision_{name}_random")
        self.model = model.to(self.device)

    def loader(self, n: int = N_PICTURES, batch_size: int = BATCH) -> torch.utils.data.DataLoader:
        """Return the loader that all use."""
        return get_data_loader(self.paths[:n], self.preprocess, batch_size=batch_size)

    def forward(self) -> None:
        """The forward pass alone."""
        with torch.no_grad():
            for x in self.loader():
                y = self.model(x.to(self.device))
        y.sum().item()  # on a GPU: wait for the end

    def listen(self) -> None:
        """All maps listened to and their moments taken."""
        moments = Moments(N_PICTURES)
        run_pass(self.model, Inputs.of(self.loader()), moments, self.device)
        assert np.isfinite(moments.table()["std"]).all()

    def project(self) -> None:
        """All distinct maps projected, one pass, written to a store; the look at the network beforehand included."""
        with tempfile.TemporaryDirectory() as folder:
            extract_features(
                *(self.model, self.preprocess, self.paths, Path(folder) / "store.zarr"),
                model_uid=self.name,
                stimulus_digest="generated",
                eps=eps_of(WIDTH, N_PICTURES),
                device=self.device,
                batch_size=BATCH,
                progress=False,
            )

    def leaves(self) -> list[str]:
        """Return torchvision's names of the calls of leaf modules: a further call has a number appended."""
        paths = {path for path, module in self.model.named_modules() if not list(module.children())}
        return [
            node for node in get_graph_node_names(self.model)[1] if re.sub(r"_\d+$", "", node) in paths or node in paths
        ]

    def keep(self) -> None:
        """The maps of all calls of leaf modules kept and joined."""
        n, batch_size = KEPT[self.name]
        nodes = self.leaves()
        paths = {node if node in dict(self.model.named_modules()) else re.sub(r"_\d+$", "", node) for node in nodes}
        options = {"keep": sorted(paths), "remove_duplicates": False, "progress": False}
        maps = get_feature_maps(self.model, self.loader(n, batch_size), self.device, **options)
        assert {len(tensor) for tensor in maps.values()} == {n} and len(maps) == len(nodes)

    def torchvision(self) -> None:
        """The same maps from torchvision's extractor, batch after batch, and torch.cat."""
        n, batch_size = KEPT[self.name]
        extractor = create_feature_extractor(self.model, self.leaves())
        batches: dict[str, list[torch.Tensor]] = {}
        with torch.no_grad():
            for x in self.loader(n, batch_size):
                for path, tensor in extractor(x.to(self.device)).items():
                    batches.setdefault(path, []).append(tensor.cpu())
        joined = {path: torch.cat(batches.pop(path)) for path in list(batches)}
        assert {len(tensor) for tensor in joined.values()} == {n}


def seconds(work: Callable[[], None]) -> float:
    """Return how long some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def contest(name: str, paths: list[Path], device: str, rounds: int) -> dict[str, float]:
    """Run all ways in turn, several times, and return the best time of each."""
    runner = Contest(name, paths, device)
    ways = ("forward", "listen", "project", "keep", "torchvision")
    runner.forward() if name == "alexnet" or device != "cpu" else None  # a cold start would count against the first
    times = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            times[way].append(seconds(getattr(runner, way)))
    return {way: min(found) for way, found in times.items()}


def peak_of_projecting(name: str, paths: list[Path], device: str) -> float:
    """Return the peak resident memory, in GB, of a process that only projects."""
    Contest(name, paths, device).project()
    # ru_maxrss of a started process begins at the size of the one that started it
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**20


def alone(work: Callable, *args: object) -> object:
    """Run in a process of its own, so that one network's memory does not count for another."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, args)


def main() -> None:
    """Print a table, a line a network, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(KEPT))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "extraction.txt")
    args = parser.parse_args()
    named = torch.cuda.get_device_name() if args.device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"
    goals = ", ".join(f"{way} at most {limit}" for way, limit in LIMITS.items())
    goals = f"Goals: {goals}; peak memory at most 3 GB. Ratios to the forward pass; keep's to torchvision."
    lines = [
        f"{N_PICTURES} PNGs of {PIXELS} px, batch {BATCH}, projected to {WIDTH}; {named}, torch {torch.__version__}; "
        f"best of {args.rounds}",
        "",
        f"{'':10} {'forward':>9} {'listen':>16} {'project':>16} {'peak memory':>12} | {'torchvision':>11} {'keep':>16}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = make_pictures(Path(folder))
        for name in args.networks:
            s = alone(contest, name, paths, args.device, args.rounds)
            peak = alone(peak_of_projecting, name, paths, args.device)
            ratio = {
                "listen": s["listen"] / s["forward"],
                "project": s["project"] / s["forward"],
                "keep": s["keep"] / s["torchvision"],
            }
            shown = {way: f"{s[way]:7.2f} s {ratio[way]:5.2f} x" for way in ratio}
            lines.append(
                f"{name:10} {s['forward']:7.2f} s {shown['listen']} {shown['project']} {peak:9.2f} GB | "
                f"{s['torchvision']:9.2f} s {shown['keep']}"
            )
            print("\n".join(lines[-1:] if name != args.networks[0] else lines), flush=True)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text("\n".join([*lines, "", goals]) + "\n")


if __name__ == "__main__":
    main()
