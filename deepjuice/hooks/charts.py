"""Figures of recorded activations, a line or a panel for each layer."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepjuice.hooks.hook import Hook
from deepjuice.hooks.stats import get_hist, get_min, that_ran


class Chart(Figure):
    """A figure that belongs to nobody but its holder, so that it goes when dropped; notebooks show it by themselves."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def color_dim(hooks: Sequence[Hook], figsize: tuple[float, float] = (11, 5)) -> Chart:
    """Draw every layer's histograms as an image: calls from left to right, bins from below, log(1 + count) as colour.

    Layers that have not run are left out. Raises InputError where none has, as all charts do.
    """
    chart, panels = _grid(hooks, figsize)
    for panel, hook in panels:
        panel.imshow(get_hist(hook).numpy(), origin="lower", aspect="auto")
        panel.set_axis_off()
    return chart


def dead_chart(hooks: Sequence[Hook], figsize: tuple[float, float] = (11, 5)) -> Chart:
    """Draw every layer's share of values near zero (`get_min`) over the calls, from 0 to 1."""
    chart, panels = _grid(hooks, figsize)
    for panel, hook in panels:
        panel.plot(get_min(hook).numpy())
        panel.set_ylim(0, 1)
    return chart


def plot_stats(hooks: Sequence[Hook], figsize: tuple[float, float] = (10, 4)) -> Chart:
    """Draw means and standard deviations over the calls, a line a layer, numbered in the legend."""
    chart = Chart(figsize=figsize, layout="constrained")
    panels = chart.subplots(1, 2)
    ran = that_ran(hooks)
    for i, hook in enumerate(hooks):
        for panel, numbers in zip(panels, hook.stats if hook in ran else (), strict=False):
            panel.plot([float(number) for number in numbers], label=str(i))
    panels[0].set_title("Means")
    panels[1].set_title("Stdevs")
    panels[1].legend()
    return chart


def _grid(hooks: Sequence[Hook], figsize: tuple[float, float]) -> tuple[Chart, list[tuple[Axes, Hook]]]:
    """Return a figure with a panel for each layer that has run, and these hooks; titles are the layers' names."""
    hooks = that_ran(hooks)
    chart = Chart(figsize=figsize, layout="constrained")
    n_rows = math.isqrt(len(hooks))
    panels = chart.subplots(n_rows, math.ceil(len(hooks) / n_rows), squeeze=False).flatten()
    drawn = list(zip(panels, hooks, strict=False))
    for panel, hook in drawn:
        panel.set_title(hook.name, fontsize="small")
    for panel in panels[len(hooks) :]:
        panel.set_axis_off()
    return chart, drawn
