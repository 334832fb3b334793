"""Attribution graphs: the neurons of a profile and the synapses between them, as a graph and as a drawing.

networkx is needed: `pip install networkx`, or the extra `influence`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from deepjuice.influence.homology import Neuron, Synapse, need
from deepjuice.influence.profile import Profile
from deepjuice.influence.profiler import TorchProfiler
from juicyfruits.errors import InputError

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

SYNAPSE_COLOR = "#0072B2"
NEURON_COLOR = "#D55E00"
GREY = "#6b6b6b"
WIDEST, LARGEST, SMALLEST = 3.2, 110.0, 9.0  # points; square points


def attribution_graph(profile: Profile) -> nx.DiGraph:
    """Return the neurons of a profile, and its synapses from contributors to the neurons that they contribute to.

    Nodes are `(layer, index)`, as in the dictionary view, sorted; their attributes are `layer`, `weight` (0 for those
    that contribute and are not influential themselves) and `count`. Edges have `weight` and `count`.

    Args:
        profile: of any type that has a dictionary view, or such a view.

    Raises:
        InputError: for a profile without a dictionary view, and where networkx is not installed.
    """
    if not isinstance(profile, Profile):
        raise InputError(f"attribution graph: expected a Profile, got {type(profile).__name__}.")
    nx = need("networkx", "an attribution graph")
    view = profile if profile.is_dict_view else profile.dict_view()
    counts, weights = _joined(view.neuron_counts), _joined(view.neuron_weights)
    synapse_counts, synapse_weights = _joined(view.synapse_counts), _joined(view.synapse_weights)
    graph = nx.DiGraph()
    for neuron in sorted({*counts, *weights, *(end for synapse in synapse_counts for end in synapse)}):
        graph.add_node(neuron, layer=neuron[0], weight=weights.get(neuron, 0.0), count=counts.get(neuron, 0))
    for synapse in sorted(synapse_counts):
        graph.add_edge(*synapse, weight=synapse_weights.get(synapse, 0.0), count=synapse_counts[synapse])
    return graph


def layer_graph(profiler: TorchProfiler) -> nx.DiGraph:
    """Return which layer of a network feeds which: nodes are numbers of layers, 0 the input.

    A node's attributes are `names` of its operations, its `rule`, and the `shape` (1, channels, *positions) of its
    activation.
    """
    if not isinstance(profiler, TorchProfiler):
        raise InputError(f"layer graph: expected a profiler, got {type(profiler).__name__}; give TorchProfiler(model).")
    graph = need("networkx", "a layer graph").DiGraph()
    for layer in profiler.layers:
        graph.add_node(layer.index, names=layer.names, rule=layer.rule, shape=layer.shape)
        graph.add_edges_from((before, layer.index) for before in layer.predecessors)
    return graph


def draw_attribution_graph(
    profile_or_graph: Profile | nx.DiGraph,
    ax: Axes | None = None,
    layers: Collection[int] | None = None,
    top: int = 12,
) -> Axes:
    """Draw the heaviest neurons of each layer and the synapses between them.

    Layers are columns, from the first on the left; within a layer the heaviest neuron is on top, and of those that only
    contribute (open circles) the one that gives most to what is drawn. A neuron's area grows with its weight, and a
    synapse's width with the square root of its weight. What is left out of a layer is counted below it.

    Args:
        profile_or_graph: a profile, or its `attribution_graph`.
        ax: where to draw; by default a new figure, which is `.figure` of what is returned.
        layers: which to draw; by default all.
        top: how many neurons of a layer to draw at most.

    Returns:
        The axes. Column x has the tick x; neurons are its collection with the gid `'neurons'`, synapses `'synapses'`.

    Raises:
        InputError: for layers that the profile does not have, and a graph or profile without neurons.
    """
    is_profile = isinstance(profile_or_graph, Profile)
    graph = attribution_graph(profile_or_graph) if is_profile else profile_or_graph
    columns = _columns(graph, layers, top)
    places = {
        neuron: (float(x), rank - (len(shown) - 1) / 2)
        for x, (shown, _) in enumerate(columns.values())
        for rank, neuron in enumerate(shown)
    }
    height = max(len(shown) for shown, _ in columns.values())
    ax = _new_axes(len(columns), height) if ax is None else ax
    _draw_synapses(ax, graph, places)
    _draw_neurons(ax, graph, places)
    for x, (shown, n_more) in enumerate(columns.values()):
        if n_more:
            below = (x, (len(shown) - 1) / 2 + 0.75)
            ax.annotate(f"+ {n_more}", below, ha="center", va="center", fontsize=7, color=GREY, style="italic")
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(height / 2 + 0.6, -height / 2 - 0.3)
    ax.set_xticks(range(len(columns)), [str(layer) for layer in columns])
    ax.set_yticks([])
    ax.set_xlabel("layer", color=GREY, fontsize=8)
    ax.tick_params(axis="x", length=0, colors="#444444", labelsize=8)
    ax.spines[:].set_visible(False)
    _draw_legend(ax)
    return ax


def _joined(parts: dict[int, dict]) -> dict:
    return {key: value for part in parts.values() for key, value in part.items()}


def _columns(graph: nx.DiGraph, layers: Collection[int] | None, top: int) -> dict[int, tuple[list[Neuron], int]]:
    """Return layer -> its neurons that are drawn, heaviest first, and how many are not."""
    if not isinstance(top, Integral) or isinstance(top, bool) or top < 1:
        raise InputError(f"top {top!r}: expected a whole number of neurons from 1.")
    found: dict[int, list[Neuron]] = defaultdict(list)
    for neuron, layer in graph.nodes(data="layer"):
        found[layer].append(neuron)
    if not found:
        raise InputError("attribution graph to draw: it has no neurons; profile a picture that excites the network.")
    unknown = [layer for layer in layers or () if layer not in found]
    if unknown or (layers is not None and not len(layers)):
        raise InputError(f"layers {list(layers)}: expected layers that have neurons, {sorted(found)}.")

    columns: dict[int, tuple[list[Neuron], int]] = {}
    drawn: set[Neuron] = set()
    for layer in sorted(found if layers is None else set(layers), reverse=True):
        ranked = sorted(found[layer], key=lambda neuron: (*_importance(graph, neuron, drawn), neuron))
        columns[layer] = ranked[:top], len(ranked[top:])
        drawn.update(ranked[:top])
    return dict(reversed(columns.items()))


def _importance(graph: nx.DiGraph, neuron: Neuron, drawn: set[Neuron]) -> tuple[float, float, int]:
    """Return what is smaller the heavier a neuron is; of equal ones, the more it gives to those that are drawn."""
    given = sum(weight for _, to, weight in graph.out_edges(neuron, data="weight") if to in drawn)
    return -graph.nodes[neuron]["weight"], -given, -graph.nodes[neuron]["count"]


def _new_axes(n_columns: int, height: int) -> Axes:
    from deepjuice.hooks.charts import Chart

    size = (min(max(4.0, 0.95 * n_columns + 0.6), 24.0), max(2.2, 0.36 * height + 0.9))
    return Chart(figsize=size, layout="constrained", dpi=150).add_subplot()


def _draw_synapses(ax: Axes, graph: nx.DiGraph, places: dict[Neuron, tuple[float, float]]) -> None:
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgb
    from matplotlib.path import Path

    drawn: list[tuple[Synapse, float]] = [
        ((a, b), weight) for a, b, weight in graph.edges(data="weight") if a in places and b in places
    ]
    drawn.sort(key=lambda edge: edge[1])  # the heaviest on top
    share = _shares(weight for _, weight in drawn)
    widths = WIDEST * np.sqrt(share)  # so that the many small ones can be seen
    curves = []
    for (a, b), _ in drawn:
        (x0, y0), (x1, y1) = places[a], places[b]
        bend = (x1 - x0) / 2
        curves.append(Path([(x0, y0), (x0 + bend, y0), (x1 - bend, y1), (x1, y1)], [1, 4, 4, 4]))
    colors = np.column_stack([np.tile(to_rgb(SYNAPSE_COLOR), (len(drawn), 1)), 0.3 + 0.45 * share])
    collection = PathCollection(curves, facecolors="none", edgecolors=colors, linewidths=widths, zorder=1)
    collection.set_gid("synapses")
    ax.add_collection(collection)


def _draw_neurons(ax: Axes, graph: nx.DiGraph, places: dict[Neuron, tuple[float, float]]) -> None:
    from matplotlib.patheffects import withStroke

    weights = np.array([graph.nodes[neuron]["weight"] for neuron in places])
    areas = SMALLEST + (LARGEST - SMALLEST) * _shares(weights)
    faces = [NEURON_COLOR if weight > 0 else "white" for weight in weights]
    edges = ["white" if weight > 0 else GREY for weight in weights]
    x, y = np.array(list(places.values())).T
    ax.scatter(x, y, areas, faces, edgecolors=edges, linewidths=0.7, zorder=2, gid="neurons")
    for (_, index), place, area in zip(places, places.values(), areas, strict=True):
        text = ax.annotate(
            ",".join(map(str, index)),
            place,
            (0, np.sqrt(area) / 2 + 1.5),  # above, as synapses come and go sideways
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color="#1d1d1d",
            zorder=3,
        )
        text.set_path_effects([withStroke(linewidth=1.8, foreground="white", alpha=0.9)])


def _draw_legend(ax: Axes) -> None:
    from matplotlib.lines import Line2D

    dot = {"marker": "o", "linestyle": "none", "markersize": 5}
    handles = [
        Line2D([], [], markerfacecolor=NEURON_COLOR, markeredgecolor="white", label="influential", **dot),
        Line2D([], [], markerfacecolor="white", markeredgecolor=GREY, label="contributes only", **dot),
        Line2D([], [], color=SYNAPSE_COLOR, linewidth=2, alpha=0.75, label="synapse"),
    ]
    style = {"frameon": False, "fontsize": 7, "labelcolor": GREY, "handletextpad": 0.4, "columnspacing": 1.2}
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0, **style)


def _shares(weights: Iterable[float]) -> np.ndarray:
    """Return weights in proportion to the largest; 0 for negative ones."""
    weights = np.maximum(np.fromiter(weights, float), 0)
    return weights / weights.max() if weights.any() else weights
