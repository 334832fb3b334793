"""From influential neurons and contributions to profiles, one a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from deepjuice.influence.contributions import Contributions
from deepjuice.influence.layers import Layer
from deepjuice.influence.neurons import Neurons
from deepjuice.influence.profile import Profile


@dataclass(frozen=True)
class NeuronSpace:
    """How the neurons of a type are numbered within a layer."""

    kind: str

    def shape(self, layer: Layer) -> tuple[int, int]:
        """Return the shape of a layer's neuron matrices."""
        if not layer.positions or self.kind == "channel":
            return (1, layer.n_channels)
        return (1, layer.n_positions) if self.kind == "spatial" else (layer.n_channels, layer.n_positions)

    def number(self, place: np.ndarray, layer: Layer) -> np.ndarray:
        """Return the flat number in that shape of neurons (channel * positions + position)."""
        if not layer.positions or self.kind == "element":
            return place
        return place // layer.n_positions if self.kind == "channel" else place % layer.n_positions


def assemble(
    layers: Sequence[Layer],
    found: dict[int, tuple[Neurons, Contributions]],
    n_pictures: int,
    space: NeuronSpace,
) -> list[Profile]:
    """Make the profiles of a batch.

    Args:
        layers: all of the network's.
        found: layer -> its influential neurons and what contributed to them, of all pictures.
        n_pictures: in the batch.
        space: of the type of neurons.
    """
    shapes = {layer.index: layer.shape for layer in layers}
    profiles = [
        Profile({}, {}, {}, {}, shapes, {layer.index: list(layer.predecessors) for layer in layers}, 1, space.kind)
        for _ in range(n_pictures)
    ]
    met: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}  # layer -> (pictures, neurons) that count
    for index, (neurons, contributions) in found.items():
        layer = layers[index]
        numbers, shape = space.number(_array(neurons.place(layer)), layer), space.shape(layer)
        pictures = _array(neurons.picture)
        met.setdefault(index, []).append((pictures, numbers))
        weights = _array(neurons.weight.double())
        for picture, rows in enumerate(_by_picture(pictures, n_pictures)):
            profiles[picture].neuron_weights[index] = _matrix(weights[rows], numbers[rows], shape)
        _synapses(profiles, layers, layer, pictures, numbers, contributions, space, met)
    for index in sorted(met):
        shape = space.shape(layers[index])
        pictures, numbers = (np.concatenate(parts) for parts in zip(*met[index], strict=True))
        keys, counts = np.unique(pictures * prod(shape) + numbers, return_counts=True)
        pictures, numbers = np.divmod(keys, prod(shape))
        for picture, rows in enumerate(_by_picture(pictures, n_pictures)):
            profiles[picture].neuron_counts[index] = _matrix(counts[rows], numbers[rows], shape)
    return profiles


def _synapses(profiles, layers, layer, pictures, numbers, contributions, space, met) -> None:
    """Add a layer's synapses to the profiles, and their contributors to those that count."""
    before = [layers[index] for index in layer.predecessors]
    sizes = [prod(space.shape(one)) for one in before]
    starts, n_rows, n_columns = np.cumsum([0, *sizes]), prod(space.shape(layer)), sum(sizes)
    to, slot, place = (_array(part) for part in (contributions.to, contributions.slot, contributions.place))
    number = np.empty_like(place)
    for which, one in enumerate(before):
        mine = slot == which
        number[mine] = space.number(place[mine], one)
    shape = (len(before) * n_rows, n_columns)
    picture, row, column = pictures[to], slot * n_rows + numbers[to], starts[slot] + number
    keys, first, inverse = np.unique(
        (picture * shape[0] + row) * shape[1] + column, return_index=True, return_inverse=True
    )
    weights = np.bincount(inverse, _array(contributions.weight.double()), len(keys))
    picture, row, column, slot, number = (part[first] for part in (picture, row, column, slot, number))
    for which, index in enumerate(layer.predecessors):
        met.setdefault(index, []).append((picture[slot == which], number[slot == which]))
    for one, rows in enumerate(_by_picture(picture, len(profiles))):
        place = (row[rows], column[rows])
        profiles[one].synapse_weights[layer.index] = sp.coo_matrix((weights[rows], place), shape)
        profiles[one].synapse_counts[layer.index] = sp.coo_matrix((np.ones(len(row[rows]), np.int64), place), shape)


def _matrix(values: np.ndarray, numbers: np.ndarray, shape: tuple[int, int]) -> sp.coo_matrix:
    return sp.coo_matrix((values, np.divmod(numbers, shape[1])), shape)


def _by_picture(pictures: np.ndarray, n_pictures: int) -> list[slice]:
    """Return where each picture's entries stand among those of all, which are sorted by picture."""
    ends = np.searchsorted(pictures, np.arange(n_pictures + 1))
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
