"""Projection against scikit-learn's, in one run: seconds to make the matrix and to project 64 rows, and the ratios.

usage: python perf/projection.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from sklearn.random_projection import SparseRandomProjection

from deepjuice.reduction import SparseProjection, jl_width

N_IMAGES, BATCH = 1000, 64
WIDTHS = {"AlexNet conv 1": 193_600, "EfficientNet-Lite0 expansion": 451_584}


def seconds(work: Callable, *args: object, repeats: int = 1) -> tuple[float, object]:
    """Return the best time of some calls, and what the last one gave."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work(*args)
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    """Print a table, a line a width of map."""
    k = jl_width(N_IMAGES)
    print(f"{BATCH} rows to {k} columns, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(f"{'map':30} {'features':>9} {'':8} {'scikit-learn':>13} {'deepjuice':>10} {'ratio':>6}")
    for name, n_features in WIDTHS.items():
        x = torch.randn(BATCH, n_features)
        theirs = SparseRandomProjection(k, random_state=0)
        made_theirs, _ = seconds(theirs.fit, x.numpy())
        made_ours, ours = seconds(SparseProjection, n_features, k, repeats=3)
        ours(x)  # the working memory is kept between batches
        done_theirs, a = seconds(theirs.transform, x.numpy(), repeats=5)
        done_ours, b = seconds(ours, x, repeats=5)
        kept = [(torch.pdist(torch.as_tensor(y)) / torch.pdist(x)).mean().item() for y in (a, b)]
        assert all(abs(ratio - 1) < 0.02 for ratio in kept), f"distances are not kept: {kept}"
        for what, t, o in (("make", made_theirs, made_ours), ("project", done_theirs, done_ours)):
            print(f"{name:30} {n_features:9} {what:8} {t:11.3f} s {o:8.3f} s {t / o:6.1f}")


if __name__ == "__main__":
    main()
