"""Layers as profiles see them: an operation that combines neurons, with the norms and activations that follow it.

A layer's neurons are laid out as (channel, position). Whatever a network does to the place of an activation (flatten,
permute, chunk, shuffle) is followed, so that a later operation's inputs are known as neurons of an earlier layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from deepjuice.influence.operations import (
    SIGN_KEEPING,
)
from deepjuice.tracing.graph import Operation
from juicyfruits.errors import InputError


@dataclass(frozen=True, eq=False)
class Input:
    """What a layer reads: the output of an operation, as neurons of the layers before.

    Attributes:
        operation: index of the operation whose output is read.
        slot: number of the layer before among the reader's sorted predecessors.
        places: for each element of that output, for one picture, its neuron there: channel * positions + position; -1
            where it is a constant.
        n_positions: of the layer before.
        axis: along which the reader has its channels, without the batch.
        reader: for messages.
    """

    operation: int
    slot: int
    places: Tensor
    n_positions: int
    axis: int
    reader: str

    @cached_property
    def channels(self) -> Tensor:
        """For each of the reader's channels its channel in the layer before, int64; -1 for a constant one.

        Raises:
            InputError: where one holds values of several channels of the layer before.
        """
        return self._one_each(self._places // self.n_positions, 1, "channels")

    @cached_property
    def positions(self) -> Tensor:
        """For each of the reader's positions its position in the layer before, int64; -1 for a constant one.

        Raises:
            InputError: where one holds values of several positions of the layer before.
        """
        return self._one_each(self._places % self.n_positions, 0, "positions")

    @property
    def _places(self) -> Tensor:
        return self.places[0].movedim(self.axis, 0).flatten(1)

    def _one_each(self, numbers: Tensor, dim: int, what: str) -> Tensor:
        """Return the one number along a dim of (channels, positions); constants have any."""
        numbers = torch.where(self._places < 0, -1, numbers)
        found = numbers.amax(dim, keepdim=True)
        if not ((numbers == found) | (numbers < 0)).all():
            raise InputError(
                f"operation at {self.reader!r}: its input mixes {what} of the layer before within one of its own; "
                f"profiles of {what} cannot follow it."
            )
        return found.squeeze(dim)


@dataclass(frozen=True, eq=False)
class Layer:
    """A step of a profile.

    Attributes:
        index: 0 for the network's input, and on in the order in which they run.
        operations: those of the layer; the first, its head, gives it its rule.
        rule: how its contributors are found, `contrib_conv2d`.
        tail: index of the last one.
        n_channels: number of channels, or of units of a vector.
        axis: which axis of the head's output numbers them, without the batch.
        positions: sizes of its space, such as (height, width); () for a vector.
        predecessors: the layers that it reads, sorted.
        inputs: a part for each activation among the first operation's arguments.
        head_places, tail_places: for each element of the head's and the tail's output, its neuron in the layer.
    """

    index: int
    operations: tuple[Operation, ...]
    rule: str
    tail: int
    n_channels: int
    axis: int
    positions: tuple[int, ...]
    predecessors: tuple[int, ...]
    inputs: tuple[Input, ...]
    head_places: Tensor
    tail_places: Tensor

    @property
    def head(self) -> Operation:
        """The first operation."""
        return self.operations[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its operations."""
        return tuple(operation.name for operation in self.operations)

    @property
    def keeps_signs(self) -> bool:
        """Whether what is positive behind the first operation is so behind the last, and nothing else."""
        return all(operation.kind in SIGN_KEEPING for operation in self.operations[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of an activation with one picture: (1, channels, *positions)."""
        return (1, self.n_channels, *self.positions)

    @property
    def n_positions(self) -> int:
        """Number of positions; 1 for a vector."""
        return prod(self.positions)

    def arrange(self, output: Tensor, places: Tensor) -> Tensor:
        """Lay an output (n, ...) of the head or tail out as (n, channels, positions)."""
        flat = output.reshape(len(output), -1)
        if places is not self.head_places or self.axis != 0:
            flat = torch.empty_like(flat).index_copy_(1, places.flatten().to(flat.device), flat)
        return flat.view(len(flat), self.n_channels, self.n_positions)
