"""Profiles against deep-data-profiler 2.0.1, layer by layer; each of its defects that shows is reproduced by name."""

from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torchvision.models.resnet import BasicBlock, Bottleneck

import deepjuice.influence as ours

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:deep_data_profiler",
    "ignore:__array_wrap__:DeprecationWarning",
    "ignore::UserWarning:deep_data_profiler",
)
PARTS = ("neuron_counts", "neuron_weights", "synapse_counts", "synapse_weights")
THRESHOLDS = (0.1, 0.4, 0.9)


def basic_forward(self, x):
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def bottleneck_forward(self, x):
    out = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
    out = self.bn3(self.conv3(out))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))


@pytest.fixture(scope="module")
def networks(small_vgg, small_resnet):
    """Networks that the oracle takes.

    It reads activations after what has changed them in place (its defect 7): ReLUs of VGG stand apart, and sums of
    ResNets do. That their ReLUs work in place is what it needs to see that they are there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BasicBlock, "forward", basic_forward)
        patch.setattr(Bottleneck, "forward", bottleneck_forward)
        yield {
            "vgg": small_vgg(),
            "vgg_norms": small_vgg(norms=True, width=40),
            "resnet": small_resnet(),
            "bottlenecks": small_resnet(bottlenecks=True),
        }


@pytest.fixture(scope="module", params=["vgg", "vgg_norms", "resnet", "bottlenecks"])
def network(request, networks, picture):
    return networks[request.param], picture(64 if "vgg" not in request.param else 32)


def both(upstream, kind, network, **options):
    """Return the profile of deep-data-profiler, ours, and the layers of ours."""
    model, x = network
    theirs = getattr(upstream, kind)(model).create_profile(x, **options)
    for module in model.modules():
        module._forward_hooks.clear()  # which it leaves behind
    profiler = getattr(ours, kind)(model, example=x)
    return theirs, profiler.create_profile(x, **options), profiler.layers


def check_same(theirs, mine, name, skip=()):
    assert theirs.keys() - set(skip) == mine.keys() - set(skip) and len(mine) > len(skip)
    for layer in mine.keys() - set(skip):
        expected, got = theirs[layer].tocsr().astype(float), mine[layer].tocsr().astype(float)
        assert got.shape == expected.shape, (name, layer)
        difference = abs(got - expected).max()
        assert difference == 0 if "counts" in name else difference <= 1e-4, (name, layer, difference)


def downsampled(layers):
    """Return the pairs of layers that blocks with a downsample add up."""
    adds = [layer for layer in layers if layer.rule == "contrib_add"]
    return [layer.predecessors for layer in adds if any("downsample" in layers[i].names[0] for i in layer.predecessors)]


def swapped(profile, pairs):
    """Return neuron counts as deep-data-profiler has them: of two branches, each has the other's (its defect 1)."""
    counts = dict(profile.neuron_counts)
    for one, other in pairs:
        arrived = {i: counts[i] - (profile.neuron_weights[i] != 0).astype(int) for i in (one, other)}
        for layer, from_ in ((one, other), (other, one)):
            counts[layer] = sp.coo_matrix(counts[layer] - arrived[layer] + arrived[from_])
    return counts


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_profiles_of_channels_are_those_of_the_oracle(upstream, network, threshold):
    theirs, mine, layers = both(upstream, "ChannelProfiler", network, threshold=threshold)
    for part in ("neuron_weights", "synapse_counts", "synapse_weights"):
        check_same(getattr(theirs, part), getattr(mine, part), part)
    pairs = downsampled(layers)
    assert len(pairs) == sum("downsample.0" in name for name, _ in network[0].named_modules())
    check_same(theirs.neuron_counts, swapped(mine, pairs), "neuron_counts")
    for pair in pairs:
        assert any((theirs.neuron_counts[i] != mine.neuron_counts[i]).nnz for i in pair)


