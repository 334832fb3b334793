"""One record a model, and what every source needs to fill it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

Loaded = tuple[nn.Module, Callable]


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model before it is loaded.

    Attributes:
        uid: its one name here, e.g. `torchvision_alexnet_imagenet1k_v1`; `..._random` for an untrained twin.
        source: where architecture and weights come from.
        architecture: the source's name of the architecture.
        weights: the source's name of the weights, `random` for an untrained twin.
        train_task: what it was trained on: `classification`, `segmentation`, `detection`, `sentence_similarity`, or
            `none`.
        license: of the weights or the code, as the source states it.
        url: where it is described.
        load: makes `(model, preprocess)` from a seed, which only untrained twins use.
        modality: what it takes: `image`, or `text`, whose preprocessing is a tokenizer.
    """

    uid: str
    source: str
    architecture: str
    weights: str
    train_task: str
    license: str
    url: str
    load: Callable[[int], Loaded] = field(repr=False, compare=False)
    modality: str = "image"


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a module whose random weights follow from `seed` alone; the global generators are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
