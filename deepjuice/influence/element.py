"""Contributions where a neuron is one element: a channel at one position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepjuice.influence.accept import accept
from deepjuice.influence.channel import Held, Rule, joined
from deepjuice.influence.contributions import (
    CHUNK,
    Contributions,
    larger_input,
    linear_terms,
    linear_weights,
    passed_on,
)
from deepjuice.influence.layers import Input, Layer
from deepjuice.influence.neurons import Neurons
from deepjuice.influence.windows import Convolution, convolution_fields, pooling_fields


def conv2d(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Take the largest products in a neuron's receptive field; their goal is a share of all products' sum."""
    (source,) = layer.inputs
    call, x = Convolution.of(layer.head), held[source.operation]
    n_in, size = call.weight.shape[1], tuple(x.shape[2:])
    first = neurons.channel // (len(call.weight) // call.groups) * n_in
    flat, inside = convolution_fields(call, *unravel(neurons.position, layer), size)
    element = (first[:, None] + torch.arange(n_in, device=x.device))[:, :, None] * x[0, 0].numel() + flat[:, None]
    products = call.weight[neurons.channel].flatten(2) * inside[:, None]
    return _largest_products(source, neurons, x, element.flatten(1), products.flatten(1), threshold)


def linear(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Rank a unit's inputs by their positive terms; of several positions, as a convolution of one pixel."""
    (source,) = layer.inputs
    x = held[source.operation]
    if x.ndim == 2:
        return linear_terms(layer, neurons, held, threshold)
    weight, _ = linear_weights(layer)
    element = neurons.position[:, None] * x.shape[-1] + torch.arange(x.shape[-1], device=x.device)
    return _largest_products(source, neurons, x, element, weight[neurons.channel], threshold)


def _largest_products(
    source: Input, neurons: Neurons, x: Tensor, element: Tensor, weight: Tensor, threshold: float
) -> Contributions:
    """Accept products of weights (n, k) with elements (n, k) of an input; the sum has its sign."""
    parts = [Contributions.none(x)]
    step = max(1, CHUNK // max(1, element.shape[1]))
    for start in range(0, len(neurons), step):
        rows = slice(start, start + step)
        values = x.flatten(1)[neurons.picture[rows, None], element[rows]] * weight[rows]
        found = accept(values, threshold)
        chosen = element[rows][found.row, found.column]
        parts.append(Contributions.among(source, found.row + start, chosen, found.weight))
    return Contributions.join(parts)


def max_pool2d(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Pass on to the largest element of the window; the weight is its activation."""
    (source,) = layer.inputs
    values, element, inside = _window(layer, source, neurons, held)
    top = torch.where(inside, values, -torch.inf).max(dim=1)
    to = torch.arange(len(neurons), device=values.device)
    kept = top.values != 0
    chosen = element.gather(1, top.indices[:, None])[:, 0]
    return Contributions.among(source, to[kept], chosen[kept], top.values[kept])


def average(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Take the largest positive elements of the window; their goal is a share of their sum."""
    (source,) = layer.inputs
    values, element, inside = _window(layer, source, neurons, held)
    found = accept(torch.where(inside, values, 0).clamp(min=0) / inside.sum(dim=1, keepdim=True), threshold)
    return Contributions.among(source, found.row, element[found.row, found.column], found.weight)


def _window(layer: Layer, source: Input, neurons: Neurons, held: Held) -> tuple[Tensor, Tensor, Tensor]:
    """Return values and elements (n, window) that pooled neurons see, and which of them lie inside."""
    x = held[source.operation]
    flat, inside = pooling_fields(layer.head, *unravel(neurons.position, layer), tuple(x.shape[2:]))
    element = neurons.channel[:, None] * x[0, 0].numel() + flat
    return x.flatten(1)[neurons.picture[:, None], element], element, inside


def add(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Pass on to the larger summand; of equal ones, to the later layer."""
    place = neurons.place(layer)
    branches = [layer.arrange(held[source.operation], layer.head_places) for source in layer.inputs]
    values = torch.stack([branch[neurons.picture, neurons.channel, neurons.position] for branch in branches])
    return passed_on(layer, neurons, *larger_input(layer, place.expand(len(branches), -1), values))


def unravel(position: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """Return (row, column) of positions of a layer; a vector has but one."""
    width = layer.positions[-1] if layer.positions else 1
    return position // width, position % width


ELEMENT_RULES: dict[str, Rule] = {
    "contrib_conv2d": conv2d,
    "contrib_linear": linear,
    "contrib_max2d": max_pool2d,
    "contrib_avg_pool2d": average,
    "contrib_adaptive_avg_pool2d": average,
    "contrib_mean": average,
    "contrib_add": add,
    "contrib_cat": joined,
    "contrib_identity": joined,
}
