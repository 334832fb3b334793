"""How much profiles have in common: sizes of what two sets of neurons or synapses share, over what either has.

A neuron or synapse belongs to a profile if its count is not zero. A profile of no inputs is empty. Where two sets are
both empty, their similarity is 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp

from deepjuice.influence.profile import Profile
from juicyfruits.errors import InputError

Layers = Collection[int] | None


def jaccard(profile1: Profile, profile2: Profile, neuron: bool = True, layers: Layers = None) -> float:
    """Return the Jaccard similarity of two profiles, in [0, 1], all layers pooled.

    Args:
        profile1, profile2: of the same network and type of neurons, with matrices (not dictionary views).
        neuron: whether neurons are compared, or synapses.
        layers: numbers of the layers to compare, one by one (a tuple is no range here); by default all that either
            has. A layer that one does not have is empty there.

    Raises:
        InputError: for dictionary views, profiles of different types or shapes, and layers that neither has.
    """
    return float(jaccard_matrix([profile1, profile2], neuron, layers)[0, 1])


def avg_jaccard(profile1: Profile, profile2: Profile, neuron: bool = True, layers: Layers = None) -> float:
    """Return the mean over layers of the Jaccard similarity; arguments and errors as of `jaccard`.

    Layers that are empty in both are left out of the mean; it is 0 where nothing remains. Of layers that only one
    profile has, the similarity is 0, whichever comes first.
    """
    shared = [overlap for overlap in _overlaps([profile1, profile2], neuron, layers).values() if overlap.any()]
    return float(np.mean([similarity(overlap)[0, 1] for overlap in shared])) if shared else 0.0


def instance_jaccard(profile1: Profile, profile2: Profile, neuron: bool = True, layers: Layers = None) -> float:
    """Return what share of the first profile belongs to the second, in [0, 1]; arguments and errors as of `jaccard`.

    The first is usually of one picture, and the second of many.
    """
    shared = sum(_overlaps([profile1, profile2], neuron, layers).values(), start=np.zeros((2, 2)))
    return float(shared[0, 1] / shared[0, 0]) if shared[0, 0] else 0.0


def jaccard_simple(mat1: Any, mat2: Any) -> float:
    """Return the Jaccard similarity of the places at which two matrices of one shape, sparse or not, are not zero.

    >>> jaccard_simple(sp.coo_matrix([[1, 2, 0]]), sp.coo_matrix([[0, 5, 5]]))
    0.3333333333333333
    """
    if mat1.shape != mat2.shape:
        raise InputError(f"matrices of shapes {mat1.shape} and {mat2.shape}: expected one shape, of the same layer.")
    return float(similarity(_shared([_places(mat1), _places(mat2)]))[0, 1])


def jaccard_matrix(profiles: Iterable[Profile], neuron: bool = True, layers: Layers = None) -> np.ndarray:
    """Return the similarities (n, n) float64 of n profiles to each other, all layers pooled.

    The diagonal is 1, but 0 for empty profiles. `neuron`, `layers` and errors are as of `jaccard`.

    >>> one, two = (Profile({1: sp.coo_matrix(row)}, num_inputs=1) for row in ([[1, 1, 0]], [[0, 2, 1]]))
    >>> jaccard_matrix([one, two]).round(3).tolist()
    [[1.0, 0.333], [0.333, 1.0]]
    """
    profiles = _checked(profiles)
    n = len(profiles)
    return similarity(sum(_overlaps(profiles, neuron, layers).values(), start=np.zeros((n, n), np.int64)))


def layer_jaccards(profiles: Iterable[Profile], neuron: bool = True) -> dict[int, np.ndarray]:
    """Return layer -> the similarities (n, n) float64 of n profiles there; see `jaccard_matrix`."""
    return {layer: similarity(overlap) for layer, overlap in _overlaps(profiles, neuron, None).items()}


def _overlaps(profiles: Iterable[Profile], neuron: bool, layers: Layers) -> dict[int, np.ndarray]:
    """Return layer -> how many members each two profiles share (n, n) int64; on the diagonal stand their sizes."""
    profiles = _checked(profiles)
    part = "neuron_counts" if neuron else "synapse_counts"
    parts = [getattr(profile, part) if profile.num_inputs else {} for profile in profiles]
    _check_shapes(parts, part)
    known = {layer for one in profiles for layer in getattr(one, part)}
    nothing = np.zeros(0, np.int64)
    return {
        layer: _shared([_places(one[layer]) if layer in one else nothing for one in parts])
        for layer in _chosen(layers, known)
    }


def _places(matrix: Any) -> np.ndarray:
    """Return where a matrix is not zero, as sorted flat numbers (row * columns + column)."""
    matrix = sp.coo_matrix(matrix, copy=True)
    matrix.sum_duplicates()
    found = matrix.data != 0
    return np.sort(matrix.row[found].astype(np.int64) * matrix.shape[1] + matrix.col[found])


def _shared(sets: list[np.ndarray]) -> np.ndarray:
    """Return the sizes (n, n) int64 of the intersections of n sets of numbers."""
    numbers, columns = np.unique(np.concatenate(sets), return_inverse=True)  # only places that some set has
    ends = np.cumsum([0, *map(len, sets)])
    members = sp.csr_matrix((np.ones(len(columns), np.int64), columns, ends), (len(sets), len(numbers)))
    return (members @ members.T).toarray()


def similarity(shared: np.ndarray, of_empty: float = 0.0) -> np.ndarray:
    """Return the Jaccard similarities (n, n) float64 of n sets, of the sizes of their intersections (n, n).

    Args:
        shared: counts; the sets' own sizes on the diagonal.
        of_empty: the similarity of two empty sets.

    >>> similarity(np.array([[2, 1], [1, 2]])).round(3).tolist()
    [[1.0, 0.333], [0.333, 1.0]]
    """
    sizes = np.diag(shared)
    either = sizes[:, None] + sizes - shared
    return np.divide(shared, either, out=np.full(shared.shape, of_empty), where=either > 0)


def _checked(profiles: Iterable[Profile]) -> list[Profile]:
    if isinstance(profiles, Profile):
        raise InputError("profiles: expected a list of them, got one; put it in a list.")
    profiles = list(profiles)
    wrong = [type(one).__name__ for one in profiles if not isinstance(one, Profile)]
    if wrong or not profiles:
        got = wrong[0] if wrong else "none"
        raise InputError(f"profiles to compare: expected what create_profile returns, got {got}.")
    if any(one.is_dict_view for one in profiles):
        raise InputError("profiles to compare: expected matrices, got a dictionary view; give the profile it is of.")
    kinds = sorted({one.neuron_type for one in profiles} - {None})
    if len(kinds) > 1:
        raise InputError(f"profiles to compare have neurons of types {', '.join(kinds)}; make them of one type.")
    return profiles


def _check_shapes(parts: list[dict[int, Any]], part: str) -> None:
    shapes: dict[int, tuple[int, int]] = {}
    for one in parts:
        for layer, matrix in one.items():
            if shapes.setdefault(layer, matrix.shape) != matrix.shape:
                raise InputError(
                    f"profiles to compare: layer {layer} has {part} of shapes {shapes[layer]} and {matrix.shape}; "
                    "compare profiles of one network, and of pictures of one size."
                )


def _chosen(layers: Layers, known: set[int]) -> list[int]:
    if layers is None:
        return sorted(known)
    chosen = sorted(set(layers)) if isinstance(layers, Collection) and not isinstance(layers, str) else []
    unknown = [layer for layer in chosen if not isinstance(layer, Integral) or (known and layer not in known)]
    if unknown or not chosen:
        raise InputError(f"layers {layers!r}: expected a list of layers of the profiles, {sorted(known)}.")
    return chosen
