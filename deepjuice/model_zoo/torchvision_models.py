"""Every torchvision model that takes a picture: all published weights, and an untrained twin of each architecture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from urllib.error import URLError

import torch
from torchvision import models
from torchvision.models import WeightsEnum

from deepjuice.model_zoo.cards import Loaded, ModelCard, seeded
from juicyfruits.errors import InputError

# Video and optical-flow models take clips or pairs; the quantised ones have no floating-point maps.
TASKS = {"classification": models, "segmentation": models.segmentation, "detection": models.detection}
ABOUT = {"source": "torchvision", "license": "BSD-3-Clause"}


def cards() -> Iterator[ModelCard]:
    """Yield the cards of this source: `torchvision_{architecture}_{weights}`, and `..._random` for its twin."""
    for task, module in TASKS.items():
        for name in models.list_models(module=module):
            about = {**ABOUT, "architecture": name, "url": f"https://pytorch.org/vision/stable/models.html#{task}"}
            for weights in models.get_model_weights(name):
                uid = f"torchvision_{name}_{weights.name.lower()}"
                load = partial(_trained, uid, name, weights)
                yield ModelCard(uid=uid, weights=weights.name, train_task=task, load=load, **about)
            uid = f"torchvision_{name}_random"
            yield ModelCard(uid=uid, weights="random", train_task="none", load=partial(_random, name, task), **about)


def weights_file(weights: WeightsEnum) -> str:
    """Return the place where torch looks for a weights file before it downloads it."""
    return os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))


def _trained(uid: str, name: str, weights: WeightsEnum, seed: int) -> Loaded:
    try:
        model = models.get_model(name, weights=weights)
    except (URLError, OSError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{uid}: expected to find its weights in {weights_file(weights)} or to download them from {weights.url}, "
            f"got {type(error).__name__}: {error}; download that address by hand and place the file there (set "
            f"TORCH_HOME to keep it elsewhere), or take the untrained torchvision_{name}_random."
        ) from error
    return model, weights.transforms()


def _random(name: str, task: str, seed: int) -> Loaded:
    # Without this, segmentation and detection builders would fetch the weights of their backbone.
    options = {} if task == "classification" else {"weights_backbone": None}
    model = seeded(lambda: models.get_model(name, weights=None, **options), seed)
    return model, models.get_model_weights(name).DEFAULT.transforms()
