"""The small layers of the lessons, and their seed."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.hooks import GeneralRelu, Lambda, SequentialModel, set_seed
from juicyfruits.errors import InputError


@pytest.mark.parametrize("leak", [None, 0.0, 0.1])
@pytest.mark.parametrize("sub", [None, 0.4])
@pytest.mark.parametrize("maxv", [None, 6.0])
def test_general_relu_against_numpy(leak, sub, maxv):
    x = torch.linspace(-9, 9, 37, dtype=torch.float64)
    before, values = x.clone(), x.numpy()
    expected = np.where(values > 0, values, (leak or 0) * values) - (sub or 0)
    expected = expected if maxv is None else np.minimum(expected, maxv)
    assert np.allclose(GeneralRelu(leak, sub, maxv)(x).numpy(), expected, atol=1e-12)
    assert torch.equal(x, before)


def test_general_relu_has_the_right_gradient():
    x = torch.tensor([-2.0, -0.5, 0.5, 3.0, 9.0], dtype=torch.float64, requires_grad=True)
    for layer, slopes in ((GeneralRelu(0.1, 0.4, 6.0), [0.1, 0.1, 1, 1, 0]), (GeneralRelu(None, 0.4), [0, 0, 1, 1, 1])):
        (gradient,) = torch.autograd.grad((layer(x * 1) * 1).sum(), x)
        assert gradient.tolist() == slopes


def test_lambda_is_a_layer():
    net = nn.Sequential(Lambda(lambda x: x.view(-1, 1, 2, 2)), nn.Conv2d(1, 3, 2), Lambda(torch.flatten))
    assert net(torch.ones(5, 4)).shape == (15,)
    assert Lambda(torch.add)(1, other=torch.tensor(2)) == 3
    assert repr(Lambda(torch.flatten)) == "Lambda(flatten)"


def test_sequential_model_writes_what_its_layers_give():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)]
    model = SequentialModel(*layers)
    batches = [torch.randn(5, 4) for _ in range(3)]
    for batch in batches:
        assert torch.equal(model(batch), nn.Sequential(*layers)(batch))
    x = [batch for batch in batches]
    for layer, means, stds in zip(layers, model.act_means, model.act_stds, strict=True):
        x = [layer(batch) for batch in x]
        assert np.allclose([float(m) for m in means], [batch.detach().numpy().mean() for batch in x], atol=1e-6)
        assert np.allclose([float(s) for s in stds], [batch.detach().numpy().std(ddof=1) for batch in x], atol=1e-6)
        assert not means[0].requires_grad
    assert len(model) == 3 and list(model) == layers and model[1] is layers[1] and list(model[1:]) == layers[1:]
    model(batches[0]).sum().backward()  # nothing in the way of gradients
    assert layers[0].weight.grad is not None
    half = SequentialModel(nn.Identity())
    half(torch.full((60000,), 3.0, dtype=torch.float16))
    assert half.act_means[0][0].item() == 3.0 and half.act_means[0][0].dtype == torch.float32


def test_one_seed_for_all_generators():
    def draw():
        return torch.rand(3).tolist(), random.random(), np.random.rand(3).tolist()

    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        set_seed(7)
        first = draw()
        assert draw() != first
        set_seed(np.int64(7))
        assert draw() == first
        set_seed(8)
        second = draw()
        assert all(a != b for a, b in zip(first, second, strict=True))
    finally:
        torch.set_rng_state(state[0])
        random.setstate(state[1])
        np.random.set_state(state[2])


@pytest.mark.slow  # torch loads its compiler for this
def test_deterministic_algorithms_are_asked_for_and_given_back():
    assert not torch.are_deterministic_algorithms_enabled()
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        set_seed(1, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        set_seed(1)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_rng_state(state[0])
        random.setstate(state[1])
        np.random.set_state(state[2])


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", None])
def test_a_seed_that_not_all_take_is_refused(seed):
    state = torch.get_rng_state()
    with pytest.raises(InputError, match="expected an integer from 0 to"):
        set_seed(seed)
    assert torch.equal(torch.get_rng_state(), state)
