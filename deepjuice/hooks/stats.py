"""What is written down of a layer's activations at every call: a few numbers, on the CPU, of whatever size the map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from deepjuice.hooks.histogram import HISTOGRAM_2022, Histogram, wide_dtype
from deepjuice.hooks.hook import Hook
from deepjuice.tracing import tensors_in
from juicyfruits.errors import InputError, first_names


def append_stats(
    hook: Hook,
    mod: nn.Module,
    inp: Any,
    outp: Any,
    histogram: Histogram = HISTOGRAM_2022,
    dead_threshold: float = 0.0,
    unit_dim: int = 1,
) -> None:
    """Append the statistics of one output to a hook: a function for `Hook`, `Hooks` and `HooksCallback`.

    `hook.stats` is (means, standard deviations, histograms), three lists of CPU tensors with one entry a call, of the
    output's type, float32 where that is narrower: scalars, scalars, and counts (bins,). The standard deviation is the
    unbiased one. Beside it on the hook stand lists of numbers, one a call:

    - `below`, `above`, `nans`: how many values the histogram does not hold, since they are out of its range or NaN
      (which makes mean and standard deviation NaN too);
    - `dead`: the share of units that are dead, whose |activation| is at most the threshold for every input and at
      every place. Of a ReLU's output that is the usual meaning: units that are zero for the whole batch. A layer that
      comes before a ReLU, or a leaky one, has dead units only where it gives nothing at all.

    An empty batch gives NaN and empty bins; a single value has no standard deviation (NaN).

    Args:
        hook: what is written on; `hook.histogram` tells the histogram.
        mod: the module.
        inp: its inputs, not used.
        outp: its output, a tensor of floating-point numbers; of a tuple, dictionary or dataclass the first such tensor
            (an LSTM's sequence, an attention layer's output; of a backward hook the output's gradient).
        histogram: the bins.
        dead_threshold: see above.
        unit_dim: the dimension of units: 1 for (batch, channel, ...) and (batch, feature), -1 for (batch, token,
            feature). A tensor of fewer than two dimensions is one unit.

    Raises:
        InputError: where the output holds no floating-point tensor.

    >>> layer = nn.ReLU()
    >>> with Hook(layer, append_stats) as hook:
    ...     _ = layer(torch.tensor([[-1.0, 0.5], [-2.0, 11.5]]))
    >>> hook.stats[0], hook.above, hook.dead
    ([tensor(3.)], [1], [0.5])
    """
    values = _activation(outp, hook, mod)
    record = _measure(values, histogram, dead_threshold, unit_dim).cpu()
    _, _, nans, dead, below = record[:5].tolist()
    if not hasattr(hook, "stats"):
        hook.stats, hook.histogram = ([], [], []), histogram
        hook.below, hook.above, hook.nans, hook.dead = [], [], [], []
    for kept, part in zip(hook.stats, (record[0], record[1], record[5:-1]), strict=True):
        kept.append(part.to(values.dtype, copy=True))  # not a view, which takes more memory than a number
    hook.below.append(int(below))
    hook.above.append(int(record[-1]))
    hook.nans.append(int(nans))
    hook.dead.append(dead)


def _activation(output: Any, hook: Hook, module: nn.Module) -> Tensor:
    for _, tensor in tensors_in("", output):
        if tensor.is_floating_point():
            tensor = tensor.detach()
            # sums and counts in half precision would be wrong after a few thousand values
            return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
    raise InputError(
        f"the output of {_name(hook)!r} ({type(module).__name__}) holds no floating-point tensor: expected one to take "
        "statistics of; leave the layer out with mod_filter."
    )


def _measure(values: Tensor, histogram: Histogram, dead_threshold: float, unit_dim: int) -> Tensor:
    """Return mean, std, number of NaN, dead share and `Histogram.count` as one vector on the values' device.

    One vector, so that a GPU is waited for once a call, not once a number.
    """
    if values.is_cuda and torch.are_deterministic_algorithms_enabled():
        values = values.cpu()  # torch refuses to count on CUDA then
    nothing = values.new_full((), torch.nan)
    numbers = [
        values.mean(),
        values.std() if values.numel() > 1 else nothing,
        torch.count_nonzero(values.isnan()),
        _dead_share(values, dead_threshold, unit_dim) if values.numel() else nothing,
    ]
    wide = wide_dtype(values)
    return torch.cat([torch.stack([number.to(wide) for number in numbers]), histogram.count(values)])


def _dead_share(values: Tensor, threshold: float, unit_dim: int) -> Tensor:
    n_dims = values.ndim
    if n_dims > 1 and not -n_dims <= unit_dim < n_dims:
        raise InputError(f"unit_dim={unit_dim}: expected a dimension of an output of shape {tuple(values.shape)}.")
    within_unit = [dim for dim in range(n_dims) if n_dims < 2 or dim != unit_dim % n_dims]
    return (values.abs().amax(within_unit) <= threshold).to(wide_dtype(values)).mean()


def get_hist(h: Hook) -> Tensor:
    """Return the histograms of a hook as an image (bins, calls), log(1 + count), float32.

    Raises InputError where nothing was recorded.
    """
    return _histograms(h).float().log1p()


def get_min(h: Hook) -> Tensor:
    """Return the share near zero of the values within the histogram's range (calls,); NaN where there is none.

    Which bins are near zero is said by `h.histogram`; without one, as for statistics that a function of your own has
    appended, by HISTOGRAM_2022. Raises InputError where nothing was recorded.
    """
    counts = _histograms(h).float()
    first, last = getattr(h, "histogram", HISTOGRAM_2022).near_zero
    return counts[first:last].sum(0) / counts.sum(0)


def _histograms(h: Hook) -> Tensor:
    return torch.stack(that_ran([h])[0].stats[2]).t()


def that_ran(hooks: Iterable[Hook]) -> list[Hook]:
    """Return the hooks that have statistics; some modules of a model never run. Raises InputError if none has any."""
    hooks = list(hooks)
    ran = [hook for hook in hooks if hasattr(hook, "stats")]
    if not ran:
        names = first_names(_name(hook) for hook in hooks) if hooks else "no layer"
        raise InputError(
            f"nothing was recorded of {names}: expected layers that run while they are listened to, in training mode "
            "unless on_valid=True; a model that was compiled and run before does not call new hooks."
        )
    return ran


def _name(hook: Any) -> str:
    return getattr(hook, "name", type(hook).__name__)
