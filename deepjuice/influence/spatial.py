"""Contributions where a neuron is a place: the vector of all channels at one position.

Contributors are judged by how far they reach into the direction u of what they add up to: a part's share of y = sum of
parts is u'part / |y|, and shares of all parts sum to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepjuice.influence.accept import accept
from deepjuice.influence.channel import Held, Rule, joined
from deepjuice.influence.contributions import CHUNK, Contributions, linear_terms
from deepjuice.influence.element import unravel
from deepjuice.influence.layers import Layer
from deepjuice.influence.neurons import Neurons, check_finite
from deepjuice.influence.windows import Convolution, convolution_fields, pooling_fields
from juicyfruits.errors import InputError


def largest_places(
    layer: Layer,
    activation: Tensor,
    threshold: float,
    use_quantile: bool = True,
    max_infl: int = 100,
    norm: float = 2,
) -> Neurons:
    """Find the places with the largest norm over channels; of a vector, the largest positive units.

    Args:
        layer: whose activation it is.
        activation: (n, channels, positions).
        threshold: quantile of the positive norms, from which on they influence, and the next below; or without
            `use_quantile`, the share of the sum of norms that is followed.
        max_infl: how many at most.
        norm: its order.
    """
    vector = not layer.positions
    values = activation[:, :, 0].clamp(min=0) if vector else torch.linalg.vector_norm(activation, ord=norm, dim=1)
    check_finite(layer, values)
    if use_quantile:
        floor = torch.where(values > 0, values, torch.nan).double().nanquantile(threshold, dim=1)
        goal = torch.where(values >= floor[:, None], values, 0).double().sum(dim=1)
        found = accept(values.double(), goal=goal * (1 + 1e-12))
    else:
        found = accept(values, threshold)
    rank = torch.arange(len(found.row), device=values.device) - torch.searchsorted(found.row, found.row)
    kept = rank < max_infl
    picture, place = found.row[kept], found.column[kept]
    weight = values[picture, place]
    weight = weight / weight.new_zeros(len(values)).index_add_(0, picture, weight)[picture]
    none = torch.zeros_like(place)
    return Neurons(picture, place, none, weight) if vector else Neurons(picture, none, place, weight)


def conv2d(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Take the positions of the field that reach furthest, until together they reach a share of |y|."""
    (source,) = layer.inputs
    call, x = Convolution.of(layer.head), held[source.operation]
    flat, inside = convolution_fields(call, *unravel(neurons.position, layer), tuple(x.shape[2:]))
    if call.kernel == (1, 1):
        kept = inside[:, 0]
        return Contributions.among_positions(
            source, kept.nonzero()[:, 0], flat[kept, 0], torch.ones(int(kept.sum())).to(x)
        )
    weight = call.weight.unflatten(0, (call.groups, -1)).flatten(3)  # (groups, out, in, taps)
    step = max(1, CHUNK // (call.weight.shape[0] * weight.shape[3] + x.shape[1] * weight.shape[3]))
    parts = [Contributions.none(x)]
    for start in range(0, len(neurons), step):
        rows = slice(start, start + step)
        fields = x.flatten(2)[neurons.picture[rows, None], :, flat[rows]] * inside[rows, :, None]  # (n, taps, channels)
        fields = fields.unflatten(2, (call.groups, -1))
        vectors = torch.einsum("ntgi,goit->ntgo", fields, weight).flatten(2)
        share = shares(vectors)
        rank = share.abs().argsort(dim=1, descending=True, stable=True)
        reached = share.gather(1, rank).cumsum(dim=1)
        last = (reached <= threshold).to(torch.uint8).cummin(dim=1).values.sum(dim=1)
        taken = torch.zeros_like(inside[rows]).scatter_(
            1, rank, torch.arange(rank.shape[1], device=x.device) <= last[:, None]
        )
        to, tap = (taken & inside[rows] & (share != 0)).nonzero(as_tuple=True)
        parts.append(Contributions.among_positions(source, to + start, flat[rows][to, tap], share[to, tap].abs()))
    return Contributions.join(parts)


def shares(parts: Tensor) -> Tensor:
    """Return how far each of k parts (n, k, channels) reaches into the direction of their sum, (n, k); 0 of no sum."""
    total = parts.sum(dim=1)
    square = total.square().sum(dim=1, keepdim=True)
    return torch.where(square > 0, (parts @ total[:, :, None])[:, :, 0] / square, 0)


def linear(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Rank a unit's inputs by their positive terms; where there are positions, pass on to the same one."""
    if held[layer.inputs[0].operation].ndim == 2:
        return linear_terms(layer, neurons, held, threshold)
    source = layer.inputs[0]
    to = torch.arange(len(neurons), device=neurons.position.device)
    return Contributions.among_positions(source, to, neurons.position, torch.ones_like(neurons.weight))


def max_pool2d(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Share what a place has equally among the positions that it sees."""
    source, x = layer.inputs[0], held[layer.inputs[0].operation]
    flat, inside = pooling_fields(layer.head, *unravel(neurons.position, layer), tuple(x.shape[2:]))
    to, tap = inside.nonzero(as_tuple=True)
    return Contributions.among_positions(
        source, to, flat[to, tap], torch.full_like(to, 1 / flat.shape[1], dtype=x.dtype)
    )


def average(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Give each position that a place sees its share in the direction of their mean."""
    source, x = layer.inputs[0], held[layer.inputs[0].operation]
    if not layer.positions:
        raise InputError(
            f"operation {layer.head.kind!r} at {layer.head.name!r}: it leaves no places; leave it out of a profile of "
            "places."
        )
    flat, inside = pooling_fields(layer.head, *unravel(neurons.position, layer), tuple(x.shape[2:]))
    share = shares(x.flatten(2)[neurons.picture[:, None], :, flat] * inside[:, :, None])
    to, tap = (inside & (share != 0)).nonzero(as_tuple=True)
    return Contributions.among_positions(source, to, flat[to, tap], share[to, tap])


def branches(layer: Layer, before: Sequence[Layer], neurons: Neurons, held: Held, threshold: float) -> Contributions:
    """Give each input of a sum or of a concatenation its share in the direction of what they make."""
    if layer.rule != "contrib_add" and not layer.positions:
        return joined(layer, before, neurons, held, threshold)
    vectors = []
    for source in layer.inputs:
        values = held[source.operation].movedim(1 + layer.axis, 1).flatten(2)  # (n, channels, positions)
        place = (slice(None), neurons.position) if layer.positions else (neurons.channel,)
        vectors.append(values[neurons.picture, *place])
    if layer.rule == "contrib_add":
        share = shares(torch.stack(vectors, dim=1))
    else:
        square = torch.stack([vector.square().sum(dim=1) for vector in vectors], dim=1)
        share = square / square.sum(dim=1, keepdim=True).clamp(min=torch.finfo(square.dtype).tiny)
    to, parts = torch.arange(len(neurons), device=neurons.position.device), []
    for number, source in enumerate(layer.inputs):
        mine = share[:, number] != 0
        if layer.positions:
            found = Contributions.among_positions(source, to[mine], neurons.position[mine], share[mine, number])
        else:
            found = Contributions.among(source, to[mine], neurons.channel[mine], share[mine, number])
        parts.append(found)
    return Contributions.join(parts)


SPATIAL_RULES: dict[str, Rule] = {
    "contrib_conv2d": conv2d,
    "contrib_linear": linear,
    "contrib_max2d": max_pool2d,
    "contrib_avg_pool2d": average,
    "contrib_adaptive_avg_pool2d": average,
    "contrib_mean": average,
    "contrib_add": branches,
    "contrib_cat": branches,
    "contrib_identity": branches,
}
