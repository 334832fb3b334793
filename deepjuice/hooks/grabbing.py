"""A network that returns activation maps beside its output."""

from __future__ import annotations

from typing import Any

from deepjuice.hooks.hooks_handle import HooksHandle, chosen
from deepjuice.hooks.stumps import ModelStump


class ActivationMapGrabber(HooksHandle):
    """A network that returns (its output, {id: output of the sub-module}), ids in the order of registration.

    The outputs are live: gradients flow through them. See `HooksHandle` for ids, arguments and errors.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    >>> output, maps = ActivationMapGrabber(net, ["0"])(torch.ones(1, 3))
    >>> torch.equal(maps["0"].clamp(min=0), output)
    True
    """

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Run the wrapped network; KeyError if it did not call a registered sub-module."""
        output, taken = self._run(*args, **kwargs)
        return output, chosen(taken, self.hook_handles)

    def stump(self, module_id: str) -> ModelStump:
        """Return the wrapped network, put into eval mode, as one that returns this registered sub-module's output."""
        if module_id not in self.hook_handles:
            raise KeyError(f"Submodule {module_id} is not registered")
        return ModelStump(self.wrapped_model, module_id)
