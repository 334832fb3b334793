"""Rules of places against plain loops over one picture, and singular directions against numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.influence import SpatialProfiler, SVDProfiler
from juicyfruits.errors import InputError

SIZE = (6, 5)
EVERYTHING = {"use_quantile": False, "infl_threshold": 1.0}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolution(seed=0, **options):
    conv = nn.Conv2d(4, 6, **options).double()
    conv.weight.data, conv.bias.data = draw(*conv.weight.shape, seed=seed), draw(6, seed=seed + 1)
    return conv


def shares(parts):
    """Return how far each vector reaches along their sum, of its length."""
    total = sum(parts)
    length = np.sqrt(total @ total)
    return [part @ (total / length) / length for part in parts]


def as_dict(matrix):
    return {(int(r), int(c)): float(v) for r, c, v in zip(matrix.row, matrix.col, matrix.data, strict=True)}


OPTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 2)},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
    {"kernel_size": (4, 2), "padding": "same"},
    {"kernel_size": 1, "stride": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("threshold", [0.1, 0.6, 1.0])
def test_a_place_is_reached_by_the_places_that_it_sees(options, threshold, check_invariants):
    """They come by magnitude, until what they reach along y is more than a share of its length."""
    conv, x = convolution(**options), draw(1, 4, *SIZE, seed=4)
    weight, n_in, n_out = conv.weight.detach().numpy(), 4 // conv.groups, 6 // conv.groups
    width = conv(x).shape[3]
    top, left = (1, 0) if conv.padding == "same" else conv.padding
    expected = {}
    for place in range(conv(x)[0, 0].numel()):
        vectors, places = [], []
        for i, j in np.ndindex(*conv.kernel_size):
            row = place // width * conv.stride[0] + i * conv.dilation[0] - top
            column = place % width * conv.stride[1] + j * conv.dilation[1] - left
            inside = 0 <= row < SIZE[0] and 0 <= column < SIZE[1]
            seen = x[0, :, row, column].numpy() if inside else np.zeros(4)
            groups = [seen[o // n_out * n_in : (o // n_out + 1) * n_in] for o in range(6)]
            vectors.append(np.array([weight[o, :, i, j] @ groups[o] for o in range(6)]))
            places.append(row * SIZE[1] + column if inside else None)
        share = shares(vectors) if len(vectors) > 1 else [1.0]
        reached = 0.0
        for tap in sorted(range(len(share)), key=lambda tap: -abs(share[tap])):
            if places[tap] is not None:
                expected[place, places[tap]] = abs(share[tap])
            reached += share[tap]
            if reached > threshold:
                break
    profile = SpatialProfiler(conv.eval(), example=x).create_profile(x, contrib_threshold=threshold, **EVERYTHING)
    got = as_dict(profile.synapse_weights[1])
    if threshold == 1:  # the last places reach 1 but for rounding
        expected = {pair: w for pair, w in expected.items() if pair in got or w > 1e-3}
    assert got == pytest.approx(expected)
    check_invariants(profile)


def test_the_largest_places_are_those_above_a_quantile_of_lengths(check_invariants):
    conv, x = convolution(kernel_size=3), draw(1, 4, *SIZE, seed=4)
    lengths = torch.linalg.vector_norm(conv(x)[0].detach().flatten(1), dim=0).numpy()
    order = np.argsort(-lengths)
    profiler = SpatialProfiler(nn.Sequential(conv).eval(), example=x)
    assert len(lengths) == 12
    for quantile in (0.5, 0.75, 0.97, 4 / 11, 6 / 11):  # the last two are values themselves
        n_above = int((lengths >= np.quantile(lengths, quantile)).sum())
        chosen = order[: n_above + 1]  # and the next below
        weights = profiler.create_profile(x, infl_threshold=quantile).neuron_weights[1]
        expected = {(0, int(p)): lengths[p] / lengths[chosen].sum() for p in chosen}
        assert as_dict(weights) == pytest.approx(expected), quantile
    few = profiler.create_profile(x, infl_threshold=0.1, max_infl=4)
    assert sorted(few.neuron_weights[1].col) == sorted(order[:4])
    check_invariants(few)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 3, dilation=2)], ids=repr)
def test_a_maximum_is_shared_by_all_places_that_it_sees(pool):
    x = draw(1, 4, *SIZE, seed=4)
    numbers = torch.arange(30.0).view(1, 1, *SIZE) + 1
    kernel, step, pad = (p if isinstance(p, int) else p[0] for p in (pool.kernel_size, pool.stride, pool.padding))
    fields = nn.functional.unfold(numbers, kernel, pool.dilation, pad, step)[0].T
    expected = {(p, int(n) - 1): 1 / kernel**2 for p, field in enumerate(fields) for n in field if n}
    profile = SpatialProfiler(nn.Sequential(pool).eval(), example=x).create_profile(x, **EVERYTHING)
    assert profile.neuron_weights[1].nnz == len(fields)
    assert as_dict(profile.synapse_weights[1]) == pytest.approx(expected)


def test_an_average_gives_each_place_its_share():
    x = draw(1, 4, *SIZE, seed=4)
    profile = SpatialProfiler(nn.AdaptiveAvgPool2d((2, 2)).eval(), example=x).create_profile(x, **EVERYTHING)
    got, columns = as_dict(profile.synapse_weights[1]), ((0, 1, 2), (2, 3, 4))
    for place in range(4):
        rows = range(3 * (place // 2), 3 * (place // 2) + 3)
        seen = [(i, j) for i in rows for j in columns[place % 2]]
        share = shares([x[0, :, i, j].numpy() for i, j in seen])
        expected = {(place, i * 5 + j): w for (i, j), w in zip(seen, share, strict=True)}
        assert {pair: w for pair, w in got.items() if pair[0] == place} == pytest.approx(expected)


class Joined(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.one, self.other = convolution(seed=1, kernel_size=3), convolution(seed=5, kernel_size=3)
        self.join = join

    def forward(self, x):
        return self.join(self.one(x), self.other(x))


def test_a_sum_gives_each_branch_its_projection(check_invariants):
    net, x = Joined(torch.add).eval(), draw(1, 4, *SIZE, seed=4)
    one, other = (conv(x)[0].detach().flatten(1).numpy().T for conv in (net.one, net.other))
    expected = {}
    for place in range(12):
        share = shares([one[place], other[place]])
        expected |= {(place, place): share[0], (12 + place, 12 + place): share[1]}
    profile = SpatialProfiler(net, example=x).create_profile(x, **EVERYTHING)
    assert as_dict(profile.synapse_weights[3]) == pytest.approx(expected)
    check_invariants(profile)


def test_a_concatenation_gives_each_input_its_part_of_the_squared_length(check_invariants):
    net, x = Joined(lambda one, other: torch.cat([one, other], 1)).eval(), draw(1, 4, *SIZE, seed=4)
    one, other = ((conv(x)[0].detach() ** 2).sum(0).flatten().numpy() for conv in (net.one, net.other))
    profile = SpatialProfiler(net, example=x).create_profile(x, **EVERYTHING)
    expected = {(p, p): one[p] / (one[p] + other[p]) for p in range(12)}
    expected |= {(12 + p, 12 + p): other[p] / (one[p] + other[p]) for p in range(12)}
    assert as_dict(profile.synapse_weights[3]) == pytest.approx(expected)
    check_invariants(profile)


def test_a_mean_over_all_places_leaves_none():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    x = draw(1, 4, *SIZE)
    with pytest.raises(InputError, match="leaves no places"):
        SpatialProfiler(Mean().eval(), example=x).create_profile(x)


def largest(values, threshold):
    """Return number -> weight of the largest values until they exceed a share of their sum."""
    order = np.argsort(-values, kind="stable")
    sums = np.cumsum(values[order])
    taken = order[: int((sums <= threshold * sums[-1]).sum()) + 1]
    return {int(i): values[i] / values[taken].sum() for i in taken}


@pytest.mark.parametrize("threshold", [0.1, 0.6, 1.0])
def test_singular_directions_of_convolutions_and_linear_layers(threshold):
    """Of residual networks too, where deep-data-profiler raises; of what no weights make, there are none."""
    conv, linear = convolution(kernel_size=3, groups=2), nn.Linear(6, 5).double()
    linear.weight.data = draw(5, 6, seed=3)
    net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()
    x = draw(1, 4, *SIZE, seed=4)
    profile = SVDProfiler(net, example=x).create_influential(x, threshold=threshold)
    assert sorted(profile.neuron_weights) == [1, 3] and not profile.synapse_counts
    for layer, module, y in ((1, conv, conv(x)[0].flatten(1)), (3, linear, net(x).T)):
        weight = module.weight.detach().flatten(1).numpy()
        u = np.linalg.svd(weight, full_matrices=False)[0]
        mean = (u.T @ (y.detach().numpy() - module.bias.detach().numpy()[:, None])).mean(axis=1)
        expected = largest(np.abs(mean), threshold)
        assert as_dict(profile.neuron_weights[layer]) == pytest.approx({(0, i): w for i, w in expected.items()})
        assert set(as_dict(profile.neuron_counts[layer]).items()) == {((0, i), 1.0) for i in expected}


def test_singular_directions_of_a_residual_network(small_resnet, picture):
    net = small_resnet(n_blocks=1)
    profiler = SVDProfiler(net, example=picture(48), compute_svd=False)
    assert profiler.svd_dict == {}
    profile = profiler.create_influential(picture(48), layers_to_find=(1, 6))
    weighted = [layer.index for layer in profiler.layers[1:6] if layer.rule == "contrib_conv2d"]
    assert sorted(profile.neuron_weights) == sorted(profiler.svd_dict) == weighted
    assert all(abs(w.sum() - 1) < 1e-5 for w in profile.neuron_weights.values())
    projections = profiler.create_projections(picture(48), [1])
    assert list(projections) == [1] and projections[1].shape[:2] == (1, 64)
