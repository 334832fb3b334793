"""What all wrappers share that hand out the outputs of a network's layers: registration, and one pass."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.hooks import RemovableHandle

from deepjuice.tracing import attach, check_heard
from juicyfruits.errors import InputError


class HooksHandle(nn.Module, ABC):
    """A wrapper of a network that takes the outputs of chosen sub-modules during its own forward passes.

    A sub-module is named by its id: its dotted name in `model.named_modules()`, `''` for the network itself. Each
    pass collects anew, so nothing is stale and nothing is kept between passes. Of a sub-module that is called
    several times in a pass, the first output counts. The network holds no reference to the wrapper: when the wrapper
    goes, its hooks go. Copies and pickles of the wrapper are wrappers of their own copy of the network.

    What is handed out is the output as the sub-module returned it, whatever later layers do to it in place: a copy,
    also of tensors in tuples, lists and dictionaries. It is part of the autograd graph: it depends on what came
    before, and the output of the network depends on it (except for layers that return their own input or a view of
    it, such as Identity and Flatten: there, the network goes on with what it had).

    Args:
        model: any module; it becomes `wrapped_model`.
        module_ids: ids of sub-modules to take outputs from.

    Raises:
        ValueError: `model` is no module, an id is None, or a sub-module cannot be heard (compiled, or replicated by
            DataParallel).
        KeyError: no sub-module has this id.
    """

    hook_handles: dict[str, RemovableHandle]

    def __init__(self, model: nn.Module, module_ids: Iterable[str] | None = None):
        if not isinstance(model, nn.Module):
            raise InputError(f"model to wrap: expected a torch.nn.Module, got {type(model).__name__}.")
        if isinstance(module_ids, str):
            raise InputError(f"module_ids: expected several ids, got the text {module_ids!r}; put it into a list.")
        super().__init__()
        self.wrapped_model = model
        self.hook_handles = {}
        self._passes = _Passes()
        for module_id in module_ids or ():
            self.register_submodule(module_id)

    @property
    def registered_submodules(self) -> list[str]:
        """Ids of the registered sub-modules, in the order of their registration."""
        return list(self.hook_handles)

    def register_submodule(self, module_id: str) -> None:
        """Take the output of one more sub-module; nothing changes if it is registered already."""
        if module_id in self.hook_handles:
            return
        self.hook_handles[module_id] = attach(self.get_module_by_id(module_id), "output", self._take, module_id)

    def unregister_submodule(self, module_id: str) -> None:
        """Take the output of a sub-module no more; KeyError if it is not registered."""
        if module_id not in self.hook_handles:
            raise KeyError(f"Tried to remove unknown submodule of ID {module_id}")
        self.hook_handles.pop(module_id).remove()

    def get_module_by_id(self, module_id: str) -> nn.Module:
        """Return the sub-module of this id; KeyError with all ids if there is none."""
        if module_id is None:
            raise ValueError("Tried to register a module_id which was None")
        modules = dict(self.wrapped_model.named_modules())
        for path in _way_to(module_id):
            if path in modules:
                check_heard(path, modules[path])
        if module_id not in modules:
            raise KeyError(
                f"Tried to register a hook to non-existing sub-module {module_id}; "
                f"available sub-modules: {list(modules)}"
            )
        return modules[module_id]

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped network."""

    def _run(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Run the wrapped network once; return its output, and those of the registered sub-modules it called."""
        taken: dict[str, Any] = {}
        self._passes.open.append(taken)
        try:
            output = self.wrapped_model(*args, **kwargs)
        finally:
            self._passes.open.pop()
        return output, taken

    def _take(self, module_id: str, module: nn.Module, inputs: tuple, keywords: dict, output: Any) -> Any:
        if not self._passes.open or module_id in self._passes.open[-1]:
            return None
        own = copy_tensors(output)  # later layers may overwrite theirs in place
        self._passes.open[-1][module_id] = own
        return copy_tensors(own) if _may_be_replaced(module, (inputs, keywords), output) else None

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        del state["_passes"]
        return {**state, "hook_handles": list(self.hook_handles)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "hook_handles": {}, "_passes": _Passes()})
        for module_id in state["hook_handles"]:
            HooksHandle.register_submodule(self, module_id)


class _Passes(threading.local):
    """The passes that a thread has begun and not ended, innermost last: {id: output} of each.

    DataParallel's replicas of a wrapper share this object, and each runs in a thread of its own.
    """

    def __init__(self):
        self.open: list[dict[str, Any]] = []


def chosen(taken: dict[str, Any], module_ids: Iterable[str]) -> dict[str, Any]:
    """Return these sub-modules' outputs of one pass, in this order; KeyError if one was not called.

    >>> chosen({"conv": 1, "relu": 2}, ["relu"])
    {'relu': 2}
    """
    module_ids = list(module_ids)
    missing = [module_id for module_id in module_ids if module_id not in taken]
    if missing:
        raise KeyError(
            f"No output of registered sub-modules {missing}: this forward pass did not call them (or did so in "
            "another thread); unregister them, or register them again if they have been replaced since"
        )
    return {module_id: taken[module_id] for module_id in module_ids}


def copy_tensors(output: Any) -> Any:
    """Return an output with every tensor cloned, also those in tuples, lists and dictionaries; gradients flow.

    >>> ones = torch.ones(2)
    >>> copy_tensors({"a": (ones, None)})["a"][0] is ones
    False
    """
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, output)


def _may_be_replaced(module: nn.Module, inputs: Any, output: Any) -> bool:
    """Whether the network can go on with a copy of what is handed out, and so depend on it, and still be the same.

    A layer may return memory under two names, or its input or a view of it: what is written there later must be seen
    by all who hold it. An in-place layer returns its input as well, but in its place.
    """
    tensors = _tensors(output)
    if not any(tensor.requires_grad for tensor in tensors):
        return False
    own, given = [_base(tensor) for tensor in tensors], [_base(tensor) for tensor in _tensors(inputs)]
    return getattr(module, "inplace", False) or not any(
        one is other for place, one in enumerate(own) for other in (*given, *own[:place])
    )


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _base(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor._base is None else tensor._base


def _way_to(module_id: str) -> Iterator[str]:
    """Yield the ids of all modules around a sub-module, from the root to itself."""
    yield ""
    names = str(module_id).split(".")
    for depth in range(1, len(names) + 1):
        yield ".".join(names[:depth])
