"""One input by its number, and how several make a batch: pictures to a tensor, texts to a dictionary of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from juicyfruits.errors import InputError
from juicyfruits.pictures import open_rgb

Preprocess = Callable[[Image.Image], torch.Tensor]
Tokenizer = Callable[..., Mapping[str, torch.Tensor]]


class ImageDataset(Dataset):
    """Pictures as preprocessed tensors, in the order of their paths; a file that cannot be read is named."""

    def __init__(self, paths: Sequence[str | Path], preprocess: Preprocess):
        self.paths = [str(path) for path in paths]
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.preprocess(open_rgb(self.paths[index]))


class TextDataset(Dataset):
    """Texts as they are: a tokenizer pads the texts of a batch to one length, so it works on batches (`Tokenize`)."""

    def __init__(self, texts: Sequence[str]):
        self.texts = list(texts)
        for row, text in enumerate(self.texts):
            if not isinstance(text, str):
                raise InputError(
                    f"texts: expected strings, got {text!r} of type {type(text).__name__} in row {row}; drop such rows "
                    "or fill them in."
                )

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> str:
        return self.texts[index]


class Tokenize:
    """Make a batch of texts: a dictionary of tensors, each with one row a text.

    Args:
        tokenizer: a function of a list of texts that returns tensors by name, or a Hugging Face tokenizer, which is
            asked for padding, truncation to what the model takes, and tensors.
        max_length: tokens to pad and to cut every text to; by default the longest text of a batch sets its length.

    >>> lengths = Tokenize(lambda texts: {"input_ids": torch.tensor([[len(text)] for text in texts])})
    >>> lengths(["a", "text"])
    {'input_ids': tensor([[1],
            [4]])}
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int | None = None):
        self.tokenizer = tokenizer
        self.options: dict[str, Any] = {}
        if is_hugging_face(tokenizer):
            if tokenizer.pad_token is None:
                raise InputError(
                    f"{type(tokenizer).__name__}: expected a tokenizer that can pad, got one without a padding token; "
                    "set tokenizer.pad_token = tokenizer.eos_token."
                )
            self.options = {"padding": True, "truncation": True, "return_tensors": "pt"}
            if max_length is not None:
                self.options |= {"padding": "max_length", "max_length": max_length}
        elif max_length is not None:
            raise InputError(
                f"max_length={max_length}: expected a Hugging Face tokenizer, which can be told, got "
                f"{type(tokenizer).__name__}; pad and cut within that function."
            )

    def __call__(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the tensors of these texts, by name."""
        batch = self.tokenizer(list(texts), **self.options)
        if not isinstance(batch, Mapping) or not batch:
            raise InputError(f"tokenizer: expected tensors by name, got {type(batch).__name__}; return a dictionary.")
        for name, tensor in batch.items():
            if not isinstance(tensor, torch.Tensor) or tensor.ndim == 0 or len(tensor) != len(texts):
                got = list(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise InputError(
                    f"tokenizer: expected {name!r} to be a tensor with {len(texts)} rows, one a text, got {got}; pad "
                    "the texts of a batch to one length and return tensors."
                )
        return dict(batch)


def is_hugging_face(tokenizer: object) -> bool:
    """Say whether this is a Hugging Face tokenizer, without importing transformers."""
    return hasattr(tokenizer, "pad_token") and hasattr(tokenizer, "convert_tokens_to_ids")


def same_size(pictures: list[torch.Tensor]) -> torch.Tensor:
    """Make a batch; pictures that this model's preprocessing leaves at different sizes cannot be one."""
    shapes = {tuple(picture.shape) for picture in pictures}
    if len(shapes) > 1:
        raise InputError(
            f"pictures: expected one size after preprocessing, got {' and '.join(map(str, sorted(shapes)))}; this "
            "model's preprocessing does not resize, so bring pictures of one size."
        )
    return torch.stack(pictures)
