"""Tensors from whatever holds numbers, and one operation on all tensors of a nested container."""

from __future__ import annotations

import copy
from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepjuice.devices import get_device
from juicyfruits.errors import InputError, first_names


def convert_to_tensor(
    x: Any, device: str | int | torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Return numbers as a tensor of their own shape and dtype, sharing memory with them where that is possible.

    Args:
        x: a tensor, a NumPy array, a DataFrame, Series or DataArray, a number, or (nested) lists of numbers; a list
            of tensors or arrays of one shape is stacked.
        device: where the tensor shall be; by default a tensor stays where it is, all else is on the CPU.
        dtype: of the result; by default that of `x` (float32 and int64 for lists of Python's numbers, as in torch).

    Returns:
        A tensor. A tensor that needs no change is returned itself; an array that may not be written to, as a
        DataFrame's is, is copied, since tensors can always be written to.

    Raises:
        InputError: for text, objects and dates, and for lists that are ragged.

    >>> convert_to_tensor(np.ones((2, 3)), dtype=torch.float32).sum()
    tensor(6.)
    """
    tensor = x if isinstance(x, Tensor) else _from_list(x) if isinstance(x, (list, tuple)) else _from_array(x)
    return tensor.to(device=None if device is None else get_device(device), dtype=dtype)


def _from_list(items: list | tuple) -> Tensor:
    try:
        if items and all(isinstance(item, Tensor) for item in items):
            return torch.stack(list(items))
        # through NumPy a list of arrays becomes one array at once, in torch number by number
        has_arrays = any(hasattr(item, "__array__") for item in items)
        return _from_array(np.asarray(items)) if has_arrays else torch.as_tensor(items)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"a {type(items).__name__} of {len(items)} items: expected numbers, or tensors or arrays of one shape, but "
            f"they do not make one tensor ({error}); apply_tensor_op works on every tensor of a list."
        ) from error


def _from_array(x: Any) -> Tensor:
    if isinstance(x, (bool, int, float, complex)):
        return torch.as_tensor(x)
    array = np.asarray(x) if hasattr(x, "__array__") else None
    if array is None or array.dtype.kind not in "biufc":
        kind = type(x).__name__ + ("" if array is None else f" with values of type {array.dtype}")
        raise InputError(
            f"a {kind}: expected numbers to make a tensor of{_not_numeric(x)}; select or convert them first."
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    writeable_and_forwards = array.flags.writeable and all(step >= 0 for step in array.strides)
    try:
        return torch.from_numpy(array if writeable_and_forwards else array.copy())
    except TypeError as error:
        raise InputError(
            f"an array of {array.dtype}: expected a type that torch has; convert it to float64."
        ) from error


def _not_numeric(x: Any) -> str:
    """Name the columns of a table that hold no numbers."""
    if getattr(x, "ndim", 0) != 2 or not hasattr(x, "dtypes"):
        return ""
    columns = [name for name, dtype in x.dtypes.items() if getattr(dtype, "kind", "O") not in "biufc"]
    return f", but the columns {first_names(columns)} hold none"


def apply_tensor_op(tensors: Any, fn: Callable[..., Any], **kwargs: Any) -> Any:
    """Return `fn(tensor, **kwargs)`, or the same container with the result for every tensor in it, however nested.

    Args:
        tensors: a tensor, or lists, tuples (also named ones) and dictionaries of tensors; a `FeatureMaps` gives a
            `FeatureMaps`. Nothing in it is changed.
        fn: what is done with each tensor.
        **kwargs: further arguments of `fn`.

    Raises:
        InputError: for anything else, naming where it is.

    >>> apply_tensor_op({"a": torch.ones(2, 3), "b": [torch.zeros(2)]}, torch.sum)
    {'a': tensor(6.), 'b': [tensor(0.)]}
    """
    return _map(tensors, lambda tensor: fn(tensor, **kwargs), "tensors")


def _map(value: Any, fn: Callable[[Tensor], Any], place: str) -> Any:
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, MutableMapping):
        mapped = copy.copy(value)  # keeps the class and what it knows besides its items
        for key in value:
            mapped[key] = _map(value[key], fn, f"{place}[{key!r}]")
        return mapped
    if isinstance(value, (list, tuple)):
        items = [_map(item, fn, f"{place}[{index}]") for index, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    raise InputError(
        f"{place} is of type {type(value).__name__}: expected a tensor, or a list, tuple or dictionary of tensors; "
        "convert_to_tensor makes one of an array."
    )
