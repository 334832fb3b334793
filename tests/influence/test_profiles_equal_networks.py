"""Networks that compute the same in other ways have the same profiles; what makes them differ is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from deepjuice.influence import ChannelProfiler, TorchProfiler
from juicyfruits.errors import InputError

ORDER = [5, 2, 0, 3, 1, 4]


def drawn(*shape, seed=3):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def x():
    return drawn(2, 3, 12, 10)


class Two(nn.Module):
    """Two convolutions with something between, which may use constants."""

    def __init__(self, between, n_in=6):
        super().__init__()
        self.first, self.other, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3), nn.Conv2d(n_in, 4, 3)
        self.register_buffer("order", torch.tensor(ORDER))
        self.register_buffer("all", torch.ones(6, dtype=torch.bool))
        self.between = between

    def forward(self, x):
        return self.last(self.between(self, torch.relu(self.first(x)), torch.relu(self.other(x))))


def of_channels_last(net, h):
    tokens = F.layer_norm(F.pad(h.permute(0, 2, 3, 1), (0, 0, 1, 1)), (6,))
    return tokens.permute(0, 3, 1, 2)


def of_channels_first(net, h):
    return F.layer_norm(F.pad(h, (1, 1)).permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)


PAIRS = {
    "tensor of indices": (lambda n, a, b: a[:, n.order], lambda n, a, b: a[:, ORDER]),
    "mask": (lambda n, a, b: a[:, n.all], lambda n, a, b: a),
    "index_along_width": (lambda n, a, b: a[..., torch.arange(7, -1, -1)], lambda n, a, b: a.flip(3)),
    "channels last, padded": (lambda n, a, b: of_channels_last(n, a), lambda n, a, b: of_channels_first(n, a)),
}


@pytest.mark.parametrize("channels", [True, False], ids=["channel", "element"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_ways_of_moving_neurons(pair, channels, x, seeded):
    one, two = (TorchProfiler(seeded(lambda between=between: Two(between), 0), example=x) for between in pair)
    assert torch.equal(one.model.model(x), two.model.model(x))
    profiles = [profiler.create_profile(x, threshold=0.8, channels=channels) for profiler in (one, two)]
    assert profiles[0].size > 7 and profiles[0] == profiles[1]


SINGLES = {
    "cat": (lambda n, a, b: torch.cat([a[:, :1], b], 1), lambda n, a, b: torch.cat([b, a[:, :1]], 1), 7),
    "add": (lambda n, a, b: a[:, 2:3] + b[:, 1:2], lambda n, a, b: (a[:, 2:4] + b[:, 1:3])[:, :1], 1),
}


@pytest.mark.parametrize("name", SINGLES)
def test_one_channel_is_a_channel(name, x, seeded):
    """Of parts with one channel, height was taken for channels."""
    *ways, n_in = SINGLES[name]
    one, two = (TorchProfiler(seeded(lambda way=way: Two(way, n_in), 0), example=x) for way in ways)
    assert [layer.n_channels for layer in one.layers] == [3, 6, 6, n_in, 4]
    assert one.layers[3].positions == two.layers[3].positions == (10, 8)
    for channels in (True, False):
        profile = one.create_profile(x, threshold=0.8, channels=channels)
        assert profile.neuron_weights[3].shape[1 if channels else 0] == n_in
        assert profile.synapse_counts[3].nnz > 0
    if name == "cat":  # the same channels in another order
        turned = two.create_profile(x[:1], threshold=0.8).neuron_weights[3].toarray()[0]
        found = one.create_profile(x[:1], threshold=0.8).neuron_weights[3].toarray()[0]
        assert found == pytest.approx([turned[-1], *turned[:-1]])


def test_colours_that_are_scaled_one_by_one_are_three_channels(seeded):
    """As torchvision's GoogLeNet and Inception with `transform_input` do."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            x = torch.cat([x[:, c].unsqueeze(1) * 0.4 + 0.1 * c for c in range(3)], 1)
            return self.conv(x)

    profiler = TorchProfiler(seeded(Scaled, 0), example=drawn(1, 3, 9, 9))
    profile = profiler.create_profile(drawn(1, 3, 9, 9), threshold=1.0)
    (cat,) = (layer for layer in profiler.layers if layer.rule == "contrib_cat")
    assert (cat.n_channels, cat.positions) == (3, (9, 9))
    assert profile.neuron_counts[cat.index].shape == (1, 3)


