"""A model's own preprocessing, for pictures of another size than it was trained on."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from deepjuice.loaders import Preprocess
from juicyfruits.errors import InputError

CROP, RESIZE = ("crop_size", "size"), "resize_size"


def with_image_size(preprocess: Preprocess, image_size: int) -> Preprocess:
    """Return a preprocessing that is the same but for the pixels that reach the network.

    Pictures are resized in proportion to the crop, so that the network sees the same part of each.

    Args:
        preprocess: as `get_deepjuice_model` returns it for a model of pictures; it is not changed.
        image_size: height and width, pixels.

    Raises:
        InputError: for a preprocessing that brings pictures to no fixed size, and a size below 1.

    >>> from torchvision.transforms import v2
    >>> smaller = with_image_size(v2.Compose([v2.Resize(256), v2.CenterCrop(224)]), 112)
    >>> [part.size for part in smaller.transforms]
    [[128], (112, 112)]
    """
    if image_size < 1:
        raise InputError(f"image size {image_size}: expected at least 1 pixel.")
    changed = copy.deepcopy(preprocess)
    sizes = list(_sizes(changed))
    if not sizes:
        raise InputError(
            f"image size {image_size}: the model's preprocessing ({type(preprocess).__name__}) brings pictures to no "
            "size of its own; leave the size out, and bring pictures of the size that you want."
        )
    part, name = sizes[-1]  # the crop, or the only resizing
    reached = max(_as_list(getattr(part, name)))
    for part, name in sizes:
        old = getattr(part, name)
        new = [round(pixels * image_size / reached) for pixels in _as_list(old)]
        setattr(part, name, type(old)(new) if isinstance(old, (list, tuple)) else new[0])
    return changed


def check_takes(model: nn.Module, image_size: int) -> None:
    """Refuse a size that a network cannot take, as one with learned positions, before any picture is read."""
    like = next(model.parameters())
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, image_size, image_size, dtype=like.dtype, device=like.device))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"image size {image_size}: {type(model).__name__} does not take pictures of that size ({error}); leave the "
            "size out, or choose another."
        ) from error


def _sizes(preprocess: Preprocess) -> Iterator[tuple[object, str]]:
    """Yield where sizes stand, in the order in which they apply: (transform, name of the attribute)."""
    for part in getattr(preprocess, "transforms", [preprocess]):
        for name in (RESIZE, *CROP):
            if getattr(part, name, None) is not None:
                yield part, name


def _as_list(size: int | list[int] | tuple[int, ...]) -> list[int]:
    return [size] if isinstance(size, int) else list(size)
