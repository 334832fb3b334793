"""The profiling stage: the profiles of a benchmark's pictures, as sets of neurons a layer."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
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
from deepjuice.influence.neuron_sets import NeuronSets, ProfiledLayer, SetsHeader, neuron_sets
from deepjuice.influence.neurons import largest_channels
from deepjuice.influence.profiler import TorchProfiler, check_threshold
from deepjuice.loaders import Preprocess, get_data_loader
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import atomic_path, remove

log = logging.getLogger(__name__)

RULES = {"channel": CHANNEL_RULES, "element": ELEMENT_RULES}


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
        out: the `.npz` file to write.
        model_uid, stimulus_digest: recorded.
        threshold: share of influence that is followed, in (0, 1].
        neurons: `'channel'` or `'element'`.
        device: where the model runs.
        batch_size: pictures a forward pass; of a profile, all activations of these are held.
        num_workers: loader processes (see `get_data_loader`).
        progress: whether to show a bar.

    Raises:
        InputError: for an unreadable picture, and a network that profiles cannot follow, by the operation's name.
    """
    if neurons not in RULES:
        raise InputError(f"neurons {neurons!r}: {near_names(neurons, RULES)}")
    out, image_paths = Path(out), list(image_paths)
    model = model.to(get_device(device)).eval()
    first = next(iter(get_data_loader(image_paths[:1], preprocess, 1, 0)))
    profiler = TorchProfiler(model, example=first)
    space = NeuronSpace(neurons)
    header = SetsHeader(
        model_uid=model_uid,
        weights_digest=weights_digest(model),
        preprocessing=preprocessing_text(preprocess),
        stimulus_digest=stimulus_digest,
        n_stimuli=len(image_paths),
        neurons=neurons,
        threshold=check_threshold("threshold", threshold),
        stage_version=versions.PROFILE,
        layers=tuple(_profiled(profiler, layer, space) for layer in profiler.layers),
    )
    if out.exists() and NeuronSets.load(out).header == header:
        log.info("%s: %s is up to date", model_uid, out)
        return NeuronSets.load(out)
    blocks = _Blocks(out, header)
    left = image_paths[blocks.rows_done :]
    if blocks.rows_done:
        log.info("%s: resuming at stimulus %d", model_uid, blocks.rows_done)
    influence = partial(largest_channels, threshold=header.threshold)
    with progress_bar(f"{model_uid}: profiling", progress, len(left), unit="img") as bar:
        for x in get_data_loader(left, preprocess, batch_size, num_workers) if left else ():
            found = profiler.follow(x, None, influence, RULES[neurons], header.threshold)
            blocks.add(neuron_sets(profiler.layers, found, len(x), space), len(x))
            bar.update(len(x))
    sets = blocks.join()
    sets.save(out)
    remove(blocks.folder)
    return sets


def _profiled(profiler: TorchProfiler, layer: Layer, space: NeuronSpace) -> ProfiledLayer:
    rows, columns = space.shape(layer)
    return ProfiledLayer(layer.index, layer.names, profiler.returned_by(layer), rows * columns)


class _Blocks:
    """The sets of batches that are done, a file each, in a folder beside the result."""

    def __init__(self, out: Path, header: SetsHeader):
        self.folder, self._header = out.with_name(out.name + ".partial"), header
        known = self.folder / "header.json"
        text = json.dumps(asdict(header), sort_keys=True)
        if not known.exists() or known.read_text() != text:
            remove(self.folder)
            self.folder.mkdir(parents=True)
            with atomic_path(known) as path:
                path.write_text(text)
        self.rows_done = 0
        while (block := self._block()).exists():
            self.rows_done += NeuronSets.load(block)[0].shape[0]

    def _block(self) -> Path:
        return self.folder / f"from_{self.rows_done}.npz"

    def add(self, sets: dict[int, sp.csr_matrix], n_rows: int) -> None:
        NeuronSets(self._header, sets).save(self._block())
        self.rows_done += n_rows

    def join(self) -> NeuronSets:
        """Put all blocks one below another."""
        parts, self.rows_done = [], 0
        while (block := self._block()).exists():
            parts.append(NeuronSets.load(block))
            self.rows_done += parts[-1][0].shape[0]
        layers = [layer.index for layer in self._header.layers]
        if self.rows_done != self._header.n_stimuli:
            raise InputError(f"{self.folder}: files are missing; delete the folder and run deepjuice profile again.")
        return NeuronSets(
            self._header, {layer: sp.csr_matrix(sp.vstack([part[layer] for part in parts])) for layer in layers}
        )
