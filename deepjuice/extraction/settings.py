"""All settings of extractions that keep whole maps, checked in one place."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from deepjuice.devices import get_device
from deepjuice.extraction.inputs import SAMPLE_SIZE, Batch, Inputs
from deepjuice.extraction.passes import PRECISIONS
from deepjuice.tracing import run_model
from juicyfruits.errors import InputError, near_names

STRATEGIES = ("join", "list", "stack")
ALIASES = {"max_memory_limit": "memory_limit", "n_samples": "n_inputs"}
SEEN_BY_THE_SAMPLE = ("device", "input_dim", "tensor_fn", "forward_fn", "sample_size")


@dataclass(frozen=True)
class MapSettings:
    """What to keep of a forward pass, and in which form.

    Attributes:
        device: where the model runs: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`.
        output_device: where the maps are kept.
        batch_strategy: `'join'` gives full tensors filled batch by batch, `'list'` one `FeatureMaps` a batch,
            `'stack'` the same list as `BatchedFeatureMaps`.
        flatten: whether to keep each input's map as one row.
        keep, skip: which maps to keep or to leave out, all being kept by default: uids, module paths, or parts of
            uids such as a class name.
        remove_duplicates: whether maps that repeat another's values are left out; one that `keep` names by its uid
            stays.
        save_inputs: whether the batches themselves are kept too, as `FeatureMaps.inputs`.
        input_dim: which dimension of the maps counts the inputs (1 for sequence-first networks); it is moved to the
            front. The inputs themselves always count along their first dimension.
        report_irregularities: whether to say which maps have shapes that differ between batches. Under `'join'` these
            are left out and listed in `FeatureMaps.irregular`, where they would be an error otherwise.
        tensor_fn: called as `tensor_fn(tensor)` on every map before it is kept; where its signature has them it also
            gets `batch_iter` (`None` for the sample, then the index of the loader's batch), `mask` (the batch's
            `attention_mask`) and `uid`. It may return fewer rows than it got: then they are joined as they come.
        forward_fn: called as `forward_fn(model, x)` in the place of `model(x)`.
        n_inputs: rows that each map will have, where tensor_fn makes them fewer than the inputs; `n_samples` is
            another name of it.
        sample_size: inputs to look at before the extraction.
        reduce_size_by: how many inputs tensor_fn makes into one row, for plans before n_inputs is known.
        exclude_oversize: whether a map that alone is larger than the memory limit is left out, and not an error.
        memory_limit: most bytes that the maps of one pass may take on output_device, as a number or `'16GB'`; what is
            free there by default (`None` or `'auto'`). `max_memory_limit` is another name of it.
        precision: `'float32'` (as the model is), or `'float16'` or `'bfloat16'` by autocast.
        progress: whether to print reports and show bars; without it nothing is printed at all.
        batch_progress: whether to show the bar over the loader's batches.

    >>> MapSettings.of({"n_samples": 3}).n_inputs
    3
    """

    device: str | int | torch.device = "auto"
    output_device: str | int | torch.device = "cpu"
    batch_strategy: str = "join"
    flatten: bool = False
    keep: str | Sequence[str] | None = None
    skip: str | Sequence[str] | None = None
    remove_duplicates: bool = True
    save_inputs: bool = False
    input_dim: int = 0
    report_irregularities: bool = False
    tensor_fn: Callable[..., torch.Tensor] | None = None
    forward_fn: Callable[[nn.Module, Any], Any] | None = None
    n_inputs: int | None = None
    sample_size: int = SAMPLE_SIZE
    reduce_size_by: float = 1
    exclude_oversize: bool = False
    memory_limit: str | int | float | None = None
    precision: str = "float32"
    progress: bool = True
    batch_progress: bool = True

    @classmethod
    def of(cls, given: Mapping[str, Any], base: MapSettings | None = None, asker: str = "extraction") -> MapSettings:
        """Return `base`, or the defaults, with the given settings changed.

        Raises:
            InputError: for an unknown name or value, or for both names of one setting.
        """
        names = [field.name for field in fields(cls)]
        changes: dict[str, Any] = {}
        for name, value in given.items():
            true_name = ALIASES.get(name, name)
            if true_name not in names:
                raise InputError(f"setting {name!r} of {asker}: {near_names(name, [*names, *ALIASES])}")
            if changes.get(true_name) is not None and value is not None:
                raise InputError(f"{true_name} and its other name are two names of one setting: give one of them.")
            changes[true_name] = value if value is not None else changes.get(true_name)
        return replace(base or cls(), **changes)

    def __post_init__(self) -> None:
        for name, options in (("batch_strategy", STRATEGIES), ("precision", tuple(PRECISIONS))):
            if getattr(self, name) not in options:
                expected = ", ".join(map(repr, options))
                raise InputError(f"{name}={getattr(self, name)!r}: expected one of {expected}.")
        for name, least in (("n_inputs", 1), ("sample_size", 1), ("reduce_size_by", 1), ("input_dim", 0)):
            value = getattr(self, name)
            whole = isinstance(value, int) or name == "reduce_size_by"
            if value is not None and not (whole and value >= least):
                raise InputError(f"{name}={value!r}: expected a number, at least {least}.")
        for name in ("tensor_fn", "forward_fn"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise InputError(f"{name}={getattr(self, name)!r}: expected a function.")
        object.__setattr__(self, "device", get_device(self.device))
        object.__setattr__(self, "output_device", get_device(self.output_device))

    @property
    def forward(self) -> Callable[[nn.Module, Any], Any]:
        """How a batch is put through the model."""
        return self.forward_fn or run_model

    @cached_property
    def transform(self) -> TensorFn | None:
        """`tensor_fn`, ready to be called with whatever of a batch it asks for."""
        return TensorFn(self.tensor_fn) if self.tensor_fn else None

    def n_rows(self, inputs: Inputs) -> int:
        """Return how many rows each joined map is expected to have."""
        return self.n_inputs or math.ceil(inputs.n_inputs / self.reduce_size_by)


class TensorFn:
    """A user's function of a map, called with those of `batch_iter`, `mask` and `uid` that its signature has."""

    def __init__(self, function: Callable[..., torch.Tensor]):
        self.function = function
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:  # some built-in functions have none
            parameters = ()
        self.takes = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if any(p.kind == p.VAR_KEYWORD for p in parameters):
            self.takes.add("batch_iter")

    def __call__(self, uid: str, tensor: torch.Tensor, batch: Batch, batch_iter: int | None) -> torch.Tensor:
        """Return the function's tensor, (rows, ...)."""
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        mask = mask.to(tensor.device) if mask is not None and "mask" in self.takes else None
        offered = {"batch_iter": batch_iter, "mask": mask, "uid": uid}
        try:
            made = self.function(tensor, **{name: value for name, value in offered.items() if name in self.takes})
        except Exception as error:
            error.add_note(f"(tensor_fn was given feature map {uid}, shape {list(tensor.shape)}, batch {batch_iter})")
            raise
        if not isinstance(made, torch.Tensor) or made.ndim == 0 or len(made) > len(tensor):
            got = list(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
            raise InputError(
                f"tensor_fn of feature map {uid}: expected a tensor of at most {len(tensor)} rows, as many as it was "
                f"given, got {got}; let it return one row an input or a group of inputs."
            )
        return made.detach()
