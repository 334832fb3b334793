"""Contributions where a neuron is a whole channel, at its largest activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deepjuice.influence.accept import accept
from deepjuice.influence.contributions import (
    CHUNK,
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
    call = Convolution.of(layer.head)
    x, n_in = call.pad(held[source.operation]), call.weight.shape[1]
    first = neurons.channel // (len(call.weight) // call.groups) * n_in  # channel that the neuron's group begins with
    if call.kernel == (1, 1):
        low, high = x[..., :: call.stride[0], :: call.stride[1]].flatten(2).aminmax(dim=2)
        seen = neurons.picture[:, None], first[:, None] + torch.arange(n_in, device=x.device)
        values = largest_products(call.weight[neurons.channel, :, 0, 0], low[seen], high[seen])
    elif call.groups == 1:
        values = _of_all_channels(x, call, neurons)
    else:
        values = _of_groups(x, call, neurons, first)
    found = accept(values, threshold)
    return Contributions.among_channels(source, found.row, found.column + first[found.row], found.weight)


def largest_products(weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the largest of relu(weight * x) over values x from low to high, all of one shape."""
    return torch.maximum(weight * high, weight * low).clamp(min=0)


def _of_all_channels(x: Tensor, call: Convolution, neurons: Neurons) -> Tensor:
    """Return each channel's largest positive response to a neuron's kernel, (n_neurons, channels)."""
    best = x.new_empty(len(neurons), x.shape[1])
    for picture in neurons.picture.unique():
        # Single channels are convolved several times faster in this order of memory.
        channels = x[picture, None].to(memory_format=torch.channels_last)
        for number in (neurons.picture == picture).nonzero()[:, 0]:
            best[number] = _largest_responses(channels, call.weight[neurons.channel[number]], call)
    return best


def _of_groups(x: Tensor, call: Convolution, neurons: Neurons, first: Tensor) -> Tensor:
    """Return the same for the channels of a neuron's group, (n_neurons, channels of a group)."""
    n_in = call.weight.shape[1]
    step = max(1, CHUNK // (n_in * x[0, 0].numel()))
    best = [x.new_empty(0, n_in)]
    for start in range(0, len(neurons), step):
        picture, channel, begin = (part[start : start + step] for part in (neurons.picture, neurons.channel, first))
        channels = x[picture[:, None], begin[:, None] + torch.arange(n_in, device=x.device)]
        responses = _largest_responses(channels.flatten(0, 1)[None], call.weight[channel].flatten(0, 1), call)
        best.append(responses.view(-1, n_in))
    return torch.cat(best)


def _largest_responses(channels: Tensor, kernels: Tensor, call: Convolution) -> Tensor:
    """Return the largest positive responses (k,) of channels (1, k, height, width) to one kernel each."""
    responses = F.conv2d(channels, kernels[:, None], None, call.stride, 0, call.dilation, groups=len(kernels))
    return responses.amax(dim=(2, 3))[0].clamp(min=0)


def linear(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Rank a unit's inputs by their positive terms; of several positions, as a convolution of one pixel."""
    (source,) = layer.inputs
    x = held[source.operation]
    if x.ndim == 2:
        return linear_terms(layer, neurons, held, threshold)
    weight, _ = linear_weights(layer)
    low, high = x.flatten(1, -2).aminmax(dim=1)  # (n, channels)
    values = largest_products(weight[neurons.channel], low[neurons.picture], high[neurons.picture])
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
