"""Rules of channels and elements against plain loops over one picture, written from their definitions."""

import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.influence import TorchProfiler

THRESHOLDS = (0.1, 0.5, 0.9, 1.0)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def accept(values, goal):
    """Take values from the largest, those whose sum is at most the goal and one more; index -> share of their sum."""
    total, taken = 0.0, []
    for index in sorted(range(len(values)), key=lambda i: -values[i]):
        taken.append(index)
        total += values[index]
        if total > goal:
            break
    return {i: values[i] / total for i in taken if values[i] > 0}


def share_of_sum(values, threshold):
    return accept(values, threshold * sum(sorted(values, reverse=True)))


def influential(head, tail, threshold):
    """Return channel -> (position, weight) of activations (channels, ...)."""
    head, tail = (np.asarray(t.detach()).reshape(len(t), -1) for t in (head, tail))
    found = np.where((head > 0) == (tail > 0), tail, 0.0)
    values = [max(0.0, row.max()) for row in found]
    return {c: (int(np.argmax(found[c])), weight) for c, weight in share_of_sum(values, threshold).items()}


def as_dict(matrix):
    return {(int(r), int(c)): float(v) for r, c, v in zip(matrix.row, matrix.col, matrix.data, strict=True)}


def check(profile, layer, neurons, expected, n_positions=1):
    """Compare influential neurons and synapses (row, column) -> weight; channels have no positions."""
    weights = {(c if profile.neuron_type == "channel" else c * n_positions + p): w for c, (p, w) in neurons.items()}
    width = profile.neuron_weights[layer].shape[1]
    got = {r * width + c: w for (r, c), w in as_dict(profile.neuron_weights[layer]).items()}
    assert got == pytest.approx(weights) and as_dict(profile.synapse_weights[layer]) == pytest.approx(expected)


def add_to(synapses, row, found):
    """Add contributions (column, weight); of a column that comes twice, the weights add up."""
    for column, weight in found:
        synapses[row, column] = synapses.get((row, column), 0) + weight


CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "padded": {"kernel_size": 3, "padding": 1},
    "strides": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (2, 1)},
    "dilated": {"kernel_size": (2, 3), "dilation": (3, 2), "padding": 2},
    "groups": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 4, "stride": 2},
    "same": {"kernel_size": (4, 2), "padding": "same"},
    "same dilated": {"kernel_size": (2, 4), "padding": "same", "dilation": (3, 1)},
    "valid": {"kernel_size": 2, "padding": "valid", "bias": False},
    "one pixel": {"kernel_size": 1, "stride": (2, 1)},
    "one pixel padded": {"kernel_size": 1, "padding": 1},
    "circular": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "circular"},
    "replicate": {"kernel_size": 3, "padding": 2, "padding_mode": "replicate"},
    "reflect": {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    "same circular": {"kernel_size": 4, "padding": "same", "padding_mode": "circular"},
}
NUMPY_MODES = {"zeros": "constant", "circular": "wrap", "replicate": "edge", "reflect": "reflect"}


def convolution(options, seed=0):
    conv = nn.Conv2d(4, 8, **options).double()
    for number, parameter in enumerate(conv.parameters()):
        parameter.data = draw(*parameter.shape, seed=seed + number) * 0.5
    return conv


