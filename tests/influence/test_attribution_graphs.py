"""Attribution graphs against the profile's matrices, and what is drawn of them."""

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import nn

from deepjuice.influence import Profile, SVDProfiler, TorchProfiler
from deepjuice.influence.attribution import attribution_graph, draw_attribution_graph, layer_graph
from juicyfruits.errors import InputError


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Linear(6, 4)
        nn.init.normal_(self.second.weight, std=0.3)  # so that either branch of the sum is the larger somewhere
        nn.init.ones_(self.last.bias)  # so that some answers are positive

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x)) + x
        return self.last(x.mean((2, 3)))


@pytest.fixture(scope="module")
def profiler():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return TorchProfiler(Residual().eval(), example=torch.randn(1, 3, 6, 6))


@pytest.fixture(scope="module")
def picture():
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def profile(profiler, picture):
    return profiler.create_profile(picture, threshold=0.7)


@pytest.mark.parametrize("channels", [True, False])
def test_the_graph_holds_the_profile(profiler, picture, channels):
    profile = profiler.create_profile(picture, threshold=0.5, channels=channels)
    graph, shapes = attribution_graph(profile), profile.activation_shapes
    assert type(graph) is nx.DiGraph and list(graph) == sorted(graph)
    assert graph.number_of_nodes() == profile.size and graph.number_of_edges() == profile.num_synapses

    def flat(neuron):
        layer, index = neuron
        return int(np.ravel_multi_index(index, shapes[layer][1 : 1 + len(index)]))

    def size(layer):
        return profile.neuron_counts[layer].shape[0] * profile.neuron_counts[layer].shape[1]

    for neuron, found in graph.nodes(data=True):
        layer = neuron[0]
        count, weight = (
            part[layer].toarray().ravel()[flat(neuron)] if layer in part else 0
            for part in (profile.neuron_counts, profile.neuron_weights)
        )
        assert found == {"layer": layer, "count": count, "weight": weight}
    assert {layer for _, layer in graph.nodes(data="layer")} == {0, 1, 2, 3, 4, 5}
    for (before, start), (layer, end), found in graph.edges(data=True):
        slot = profile.pred_dict[layer].index(before)
        column = sum(size(one) for one in profile.pred_dict[layer][:slot]) + flat((before, start))
        place = slot * size(layer) + flat((layer, end)), column
        assert found["weight"] == profile.synapse_weights[layer].toarray()[place] > 0
        assert found["count"] == profile.synapse_counts[layer].toarray()[place] > 0
    assert {(a[0], b[0]) for a, b in graph.edges} == {(0, 1), (1, 2), (1, 3), (2, 3), (3, 4), (4, 5)}
    same = attribution_graph(profile.dict_view())
    assert list(same.nodes(data=True)) == list(graph.nodes(data=True))
    assert list(same.edges(data=True)) == list(graph.edges(data=True))


def test_a_profile_without_synapses_has_neurons_only(picture):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        profiler = SVDProfiler(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()).eval(), example=picture)
    graph = attribution_graph(profiler.create_profile(picture, threshold=0.9))
    assert graph.number_of_nodes() > 1 and not graph.number_of_edges()
    assert draw_attribution_graph(graph).get_xticklabels()[0].get_text() == "1"


def test_layers_feed_layers_as_the_network_says(profiler):
    graph = layer_graph(profiler)
    assert set(graph.edges) == {(0, 1), (1, 2), (1, 3), (2, 3), (3, 4), (4, 5)}
    assert list(graph) == [0, 1, 2, 3, 4, 5]
    assert {n: [list(node["names"]), node["rule"]] for n, node in graph.nodes.items()} == dict(profiler.create_layers())
    assert graph.nodes[2]["shape"] == (1, 6, 6, 6) and graph.nodes[5]["shape"] == (1, 4)


def drawn(ax, gid):
    (found,) = [collection for collection in ax.collections if collection.get_gid() == gid]
    return found


def by_hand():
    """Two columns: neurons 0 to 4 of layer 1, of which 1 and 3 are influential, and two of layer 4."""
    graph = nx.DiGraph()
    for index, weight in enumerate([0.0, 0.25, 0.0, 0.75, 0.0]):
        graph.add_node((1, (index,)), layer=1, weight=weight, count=1)
    for index, weight in enumerate([0.4, 0.6]):
        graph.add_node((4, (index, 2)), layer=4, weight=weight, count=2)
    for start, end, weight in ((3, 0, 0.81), (2, 1, 0.09), (4, 1, 0.36), (1, 0, 0.01)):
        graph.add_edge((1, (start,)), (4, (end, 2)), weight=weight, count=1)
    return graph


