"""Pictures of a benchmark at a glance."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, sqrt
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from juicyfruits.choosing import stimulus_row
from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from juicyfruits.benchmark import Benchmark

SIDE = 1.6  # inches a picture


def plot_stimuli(benchmark: Benchmark, indices: Iterable[int | str] | None = None, n: int = 12) -> Figure:
    """Return a grid of pictures, each under its stimulus_id: the given ones, or `n` spread evenly over all.

    The figure belongs to no window, so nothing has to be closed; `figure.savefig("stimuli.png")` keeps it, and a
    notebook shows it.
    """
    ids = list(benchmark.stimulus_data["stimulus_id"])
    if not isinstance(n, Integral) or n < 1:
        raise InputError(f"n must be a whole number of pictures, 1 or more, but is {n!r}")
    if isinstance(indices, str) or not isinstance(indices, Iterable | None):
        raise InputError(
            f"indices must be a list of row numbers or stimulus_ids, but is {indices!r}; put it into a list, or give n"
        )
    if indices is None:
        indices = np.unique(np.linspace(0, len(ids) - 1, min(n, len(ids))).round().astype(int)).tolist()
    rows = [stimulus_row(benchmark, index) for index in indices]
    if not rows:
        raise InputError("no stimuli to plot; give at least one index")
    n_columns = ceil(sqrt(len(rows)))
    n_lines = ceil(len(rows) / n_columns)
    figure = Figure(figsize=(SIDE * n_columns, SIDE * n_lines), layout="constrained")
    axes = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for ax, row in zip(axes, rows, strict=False):
        ax.imshow(benchmark.get_stimulus(row))
        ax.set_title(ids[row], fontsize=7)
    for ax in axes:
        ax.set_axis_off()
    return figure
