"""Layers as profiles see them: an operation that combines neurons, with the norms and activations that follow it.

A layer's neurons are laid out as (channel, position). Whatever a network does to the place of an activation (flatten,
permute, chunk, shuffle) is followed, so that a later operation's inputs are known as neurons of an earlier layer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from deepjuice.influence.operations import (
    COPYING,
    GATES,
    IDENTITY,
    MOVING,
    RULES,
    SIGN_KEEPING,
    STAYING,
    arguments,
    moved,
)
from deepjuice.tracing.graph import CONSTANT, CallGraph, Operation
from juicyfruits.errors import InputError, first_names


@dataclass(frozen=True, eq=False)
class Input:
    """What a layer reads: the output of an operation, as neurons of the layers before.

    Attributes:
        operation: index of the operation whose output is read.
        slot: number of the layer before among the reader's sorted predecessors.
        places: for each element of that output, for one picture, its neuron there: channel * positions + position; -1
            where it is a constant.
        n_positions: of the layer before.
        axis: along which the reader has its channels, without the batch.
        reader: for messages.
    """

    operation: int
    slot: int
    places: Tensor
    n_positions: int
    axis: int
    reader: str

    @cached_property
    def channels(self) -> Tensor:
        """For each of the reader's channels its channel in the layer before, int64; -1 for a constant one.

        Raises:
            InputError: where one holds values of several channels of the layer before.
        """
        return self._one_each(self._places // self.n_positions, 1, "channels")

    @cached_property
    def positions(self) -> Tensor:
        """For each of the reader's positions its position in the layer before, int64; -1 for a constant one.

        Raises:
            InputError: where one holds values of several positions of the layer before.
        """
        return self._one_each(self._places % self.n_positions, 0, "positions")

    @property
    def _places(self) -> Tensor:
        return self.places[0].movedim(self.axis, 0).flatten(1)

    def _one_each(self, numbers: Tensor, dim: int, what: str) -> Tensor:
        """Return the one number along a dim of (channels, positions); constants have any."""
        numbers = torch.where(self._places < 0, -1, numbers)
        found = numbers.amax(dim, keepdim=True)
        if not ((numbers == found) | (numbers < 0)).all():
            raise InputError(
                f"operation at {self.reader!r}: its input mixes {what} of the layer before within one of its own; "
                f"profiles of {what} cannot follow it."
            )
        return found.squeeze(dim)


@dataclass(frozen=True, eq=False)
class Layer:
    """A step of a profile.

    Attributes:
        index: 0 for the network's input, and on in the order in which they run.
        operations: those of the layer; the first, its head, gives it its rule.
        rule: how its contributors are found, `contrib_conv2d`.
        tail: index of the last one.
        n_channels: number of channels, or of units of a vector.
        axis: which axis of the head's output numbers them, without the batch.
        positions: sizes of its space, such as (height, width); () for a vector.
        predecessors: the layers that it reads, sorted.
        inputs: a part for each activation among the first operation's arguments.
        head_places, tail_places: for each element of the head's and the tail's output, its neuron in the layer.
    """

    index: int
    operations: tuple[Operation, ...]
    rule: str
    tail: int
    n_channels: int
    axis: int
    positions: tuple[int, ...]
    predecessors: tuple[int, ...]
    inputs: tuple[Input, ...]
    head_places: Tensor
    tail_places: Tensor

    @property
    def head(self) -> Operation:
        """The first operation."""
        return self.operations[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its operations."""
        return tuple(operation.name for operation in self.operations)

    @property
    def keeps_signs(self) -> bool:
        """Whether what is positive behind the first operation is so behind the last, and nothing else."""
        return all(operation.kind in SIGN_KEEPING for operation in self.operations[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of an activation with one picture: (1, channels, *positions)."""
        return (1, self.n_channels, *self.positions)

    @property
    def n_positions(self) -> int:
        """Number of positions; 1 for a vector."""
        return prod(self.positions)

    def arrange(self, output: Tensor, places: Tensor) -> Tensor:
        """Lay an output (n, ...) of the head or tail out as (n, channels, positions)."""
        flat = output.reshape(len(output), -1)
        if places is not self.head_places or self.axis != 0:
            flat = torch.empty_like(flat).index_copy_(1, places.flatten().to(flat.device), flat)
        return flat.view(len(flat), self.n_channels, self.n_positions)


@dataclass(frozen=True, eq=False)
class _Spot:
    """Where an operation's output stands: in which layer, as which of its neurons."""

    layer: int
    places: Tensor


def find_layers(graph: CallGraph) -> list[Layer]:
    """Group a network's operations into layers.

    A layer begins where neurons are combined (`RULES`), and takes in the norms, activations and dropouts that follow,
    as long as nothing else reads what is between. Where one follows what is also read elsewhere, it is a layer of its
    own, whose neurons are each what one neuron before has become (`contrib_identity`).

    Raises:
        InputError: for an operation that cannot be followed, by its name.
    """
    return _Grouping(graph).layers


class _Grouping:
    def __init__(self, graph: CallGraph):
        self._operations = graph.operations
        leading = _leading_to(graph.output, graph.operations)
        self._n_readers = Counter(source for op in leading for source in set(op.sources))
        self._spots: dict[int, _Spot] = {}
        self.layers: list[Layer] = []
        for operation in leading:
            self._place(operation)

    def _place(self, operation: Operation) -> None:
        if operation.index == 0:
            self._begin(operation, "contrib_identity", ())
            return
        kind, sources = operation.kind, self._effective(operation)
        spots = [self._spots[source] for source in sources]
        one_layer = len({spot.layer for spot in spots}) == 1
        if kind in MOVING | COPYING and one_layer:
            places = moved(operation, dict(zip(sources, (spot.places for spot in spots), strict=True)))
            self._spots[operation.index] = _Spot(spots[0].layer, places)
        elif kind in STAYING and len(sources) == 1:
            self._stay(operation, sources[0])
        elif kind in RULES:
            self._begin(operation, RULES[kind], sources)
        else:
            raise InputError(
                f"operation {kind!r} at {operation.name!r}: profiles cannot follow it; they follow "
                f"{first_names(sorted(RULES), len(RULES))}, what moves neurons, norms and activations."
            )

    def _effective(self, operation: Operation) -> tuple[int, ...]:
        """Return the sources whose neurons go on: not a gate, which has fewer values than what it multiplies."""
        sources = tuple(dict.fromkeys(operation.sources))
        if operation.kind == "mul" and len(sources) > 1:
            full = tuple(s for s in sources if self._operations[s].shape == operation.shape)
            if len(full) > 1 and prod(operation.shape[2:]) == 1:  # a map of one place is no larger than its gate
                full = tuple(s for s in full if self._operations[s].kind not in GATES)
            return full if len(full) == 1 else sources
        return sources

    def _stay(self, operation: Operation, source: int) -> None:
        spot = self._spots[source]
        layer = self.layers[spot.layer]
        if operation.shape != tuple(spot.places.shape):
            raise InputError(
                f"operation {operation.kind!r} at {operation.name!r} turns {tuple(spot.places.shape)} into "
                f"{operation.shape}: profiles cannot follow values that are spread out."
            )
        if layer.index == 0 or not self._alone(layer, source):
            self._begin(operation, IDENTITY, (source,))
            return
        self._spots[operation.index] = spot
        self.layers[layer.index] = replace(
            layer, operations=(*layer.operations, operation), tail=operation.index, tail_places=spot.places
        )

    def _alone(self, layer: Layer, source: int) -> bool:
        """Tell whether nothing but what leads to `source` reads the layer's tail, and it is all there."""
        while self._n_readers[source] == 1:
            if source == layer.tail:
                return _is_permutation(self._spots[source].places, layer)
            places = self._spots[source].places
            if not _is_permutation(places, layer):
                return False
            (source,) = set(self._operations[source].sources)
        return False

    def _begin(self, operation: Operation, rule: str, sources: tuple[int, ...]) -> None:
        spots = [self._spots[source] for source in sources]
        predecessors = tuple(sorted({spot.layer for spot in spots}))
        inputs = tuple(
            Input(
                source,
                predecessors.index(spot.layer),
                spot.places,
                self.layers[spot.layer].n_positions,
                -1 if operation.kind == "linear" else 0,
                operation.name,
            )
            for source, spot in zip(sources, spots, strict=True)
        )
        if not operation.shape[1:]:
            raise InputError(f"operation {operation.kind!r} at {operation.name!r}: one number a picture, no neurons.")
        if operation.shape[0] != 1:
            raise InputError(
                f"operation {operation.kind!r} at {operation.name!r} sees {operation.shape[0]} pictures where one was "
                "given: profiles cannot follow parts of a picture that are put where pictures stand."
            )
        if rule == "contrib_add" and any(self._operations[source].shape != operation.shape for source in sources):
            raise InputError(
                f"operation {operation.kind!r} at {operation.name!r} adds activations of different shapes: profiles "
                "cannot follow values that are spread out."
            )
        if rule == "contrib_add" and operation.kwargs.get("alpha", 1) != 1:
            raise InputError(f"operation {operation.kind!r} at {operation.name!r}: profiles cannot follow its alpha.")
        if rule == "contrib_mean" and not self._pools(operation):
            raise InputError(
                f"operation {operation.kind!r} at {operation.name!r}: expected a mean over height and width of "
                "(n, channels, height, width); profiles cannot follow another."
            )
        axis = self._channel_axis(operation, rule, inputs, predecessors)
        if rule in ("contrib_add", "contrib_cat", IDENTITY):
            inputs = tuple(replace(source, axis=axis) for source in inputs)
        sizes = operation.shape[1:]
        positions = sizes[:axis] + sizes[axis + 1 :]
        places = torch.arange(prod(sizes)).view(sizes[axis], *positions).movedim(0, axis).contiguous()[None]
        index = len(self.layers)
        self.layers.append(
            Layer(
                index=index,
                operations=(operation,),
                rule=rule,
                tail=operation.index,
                n_channels=sizes[axis],
                axis=axis,
                positions=positions,
                predecessors=predecessors,
                inputs=inputs,
                head_places=places,
                tail_places=places,
            )
        )
        self._spots[operation.index] = _Spot(index, places)

    def _pools(self, operation: Operation) -> bool:
        """Tell whether a mean is that over the two axes of space."""
        given = arguments(operation, ("input", "dim"), {"dim": operation.kwargs.get("axis")})
        n_axes, dims = len(self._operations[operation.sources[0]].shape), given["dim"]
        return n_axes == 4 and isinstance(dims, (tuple, list)) and {dim % 4 for dim in dims} == {2, 3}

    def _channel_axis(self, operation: Operation, rule: str, inputs, predecessors) -> int:
        """Return which axis of an output, without the batch, numbers its channels."""
        n_axes = len(operation.shape) - 1
        if operation.kind == "linear":
            return n_axes - 1
        if rule in _CHANNELS_FIRST:
            return 0
        if not inputs:  # the network's input: (channels, height, width), tokens (positions, channels), or a vector
            return n_axes - 1 if n_axes == 2 else 0
        first = inputs[0]
        layer = self.layers[predecessors[first.slot]]
        return layer.axis if first.places is layer.head_places else channel_axis(first.places[0] // layer.n_positions)


_CHANNELS_FIRST = frozenset(
    {"contrib_conv2d", "contrib_max2d", "contrib_avg_pool2d", "contrib_adaptive_avg_pool2d", "contrib_mean"}
)


def _leading_to(output: int, operations: list[Operation]) -> list[Operation]:
    """Return the operations that an output depends on, in their order; the input is the first in any case."""
    if output == CONSTANT:
        raise InputError("output of the network: it does not depend on the input.")
    needed, waiting = {0}, [output]
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting.extend(operations[index].sources)
    return [operations[index] for index in sorted(needed)]


def channel_axis(channels: Tensor) -> int:
    """Return along which axis an array of channel numbers changes; 0 if along several."""
    for axis in range(channels.ndim):
        others = channels.movedim(axis, 0).flatten(1)
        if channels.shape[axis] > 1 and torch.equal(others, others[:, :1].expand_as(others)):
            return axis
    return 0


def _is_permutation(places: Tensor, layer: Layer) -> bool:
    if places is layer.head_places:
        return True
    met = torch.zeros(layer.n_channels * layer.n_positions + 1, dtype=torch.bool)
    met[places.flatten()] = True  # -1, a constant, is the last
    return places.numel() == len(met) - 1 and bool(met[:-1].all())