def test_a_grey_network_scales_its_pictures(seeded):
    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return self.conv((x - 0.13) / 0.3)

    profiler = TorchProfiler(seeded(Grey, 0), example=drawn(1, 1, 9, 9))
    assert [(layer.n_channels, layer.positions) for layer in profiler.layers] == [(1, (9, 9)), (1, (9, 9)), (4, (7, 7))]
    profile = profiler.create_profile(drawn(1, 1, 9, 9), threshold=1.0)
    contributors = profile.synapse_counts[2]
    assert contributors.shape == (4, 1) and 0 < contributors.nnz <= profile.neuron_weights[2].nnz


class Dropping(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 4, 3), drop

    def forward(self, x):
        return self.drop(self.conv(x))


@pytest.mark.parametrize(
    "drop",
    [
        F.dropout,
        lambda h: torch.dropout(h, 0.5, True),
        F.dropout2d,
        lambda h: F.batch_norm(h, None, None, training=True),
    ],
    ids=["dropout", "torch.dropout", "dropout2d", "batch_norm"],
)
def test_what_is_in_training_mode_all_the_same_is_refused(drop, x, seeded):
    with pytest.raises(InputError, match=r"'(dropout|dropout2d|batch_norm)' at .*in training mode"):
        TorchProfiler(seeded(lambda: Dropping(drop), 0), example=x)


def test_what_is_off_is_followed(x, seeded):
    profiler = TorchProfiler(seeded(lambda: Dropping(lambda h: F.dropout(h, p=0.0)), 0), example=x)
    assert len(profiler.layers) == 2


def replaced(net):
    net.last = nn.Conv2d(6, 4, 3)


def assigned(net):
    net.load_state_dict({k: v + 1.0 if v.is_floating_point() else v for k, v in net.state_dict().items()}, assign=True)


def changed_norm(net):
    net.last.parametrizations.weight.original0.data.mul_(2)


@pytest.mark.parametrize("change", [replaced, assigned, changed_norm])
def test_weights_that_were_replaced_are_refused(change, x, seeded):
    net = seeded(lambda: Two(lambda n, a, b: a), 0)
    if change is changed_norm:
        weight_norm(net.last)
    profiler = TorchProfiler(net, example=x)
    profiler.create_profile(x)
    change(net)
    with pytest.raises(InputError, match=r"conv2d.*is not what it was"):
        profiler.create_profile(x)
    assert TorchProfiler(net.eval(), example=x).create_profile(x).size


def test_weights_that_changed_in_place_are_read_as_they_are(x, seeded):
    net = seeded(lambda: Two(lambda n, a, b: a), 0)
    profiler = TorchProfiler(net, example=x)
    for weight in (net.first.weight, net.last.weight):
        weight.data.neg_()
    assert profiler.create_profile(x, threshold=0.7) == TorchProfiler(net, example=x).create_profile(x, threshold=0.7)
    net.double()
    assert (
        profiler.create_profile(x, threshold=0.7).size
        == TorchProfiler(net, example=x).create_profile(x, threshold=0.7).size
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_do_not_overflow(dtype, seeded):
    """600 channels of up to 10,000 add up to more than float16 holds."""
    net = seeded(lambda: nn.Sequential(nn.Conv2d(3, 600, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 0)
    net[0].weight.data.mul_(8000)
    x = drawn(1, 3, 4, 4)
    whole = ChannelProfiler(net, example=x).create_profile(x, threshold=0.5).neuron_weights[1]
    half = ChannelProfiler(net.to(dtype), example=x).create_profile(x.to(dtype), threshold=0.5).neuron_weights[1]
    assert half.data.sum() == pytest.approx(1, abs=1e-5)
    assert abs(half.nnz - whole.nnz) <= 0.02 * whole.nnz
