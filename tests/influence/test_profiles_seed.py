"""Every code cell of the tutorial (seed 001) in its order, and what its text says of what comes out.

Weights are random and the picture is drawn. What the cells do with OpenCV, which is no dependency, a user does with
Pillow: read a file, make it RGB, resize it to 224 x 224.
"""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import vgg
from torchvision.transforms.functional import to_tensor

import deepjuice.influence as ddp


def torch_image(img):
    """normalize the values and resize for processing"""
    norm = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    normalize = transforms.Compose([transforms.Normalize(mean=norm[0], std=norm[1])])
    img = img.convert("RGB").resize((224, 224))
    return torch.unsqueeze(normalize(to_tensor(img)), 0)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Run the cells up to the profiles and their views; later ones only read them."""
    path = tmp_path_factory.mktemp("images") / "ILSVRC2012_val_00046632.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((400, 300)).save(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = vgg.vgg16(weights=None).eval()
    timage = torch_image(Image.open(path))
    profiler = ddp.TorchProfiler(model)
    layerdict = profiler.create_layers()
    channel_profile = profiler.create_profile(timage, layerdict, threshold=0.1, channels=True)
    element_profile = profiler.create_profile(timage, layerdict, threshold=0.1, channels=False)
    return {
        "timage": timage,
        "model": model,
        "profiler": profiler,
        "layerdict": layerdict,
        "channel_profile": channel_profile,
        "element_profile": element_profile,
        "channel_profile_dict": profiler.dict_view(channel_profile),
        "element_profile_dict": profiler.dict_view(element_profile),
    }


def test_available_modules_are_names_and_modules(cells):
    modules = cells["profiler"].model.available_modules()
    assert isinstance(modules, OrderedDict) and len(modules) == 39
    assert next(iter(modules)) == "features.0" and modules["classifier.6"] is cells["model"].classifier[6]
    assert not any(list(module.children()) for module in modules.values())
    assert cells["timage"].shape == (1, 3, 224, 224) and cells["timage"].dtype == torch.float32


def test_layers_are_weighted_or_pooling_modules_with_their_activations(cells):
    layerdict = cells["layerdict"]
    assert list(layerdict) == list(range(23)) and layerdict[0] == [["x_in"], "contrib_identity"]
    kinds = {nn.Conv2d: "contrib_conv2d", nn.Linear: "contrib_linear", nn.MaxPool2d: "contrib_max2d"}
    kinds[nn.AdaptiveAvgPool2d] = "contrib_adaptive_avg_pool2d"
    modules = cells["profiler"].model.available_modules()
    expected = [(name, kinds[type(module)]) for name, module in modules.items() if type(module) in kinds]
    assert [(names[0], rule) for names, rule in list(layerdict.values())[1:]] == expected
    assert all(rule.startswith("contrib_") for _, rule in layerdict.values())
    assert layerdict[1][0] == ["features.0", "features.1"] and layerdict[22][0] == ["classifier.6"]


def test_parts_of_the_layers_are_a_list_or_a_range(cells):
    profiler, layerdict, timage = (cells[name] for name in ("profiler", "layerdict", "timage"))
    listed = profiler.create_profile(timage, layerdict, layers_to_profile=[20, 21], threshold=0.1)
    ranged = profiler.create_profile(timage, layerdict, layers_to_profile=(20, 22), threshold=0.1)
    assert listed == ranged and sorted(listed.neuron_weights) == [20, 21]
    assert (listed.neuron_weights[21] != cells["channel_profile"].neuron_weights[21]).nnz == 0


def test_a_profile_has_counts_and_weights_of_one_picture(cells):
    for name, kind in (("channel_profile", "channel"), ("element_profile", "element")):
        profile = cells[name]
        assert profile.num_inputs == 1 and profile.neuron_type == kind
        assert list(profile.neuron_weights) == list(profile.synapse_counts) == list(profile.synapse_weights)
        assert sorted(profile.neuron_counts) == list(range(23)) and sorted(profile.neuron_weights) == list(range(1, 23))
        assert profile.total == sum(counts.sum() for counts in profile.neuron_counts.values()) > profile.size > 22
        view = cells[f"{name}_dict"]
        assert view.neuron_type == f"{kind} (dict)" and isinstance(view.neuron_counts[4], dict)
        assert view.total == profile.total and view.size == profile.size


def test_neuron_counts_of_layer_4(cells):
    channel, element = cells["channel_profile"].neuron_counts[4], cells["element_profile"].neuron_counts[4]
    assert channel.shape == (1, 128) and set(channel.row) == {0} and element.shape == (128, 112 * 112)
    assert str(channel) and str(element)
    shared_channels = {elem for elem in channel.col} & {elem for elem in element.row}
    shared_ratio = len(shared_channels) / len(cells["element_profile_dict"].neuron_counts[4])
    assert 0 < shared_ratio <= 1
    influential = set(cells["channel_profile"].neuron_weights[4].col)
    assert influential <= shared_channels
    assert set(cells["element_profile_dict"].neuron_counts[4].values()) == set(element.data)


def test_neuron_weights_of_layer_4(cells):
    """Each influential channel has the weight of the element at which it is largest."""
    channel, element = cells["channel_profile"].neuron_weights[4], cells["element_profile"].neuron_weights[4]
    assert np.sum(channel.data) == pytest.approx(1) and np.sum(element.data) == pytest.approx(1)
    by_channel = dict(zip(channel.col, channel.data, strict=True))
    assert dict(zip(element.row, element.data, strict=True)) == by_channel and len(by_channel) > 1
    with torch.no_grad():
        activation = cells["model"].features[:7](cells["timage"])[0].flatten(1)  # after two blocks' first convolution
    for c, i in zip(element.row, element.col, strict=True):
        assert activation[c, i] == activation[c].max()
    tops = activation.amax(1)
    assert set(by_channel) == set(tops.argsort(descending=True)[: len(by_channel)].tolist())
    assert tops[list(by_channel)].sum() > 0.1 * tops.sum()


def test_synapse_counts_of_layer_4(cells):
    channel, element = cells["channel_profile"].synapse_counts[4], cells["element_profile"].synapse_counts[4]
    assert channel.shape == (128, 64) and element.shape == (128 * 112 * 112, 64 * 112 * 112)
    assert set(channel.data) == set(element.data) == {1}
    assert set(channel.row) == set(cells["channel_profile"].neuron_weights[4].col)
    view = cells["channel_profile_dict"].synapse_counts[4]
    pairs = {((3, (int(j),)), (4, (int(i),))): 1 for i, j in zip(channel.row, channel.col, strict=True)}
    assert view == pairs
    for before, neuron in cells["element_profile_dict"].synapse_counts[4]:
        assert before[0] == 3 and neuron[0] == 4 and len(before[1]) == len(neuron[1]) == 3
        assert abs(before[1][1] - neuron[1][1]) <= 1 and abs(before[1][2] - neuron[1][2]) <= 1  # the kernel's reach


def test_synapse_weights_of_layer_4(cells):
    for name in ("channel_profile", "element_profile"):
        sums: dict[tuple, float] = {}
        view = cells[f"{name}_dict"]
        for (_, neuron), weight in view.synapse_weights[4].items():
            sums[neuron] = sums.get(neuron, 0) + weight
        assert list(sums.values()) == pytest.approx([1] * len(sums)) and set(sums) == set(view.neuron_weights[4])
        assert view.synapse_weights[4].keys() == view.synapse_counts[4].keys()


def test_counts_are_influence_and_contributions(cells, check_invariants):
    check_invariants(cells["channel_profile"])
    check_invariants(cells["element_profile"])


def test_profiles_are_added_also_in_place(cells):
    one, n = cells["channel_profile"], cells["channel_profile"].total
    both = one + one
    assert both.num_inputs == 2 and both.total == 2 * n and one.num_inputs == 1
    both += one
    assert both.num_inputs == 3 and both.total == 3 * n and set(both.synapse_counts[4].data) == {3}
