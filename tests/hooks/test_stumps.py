"""Networks cut at a layer."""

import copy
import pickle

import pytest
import torch
from torch import nn

from deepjuice.hooks import ActivationMapGrabber, ExtendedModelStump, ModelStump
from juicyfruits.errors import InputError


class Doubled(nn.Module):
    def forward(self, x, *, times=2):
        return {"doubled": times * x, "same": x}


def net():
    return nn.Sequential(nn.Dropout(0.5), Doubled(), nn.Identity())


def total(output):
    return output["doubled"].sum()


def test_a_stump_returns_the_output_of_its_head_and_begins_in_eval_mode():
    model = net()
    stump = ModelStump(model, "1")
    assert stump(torch.tensor([1.0]))["doubled"].item() == 2
    assert not stump.training and not model.training and not model[0].training
    stump.train()
    assert model[0].training


def test_gradients_flow_through_a_stump():
    stump, x = ModelStump(net(), "1"), torch.tensor([3.0], requires_grad=True)
    stump(x)["doubled"].square().backward()
    assert x.grad.item() == 2 * 6 * 2


def test_the_head_follows_registration():
    stump = ModelStump(net(), "0")
    stump.register_submodule("1")
    assert stump.stump_head == "0" and stump.registered_submodules == ["0", "1"]
    stump.unregister_submodule("0")
    assert stump.stump_head is None
    with pytest.raises(InputError, match="without a stump head"):
        stump(torch.ones(1))
    stump.register_submodule("2")
    assert stump.stump_head == "2" and stump.registered_submodules == ["1", "2"]
    stump.stump_head = ""
    assert stump.registered_submodules == ["1", "2", ""] and stump(torch.ones(1))["same"].item() == 1
    with pytest.raises(KeyError, match="Tried to register a hook to non-existing sub-module 7"):
        stump.stump_head = "7"
    assert stump.stump_head == ""


def test_only_the_head_must_be_called():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    model.forward = lambda x: model[1](x)
    stump = ModelStump(model, "1")
    stump.register_submodule("0")
    assert stump(torch.ones(1)).item() == 1
    stump.stump_head = "0"
    with pytest.raises(KeyError, match=r"\['0'\]"):
        stump(torch.ones(1))


def test_a_grabber_gives_stumps_of_its_layers():
    grabber = ActivationMapGrabber(net(), ["1"])
    stump = grabber.stump("1")
    assert isinstance(stump, ModelStump) and stump.wrapped_model is grabber.wrapped_model
    assert stump(torch.tensor([1.0]))["doubled"].item() == 2
    del stump
    assert grabber.registered_submodules == ["1"] and len(grabber.wrapped_model[1]._forward_hooks) == 1


def test_a_modification_is_applied():
    stump = ExtendedModelStump(net(), "1", total)
    assert stump(torch.ones(3)).item() == 6
    with_parameters = ExtendedModelStump(nn.Sequential(nn.Identity()), "0", nn.Linear(1, 1))
    assert "modification.weight" in with_parameters.state_dict() and not with_parameters.modification.training


def test_what_cannot_be_called_is_no_modification():
    model = net()
    with pytest.raises(ValueError) as raised:
        ExtendedModelStump(model, "1", "doubled")
    assert raised.value.args == ("modification function for model intermediate out must be callable!",)
    assert not model[1]._forward_hooks and model.training


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stump: pickle.loads(pickle.dumps(stump))])
def test_a_copy_keeps_its_head_mode_and_modification(copied):
    stump = copied(ExtendedModelStump(net(), "1", total).train())
    assert stump.stump_head == "1" and stump.training
    assert stump.eval()(torch.ones(3)).item() == 6


def test_keywords_reach_the_network():
    assert ModelStump(Doubled(), "")(torch.ones(1), times=5)["doubled"].item() == 5
