"""Profiles as dictionaries, in which every neuron names its layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepjuice.influence.profile import Profile
from juicyfruits.errors import InputError


def dict_view(profile: Profile) -> Profile:
    """Return a profile whose matrices are dictionaries: layer -> neuron or synapse -> value.

    A neuron is `(layer, index)`, with the index `(channel,)` in profiles of channels, `(channel, row, column)` of
    elements, `(row, column)` of places, and `(unit,)` where a layer has no positions. A synapse is `(contributor,
    neuron)`. What is zero is left out.

    Raises:
        InputError: for a view of a view, a sum of different types of neurons, and a profile that does not know its
            layers' shapes.
    """
    if profile.is_dict_view:
        raise InputError("dict_view: this is a dictionary view already.")
    if profile.activation_shapes is None or profile.pred_dict is None:
        raise InputError("dict_view: the profile has no activation_shapes and pred_dict; give it a profiler's.")
    if profile.neuron_type == "mixed":
        raise InputError("dict_view: a sum of different types of neurons has no one way to name them.")
    view = _View(profile)
    return Profile(
        {layer: view.neurons(layer, matrix) for layer, matrix in profile.neuron_counts.items()},
        {layer: view.neurons(layer, matrix) for layer, matrix in profile.neuron_weights.items()},
        {layer: view.synapses(layer, matrix) for layer, matrix in profile.synapse_counts.items()},
        {layer: view.synapses(layer, matrix) for layer, matrix in profile.synapse_weights.items()},
        profile.activation_shapes,
        profile.pred_dict,
        profile.num_inputs,
        f"{profile.neuron_type} (dict)",
    )


class _View:
    def __init__(self, profile: Profile):
        self._shapes, self._before = profile.activation_shapes, profile.pred_dict
        self._type = profile.neuron_type

    def sizes(self, layer: int) -> tuple[int, ...]:
        """Return how many numbers name a neuron of a layer, and their ranges."""
        _, channels, *positions = self._shapes[layer]
        if not positions or self._type in ("channel", "svd"):
            return (channels,)
        return tuple(positions) if self._type == "spatial" else (channels, *positions)

    def names(self, layer: int, flat: np.ndarray) -> list[tuple]:
        met, which = np.unique(flat, return_inverse=True)  # neurons have many synapses
        index = zip(*(numbers.tolist() for numbers in np.unravel_index(met, self.sizes(layer))), strict=True)
        names = [(layer, numbers) for numbers in index]
        return [names[number] for number in which.tolist()]

    def neurons(self, layer: int, matrix: Any) -> dict[tuple, Any]:
        matrix = _without_zeros(matrix)
        flat = matrix.row.astype(np.int64) * matrix.shape[1] + matrix.col
        return dict(zip(self.names(layer, flat), matrix.data.tolist(), strict=True))

    def synapses(self, layer: int, matrix: Any) -> dict[tuple, Any]:
        matrix, before = _without_zeros(matrix), self._before[layer]
        sizes = [int(np.prod(self.sizes(one))) for one in before]
        starts = np.cumsum([0, *sizes])
        block = np.searchsorted(starts, matrix.col, side="right") - 1
        rows = matrix.row - block * int(np.prod(self.sizes(layer)))
        found: dict[tuple, Any] = {}
        for number, one in enumerate(before):
            mine = block == number
            pairs = zip(self.names(one, matrix.col[mine] - starts[number]), self.names(layer, rows[mine]), strict=True)
            found.update(zip(pairs, matrix.data[mine].tolist(), strict=True))
        return found


def _without_zeros(matrix: Any) -> Any:
    matrix = matrix.tocoo(copy=True)
    matrix.eliminate_zeros()
    return matrix
