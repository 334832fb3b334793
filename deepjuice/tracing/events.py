"""What a listener is told: one call of one module, and the tensors that it gave back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from juicyfruits.errors import InputError


@dataclass(frozen=True, slots=True)
class Call:
    """The identity of one call of one module, the same in every forward pass.

    Attributes:
        uid: `Class-depth-index`; the index counts the calls at that depth, in the order in which they begin.
        path: dotted name in `model.named_modules()`; `''` for the root.
        number: 0 for the first call of this module in a pass, 1 for its second, and so on.
        depth: nesting of the module in the module tree; 0 for the root.
        class_name: the module's class.
    """

    uid: str
    path: str
    number: int
    depth: int
    class_name: str


@dataclass(frozen=True, slots=True)
class Event:
    """A call that has just completed. A listener may read `output` only inside the event: the next
    operation may overwrite it in place.

    Attributes:
        call: which call of which module this was.
        module: the module itself.
        inputs: its positional arguments.
        output: what it returned.
        rows: which rows of the whole set of inputs this batch holds.
    """

    call: Call
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Any
    rows: slice


Listener = Callable[[Event], None]


def tensors_in(uid: str, output: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a module's output under a name of its own.

    A plain tensor keeps the uid, and so does the only tensor of a tuple, dict or dataclass (an attention layer's
    `(out, None)`); where there are several, each has its position or key appended: `LSTM-1-1.0`, `LSTM-1-1.1.0`.

    >>> [name for name, _ in tensors_in("LSTM-1-1", (torch.ones(1), (torch.ones(1), None)))]
    ['LSTM-1-1.0', 'LSTM-1-1.1.0']
    """
    found = list(_walk("", output))
    if len(found) == 1:
        yield uid, found[0][1]
        return
    names = [suffix for suffix, _ in found]
    if len(set(names)) < len(names):
        raise InputError(f"output of {uid}: two of its tensors would have one name; rename the keys of its dictionary.")
    for suffix, tensor in found:
        yield uid + suffix, tensor


def _walk(suffix: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield suffix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(f"{suffix}.{str(key).replace('/', '_')}", item)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _walk(f"{suffix}.{index}", item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _walk(f"{suffix}.{field.name}", getattr(value, field.name))
