"""One way to put a hook on a module: it can be taken off any number of times, and keeps nothing alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from juicyfruits.errors import InputError

KINDS = {
    "begin": nn.Module.register_forward_pre_hook,
    "end": nn.Module.register_forward_hook,
    "backward": nn.Module.register_full_backward_hook,
}
"""When a hook is called: before a module runs, after it has, after its gradients are known."""


def attach(module: nn.Module, kind: str, method: Callable[..., None], *first: Any) -> RemovableHandle:
    """Have a bound method called whenever a module runs; return the handle whose `remove()` ends that.

    The module does not keep the method's object alive: when that goes, the hook goes. A copy or a pickle of the
    module is not listened to. Removing twice does nothing.

    Args:
        module: any module.
        kind: `'begin'`, called with (module, inputs); `'end'`, with (module, inputs, output); `'backward'`, with
            (module, gradients of the inputs, gradients of the outputs).
        method: of the object that listens; what it returns is not used.
        first: arguments that it gets before the others.

    >>> class Count:
    ...     n = 0
    ...     def add(self, module, inputs, output):
    ...         self.n += 1
    >>> import torch
    >>> layer, count = nn.ReLU(), Count()
    >>> handle = attach(layer, "end", count.add)
    >>> _ = layer(torch.ones(1))
    >>> handle.remove()
    >>> _ = layer(torch.ones(1))
    >>> count.n
    1
    """
    if kind not in KINDS:
        raise InputError(f"kind of hook {kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    handle = KINDS[kind](module, _WeakHook(method, first))
    weakref.finalize(method.__self__, handle.remove).atexit = False
    return handle


class _WeakHook:
    """What a module holds: a method of an object that may be gone, or is in no copy of the module."""

    def __init__(self, method: Callable[..., None] | None = None, first: tuple[Any, ...] = ()):
        self._method = weakref.WeakMethod(method) if method else lambda: None
        self._first = first

    def __call__(self, *told: Any) -> None:
        method = self._method()
        if method is not None:
            method(*self._first, *told)

    def __reduce__(self):
        return _WeakHook, ()  # copying and pickling: the listener stays with the module that it listens to
