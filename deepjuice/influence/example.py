"""An input that a network takes, where none is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepjuice.tracing.graph import CallGraph
from juicyfruits.errors import InputError

SIZES = (224, 299, 32, 28, 64, 96)


def find_example(model: nn.Module, example: Tensor | None = None) -> CallGraph:
    """Record a network's call graph on the first of some inputs, or of ones like those that it was made for.

    The first convolution tells how many channels they have, and sizes of pictures are tried; a first linear layer
    tells the length of a vector.

    Raises:
        InputError: where no such input can be found.
    """
    parameter = next(model.parameters(), torch.zeros(1))
    if example is not None:
        if not isinstance(example, Tensor) or not example.is_floating_point() or example.ndim < 2 or not len(example):
            raise InputError("example: expected a batch of floats, (n, channels, height, width) or (n, features).")
        return _record(model, example[:1].to(parameter.device, parameter.dtype))
    shapes, errors = _shapes(model), []
    for shape in shapes:
        try:
            return _record(model, torch.zeros(shape, device=parameter.device, dtype=parameter.dtype))
        except _Refused as error:
            errors.append(str(error))
    tried = " ".join(errors[:1]) or f"the inputs of {type(model).__name__} are unknown."
    raise InputError(f"{tried} Give example=, a batch like the network's inputs.")


class _Refused(InputError):
    """A network raised an error at an example."""


def _record(model: nn.Module, example: Tensor) -> CallGraph:
    try:
        return CallGraph(model, example)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a network says of a size
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise _Refused(f"example {tuple(example.shape)}: the network does not take it ({said[0]}).") from error


def _shapes(model: nn.Module) -> list[tuple[int, ...]]:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return [(1, module.in_channels, size, size) for size in SIZES]
        if isinstance(module, nn.Linear):
            return [(1, module.in_features)]
    return []
