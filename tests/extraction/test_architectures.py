"""Every map of twelve kinds of network is, to the bit, what a plain forward hook sees."""

import pytest
import torch
from torchvision import models

from deepjuice.extraction import get_feature_maps, inspect_maps
from tests.extraction.plain_hooks import by_call

# name: side of the smallest pictures it takes, options that make it quick to build
ARCHITECTURES = {
    "alexnet": (63, {}),
    "vgg11": (32, {"init_weights": False}),
    "resnet18": (32, {}),
    "densenet121": (32, {}),
    "inception_v3": (75, {"init_weights": False, "aux_logits": True}),
    "googlenet": (32, {"init_weights": False, "aux_logits": True}),
    "mobilenet_v3_small": (32, {}),
    "efficientnet_b0": (32, {}),
    "convnext_tiny": (32, {}),
    "vit_b_32": (32, {"image_size": 32}),
    "swin_t": (32, {}),
    "regnet_y_400mf": (32, {}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_maps_equal_plain_hooks_call_by_call(name):
    side, options = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, **options).eval()
    batches = list(torch.randn(3, 3, side, side).split(2))
    expected = by_call(model, batches)
    records = inspect_maps(model, torch.cat(batches)).records
    maps = get_feature_maps(model, batches, "cpu", remove_duplicates=False, progress=False)
    assert list(maps) == [record.uid for record in records]
    assert {(record.path, record.call) for record in records} == set(expected)
    for record in records:
        assert torch.equal(maps[record.uid], expected[record.path, record.call]), record.uid
