"""Networks with further modules on their layers."""

import weakref

import pytest
import torch
from torch import nn

from deepjuice.hooks import ActivationMapGrabber, ModelExtender
from juicyfruits.errors import InputError
from tests.hooks.copying import COPIES


class Affine(nn.Module):
    """a x + b, with numbers as its parameters."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(float(a))), nn.Parameter(torch.tensor(float(b)))

    def forward(self, x):
        return self.a * x + self.b


def chain():
    """3 (x + 2)."""
    return nn.Sequential(Affine(1, 2), Affine(3, 0))


def extended_chain(**settings):
    """On x + 2: its twice, and 1 - itself; on the output: itself + 5."""
    extensions = {"0": {"twice": Affine(2, 0), "minus": Affine(-1, 1)}, "1": {"plus": Affine(1, 5)}}
    return ModelExtender(chain(), extensions, **settings)


def n_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_outputs_are_those_of_the_extensions_in_the_order_of_registration():
    extended = extended_chain()
    output, extra = extended(torch.tensor([1.0]))
    assert output.item() == 9
    assert {name: value.item() for name, value in extra.items()} == {"twice": 6, "minus": -2, "plus": 14}
    assert list(extra) == extended.extension_names == ["twice", "minus", "plus"]
    assert isinstance(extended, ActivationMapGrabber)


def test_the_original_output_may_be_left_out():
    extra = extended_chain(return_orig_out=False)(torch.tensor([1.0]))
    assert isinstance(extra, dict) and extra["plus"].item() == 14


def test_gradients_reach_the_extension_the_layers_before_it_and_the_input():
    # plus = 3 (a x + b) + c with a = 1, b = 2, x = 4, after which minus = 1 - (a x + b)
    extended = extended_chain()
    x = torch.tensor([4.0], requires_grad=True)
    _, extra = extended(x)
    extra["plus"].backward(retain_graph=True)
    first, last = extended.wrapped_model
    assert (x.grad.item(), first.a.grad.item(), first.b.grad.item(), last.a.grad.item()) == (3, 12, 3, 6)
    plus = extended.extension_models["plus"]
    assert (plus.a.grad.item(), plus.b.grad.item()) == (18, 1)
    assert extended.extension_models["minus"].a.grad is None
    extra["minus"].backward()
    assert (x.grad.item(), first.a.grad.item(), last.a.grad.item()) == (3 - 1, 12 - 4, 6)


def test_registrations_are_told():
    extended = extended_chain()
    assert extended.name_registrations == {"0": ["twice", "minus"], "1": ["plus"]}
    models = extended.extension_models
    assert extended.extensions == {
        "0": {"twice": models["twice"], "minus": models["minus"]},
        "1": {"plus": models["plus"]},
    }
    extended.name_registrations["0"].clear()
    assert extended.name_registrations["0"] == ["twice", "minus"]


def test_the_last_extension_of_a_layer_takes_its_hook_along():
    extended = extended_chain()
    assert n_hooks(extended.wrapped_model) == 2
    extended.unregister_extension("twice")
    assert extended.registered_submodules == ["0", "1"]
    extended.unregister_extension("minus")
    assert extended.name_registrations == {"1": ["plus"]} and extended.registered_submodules == ["1"]
    assert n_hooks(extended.wrapped_model) == 1
    output, extra = extended(torch.tensor([1.0]))
    assert output.item() == 9 and list(extra) == ["plus"]
    extended.register_extension("late", "0", Affine(0, 7))
    assert extended.name_registrations == {"1": ["plus"], "0": ["late"]}
    assert list(extended(torch.tensor([1.0]))[1]) == ["plus", "late"]
    for name in ("plus", "late"):
        extended.unregister_extension(name)
    assert extended(torch.tensor([1.0]))[1] == {} and n_hooks(extended.wrapped_model) == 0


@pytest.mark.parametrize(
    ("new", "error", "text"),
    [
        ({"1": {"twice": Affine(1, 1)}}, ValueError, "Tried to overwrite module under existing name: twice"),
        ({"0": {"new": Affine(1, 1)}, "1": {"new": Affine(1, 1)}}, ValueError, "existing name: new"),
        ({"0": {"new": Affine(1, 1)}, "1": {"b": abs}}, ValueError, "Extension item of name b to be registered at"),
        ({"0": {"new": Affine(1, 1)}, "9": {"b": Affine(1, 1)}}, KeyError, "hook to non-existing sub-module 9; "),
        ({None: {"new": Affine(1, 1)}}, ValueError, "Tried to register a module_id which was None"),
        ({"0": {"new": Affine(1, 1), "a.b": Affine(1, 1)}}, InputError, "extension name 'a.b' cannot be used"),
        ({"0": {"new": Affine(1, 1), "keys": Affine(1, 1)}}, InputError, "extension name 'keys' cannot be used"),
        ({"0": {"new": Affine(1, 1), "": Affine(1, 1)}}, InputError, "extension name '' cannot be used"),
        ({"0": {"new": Affine(1, 1), 3: Affine(1, 1)}}, InputError, "extension name 3 cannot be used"),
    ],
)
def test_bad_extensions_are_refused_and_none_is_registered(new, error, text):
    extended = extended_chain()
    with pytest.raises(error, match=text):
        extended.register_extensions(new)
    assert extended.name_registrations == {"0": ["twice", "minus"], "1": ["plus"]}
    assert extended.extension_names == ["twice", "minus", "plus"]


def test_what_is_not_registered_cannot_be_taken_off():
    extended = extended_chain()
    with pytest.raises(KeyError) as raised:
        extended.unregister_extension("other")
    assert raised.value.args == ("Tried to unregister extension of unknown name other",)
    with pytest.raises(InputError, match=r"'0' has extensions \['twice', 'minus'\]"):
        extended.unregister_submodule("0")


def test_a_layer_may_be_listened_to_without_an_extension():
    extended = extended_chain()
    extended.register_submodule("")
    assert list(extended(torch.tensor([1.0]))[1]) == ["twice", "minus", "plus"]
    assert extended.stump("")(torch.tensor([1.0])).item() == 9
    extended.unregister_submodule("")


def test_an_extension_that_overwrites_its_input_changes_no_other_output():
    net = nn.Sequential(Affine(3, 0), nn.ReLU(inplace=True))
    x = torch.tensor([-1.0, 2.0])
    extensions = {"0": {"a": nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)), "b": nn.Identity()}}
    output, extra = ModelExtender(net, extensions)(x)
    assert output.tolist() == extra["a"].tolist() == [0, 6] and extra["b"].tolist() == [-3, 6]


def test_an_extension_on_a_layer_that_is_not_called_is_named():
    extended = extended_chain()
    extended.wrapped_model.forward = extended.wrapped_model[0].forward
    with pytest.raises(KeyError, match=r"No output of registered sub-modules \['0', '1'\]"):
        extended(torch.ones(1))


def test_extensions_get_what_a_layer_returns_even_if_it_is_no_tensor():
    class Largest(nn.Module):
        def forward(self, both):
            return both[0].max()

    extended = ModelExtender(nn.Sequential(nn.LSTM(2, 3)), {"0": {"largest": Largest()}})
    output, extra = extended(torch.ones(4, 1, 2))
    assert extra["largest"].item() == output[0].max().item()


def test_the_state_goes_from_one_to_another():
    extended, other = extended_chain(), extended_chain()
    keys = [f"wrapped_model.{i}.{p}" for i in (0, 1) for p in "ab"]
    keys += [f"extension_models.{name}.{p}" for name in ("twice", "minus", "plus") for p in "ab"]
    assert list(extended.state_dict()) == keys == [name for name, _ in extended.named_parameters()]
    with torch.no_grad():
        for number, parameter in enumerate(extended.parameters()):
            parameter.fill_(number)
    other.load_state_dict(extended.state_dict())
    x = torch.tensor([2.0])
    assert {k: v.item() for k, v in other(x)[1].items()} == {k: v.item() for k, v in extended(x)[1].items()}


def test_modules_move_and_change_mode_together():
    extended = extended_chain().to(torch.float64).eval()
    assert {p.dtype for p in extended.parameters()} == {torch.float64}
    assert not any(module.training for module in extended.modules())
    assert extended(torch.tensor([1.0], dtype=torch.float64))[1]["plus"].dtype == torch.float64


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_has_extensions_of_its_own(copied):
    extended, x = extended_chain(), torch.tensor([1.0])
    twin = copied(extended)
    with torch.no_grad():
        twin.extension_models["plus"].b += 100
        twin.wrapped_model[0].b += 10
    twin.unregister_extension("minus")
    assert {name: value.item() for name, value in twin(x)[1].items()} == {"twice": 26, "plus": 144}
    assert {name: value.item() for name, value in extended(x)[1].items()} == {"twice": 6, "minus": -2, "plus": 14}
    model = weakref.ref(extended.wrapped_model)
    del extended
    assert model() is None
