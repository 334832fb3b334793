"""Distortion of distances and RDMs by the two projections, on a network's maps and on made-up extreme ones.

usage: python perf/distortion.py [BENCHMARK_FOLDER] [N_SEEDS]

The pictures are the first 80 of a benchmark folder; without one, scenes are drawn. Each map is projected with several
seeds by either method to the same width k. A pair of pictures at squared distance d2, and d2' after projection, has
the error d2' / d2 - 1; a row shows the root mean square over pairs, its mean and standard deviation over seeds, the
largest error of any pair and seed, and what 1 - r between the Pearson RDMs with and without projection comes to.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deepjuice.alignment import compare_rdms, compute_rdm, projected_pearson_rdm
from deepjuice.extraction import get_feature_maps
from deepjuice.loaders import get_data_loader
from deepjuice.model_zoo import get_deepjuice_model
from deepjuice.reduction import jl_width, make_projection
from juicyfruits import Benchmark
from juicyfruits.synthetic.scenes import make_scenes

N_PICTURES, N_SEEDS = 80, 10
MEASURES = {"rms": "mean RMS", "largest": "mean largest error", "rdm_loss": "mean 1 - r of RDMs"}
WIDTHS = (jl_width(1000), 500)
MAPS = {  # by model: what the map is, and its uid
    "efficientnet_lite0_imagenet1k": {
        "stem, convolution": "Conv2dStaticSamePadding-1-1",
        "block 1, after pooling": "ReLU6-3-11",
        "block 2, expansion, ReLU6": "ReLU6-3-16",
        "block 2, sum": "MBConvBlock-2-4",
        "block 4, expansion, ReLU6": "ReLU6-3-32",
        "block 7, sum": "MBConvBlock-2-9",
        "block 11, expansion, ReLU6": "ReLU6-3-88",
        "block 12, padded by zeros": "ZeroPad2d-4-37",
        "block 12, depthwise, ReLU6": "ReLU6-3-99",
        "block 14, sum": "MBConvBlock-2-16",
        "head, ReLU6": "ReLU6-1-6",
    },
    "torchvision_alexnet_random": {
        "AlexNet (random), conv 1": "Conv2d-2-1",
        "AlexNet (random), ReLU 2": "ReLU-2-5",
        "AlexNet (random), last pool": "MaxPool2d-2-13",
    },
}
SHAPES = ((64, 56), (256, 28), (1024, 14), (1280, 7))  # channels, height = width


@dataclass(frozen=True)
class Distortion:
    """What one method does to one map, an entry a seed."""

    rms: np.ndarray
    largest: np.ndarray
    rdm_loss: np.ndarray


def measure(X: torch.Tensor, width: int, method: str, n_seeds: int) -> Distortion:
    """Project maps X (n, d) with seeds 0, 1, ... and compare distances and RDMs with those of X."""
    before, rdm, means = squared_distances(X), compute_rdm(X, "pearson"), X.mean(1)
    apart = before > 1e-6 * before.max()  # maps of two pictures that agree have no relative error
    rows = []
    for seed in range(n_seeds):
        projection = make_projection(X.shape[1], width, method, seed)
        Z, ones = projection(X), projection(torch.ones(1, X.shape[1]))[0]
        error = squared_distances(Z)[apart] / before[apart] - 1
        kept = compare_rdms(rdm, projected_pearson_rdm(Z, means, ones))
        rows.append((error.square().mean().sqrt().item(), error.abs().max().item(), 1 - kept))
    return Distortion(*np.array(rows).T)


def compare(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the ratio of the means of two methods over seeds, and their difference in standard errors."""
    error = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
    return a.mean() / b.mean(), (a.mean() - b.mean()) / error


