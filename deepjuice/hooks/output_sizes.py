"""Which outputs the layers of a network have, found by running it once on zeros."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from deepjuice.hooks.grabbing import ActivationMapGrabber
from deepjuice.hooks.hooks_handle import chosen
from deepjuice.tracing import evaluating
from juicyfruits.errors import InputError


def dummy_output(model: nn.Module, input_size: Sequence[int], layer_ids: Iterable[str] | None = None) -> dict[str, Any]:
    """Return {id: output} of the layers of a network for zeros, in eval mode and without gradients.

    The network stays in the mode it was in. Errors are those of `HooksHandle`.

    Args:
        model: any module that takes one tensor of floating-point numbers.
        input_size: shape of its input, batch dimension included.
        layer_ids: dotted names; by default, all sub-modules that the network calls, itself (`''`) among them.

    >>> dummy_output(nn.Sequential(nn.ReLU()), [1, 2])
    {'': tensor([[0., 0.]]), '0': tensor([[0., 0.]])}
    """
    grabber = ActivationMapGrabber(
        model, [name for name, _ in model.named_modules()] if layer_ids is None else layer_ids
    )
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    with evaluating(grabber):
        _, taken = grabber._run(torch.zeros(tuple(input_size), dtype=like.dtype, device=like.device))
    ids = grabber.registered_submodules
    return chosen(taken, [i for i in ids if i in taken] if layer_ids is None else ids)


def output_sizes(
    model: nn.Module,
    input_size: Sequence[int],
    layer_ids: Iterable[str] | None = None,
    has_batch_dim: bool = False,
    ignore_non_tensor_outs: bool = True,
) -> dict[str, torch.Size]:
    """Return {id: shape of the output, without the batch dimension} of the layers of a network.

    Args:
        model: any module that takes one tensor of floating-point numbers.
        input_size: shape of its input.
        layer_ids: dotted names; by default, all sub-modules that the network calls, itself (`''`) among them.
        has_batch_dim: whether `input_size` includes the batch dimension; otherwise it is of one input.
        ignore_non_tensor_outs: leave out layers that return no tensor, instead of raising.

    Raises:
        ValueError: `input_size` is empty; an output has no dimension beside the batch, or is no tensor.
        KeyError: a layer does not exist, or is not called.

    >>> output_sizes(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), [3, 5, 5])
    {'': torch.Size([72]), '0': torch.Size([8, 3, 3]), '1': torch.Size([72])}
    """
    if len(input_size) == 0:
        raise InputError("input_size is empty; expected the shape of an input, such as (3, 224, 224).")
    sizes = {}
    for layer_id, output in dummy_output(model, input_size if has_batch_dim else [1, *input_size], layer_ids).items():
        if isinstance(output, torch.Tensor):
            if output.ndim <= 1:
                raise InputError(
                    f"output of layer {layer_id!r} has shape {tuple(output.shape)}, without a dimension beside the "
                    "batch; see `dummy_output` for the output itself."
                )
            sizes[layer_id] = output.shape[1:]
        elif not ignore_non_tensor_outs:
            raise InputError(
                f"output of layer {layer_id!r} is no tensor but {type(output).__name__}, which has no size; see "
                "`dummy_output` for the output itself."
            )
    return sizes


def output_size(
    model: nn.Module, input_size: Sequence[int], has_batch_dim: bool = False, layer_id: str | None = None
) -> torch.Size:
    """Return the shape of one layer's output (by default the network's), without the batch dimension.

    Arguments and errors are those of `output_sizes`; a layer that returns no tensor raises.

    >>> output_size(nn.Conv2d(3, 8, 3), [3, 5, 5])
    torch.Size([8, 3, 3])
    """
    layer_id = layer_id or ""
    return output_sizes(model, input_size, [layer_id], has_batch_dim, ignore_non_tensor_outs=False)[layer_id]
