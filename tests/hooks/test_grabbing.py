"""Wrappers that hand out what layers return: registration, values and gradients."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepjuice.hooks import ActivationMapGrabber, HooksHandle
from juicyfruits.errors import InputError

PICTURE = torch.linspace(-2, 3, 25).sin().reshape(1, 1, 5, 5)


class Overwriting(nn.Module):
    """30 relu(3 x + 1), by ways that overwrite tensors in place, one through another name for the same memory."""

    def __init__(self):
        super().__init__()
        self.linear, self.relu, self.same, self.flat = (
            nn.Linear(1, 1),
            nn.ReLU(inplace=True),
            nn.Identity(),
            Reshaping(),
        )
        self.linear.weight.data.fill_(3.0)
        self.linear.bias.data.fill_(1.0)

    def forward(self, x):
        fresh = self.relu(self.linear(x)) + 0
        same = self.same(fresh)
        flat = self.flat(map=same)
        fresh *= 10
        assert flat.data_ptr() == same.data_ptr() == fresh.data_ptr()
        return flat * 3


class Reshaping(nn.Module):
    def forward(self, map):
        return map.reshape(-1, 1, 1)


class Branching(nn.Module):
    """Calls `twice` two times, `rare` when asked for, and returns a structure."""

    def __init__(self):
        super().__init__()
        self.twice, self.rare, self.unused = nn.Linear(2, 2), nn.ReLU(), nn.ModuleList([nn.ReLU()])
        self.pair = Pair()

    def forward(self, x, *, scale=1.0, rare=False):
        if rare:
            x = self.rare(x)
        return self.pair(self.twice(self.twice(x * scale)))


class Pair(nn.Module):
    def forward(self, x):
        return {"both": (x * 1, x + 1), "name": "pair"}


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(18, 2))


def n_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_the_base_class_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        HooksHandle(small_net())


def test_ids_come_in_the_order_of_registration():
    grabber = ActivationMapGrabber(small_net(), (i for i in ["3", "0"]))
    grabber.register_submodule("")
    grabber.register_submodule("3")
    assert grabber.registered_submodules == ["3", "0", ""]
    grabber.unregister_submodule("3")
    grabber.register_submodule("3")
    output, maps = grabber(PICTURE)
    assert list(maps) == grabber.registered_submodules == ["0", "", "3"]
    assert torch.equal(output, maps["3"]) and torch.equal(output, maps[""])
    assert n_hooks(grabber.wrapped_model) == 3


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (
            lambda grabber: grabber.register_submodule("9"),
            KeyError,
            "Tried to register a hook to non-existing sub-module 9; available sub-modules: ['', '0', '1', '2', '3']",
        ),
        (
            lambda grabber: grabber.register_submodule(None),
            ValueError,
            "Tried to register a module_id which was None",
        ),
        (lambda grabber: grabber.unregister_submodule("1"), KeyError, "Tried to remove unknown submodule of ID 1"),
        (lambda grabber: grabber.stump("1"), KeyError, "Submodule 1 is not registered"),
    ],
)
def test_errors_have_these_texts(wrong, error, text):
    grabber = ActivationMapGrabber(small_net(), ["0"])
    with pytest.raises(error) as raised:
        wrong(grabber)
    assert raised.value.args == (text,)
    assert grabber.registered_submodules == ["0"] and n_hooks(grabber.wrapped_model) == 1


def test_what_is_no_model_or_no_list_is_refused():
    with pytest.raises(InputError, match=r"expected a torch\.nn\.Module, got tuple"):
        ActivationMapGrabber((small_net(), None))
    with pytest.raises(InputError, match="got the text '0'; put it into a list"):
        ActivationMapGrabber(small_net(), "0")


def test_maps_are_as_the_layer_returned_them_whatever_is_overwritten_later():
    grabber, x = ActivationMapGrabber(Overwriting(), ["linear", "relu", "same", "flat"]), torch.tensor([[-1.0], [2.0]])
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            output, maps = grabber(x)
        assert {name: map.flatten().tolist() for name, map in maps.items()} == {
            "linear": [-2.0, 7.0],
            "relu": [0.0, 7.0],
            "same": [0.0, 7.0],
            "flat": [0.0, 7.0],
        }
        assert output.flatten().tolist() == [0.0, 210.0]  # as without the grabber


def test_without_a_grabber_the_network_computes_what_it_did():
    net, x = small_net(), torch.linspace(-1, 1, 50).reshape(2, 1, 5, 5)
    plain = net(x)
    grabber = ActivationMapGrabber(net, ["0", "1", "3"])
    assert torch.equal(grabber(x)[0], plain)
    assert torch.equal(net(x), plain)


def test_gradients_reach_earlier_layers_and_come_from_later_ones():
    # 30 relu(z), z = 3 x + 1, at x = 2: z = 7, dz/dx = 3, d(output)/dz = d(output)/d(relu) = 30
    grabber = ActivationMapGrabber(Overwriting(), ["linear", "relu", "same", "flat"])
    x = torch.tensor([[2.0]], requires_grad=True)
    output, maps = grabber(x)
    for name in maps:
        (to_input,) = torch.autograd.grad(maps[name].sum() ** 2, x, retain_graph=True)
        assert to_input.item() == 2 * 7 * 3
    for name in ("linear", "relu"):
        (to_map,) = torch.autograd.grad(output.sum(), maps[name], retain_graph=True)
        assert to_map.item() == 30
    maps["linear"].sum().backward()
    assert grabber.wrapped_model.linear.weight.grad.item() == 2
    assert grabber.wrapped_model.linear.bias.grad.item() == 1


def test_a_grabbed_map_may_be_overwritten_by_its_owner():
    net, x = small_net(), PICTURE
    plain = torch.autograd.grad(net(x).sum(), net[0].weight)[0]
    assert plain.abs().sum() > 0
    output, maps = ActivationMapGrabber(net, ["0", "1"])(x)
    maps["0"].mul_(0)
    maps["1"].mul_(0)
    assert torch.equal(torch.autograd.grad(output.sum(), net[0].weight)[0], plain)


def test_of_a_module_called_twice_the_first_output_counts():
    net = Branching()
    x = torch.ones(1, 2)
    assert torch.equal(ActivationMapGrabber(net, ["twice"])(x)[1]["twice"], net.twice(x))


def test_keywords_reach_the_network():
    net = Branching()
    _, maps = ActivationMapGrabber(net, ["rare"])(torch.tensor([[-1.0, 2.0]]), scale=2.0, rare=True)
    assert maps["rare"].tolist() == [[0.0, 2.0]]


def test_a_layer_that_is_not_called_is_named():
    grabber = ActivationMapGrabber(Branching(), ["rare", "twice", "unused"])
    x = torch.ones(1, 2)
    with pytest.raises(KeyError, match=r"No output of registered sub-modules \['unused'\]"):
        grabber(x, rare=True)
    grabber.unregister_submodule("unused")
    assert list(grabber(x, rare=True)[1]) == ["rare", "twice"]
    with pytest.raises(KeyError, match=r"\['rare'\]: this forward pass did not call them"):
        grabber(x)  # not the output of the pass before


def test_structures_are_kept_with_their_tensors():
    output, maps = ActivationMapGrabber(Branching(), ["pair"])(torch.ones(1, 2))
    output["both"][0].data.zero_()
    first, second = maps["pair"]["both"]
    assert maps["pair"]["name"] == "pair" and torch.equal(first + 1, second)
    assert torch.autograd.grad(output["both"][1].sum(), second)[0].tolist() == [[1.0, 1.0]]


def test_every_pass_has_a_dictionary_of_its_own_and_nothing_is_kept():
    grabber = ActivationMapGrabber(small_net(), ["0"])
    _, first = grabber(PICTURE)
    _, second = grabber(torch.zeros(1, 1, 5, 5))
    assert first is not second and not torch.equal(first["0"], second["0"])
    kept = weakref.ref(first["0"])
    del first
    gc.collect()
    assert kept() is None


def test_a_pass_that_fails_keeps_nothing_and_the_next_is_right():
    grabber = ActivationMapGrabber(small_net(), ["0"])
    with pytest.raises(RuntimeError):
        grabber(torch.ones(1, 1, 9, 9))  # too large for the last layer
    grabber.wrapped_model(torch.ones(1, 1, 9, 9)[..., :5, :5])
    assert grabber._passes.open == []
    assert grabber(torch.zeros(1, 1, 5, 5))[1]["0"].shape == (1, 2, 3, 3)


def test_modes_follow_the_wrapper():
    grabber = ActivationMapGrabber(nn.Sequential(nn.Dropout(0.5)), ["0"])
    assert grabber.eval().wrapped_model[0].training is False
    assert grabber.train().wrapped_model[0].training is True
    stump = grabber.stump("0")
    assert not stump.training and not grabber.wrapped_model.training


def test_the_state_is_that_of_the_network():
    grabber = ActivationMapGrabber(small_net(), ["0"])
    assert list(grabber.state_dict()) == [f"wrapped_model.{key}" for key in small_net().state_dict()]
    half = grabber.to(torch.float64)
    assert half(torch.ones(1, 1, 5, 5, dtype=torch.float64))[1]["0"].dtype == torch.float64


def test_functional_calls_and_vmap_work():
    net = small_net()
    grabber, x = ActivationMapGrabber(net, ["0"]), torch.ones(3, 1, 5, 5)
    weights = {key: value * 2 for key, value in grabber.state_dict().items()}
    _, maps = torch.func.functional_call(grabber, weights, (x,))
    expected = F.conv2d(x, net[0].weight * 2, net[0].bias * 2)
    assert torch.allclose(maps["0"], expected)
    _, mapped = torch.func.vmap(lambda one: grabber(one[None]))(x)
    assert torch.allclose(mapped["0"][:, 0], net[0](x), atol=1e-6)
