"""Bad input is told in one sentence, and a network is left as it was."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from deepjuice.influence import ChannelProfiler, ElementProfiler, SpatialProfiler, SVDProfiler, TorchProfiler
from juicyfruits.errors import InputError

KINDS = [ChannelProfiler, ElementProfiler, SpatialProfiler, SVDProfiler, TorchProfiler]


@pytest.fixture(scope="module")
def net(small_vgg):
    return small_vgg(width=4)


@pytest.fixture(scope="module")
def profiler(net, picture):
    return TorchProfiler(net, example=picture())


def refused(call, *match):
    """Check that a call is refused in one sentence that has some words."""
    with pytest.raises(InputError) as raised:
        call()
    message = str(raised.value)
    assert all(words in message for words in match), message
    assert "\n" not in message and message.endswith((".", "?")) and len(message) < 400
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_networks_in_training_mode_are_refused(kind, small_vgg, picture):
    net = small_vgg(width=4)
    profiler = kind(net, example=picture())
    net.train()
    refused(lambda: kind(net, example=picture()), "training mode", "model.eval()")
    refused(lambda: profiler.create_profile(picture()), "training mode", "model.eval()")
    assert net.training


class Returns(nn.Module):
    def __init__(self, returns):
        super().__init__()
        self.conv, self._returns = nn.Conv2d(3, 2, 3), returns

    def forward(self, x):
        return self._returns(self.conv(x))


@pytest.mark.parametrize(
    "returns, words",
    [
        (lambda y: (y, y), ["expected one tensor, got tuple"]),
        (lambda y: {"logits": y}, ["expected one tensor, got dict"]),
        (lambda y: y.sort().values, ["'sort' at 'sort[0]'"]),
        (lambda y: torch.fft.rfft2(y).abs(), ["rfft2", "cannot follow"]),
        (lambda y: y.permute(1, 0, 2, 3).flatten(1).mean((0, 1)), ["'mean' at 'mean'", "no neurons"]),
        (lambda y: y.mean(), ["'mean' at 'mean'", "no neurons"]),
        (lambda y: y.flatten(1).mean(1), ["'mean' at 'mean'", "no neurons"]),
        (lambda y: y.mean(1), ["'mean' at 'mean'", "height and width"]),
        (lambda y: y.mean(1, keepdim=True), ["'mean' at 'mean'", "height and width"]),
        (lambda y: y.mean((1, 2, 3), keepdim=True), ["'mean' at 'mean'", "height and width"]),
        (lambda y: y.mean(-1), ["'mean' at 'mean'", "height and width"]),
        (lambda y: y.flatten(2).mean(axis=2), ["'mean' at 'mean'", "height and width"]),
        (lambda y: y + y.mean((2, 3), keepdim=True), ["'add' at 'add' adds activations of different shapes"]),
        (lambda y: torch.add(y, torch.relu(y), alpha=2), ["'add' at 'add'", "alpha"]),
        (lambda y: y - torch.relu(y), ["'sub' at 'sub'"]),
        (lambda y: torch.ones(len(y), 2), ["does not depend on the input"]),
        (lambda y: y * y.abs(), ["'abs'"]),
    ],
)
def test_networks_that_cannot_be_followed_are_refused(returns, words, seeded, picture):
    net = seeded(lambda: Returns(returns), 0)

    def profile():
        return TorchProfiler(net, example=picture(8)).create_profile(picture(8))

    refused(profile, *words)


@pytest.mark.parametrize("model", ["alexnet", None, nn.Linear, lambda x: x])
def test_what_is_no_module_is_refused(model):
    refused(lambda: TorchProfiler(model), "expected a torch.nn.Module")


@pytest.mark.parametrize(
    "layers", [[0], [99], [1, -1], [], (5, 5), (3, 1), (1, 2, 3), 3, "all", [1.5], [True], [None], {1: 2}]
)
def test_layers_that_are_not_there_are_refused(profiler, picture, layers):
    refused(lambda: profiler.create_profile(picture(), layers_to_profile=layers), "layers_to_profile")


def test_layers_of_another_network_are_refused(profiler, small_resnet, picture):
    theirs = TorchProfiler(small_resnet(n_blocks=1), example=picture(48)).create_layers()
    refused(lambda: profiler.create_profile(picture(), theirs), "layerdict", "create_layers()")
    ours = profiler.create_layers()
    for wrong in ({99: ours[1]}, {1: ours[2]}, list(ours), "layers", {1: 5}, {1: None}):
        refused(lambda wrong=wrong: profiler.create_profile(picture(), wrong), "layerdict")
    part = {1: ours[1], 2: ours[2]}
    refused(lambda: profiler.create_profile(picture(), part, [3]), "layers_to_profile [3]", "layerdict")
    for nothing in ({}, {0: ours[0]}):
        refused(lambda nothing=nothing: profiler.create_profile(picture(), nothing), "layer")


THRESHOLDS = [0, -0.1, 1.0001, float("nan"), float("inf"), "0.1", None, True, [0.1]]


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=repr)
def test_thresholds_that_are_no_share_are_refused(profiler, net, picture, threshold):
    x = picture()
    refused(lambda: profiler.create_profile(x, threshold=threshold), "threshold")
    refused(lambda: profiler.create_profile(x, threshold=threshold, channels=False), "threshold")
    for kind in (ChannelProfiler, ElementProfiler, SVDProfiler):
        refused(lambda kind=kind: kind(net, example=x).create_profile(x, threshold=threshold), "threshold")
    places = SpatialProfiler(net, example=x)
    refused(lambda: places.create_profile(x, infl_threshold=threshold), "infl_threshold")
    refused(lambda: places.create_profile(x, contrib_threshold=threshold), "contrib_threshold")


def test_other_options_that_make_no_sense_are_refused(profiler, net, picture):
    x = picture()
    refused(lambda: profiler.create_profile(x, channels="element"), "channels 'element'")
    for norm in (0, -1, "2", float("nan"), True):
        refused(lambda norm=norm: profiler.create_profile(x, norm=norm), "norm")
        refused(lambda norm=norm: SpatialProfiler(net, example=x).create_profile(x, norm=norm or 0), "norm")
    refused(lambda: profiler.create_profile(x, norm=2, channels=False), "norm", "elements")
    for max_infl in (0, -1, 1.5, None, True):
        refused(lambda m=max_infl: SpatialProfiler(net, example=x).create_profile(x, max_infl=m), "max_infl")
    refused(lambda: SVDProfiler(net, example=x).create_influential(x, aggregation="mean"), "aggregation 'mean'", "max")


def broken(change):
    def make(x):
        x = x.clone()
        x[0, 1, 2, 3] = change
        return x

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change, words",
    [
        (broken(float("nan")), "NaN or infinity"),
        (broken(-float("inf")), "NaN or infinity"),
        (lambda x: x[0], "unsqueeze(0)"),
        (lambda x: x[:0], "expected a batch like"),
        (lambda x: x[:, :2], "the layers were found with (3, 32, 32)"),
        (lambda x: x[..., :30], "the layers were found with (3, 32, 32)"),
        (lambda x: x.long(), "tensor of floats, got a tensor of torch.int64"),
        (lambda x: x.numpy(), "got ndarray"),
        (lambda x: [x], "got list"),
        (lambda x: None, "got NoneType"),
    ],
)
def test_inputs_that_are_not_like_the_example_are_refused(kind, net, picture, change, words):
    profiler = kind(net, example=picture())
    refused(lambda: profiler.create_profile(change(picture())), "x", words)


def test_networks_that_make_nan_are_refused_by_the_layer(small_vgg, picture):
    net = small_vgg(width=4)
    profiler = TorchProfiler(net, example=picture())
    net.features[2].weight.data[0, 0, 0, 0] = float("nan")
    refused(lambda: profiler.create_profile(picture()), "layer 2 (features.3)", "NaN")
    assert profiler.create_profile(picture(), layers_to_profile=[1]).total


def test_networks_whose_path_depends_on_the_input_are_refused(picture):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            return torch.relu(self.conv(x)) if x.flatten().tolist()[0] > 0 else self.conv(x)

    x = picture(8).abs()
    refused(lambda: TorchProfiler(Branching().eval(), example=x).create_profile(-x), "example")


@pytest.mark.parametrize(
    "example",
    ["x", torch.zeros(3), torch.zeros(0, 3, 32, 32), torch.zeros(1, 3, 32, 32).long(), torch.zeros(1, 4, 32, 32)],
)
def test_examples_that_are_no_batch_are_refused(net, example):
    refused(lambda: TorchProfiler(net, example=example), "example")


class Choosy(nn.Module):
    """Takes 32 x 32 pixels only, and says so in its own way; two pictures only as a batch of one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x):
        assert x.shape[-1] == 32, "32 pixels!"
        return self.conv(x).view(1, 6, 30, 30)


