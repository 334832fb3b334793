"""The one way to a loader: from a list or a table, of pictures or texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import DataLoader

from deepjuice.loaders.datasets import (
    ImageDataset,
    Preprocess,
    TextDataset,
    Tokenize,
    Tokenizer,
    is_hugging_face,
    same_size,
)
from deepjuice.loaders.tables import find_data_column, pack_groups
from juicyfruits.errors import InputError

MODALITIES = ("image", "text")


def get_data_loader(
    inputs: Sequence[str | Path] | pd.Series | pd.DataFrame,
    preprocess: Preprocess | Tokenizer,
    batch_size: int = 64,
    num_workers: int | None = None,
    input_modality: str = "image",
    data_key: str | None = None,
    group_keys: str | Sequence[str] | None = None,
    max_length: int | None = None,
) -> DataLoader:
    """Return a loader that yields preprocessed pictures or tokenised texts in order, the last batch what is left.

    From a table with `group_keys`, whole groups are packed into batches: a group is never split, and one that is larger
    than `batch_size` makes a batch of its own. Rows of one group are brought together, groups in order of their first
    appearance, so the order can differ from the table's: `loader.batch_data` is the table in the loader's order.

    Args:
        inputs: picture files (relative paths are the working directory's) or texts, or a table with a column of them.
        preprocess: turns a PIL picture into a tensor (channel, height, width); for texts a tokenizer, either a
            function from a list of texts to tensors by name or a Hugging Face tokenizer.
        batch_size: inputs a batch.
        num_workers: loader processes; by default one for every core beyond the second, at most 8, and none for texts.
        input_modality: `'image'` or `'text'`.
        data_key: the table's column of paths or texts; by default the only one that looks like it.
        group_keys: the table's column or columns that name groups.
        max_length: tokens of every text, by padding and cutting; by default each batch is as long as its longest text.

    Returns:
        A `DataLoader` of float tensors (batch, channel, height, width), or of dictionaries of tensors (batch, ...).
        Made from a table, it has `batch_data`: the rows in the loader's order, with the columns `group_index`,
        `batch_iter` and `batch_index`.

    Raises:
        InputError: when there are no inputs, a column is missing or ambiguous, or a text is not a string; on
            iteration, naming the file that cannot be read.

    >>> captions = pd.DataFrame({"video": ["a", "b", "a"], "caption": ["one dog", "a cat", "a dog"]})
    >>> lengths = lambda texts: {"n": torch.tensor([[len(text)] for text in texts])}
    >>> loader = get_data_loader(captions, lengths, 2, input_modality="text", data_key="caption", group_keys="video")
    >>> [batch["n"].flatten().tolist() for batch in loader]
    [[7, 5], [5]]
    """
    if input_modality not in MODALITIES:
        raise InputError(f"input_modality={input_modality!r}: expected one of {', '.join(map(repr, MODALITIES))}.")
    for name, number, least in (
        ("batch_size", batch_size, 1),
        ("num_workers", num_workers, 0),
        ("max_length", max_length, 1),
    ):
        if number is not None and number < least:
            raise InputError(f"{name}={number}: expected at least {least}.")
    table = None
    if isinstance(inputs, pd.DataFrame):
        groups = [group_keys] if isinstance(group_keys, str) else list(group_keys or ())
        column = find_data_column(inputs, data_key, input_modality, groups)
        table = pack_groups(inputs, groups, batch_size)
        inputs = table[column]
    elif data_key is not None or group_keys is not None:
        raise InputError(f"data_key and group_keys: expected a DataFrame that has them, got {type(inputs).__name__}.")

    dataset, collate = _dataset(inputs, preprocess, input_modality, max_length)
    if num_workers is None:  # tokenizers are quick, and have threads of their own that forking would break
        num_workers = 0 if input_modality == "text" else min(8, max(0, (os.cpu_count() or 1) - 2))
    batches = {"batch_sampler": _batches(table)} if group_keys else {"batch_size": batch_size}
    loader = DataLoader(
        dataset, num_workers=num_workers, pin_memory=torch.cuda.is_available(), collate_fn=collate, **batches
    )
    if table is not None:
        loader.batch_data = table
    return loader


def _dataset(inputs: Sequence, preprocess: Preprocess | Tokenizer, input_modality: str, max_length: int | None):
    """Return the dataset and what makes batches of its items."""
    what = "picture paths" if input_modality == "image" else "texts"
    if isinstance(inputs, (str, Path)) or len(inputs) == 0:
        raise InputError(f"{what}: expected a list of at least one, got {inputs!r}; check the list or its filter.")
    if input_modality == "text":
        return TextDataset(inputs), Tokenize(preprocess, max_length)
    if is_hugging_face(preprocess) or max_length is not None:
        raise InputError(
            f"preprocess of type {type(preprocess).__name__}, max_length={max_length}: expected a function of a "
            "picture and no length, got what texts need; give input_modality='text'."
        )
    return ImageDataset(inputs, preprocess), same_size


def _batches(table: pd.DataFrame) -> list[list[int]]:
    """Return the rows of every batch."""
    rows = pd.Series(range(len(table)))
    return [list(batch) for _, batch in rows.groupby(table["batch_iter"].to_numpy())]
