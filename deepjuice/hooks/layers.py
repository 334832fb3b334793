"""Small layers of the activation lessons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Lambda(nn.Module):
    """A function as a layer, for `nn.Sequential`.

    >>> Lambda(torch.flatten)(torch.ones(2, 3)).shape
    torch.Size([6])
    """

    def __init__(self, func: Callable[..., Any]):
        super().__init__()
        self.func = func

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns."""
        return self.func(*args, **kwargs)

    def extra_repr(self) -> str:
        """Name the function."""
        return getattr(self.func, "__name__", repr(self.func))


class GeneralRelu(nn.Module):
    """min(relu(x) - sub, maxv), where a leak multiplies negative values instead of cutting them off.

    The input is left as it is.

    Args:
        leak: slope below zero; None for none.
        sub: what is taken off, so that the mean comes near zero; None for nothing.
        maxv: the largest value, after that; None for no limit.

    >>> GeneralRelu(leak=0.1, sub=0.4, maxv=6.0)(torch.tensor([-1.0, 1.0, 9.0]))
    tensor([-0.5000,  0.6000,  6.0000])
    """

    def __init__(self, leak: float | None = None, sub: float | None = None, maxv: float | None = None):
        super().__init__()
        self.leak, self.sub, self.maxv = leak, sub, maxv

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of x's shape and type."""
        x = F.relu(x) if self.leak is None else F.leaky_relu(x, self.leak)
        x = x if self.sub is None else x - self.sub
        return x if self.maxv is None else x.clamp_max(self.maxv)

    def extra_repr(self) -> str:
        """Give the settings."""
        return f"leak={self.leak}, sub={self.sub}, maxv={self.maxv}"


class SequentialModel(nn.Module):
    """Layers one after another that write down mean and standard deviation of what each gives, at every call.

    The statistics are written in training and in eval mode, without hooks; each layer gives one tensor.

    Attributes:
        layers: the layers.
        act_means: a list for each layer, one CPU scalar a call; float32 for narrower activations.
        act_stds: the same of the unbiased standard deviation.

    >>> model = SequentialModel(nn.Flatten(), nn.ReLU())
    >>> _ = model(torch.tensor([[[-1.0, 3.0]]]))
    >>> model.act_means
    [[tensor(1.)], [tensor(1.5000)]]
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.act_means: list[list[Tensor]] = [[] for _ in layers]
        self.act_stds: list[list[Tensor]] = [[] for _ in layers]

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last layer gives."""
        for layer, means, stds in zip(self.layers, self.act_means, self.act_stds, strict=True):
            x = layer(x)
            values = x.detach().to(torch.promote_types(x.dtype, torch.float32))
            means.append(values.mean().cpu())
            stds.append(values.std().cpu())
        return x

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, which: int | slice) -> nn.Module | nn.ModuleList:
        return self.layers[which]
