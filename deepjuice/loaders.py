"""From picture files to batches, in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from juicyfruits.errors import InputError
from juicyfruits.pictures import open_rgb

Preprocess = Callable[[Image.Image], torch.Tensor]


class ImageDataset(Dataset):
    """Pictures as preprocessed tensors, in the order of their paths; a file that cannot be read is named."""

    def __init__(self, paths: Sequence[str | Path], preprocess: Preprocess):
        self.paths = [str(path) for path in paths]
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.preprocess(open_rgb(self.paths[index]))


def get_data_loader(
    paths: Sequence[str | Path],
    preprocess: Preprocess,
    batch_size: int = 64,
    num_workers: int | None = None,
) -> DataLoader:
    """Return a loader that yields preprocessed pictures in the given order, the last batch being what is left.

    Args:
        paths: picture files.
        preprocess: turns a PIL picture into a tensor (channel, height, width).
        batch_size: pictures a batch.
        num_workers: loader processes; by default one for every core beyond the second, at most 8.

    Returns:
        A `DataLoader` of float tensors (batch, channel, height, width).

    Raises:
        InputError: when there are no paths; on iteration, naming the file that cannot be read.
    """
    if isinstance(paths, (str, Path)) or len(paths) == 0:
        raise InputError(f"picture paths: expected a list of at least one, got {paths!r}; check image_paths.")
    if batch_size < 1 or (num_workers or 0) < 0:
        raise InputError(f"batch_size={batch_size}, num_workers={num_workers}: expected at least 1 and 0.")
    if num_workers is None:
        num_workers = min(8, max(0, (os.cpu_count() or 1) - 2))
    return DataLoader(
        ImageDataset(paths, preprocess),
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_same_size,
    )


def _same_size(pictures: list[torch.Tensor]) -> torch.Tensor:
    """Make a batch; pictures that this model's preprocessing leaves at different sizes cannot be one."""
    shapes = {tuple(picture.shape) for picture in pictures}
    if len(shapes) > 1:
        raise InputError(
            f"pictures: expected one size after preprocessing, got {' and '.join(map(str, sorted(shapes)))}; this "
            "model's preprocessing does not resize, so bring pictures of one size."
        )
    return torch.stack(pictures)