@pytest.mark.parametrize("norm", ["fro", "nuc", 1, 2, float("inf")])
def test_channels_ranked_by_norms_of_their_maps_are_those_of_the_oracle(upstream, networks, picture, norm):
    model, x = networks["vgg"], picture(seed=5)
    theirs = upstream.ChannelProfiler(model).create_profile(x, 0.3, (1, 8), norm=norm)
    mine = ours.ChannelProfiler(model, example=x).create_profile(x, 0.3, (1, 8), norm=norm)
    for part in PARTS:
        check_same(getattr(theirs, part), getattr(mine, part), part)


def capped(mine, layers):
    """Return synapse weights as deep-data-profiler has them, and by how much each neuron counts less.

    Where a neuron of a convolution accepts more contributors than its kernel has places (k^2, of C k^2 that could
    contribute), it leaves out the last one.
    """
    weights, fewer = dict(mine.synapse_weights), {}
    for layer in layers:
        if layer.rule != "contrib_conv2d" or layer.index not in weights:
            continue
        matrix, n_places = weights[layer.index].tocsr(), np.prod(layer.head.args[1].shape[2:])
        full = matrix.copy()
        for row in np.flatnonzero(np.diff(matrix.indptr) > n_places):
            part = slice(matrix.indptr[row], matrix.indptr[row + 1])
            matrix.data[part.start + np.argmin(matrix.data[part])] = 0
            matrix.data[part] /= matrix.data[part].sum()
        matrix.eliminate_zeros()
        weights[layer.index] = matrix.tocoo()
        lost = np.asarray((full != 0).sum(axis=0) - (matrix != 0).sum(axis=0)).ravel()
        fewer[layer.predecessors[0]] = fewer.get(layer.predecessors[0], 0) + lost
    return weights, fewer


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_profiles_of_elements_are_those_of_the_oracle(upstream, network, threshold):
    model, x = network
    weights = ours.ElementProfiler(model, example=x).create_profile(x, threshold).neuron_weights
    several = [layer for layer, matrix in weights.items() if matrix.nnz > 1]  # the oracle's defect 3
    assert len(several) > len(weights) / 2
    options = {"threshold": threshold, "layers_to_profile": several}
    theirs, mine, layers = both(upstream, "ElementProfiler", network, **options)
    check_same(theirs.neuron_weights, mine.neuron_weights, "neuron_weights")
    weights, fewer = capped(mine, layers)
    check_same(theirs.synapse_weights, weights, "synapse_weights")
    check_same(theirs.synapse_counts, {i: (w != 0).astype(int) for i, w in weights.items()}, "synapse_counts")
    counts = swapped(mine, downsampled(layers))
    for layer, lost in fewer.items():
        counts[layer] = sp.coo_matrix(counts[layer].toarray() - lost.reshape(counts[layer].shape))
    check_same(theirs.neuron_counts, counts, "neuron_counts")


def test_elements_ranked_by_magnitude_are_those_of_the_oracle(upstream, networks, picture):
    network = networks["vgg_norms"], picture(seed=5)
    theirs, mine, layers = both(upstream, "ElementProfiler", network, threshold=0.3, use_abs=True)
    check_same(theirs.neuron_weights, mine.neuron_weights, "neuron_weights")
    check_same(theirs.synapse_weights, capped(mine, layers)[0], "synapse_weights")


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_profiles_of_places_are_those_of_the_oracle(upstream, network, threshold, monkeypatch):
    """The oracle sorts without keeping the order of equals, which has it take too many places of large kernels.

    Where a quantile is a value itself, such as 0.6 of six, its single precision may miss it.
    """
    monkeypatch.setattr(torch, "argsort", partial(torch.argsort, stable=True))
    options = {"infl_threshold": threshold + 0.03, "contrib_threshold": threshold}
    theirs, mine, _ = both(upstream, "SpatialProfiler", network, **options)
    for part in PARTS:
        check_same(getattr(theirs, part), getattr(mine, part), part)


