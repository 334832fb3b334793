"""The influential neurons of a layer: those with the largest activations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepjuice.influence.accept import accept, at_least_single
from deepjuice.influence.layers import Layer
from juicyfruits.errors import InputError

Norm = float | str
NORMS = ("fro", "nuc", 1, 2, float("inf"))
"""Orders of matrix norms: of all elements, of singular values; the largest column, singular value, row."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons of one layer, of several pictures.

    Attributes:
        picture, channel, position: (n,) int64; of a vector's units, the position is 0. Of a neuron that is a whole
            channel, it is where the channel is largest.
        weight: (n,) share of its picture's influence.
    """

    picture: Tensor
    channel: Tensor
    position: Tensor
    weight: Tensor

    def place(self, layer: Layer) -> Tensor:
        """Return their numbers in the layer: channel * positions + position."""
        return self.channel * layer.n_positions + self.position

    def __len__(self) -> int:
        return len(self.picture)


def activation(layer: Layer, held: dict[int, Tensor], same_sign: bool = True) -> Tensor:
    """Return what a layer's last operation gives out, (n, channels, positions); 0 where its first had another sign."""
    tail = layer.arrange(held[layer.tail], layer.tail_places)
    if not same_sign or layer.keeps_signs:
        return tail
    head = layer.arrange(held[layer.head.index], layer.head_places)
    return torch.where((head > 0) == (tail > 0), tail, 0)


def check_finite(layer: Layer, values: Tensor) -> Tensor:
    """Return a layer's values, which hold neither NaN nor infinity."""
    if not torch.isfinite(values).all():
        raise InputError(f"layer {layer.index} ({layer.names[-1]}): NaN or infinity; check the network.")
    return values


def largest_channels(
    layer: Layer, activation: Tensor, threshold: float, norm: Norm | None = None, use_abs: bool = False
) -> Neurons:
    """Find the channels that carry a share of a layer's activation.

    A channel's value is its largest activation, 0 if that is negative; or the norm of its activations.

    Args:
        layer: whose activation it is.
        activation: (n, channels, positions).
        threshold: of the sum over channels, in (0, 1].
        norm: order of the norm, instead of the maximum; one of `NORMS`.
        use_abs: whether to take magnitudes instead of positive values.
    """
    values, position = (activation.abs() if use_abs else activation).max(dim=2)
    if norm is not None:
        values = _norms(layer, activation, norm)
    values = check_finite(layer, values).clamp(min=0)
    found = accept(values, threshold)
    return Neurons(found.row, found.column, position[found.row, found.column], found.weight)


def _norms(layer: Layer, activation: Tensor, norm: Norm) -> Tensor:
    """Return norms of maps (height, width) as matrices, and of other channels as vectors: (n, channels)."""
    activation = at_least_single(activation)
    if len(layer.positions) == 2:
        return torch.linalg.matrix_norm(activation.unflatten(2, layer.positions), ord=norm)
    return torch.linalg.vector_norm(activation, ord=2 if isinstance(norm, str) else norm, dim=2)
