"""The shape of a profile: its synapses as a weighted graph, distances along them, and their persistent homology.

networkx and ripser are needed: `pip install networkx ripser`, or the extra `influence`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import dijkstra

from juicyfruits.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

Neuron = tuple[int, tuple[int, ...]]
Synapse = tuple[Neuron, Neuron]


def need(module: str, purpose: str) -> ModuleType:
    """Import a module of the optional extra."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs {module}, which cannot be imported ({error}); pip install {module}."
        ) from error


def tuples_from_dict(
    d: Mapping[int, Mapping[Synapse, float]], layers: Collection[int] | None = None
) -> list[tuple[Neuron, Neuron, float]]:
    """List synapses as (contributor, neuron, weight).

    Args:
        d: layer -> synapse -> weight, such as `profile.dict_view().synapse_weights`.
        layers: which layers' synapses to take, in this order; by default all.

    >>> tuples_from_dict({2: {((1, (0,)), (2, (5,))): 0.25}})
    [((1, (0,)), (2, (5,)), 0.25)]
    """
    if not isinstance(d, Mapping) or not all(isinstance(synapses, Mapping) for synapses in d.values()):
        raise InputError("synapse weights: expected dictionaries; give profile.dict_view().synapse_weights.")
    unknown = [layer for layer in layers or () if layer not in d]
    if unknown:
        raise InputError(f"layers {unknown}: expected layers that have synapses, {sorted(d)}.")
    chosen = d if layers is None else layers
    return [(*synapse, weight) for layer in chosen for synapse, weight in d[layer].items()]


def graph_from_tuples(
    t: Iterable[tuple[Neuron, Neuron, float]],
    directed: bool = True,
    weight_func: Callable[[float], float] = float,
) -> nx.Graph:
    """Make a graph of synapses.

    Args:
        t: what `tuples_from_dict` returns.
        directed: whether edges lead from contributors to neurons (`networkx.DiGraph`), or both ways (`Graph`).
        weight_func: what an edge's `weight` is of a synapse's, by default the same; negative ones become 0. As a
            length, `lambda w: 1 - w` makes strong synapses short.

    Raises:
        InputError: for weights that are not numbers, and where networkx is not installed.
    """
    nx = need("networkx", "a graph of synapses")
    graph = nx.DiGraph() if directed else nx.Graph()
    for contributor, neuron, weight in t:
        length = weight_func(weight)
        if np.isnan(length):
            raise InputError(f"weight of the synapse {contributor} to {neuron}: expected a number, got NaN.")
        graph.add_edge(contributor, neuron, weight=max(0, length))
    return graph


def mat_from_graph(G: nx.Graph, kernel: Callable[[float], float] = float) -> np.ndarray:
    """Return the distances (n, n) float64 of a graph's nodes along the shortest paths, in the order of `G.nodes`.

    Args:
        G: a Graph or DiGraph whose edges have a `weight` from 0 on, 1 where they have none.
        kernel: what becomes of a distance, by default the same. Where no path leads, infinity stays.

    Raises:
        InputError: for negative weights, and a multigraph.

    >>> import networkx as nx
    >>> mat_from_graph(nx.path_graph(3)).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """
    if G.is_multigraph():
        raise InputError("graph: expected one edge at most between two nodes, got a multigraph; use Graph or DiGraph.")
    number = {node: i for i, node in enumerate(G)}
    edges = [(number[a], number[b], weight) for a, b, weight in G.edges(data="weight", default=1)]
    if not G.is_directed():
        edges += [(b, a, weight) for a, b, weight in edges if a != b]
    rows, columns, weights = np.array(edges, float).reshape(-1, 3).T
    if not (weights >= 0).all():
        raise InputError("weights of the graph's edges: expected numbers from 0 on, got others; see weight_func.")
    lengths = sp.csr_matrix((weights, (rows.astype(int), columns.astype(int))), (len(number), len(number)))
    distances = dijkstra(lengths)
    reached = np.isfinite(distances)
    distances[reached] = [kernel(distance) for distance in distances[reached].tolist()]
    return distances


def ripser_of_distmat(mat: np.ndarray, maxdim: int = 1) -> dict[str, Any]:
    """Return what `ripser.ripser` finds in distances: `['dgms'][k]` are births and deaths (m, 2) of dimension k.

    Where the two directions differ, as in a directed graph, the smaller distance is taken: ripser itself reads only
    what stands above the diagonal, by which its answer would depend on the order of the nodes.

    Args:
        mat: (n, n); infinite where two are apart for ever.
        maxdim: highest dimension, 0 for components, 1 for loops.

    Raises:
        InputError: for what is no matrix of distances, and where ripser is not installed.
    """
    mat = np.asarray(mat, float)
    if mat.ndim != 2 or mat.shape[0] != mat.shape[1] or not len(mat) or np.isnan(mat).any():
        raise InputError(f"distances {mat.shape}: expected (n, n) numbers, n from 1, without NaN.")
    if not isinstance(maxdim, Integral) or isinstance(maxdim, bool) or maxdim < 0:
        raise InputError(f"maxdim {maxdim!r}: expected a whole number from 0; 1 finds components and loops.")
    ripser = need("ripser", "persistent homology").ripser
    return ripser(np.minimum(mat, mat.T), distance_matrix=True, maxdim=int(maxdim))


def ripser_of_graph(G: nx.Graph, kernel: Callable[[float], float] = float, maxdim: int = 1) -> dict[str, Any]:
    """Return the persistent homology of a graph's shortest paths: `mat_from_graph`, then `ripser_of_distmat`."""
    return ripser_of_distmat(mat_from_graph(G, kernel), maxdim)