@pytest.mark.parametrize(
    "options", [{"use_quantile": False, "infl_threshold": 0.2}, {"max_infl": 3}, {"norm": 1}], ids=str
)
def test_places_chosen_otherwise_are_those_of_the_oracle(upstream, networks, picture, options, monkeypatch):
    monkeypatch.setattr(torch, "argsort", partial(torch.argsort, stable=True))
    theirs, mine, _ = both(upstream, "SpatialProfiler", (networks["vgg"], picture(seed=6)), **options)
    for part in PARTS:
        check_same(getattr(theirs, part), getattr(mine, part), part)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("name", ["vgg", "vgg_norms"])
def test_singular_directions_are_those_of_the_oracle(upstream, networks, picture, name, threshold):
    """Its weights sum to more than 1: they are divided by a sum without the last that is accepted."""
    model, x = networks[name], picture(seed=7)
    theirs = upstream.SVDProfiler(model).create_influential(x, threshold=threshold)
    mine = ours.SVDProfiler(model, example=x).create_influential(x, threshold=threshold)
    check_same(theirs.neuron_counts, mine.neuron_counts, "neuron_counts")
    shares = {layer: weights / weights.sum() for layer, weights in theirs.neuron_weights.items()}
    check_same(shares, mine.neuron_weights, "neuron_weights")
    assert all(weights.sum() > 1 for layer, weights in theirs.neuron_weights.items() if weights.nnz > 1)


@pytest.mark.parametrize("aggregation", ["max", "min"])
def test_largest_and_smallest_projections_are_those_of_the_oracle(upstream, networks, picture, aggregation):
    model, x = networks["vgg"], picture(seed=8)
    oracle, profiler = upstream.SVDProfiler(model), ours.SVDProfiler(model, example=x)
    for layer, (names, svd) in oracle.svd_dict.items():
        mine = profiler.svd_dict[layer][1]
        torch.testing.assert_close((mine.T @ svd.U).abs(), torch.eye(mine.shape[1]), atol=1e-3, rtol=0)
        profiler.svd_dict[layer] = (names, svd.U)  # of which signs are arbitrary
    theirs = oracle.create_influential(x, aggregation=aggregation)
    mine = profiler.create_influential(x, aggregation=aggregation)
    check_same(theirs.neuron_weights, mine.neuron_weights, "neuron_weights")
    projections, expected = profiler.create_projections(x), oracle.create_projections(x)
    for layer in expected:
        torch.testing.assert_close(projections[layer][0], expected[layer], atol=1e-4, rtol=1e-4)


def test_layers_and_what_they_read_are_those_of_the_oracle(upstream, network):
    """Of the same number; ReLUs within blocks are not among the oracle's names."""
    model, x = network
    oracle, profiler = upstream.ChannelProfiler(model), ours.ChannelProfiler(model, example=x)
    theirs, mine = oracle.create_layers(), profiler.create_layers()
    assert theirs.keys() == mine.keys()
    for layer in mine:
        assert theirs[layer][1].replace("resnetadd", "add") == mine[layer][1], layer
        assert theirs[layer][0][0].replace("resnetadd", "add") == mine[layer][0][0], layer
        assert oracle.pred_dict[layer] == list(profiler.layers[layer].predecessors), layer


def test_one_influential_channel_and_all_stop_the_oracle_alone(upstream, networks, picture, check_invariants):
    """Its defect 3."""
    model, x = networks["vgg"], picture()
    with pytest.raises(TypeError):
        upstream.ElementProfiler(model).create_profile(x, threshold=0.01)
    with pytest.raises(IndexError):
        upstream.ElementProfiler(model).create_profile(x, threshold=1.0)
    profiler = ours.ElementProfiler(model, example=x)
    one, all_ = (profiler.create_profile(x, threshold=threshold) for threshold in (0.01, 1.0))
    assert all(weights.nnz == 1 for weights in one.neuron_weights.values())
    assert all_.neuron_weights[1].nnz == model.features[0].out_channels
    check_invariants(one)
    check_invariants(all_)
