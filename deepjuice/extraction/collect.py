"""The listener that keeps maps whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from deepjuice.extraction.feature_maps import BatchedFeatureMaps, FeatureMaps, join_inputs
from deepjuice.extraction.inputs import Batch, Inputs, each
from deepjuice.extraction.inspection import MapRecord
from deepjuice.extraction.passes import run_pass
from deepjuice.extraction.progress import progress_bar, say
from deepjuice.extraction.selection import first_of_equals
from deepjuice.extraction.settings import MapSettings
from deepjuice.tracing import Event, n_rows, tensors_in
from juicyfruits.errors import InputError

Collected = FeatureMaps | list[FeatureMaps] | BatchedFeatureMaps


def collect_maps(model: nn.Module, inputs: Inputs, records: Sequence[MapRecord], settings: MapSettings) -> Collected:
    """Run the model over all batches, no further than the last of the given maps, and keep those maps.

    Returns:
        As `settings.batch_strategy` says; maps in the order of `records`.

    Raises:
        InputError: naming the map, where one has another shape than in the first batch, is missing in a batch, or has
            another number of rows than expected.
    """
    bar = progress_bar(
        "Feature Extraction (DataLoader)", settings.progress and settings.batch_progress, inputs.n_batches
    )
    collector = MapCollector(inputs, records, settings)

    def finish(rows: slice) -> None:
        collector.finish_batch()
        bar.update()

    with bar:
        run_pass(
            model.to(settings.device),
            replace(inputs, batches=collector.watch(inputs)),
            collector,
            settings.device,
            after_batch=finish,
            forward=settings.forward,
            stop_after={record.call_uid for record in records},
            precision=settings.precision,
        )
    return collector.result()


@dataclass
class LoaderBatch:
    """The batch that is going through: its index, its inputs, and their rows in the whole set."""

    index: int
    inputs: Batch
    rows: slice


class MapCollector:
    """Copies the wanted maps out of every event, before anything overwrites them; each value is copied once.

    Args:
        inputs: the batches of the pass that it listens to.
        records: the wanted maps.
        settings: what to do with them.
    """

    def __init__(self, inputs: Inputs, records: Sequence[MapRecord], settings: MapSettings):
        self.settings = settings
        self.uids = [record.uid for record in records]
        self.aliases = first_of_equals(records)
        self.joining = settings.batch_strategy == "join"
        # Groups of inputs may end within each batch, so that every batch may have one row more than its share.
        spare = inputs.n_batches if settings.reduce_size_by > 1 and not settings.n_inputs else 0
        self.n_rows = settings.n_rows(inputs) + spare
        self.irregular: dict[str, list[tuple[int, ...] | None]] = {}
        self.batches: list[FeatureMaps] = []
        self.saved: list[Batch] = []
        self._wanted = set(self.uids)
        self._calls = {record.call_uid for record in records}
        self._maps: dict[str, torch.Tensor] = {}  # of all batches when joining, of the present one otherwise
        self._done: dict[str, int] = dict.fromkeys(self.uids, 0)  # rows of finished batches
        self._came: dict[str, int] = {}  # rows of the present batch
        self._parts: dict[str, dict[int, torch.Tensor]] = {}  # of a batch that had to be run in parts
        self._batch: LoaderBatch | None = None

    def watch(self, inputs: Inputs) -> Iterator[Batch]:
        """Yield the batches, taking note of each as it goes by."""
        row = 0
        for index, x in enumerate(inputs):
            self._batch = LoaderBatch(index, x, slice(row, row + n_rows(x)))
            row += n_rows(x)
            yield x

    def __call__(self, event: Event) -> None:
        """Copy what is wanted of one call's output."""
        if event.call.uid not in self._calls:
            return
        for uid, tensor in tensors_in(event.call.uid, event.output):
            if uid in self._wanted:
                self._take(uid, tensor.detach(), event.rows)

    def finish_batch(self) -> None:
        """Close the present batch."""
        settings = self.settings
        for uid in self.uids:
            if self.joining and uid in self._wanted and uid not in self._came:
                self._leave_out(uid, None)
            self._done[uid] += self._came.get(uid, 0)
        saved = each(self._batch.inputs, lambda x: x.to(settings.output_device)) if settings.save_inputs else None
        if self.joining:
            self.saved += [saved] if settings.save_inputs else []
        else:
            maps = {uid: self._maps[uid] for uid in self.uids if uid in self._maps}
            self.batches.append(FeatureMaps(maps, self.aliases, saved))
            self._maps = {}
        self._came.clear()
        self._parts.clear()

    def result(self) -> Collected:
        """Return what was kept, when all batches have gone through."""
        self._check_n_inputs()
        if self.joining:
            maps = {uid: self._trimmed(uid) for uid in self.uids if uid in self._wanted}
            self._maps = {}
            report_irregular(self.irregular, self.settings)
            return FeatureMaps(maps, self.aliases, join_inputs(self.saved), self.irregular)
        batched = BatchedFeatureMaps(self.batches, self.settings.progress)
        report_irregular(batched.get_irregular_shapes(), self.settings)
        return self.batches if self.settings.batch_strategy == "list" else batched

    def _take(self, uid: str, tensor: torch.Tensor, rows: slice) -> None:
        """Bring a map into the form that is kept, and copy it to its place."""
        dim, expected = self.settings.input_dim, rows.stop - rows.start
        if tensor.ndim <= dim or tensor.shape[dim] != expected:
            raise InputError(
                f"feature map {uid}, rows {rows.start}-{rows.stop - 1}: expected {expected} inputs in dimension {dim}, "
                f"got shape {list(tensor.shape)}; leave the map out with skip=."
            )
        tensor = tensor.movedim(dim, 0)
        place = rows.start - self._batch.rows.start
        if self.settings.transform:
            whole = self._whole_batch(uid, tensor, rows)
            if whole is None:
                return
            tensor, place = self.settings.transform(uid, whole, self._batch.inputs, self._batch.index), 0
        self._came[uid] = place + len(tensor)
        self._copy(uid, tensor, place)

    def _whole_batch(self, uid: str, tensor: torch.Tensor, rows: slice) -> torch.Tensor | None:
        """Put a map together that came in parts, since tensor_fn counts on whole batches; `None` until it is whole."""
        if rows == self._batch.rows:
            return tensor.clone()  # tensor_fn may work in place, and the network goes on with its own
        parts = self._parts.setdefault(uid, {})
        parts[rows.start] = tensor.clone()  # in the place of a longer part that failed later on
        return torch.cat([parts[start] for start in sorted(parts)]) if rows.stop == self._batch.rows.stop else None

    def _copy(self, uid: str, tensor: torch.Tensor, place: int) -> None:
        shape = tuple(tensor.shape[1:])
        if self.settings.flatten and tensor.ndim > 1:
            shape = (torch.Size(shape).numel(),)
        start = place + (self._done[uid] if self.joining else 0)
        home = self._maps.get(uid)
        if home is None or (start == 0 and tuple(home.shape[1:]) != shape):  # a first try may have had other rows
            home = self._maps[uid] = tensor.new_empty((self._room(tensor), *shape), device=self.settings.output_device)
        if tuple(home.shape[1:]) != shape:
            self._leave_out(uid, shape)
            return
        if start + len(tensor) > len(home):
            raise InputError(
                f"feature map {uid}: expected at most {len(home)} rows (n_inputs={self.settings.n_inputs}, "
                f"reduce_size_by={self.settings.reduce_size_by}), got more; set n_inputs to the rows that tensor_fn "
                "leaves."
            )
        # seen in the shape of the map, so that flattening costs no second copy
        home[start : start + len(tensor)].view(tensor.shape).copy_(tensor)

    def _room(self, tensor: torch.Tensor) -> int:
        """Return how many rows a map of which this is the beginning can have."""
        if self.joining:
            return self.n_rows
        return len(tensor) if self.settings.transform else self._batch.rows.stop - self._batch.rows.start

    def _leave_out(self, uid: str, shape: tuple[int, ...] | None) -> None:
        """Drop a map that cannot be joined, or refuse it."""
        first = tuple(self._maps[uid].shape[1:]) if uid in self._maps else None
        if not (self.joining and self.settings.report_irregularities):
            rows = self._batch.rows
            raise InputError(
                f"feature map {uid}, rows {rows.start}-{rows.stop - 1}: expected shape {list(first or ())} for every "
                f"input as in the first batch, got {'none' if shape is None else list(shape)}; use "
                "batch_strategy='stack' for maps whose shape differs between batches, or report_irregularities=True "
                "to leave them out."
            )
        self.irregular[uid] = [first, shape]
        self._wanted.discard(uid)
        self._maps.pop(uid, None)

    def _trimmed(self, uid: str) -> torch.Tensor:
        """Return a joined map without the rows that were set aside for more inputs than came."""
        joined, n_rows = self._maps[uid], self._done[uid]
        return joined if n_rows == len(joined) else joined[:n_rows].clone()

    def _check_n_inputs(self) -> None:
        expected = self.settings.n_inputs
        wrong = {uid: self._done[uid] for uid in self.uids if uid in self._wanted and self._done[uid] != expected}
        if expected and wrong:
            uid, n_rows = next(iter(wrong.items()))
            raise InputError(
                f"n_inputs={expected}: expected as many rows in every map, got {n_rows} in {uid}; n_inputs is the "
                "number of inputs, or of the rows that tensor_fn makes of them."
            )


def report_irregular(irregular: dict, settings: MapSettings) -> None:
    """Say which maps have shapes that differ between batches, if that was asked for."""
    if settings.report_irregularities:
        found = f"Irregular feature maps: {', '.join(irregular)}." if irregular else "No irregularities found."
        say(found, settings.progress)
