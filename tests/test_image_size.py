"""Pictures of another size than a model was trained on: the same part of each, by the model's own preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import functional as F
from torchvision.transforms.v2 import functional as F2

from deepjuice.model_zoo import check_takes, get_deepjuice_model, with_image_size
from juicyfruits.errors import InputError


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (300, 420, 3), dtype=np.uint8))


@pytest.mark.parametrize(("size", "resized"), [(112, 128), (224, 256), (320, 366)])
def test_of_a_torchvision_model_the_same_part_is_seen(picture, size, resized):
    preprocess = models.AlexNet_Weights.DEFAULT.transforms()
    found = with_image_size(preprocess, size)(picture)
    plain = F.center_crop(F.resize(picture, [resized], antialias=True), [size])
    expected = F.normalize(F.to_tensor(plain), preprocess.mean, preprocess.std)
    torch.testing.assert_close(found, expected)
    assert preprocess.crop_size == [224] and preprocess.resize_size == [256]  # not changed


def test_of_an_offline_model_the_same_part_is_seen(picture):
    _, preprocess = get_deepjuice_model("efficientnet_lite0_random")
    found = with_image_size(preprocess, 96)(picture)
    plain = F2.center_crop(F2.resize(F2.pil_to_tensor(picture), [96], F2.InterpolationMode.BICUBIC), [96])
    torch.testing.assert_close(found, (plain.float() - 127) / 128)
    assert repr(with_image_size(preprocess, 96)) != repr(preprocess)  # by which stores are told apart
    assert repr(with_image_size(preprocess, 224)) == repr(preprocess)


def test_of_a_segmentation_model_the_only_size_is_set(picture):
    preprocess = models.segmentation.DeepLabV3_ResNet50_Weights.DEFAULT.transforms()
    assert with_image_size(preprocess, 100)(picture).shape == (3, 100, 140)


def test_what_has_no_size_and_sizes_that_are_none_are_refused():
    boxes = models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT.transforms()
    with pytest.raises(InputError, match=r"ObjectDetection\) brings pictures to no size of its own"):
        with_image_size(boxes, 224)
    with pytest.raises(InputError, match="image size 0: expected at least 1"):
        with_image_size(models.AlexNet_Weights.DEFAULT.transforms(), 0)


def test_a_size_that_a_network_does_not_take_is_refused():
    check_takes(torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3), torch.nn.AdaptiveAvgPool2d(1)), 17)
    with pytest.raises(InputError, match=r"image size 160: VisionTransformer does not take .* Expected 224"):
        check_takes(get_deepjuice_model("torchvision_vit_b_32_random")[0], 160)
    with pytest.raises(InputError, match="image size 8: AlexNet does not take"):
        check_takes(get_deepjuice_model("torchvision_alexnet_random")[0], 8)
