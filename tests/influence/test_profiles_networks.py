"""Profiles of torchvision's networks with random weights: their layers, what these read, and what always holds."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import densenet

from deepjuice.influence import SpatialProfiler, TorchProfiler
from juicyfruits.errors import InputError

SLIM = {"num_classes": 10}
NETWORKS = {
    # name -> (options, size of pictures, {layer's first operation: first operations of what it reads})
    "alexnet": (
        SLIM,
        64,
        {
            "features.0": ["x_in"],
            "features.2": ["features.0"],
            "avgpool": ["features.12"],
            "classifier.1": ["avgpool"],
            "classifier.6": ["classifier.4"],
        },
    ),
    "densenet121": (
        {**SLIM, "growth_rate": 8, "block_config": (2, 3), "num_init_features": 16},
        32,
        {
            "features.denseblock1.denselayer1.norm1": ["features.pool0"],
            "features.denseblock1.denselayer2.cat": ["features.pool0", "features.denseblock1.denselayer1.conv2"],
            "features.transition1.pool": ["features.transition1.conv"],
            "features.denseblock2.denselayer3.cat": [
                "features.transition1.pool",
                "features.denseblock2.denselayer1.conv2",
                "features.denseblock2.denselayer2.conv2",
            ],
            "adaptive_avg_pool2d": ["features.denseblock2.cat"],
        },
    ),
    "inception_v3": (
        {**SLIM, "init_weights": False},
        75,
        {
            "Conv2d_1a_3x3.conv": ["x_in"],
            "Mixed_5b.avg_pool2d": ["maxpool2"],
            "Mixed_5b.cat": [
                "Mixed_5b.branch1x1.conv",
                "Mixed_5b.branch5x5_2.conv",
                "Mixed_5b.branch3x3dbl_3.conv",
                "Mixed_5b.branch_pool.conv",
            ],
            "Mixed_5c.branch1x1.conv": ["Mixed_5b.cat"],
            "fc": ["avgpool"],
        },
    ),
    "googlenet": (
        {**SLIM, "init_weights": False},
        32,
        {
            "inception3a.cat": [
                "inception3a.branch1.conv",
                "inception3a.branch2.1.conv",
                "inception3a.branch3.1.conv",
                "inception3a.branch4.1.conv",
            ],
            "inception3a.branch4.0": ["maxpool2"],
            "maxpool3": ["inception3b.cat"],
            "fc": ["avgpool"],
        },
    ),
    "convnext_tiny": (
        SLIM,
        32,
        {
            "features.1.0.block.0": ["features.0.0"],
            "features.1.0.block.3": ["features.1.0.block.0"],
            "features.1.0.block.5": ["features.1.0.block.3"],
            "features.1.0.add": ["features.0.0", "features.1.0.block.5"],
            "features.2.1": ["features.1.2.add"],
            "classifier.2": ["avgpool"],
        },
    ),
    "mobilenet_v2": (
        SLIM,
        32,
        {
            "features.1.conv.0.0": ["features.0.0"],
            "features.3.add": ["features.2.conv.2", "features.3.conv.2"],
            "features.4.conv.0.0": ["features.3.add"],
            "classifier.1": ["adaptive_avg_pool2d"],
        },
    ),
    "shufflenet_v2_x0_5": (
        SLIM,
        32,
        {
            "stage2.0.cat": ["stage2.0.branch1.2", "stage2.0.branch2.5"],
            "stage2.1.branch2.0": ["stage2.0.cat"],
            "stage2.1.cat": ["stage2.0.cat", "stage2.1.branch2.5"],
            "fc": ["mean"],
        },
    ),
    "efficientnet_b0": (
        SLIM,
        32,
        {
            "features.1.0.block.1.avgpool": ["features.1.0.block.0.0"],
            "features.1.0.block.1.mul": ["features.1.0.block.0.0"],
            "features.1.0.block.2.0": ["features.1.0.block.1.mul"],
            "features.2.1.add": ["features.2.0.block.3.0", "features.2.1.block.3.0"],
        },
    ),
    "squeezenet1_1": (
        SLIM,
        32,
        {
            "features.3.expand1x1": ["features.3.squeeze"],
            "features.3.cat": ["features.3.expand1x1", "features.3.expand3x3"],
            "classifier.3": ["classifier.1"],
        },
    ),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request, seeded, picture):
    options, size, reads = NETWORKS[request.param]
    make = densenet.DenseNet if "block_config" in options else getattr(torchvision.models, request.param)
    model = seeded(lambda: make(**options) if make is densenet.DenseNet else make(weights=None, **options), 0)
    return model, picture(size), reads


def test_layers_read_what_forward_says(network):
    model, x, reads = network
    layers = TorchProfiler(model, example=x).layers
    heads = {layer.names[0]: layer for layer in layers}
    for name, before in reads.items():
        assert [layers[i].names[0] for i in heads[name].predecessors] == before, name
    assert [layer.index for layer in layers] == list(range(len(layers)))
    assert all(i < layer.index for layer in layers for i in layer.predecessors)
    read = {i for layer in layers for i in layer.predecessors}
    unread = [layers[i].names[0] for i in range(len(layers) - 1) if i not in read]
    assert all(name.endswith(".fc2") for name in unread)  # of which gates are made


def test_each_call_of_a_weighted_module_is_a_layer(network):
    """As hooks count them, in their order."""
    model, x, _ = network
    called, handles = [], []
    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
            handles.append(module.register_forward_hook(lambda *_, path=path: called.append(path)))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    heads = [layer.head for layer in TorchProfiler(model, example=x).layers]
    assert called and [head.path for head in heads if head.path in called] == called


def test_what_always_holds_does(network, check_invariants):
    model, x, _ = network
    profiler = TorchProfiler(model, example=x)
    for channels in (True, False):
        profile = profiler.create_profile(x, threshold=0.2, channels=channels)
        assert len(profile.neuron_weights) == len(profiler.layers) - 1
        assert profile.neuron_weights[1].nnz and profile.num_synapses > len(profiler.layers)
        check_invariants(profile)
        view = profile.dict_view()
        assert (view.total, view.num_synapses) == (profile.total, profile.num_synapses)


def test_places_hold_too_where_there_are_places(network, check_invariants):
    model, x, _ = network
    profiler = SpatialProfiler(model, example=x)
    placed = [layer.index for layer in profiler.layers[1:] if layer.rule != "contrib_mean"]
    profile = profiler.create_profile(x, 0.8, 0.2, placed)
    assert sorted(profile.neuron_weights) == placed
    check_invariants(profile)


@pytest.mark.parametrize(
    "make, match",
    [
        (
            lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=4),
            "operation 'multi_head_attention_forward' at 'encoder.layers.encoder_layer_0.self_attention",
        ),
        (
            lambda: torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=4),
            "operation 'linear' at 'features.1.0.attn.linear' sees 4 pictures",
        ),
    ],
    ids=["vit", "swin"],
)
def test_attention_is_refused_by_the_name_of_the_operation(make, match, seeded, picture):
    with pytest.raises(InputError, match=match):
        TorchProfiler(seeded(make, 0), example=picture(32))


def test_a_network_tells_the_size_of_its_pictures_or_is_given_an_example(seeded):
    """The first of 224, 299, 32, 28, 64 and 96 pixels that the network takes."""
    flat = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 4)).eval()
    assert TorchProfiler(flat).layers[0].shape == (1, 1, 28, 28)
    assert TorchProfiler(nn.Sequential(nn.Conv2d(1, 2, 3)).eval()).layers[0].shape == (1, 1, 224, 224)
    assert TorchProfiler(nn.Sequential(nn.Linear(7, 2)).eval()).layers[0].shape == (1, 7)
    odd = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 15 * 15, 4)).eval()
    with pytest.raises(InputError, match="Give example="):
        TorchProfiler(odd)
    assert TorchProfiler(odd, example=torch.zeros(5, 3, 17, 17)).layers[0].shape == (1, 3, 17, 17)
    with pytest.raises(InputError, match="Give example="):
        TorchProfiler(nn.Sequential(nn.ReLU()).eval())