def test_what_a_network_says_of_its_input_is_passed_on(seeded, picture):
    profiler = TorchProfiler(seeded(Choosy, 0))  # the size is found
    assert profiler.layers[0].positions == (32, 32)
    refused(lambda: profiler.create_profile(picture(32).expand(2, -1, -1, -1)), "x (2, 3, 32, 32)", "does not take it")
    refused(lambda: TorchProfiler(seeded(Choosy, 0), example=picture(8)), "example (1, 3, 8, 8)", "32 pixels!")
    refused(lambda: TorchProfiler(seeded(Choosy, 0), device="gpu"), "device", "'gpu'")


def test_singular_directions_and_norms_of_half_precision(net, picture):
    x = picture()
    whole, half = (SVDProfiler(net.to(dtype), example=x).create_projections(x) for dtype in (torch.float32, torch.half))
    assert all(
        (whole[layer].abs() - half[layer].abs()).abs().max() < 0.03 * whole[layer].abs().max() for layer in whole
    )
    assert TorchProfiler(net, example=x).create_profile(x, norm="nuc").size


def test_a_network_is_left_as_it_was(small_resnet, picture):
    """No hooks, however many profilers, no other mode, the same weights and statistics, gradients as wished for."""
    net, x = small_resnet(n_blocks=1), picture(48)
    state, before = copy.deepcopy(net.state_dict()), net(x)
    net.conv1.weight.requires_grad_(False)
    for kind in KINDS * 2:
        kind(net, example=x).create_profile(x)
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
        assert not module.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert not net.conv1.weight.requires_grad and net.fc.weight.requires_grad and net.fc.weight.grad is None
    assert torch.equal(net(x), before) and net(x).requires_grad and torch.equal(x, picture(48))


