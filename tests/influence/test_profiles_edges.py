"""Profiles at the edges: nothing active, everything followed, one neuron, several pictures, gates and constants."""

import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.influence import ChannelProfiler, ElementProfiler, SpatialProfiler, SVDProfiler, TorchProfiler
from juicyfruits.errors import InputError

PARTS = ("neuron_counts", "neuron_weights", "synapse_counts", "synapse_weights")
KINDS = {
    "channel": lambda p, x, **options: p.create_profile(x, **options),
    "element": lambda p, x, **options: p.create_profile(x, channels=False, **options),
}


@pytest.fixture(scope="module")
def net(small_vgg):
    return small_vgg(norms=True, width=6)


@pytest.mark.parametrize("kind", KINDS)
def test_dead_layers_have_no_neurons(kind, small_vgg, picture, check_invariants):
    net = small_vgg(width=6)
    nn.init.constant_(net.features[2].bias, -100)  # the second convolution
    profile = KINDS[kind](TorchProfiler(net, example=picture()), picture(), threshold=0.4)
    assert profile.neuron_weights[2].nnz == profile.synapse_weights[2].nnz == profile.neuron_counts[2].nnz == 0
    assert profile.neuron_weights[3].nnz == profile.synapse_weights[3].nnz == 0  # pools it
    assert profile.neuron_weights[1].nnz and profile.neuron_counts[0].nnz
    for part in PARTS:
        assert all(np.isfinite(matrix.data).all() for matrix in getattr(profile, part).values())
    check_invariants(profile)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [1e-9, 1.0])
def test_one_neuron_or_all_that_are_positive(kind, threshold, net, picture, check_invariants):
    profiler = TorchProfiler(net, example=picture())
    profile = KINDS[kind](profiler, picture(), threshold=threshold)
    for layer, weights in profile.neuron_weights.items():
        assert weights.nnz == 1 if threshold < 1 else weights.nnz <= profiler.layers[layer].n_channels
    positive = (net.features[:3](picture())[0].amax((1, 2)) > 0) & (net.features[0](picture())[0].amax((1, 2)) > 0)
    assert threshold < 1 or profile.neuron_weights[1].nnz == int(positive.sum()) > 3
    assert threshold == 1 or all(np.diff(s.tocsr().indptr).max() == 1 for s in profile.synapse_counts.values())
    check_invariants(profile)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_the_sum_of_its_pictures(kind, net, picture):
    profiler, x = TorchProfiler(net, example=picture()), picture(n=3)
    alone = [KINDS[kind](profiler, x[i : i + 1], threshold=0.3) for i in range(3)]
    together = profiler.create_profiles(x, threshold=0.3, channels=kind == "channel")
    total, expected = KINDS[kind](profiler, x, threshold=0.3), alone[0] + alone[1] + alone[2]
    assert total.num_inputs == expected.num_inputs == 3
    for mine, other in [*zip(together, alone, strict=True), (total, expected)]:
        for part in PARTS:
            got, wanted = getattr(mine, part), getattr(other, part)
            assert got.keys() == wanted.keys()
            for layer in got:
                assert abs(got[layer] - wanted[layer]).max() < 1e-5, (part, layer)
                assert "weights" in part or (got[layer] != wanted[layer]).nnz == 0, (part, layer)


def test_all_kinds_of_profilers_sum_batches(net, picture):
    x = picture(n=2)
    for profiler in (ChannelProfiler(net), ElementProfiler(net), SpatialProfiler(net), SVDProfiler(net)):
        profiler = type(profiler)(net, example=x)
        total = profiler.create_profile(x)
        alone = [profiler.create_profile(x[i : i + 1]) for i in range(2)]
        assert total.num_inputs == 2 and total.total == alone[0].total + alone[1].total > 0
        for layer, counts in total.neuron_counts.items():
            assert (counts != alone[0].neuron_counts[layer] + alone[1].neuron_counts[layer]).nnz == 0, layer


def test_singles_and_doubles_find_the_same(small_vgg, picture):
    single, double = small_vgg(width=6), small_vgg(width=6).double()
    ours, theirs = (
        TorchProfiler(m, example=picture()).create_profile(picture(), threshold=0.4) for m in (single, double)
    )
    for layer, weights in ours.neuron_weights.items():
        np.testing.assert_allclose(weights.toarray(), theirs.neuron_weights[layer].toarray(), atol=1e-5)
        assert (ours.neuron_counts[layer] != theirs.neuron_counts[layer]).nnz == 0