def padded(conv, x):
    """Return a picture (channels, height, width) as a convolution sees it, and the number of each element, or -1."""
    sides = [(p, p) for p in conv.padding] if not isinstance(conv.padding, str) else [(0, 0)] * 2
    if conv.padding == "same":
        spare = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        sides = [(n // 2, n - n // 2) for n in spare]
    numbers, mode = np.arange(x.size).reshape(x.shape), NUMPY_MODES[conv.padding_mode]
    last = {"constant_values": -1} if mode == "constant" else {}
    return np.pad(x, [(0, 0), *sides], mode), np.pad(numbers, [(0, 0), *sides], mode, **last)


def taps(conv, channel, y, x):
    """Yield (input channel, its number within the group, i, j, row, column) of what an output sees."""
    n_in = conv.in_channels // conv.groups
    first = channel // (conv.out_channels // conv.groups) * n_in
    for c in range(n_in):
        for i in range(conv.kernel_size[0]):
            for j in range(conv.kernel_size[1]):
                row = y * conv.stride[0] + i * conv.dilation[0]
                yield first + c, c, i, j, row, x * conv.stride[1] + j * conv.dilation[1]


@pytest.mark.parametrize("channels", [True, False], ids=["channel", "element"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, channels, check_invariants):
    conv, picture = convolution(CONVOLUTIONS[name]), draw(1, 4, 7, 6, seed=9)
    profiler = TorchProfiler(nn.Sequential(conv, nn.ReLU()).eval(), example=picture)
    head = conv(picture)[0].detach()
    height, width = head.shape[1:]
    weight, (x, numbers) = conv.weight.detach().numpy(), padded(conv, picture[0].numpy())
    for threshold in THRESHOLDS:
        neurons, expected = influential(head, head.clamp(min=0), threshold), {}
        for o, (position, _) in neurons.items():
            if channels:
                responses = np.zeros((4, height, width))
                for y, z in np.ndindex(height, width):
                    for c, n, i, j, row, column in taps(conv, o, y, z):
                        responses[c, y, z] += weight[o, n, i, j] * x[c, row, column]
                found = share_of_sum([max(0.0, r.max()) for r in responses], threshold)
                add_to(expected, o, found.items())
            else:
                seen = list(taps(conv, o, position // width, position % width))
                products = [weight[o, n, i, j] * x[c, row, column] for c, n, i, j, row, column in seen]
                found = share_of_sum(products, threshold)
                places = [numbers[c, row, column] for c, _, _, _, row, column in seen]
                add_to(expected, o * height * width + position, ((places[k], w) for k, w in found.items()))
        profile = profiler.create_profile(picture, threshold=threshold, channels=channels)
        assert neurons and expected
        check(profile, 1, neurons, expected, height * width)
        check_invariants(profile)


def seeded_linear(n_in, n_out, bias=True, seed=0):
    linear = nn.Linear(n_in, n_out, bias=bias).double()
    for number, parameter in enumerate(linear.parameters()):
        parameter.data = draw(*parameter.shape, seed=seed + number)
    return linear


def linear_terms(linear, unit, x, threshold):
    """Take a unit's largest positive terms until, with the bias, they exceed a share of its value."""
    weight, bias = linear.weight.detach().numpy()[unit], 0.0 if linear.bias is None else linear.bias[unit].item()
    return accept([max(0.0, w * v) for w, v in zip(weight, x, strict=True)], threshold * (weight @ x + bias) - bias)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_of_vectors(bias, check_invariants):
    linear, x = seeded_linear(9, 12, bias), draw(1, 9, seed=5)
    profiler = TorchProfiler(nn.Sequential(linear, nn.GELU()).eval(), example=x)
    head = linear(x)[0].detach()
    for threshold in THRESHOLDS:
        neurons, expected = influential(head, nn.functional.gelu(head), threshold), {}
        for unit in neurons:
            add_to(expected, unit, linear_terms(linear, unit, x[0].numpy(), threshold).items())
        for channels in (True, False):
            profile = profiler.create_profile(x, threshold=threshold, channels=channels)
            assert neurons and profile.neuron_weights[1].shape == (1, 12)
            check(profile, 1, {u: (0, w) for u, (_, w) in neurons.items()}, expected)
            check_invariants(profile)


class Flattened(nn.Module):
    """A convolution whose output becomes a vector by `view`, and then tokens' features if asked."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = convolution({"kernel_size": 3}), seeded_linear(8 * 20, 6, seed=3)

    def forward(self, x):
        return self.linear(torch.relu(self.conv(x)).view(len(x), -1))


@pytest.mark.parametrize("channels", [True, False], ids=["channel", "element"])
def test_linear_layers_of_what_was_flattened(channels, check_invariants):
    """Of channels, the weights of a channel's elements add up."""
    net, x = Flattened().eval(), draw(1, 4, 7, 6, seed=2)
    before = torch.relu(net.conv(x)).detach()
    profiler = TorchProfiler(net, example=x)
    for threshold in THRESHOLDS:
        neurons, expected = influential(*[net.linear(before.flatten(1))[0]] * 2, threshold), {}
        for unit in neurons:
            found = linear_terms(net.linear, unit, before.flatten().numpy(), threshold)
            add_to(expected, unit, ((k // 20 if channels else k, w) for k, w in found.items()))
        profile = profiler.create_profile(x, threshold=threshold, channels=channels)
        assert expected and profile.pred_dict[2] == [1]
        check(profile, 2, {u: (0, w) for u, (_, w) in neurons.items()}, expected)
        check_invariants(profile)


class ChannelsLast(nn.Module):
    """A linear layer at each position of a picture, as ConvNeXt has it."""

    def __init__(self):
        super().__init__()
        self.linear = seeded_linear(4, 6)

    def forward(self, x):
        return torch.relu(self.linear(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [True, False], ids=["channel", "element"])
@pytest.mark.parametrize("tokens", [True, False])
def test_linear_layers_at_positions_are_convolutions_of_one_pixel(tokens, channels, check_invariants):
    net = nn.Sequential(seeded_linear(4, 6), nn.ReLU()).eval() if tokens else ChannelsLast().eval()
    weight = next(net.parameters()).detach().numpy()
    x = draw(1, 5, 4, seed=4) if tokens else draw(1, 4, 3, 5, seed=4)
    before = x[0].T if tokens else x[0].flatten(1)  # (channels, positions)
    after = net(x)[0].detach().T if tokens else net(x)[0].detach().flatten(1)
    profiler, n_positions = TorchProfiler(net, example=x), before.shape[1]
    bias = list(net.parameters())[1].detach()[:, None]
    for threshold in THRESHOLDS:
        neurons, expected = influential(torch.as_tensor(weight) @ before + bias, after, threshold), {}
        for o, (position, _) in neurons.items():
            terms = weight[o][:, None] * before.numpy()
            if channels:
                found = share_of_sum([max(0.0, row.max()) for row in terms], threshold)
                add_to(expected, o, found.items())
            else:
                found = share_of_sum(terms[:, position].tolist(), threshold)
                row = o * n_positions + position
                add_to(expected, row, ((c * n_positions + position, w) for c, w in found.items()))
        profile = profiler.create_profile(x, threshold=threshold, channels=channels)
        assert neurons and profile.activation_shapes[1] == (1, 6, *((5,) if tokens else (3, 5)))
        check(profile, 1, neurons, expected, n_positions)
        check_invariants(profile)


def windows(n_in, n_out, start, size, step=1):
    return [[i for i in range(start(o), start(o) + size(o) * step, step) if 0 <= i < n_in] for o in range(n_out)]


def plain_windows(n_in, n_out, kernel, stride, padding=0, dilation=1):
    return windows(n_in, n_out, lambda o: o * stride - padding, lambda o: kernel, dilation)


def adaptive_windows(n_in, n_out):
    return windows(n_in, n_out, lambda o: o * n_in // n_out, lambda o: -(-(o + 1) * n_in // n_out) - o * n_in // n_out)


class Mean(nn.Module):
    def __init__(self, keepdim):
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x):
        return x.mean((2, 3), keepdim=self.keepdim)


POOLINGS = {
    "max": (nn.MaxPool2d(2), lambda n, m: plain_windows(n, m, 2, 2)),
    "max overlapping": (nn.MaxPool2d(3, 2, 1), lambda n, m: plain_windows(n, m, 3, 2, 1)),
    "max dilated": (nn.MaxPool2d(2, 1, dilation=3), lambda n, m: plain_windows(n, m, 2, 1, 0, 3)),
    "max ceiling": (nn.MaxPool2d(3, ceil_mode=True), lambda n, m: plain_windows(n, m, 3, 3)),
    "average": (nn.AvgPool2d(3, 2, 1), lambda n, m: plain_windows(n, m, 3, 2, 1)),
    "average ceiling": (nn.AvgPool2d(2, ceil_mode=True), lambda n, m: plain_windows(n, m, 2, 2)),
    "adaptive": (nn.AdaptiveAvgPool2d((3, 4)), adaptive_windows),
    "adaptive one": (nn.AdaptiveAvgPool2d(1), adaptive_windows),
    "adaptive larger": (nn.AdaptiveAvgPool2d((9, 2)), adaptive_windows),
    "mean": (Mean(False), adaptive_windows),
    "mean kept": (Mean(True), adaptive_windows),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_of_elements(name, check_invariants):
    """The largest of a window has all, and its activation is the weight; of an average, the largest have shares."""
    pool, find = POOLINGS[name]
    x = draw(1, 6, 7, 6, seed=6)
    after = pool(x)[0]
    height, width = after.shape[1:] if after.ndim == 3 else (1, 1)
    rows, columns = find(7, height), find(6, width)
    profiler = TorchProfiler(nn.Sequential(pool).eval(), example=x)
    for threshold in THRESHOLDS:
        neurons, expected = influential(after, after, threshold), {}
        for c, (position, _) in neurons.items():
            seen = [(i, j) for i in rows[position // width] for j in columns[position % width]]
            values = [x[0, c, i, j].item() for i, j in seen]
            if name.startswith("max"):
                found = {int(np.argmax(values)): max(values)}
            else:
                found = share_of_sum([max(0.0, v) for v in values], threshold)
            row = c * height * width + position
            add_to(expected, row, ((c * 42 + seen[k][0] * 6 + seen[k][1], w) for k, w in found.items()))
        profile = profiler.create_profile(x, threshold=threshold, channels=False)
        check(profile, 1, neurons, expected, height * width)
        check_invariants(profile)


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_of_channels_passes_on(name, check_invariants):
    pool, x = POOLINGS[name][0], draw(1, 6, 7, 6, seed=6)
    after = pool(x)[0]
    for threshold in THRESHOLDS:
        neurons = influential(after, after, threshold)
        profile = TorchProfiler(nn.Sequential(pool).eval(), example=x).create_profile(x, threshold=threshold)
        check(profile, 1, neurons, {(c, c): 1 for c in neurons})
        check_invariants(profile)


class Joined(nn.Module):
    """Two convolutions, of which the later listed runs first, joined by a function."""

    def __init__(self, join):
        super().__init__()
        self.one, self.other = convolution({"kernel_size": 3}, seed=1), convolution({"kernel_size": 3}, seed=5)
        self.join = join

    def forward(self, x):
        other = torch.relu(self.other(x))
        return self.join(torch.relu(self.one(x)), other)


def inputs_of_join(net, x):
    """Return the activations of layers 1 and 2, in the order in which they run."""
    return [torch.relu(conv(x))[0].detach().numpy().reshape(8, -1) for conv in (net.other, net.one)]


@pytest.mark.parametrize("channels", [True, False], ids=["channel", "element"])
@pytest.mark.parametrize("join", [torch.add, torch.Tensor.add_], ids=["apart", "in place"])
def test_a_sum_gives_all_to_the_larger_branch(join, channels, check_invariants):
    net, x = Joined(join).eval(), draw(1, 4, 7, 6, seed=8)
    first, second = inputs_of_join(net, x)
    profiler, after = TorchProfiler(net, example=x), net(x)[0].detach()
    assert profiler.layers[3].predecessors == (1, 2) and profiler.layers[1].names[0] == "other"
    for threshold in THRESHOLDS:
        neurons, expected = influential(after, after, threshold), {}
        n = 8 if channels else 160
        for c, (position, _) in neurons.items():
            a, b = (first[c].max(), second[c].max()) if channels else (first[c, position], second[c, position])
            neuron = c if channels else c * 20 + position
            block = int(b >= a)
            expected[block * n + neuron, block * n + neuron] = 1.0
        profile = profiler.create_profile(x, threshold=threshold, channels=channels)
        assert {row // n for row, _ in expected} == {0, 1} or len(neurons) < 4
        assert profile.synapse_counts[3].shape == (2 * n, 2 * n)
        check(profile, 3, neurons, expected, 20)
        check_invariants(profile)


@pytest.mark.parametrize("channels", [True, False], ids=["channel", "element"])
def test_of_equal_branches_the_later_layer_has_all(channels):
    net, x = Joined(torch.add).eval(), draw(1, 4, 7, 6, seed=8)
    net.one.load_state_dict(net.other.state_dict())
    profile = TorchProfiler(net, example=x).create_profile(x, threshold=0.9, channels=channels)
    assert profile.synapse_counts[3].nnz > 3
    assert min(profile.synapse_counts[3].col) >= (8 if channels else 160)


class Halves(nn.Module):
    """Two halves of the channels of one layer are added."""

    def __init__(self):
        super().__init__()
        self.conv = convolution({"kernel_size": 3}, seed=1)

    def forward(self, x):
        one, other = self.conv(x).chunk(2, dim=1)
        return one + other


def test_halves_of_one_layer_are_added(check_invariants):
    net, x = Halves().eval(), draw(1, 4, 7, 6, seed=3)
    tops, after = net.conv(x)[0].detach().amax((1, 2)), net(x)[0].detach()
    profile = TorchProfiler(net, example=x).create_profile(x, threshold=0.95)
    neurons = influential(after, after, 0.95)
    expected = {(c, c if tops[c] > tops[c + 4] else c + 4): 1.0 for c in neurons}
    assert {column // 4 for _, column in expected} == {0, 1}
    check(profile, 2, neurons, expected)
    check_invariants(profile)


@pytest.mark.parametrize("channels", [True, False], ids=["channel", "element"])
def test_a_concatenation_passes_on_to_where_a_channel_came_from(channels, check_invariants):
    net, x = Joined(lambda one, other: torch.cat([other, one], 1)).eval(), draw(1, 4, 7, 6, seed=8)
    after = net(x)[0].detach()
    neurons, n = influential(after, after, 0.95), 8 if channels else 160
    expected = {}
    for c, (position, _) in neurons.items():
        number, channel = divmod(c, 8)  # layer 1 is `other`, whose channels come first
        here, there = (c, channel) if channels else (c * 20 + position, channel * 20 + position)
        expected[number * 2 * n + here, number * n + there] = 1.0
    profile = TorchProfiler(net, example=x).create_profile(x, threshold=0.95, channels=channels)
    assert {column // n for _, column in expected} == {0, 1}
    check(profile, 3, neurons, expected, 20)
    check_invariants(profile)


class Shuffled(nn.Module):
    """Channels are shuffled as ShuffleNet does it, and the second half of them goes on."""

    def __init__(self):
        super().__init__()
        self.first, self.second = convolution({"kernel_size": 3}, seed=1), nn.Conv2d(4, 3, 1).double()
        self.second.weight.data, self.second.bias.data = draw(3, 4, 1, 1, seed=7), torch.ones(3).double()

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).contiguous().view(x.shape)
        return self.second(x.chunk(2, dim=1)[1])


def test_shuffled_channels_are_known_by_their_own_numbers(check_invariants):
    net, x = Shuffled().eval(), draw(1, 4, 7, 6, seed=3)
    before = torch.relu(net.first(x))[0].detach().numpy().reshape(8, -1)
    after = net(x)[0].detach()
    numbers = [2, 6, 3, 7]  # (0, 4, 1, 5, 2, 6, 3, 7) and of these the second half
    neurons, expected = influential(after, after, 0.9), {}
    for o in neurons:
        weight = net.second.weight[o, :, 0, 0].detach().numpy()
        responses = [max(0.0, (w * before[c]).max()) for w, c in zip(weight, numbers, strict=True)]
        add_to(expected, o, ((numbers[k], w) for k, w in share_of_sum(responses, 0.9).items()))
    profile = TorchProfiler(net, example=x).create_profile(x, threshold=0.9)
    check(profile, 2, neurons, expected)
    check_invariants(profile)


def test_norms_with_negative_scales_count_where_both_signs_agree(check_invariants):
    conv, norm, x = convolution({"kernel_size": 3}), nn.BatchNorm2d(8).double(), draw(1, 4, 7, 6, seed=1)
    norm.weight.data = draw(8, seed=2)
    norm.bias.data = draw(8, seed=3)
    net = nn.Sequential(conv, norm, nn.ReLU()).eval()
    head, after = conv(x)[0].detach(), net(x)[0].detach()
    neurons = influential(head, after, 1.0)
    values = [after[c].clamp(min=0)[(head[c] > 0) == (after[c] > 0)] for c in range(8)]
    assert any(len(v) < after[0].numel() for v in values) and norm.weight.min() < 0
    assert any(v.max() < after[c].max() for c, v in enumerate(values) if len(v))  # the largest of all does not count
    profile = TorchProfiler(net, example=x).create_profile(x, threshold=1.0, channels=False)
    assert as_dict(profile.neuron_weights[1]) == pytest.approx({(c, p): w for c, (p, w) in neurons.items()})
    by_channel = TorchProfiler(net, example=x).create_profile(x, threshold=1.0)
    assert as_dict(by_channel.neuron_weights[1]) == pytest.approx({(0, c): w for c, (_, w) in neurons.items()})
    check_invariants(profile)
    check_invariants(by_channel)
