"""Sizes of what layers return, found by one run on zeros."""

import pytest
import torch
from torch import nn

from deepjuice.hooks import dummy_output, output_size, output_sizes
from juicyfruits.errors import InputError


class Counting(nn.Module):
    """Returns no tensor."""

    def forward(self, x):
        return {"n": len(x), "x": x}


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 6))


SIZES = {"": (6,), "0": (8, 3, 3), "1": (8, 3, 3), "2": (8, 3, 3), "3": (72,), "4": (6,)}


def test_sizes_of_all_layers_by_hand():
    assert {name: tuple(size) for name, size in output_sizes(net(), [3, 5, 5]).items()} == SIZES
    assert list(output_sizes(net(), (2, 3, 5, 5), ["3", "0"], has_batch_dim=True).values()) == [(72,), (8, 3, 3)]
    assert output_size(net(), [3, 5, 5]) == (6,)
    assert output_size(net(), [7, 3, 5, 5], has_batch_dim=True, layer_id="0") == torch.Size([8, 3, 3])


def test_outputs_are_those_for_zeros_in_eval_mode_and_the_network_stays_as_it_was():
    model = net().to(torch.float64)
    model[2].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    outputs = dummy_output(model, [2, 3, 5, 5], ["0", ""])
    assert list(outputs) == ["0", ""] and outputs["0"].dtype == torch.float64 and not outputs["0"].requires_grad
    assert torch.equal(outputs["0"], model[0].bias.detach()[None, :, None, None].expand(2, 8, 3, 3))
    assert [module.training for module in model.modules()] == [True, True, True, False, True, True]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_layers_that_are_not_called_are_left_out_unless_they_are_named():
    model = nn.Sequential(nn.ReLU(), nn.ModuleList([nn.ReLU()]))
    model.forward = lambda x: model[0](x)
    assert list(dummy_output(model, [1, 2])) == ["", "0"]
    with pytest.raises(KeyError, match=r"\['1', '1.0'\]"):
        dummy_output(model, [1, 2], ["1", "0", "1.0"])
    assert dummy_output(model, [1, 2], []) == {}


def test_what_has_no_size_is_left_out_or_refused():
    model = nn.Sequential(nn.ReLU(), Counting())
    assert dummy_output(model, [4, 2])["1"]["n"] == 4
    assert output_sizes(model, [2]) == {"0": (2,)}
    with pytest.raises(InputError, match="layer '1' is no tensor but dict"):
        output_sizes(model, [2], ["0", "1"], ignore_non_tensor_outs=False)
    with pytest.raises(InputError, match="layer '' is no tensor but dict"):
        output_size(model, [2])


def test_sizes_without_a_batch_are_refused():
    with pytest.raises(InputError, match="input_size is empty"):
        output_sizes(net(), [])
    with pytest.raises(InputError, match=r"layer '' has shape \(4,\)"):
        output_size(nn.Flatten(0), [4])
