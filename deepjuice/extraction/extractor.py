"""Whole feature maps: in one go (`get_feature_maps`) or by groups of layers that fit in memory (`FeatureExtractor`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import nn
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from deepjuice.extraction.collect import Collected, collect_maps
from deepjuice.extraction.inputs import Inputs, ModelInputs
from deepjuice.extraction.inspection import Inspection, MapRecord
from deepjuice.extraction.plan import Planner
from deepjuice.extraction.preview import dry_run_report, looked_at, printed_size, sample_maps, table_of
from deepjuice.extraction.progress import say
from deepjuice.extraction.selection import Names, choose, group_by_memory, search_uids
from deepjuice.extraction.settings import SEEN_BY_THE_SAMPLE, MapSettings
from deepjuice.memory import available_memory, total_limit
from deepjuice.sizes import format_bytes, parse_bytes
from juicyfruits.errors import InputError

if TYPE_CHECKING:
    from deepjuice.reduction.srp import SRPMatrix

Device = str | int | torch.device
SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def get_feature_maps(
    model: nn.Module,
    inputs: ModelInputs,
    device: Device = "auto",
    output_device: Device = "cpu",
    batch_strategy: str = "join",
    *,
    metadata: Inspection | FeatureExtractor | None = None,
    dry_run: bool = False,
    **settings: Any,
) -> Collected | pd.DataFrame:
    """Run a model over inputs once and keep its feature maps, all of them at the same time.

    Args:
        model: moved to `device` and run in eval mode without gradients, no further than the last map to keep.
        inputs: a loader, one tensor or dictionary of tensors, or a list of batches.
        device, output_device, batch_strategy: where the model runs, where maps are kept, and `'join'`, `'list'` or
            `'stack'`: see `MapSettings`.
        metadata: what is known of this model from an earlier look, an `Inspection` or a `FeatureExtractor`; by default
            a few inputs are run first.
        dry_run: whether to say what would be kept, and what memory that takes, and leave it there.
        settings: any other of `MapSettings`: flatten, keep, skip, remove_duplicates, save_inputs, input_dim,
            report_irregularities, tensor_fn, forward_fn, n_inputs (n_samples), sample_size, reduce_size_by,
            exclude_oversize, memory_limit (max_memory_limit), precision, progress, batch_progress.

    Returns:
        Maps by uid in the order in which calls begin, each of shape (inputs, ...) and the model's dtype: a
        `FeatureMaps`, a list of them or a `BatchedFeatureMaps`. After a dry run the table of the maps
        (`get_feature_map_metadata`).

    Raises:
        InputError: for an unknown setting, value or uid, a model whose calls or (unless they are stacked) shapes differ
            between batches, and maps larger than a given memory_limit.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> maps = get_feature_maps(net, torch.randn(5, 4), device="cpu", progress=False)
    >>> {uid: tuple(tensor.shape) for uid, tensor in maps.items()}
    {'Linear-1-1': (5, 3), 'ReLU-1-2': (5, 3)}
    """
    given = {"device": device, "output_device": output_device, "batch_strategy": batch_strategy, **settings}
    chosen = MapSettings.of(given, asker="get_feature_maps")
    inputs = Inputs.of(inputs, chosen.sample_size)
    inspection = looked_at(metadata) or sample_maps(model, inputs, chosen)
    records = choose(inspection, chosen.keep, chosen.skip, chosen.remove_duplicates)
    if chosen.memory_limit is not None:
        records = _within_limit(records, inputs, chosen)
    if dry_run:
        say(dry_run_report(inspection, records, chosen.n_rows(inputs), chosen.remove_duplicates), chosen.progress)
        return table_of(inspection, records)
    removed = len(inspection.records) - len(inspection.distinct)
    note = f" ({removed} duplicates removed)" if chosen.remove_duplicates else ""
    say(f"Keeping {len(records)} / {len(inspection.records)} total maps{note}.", chosen.progress)
    return collect_maps(model, inputs, records, chosen)


class FeatureExtractor:
    """Feature maps by groups of layers, each group small enough for the memory limit; one pass over the inputs a group.

    Iterating yields one `FeatureMaps` a group (`BatchedFeatureMaps` under `'stack'`, a list under `'list'`), and can
    be repeated. Groups are filled greedily in the order in which calls begin, and a pass ends with the last map of its
    group. The limit is that of one group: whoever still holds a group while the next is filled has both in memory, so
    end the body of a loop with `del` where that matters.

    Args:
        model, inputs, device, output_device, batch_strategy, metadata: as for `get_feature_maps`.
        memory_limit: most bytes that one group may take on `output_device`, as a number or `'16GB'`; by default what
            is free there. `max_memory_limit` is another name of it.
        initial_report: whether to print the plan; by default as `progress`.
        settings: any other of `MapSettings`, as for `get_feature_maps`; but duplicates are yielded, and counted in the
            report, unless remove_duplicates is set.

    Raises:
        InputError: for an unknown setting or value, or when a single map is larger than the limit, naming it and what
            it needs.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> extractor = FeatureExtractor(net, torch.randn(5, 4), "cpu", memory_limit="128B", progress=False)
    >>> [list(maps) for maps in extractor]
    [['Sequential-0-1', 'Linear-1-1'], ['ReLU-1-2', 'Linear-1-3']]
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: ModelInputs,
        device: Device = "auto",
        output_device: Device = "cpu",
        batch_strategy: str = "join",
        *,
        metadata: Inspection | FeatureExtractor | None = None,
        initial_report: bool | None = None,
        **settings: Any,
    ):
        given = {"device": device, "output_device": output_device, "batch_strategy": batch_strategy}
        defaults = {"remove_duplicates": False}
        self.settings = MapSettings.of({**given, **defaults, **settings}, asker="FeatureExtractor")
        self.model = model
        self.inputs = Inputs.of(inputs, self.settings.sample_size)
        shown = self.settings.progress if initial_report is None else initial_report
        self.inspection = looked_at(metadata) or sample_maps(model, self.inputs, replace(self.settings, progress=shown))
        self._plan()
        say(repr(self), shown)

    def modify_settings(self, **settings: Any) -> None:
        """Change any of `MapSettings` from the next iteration on.

        Raises:
            InputError: for an unknown setting or value; then nothing is changed.
        """
        before, inspection = self.settings, self.inspection
        self.settings = MapSettings.of(settings, before, asker="FeatureExtractor")
        try:
            if any(getattr(before, name) != getattr(self.settings, name) for name in SEEN_BY_THE_SAMPLE):
                self.inspection = sample_maps(self.model, self.inputs, replace(self.settings, progress=False))
            self._plan()
        except BaseException:
            self.settings, self.inspection = before, inspection
            raise

    def _plan(self) -> None:
        settings = self.settings
        records = choose(self.inspection, settings.keep, settings.skip, settings.remove_duplicates)
        limit = _limit(settings) if settings.memory_limit not in (None, "auto") else self._free_memory()
        self.groups, self.excluded = group_by_memory(
            records, settings.n_rows(self.inputs), limit, settings.exclude_oversize
        )
        if len(self.groups) > 1 and isinstance(getattr(self.inputs.batches, "sampler", None), SHUFFLING):
            raise InputError(
                f"{len(self.groups)} passes over a DataLoader that shuffles: expected one order in all, or the maps "
                "of one would not belong to those of another; use shuffle=False, or a higher memory_limit."
            )
        self.memory_limit = limit

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Collected]:
        settings = self.settings
        for group in list(self.groups):
            yield collect_maps(self.model, self.inputs, group, settings)

    def get(self, which: int | str | list[str]) -> Collected:
        """Return one group by its number from 0, or the maps of a uid, path or part of uids, or of a list of these.

        What is returned is of the kind that iterating yields. Maps that are asked for by name are taken from all maps
        of the model, whatever the extractor keeps; they must fit the memory limit together.

        Raises:
            InputError: for a number or name that is not there, or maps that do not fit.
        """
        if isinstance(which, int) and not isinstance(which, bool):
            records = self._group(which)
        else:
            settings = replace(self.settings, memory_limit=self.memory_limit, exclude_oversize=False)
            records = _within_limit(choose(self.inspection, which, None, False), self.inputs, settings)
        return collect_maps(self.model, self.inputs, records, self.settings)

    def plan(self) -> pd.DataFrame:
        """Predict the memory of every pass before it runs.

        Returns:
            A row a group: `pass`, `maps`, `bytes` that it keeps, the map it `ends_with`, and the peaks in bytes of the
            process on the host (`peak_host`) and of its tensors on a GPU (`peak_device`).
        """
        settings = self.settings
        n_rows, batch_size = settings.n_rows(self.inputs), self.inputs.batch_size
        return self._planner().groups(self.groups, n_rows, batch_size, settings.output_device)

    def _planner(self) -> Planner:
        settings = self.settings
        return Planner(self.model, self.inputs, settings.device, settings.forward, settings.precision)

    def _free_memory(self) -> int:
        """Return what is free on the output device, less what a pass needs there besides the maps that it keeps."""
        settings = self.settings
        if settings.output_device.type != settings.device.type:
            return available_memory(settings.output_device)
        return self._planner().room(self.inputs.batch_size, total_limit(None, settings.output_device))

    def _group(self, index: int) -> list[MapRecord]:
        if not -len(self) <= index < len(self):
            raise InputError(f"extractor batch {index}: expected 0 to {len(self) - 1}, since there are {len(self)}.")
        return self.groups[index]

    def get_uids(self) -> list[str]:
        """Return the uids of all maps that iterating yields."""
        return [record.uid for group in self.groups for record in group]

    def get_keep(self) -> list[str]:
        """Return the uids that the present `keep` and `skip` leave, those larger than the memory limit too."""
        left = {*self.get_uids(), *(record.uid for record in self.excluded)}
        return [record.uid for record in self.inspection.records if record.uid in left]

    def update_keep(self, keep: Names) -> None:
        """Keep other maps from the next iteration on: uids, module paths, parts of uids, or all with `None`."""
        self.modify_settings(keep=keep)

    def search_uids(self, text: str) -> list[str]:
        """Return the uids of all the model's maps whose uid, class or module path contains a text, in any case."""
        return search_uids(self.inspection.records, text)

    def get_batches(self) -> list[list[str]]:
        """Return the uids of every group; each of these lists can be given to `get`."""
        return [[record.uid for record in group] for group in self.groups]

    def get_batch_metadata(self, index: int | None = None) -> pd.DataFrame:
        """Return the table of `get_feature_map_metadata` for one group or for all, with columns `uid` and `batch`."""
        groups = dict(enumerate(self.groups)) if index is None else {index: self._group(index)}
        table = table_of(self.inspection, [record for group in groups.values() for record in group])
        table.insert(0, "uid", table["model_layer"])
        table.insert(1, "batch", [number for number, group in groups.items() for _ in group])
        return table

    def get_srp_kwargs(self, mega_matrix: bool = True, eps: float = 0.1, seed: int = 0) -> dict[str, Any]:
        """Return what `make_srp_matrix` needs for the maps that are kept: for one matrix that serves them all, or with
        `mega_matrix=False` for one a map, by uid.

        The width is that of Johnson and Lindenstrauss for the number of inputs at `eps` (`jl_width`).
        """
        from deepjuice.reduction import jl_width

        width = jl_width(self.settings.n_rows(self.inputs), eps)
        sizes = {record.uid: record.n_features for group in self.groups for record in group}
        if mega_matrix:
            return {"n_features": max(sizes.values()), "n_projections": width, "seed": seed}
        return {uid: {"n_features": size, "n_projections": width, "seed": seed} for uid, size in sizes.items()}

    def get_global_srp_matrix(self, eps: float = 0.1, seed: int = 0) -> SRPMatrix:
        """Return one random projection that serves every map that is kept, for `compute_srp(..., srp_matrix=...)`."""
        from deepjuice.reduction.srp import make_srp_matrix

        return make_srp_matrix(**self.get_srp_kwargs(eps=eps, seed=seed))

    def __repr__(self) -> str:
        records = [record for group in self.groups for record in group]
        n_rows = self.settings.n_rows(self.inputs)
        n_duplicates = len(self.inspection.records) - len(self.inspection.distinct)
        lines = [
            f"FeatureExtractor Handle for {type(self.model).__name__}",
            f"  {len(records)} feature maps (+{n_duplicates} duplicates); {n_rows} inputs",
            f"  Memory required for full extraction: {printed_size(records, n_rows)}",
            f"  Memory usage limiting device set to: {self.settings.output_device}",
            f"  Memory usage limit currently set to: {format_bytes(self.memory_limit, 3)}",
            f"  {len(self)} batch(es) required for current memory limit ",
        ]
        if self.excluded:
            lines.append(f"  Left out (larger than the limit): {', '.join(record.uid for record in self.excluded)}")
        for number, group in enumerate(self.groups, 1):
            lines.append(f"   Batch-{number:03d}: {len(group)} feature maps; {printed_size(group, n_rows)}")
        return "\n".join(lines)


def _limit(settings: MapSettings) -> int:
    if settings.memory_limit in (None, "auto"):
        return available_memory(settings.output_device)
    return parse_bytes(settings.memory_limit)


def _within_limit(records: list[MapRecord], inputs: Inputs, settings: MapSettings) -> list[MapRecord]:
    """Return the records, less those that may be excluded, if all fit in memory at the same time."""
    limit, n_rows = _limit(settings), settings.n_rows(inputs)
    groups, _ = group_by_memory(records, n_rows, limit, settings.exclude_oversize)
    if len(groups) > 1:
        needed = format_bytes(sum(record.n_bytes for group in groups for record in group) * n_rows)
        raise InputError(
            f"memory limit {format_bytes(limit)}: the feature maps together need {needed} for {n_rows} inputs; keep "
            "fewer of them, or iterate over a FeatureExtractor, which takes them in groups."
        )
    return groups[0]
