"""Which inputs an output of a convolution or of a pooling sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deepjuice.influence.operations import arguments
from deepjuice.tracing.graph import Operation
from juicyfruits.errors import InputError

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVG_POOL = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


@dataclass(frozen=True)
class Convolution:
    """The numbers of a call of `conv2d`.

    Attributes:
        weight: (out, in / groups, kernel height, kernel width).
        bias: (out,).
        padding, padding_after: (top, left) and (bottom, right).
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    padding_after: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    kernel: tuple[int, int]

    @classmethod
    def of(cls, operation: Operation) -> Convolution:
        """Read them from a recorded call."""
        given = arguments(operation, _CONV, {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1})
        weight = given["weight"]
        if not isinstance(weight, Tensor):
            raise InputError(f"operation 'conv2d' at {operation.name!r}: weights that depend on the input, unfollowed.")
        kernel, dilation = tuple(weight.shape[2:]), _pair(given["dilation"])
        before = after = given["padding"]
        if before == "same":
            spare = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            before, after = tuple(n // 2 for n in spare), tuple(n - n // 2 for n in spare)
        elif before == "valid":
            before = after = 0
        bias = None if given["bias"] is None else given["bias"].detach()
        stride, groups = _pair(given["stride"]), given["groups"]
        return cls(weight.detach(), bias, stride, _pair(before), _pair(after), dilation, groups, kernel)

    def pad(self, x: Tensor) -> Tensor:
        """Surround pictures (..., height, width) with the zeros that the convolution sees."""
        (top, left), (bottom, right) = self.padding, self.padding_after
        return F.pad(x, (left, right, top, bottom))


def convolution_fields(
    call: Convolution, row: Tensor, column: Tensor, in_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return what outputs at (row, column) see: (n, kernel height * width) flat positions, and which are inside."""
    return _fields(row, column, call.kernel, call.stride, call.padding, call.dilation, in_size)


def pooling_fields(
    operation: Operation, row: Tensor, column: Tensor, in_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return the inputs of a pooling's outputs, as `convolution_fields`; where windows differ in size, padded."""
    if operation.kind in ("max_pool2d", "avg_pool2d"):
        names = _MAX_POOL if operation.kind == "max_pool2d" else _AVG_POOL
        given = arguments(operation, names, {"stride": None, "padding": 0, "dilation": 1})
        kernel = _pair(given["kernel_size"])
        stride = kernel if given["stride"] in (None, ()) else _pair(given["stride"])
        return _fields(row, column, kernel, stride, _pair(given["padding"]), _pair(given["dilation"]), in_size)
    out_size = (1, 1) if operation.kind == "mean" else operation.shape[-2:]
    lines, inside = zip(
        *(_adaptive(place, n_in, n_out) for place, n_in, n_out in zip((row, column), in_size, out_size, strict=True)),
        strict=True,
    )
    return _grid(lines, inside, in_size)


def _fields(row, column, kernel, stride, padding, dilation, in_size) -> tuple[Tensor, Tensor]:
    lines, inside = [], []
    for axis, place in enumerate((row, column)):
        steps = dilation[axis] * torch.arange(kernel[axis], device=place.device)
        line = place[:, None] * stride[axis] - padding[axis] + steps
        lines.append(line)
        inside.append((line >= 0) & (line < in_size[axis]))
    return _grid(lines, inside, in_size)


def _adaptive(place: Tensor, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
    """Return one axis of adaptive windows: from floor(i * in / out) to ceil((i + 1) * in / out)."""
    start, stop = place * n_in // n_out, -(-(place + 1) * n_in // n_out)
    longest = int((stop - start).max()) if len(place) else 1
    line = start[:, None] + torch.arange(longest, device=place.device)
    return line, line < stop[:, None]


def _grid(lines, inside, in_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    rows, columns = (
        line.clamp(0, size - 1) for line, size in zip(lines, in_size, strict=True)
    )  # what is outside is marked, and read from somewhere
    flat = rows[:, :, None] * in_size[1] + columns[:, None, :]
    return flat.flatten(1), (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list, torch.Size)):
        return tuple(value) if len(value) == 2 else (value[0], value[0])
    return (value, value)
