"""Statistics of every layer's activations while a model is trained or used, as numbers, figures and a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import nn

from deepjuice.hooks import charts
from deepjuice.hooks.callback import HooksCallback, noop
from deepjuice.hooks.histogram import HISTOGRAM_2022, Histogram
from deepjuice.hooks.stats import append_stats, get_min, that_ran


class ActivationStats(HooksCallback):
    """A `HooksCallback` with `append_stats`: what each layer gives, batch by batch.

    Args:
        mod_filter: as in `HooksCallback`, and so are `on_train`, `on_valid`, `modules` and `every`.
        histogram: `HISTOGRAM_2022`, `HISTOGRAM_2019`, or your own.
        dead_threshold: as in `append_stats`, and so is `unit_dim`.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> stats = ActivationStats(nn.ReLU, on_valid=True)
    >>> with stats.listen(net):
    ...     for batch in torch.zeros(6, 5, 4):
    ...         _ = net(batch)
    >>> len(stats), len(stats.table())
    (1, 6)
    """

    def __init__(
        self,
        mod_filter: Callable[[nn.Module], Any] | type | tuple[type, ...] = noop,
        histogram: Histogram = HISTOGRAM_2022,
        on_train: bool = True,
        on_valid: bool = False,
        modules: Iterable[nn.Module] | None = None,
        every: int = 1,
        dead_threshold: float = 0.0,
        unit_dim: int = 1,
    ):
        function = partial(append_stats, histogram=histogram, dead_threshold=dead_threshold, unit_dim=unit_dim)
        super().__init__(function, mod_filter, on_train, on_valid, modules, every)

    def color_dim(self, figsize: tuple[float, float] = (11, 5)) -> charts.Chart:
        """Draw `charts.color_dim`: histograms over batches."""
        return charts.color_dim(self.hooks, figsize)

    def dead_chart(self, figsize: tuple[float, float] = (11, 5)) -> charts.Chart:
        """Draw `charts.dead_chart`: shares near zero over batches."""
        return charts.dead_chart(self.hooks, figsize)

    def plot_stats(self, figsize: tuple[float, float] = (10, 4)) -> charts.Chart:
        """Draw `charts.plot_stats`: means and standard deviations over batches."""
        return charts.plot_stats(self.hooks, figsize)

    def table(self) -> pd.DataFrame:
        """Return a row a layer and call: layer, batch, mean, std, near_zero, dead, below, above, nans, n_values.

        `batch` counts the calls that were recorded, `near_zero` is `get_min`, `n_values` the size of the output; all
        else is as `append_stats` says. Layers that have not run are left out. Raises InputError where none has.
        """
        return pd.concat([_rows(hook) for hook in that_ran(self)], ignore_index=True)


def _rows(hook: Any) -> pd.DataFrame:
    near_zero = get_min(hook).numpy()
    means, stds, hists = hook.stats
    out_of_range = torch.tensor([hook.below, hook.above, hook.nans]).sum(0)
    return pd.DataFrame(
        {
            "layer": hook.name,
            "batch": range(len(means)),
            "mean": torch.stack(means).numpy(),
            "std": torch.stack(stds).numpy(),
            "near_zero": near_zero,
            "dead": hook.dead,
            "below": hook.below,
            "above": hook.above,
            "nans": hook.nans,
            "n_values": (torch.stack(hists).double().sum(1).long() + out_of_range).numpy(),
        }
    )
