"""Stimulus and model tables: rows chosen by their values, and nested columns made flat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from juicyfruits.errors import InputError, near_names


def pandas_query(df: pd.DataFrame, filters: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return the rows in which every named column has the wanted value, or one of the wanted values.

    Args:
        df: any table.
        filters: column -> value, or a list, tuple, set, array or Series of values; NaN finds NaN. `None` and `{}`
            keep every row.

    Returns:
        The rows in their order, under their own index labels; a table of its own, `df` is not changed by writing to it.

    Raises:
        InputError: for an unknown column, with the names that look like it.

    >>> table = pd.DataFrame({"roi": ["V1", "V4", "V1"], "subj_id": [1, 1, 2]})
    >>> pandas_query(table, {"roi": "V1", "subj_id": [2, 3]})
      roi  subj_id
    2  V1        2
    """
    keep = np.ones(len(df), dtype=bool)
    for column, wanted in (filters or {}).items():
        if column not in df.columns:
            raise InputError(f"column {column!r} is not in the table: {near_names(str(column), df.columns)}")
        values = list(wanted) if pd.api.types.is_list_like(wanted) else [wanted]  # a text is one value
        keep &= df[column].isin(values).to_numpy()
    return df[keep]


def flatten_nested_list(nested: Iterable) -> list:
    """Return the items of lists and tuples within lists, however deep, as one list in order; texts stay whole.

    >>> flatten_nested_list([["a cat", "a black cat"], ["a dog", ["two dogs"]]])
    ['a cat', 'a black cat', 'a dog', 'two dogs']
    """
    flat = []
    for item in nested:
        if isinstance(item, (list, tuple)):
            flat.extend(flatten_nested_list(item))
        else:
            flat.append(item)
    return flat
