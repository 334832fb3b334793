"""Profiles: which neurons and synapses carried what a network made of one picture, or of several."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import scipy.sparse as sp

from juicyfruits.errors import InputError

PARTS = ("neuron_counts", "neuron_weights", "synapse_counts", "synapse_weights")


class Profile:
    """The neurons and synapses that influenced a network's answer, layer by layer.

    Everything is held by number of layer, as sparse matrices (`scipy.sparse.coo_matrix`). A layer of C channels with P
    positions has neurons 1 x C in profiles of channels, C x P of elements, and 1 x P of places; a layer without
    positions 1 x C. Synapses are a matrix of its neurons by those of the layer before it. A layer that reads several
    layers has a block for each on the diagonal, in the order of `pred_dict`.

    Attributes:
        neuron_counts: how often a neuron is influential, or contributes to one that is; int64.
        neuron_weights: an influential neuron's share of its layer's influence; sums to 1 over one picture.
        synapse_counts: in how many pictures a neuron contributed to another; int64.
        synapse_weights: its share of what was accepted of all contributions.
        activation_shapes: layer -> (1, channels, *positions).
        pred_dict: layer -> the layers that it reads, sorted.
        num_inputs: number of pictures.
        neuron_type: `'channel'`, `'element'`, `'spatial'`, `'svd'`, `'mixed'`; with `' (dict)'` appended for a
            dictionary view.

    Profiles are added with `+` and `+=`: counts add up, and weights become their mean weighted by counts,
    (w1 c1 + w2 c2) / (c1 + c2), so that those of several pictures no longer sum to 1.

    >>> one = Profile({1: sp.coo_matrix([[0, 1, 2]])}, {1: sp.coo_matrix([[0, 0.25, 0.75]])}, num_inputs=1)
    >>> (one + one).neuron_counts[1].toarray().tolist(), (one + one).num_inputs, one.total, one.size
    ([[0, 2, 4]], 2, 3, 2)
    """

    __hash__ = None

    def __init__(
        self,
        neuron_counts: Mapping[int, Any] | None = None,
        neuron_weights: Mapping[int, Any] | None = None,
        synapse_counts: Mapping[int, Any] | None = None,
        synapse_weights: Mapping[int, Any] | None = None,
        activation_shapes: Mapping[int, tuple[int, ...]] | None = None,
        pred_dict: Mapping[int, list[int]] | None = None,
        num_inputs: int = 0,
        neuron_type: str | None = None,
    ):
        self.neuron_counts = dict(neuron_counts or {})
        self.neuron_weights = dict(neuron_weights or {})
        self.synapse_counts = dict(synapse_counts or {})
        self.synapse_weights = dict(synapse_weights or {})
        self.activation_shapes = None if activation_shapes is None else dict(activation_shapes)
        self.pred_dict = None if pred_dict is None else dict(pred_dict)
        self.num_inputs = num_inputs
        self.neuron_type = neuron_type

    @property
    def is_dict_view(self) -> bool:
        """Whether dictionaries stand in place of matrices."""
        return (self.neuron_type or "").endswith(" (dict)")

    @property
    def total(self) -> int:
        """Sum of all neuron counts."""
        return int(sum(np.sum(_values(counts)) for counts in self.neuron_counts.values()))

    @property
    def size(self) -> int:
        """Number of neurons that influence or contribute."""
        return int(sum(np.count_nonzero(_values(counts)) for counts in self.neuron_counts.values()))

    @property
    def num_synapses(self) -> int:
        """Number of synapses."""
        return int(sum(np.count_nonzero(_values(counts)) for counts in self.synapse_counts.values()))

    def dict_view(self) -> Profile:
        """Return the same profile with dictionaries: see `deepjuice.influence.dict_view`."""
        from deepjuice.influence.dict_view import dict_view

        return dict_view(self)

    def __iter__(self) -> Iterator[int]:
        return iter(self.neuron_counts)

    def __repr__(self) -> str:
        kind = f"{self.neuron_type} " if self.neuron_type else ""
        return f"Profile({kind}neurons of {len(self.neuron_counts)} layers, num_inputs={self.num_inputs})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Profile):
            return NotImplemented
        types = {self.neuron_type, other.neuron_type} - {None}
        return (
            self.num_inputs == other.num_inputs
            and len(types) < 2
            and all(_equal(getattr(self, part), getattr(other, part)) for part in PARTS)
        )

    def __add__(self, other: Profile) -> Profile:
        if not isinstance(other, Profile):
            return NotImplemented
        total = deepcopy(self)
        total += other
        return total

    def __radd__(self, other: Any) -> Profile:
        return deepcopy(self) if other == 0 else NotImplemented  # what `sum` begins with

    def __iadd__(self, other: Profile) -> Profile:
        if not isinstance(other, Profile):
            return NotImplemented
        if other.num_inputs == 0:
            return self
        if self.num_inputs == 0:
            vars(self).update(deepcopy(vars(other)))
            return self
        _check_addable(self, other)
        if self.neuron_type and other.neuron_type and self.neuron_type != other.neuron_type:
            warnings.warn(f"profiles of {self.neuron_type} and {other.neuron_type} neurons are mixed.", stacklevel=2)
            self.neuron_type = "mixed"
        for kind in ("neuron", "synapse"):
            counts, weights = dict(getattr(self, f"{kind}_counts")), dict(getattr(self, f"{kind}_weights"))
            more_counts, more_weights = getattr(other, f"{kind}_counts"), getattr(other, f"{kind}_weights")
            for layer in more_counts.keys() | more_weights.keys():
                pairs = [(w.get(layer), c.get(layer)) for w, c in ((weights, counts), (more_weights, more_counts))]
                total = _sum([count for _, count in pairs if count is not None])
                if any(weight is not None for weight, _ in pairs):
                    weights[layer] = _mean_weight(pairs, total)
                counts[layer] = total
            setattr(self, f"{kind}_counts", counts)  # a shallow copy has the same dictionaries
            setattr(self, f"{kind}_weights", weights)
        self.num_inputs += other.num_inputs
        for name in ("activation_shapes", "pred_dict"):
            setattr(self, name, {**(getattr(other, name) or {}), **(getattr(self, name) or {})} or None)
        return self


def _values(counts: Any) -> np.ndarray:
    return np.fromiter(counts.values(), float) if isinstance(counts, Mapping) else counts.data


def _sum(matrices: list[Any]) -> sp.coo_matrix:
    return sp.coo_matrix(sum(matrix.tocsr() for matrix in matrices))


def _mean_weight(pairs: list[tuple[Any, Any]], total: sp.coo_matrix) -> sp.coo_matrix:
    products = [weight.tocsr().multiply(count.tocsr()) for weight, count in pairs if weight is not None]
    share = sp.csr_matrix(total, dtype=float)
    share.sum_duplicates()
    share.data = 1 / share.data
    mean = sp.coo_matrix(sum(products).multiply(share))
    mean.eliminate_zeros()
    return mean


def _equal(ours: Mapping[int, Any], theirs: Mapping[int, Any]) -> bool:
    def same(a: Any, b: Any) -> bool:
        if isinstance(a, Mapping) or isinstance(b, Mapping):
            return isinstance(a, Mapping) and isinstance(b, Mapping) and a == b
        return a.shape == b.shape and (a.tocsr() != b.tocsr()).nnz == 0

    return ours.keys() == theirs.keys() and all(same(ours[layer], theirs[layer]) for layer in ours)


def _check_addable(one: Profile, other: Profile) -> None:
    if one.is_dict_view or other.is_dict_view:
        raise InputError("sum of profiles: dictionary views cannot be added; add the profiles, then view the sum.")
    for part in PARTS:
        ours, theirs = getattr(one, part), getattr(other, part)
        for layer in ours.keys() & theirs.keys():
            if ours[layer].shape != theirs[layer].shape:
                raise InputError(
                    f"sum of profiles: layer {layer} has {part} of shape {ours[layer].shape} ({one.neuron_type}) and "
                    f"{theirs[layer].shape} ({other.neuron_type}); add profiles of one network and one type of neuron."
                )