def squared_distances(X: torch.Tensor) -> torch.Tensor:
    """Return the squared distances of all pairs of rows, float64, summed over columns a piece at a time."""
    total = torch.zeros(len(X) * (len(X) - 1) // 2, dtype=torch.float64)
    for part in X.split(50_000, dim=1):
        part = part.double()
        gram = part @ part.T
        i, j = torch.triu_indices(len(X), len(X), 1)
        total += gram.diagonal()[i] + gram.diagonal()[j] - 2 * gram[i, j]
    return total


def real_maps(folder: str | None) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the names and flattened maps of the networks."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = Benchmark(folder).image_paths[:N_PICTURES] if folder else draw_pictures(Path(scratch))
        for model_uid, chosen in MAPS.items():
            model, preprocess = get_deepjuice_model(model_uid)
            loader = get_data_loader(paths, preprocess, batch_size=16, num_workers=0)
            maps = get_feature_maps(
                model, loader, flatten=True, keep=list(chosen.values()), device="cpu", progress=False
            )
            yield from ((name, maps[uid].flatten(1)) for name, uid in chosen.items())


def draw_pictures(folder: Path) -> list[Path]:
    """Draw scenes and write them as files."""
    pictures, _ = make_scenes(N_PICTURES, 224, np.random.default_rng(0))
    paths = [folder / f"{number:03d}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def extreme_maps() -> Iterator[tuple[str, torch.Tensor]]:
    """Yield made-up maps whose energy sits in few features."""
    rng = torch.Generator().manual_seed(0)
    dense = torch.randn(N_PICTURES, 100_000, generator=rng)
    yield "5 % of all features", dense * (torch.rand(dense.shape, generator=rng) < 0.05)
    for channels, side in SHAPES:
        for what, place in (
            ("one position, all channels", (slice(None), side // 2, side // 2)),
            ("3 x 3 patch, all channels", (slice(None), slice(1, 4), slice(1, 4))),
            ("one channel", (channels // 2,)),
        ):
            X = torch.zeros(N_PICTURES, channels, side, side)
            X[:, *place] = torch.randn(X[:, *place].shape, generator=rng)
            yield f"{what} ({side} x {side})", X.flatten(1)


def report(maps: Iterator[tuple[str, torch.Tensor]], n_seeds: int) -> list[tuple[str, str, tuple[float, float]]]:
    """Print a line a map and width; return its name, what was measured, and what `compare` says of it."""
    head = f"{'signed sums':^34}   {'sparse':^34}   {'ratio':^20}"
    print(f"{'':42} {'':7} {'':5}   {head}")
    columns = f"{'RMS':>6} {'(sd)':>8} {'max':>7} {'1 - r':>10}"
    print(f"{'map':42} {'d':>7} {'k':>5}   {columns}   {columns}   {'RMS':>6} {'max':>6} {'1 - r':>6} {'z':>6}")
    found = []
    for name, X in maps:
        for width in WIDTHS:
            a, b = (measure(X, width, method, n_seeds) for method in ("signed_sums", "sparse"))
            cells = "   ".join(
                f"{m.rms.mean():6.4f} ({m.rms.std(ddof=1):6.4f}) {m.largest.max():7.3f} {m.rdm_loss.mean():10.2e}"
                for m in (a, b)
            )
            compared = [compare(getattr(a, what), getattr(b, what)) for what in MEASURES]
            shown = " ".join(f"{ratio:6.2f}" for ratio, _ in compared)
            print(f"{name:42} {X.shape[1]:7} {width:5}   {cells}   {shown} {compared[0][1]:6.1f}", flush=True)
            found += [(f"{name}, k = {width}", *pair) for pair in zip(MEASURES, compared, strict=True)]
    return found


def main(folder: str | None = None, n_seeds: str = str(N_SEEDS)) -> None:
    """Print both tables, and where signed sums are worse by more than the seeds explain."""
    print(f"{N_PICTURES} pictures of {Path(folder).name if folder else 'drawn scenes'}, {n_seeds} seeds;", end=" ")
    print("expected RMS of a dense Gaussian matrix:", end=" ")
    print(", ".join(f"{np.sqrt(2 / width):.4f} at k = {width}" for width in WIDTHS))
    print("z: difference of the two mean RMS in standard errors; above 3, signed sums are worse\n")
    found = []
    for title, maps in (("Maps of networks", real_maps(folder)), ("Energy in few features", extreme_maps())):
        print(title)
        found += report(maps, int(n_seeds))
        print()
    for what, said in MEASURES.items():
        ratios = [ratio for _, measure, (ratio, _) in found if measure == what]
        worse = [f"{name} ({ratio:.2f})" for name, measure, (ratio, z) in found if measure == what and z > 3]
        print(f"{said}, of signed sums over that of sparse: {min(ratios):.2f} to {max(ratios):.2f},", end=" ")
        print(
            f"median {np.median(ratios):.2f}; worse by more than three standard errors: {'; '.join(worse) or 'nowhere'}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
