"""From the operations of a network to its layers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from deepjuice.influence.layers import Input, Layer
from deepjuice.influence.operations import (
    COPYING,
    GATES,
    IDENTITY,
    MOVING,
    RULES,
    STAYING,
    arguments,
    in_training,
    moved,
)
from deepjuice.tracing.graph import CONSTANT, CallGraph, Operation
from juicyfruits.errors import InputError, first_names


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
        if in_training(operation):
            raise InputError(
                f"operation {kind!r} at {operation.name!r} is in training mode, whatever the network is; its answers "
                "are left to chance, or to the other pictures of a batch: switch it off."
            )
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
        layers = {self.layers[predecessors[source.slot]] for source in inputs}
        if all(source.places is layer.head_places for source in inputs for layer in layers):
            return next(iter(layers)).axis
        return channel_axis([(source.places[0], source.n_positions) for source in inputs])


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


def channel_axis(inputs: list[tuple[Tensor, int]]) -> int:
    """Return along which axis inputs of one number of axes have their channels; 0 if that cannot be told.

    Each step along it leads to one channel, at the same positions; or, in what was flattened, at any.

    Args:
        inputs: neurons (channel * positions + position; -1: a constant), without the batch, and their positions.
    """
    axes = range(inputs[0][0].ndim)
    single = [a for a in axes if all(_one_along(places // n, places, a, across=True) for places, n in inputs)]
    still = [a for a in single if all(_one_along(places % n, places, a, across=False) for places, n in inputs)]
    found = still or single
    return next((a for a in found if any(places.shape[a] > 1 for places, _ in inputs)), found[0] if found else 0)


def _one_along(numbers: Tensor, places: Tensor, axis: int, across: bool) -> bool:
    """Tell whether numbers depend on the place along an axis alone (across it they are one), or not on it at all."""
    numbers = torch.where(places < 0, -1, numbers).movedim(axis, 0).flatten(1)
    most = numbers.amax(dim=1 if across else 0, keepdim=True)
    return bool(((numbers == most) | (numbers < 0)).all())


def _is_permutation(places: Tensor, layer: Layer) -> bool:
    if places is layer.head_places:
        return True
    met = torch.zeros(layer.n_channels * layer.n_positions + 1, dtype=torch.bool)
    met[places.flatten()] = True  # -1, a constant, is the last
    return places.numel() == len(met) - 1 and bool(met[:-1].all())
