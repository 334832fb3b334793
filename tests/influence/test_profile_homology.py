"""Graphs of profiles and their homology against networkx, deep-data-profiler 2.0.1 and closed forms."""

import sys
import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.influence import TorchProfiler
from deepjuice.influence.homology import (
    graph_from_tuples,
    mat_from_graph,
    ripser_of_distmat,
    ripser_of_graph,
    tuples_from_dict,
)
from juicyfruits.errors import InputError


@pytest.fixture(scope="module")
def theirs():
    with warnings.catch_warnings(), torch.random.fork_rng():
        from deep_data_profiler.algorithms import homology
    return homology


@pytest.fixture(scope="module")
def synapses():
    """The synapse weights of a small network's profile, as dictionaries."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)]
        net, x = nn.Sequential(*layers).eval(), torch.randn(1, 3, 8, 8)
    profile = TorchProfiler(net, example=x).create_profile(x, threshold=0.6)
    return profile.dict_view().synapse_weights


def length(weight):
    return 1 - weight


def same_diagrams(ours, theirs):
    assert len(ours["dgms"]) == len(theirs["dgms"])
    for one, other in zip(ours["dgms"], theirs["dgms"], strict=True):
        np.testing.assert_allclose(sorted(one.tolist()), sorted(other.tolist()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("layers", [None, [2, 3]])
def test_graphs_and_distances_are_deep_data_profilers(theirs, synapses, directed, layers):
    ours = graph_from_tuples(tuples_from_dict(synapses, layers), directed, length)
    other = theirs.graph_from_tuples(theirs.tuples_from_dict(synapses, layers), directed, length)
    assert type(ours) is type(other) and list(ours.nodes) == list(other.nodes)
    assert list(ours.edges(data=True)) == list(other.edges(data=True)) and ours.size() > 10
    for kernel in (float, lambda distance: 1 - 2.0**-distance):
        distances = mat_from_graph(ours, kernel)
        np.testing.assert_allclose(distances, theirs.mat_from_graph(other, kernel), rtol=0, atol=1e-12)
    assert np.isinf(distances).any() == directed and (distances[np.isfinite(distances)] < 1).all()


def test_undirected_homology_is_deep_data_profilers(theirs, synapses):
    graph = graph_from_tuples(tuples_from_dict(synapses), False, length)
    found = ripser_of_graph(graph, maxdim=1)
    same_diagrams(found, theirs.ripser_of_graph(graph, maxdim=1))
    same_diagrams(ripser_of_distmat(mat_from_graph(graph), 1), found)
    assert len(found["dgms"][1]) > 0


@pytest.mark.parametrize("n", [6, 9])
@pytest.mark.parametrize("directed", [False, True])
def test_a_ring_has_one_loop(n, directed):
    """Born when neighbours meet, at 1; filled when every third of the way round is bridged, at ceil(n / 3).

    Of a ring that leads one way, the distance is that of the shorter way from one node to the other, or back.
    """
    graph = nx.cycle_graph(n, create_using=nx.DiGraph if directed else nx.Graph)
    assert mat_from_graph(graph)[1, 0] == (n - 1 if directed else 1)
    components, loops = ripser_of_graph(graph)["dgms"]
    assert components.tolist() == [[0, 1]] * (n - 1) + [[0, np.inf]]
    assert loops.tolist() == [[1, -(-n // 3)]]
    assert len(ripser_of_graph(graph, maxdim=0)["dgms"]) == 1
    assert ripser_of_graph(graph, kernel=lambda distance: 3 * distance)["dgms"][1].tolist() == [[3, 3 * -(-n // 3)]]


def test_the_order_of_nodes_does_not_matter(synapses):
    """Of a directed graph, ripser alone reads the distances above the diagonal, which differ with the order."""
    graph = graph_from_tuples(tuples_from_dict(synapses), True, length)
    distances = mat_from_graph(graph)
    order = np.random.default_rng(0).permutation(len(distances))
    same_diagrams(ripser_of_distmat(distances), ripser_of_distmat(distances[np.ix_(order, order)]))
    same_diagrams(ripser_of_distmat(distances), ripser_of_distmat(distances.T))
    both = np.where(np.isinf(distances), distances.T, distances)  # no two neurons feed each other
    same_diagrams(ripser_of_distmat(distances), ripser_of_distmat(both))


def test_two_parts_never_meet():
    graph = nx.disjoint_union(nx.path_graph(3), nx.path_graph(2))
    assert np.isinf(ripser_of_graph(graph)["dgms"][0][:, 1]).sum() == 2
    assert np.isinf(mat_from_graph(graph)[:3, 3:]).all()


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph])
def test_shortest_paths_are_networkxs(kind):
    """With weights of 0, without weights, with edges from a node to itself, and nodes that nothing reaches."""
    rng = np.random.default_rng(3)
    graph = kind(nx.gnp_random_graph(25, 0.1, seed=1, directed=kind is nx.DiGraph))
    graph.add_edge(4, 4)
    for a, b in graph.edges:
        if rng.random() < 0.8:
            graph[a][b]["weight"] = max(0.0, rng.standard_normal())
    expected = np.full((25, 25), np.inf)
    for a, row in nx.shortest_path_length(graph, weight="weight"):
        for b, distance in row.items():
            expected[a, b] = distance
    assert (expected == 0).sum() > 30 and np.isinf(expected).any()
    np.testing.assert_allclose(mat_from_graph(graph), expected, rtol=0, atol=1e-12)


def test_negative_weights_of_synapses_become_zero():
    t = [((0, (1,)), (1, (2,)), 3.0), ((0, (2,)), (1, (2,)), 0.5)]
    graph = graph_from_tuples(t, weight_func=length)
    assert [weight for _, _, weight in graph.edges(data="weight")] == [0, 0.5]
    assert [weight for _, _, weight in graph_from_tuples(t).edges(data="weight")] == [3, 0.5]
    assert mat_from_graph(nx.Graph()).shape == (0, 0)


def test_bad_input_is_refused(synapses):
    profile_matrices = {1: np.eye(2)}
    for call, said in (
        (lambda: tuples_from_dict(profile_matrices), r"give profile.dict_view\(\).synapse_weights"),
        (lambda: tuples_from_dict(synapses, [1, 9]), r"layers \[9\]: expected layers that have synapses, \[1, 2, 3\]"),
        (lambda: graph_from_tuples([(0, 1, np.nan)]), "synapse 0 to 1: expected a number, got NaN"),
        (lambda: mat_from_graph(nx.MultiGraph([(0, 1)])), "got a multigraph"),
        (lambda: mat_from_graph(nx.Graph([(0, 1, {"weight": -1})])), "numbers from 0 on"),
        (lambda: ripser_of_distmat(np.zeros((2, 3))), r"distances \(2, 3\)"),
        (lambda: ripser_of_distmat(np.zeros((0, 0))), "n from 1"),
        (lambda: ripser_of_distmat(np.full((2, 2), np.nan)), "without NaN"),
        (lambda: ripser_of_distmat(np.zeros((2, 2)), maxdim=-1), "maxdim -1"),
    ):
        with pytest.raises(InputError, match=said):
            call()


def test_what_is_not_installed_is_named(monkeypatch):
    for name in ("networkx", "ripser"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"networkx.*pip install networkx\."):
        graph_from_tuples([])
    with pytest.raises(InputError, match=r"ripser.*pip install ripser\."):
        ripser_of_distmat(np.zeros((2, 2)))
