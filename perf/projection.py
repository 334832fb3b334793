"""Projection against scikit-learn's, in one run: seconds to make the matrix and to project 64 rows, and the ratios.

usage: python perf/projection.py

Times are the least of many calls, so that what else the machine does counts little. A ratio says how many times faster
than scikit-learn, or than our sparse matrix.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.random_projection import SparseRandomProjection

from deepjuice.reduction import METHODS, jl_width

N_IMAGES, BATCH = 1000, 64
WIDTHS = {"AlexNet conv 1": 193_600, "EfficientNet-Lite0 expansion": 451_584}
GOALS = {("make", "sparse"): 30, ("project", "sparse"): 2.5, ("project", "signed_sums"): 25}


def seconds(work: Callable, *args: object, repeats: int) -> tuple[float, object]:
    """Return the best time of some calls, and what the last one gave."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work(*args)
        times.append(time.perf_counter() - start)
    return min(times), result


def processor() -> str:
    """Return the processor's name and number of cores."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else 'unknown processor'}"


def compare(name: str, n_features: int, width: int) -> dict[tuple[str, str], float]:
    """Print a line a step and method for maps of one width; return how many times faster than scikit-learn each is."""
    x = torch.randn(BATCH, n_features)
    reference = SparseRandomProjection(width, random_state=0)
    made, _ = seconds(reference.fit, x.numpy(), repeats=2)
    done, projected = seconds(reference.transform, x.numpy(), repeats=20)
    check_distances(x, torch.as_tensor(projected))
    times = {"make": {"scikit-learn": made}, "project": {"scikit-learn": done}}
    for method, kind in METHODS.items():
        times["make"][method], projection = seconds(kind, n_features, width, repeats=15)
        check_distances(x, projection(x))  # the first call, which also takes the working memory that is kept
        times["project"][method], _ = seconds(projection, x, repeats=60)
    read, _ = seconds(x.sum, repeats=60)
    for step, by_method in times.items():
        for method, took in by_method.items():
            ratios = f"{by_method['scikit-learn'] / took:8.2f} {by_method['sparse'] / took:8.2f}"
            print(f"{name:30} {n_features:9} {step:8} {method:13} {took * 1e3:10.2f} ms {ratios}")
    print(f"{name:30} {n_features:9} {'(sum of all values, for comparison)':22} {read * 1e3:8.2f} ms")
    return {(step, m): by["scikit-learn"] / took for step, by in times.items() for m, took in by.items()}


def check_distances(x: torch.Tensor, projected: torch.Tensor) -> None:
    """Refuse to time what does not keep distances."""
    kept = (torch.pdist(projected) / torch.pdist(x)).mean().item()
    assert abs(kept - 1) < 0.02, f"distances are not kept: {kept}"


def main() -> None:
    """Print a table, and whether the goals are met at every width."""
    k = jl_width(N_IMAGES)
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{BATCH} rows to {k} columns; times faster than scikit-learn, and than our sparse matrix\n")
    print(f"{'map':30} {'features':>9} {'':8} {'method':13} {'least time':>13} {'sklearn':>8} {'sparse':>8}")
    found = [compare(name, n_features, k) for name, n_features in WIDTHS.items()]
    print()
    for (step, method), goal in GOALS.items():
        least = min(faster[step, method] for faster in found)
        verdict = "met" if least >= goal else "MISSED"
        print(f"{step} {method}: at least {goal} times faster than scikit-learn: {least:.1f}, {verdict}")


if __name__ == "__main__":
    main()
