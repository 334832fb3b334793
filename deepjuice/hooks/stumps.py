"""A network that returns the output of one of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from deepjuice.hooks.hooks_handle import HooksHandle, chosen
from juicyfruits.errors import InputError


class ModelStump(HooksHandle):
    """A network that returns the output of one sub-module, its stump head, instead of its own.

    It begins in eval mode, and so does the wrapped network, which always runs to its end. Where no head is set,
    the next sub-module that is registered becomes it. See `HooksHandle` for ids and errors.

    Args:
        model: any module; it becomes `wrapped_model`.
        stump_head: id of the sub-module.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    >>> stump = ModelStump(net, "0")
    >>> torch.equal(stump(torch.ones(1, 3)), net[0](torch.ones(1, 3))), net.training
    (True, False)
    """

    def __init__(self, model: nn.Module, stump_head: str | None):
        super().__init__(model)
        self._stump_head: str | None = None
        self.stump_head = stump_head
        self.eval()

    @property
    def stump_head(self) -> str | None:
        """Id of the sub-module whose output is returned; one that is set is registered. None: there is none yet."""
        return self._stump_head

    @stump_head.setter
    def stump_head(self, module_id: str | None) -> None:
        if module_id is not None:
            self.register_submodule(module_id)
        self._stump_head = module_id

    def register_submodule(self, module_id: str) -> None:
        """Listen to a sub-module, which becomes the stump head where there is none."""
        super().register_submodule(module_id)
        if self._stump_head is None:
            self._stump_head = module_id

    def unregister_submodule(self, module_id: str) -> None:
        """Listen to a sub-module no more; if it was the stump head, there is none."""
        super().unregister_submodule(module_id)
        if module_id == self._stump_head:
            self._stump_head = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped network, return the stump head's output; KeyError if it was not called."""
        if self._stump_head is None:
            raise InputError("ModelStump without a stump head; set `stump_head` to the id of a sub-module.")
        _, taken = self._run(*args, **kwargs)
        return chosen(taken, [self._stump_head])[self._stump_head]


class ExtendedModelStump(ModelStump):
    """A stump whose output is modified: `modification(output of the stump head)`.

    Args:
        model: any module; it becomes `wrapped_model`.
        stump_head: id of the sub-module.
        modification: any function, or a module, whose parameters are then parameters of the stump.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
    >>> ExtendedModelStump(net, "0", lambda map: map.sum(dim=1))(torch.ones(2, 3))
    tensor([3., 3.])
    """

    def __init__(self, model: nn.Module, stump_head: str | None, modification: Callable[[Any], Any]):
        if not callable(modification):
            raise ValueError("modification function for model intermediate out must be callable!")
        super().__init__(model, stump_head)
        self.modification = modification
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped network, return the modified output of the stump head."""
        return self.modification(super().forward(*args, **kwargs))
