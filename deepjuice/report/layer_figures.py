"""What the layers' values are like: curves over depth beside the scores, and histograms layer by layer."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from deepjuice.report.figures import STYLE, LineStyle, panels_over_depth
from deepjuice.results import layer_table

CURVES = {
    "effective_dimensionality": "effective dimensionality",
    "dead_share": "dead features (share)",
    "treves_rolls": "Treves–Rolls (small is sparse)",
    "hoyer": "Hoyer (large is sparse)",
}
N_COLUMNS = 200  # of a histogram image, over depth
DARK = "#B2400A"


def layer_curves(ds: xr.Dataset, tidy: pd.DataFrame, metric: str, styles: dict[str, LineStyle]) -> Figure:
    """Draw over layer depth, a colour a model: the mean test score, effective dimensionality, dead share, sparsity.

    `ds` is an aggregate, `tidy` its `to_tidy`; the score is the mean over regions and subjects.
    """
    layers = layer_table(ds)
    tests = tidy[(tidy.metric == metric) & (tidy.cv_split == "test")]
    scores = tests.groupby(["model_uid", "model_layer"], as_index=False)["score"].mean()
    layers = layers.merge(scores, on=["model_uid", "model_layer"], how="left")
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_over_depth(1 + len(CURVES), share_y=False)
        columns = {"score": f"{metric} on test"} | CURVES
        for axes, (name, title) in zip(panels, columns.items(), strict=True):
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold", parse_math=False)
            for model, style in styles.items():
                rows = layers[layers.model_uid == model]
                look = {"color": style.color, "linestyle": style.dash, "linewidth": 1.4, "label": model}
                axes.plot(rows.model_layer_depth, rows[name], **look)
            axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
            axes.set_axisbelow(True)
            if name == "effective_dimensionality":
                axes.set_yscale("log")
            elif name != "score":
                axes.set_ylim(-0.03, 1.03)
    return figure


def histogram_images(ds: xr.Dataset, models: list[str]) -> Figure:
    """Draw, a panel a model, the histogram of every layer's values as a column over depth, with mean +- deviation.

    Darker is a larger share of the layer's values. The vertical axis runs over the bins, each of one height: an octave
    a bin, from negative to positive values, and what is near zero in the middle. At each depth stands the layer
    nearest to it.
    """
    edges = np.append(ds["bin_low"].values, ds["bin_high"].values[-1])
    counts = ds["activation_histogram"].values
    filled = np.flatnonzero(counts.sum(axis=0))
    shown = slice(int(filled[0]), int(filled[-1]) + 1)
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_over_depth(len(models))
        for axes, model in zip(panels, models, strict=True):
            own = ds["model_uid"].values == model
            axes.set_title(model, loc="left", fontsize=10, fontweight="bold", parse_math=False)
            _draw_layers(axes, ds.isel(layer=np.flatnonzero(own)), edges)
            axes.set_ylim(shown.start, shown.stop)
            axes.set_yticks(**_value_ticks(edges, shown))
            if axes.get_subplotspec().is_first_col():
                axes.set_ylabel("value")
    return figure


def _draw_layers(axes: Axes, layers: xr.Dataset, edges: np.ndarray) -> None:
    depth = layers["layer_depth"].values
    counts = layers["activation_histogram"].values
    places = (np.arange(N_COLUMNS) + 0.5) / N_COLUMNS
    nearest = np.abs(places[:, None] - depth).argmin(axis=1)
    image = (counts / counts.sum(axis=1, keepdims=True))[nearest].T
    # One pixel a bin: smoothed, a layer's values would run into its neighbour's.
    extent = (0, 1, 0, len(edges) - 1)
    look = {"cmap": "Blues", "norm": PowerNorm(0.5, 0, 1), "interpolation": "none", "aspect": "auto"}
    axes.imshow(image, origin="lower", extent=extent, **look)
    mean, std = layers["activation_mean"].values, layers["activation_std"].values
    for values, label in ((mean - std, "_low"), (mean + std, "_high")):
        axes.plot(depth, bin_position(values, edges), color=DARK, linewidth=0.7, label=label)
    # Dots: on an axis that is stretched around zero, a line between means of either sign would be a wall.
    axes.plot(depth, bin_position(mean, edges), ".", color=DARK, markersize=3, label="mean")


def bin_position(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return where values stand on an axis on which every bin has height 1, linear within a bin.

    >>> bin_position(np.array([0.0, 3.0, 99.0]), np.array([-np.inf, -1, 1, 5, np.inf]))
    array([1.5, 2.5, 3. ])
    """
    return np.interp(values, edges[1:-1], np.arange(1, len(edges) - 1))


def _value_ticks(edges: np.ndarray, shown: slice) -> dict[str, Any]:
    """Return ticks at every eighth finite edge from the middle and at zero, those that are shown, with their values."""
    middle = (len(edges) - 1) / 2
    inner = np.arange(1, len(edges) - 1)
    chosen = [i for i in inner if (abs(i - middle) - 0.5) % 8 == 0 and abs(i - middle) > 1]
    ticks = {float(i): f"{edges[i]:.2g}".replace("-", "−") for i in chosen} | {middle: "0"}
    ticks = {place: text for place, text in ticks.items() if shown.start <= place <= shown.stop}
    return {"ticks": list(ticks), "labels": list(ticks.values())}
