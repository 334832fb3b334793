"""The error of computing in half precision, map by map, on a trained and on an untrained network."""

import numpy as np
import pytest
import torch
from PIL import Image

from deepjuice.extraction import get_feature_maps
from deepjuice.model_zoo import get_deepjuice_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision", "median", "worst"),
    [  # bounds on |half - full| / |full|, some 1.5 times what was measured on a CPU
        ("efficientnet_lite0_imagenet1k", "bfloat16", 0.06, 0.15),
        ("efficientnet_lite0_imagenet1k", "float16", 0.006, 0.016),
        ("torchvision_alexnet_random", "bfloat16", 0.006, 0.007),
        ("torchvision_alexnet_random", "float16", 0.0007, 0.0009),
    ],
)
def test_the_error_of_half_precision_is_bounded(name, precision, median, worst):
    rng = np.random.default_rng(0)
    model, preprocess = get_deepjuice_model(name)
    noise = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(8)]
    x = torch.stack([preprocess(picture.resize((256, 256), Image.Resampling.BICUBIC)) for picture in noise])
    full = get_feature_maps(model, x, "cpu", progress=False)
    half = get_feature_maps(model, x, "cpu", progress=False, precision=precision, remove_duplicates=False)
    errors = [((half[uid].double() - t.double()).norm() / t.double().norm()).item() for uid, t in full.items()]
    assert 0 < np.median(errors) < median and max(errors) < worst
