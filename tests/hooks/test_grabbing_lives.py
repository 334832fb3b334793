"""Wrappers of networks: how long they live, their copies, and several of them at work."""

import copy
import threading
import weakref

import pytest
import torch
from torch import nn

from deepjuice.hooks import ActivationMapGrabber
from tests.hooks.copying import COPIES

PICTURE = torch.linspace(-2, 3, 25).sin().reshape(1, 1, 5, 5)


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(18, 2))


def n_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_the_hooks_go_with_the_wrapper():
    net = small_net()
    grabber, other = ActivationMapGrabber(net, ["0", "1"]), ActivationMapGrabber(net, ["0"])
    assert n_hooks(net) == 3
    del grabber
    assert n_hooks(net) == 1
    assert list(other(PICTURE)[1]) == ["0"]
    other.unregister_submodule("0")
    assert n_hooks(net) == 0


def test_the_wrapper_keeps_no_model_alive_after_its_end():
    grabber = ActivationMapGrabber(small_net(), ["0"])
    grabber(PICTURE)
    model, wrapper = weakref.ref(grabber.wrapped_model), weakref.ref(grabber)
    del grabber
    assert model() is None and wrapper() is None


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_is_a_wrapper_of_its_own(copied):
    grabber, x = ActivationMapGrabber(small_net(), ["1", "0"]), PICTURE
    _, maps = grabber(x)
    twin = copied(grabber)
    assert twin.registered_submodules == ["1", "0"]
    with torch.no_grad():
        twin.wrapped_model[0].bias += 1
    twin_maps = twin(x)[1]
    assert torch.allclose(twin_maps["0"], maps["0"] + 1)
    assert torch.equal(grabber(x)[1]["0"], maps["0"])
    del grabber
    assert list(twin(x)[1]) == ["1", "0"]
    twin.unregister_submodule("1")
    assert list(twin(x)[1]) == ["0"]


def test_a_copy_of_the_network_is_not_listened_to():
    net = small_net()
    grabber = ActivationMapGrabber(net, ["0"])
    alone, x = copy.deepcopy(net), PICTURE
    heard = []
    grabber._take = lambda *told: heard.append(told)
    assert torch.equal(alone(x), net(x)) and not heard


def test_wrappers_of_wrappers_each_get_their_own():
    inner = ActivationMapGrabber(small_net(), ["0"])
    outer = ActivationMapGrabber(inner, ["wrapped_model.0", "wrapped_model.3"])
    (output, inner_maps), maps = outer(PICTURE)
    assert torch.equal(maps["wrapped_model.0"], inner_maps["0"]) and torch.equal(maps["wrapped_model.3"], output)
    (to_inner,) = torch.autograd.grad(output.sum(), inner_maps["0"], retain_graph=True)
    (to_outer,) = torch.autograd.grad(output.sum(), maps["wrapped_model.0"])
    assert torch.equal(to_inner, to_outer) and to_inner.abs().sum() > 0
    outer.register_submodule("")
    assert list(outer(PICTURE)[1][""][1]) == ["0"]


def test_a_wrapper_that_is_called_within_itself():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.inner = nn.Linear(1, 1), None

        def forward(self, x, deeper=False):
            if deeper:
                x = self.inner[0](x)[1]["linear"]
            return self.linear(x)

    net = Recursive()
    grabber = ActivationMapGrabber(net, ["linear"])
    net.inner = [grabber]  # in a list: a network cannot be a sub-module of its own part
    x = torch.ones(1, 1)
    output, maps = grabber(x, deeper=True)
    assert torch.equal(maps["linear"], net.linear(net.linear(x))) and torch.equal(output, maps["linear"])


def test_threads_get_their_own_maps():
    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.meet = nn.Identity(), threading.Barrier(4, timeout=20)

        def forward(self, x):
            self.meet.wait()
            x = self.first(x)
            self.meet.wait()
            return x

    grabber, got = ActivationMapGrabber(Slow(), ["first"]), {}

    def call(number):
        got[number] = grabber(torch.full((1,), float(number)))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert {number: (out.item(), maps["first"].item()) for number, (out, maps) in got.items()} == {
        number: (number, number) for number in range(4)
    }
