"""What contributions are made of: which neuron of which layer before gave how much to which influential neuron."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepjuice.influence.accept import accept
from deepjuice.influence.layers import Input, Layer
from deepjuice.influence.neurons import Neurons
from deepjuice.influence.operations import arguments, moved
from juicyfruits.errors import InputError

CHUNK = 2**26  # numbers in a block: 256 MiB


@dataclass(frozen=True, eq=False)
class Contributions:
    """The synapses of a layer.

    Attributes:
        to: (n,) index into the layer's influential `Neurons`.
        slot: (n,) number of the contributing layer among the sorted predecessors.
        place: (n,) neuron there: channel * positions + position.
        weight: (n,).
    """

    to: Tensor
    slot: Tensor
    place: Tensor
    weight: Tensor

    @classmethod
    def among(cls, source: Input, to: Tensor, element: Tensor, weight: Tensor) -> Contributions:
        """Make them of elements (without the batch) of an input; those that are constants are none."""
        place = source.places.flatten().to(element.device)[element]
        known = place >= 0
        return cls(to[known], torch.full_like(to[known], source.slot), place[known], weight[known])

    @classmethod
    def among_channels(cls, source: Input, to: Tensor, channel: Tensor, weight: Tensor) -> Contributions:
        """Make them of channels of an input; those that are constants are none."""
        channel = source.channels.to(channel.device)[channel]
        known = channel >= 0
        place = channel[known] * source.n_positions
        return cls(to[known], torch.full_like(to[known], source.slot), place, weight[known])

    @classmethod
    def among_positions(cls, source: Input, to: Tensor, position: Tensor, weight: Tensor) -> Contributions:
        """Make them of positions of an input; those that are constants are none."""
        place = source.positions.to(position.device)[position]
        known = place >= 0
        return cls(to[known], torch.full_like(to[known], source.slot), place[known], weight[known])

    @classmethod
    def none(cls, like: Tensor) -> Contributions:
        """Make those of no neuron."""
        empty = torch.zeros(0, dtype=torch.int64, device=like.device)
        return cls(empty, empty, empty, like.new_zeros(0))

    @classmethod
    def join(cls, parts: list[Contributions]) -> Contributions:
        """Put those of several inputs together."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("to", "slot", "place", "weight")))


def passed_on(layer: Layer, neurons: Neurons, which: Tensor, element: Tensor) -> Contributions:
    """Give each neuron's whole credit to one input: to `element` (without the batch) of input number `which`."""
    to = torch.arange(len(neurons), device=element.device)
    parts = []
    for number, source in enumerate(layer.inputs):
        mine = which == number
        parts.append(
            Contributions.among(source, to[mine], element[mine], torch.ones_like(to[mine], dtype=torch.float32))
        )
    return Contributions.join(parts)


def head_elements(layer: Layer, place: Tensor) -> Tensor:
    """Return which elements of the first operation's output, without the batch, neurons are."""
    if layer.axis == 0:
        return place
    element = torch.empty_like(layer.head_places.flatten())
    element[layer.head_places.flatten()] = torch.arange(len(element))
    return element.to(place.device)[place]


def joined_elements(layer: Layer, place: Tensor) -> tuple[Tensor, Tensor]:
    """Return from which input, and which of its elements, neurons of a layer come that only joins its inputs."""
    element = head_elements(layer, place)
    if len(layer.inputs) == 1:
        return torch.zeros_like(element), element
    numbers, starts, n = {}, [], 0
    for source in layer.inputs:
        starts.append(n)
        numbers[source.operation] = torch.arange(n, n + source.places.numel()).view(source.places.shape)
        n += source.places.numel()
    number = moved(layer.head, numbers).flatten().to(place.device)[element]
    starts = torch.tensor(starts, device=place.device)
    which = torch.searchsorted(starts, number, right=True) - 1
    return which, number - starts[which]


def larger_input(layer: Layer, place: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return which input of a sum is the largest, of equal ones that of the later layer, and which of its elements.

    Args:
        layer: a sum.
        place: (n_inputs, n) neurons in each input.
        values: (n_inputs, n) their values, as `layer.inputs` stand.
    """
    later = torch.tensor([source.slot for source in layer.inputs]).argsort(descending=True).to(values.device)
    which = later[values[later].argmax(dim=0)]
    return which, head_elements(layer, place.gather(0, which[None])[0])


def linear_terms(layer: Layer, neurons: Neurons, held: dict[int, Tensor], threshold: float) -> Contributions:
    """Take a unit's largest positive terms w x until, with the bias, they exceed a share of its value."""
    (source,) = layer.inputs
    weight, bias = linear_weights(layer)
    x, y = held[source.operation], held[layer.head.index]
    goal = threshold * y[neurons.picture, neurons.channel]
    goal = goal if bias is None else goal - bias[neurons.channel]
    step = max(1, CHUNK // x.shape[1])
    parts = []
    for start in range(0, len(neurons), step):
        rows = slice(start, start + step)
        terms = (weight[neurons.channel[rows]] * x[neurons.picture[rows]]).clamp(min=0)
        found = accept(terms, goal=goal[rows])
        parts.append(Contributions.among(source, found.row + start, found.column, found.weight))
    return Contributions.join(parts) if parts else Contributions.none(x)


def linear_weights(layer: Layer) -> tuple[Tensor, Tensor | None]:
    """Return weights (out, in) and biases (out,) of a layer that begins with `linear`."""
    given = arguments(layer.head, ("input", "weight", "bias"), {"bias": None})
    if not isinstance(given["weight"], Tensor):
        raise InputError(f"operation 'linear' at {layer.head.name!r}: weights that depend on the input.")
    return given["weight"].detach(), None if given["bias"] is None else given["bias"].detach()