def test_what_is_drawn():
    """In layer 1: 3 and 1 by their weights, 4 and 2 by what they give, and 0, which gives nothing."""
    ax = draw_attribution_graph(by_hand())
    neurons, synapses = drawn(ax, "neurons"), drawn(ax, "synapses")
    places = {}
    for (x, y), text in zip(neurons.get_offsets().tolist(), ax.texts, strict=True):
        assert text.xy == (x, y)
        places[text.get_text()] = (x, y)
    assert places == {
        **{"3": (0, -2), "1": (0, -1), "4": (0, 0), "2": (0, 1), "0": (0, 2)},
        **{"1,2": (1, -0.5), "0,2": (1, 0.5)},
    }
    assert ax.yaxis_inverted() and [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4"]
    areas = dict(zip(places, neurons.get_sizes(), strict=True))
    assert areas["3"] == max(areas.values()) and areas["0"] == areas["2"] == areas["4"] == min(areas.values())
    assert areas["0"] > 4
    rise = areas["3"] - areas["0"]
    assert (areas["1,2"] - areas["0"]) / rise == pytest.approx(0.8)  # 0.6 of 0.75
    assert (areas["1"] - areas["0"]) / rise == pytest.approx(1 / 3)
    white = dict(zip(places, (face[:3].tolist() == [1, 1, 1] for face in neurons.get_facecolors()), strict=True))
    assert [name for name, is_white in white.items() if is_white] == ["4", "2", "0"]

    ends = [(tuple(path.vertices[0]), tuple(path.vertices[-1])) for path in synapses.get_paths()]
    names = {place: name for name, place in places.items()}
    widths = {(names[a], names[b]): w for (a, b), w in zip(ends, synapses.get_linewidths(), strict=True)}
    assert widths.keys() == {("3", "0,2"), ("2", "1,2"), ("4", "1,2"), ("1", "0,2")}
    relative = {synapse: width / widths["3", "0,2"] for synapse, width in widths.items()}
    assert relative == pytest.approx({("3", "0,2"): 1, ("2", "1,2"): 1 / 3, ("4", "1,2"): 2 / 3, ("1", "0,2"): 1 / 9})
    assert (np.diff(synapses.get_linewidths()) > 0).all()  # the heaviest are drawn last
    assert np.allclose(synapses.get_edgecolors()[:, :3], to_rgb("#0072B2"))
    assert (np.diff(synapses.get_edgecolors()[:, 3]) > 0).all()


def test_only_the_heaviest_are_drawn_and_the_rest_is_counted():
    ax = draw_attribution_graph(by_hand(), top=3)
    assert [text.get_text() for text in ax.texts] == ["3", "1", "4", "1,2", "0,2", "+ 2"]
    assert len(drawn(ax, "synapses").get_paths()) == 3 and ax.texts[-1].xy[0] == 0
    nx.set_node_attributes(graph := by_hand(), dict.fromkeys([(1, (1,)), (1, (3,))], 0), "weight")
    ax = draw_attribution_graph(graph, top=1)  # 3 gives more, to a neuron that is not drawn
    assert [text.get_text() for text in ax.texts] == ["4", "1,2", "+ 4", "+ 1"]
    alone = draw_attribution_graph(by_hand(), layers=[1], top=2)
    assert len(drawn(alone, "synapses").get_paths()) == 0
    assert [text.get_text() for text in alone.texts] == ["3", "1", "+ 3"]


def test_a_profile_is_drawn_as_its_graph_on_the_axes_given(profile):
    ax = Figure().add_subplot()
    assert draw_attribution_graph(profile, ax, layers=(3, 1, 2), top=100) is ax
    graph = attribution_graph(profile)
    part = graph.subgraph([neuron for neuron in graph if neuron[0] in (1, 2, 3)])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "3"]
    assert len(drawn(ax, "neurons").get_offsets()) == part.number_of_nodes() > 8
    widths = np.sort(drawn(ax, "synapses").get_linewidths()) ** 2
    weights = np.sort([weight for _, _, weight in part.edges(data="weight")])
    assert {(1, 3), (2, 3), (1, 2)} >= {(a[0], b[0]) for a, b in part.edges} and len(weights) > 8
    np.testing.assert_allclose(widths / widths[-1], weights / weights[-1])
    again = draw_attribution_graph(graph)
    assert again.figure is not ax.figure and len(again.get_xticks()) == 6


def test_bad_input_is_refused(profile):
    for call, said in (
        (lambda: attribution_graph({1: 2}), "expected a Profile, got dict"),
        (
            lambda: attribution_graph(Profile(neuron_type="mixed", activation_shapes={}, pred_dict={})),
            "different types",
        ),
        (lambda: layer_graph(profile), "expected a profiler, got Profile"),
        (lambda: draw_attribution_graph(profile, layers=[1, 9]), r"layers \[1, 9\].*\[0, 1, 2, 3, 4, 5\]"),
        (lambda: draw_attribution_graph(profile, layers=[]), "expected layers that have neurons"),
        (lambda: draw_attribution_graph(profile, top=0), "top 0: expected a whole number"),
        (lambda: draw_attribution_graph(nx.DiGraph()), "it has no neurons"),
    ):
        with pytest.raises(InputError, match=said):
            call()
