"""Objectives of feature visualisation: what images made to order raise within a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from deepjuice.influence.profile import Profile
from juicyfruits.errors import InputError

LayerName = str | int
NEURON_TYPES = ("channel", "element", "svd")


@dataclass(frozen=True)
class Reading:
    """What an objective reads of a network.

    Attributes:
        layer: dotted path of a module (its first call in a pass), uid of a call (`ReLU-2-5`), or number of a layer as
            `TorchProfiler.create_layers` lists them, whose last operation's output is meant.
        svd: whether its weights' output is meant, without the bias, projected onto their left singular vectors.
    """

    layer: LayerName
    svd: bool = False


Held = Mapping[Reading, Tensor]


@dataclass(frozen=True, eq=False)
class FeatureObjective:
    """A number an image, computed from a network's activations: add several with `+`, scale them with `*`.

    Attributes:
        readings: what it needs of the network.
        value: {reading: (n, channels, *positions)} -> (n,). Directions stand in place of channels where a reading is
            one of singular directions.

    >>> import torch
    >>> brightness = FeatureObjective(frozenset({Reading("0")}), lambda held: held[Reading("0")].mean((1, 2, 3)))
    >>> (2 * brightness + brightness)({Reading("0"): torch.ones(2, 3, 4, 4)})
    tensor([3., 3.])
    """

    readings: frozenset[Reading]
    value: Callable[[Held], Tensor]

    def __call__(self, held: Held) -> Tensor:
        """Return (n,) numbers with gradients."""
        return self.value(held)

    def __add__(self, other: FeatureObjective) -> FeatureObjective:
        return weighted_sum([(self, 1.0), (other, 1.0)]) if isinstance(other, FeatureObjective) else NotImplemented

    def __radd__(self, other: Any) -> FeatureObjective:
        return self if other == 0 else NotImplemented  # what `sum` begins with

    def __mul__(self, factor: float) -> FeatureObjective:
        return weighted_sum([(self, factor)]) if isinstance(factor, Real) else NotImplemented

    __rmul__ = __mul__


def weighted_sum(terms: Iterable[tuple[FeatureObjective, float]]) -> FeatureObjective:
    """Return the sum of objectives, each times its weight.

    Raises:
        InputError: for no objectives, and a weight that is not a finite number.
    """
    terms = list(terms)
    for _, weight in terms:
        if not isinstance(weight, Real) or not isfinite(weight):
            raise InputError(f"weight {weight!r} of an objective: expected a finite number.")
    if not terms:
        raise InputError("objective: expected one at least, got none.")
    readings = frozenset().union(*(objective.readings for objective, _ in terms))
    return FeatureObjective(readings, lambda held: sum(float(weight) * objective(held) for objective, weight in terms))


def channel_objective(layer: LayerName, channel: int) -> FeatureObjective:
    """Return a channel's mean over all positions; of a vector, the unit itself.

    Args:
        layer: see `Reading`.
        channel: from 0.
    """
    return _mean(Reading(layer), channel)


def neuron_objective(layer: LayerName, channel: int, position: Sequence[int] | None = None) -> FeatureObjective:
    """Return a channel at one position.

    Args:
        layer: see `Reading`.
        channel: from 0.
        position: (row, column), (token,), or () of a vector; by default the middle.
    """
    return _at(Reading(layer), channel, position)


def svd_objective(
    layer: LayerName, direction: int, position: Sequence[int] | None = None, *, neuron: bool = False
) -> FeatureObjective:
    """Return the response along a singular direction of a layer's weights.

    The weights (out, everything else) are U S V'. The response is U' (W x), without the bias: S V' x, what a layer with
    the direction's right singular vector as its weights would give, times the singular value. The sign of a direction
    is arbitrary; -1 times the objective shows its other end.

    Args:
        layer: of a convolution or a linear map; see `Reading`.
        direction: from 0, of the largest singular value.
        position: where; see `neuron_objective`.
        neuron: whether to take one position (the middle, if none is given), or the mean over all.
    """
    reading = Reading(layer, svd=True)
    return _at(reading, direction, position) if neuron or position is not None else _mean(reading, direction)


def diversity(layer: LayerName) -> FeatureObjective:
    """Return how much images of a batch differ in a layer, from -1 (alike) upwards; add it to another objective.

    Of each image, G is the Gram matrix of the layer's channels over positions. An image's number is minus the mean
    cosine of its G with those of the other images, so that the mean over images is minus the mean over all pairs.

    Raises:
        InputError: (when it is used) for a batch of one image.
    """
    reading = Reading(layer)

    def value(held: Held) -> Tensor:
        maps = held[reading].flatten(2) if held[reading].ndim > 2 else held[reading][:, :, None]
        if len(maps) < 2:
            raise InputError(f"diversity in layer {layer!r}: expected several images, got one; set n_images.")
        grams = F.normalize((maps @ maps.mT).flatten(1), dim=1)
        cosines = grams @ grams.mT
        return (cosines.diagonal() - cosines.sum(dim=1)) / (len(maps) - 1)

    return FeatureObjective(frozenset({reading}), value)


def dictionary_objective(
    neurons: Mapping[LayerName, Sequence[Any]], neuron_type: str = "channel", neuron: bool = True
) -> FeatureObjective:
    """Return the weighted sum of many neurons' responses.

    Args:
        neurons: layer -> neurons, or (neuron, weight) pairs; weights are 1 where none are given. A neuron is its
            number, or a tuple of its number and its position, (3, 0, 5); a pair is always a neuron and its weight.
        neuron_type: what the number counts: `'channel'` and `'element'` channels, `'svd'` singular directions.
        neuron: whether neurons without a position are taken in the middle, or as means over all positions. Elements
            always have one position.

    Raises:
        InputError: for an unknown type, no neurons, and what is not a neuron or a weight.
    """
    if neuron_type not in NEURON_TYPES:
        raise InputError(f"neuron_type {neuron_type!r}: expected one of {', '.join(map(repr, NEURON_TYPES))}.")
    if not isinstance(neurons, Mapping) or any(isinstance(entries, str) for entries in neurons.values()):
        raise InputError("neurons: expected a dictionary of layers and lists of neurons.")
    terms = []
    for layer, entries in neurons.items():
        reading = Reading(layer, svd=neuron_type == "svd")
        for entry in entries:
            named, weight = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, 1.0)
            number, *position = named if isinstance(named, tuple) and named else (named,)
            in_one_place = neuron or neuron_type == "element" or position
            part = _at(reading, number, position or None) if in_one_place else _mean(reading, number)
            terms.append((part, weight))
    return weighted_sum(terms)


def influential_neurons(
    profile: Profile, layers: Iterable[int] | None = None, n_largest: int | None = None
) -> dict[int, list[tuple[tuple[int, ...], float]]]:
    """Return layer -> [(neuron, weight), ...] of a profile, the largest weights first, for `dictionary_objective`.

    Args:
        profile: of channels, elements, or singular directions.
        layers: their numbers; by default all that have influential neurons.
        n_largest: how many of each layer; by default all.

    Raises:
        InputError: for a profile of places or of mixed types, and layers in which no neurons are influential.
    """
    view = profile if profile.is_dict_view else profile.dict_view()
    kind = (view.neuron_type or "").removesuffix(" (dict)")
    if kind not in NEURON_TYPES:
        raise InputError(f"profile of {kind} neurons: expected one of {', '.join(map(repr, NEURON_TYPES))}.")
    known = {layer: weights for layer, weights in view.neuron_weights.items() if weights}
    chosen = list(known) if layers is None else list(layers)
    if missing := [layer for layer in chosen if layer not in known]:
        raise InputError(f"layers {missing}: no neurons of them influence this profile; it has {list(known)}.")
    falling = {layer: sorted(known[layer].items(), key=lambda item: (-item[1], item[0])) for layer in chosen}
    return {layer: [(name[1], weight) for name, weight in items[:n_largest]] for layer, items in falling.items()}


def _mean(reading: Reading, number: int) -> FeatureObjective:
    def value(held: Held) -> Tensor:
        unit = _unit(held[reading], reading, number)
        return unit.flatten(1).mean(dim=1) if unit.ndim > 1 else unit

    return FeatureObjective(frozenset({reading}), value)


def _at(reading: Reading, number: int, position: Sequence[int] | None) -> FeatureObjective:
    def value(held: Held) -> Tensor:
        unit = _unit(held[reading], reading, number)
        sizes = tuple(unit.shape[1:])
        place = tuple(size // 2 for size in sizes) if position is None else tuple(position)
        if len(place) != len(sizes) or not all(_in_range(i, size) for i, size in zip(place, sizes, strict=True)):
            raise InputError(
                f"layer {reading.layer!r}: expected a position within {sizes}, counted from 0, got {place}."
            )
        return unit[(slice(None), *place)]

    return FeatureObjective(frozenset({reading}), value)


def _unit(maps: Tensor, reading: Reading, number: int) -> Tensor:
    """Return one channel's or direction's activations, (n, *positions)."""
    if not _in_range(number, maps.shape[1]):
        what = "direction" if reading.svd else "channel"
        raise InputError(f"layer {reading.layer!r}: expected a {what} from 0 to {maps.shape[1] - 1}, got {number!r}.")
    return maps[:, number]


def _in_range(number: Any, size: int) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and 0 <= number < size
