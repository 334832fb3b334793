"""Whole feature maps: in one go (`get_feature_maps`) or by groups of layers that fit in memory (`FeatureExtractor`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from deepjuice.devices import get_device, get_device_name
from deepjuice.extraction.feature_maps import BatchedFeatureMaps, FeatureMaps
from deepjuice.extraction.inputs import Inputs, ModelInputs, to_model
from deepjuice.extraction.inspection import Inspection, MapRecord, inspect_maps
from deepjuice.extraction.passes import run_pass
from deepjuice.memory import available_memory, format_bytes, parse_bytes, printed_total
from deepjuice.tracing import Event, tensors_in
from juicyfruits.errors import InputError, near_names

STRATEGIES = ("join", "list", "stack")


def get_feature_maps(
    model: nn.Module,
    inputs: ModelInputs,
    device: str | torch.device = "auto",
    output_device: str | torch.device = "cpu",
    batch_strategy: str = "join",
    flatten: bool = False,
    keep: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    remove_duplicates: bool = True,
    progress: bool = True,
) -> FeatureMaps | list[FeatureMaps] | BatchedFeatureMaps:
    """Run a model over inputs once and keep its feature maps, all of them at the same time.

    Args:
        model: moved to `device` and run in eval mode without gradients.
        inputs: a loader, one tensor, or a list of batches.
        device: where the model runs: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`.
        output_device: where the maps are kept.
        batch_strategy: `'join'` returns full tensors filled batch by batch, `'list'` one `FeatureMaps` a batch,
            `'stack'` the same list as `BatchedFeatureMaps`.
        flatten: whether to keep each input's map as one row.
        keep, skip: uids to keep or to leave out; all by default.
        remove_duplicates: whether maps that repeat another's values are left out.
        progress: whether to show a bar and say what is kept.

    Returns:
        Maps by uid in the order in which calls begin, each of shape (inputs, ...) and the model's dtype.

    Raises:
        InputError: for an unknown strategy or uid, or a model whose calls differ between batches.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> maps = get_feature_maps(net, torch.randn(5, 4), device="cpu", progress=False)
    >>> {uid: tuple(tensor.shape) for uid, tensor in maps.items()}
    {'Linear-1-1': (5, 3), 'ReLU-1-2': (5, 3)}
    """
    _check_strategy(batch_strategy)
    inputs, device, output_device = Inputs.of(inputs), get_device(device), get_device(output_device)
    inspection = _sample(model, inputs, device, output_device, progress)
    records = _choose(inspection, keep, skip, remove_duplicates)
    if progress:
        total, removed = len(inspection.records), len(inspection.records) - len(inspection.distinct)
        note = f" ({removed} duplicates removed)" if remove_duplicates else ""
        print(f"Keeping {len(records)} / {total} total maps{note}.")
    return _collect(model, inputs, records, device, output_device, batch_strategy, flatten, progress)


class FeatureExtractor:
    """Feature maps by groups of layers, each group small enough for the memory limit; one pass over the inputs a group.

    Iterating yields one `FeatureMaps` a group (`BatchedFeatureMaps` under `'stack'`, a list under `'list'`), and can
    be repeated. Groups are filled greedily in the order in which calls begin.

    Args:
        model, inputs, device, output_device, batch_strategy, flatten, keep, skip: as for `get_feature_maps`.
        memory_limit: most bytes that one group may take on `output_device`, as a number or `'16GB'`; by default what
            is free there.
        max_memory_limit: another name of `memory_limit`.
        remove_duplicates: by default duplicates are yielded too, and counted in the report.
        initial_report: whether to print the plan.
        progress: whether to show bars.

    Raises:
        InputError: when a single map is larger than the limit, naming it and what it needs.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: ModelInputs,
        device: str | torch.device = "auto",
        output_device: str | torch.device = "cpu",
        batch_strategy: str = "join",
        memory_limit: str | int | None = None,
        max_memory_limit: str | int | None = None,
        flatten: bool = False,
        keep: Sequence[str] | None = None,
        skip: Sequence[str] | None = None,
        remove_duplicates: bool = False,
        initial_report: bool = True,
        progress: bool = True,
    ):
        if memory_limit is not None and max_memory_limit is not None:
            raise InputError("memory_limit and max_memory_limit are two names of one setting: give one of them.")
        self.model = model
        self.inputs = Inputs.of(inputs)
        self.device, self.output_device = get_device(device), get_device(output_device)
        self.progress = progress
        self.inspection = _sample(model, self.inputs, self.device, self.output_device, initial_report)
        self._settings: dict[str, Any] = {
            "batch_strategy": batch_strategy,
            "flatten": flatten,
            "keep": keep,
            "skip": skip,
            "remove_duplicates": remove_duplicates,
            "memory_limit": memory_limit if memory_limit is not None else max_memory_limit,
        }
        self.modify_settings()
        if initial_report:
            print(self)

    def modify_settings(self, **settings: Any) -> None:
        """Change settings from the next iteration on: batch_strategy, flatten, keep, skip, remove_duplicates,
        memory_limit (or max_memory_limit)."""
        if "max_memory_limit" in settings:
            settings = {"memory_limit": settings.pop("max_memory_limit"), **settings}
        for name in settings:
            if name not in self._settings:
                raise InputError(f"setting {name!r} of FeatureExtractor: {near_names(name, self._settings)}")
        merged = {**self._settings, **settings}
        _check_strategy(merged["batch_strategy"])
        records = _choose(self.inspection, merged["keep"], merged["skip"], merged["remove_duplicates"])
        limit = merged["memory_limit"]
        limit = available_memory(self.output_device) if limit is None else parse_bytes(limit)
        self.groups = _group(records, self.inputs.n_inputs, limit)
        self._settings, self.memory_limit = merged, limit

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[FeatureMaps | list[FeatureMaps] | BatchedFeatureMaps]:
        strategy, flatten = self._settings["batch_strategy"], self._settings["flatten"]
        for group in list(self.groups):
            yield _collect(
                self.model, self.inputs, group, self.device, self.output_device, strategy, flatten, self.progress
            )

    def get_uids(self) -> list[str]:
        """Return the uids of all maps that iterating yields."""
        return [record.uid for group in self.groups for record in group]

    def __repr__(self) -> str:
        records = [record for group in self.groups for record in group]
        n_inputs = self.inputs.n_inputs
        n_duplicates = len(self.inspection.records) - len(self.inspection.distinct)
        lines = [
            f"FeatureExtractor Handle for {type(self.model).__name__}",
            f"  {len(records)} feature maps (+{n_duplicates} duplicates); {n_inputs} inputs",
            f"  Memory required for full extraction: {_printed_size(records, n_inputs)}",
            f"  Memory usage limiting device set to: {self.output_device}",
            f"  Memory usage limit currently set to: {format_bytes(self.memory_limit, 3)}",
            f"  {len(self)} batch(es) required for current memory limit ",
        ]
        for number, group in enumerate(self.groups, 1):
            lines.append(f"   Batch-{number:03d}: {len(group)} feature maps; {_printed_size(group, n_inputs)}")
        return "\n".join(lines)


def _printed_size(records: list[MapRecord], n_inputs: int) -> str:
    return printed_total((record.n_bytes for record in records), times=n_inputs)


def _check_strategy(batch_strategy: str) -> None:
    if batch_strategy not in STRATEGIES:
        raise InputError(f"batch_strategy={batch_strategy!r}: expected one of {', '.join(map(repr, STRATEGIES))}.")


def _sample(
    model: nn.Module, inputs: Inputs, device: torch.device, output_device: torch.device, report: bool
) -> Inspection:
    if report:  # the wording is what users' notebooks and logs show
        names = f"{get_device_name(device)} to {get_device_name(output_device)}"
        print(f"Extracting sample feature_maps with torchinfo ({names})")
    return inspect_maps(model, to_model(inputs.sample, model.to(device), device))


def _choose(
    inspection: Inspection, keep: Sequence[str] | None, skip: Sequence[str] | None, remove_duplicates: bool
) -> list[MapRecord]:
    """Return the records to keep; a uid that is asked for by name is kept even if it is a duplicate."""
    known = [record.uid for record in inspection.records]
    if isinstance(keep, str) or isinstance(skip, str):
        raise InputError(f"keep and skip: expected lists of uids, got the text {keep or skip!r}; put it into a list.")
    for uid in [*(keep or ()), *(skip or ())]:
        if uid in inspection.refused:
            raise InputError(f"feature map {uid!r} cannot be kept: {inspection.refused[uid]}.")
        if uid not in known:
            raise InputError(f"feature map {uid!r} is not one of this model's {len(known)}: {near_names(uid, known)}")
    records = inspection.distinct if remove_duplicates and keep is None else inspection.records
    chosen = [r for r in records if (keep is None or r.uid in keep) and r.uid not in (skip or ())]
    if not chosen:
        raise InputError(f"keep and skip leave none of the {len(known)} feature maps; keep at least one.")
    return chosen


def _group(records: list[MapRecord], n_inputs: int, limit: int) -> list[list[MapRecord]]:
    """Fill groups greedily, in order, each at most `limit` bytes."""
    groups: list[list[MapRecord]] = []
    used = 0
    for record in records:
        size = record.n_bytes * n_inputs
        if size > limit:
            raise InputError(
                f"memory limit {format_bytes(limit)}: feature map {record.uid} alone needs {format_bytes(size)} for "
                f"{n_inputs} inputs; raise the limit to at least that, leave the map out with skip=, or project the "
                "maps instead of keeping them (deepjuice extract)."
            )
        if not groups or used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(record)
        used += size
    return groups


def _collect(
    model: nn.Module,
    inputs: Inputs,
    records: list[MapRecord],
    device: torch.device,
    output_device: torch.device,
    batch_strategy: str,
    flatten: bool,
    progress: bool,
) -> FeatureMaps | list[FeatureMaps] | BatchedFeatureMaps:
    """Run the model over all batches and copy the chosen maps out of each event, before anything overwrites them."""
    wanted = {record.uid: record.alias_of for record in records}
    aliases = {uid: first for uid, first in wanted.items() if first in wanted}
    joined: dict[str, torch.Tensor] = {}
    current: dict[str, torch.Tensor] = {}
    batches: list[FeatureMaps] = []

    def copy(event: Event) -> None:
        for uid, tensor in tensors_in(event.call.uid, event.output):
            if uid not in wanted:
                continue
            tensor = tensor.detach().flatten(1) if flatten else tensor.detach()
            if batch_strategy != "join":
                current[uid] = tensor.to(output_device, copy=True)
                continue
            if uid not in joined:
                shape = (inputs.n_inputs, *tensor.shape[1:])
                joined[uid] = torch.empty(shape, dtype=tensor.dtype, device=output_device)
            _check_shape(uid, joined[uid], tensor, event.rows)
            joined[uid][event.rows] = tensor.to(output_device)

    bar = tqdm(desc="Feature Extraction (DataLoader)", total=inputs.n_batches, disable=not progress)

    def finish(rows: slice) -> None:
        bar.update()
        if batch_strategy != "join":
            batches.append(FeatureMaps({uid: current[uid] for uid in wanted}, aliases))
            current.clear()

    with bar:
        run_pass(model, inputs, copy, device, after_batch=finish)
    if batch_strategy == "join":
        return FeatureMaps({uid: joined[uid] for uid in wanted}, aliases)
    return batches if batch_strategy == "list" else BatchedFeatureMaps(batches, progress)


def _check_shape(uid: str, full: torch.Tensor, tensor: torch.Tensor, rows: slice) -> None:
    expected = (rows.stop - rows.start, *full.shape[1:])
    if tuple(tensor.shape) != expected:
        raise InputError(
            f"feature map {uid}, rows {rows.start}-{rows.stop - 1}: expected shape {list(expected)} as in the first "
            f"batch, got {list(tensor.shape)}; use batch_strategy='stack' for maps whose shape differs between batches."
        )
