"""What a table says of its inputs: which column holds them, and which rows belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from juicyfruits.errors import InputError, near_names
from juicyfruits.picture_file import split_address

ADDED = ("group_index", "batch_iter", "batch_index")


def find_data_column(table: pd.DataFrame, data_key: str | None, input_modality: str, group_keys: Sequence[str]) -> str:
    """Return the column that holds the inputs: `data_key`, or else the only one that looks like them.

    For pictures that is a column of paths with a picture's suffix in every row, for texts a column of strings; columns
    that name groups are not looked at.

    Raises:
        InputError: for a column that is not there, or when not exactly one column looks like the inputs.

    >>> find_data_column(pd.DataFrame({"stimulus": ["a.png", "b.jpg"], "n": [1, 2]}), None, "image", [])
    'stimulus'
    """
    for column in [*group_keys, *([data_key] if data_key is not None else [])]:
        if column not in table:
            raise InputError(f"column {column!r} of the table of inputs: {near_names(str(column), table.columns)}")
    if data_key is not None:
        return data_key
    fits = _is_picture_path if input_modality == "image" else _is_text
    found = [name for name in table if name not in group_keys and len(table) and table[name].map(fits).all()]
    if len(found) != 1:
        what = "picture paths" if input_modality == "image" else "texts"
        raise InputError(
            f"table of inputs: expected one column of {what}, got {len(found)} ({', '.join(map(repr, found)) or 'none'}"
            f" of {', '.join(map(repr, table.columns))}); name it as data_key."
        )
    return found[0]


def pack_groups(table: pd.DataFrame, group_keys: Sequence[str], batch_size: int) -> pd.DataFrame:
    """Put rows of one group together and fill batches with whole groups, in order.

    Args:
        table: one input a row.
        group_keys: columns whose values together name a row's group; without any, every row is a group of its own.
        batch_size: most rows a batch; a larger group makes a batch of its own.

    Returns:
        The rows, with their index, group after group in order of first appearance and within a group in the table's
        order, and three columns of whole numbers: `group_index`, `batch_iter` (which batch) and `batch_index` (which
        row of it).

    Raises:
        InputError: when the table has a column of one of these names already, or a row has no group.

    >>> pack_groups(pd.DataFrame({"video": ["a", "b", "a"]}), ["video"], 2)
      video  group_index  batch_iter  batch_index
    0     a            0           0            0
    2     a            0           0            1
    1     b            1           1            0
    """
    taken = [name for name in ADDED if name in table]
    if taken:
        raise InputError(f"table of inputs: column {taken[0]!r} is one that a loader adds; drop or rename it.")
    missing = table[list(group_keys)].isna().any(axis=1).to_numpy()
    if missing.any():
        raise InputError(
            f"table of inputs: expected a group for every row, got none for {int(missing.sum())} rows, the first in "
            f"row {int(missing.argmax())}; fill in {', '.join(map(repr, group_keys))} or drop such rows."
        )
    keys = table[list(group_keys)].itertuples(index=False, name=None) if group_keys else range(len(table))
    numbers: dict = {}
    groups = pd.Series([numbers.setdefault(key, len(numbers)) for key in keys], dtype=int)
    batches = _fill_batches(groups.value_counts(sort=False).sort_index().tolist(), batch_size)

    order = groups.sort_values(kind="stable")
    packed = table.iloc[order.index].copy()
    packed["group_index"] = order.to_numpy()
    packed["batch_iter"] = [batches[group] for group in order]
    packed["batch_index"] = packed.groupby("batch_iter").cumcount().to_numpy()
    return packed


def _fill_batches(sizes: list[int], batch_size: int) -> list[int]:
    """Return the batch of every group: the next group begins a new one where it would not fit."""
    batches, batch, used = [], 0, 0
    for size in sizes:
        if used and used + size > batch_size:
            batch, used = batch + 1, 0
        batches.append(batch)
        used += size
    return batches


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_picture_path(value: object) -> bool:
    if not isinstance(value, (str, Path)):
        return False
    return split_address(value) is not None or Path(value).suffix.lower() in Image.registered_extensions()
