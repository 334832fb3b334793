"""Depth curves: how a score rises and falls from the first layer of a network to the last, region by region."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from deepjuice.results import MEAN, best_layers, mean_over_subjects
from juicyfruits.errors import InputError, near_names

# Okabe and Ito's colours for all kinds of colour vision, without the yellow that white paper swallows.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (1, 1)))  # dots once the colours are used up; plain dashes are the ceiling's
GREY = "#6b6b6b"
MAX_SUBJECT_LINES = 4  # with more subjects a band from the lowest to the highest is easier to read
MAX_COLUMNS = 4
PAGE_INCHES = 10.2  # of panels side by side
MAX_PANEL_INCHES = 3.4
Y_LABELS = {"eReg": "mean r of voxels", **dict.fromkeys(("cRSA", "eRSA", "pRSA"), "correlation of RDMs")}
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and drawn in the page's font
    "svg.hashsalt": "deepjuice",  # the same numbers give the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
}


class LineStyle(NamedTuple):
    """How one model is drawn in every figure of a page."""

    color: str
    dash: str | tuple


def model_styles(models: Sequence[str]) -> dict[str, LineStyle]:
    """Give each model a colour, and beyond seven models dots too, in the order given; the fifteenth begins anew.

    >>> model_styles(["alexnet", "vgg16"])["vgg16"].color
    '#D55E00'
    """
    rounds = (divmod(i, len(PALETTE)) for i in range(len(models)))
    return {m: LineStyle(PALETTE[i], DASHES[k % len(DASHES)]) for m, (k, i) in zip(models, rounds, strict=True)}


def depth_curves(
    tidy: pd.DataFrame,
    metric: str,
    split: str = "test",
    styles: dict[str, LineStyle] | None = None,
    best: pd.DataFrame | None = None,
) -> Figure:
    """Draw `metric` over layer depth, a panel a region and a colour a model.

    The thick line is the mean over subjects, thin lines the subjects (a band from the lowest to the highest where
    there are more than four); the dot is the layer with the best mean train score; the dashed grey line is the mean
    noise ceiling of the split, where one is known. Panels share both axes. An undefined score (NaN) is a gap.

    `tidy` has the columns of `deepjuice.results.TIDY_COLUMNS`. Raises InputError if it holds no row of the metric.
    """
    table = tidy[tidy.metric == metric]
    if table.empty:
        raise InputError(f"The table has no scores of metric {metric!r}; {near_names(metric, tidy.metric.unique())}")
    styles = styles or model_styles(list(dict.fromkeys(tidy.model_uid)))
    regions = list(dict.fromkeys(table.region))
    means = mean_over_subjects(table)
    chosen = best_layers(means) if best is None else best[(best.metric == metric) & (best.subj_id == MEAN)]
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_over_depth(len(regions))
        for axes, region in zip(panels, regions, strict=True):
            axes.set_title(region, loc="left", fontsize=10, fontweight="bold", parse_math=False)
            here = table[(table.region == region) & (table.cv_split == split)]
            mean = means[(means.region == region) & (means.cv_split == split)]
            for model, style in styles.items():
                _draw_subjects(axes, here[here.model_uid == model], style)
            for model, style in styles.items():
                dot = chosen[(chosen.region == region) & (chosen.model_uid == model)]
                _draw_mean(axes, mean[mean.model_uid == model], dot, model, style)
            ceiling = here.drop_duplicates("subj_id")["ceiling"].mean()
            if np.isfinite(ceiling):
                axes.axhline(ceiling, color=GREY, linestyle=(0, (5, 3)), linewidth=1.1, label="ceiling", zorder=1)
        shown = table[table.cv_split == split]
        values = [shown["score"], shown["ceiling"], chosen["ci_low"], chosen["ci_high"], [0.0]]
        _finish_axes(panels, np.concatenate(values), Y_LABELS.get(metric, metric))
    return figure


def to_svg(figure: Figure, prefix: str, label: str) -> str:
    """Return `figure` as an SVG element for an HTML page: no XML head, no namespaces, ids that begin with `prefix`."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg, count=2)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # Several figures share a page: their clip paths and markers must not answer to one another's names.
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    pixels = round(figure.get_figwidth() * 96 * 1.15)
    box = re.search(r'viewBox="[^"]*"', svg).group()
    head = f'<svg {box} role="img" aria-label="{label}" style="width:100%;max-width:{pixels}px">'
    return head + svg[svg.index(">") + 1 :].strip()


def panels_over_depth(n: int, share_y: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure with n panels in rows of at most four, all over layer depth; `STYLE` must hold."""
    n_rows = math.ceil(n / MAX_COLUMNS)
    n_columns = math.ceil(n / n_rows)  # 6 panels stand as 3 + 3, not as 4 + 2
    width = min(PAGE_INCHES / n_columns, MAX_PANEL_INCHES)
    height = 0.45 * width + 0.8
    figure = Figure(figsize=(n_columns * width + 0.4, n_rows * height + 0.3), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=share_y, squeeze=False)
    panels = list(grid.ravel())
    for axes in panels[n:]:
        axes.remove()
    for i, axes in enumerate(panels[:n]):
        axes.tick_params(labelbottom=i + n_columns >= n)  # where nothing stands below, even if a row follows
    panels[0].set_xlim(-0.02, 1.02)
    panels[0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    figure.supxlabel("layer depth", fontsize=9)
    return figure, panels[:n]


def _draw_subjects(axes: Axes, rows: pd.DataFrame, style: LineStyle) -> None:
    curves = rows.pivot(index=["model_layer_index", "model_layer_depth"], columns="subj_id", values="score")
    if curves.shape[1] < 2:
        return  # the mean is the one subject
    depth = curves.index.get_level_values("model_layer_depth").to_numpy()
    if curves.shape[1] > MAX_SUBJECT_LINES:
        axes.fill_between(depth, curves.min(axis=1), curves.max(axis=1), color=style.color, alpha=0.15, linewidth=0)
        return
    for subject in curves:
        axes.plot(depth, curves[subject], color=style.color, alpha=0.4, linewidth=0.7, label=f"_{subject}")


def _draw_mean(axes: Axes, rows: pd.DataFrame, chosen: pd.DataFrame, model: str, style: LineStyle) -> None:
    rows = rows.sort_values("model_layer_index")
    dash, color = style.dash, style.color
    axes.plot(rows.model_layer_depth, rows.score, color=color, linestyle=dash, linewidth=1.7, label=model, zorder=3)
    dot = rows[rows.model_layer.isin(chosen.model_layer)]
    look = {"color": color, "markersize": 7, "markeredgecolor": "white", "markeredgewidth": 1.2}
    axes.plot(dot.model_layer_depth, dot.score, "o", **look, label=f"_best {model}", zorder=4)
    known = chosen[chosen.ci_low.notna()]
    if len(known):
        axes.vlines(known.model_layer_depth, known.ci_low, known.ci_high, color=color, linewidth=1.2, zorder=2)


def _finish_axes(panels: Sequence[Axes], values: np.ndarray, ylabel: str) -> None:
    """Set one range for all panels: all values are inside."""
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.06 * max(high - low, 0.1)
    panels[0].set_ylim(low - margin if low < 0 else 0.0, high + margin)
    for axes in panels:
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        if low < 0:
            axes.axhline(0, color=GREY, linewidth=0.6, label="_zero", zorder=1)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel(ylabel)
