"""Small networks with weights that a seed gives, and deep-data-profiler 2.0.1 to compare with."""

import warnings
from math import prod

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import vgg
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


@pytest.fixture(scope="session")
def upstream():
    """deep_data_profiler; its import sets torch's seed and silences all warnings, which is undone."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        import deep_data_profiler
    return deep_data_profiler


def _seeded(build, seed):
    """Build a network in eval mode whose norms are not what they begin as: some scales are negative."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 0.8, 0.6)
                nn.init.normal_(module.bias, 0, 0.3)
                nn.init.normal_(module.running_mean, 0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="session")
def seeded():
    """Return a function that builds a network with weights of a seed."""
    return _seeded


@pytest.fixture(scope="session")
def small_vgg():
    """Return a function that makes torchvision's VGG with few layers for 32 x 32 pictures, without in-place ReLUs."""

    def make(norms=False, width=32, seed=3):
        def build():
            cfg = [width, width, "M", width + 4, "M", width + 8]
            model = vgg.VGG(vgg.make_layers(cfg, batch_norm=norms), num_classes=10)
            for module in model.modules():
                if isinstance(module, nn.Conv2d):  # VGG's own first biases are 0
                    nn.init.normal_(module.bias, 0, 0.1)
            model.avgpool = nn.AdaptiveAvgPool2d((2, 2))
            n = 4 * (width + 8)
            model.classifier = nn.Sequential(nn.Linear(n, 40), nn.ReLU(), nn.Dropout(), nn.Linear(40, 10))
            for module in model.modules():
                if isinstance(module, nn.ReLU):
                    module.inplace = False
            return model

        return _seeded(build, seed)

    return make


@pytest.fixture(scope="session")
def small_resnet():
    """Return a function that makes a ResNet of torchvision: ResNet18, or four bottlenecks."""

    def make(bottlenecks=False, n_blocks=2, seed=3):
        block = Bottleneck if bottlenecks else BasicBlock
        return _seeded(lambda: ResNet(block, [1 if bottlenecks else n_blocks] * 4, num_classes=10), seed)

    return make


@pytest.fixture(scope="session")
def picture():
    """Return a function that draws a batch of pictures (n, 3, size, size) from a seed."""

    def make(size=32, n=1, seed=1, channels=3):
        return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture(scope="session")
def check_invariants():
    """Return a function that holds a profile of one picture against what is true of each.

    Weights are positive and sum to 1; a neuron's count is 1 where it influences, and 1 for each of its synapses to a
    later layer.
    """
    return _check_invariants


def _check_invariants(profile):
    assert profile.num_inputs == 1 and profile.neuron_weights
    arrived = {}
    for layer, counts in profile.synapse_counts.items():
        weights, start = profile.synapse_weights[layer], 0
        columns = np.asarray(counts.sum(axis=0)).ravel()
        for before in profile.pred_dict[layer]:
            size = prod(_neuron_shape(profile, before))
            arrived[before] = arrived.get(before, 0) + columns[start : start + size]
            start += size
        assert start == counts.shape[1]
        assert counts.shape[0] == len(profile.pred_dict[layer]) * prod(_neuron_shape(profile, layer))
        assert (counts.tocsr() != (weights != 0)).nnz == 0 and set(counts.data) <= {1}, layer
        if profile.neuron_type == "channel":
            rows = np.asarray(weights.sum(axis=1)).ravel()
            np.testing.assert_allclose(rows[rows != 0], 1, atol=1e-5, err_msg=str(layer))
    for layer, counts in profile.neuron_counts.items():
        assert counts.shape == _neuron_shape(profile, layer), layer
        weights = profile.neuron_weights.get(layer)
        if weights is not None and weights.nnz:
            assert abs(weights.data.sum() - 1) < 1e-5 and weights.data.min() > 0, layer
        influential = 0 if weights is None else weights.toarray().ravel() > 0
        np.testing.assert_array_equal(counts.toarray().ravel(), arrived.get(layer, 0) + influential, str(layer))
    assert set(arrived) <= set(profile.neuron_counts) <= set(arrived) | set(profile.neuron_weights)


def _neuron_shape(profile, layer):
    _, channels, *positions = profile.activation_shapes[layer]
    if not positions or profile.neuron_type == "channel":
        return (1, channels)
    return (1, prod(positions)) if profile.neuron_type == "spatial" else (channels, prod(positions))