def test_nothing_is_left_after_what_was_refused(small_vgg, picture):
    net = small_vgg(width=4)
    profiler = TorchProfiler(net, example=picture())
    for bad in (picture(30), picture() * float("nan")):
        refused(lambda bad=bad: profiler.create_profile(bad))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert profiler.create_profile(picture()) == TorchProfiler(net, example=picture()).create_profile(picture())


def test_profiles_need_neither_profiler_nor_network(small_vgg, picture):
    net = small_vgg(width=4)
    profiler = TorchProfiler(net, example=picture())
    profile, ref = profiler.create_profile(picture()), weakref.ref(net)
    del net, profiler
    gc.collect()
    assert ref() is None and profile.dict_view().total == profile.total


def test_networks_may_run_between_profiles_and_change(small_vgg, picture):
    """A profile is of the weights as they are then."""
    net = small_vgg(width=4)
    profiler = TorchProfiler(net, example=picture())
    before = profiler.create_profile(picture(), threshold=0.5)
    net(picture(n=4)).sum().backward()
    assert profiler.create_profile(picture(), threshold=0.5) == before
    with torch.no_grad():
        net.features[0].weight.mul_(-1)
    after = profiler.create_profile(picture(), threshold=0.5)
    assert after != before and after == TorchProfiler(net, example=picture()).create_profile(picture(), threshold=0.5)
