"""A look at a network with a few inputs: which maps it has, how large they are, which are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import xxhash
from torch import nn

from deepjuice.extraction.inputs import Batch, take
from deepjuice.tracing import Event, Tracer, evaluating, n_rows, run_model, tensors_in
from juicyfruits.errors import InputError


@dataclass(frozen=True, slots=True)
class MapRecord:
    """What is known of one feature map before the real extraction.

    Attributes:
        uid: `Class-depth-index` of the call that made it (with `.key` where the call made several).
        path: dotted path of the module, `''` for the root.
        call: 0 for the module's first call in a pass.
        class_name, depth: of the module.
        index: position among all maps, in the order in which calls begin (containers before what they contain).
        order: position among all maps, in the order in which calls complete: the order of the computation.
        shape: shape of one input's map, without the batch dimension.
        itemsize: bytes a value, in the model's own precision.
        alias_of: uid of the first map to complete with the same values, `None` for a distinct map.
    """

    uid: str
    path: str
    call: int
    class_name: str
    depth: int
    index: int
    order: int
    shape: tuple[int, ...]
    itemsize: int = 4
    alias_of: str | None = None

    @property
    def call_uid(self) -> str:
        """Uid of the call that made the map, without the `.key` of its place in the output."""
        start = f"{self.class_name}-{self.depth}-"
        return start + self.uid.removeprefix(start).split(".", 1)[0]

    @property
    def n_features(self) -> int:
        """Number of values of one input's flattened map."""
        return int(torch.Size(self.shape).numel())

    @property
    def n_bytes(self) -> int:
        """Bytes of one input's map, as the model makes it."""
        return self.itemsize * self.n_features


@dataclass(frozen=True)
class Inspection:
    """All maps of a model, and the outputs that are not maps, each with the reason."""

    records: list[MapRecord]
    refused: dict[str, str]

    @property
    def distinct(self) -> list[MapRecord]:
        """The maps that repeat no other, in the order in which calls begin."""
        return [record for record in self.records if record.alias_of is None]


def batch_map(tensor: torch.Tensor, n_rows: int, input_dim: int = 0) -> str | None:
    """Say why a tensor is not a feature map with one row an input, or `None` if it is one."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return "a nested or sparse tensor, not one block of values"
    if not tensor.is_floating_point():
        return f"values of type {str(tensor.dtype).removeprefix('torch.')}, not floating point"
    if tensor.ndim == 1 and len(tensor) == n_rows:
        return f"shape {list(tensor.shape)}: a number an input, not a map of features"
    if tensor.ndim < max(2, input_dim + 1) or tensor.shape[input_dim] != n_rows:
        place = "first dimension" if input_dim == 0 else f"dimension {input_dim}"
        return f"shape {list(tensor.shape)} for {n_rows} inputs: the {place} is not the batch"
    return None


def inspect_maps(
    model: nn.Module,
    sample: Batch,
    *,
    forward: Callable[[nn.Module, Any], Any] = run_model,
    input_dim: int = 0,
    transform: Callable[[str, torch.Tensor], torch.Tensor] | None = None,
) -> Inspection:
    """Run a few inputs through a model and describe every map it makes.

    Two maps are duplicates when all their flattened values agree exactly, whatever their shapes; the first to
    complete is kept, so that leaves beat the containers that end in them. Use at least two inputs: on one, different
    layers agree by chance more easily.

    Args:
        model: on the same device as the sample; run in eval mode.
        sample: a few inputs, shape (n, ...), n >= 1.
        forward: how they are put through the model.
        input_dim: which dimension of the maps counts the inputs.
        transform: what is done to every map, (n, ...), before it is described; called with its uid and the map.

    Raises:
        InputError: for a model without maps, or one that goes back to train mode by itself.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Dropout())
    >>> [(r.uid, r.alias_of) for r in inspect_maps(net, torch.randn(2, 4)).records if r.depth]
    [('Linear-1-1', None), ('ReLU-1-2', None), ('Dropout-1-3', 'ReLU-1-2')]
    """
    made: dict[str, list[MapRecord]] = {}
    first_with: dict[tuple[int, bytes], str] = {}
    refused: dict[str, str] = {}
    fixed = _maps_of_fixed_size(model, sample, forward, input_dim)

    def describe(event: Event) -> None:
        _check_mode(event)
        call, maps = event.call, made.setdefault(event.call.uid, [])
        for uid, tensor in _candidates(event, refused):
            reason = batch_map(tensor, n_rows(sample), input_dim) or fixed.get(uid)
            if reason:
                refused[uid] = reason
                continue
            tensor = tensor.detach().movedim(input_dim, 0)
            tensor = transform(uid, tensor.clone()) if transform else tensor
            first = first_with.setdefault(_fingerprint(tensor), uid)
            maps.append(
                MapRecord(
                    uid=uid,
                    path=call.path,
                    call=call.number,
                    class_name=call.class_name,
                    depth=call.depth,
                    index=-1,  # known when all calls have begun
                    order=sum(map(len, made.values())),
                    shape=tuple(tensor.shape[1:]),
                    itemsize=tensor.element_size(),
                    alias_of=None if first == uid else first,
                )
            )

    with evaluating(model), Tracer(model, describe, forward) as tracer:
        tracer(sample)
    in_order = [record for call in tracer.calls for record in made.get(call.uid, [])]
    records = [replace(record, index=index) for index, record in enumerate(in_order)]
    if not records:
        raise InputError(f"{type(model).__name__}: expected feature maps, found none; refused were {refused}.")
    return Inspection(records, refused)


def _maps_of_fixed_size(
    model: nn.Module, sample: Batch, forward: Callable[[nn.Module, Any], Any], input_dim: int
) -> dict[str, str]:
    """Find, by fewer texts, what only happens to have a row for each: a position embedding of as many tokens."""
    fewer = n_rows(sample) // 2 if isinstance(sample, Mapping) else 0  # a few pictures are as many as nothing else
    fixed: dict[str, str] = {}

    def look(event: Event) -> None:
        for uid, tensor in tensors_in(event.call.uid, event.output):
            if tensor.ndim > input_dim and tensor.shape[input_dim] == n_rows(sample):
                fixed[uid] = f"{n_rows(sample)} rows also for {fewer} inputs: they do not stand for inputs"

    if fewer:
        with evaluating(model), Tracer(model, look, forward) as tracer:
            tracer(take(sample, slice(0, fewer)))
    return fixed


def _check_mode(event: Event) -> None:
    if event.module.training:
        raise InputError(
            f"module {event.call.path!r} ({event.call.class_name}): expected eval mode, but the model puts it into "
            "train mode while it runs, so that its maps would change from run to run; take train() out of its forward."
        )


def _candidates(event: Event, refused: dict[str, str]) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of an output by uid; what can hold no map is noted as refused."""
    call = event.call
    if "parametrizations" in call.path.split("."):
        refused[call.uid] = "a parametrization, which makes a weight and no map"
        return []
    found = list(tensors_in(call.uid, event.output))
    if not found:
        refused[call.uid] = f"an output of type {type(event.output).__name__} without tensors"
    return found


def _fingerprint(tensor: torch.Tensor) -> tuple[int, bytes]:
    """Return the size and a 128-bit hash of the values, equal for equal values (-0.0 counts as 0.0)."""
    values = (tensor.detach() + 0.0).contiguous().view(-1).view(torch.uint8).cpu().numpy()
    return tensor.numel(), xxhash.xxh3_128_digest(values)