def test_layers_that_were_not_asked_for_appear_where_they_contribute(net, picture, check_invariants):
    """Layers 2 and 4 bring in 1 and 3, which have counts but no weights."""
    profiler = ChannelProfiler(net, example=picture())
    profile = profiler.create_profile(picture(), 0.4, [4, 2])
    assert sorted(profile.neuron_counts) == [1, 2, 3, 4] and sorted(profile.neuron_weights) == [2, 4]
    assert sorted(profile.synapse_counts) == sorted(profile.synapse_weights) == [2, 4]
    check_invariants(profile)
    whole = profiler.create_profile(picture(), 0.4)
    for layer in (2, 4):
        assert (profile.neuron_weights[layer] != whole.neuron_weights[layer]).nnz == 0
        assert (profile.synapse_weights[layer] != whole.synapse_weights[layer]).nnz == 0
    ranged = profiler.create_profile(picture(), 0.4, (2, 4))
    assert sorted(ranged.neuron_weights) == [2, 3]
    assert sorted(profiler.create_profile(picture(), 0.4, (0, 99)).neuron_weights) == sorted(whole.neuron_weights)


def test_a_part_of_the_layers_dictionary_is_profiled(net, picture):
    profiler = TorchProfiler(net, example=picture())
    layers = profiler.create_layers()
    part = {layer: layers[layer] for layer in (0, 1, 2)}
    assert sorted(profiler.create_profile(picture(), part).neuron_weights) == [1, 2]
    assert sorted(profiler.create_profile(picture(), layers, [3]).neuron_weights) == [3]
    assert sorted(profiler.create_profile(picture(), part, (1, 2)).neuron_weights) == [1]


