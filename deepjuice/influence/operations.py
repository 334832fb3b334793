"""What each torch function does to neurons: which move, which stay where they are, which combine several."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from deepjuice.tracing.graph import Operation, Source
from juicyfruits.errors import InputError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


RULES = {
    "conv2d": "contrib_conv2d",
    "linear": "contrib_linear",
    "max_pool2d": "contrib_max2d",
    "avg_pool2d": "contrib_avg_pool2d",
    "adaptive_avg_pool2d": "contrib_adaptive_avg_pool2d",
    "mean": "contrib_mean",
    "add": "contrib_add",
    "cat": "contrib_cat",
}
"""Operations with which a layer begins, and how its contributors are found. `add` and `cat` begin one only where they
join different layers."""

IDENTITY = "contrib_identity"

STAYING = _names(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish hardtanh hardswish hardsigmoid sigmoid "
    "logsigmoid tanh softplus softsign softshrink hardshrink tanhshrink threshold softmax log_softmax clamp clip "
    "batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm dropout dropout1d dropout2d "
    "dropout3d alpha_dropout feature_alpha_dropout add sub mul div truediv"
)
"""Every output belongs to the input at its place. `add` to `truediv` do so where the other number is a constant, and
`mul` where it is smaller: a gate."""

SIGN_KEEPING = _names(
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish tanh softsign dropout dropout1d dropout2d dropout3d "
    "alpha_dropout feature_alpha_dropout"
)
"""Of these an output is positive where the input is, and nowhere else."""

GATES = _names("sigmoid hardsigmoid softmax")
"""What a gate is made with."""

MOVING = _names(
    "flatten reshape view permute transpose movedim squeeze unsqueeze getitem chunk split unbind narrow select "
    "cat stack pad roll flip pixel_shuffle pixel_unshuffle channel_shuffle repeat tile expand T mT"
)
"""Outputs are inputs in other places, or constants."""

JOINING = ("cat", "stack")
"""Constants among the arguments of these become outputs; those of other moving operations say where to."""

COPYING = _names("clone contiguous to type_as float double half bfloat16 cpu cuda detach alias")


def moved(operation: Operation, places: dict[int, Tensor]) -> Tensor:
    """Return which input stands at every output of a moving operation.

    Args:
        operation: of a kind in `MOVING` or `COPYING`, recorded with one picture.
        places: source -> a number from 0 for each of its elements, -1 for constants; with the batch.

    Returns:
        The number of the element at every output; -1 for a constant.
    """
    if operation.kind in COPYING:
        return next(iter(places.values()))

    def numbers(source: Source) -> Tensor:
        return (places[source.index] + 1).contiguous()  # what an operation fills in, 0, becomes a constant

    def constant(tensor: Tensor) -> Tensor:
        return torch.zeros(tensor.shape, dtype=torch.int64) if operation.kind in JOINING else tensor.cpu()

    if operation.kind == "pad":
        args, kwargs = _zero_padding(operation)
    else:
        args, kwargs = tree_map_only(Tensor, constant, (operation.args, operation.kwargs))
    args, kwargs = tree_map_only(Source, numbers, (args, kwargs))
    try:
        found = operation.function(*args, **kwargs)
    except (RuntimeError, TypeError, IndexError) as error:
        raise InputError(f"operation {operation.kind!r} at {operation.name!r} cannot be followed ({error}).") from error
    return [tensor for tensor in tree_leaves(found) if isinstance(tensor, Tensor)][operation.part] - 1


def in_training(operation: Operation) -> bool:
    """Tell whether a dropout or norm does what it does in training, by chance or by the other pictures of a batch."""
    switch = operation.kwargs.get("training", operation.kwargs.get("train"))
    if switch is None and "dropout" in operation.kind:  # torch.dropout(x, p, True)
        switch = operation.args[-1] is True
    return operation.kind in STAYING and bool(switch) and operation.kwargs.get("p") != 0


def _zero_padding(operation: Operation) -> tuple[tuple, dict]:
    """Return the arguments of a pad that fills in zeros, whatever it fills in."""
    names = ("input", "pad", "mode", "value")
    given = arguments(operation, names, {"mode": "constant", "value": None})
    value = {} if given["mode"] != "constant" else {"value": 0}
    return (given["input"], given["pad"], given["mode"]), value


def arguments(operation: Operation, names: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name, as the function's own documentation calls them."""
    return {**defaults, **dict(zip(names, operation.args, strict=False)), **operation.kwargs}
