"""The profiling stage: the profiles of a benchmark's pictures, as sets of neurons a layer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import scipy.sparse as sp
import torch
from torch import nn

from deepjuice import versions
from deepjuice.devices import get_device
from deepjuice.extraction.identity import preprocessing_text, weights_digest
from deepjuice.extraction.progress import progress_bar
from deepjuice.influence.assembly import NeuronSpace
from deepjuice.influence.channel import CHANNEL_RULES
from deepjuice.influence.element import ELEMENT_RULES
from deepjuice.influence.layers import Layer
from deepjuice.influence.neuron_sets import (
    NeuronSets,
    ProfiledLayer,
    SetsHeader,
    check_is_sets,
    is_header,
    neuron_sets,
)
from deepjuice.influence.neurons import largest_channels
from deepjuice.influence.profiler import TorchProfiler, check_threshold
from deepjuice.loaders import Preprocess, get_data_loader
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import atomic_path, check_replaceable, remove

log = logging.getLogger(__name__)

RULES = {"channel": CHANNEL_RULES, "element": ELEMENT_RULES}
HEADER = "header.json"


def profile_images(
    model: nn.Module,
    preprocess: Preprocess,
    image_paths: Sequence[str | Path],
    out: str | Path,
    *,
    model_uid: str,
    stimulus_digest: str,
    threshold: float = 0.1,
    neurons: str = "channel",
    device: str | torch.device = "auto",
    batch_size: int = 8,
    num_workers: int | None = None,
    progress: bool = True,
) -> NeuronSets:
    """Profile a model's answer to every picture, and keep which neurons take part.

    A file of the same content is left as it is. What an interrupted run had done is kept beside it, in a folder
    `NAME.partial`, and a further run goes on from there.

    Args:
        model, preprocess: as `get_deepjuice_model` returns them.
        image_paths: the stimuli, in the order of the rows.
        out: the `.npz` file to write; an earlier one is replaced, anything else refused.
        model_uid, stimulus_digest: recorded.
        threshold: share of influence that is followed, in (0, 1].
        neurons: `'channel'` or `'element'`.
        device: where the model runs.
        batch_size: pictures a forward pass; of a profile, all activations of these are held.
        num_workers: loader processes (see `get_data_loader`).
        progress: whether to show a bar.

    Raises:
        InputError: for an unreadable picture, a network that profiles cannot follow, by the operation's name, and where
            `out` or the folder beside it is something else than profiles.
    """
    if neurons not in RULES:
        raise InputError(f"neurons {neurons!r}: {near_names(neurons, RULES)}")
    out, image_paths = Path(out), list(image_paths)
    threshold = check_threshold("threshold", threshold)
    check_is_sets(out)
    _check_is_partial(_partial(out))
    get_data_loader(image_paths, preprocess, batch_size, num_workers)  # which checks these
    influence = partial(largest_channels, threshold=threshold)
    model = model.to(get_device(device)).eval()
    first = next(iter(get_data_loader(image_paths[:1], preprocess, 1, 0)))
    try:
        profiler = TorchProfiler(model, example=first)
        profiler.follow(first, None, influence, RULES[neurons], threshold)  # some obstacles are met only on the way
    except InputError as error:
        raise InputError(
            f"{model_uid}: {error} To go on, leave pRSA out of score.metrics, or this model out of the run."
        ) from error
    space = NeuronSpace(neurons)
    header = SetsHeader(
        model_uid=model_uid,
        weights_digest=weights_digest(model),
        preprocessing=preprocessing_text(preprocess),
        stimulus_digest=stimulus_digest,
        n_stimuli=len(image_paths),
        neurons=neurons,
        threshold=threshold,
        stage_version=versions.PROFILE,
        layers=tuple(_profiled(profiler, layer, space) for layer in profiler.layers),
    )
    if (finished := _finished(out, header)) is not None:
        log.info("%s: %s is up to date", model_uid, out)
        return finished
    blocks = _Blocks(out, header)
    left = image_paths[blocks.rows_done :]
    if blocks.rows_done:
        log.info("%s: resuming at stimulus %d", model_uid, blocks.rows_done)
    with progress_bar(f"{model_uid}: profiling", progress, len(left), unit="img") as bar:
        for x in get_data_loader(left, preprocess, batch_size, num_workers) if left else ():
            found = profiler.follow(x, None, influence, RULES[neurons], threshold)
            blocks.add(neuron_sets(profiler.layers, found, len(x), space), len(x))
            bar.update(len(x))
    sets = blocks.join()
    sets.save(out)
    blocks.remove()
    return sets


def _finished(out: Path, header: SetsHeader) -> NeuronSets | None:
    try:
        sets = NeuronSets.load(out)
    except InputError:
        return None
    return sets if sets.header == header else None


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _check_is_partial(folder: Path) -> None:
    """Raise `InputError` if a folder holds anything but blocks: it would be replaced."""
    check_replaceable(folder, HEADER, {HEADER, *(block.name for block in _blocks_in(folder))})
    header = folder / HEADER
    if header.exists() and not (header.is_file() and is_header(header.read_bytes())):
        raise InputError(f"{header} is of no profiles, so {folder} will not be replaced; move it away")


def _blocks_in(folder: Path) -> list[Path]:
    return list(folder.glob("from_[0-9]*.npz"))


def _profiled(profiler: TorchProfiler, layer: Layer, space: NeuronSpace) -> ProfiledLayer:
    rows, columns = space.shape(layer)
    return ProfiledLayer(layer.index, layer.names, profiler.returned_by(layer), rows * columns)


class _Blocks:
    """The sets of batches that are done, a file each, in a folder beside the result."""

    def __init__(self, out: Path, header: SetsHeader):
        self.folder, self._header = _partial(out), header
        known = self.folder / HEADER
        text = json.dumps(asdict(header), sort_keys=True).encode()
        if not known.exists() or known.read_bytes() != text:
            with atomic_path(self.folder) as folder:
                folder.mkdir()
                (folder / HEADER).write_bytes(text)
        self.rows_done = 0
        for part in self._parts():
            self.rows_done += part.header.n_stimuli

    def _parts(self) -> Iterator[NeuronSets]:
        row = 0
        while (block := self._block(row)).exists():
            part = NeuronSets.load(block)
            if replace(part.header, n_stimuli=self._header.n_stimuli) != self._header:
                raise InputError(f"{block}: other profiles than those of {self.folder / HEADER}; delete the file.")
            row += part.header.n_stimuli
            yield part

    def _block(self, row: int) -> Path:
        return self.folder / f"from_{row}.npz"

    def add(self, sets: dict[int, sp.csr_matrix], n_rows: int) -> None:
        NeuronSets(replace(self._header, n_stimuli=n_rows), sets).save(self._block(self.rows_done))
        self.rows_done += n_rows

    def join(self) -> NeuronSets:
        """Put all blocks one below another."""
        parts = list(self._parts())
        n_rows, expected = sum(part.header.n_stimuli for part in parts), self._header.n_stimuli
        layers = [layer.index for layer in self._header.layers]
        if n_rows != expected:
            raise InputError(
                f"{self.folder}: expected {expected} rows, got {n_rows}; delete the folder and run deepjuice profile "
                "again."
            )
        return NeuronSets(
            self._header, {layer: sp.csr_matrix(sp.vstack([part[layer] for part in parts])) for layer in layers}
        )

    def remove(self) -> None:
        """Delete the folder, its header last: killed before, what is left is still known as ours."""
        for block in _blocks_in(self.folder):
            block.unlink()
        remove(self.folder)
