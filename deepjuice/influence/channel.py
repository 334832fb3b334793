"""Contributions where a neuron is a whole channel, at its largest activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deepjuice.influence.accept import accept
from deepjuice.influence.contributions import (
    Contributions,
    joined_elements,
    larger_input,
    linear_terms,
    linear_weights,
    passed_on,
)
from deepjuice.influence.layers import Layer
from deepjuice.influence.neurons import Neurons
from deepjuice.influence.windows import Convolution

Held = dict[int, Tensor]
Rule = Callable[[Layer, Sequence[Layer], Neurons, Held, float], Contributions]


def conv2d(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Rank input channels by the largest response of their part of the kernel; their sum's share is the goal."""
    (source,) = layer.inputs
    call, x = Convolution.of(layer.head), held[source.operation]
    n_in = call.weight.shape[1]
    values = x.new_zeros(len(neurons), n_in)
    group = neurons.channel // (len(call.weight) // call.groups)
    for picture, number in torch.stack([neurons.picture, group], 1).unique(dim=0).tolist():
        mine = ((neurons.picture == picture) & (group == number)).nonzero()[:, 0]
        part = x[picture, number * n_in : (number + 1) * n_in]
        values[mine] = largest_responses(part, call, call.weight[neurons.channel[mine]])
    found = accept(values, threshold)
    return Contributions.among_channels(source, found.row, found.column + group[found.row] * n_in, found.weight)


def largest_responses(x: Tensor, call: Convolution, weight: Tensor) -> Tensor:
    """Return the largest positive response (m, channels) of each channel of a picture to each of m kernels.

    Args:
        x: (channels, height, width).
        call: stride, padding and dilation.
        weight: (m, channels, kernel height, kernel width).
    """
    x = call.pad(x)
    if call.kernel == (1, 1):
        return largest_products(x[:, :: call.stride[0], :: call.stride[1]].flatten(1), weight[:, :, 0, 0])
    x = x[None].to(memory_format=torch.channels_last)  # in which single channels are convolved several times faster
    best = x.new_empty(len(weight), x.shape[1])
    for number, kernels in enumerate(weight[:, :, None]):
        responses = F.conv2d(x, kernels, None, call.stride, 0, call.dilation, groups=x.shape[1])
        best[number] = responses.amax(dim=(2, 3))[0]
    return best.clamp(min=0)


def largest_products(x: Tensor, weight: Tensor) -> Tensor:
    """Return max over p of relu(weight[:, c] * x[c, p]), (m, channels)."""
    low, high = x.aminmax(dim=1)
    return torch.maximum(weight * high, weight * low).clamp(min=0)


def linear(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Rank a unit's inputs by their positive terms; of several positions, as a convolution of one pixel."""
    (source,) = layer.inputs
    x = held[source.operation]
    if x.ndim == 2:
        return linear_terms(layer, neurons, held, threshold)
    weight, _ = linear_weights(layer)
    low, high = x.flatten(1, -2).aminmax(dim=1)  # (n, channels)
    rows = weight[neurons.channel]
    values = torch.maximum(rows * high[neurons.picture], rows * low[neurons.picture]).clamp(min=0)
    found = accept(values, threshold)
    return Contributions.among_channels(source, found.row, found.column, found.weight)


def pooling(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Pass on what a channel has to the same channel before."""
    (source,) = layer.inputs
    to = torch.arange(len(neurons), device=neurons.channel.device)
    return Contributions.among_channels(source, to, neurons.channel, torch.ones_like(to, dtype=torch.float32))


def add(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Pass on what a channel has to the input in which it is larger; of equal ones, to the later layer."""
    branches = [layer.arrange(held[source.operation], layer.head_places) for source in layer.inputs]
    tops = torch.stack([branch[neurons.picture, neurons.channel] for branch in branches]).max(dim=2)
    return passed_on(
        layer, neurons, *larger_input(layer, neurons.channel * layer.n_positions + tops.indices, tops.values)
    )


def joined(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Pass on what a neuron has to what it was before inputs were joined, or an activation was applied."""
    return passed_on(layer, neurons, *joined_elements(layer, neurons.place(layer)))


CHANNEL_RULES: dict[str, Rule] = {
    "contrib_conv2d": conv2d,
    "contrib_linear": linear,
    "contrib_max2d": pooling,
    "contrib_avg_pool2d": pooling,
    "contrib_adaptive_avg_pool2d": pooling,
    "contrib_mean": pooling,
    "contrib_add": add,
    "contrib_cat": joined,
    "contrib_identity": joined,
}