class Gated(nn.Module):
    """A convolution whose channels are gated by one number each, which is made of all of them."""

    def __init__(self):
        super().__init__()
        self.first, self.gate, self.last = nn.Conv2d(3, 5, 3), nn.Linear(5, 5), nn.Conv2d(5, 4, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(x * torch.sigmoid(self.gate(x.mean((2, 3)))[:, :, None, None]))


@pytest.mark.parametrize("size", [9, 3], ids=["a map", "one place"])
def test_a_gate_does_not_come_between_a_layer_and_what_it_gates(size, seeded, picture, check_invariants):
    """Nor where its map is as small as the gate."""
    profiler = TorchProfiler(seeded(Gated, 0), example=picture(size))
    rules = {layer: [names[0], rule] for layer, (names, rule) in profiler.create_layers().items()}
    last = profiler.layers[-1]
    gated = profiler.layers[last.predecessors[0]]
    assert rules[last.index] == ["last", "contrib_conv2d"]
    assert gated.rule == "contrib_identity" and gated.head.kind == "mul"
    assert [profiler.layers[i].names[0] for i in gated.predecessors] == ["first"]
    profile = profiler.create_profile(picture(size), threshold=0.9)
    synapses = profile.synapse_weights[gated.index]
    assert synapses.nnz and (synapses.row == synapses.col).all() and set(synapses.data) == {1}
    check_invariants(profile)


class WithConstants(nn.Module):
    """A learnt map is added to a picture, and another stands beside it."""

    def __init__(self):
        super().__init__()
        self.map, self.beside = nn.Parameter(torch.randn(3, 6, 6)), nn.Parameter(torch.randn(1, 1, 6, 6))
        self.conv = nn.Conv2d(4, 5, 3, padding=1)

    def forward(self, x):
        return self.conv(torch.cat([x + self.map, self.beside.expand(len(x), -1, -1, -1) * 1], 1))


@pytest.mark.parametrize("kind", KINDS)
def test_constants_do_not_contribute(kind, seeded, picture):
    """What is accepted of them is nobody's: as if they were a fourth channel of the picture, and that left out."""
    net, x = seeded(WithConstants, 0), picture(6)
    whole = torch.cat([x + net.map, net.beside], 1).detach()
    profiler, plain = TorchProfiler(net, example=x), TorchProfiler(net.conv, example=whole)
    profile, expected = KINDS[kind](profiler, x, threshold=0.9), KINDS[kind](plain, whole, threshold=0.9)
    last, n = profiler.layers[-1].index, 3 if kind == "channel" else 108
    assert expected.synapse_weights[1].tocsc()[:, n:].nnz and profile.synapse_weights[last].nnz
    assert abs(profile.synapse_weights[last] - expected.synapse_weights[1].tocsc()[:, :n]).max() < 1e-6


class TwoReaders(nn.Module):
    """A convolution's output goes on both as it is and through a ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        x = self.conv(x)
        return torch.relu(x) + 0.5 * x


def test_an_activation_between_two_readers_is_a_layer_of_its_own(seeded, picture, check_invariants):
    profiler = TorchProfiler(seeded(TwoReaders, 0), example=picture(8))
    assert [(layer.rule, layer.predecessors) for layer in profiler.layers] == [
        ("contrib_identity", ()),
        ("contrib_conv2d", (0,)),
        ("contrib_identity", (1,)),
        ("contrib_identity", (1,)),
        ("contrib_add", (2, 3)),
    ]
    for channels in (True, False):
        check_invariants(profiler.create_profile(picture(8), threshold=0.8, channels=channels))


class Sliced(nn.Module):
    """Of a convolution's six channels, the second and third go on."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(2, 4, 1)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)[:, 1:3]))


@pytest.mark.parametrize("channels", [True, False], ids=KINDS)
def test_an_activation_of_a_part_is_a_layer_of_that_part(channels, seeded, picture, check_invariants):
    net, x = seeded(Sliced, 0), picture(8)
    profiler = TorchProfiler(net, example=x)
    assert [layer.shape for layer in profiler.layers[1:]] == [(1, 6, 6, 6), (1, 2, 6, 6), (1, 4, 6, 6)]
    profile = profiler.create_profile(x, threshold=1.0, channels=channels)
    tops = net.first(x)[0, 1:3].detach().amax((1, 2))
    assert tops.min() > 0
    weights = np.asarray(profile.neuron_weights[2].sum(axis=0 if channels else 1)).ravel()
    np.testing.assert_allclose(weights, tops / tops.sum(), atol=1e-6)
    synapses, size = profile.synapse_counts[2], 1 if channels else 36
    assert synapses.shape == (2 * size, 6 * size) and (synapses.col == synapses.row + size).all() and synapses.nnz == 2
    check_invariants(profile)


def test_a_norm_ranks_channels_by_their_maps_as_matrices(net, picture):
    """A closed form: the norm of what is left of a channel after the ReLU, and where its convolution agreed."""
    x = picture()
    head, tail = net.features[0](x)[0].detach(), net.features[:3](x)[0].detach()
    kept = torch.where((head > 0) == (tail > 0), tail, 0).numpy()
    for norm in (1, 2, np.inf, "fro", "nuc"):
        expected = np.linalg.norm(kept, norm, axis=(1, 2))
        profile = TorchProfiler(net, example=x).create_profile(x, threshold=1.0, norm=norm)
        np.testing.assert_allclose(profile.neuron_weights[1].toarray()[0], expected / expected.sum(), atol=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_profiles_on_a_gpu_are_those_on_the_processor(small_vgg, small_resnet, picture):
    for make, size in ((small_vgg, 32), (small_resnet, 64)):
        x = picture(size).double()
        for kind in (ChannelProfiler, ElementProfiler, SpatialProfiler):
            here = kind(make().double(), example=x).create_profile(x)
            there = kind(make().double(), device="cuda", example=x).create_profile(x.cuda())
            for part in PARTS:
                got, expected = getattr(there, part), getattr(here, part)
                assert got.keys() == expected.keys()
                for layer in got:
                    assert abs(got[layer] - expected[layer]).max() < 1e-6, (kind.__name__, part, layer)
                    assert "weights" in part or (got[layer] != expected[layer]).nnz == 0, (kind.__name__, part, layer)


class WithAnUnusedHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.side, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        maps = self.conv(x).relu()
        self.side(maps).cumsum(1)  # which no profile could follow, and need not
        return self.out(maps.mean((2, 3)))


def test_what_does_not_lead_to_the_output_is_no_layer(picture):
    profiler = TorchProfiler(WithAnUnusedHead().eval(), example=picture())
    rules = ["contrib_identity", "contrib_conv2d", "contrib_mean", "contrib_linear"]
    assert [layer.rule for layer in profiler.layers] == rules
    assert profiler.layers[1].names == ("conv", "relu")


def test_places_whose_input_puts_channels_where_positions_were_are_refused(picture):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 30, 3), nn.Conv2d(30, 2, 1)

        def forward(self, x):
            return self.second(self.first(x).permute(0, 2, 1, 3))

    x = picture(32)
    for kind in (SpatialProfiler, ChannelProfiler):
        profiler = kind(Turned().eval(), example=x)
        with pytest.raises(InputError, match=r"its input mixes (positions|channels) of the layer before"):
            profiler.create_profile(x)
    assert ElementProfiler(Turned().eval(), example=x).create_profile(x).size > 0
