"""Wrappers that are compiled or replicated, and wrappers of what is."""

import threading

import pytest
import torch
from torch import nn

from deepjuice.hooks import ActivationMapGrabber, ModelExtender, ModelStump
from juicyfruits.errors import InputError


@pytest.fixture
def afresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def extended_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Identity(), nn.Linear(5, 2))
    return ModelExtender(net, {"0": {"a": nn.Linear(5, 1), "b": nn.ReLU(inplace=True)}, "2": {"c": nn.Linear(5, 1)}})


def gradients(wrapper, x):
    """Of the sum of all outputs, by all parameters."""
    output, extra = wrapper(x)
    loss = output.sum() + sum((place + 2) * value.sum() for place, value in enumerate(extra.values()))
    return torch.autograd.grad(loss, list(wrapper.parameters()))


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_a_compiled_wrapper_gives_the_same_in_one_graph(afresh, backend):
    extended = extended_net()
    compiled = torch.compile(extended, backend=backend, fullgraph=True)
    for x in torch.linspace(-2, 2, 24).sin().reshape(2, 3, 4):
        output, extra = extended(x)
        compiled_output, compiled_extra = compiled(x)
        assert list(compiled_extra) == list(extra) and torch.equal(compiled_output, output)
        assert all(torch.equal(compiled_extra[name], extra[name]) for name in extra)
        for one, other in zip(gradients(compiled, x), gradients(extended, x), strict=True):
            assert torch.allclose(one, other, atol=1e-6) and other.abs().sum() > 0


def test_a_compiled_wrapper_follows_registration(afresh):
    grabber = ActivationMapGrabber(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), ["0"])
    compiled, x = torch.compile(grabber, backend="eager"), torch.ones(1, 2)
    assert list(compiled(x)[1]) == ["0"]
    grabber.register_submodule("1")
    _, maps = compiled(x)
    assert torch.equal(maps["1"], grabber.wrapped_model(x)) and list(maps) == ["0", "1"]
    grabber.unregister_submodule("0")
    assert list(compiled(x)[1]) == ["1"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_what_a_compiled_network_calls_cannot_be_heard_and_is_refused(afresh):
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    with pytest.raises(InputError, match=r"module '' \(OptimizedModule\) is compiled.*compile the wrapper"):
        ModelStump(torch.compile(net, backend="eager"), "0")
    net[1].compile(backend="eager")
    with pytest.raises(InputError, match=r"module '1' \(Sequential\) is compiled"):
        ActivationMapGrabber(net, ["1.0"])
    assert list(ActivationMapGrabber(net, ["0"])(torch.ones(1, 2))[1]) == ["0"]
    with pytest.raises(InputError, match=r"module '' \(.*Module\) is compiled"):
        ActivationMapGrabber(torch.jit.trace(nn.Sequential(nn.ReLU()), torch.ones(1)), ["0"])


def replica(module):
    """What DataParallel makes of a module for another device, with the weights where they are."""
    copied = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        copied._modules[name] = replica(child)
    for name, parameter in module.named_parameters(recurse=False):
        setattr(copied, name, parameter * 1)  # replicas have tensors, not parameters
    return copied


class Meeting(nn.Module):
    """Waits until all replicas are here."""

    def __init__(self, n_replicas):
        super().__init__()
        self.wait = threading.Barrier(n_replicas, timeout=20).wait

    def forward(self, x):
        self.wait()
        return x


def test_replicas_get_their_own_maps_in_their_own_threads():
    extended, got = extended_net(), {}
    extended.wrapped_model[2] = Meeting(2)
    extended.wrapped_model.append(extended.wrapped_model[2])  # both are in layer 3 between the two meetings
    extended.unregister_extension("c")
    extended.register_extension("c", "3", nn.Linear(2, 1))
    replicas = [replica(extended) for _ in range(2)]
    inputs = [torch.full((3, 4), float(number)) for number in (1, 2)]

    def run(number):
        got[number] = replicas[number](inputs[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    extended.wrapped_model[2].wait = lambda: None
    for number, x in enumerate(inputs):
        output, extra = extended(x)
        assert torch.equal(got[number][0], output) and list(got[number][1]) == list(extra)
        assert all(torch.equal(got[number][1][name], extra[name]) for name in extra)
    got[0][1]["c"].sum().backward()
    assert extended.wrapped_model[0].weight.grad.abs().sum() > 0


def test_a_network_that_replicates_itself_is_refused():
    net = nn.Sequential(nn.DataParallel(nn.Sequential(nn.ReLU())))
    assert list(ActivationMapGrabber(net, ["0.module.0"])(torch.ones(1))[1]) == ["0.module.0"]  # one device: no replica
    net[0].device_ids = [0, 1]
    with pytest.raises(InputError, match=r"module '0' is a DataParallel over 2 devices.*put the wrapper into Data"):
        ActivationMapGrabber(net, ["0.module.0"])
