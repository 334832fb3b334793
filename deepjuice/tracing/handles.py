"""One way to put a hook on a module: it can be taken off any number of times, and keeps nothing alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from juicyfruits.errors import InputError

KINDS = {
    "begin": nn.Module.register_forward_pre_hook,
    "end": nn.Module.register_forward_hook,
    "output": partial(nn.Module.register_forward_hook, with_kwargs=True),
    "backward": nn.Module.register_full_backward_hook,
}
"""When a hook is called: before a module runs, after it has (twice), after its gradients are known."""


def attach(module: nn.Module, kind: str, method: Callable[..., Any], *first: Any) -> RemovableHandle:
    """Have a bound method called whenever a module runs; return the handle whose `remove()` ends that.

    The module does not keep the method's object alive: when that goes, the hook goes. A copy or a pickle of the
    module is not listened to. Removing twice does nothing.

    Args:
        module: any module.
        kind: `'begin'`, called with (module, inputs); `'end'`, with (module, inputs, output); `'output'`, with
            (module, inputs, keyword arguments, output), and what is returned takes the output's place, unless it is
            None; `'backward'`, with (module, gradients of the inputs, gradients of the outputs).
        method: of the object that listens; what it returns is not used, unless `kind` is `'output'`.
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
    handle = KINDS[kind](module, _WeakHook(method, first, kind == "output"))
    weakref.finalize(method.__self__, handle.remove).atexit = False
    return handle


def check_heard(path: str, module: nn.Module) -> None:
    """Raise InputError for a module whose calls, or those of modules within it, no hook hears: compiled, replicated."""
    compiled = isinstance(module, torch.jit.ScriptModule) or type(module).__name__ == "OptimizedModule"
    if compiled or getattr(module, "_compiled_call_impl", None) is not None:
        raise InputError(
            f"module {path!r} ({type(module).__name__}) is compiled, and what it calls cannot be heard; give the model "
            "as it was before torch.jit or torch.compile (model._orig_mod), and of a wrapped model compile the wrapper."
        )
    if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
        raise InputError(
            f"module {path!r} is a DataParallel over {len(module.device_ids)} devices, whose replicas cannot be heard; "
            "give the model in it (its attribute `module`), and of a wrapped model put the wrapper into DataParallel."
        )


class _WeakHook:
    """What a module holds: a method of an object that may be gone, or is in no copy of the module."""

    def __init__(self, method: Callable[..., Any] | None = None, first: tuple[Any, ...] = (), answers: bool = False):
        # Not a WeakMethod, which torch.compile cannot trace.
        self._owner = weakref.ref(method.__self__) if method else lambda: None
        self._function = method.__func__ if method else None
        self._first = first
        self._answers = answers

    def __call__(self, *told: Any) -> Any:
        owner = self._owner()
        if owner is None:
            return None
        answer = self._function(owner, *self._first, *told)
        return answer if self._answers else None

    def __reduce__(self):
        return _WeakHook, ()  # copying and pickling: the listener stays with the module that it listens to
