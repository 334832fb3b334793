"""Which neurons take part in the profiles of many pictures, and how alike two pictures are by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import prod
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from deepjuice import versions
from deepjuice.influence.assembly import NeuronSpace
from deepjuice.influence.contributions import Contributions
from deepjuice.influence.jaccard import similarity
from deepjuice.influence.layers import Layer
from deepjuice.influence.neurons import Neurons
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import atomic_path, digest, reading


@dataclass(frozen=True)
class ProfiledLayer:
    """A layer of a profile, and where it stands in the network.

    Attributes:
        index: its number.
        names: its operations.
        uids: of the module calls that return its activation (`Class-depth-index`), as feature stores name maps.
        n_neurons: of one picture.
    """

    index: int
    names: tuple[str, ...]
    uids: tuple[str, ...]
    n_neurons: int


@dataclass(frozen=True)
class SetsHeader:
    """What decides the sets; equal headers, equal content.

    Attributes:
        model_uid, weights_digest, preprocessing, stimulus_digest: as of a feature store.
        n_stimuli: number of pictures.
        neurons: type of neuron.
        threshold: of influence and contribution.
        stage_version: of the code.
        layers: all that were profiled.
    """

    model_uid: str
    weights_digest: str
    preprocessing: str
    stimulus_digest: str
    n_stimuli: int
    neurons: str
    threshold: float
    stage_version: int
    layers: tuple[ProfiledLayer, ...]

    @property
    def digest(self) -> str:
        """Short SHA-256 of the whole."""
        return digest(json.dumps(asdict(self), sort_keys=True))

    @property
    def summary(self) -> str:
        """What score files say of the profiles, as JSON."""
        return json.dumps({"neurons": self.neurons, "threshold": self.threshold, "digest": self.digest})

    @classmethod
    def from_json(cls, text: str) -> SetsHeader:
        """Read what `json.dumps(asdict(header))` wrote."""
        values = json.loads(text)
        layers = tuple(
            ProfiledLayer(one["index"], tuple(one["names"]), tuple(one["uids"]), one["n_neurons"])
            for one in values["layers"]
        )
        return cls(**{f.name: values[f.name] for f in fields(cls)} | {"layers": layers})


class NeuronSets:
    """The neurons of every picture's profile, layer by layer: those that influence or contribute.

    Args:
        header: what they are.
        sets: layer -> bool matrix (n_stimuli, n_neurons), sparse rows.
    """

    def __init__(self, header: SetsHeader, sets: Mapping[int, sp.csr_matrix]):
        self.header, self._sets = header, dict(sets)

    def __getitem__(self, layer: int) -> sp.csr_matrix:
        return self._sets[layer]

    def rdm(self, layer: int) -> np.ndarray:
        """Return the dissimilarities of pictures in a layer, 1 - |A and B| / |A or B|: (n, n) float32.

        Two pictures without any neuron are alike.
        """
        members = self._sets[layer].astype(np.int64)
        return 1 - similarity((members @ members.T).toarray(), of_empty=1.0).astype(np.float32)

    def save(self, path: str | Path) -> None:
        """Write them to an `.npz` file, whole or not at all."""
        arrays = {"header": np.array(json.dumps(asdict(self.header)))}
        for layer, matrix in self._sets.items():
            arrays |= {f"indptr_{layer}": matrix.indptr, f"indices_{layer}": matrix.indices.astype(np.int32)}
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> NeuronSets:
        """Read what `save` wrote; InputError for anything else, for what is damaged, and for another version's."""
        with reading(Path(path), "profiles as `deepjuice profile` writes them"), np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
            text = str(arrays.pop("header"))
            version = json.loads(text)["stage_version"]
            if version != versions.PROFILE:  # of another one nothing more is known
                raise InputError(
                    f"profiles {path}: expected what version {versions.PROFILE} of profiling writes, got a file of "
                    f"version {version}; delete it and run deepjuice profile again."
                )
            header = SetsHeader.from_json(text)
        if flaw := _flaw(header, arrays):
            raise InputError(f"profiles {path} are damaged: {flaw}; delete the file and run deepjuice profile again.")
        return cls(
            header,
            {
                layer.index: _rows(arrays[f"indices_{layer.index}"], arrays[f"indptr_{layer.index}"], layer.n_neurons)
                for layer in header.layers
            },
        )


def check_is_sets(path: Path) -> None:
    """Raise `InputError` if `path` holds anything but neuron sets, of whatever version: it would be replaced."""
    if path.exists():
        try:
            with np.load(path) as file:
                ours = is_header(str(file["header"]))
        except Exception:  # whatever a parser raises on garbage
            ours = False
        if not ours:
            raise InputError(f"{path} is there and holds no profiles, so it will not be replaced; choose another place")


def is_header(text: str | bytes) -> bool:
    """Tell whether a text is the header of neuron sets, of whatever version."""
    try:
        return {"weights_digest", "threshold", "layers"} <= set(json.loads(text))
    except (ValueError, TypeError):
        return False


def neuron_sets(
    layers: Sequence[Layer],
    found: Mapping[int, tuple[Neurons, Contributions]],
    n_pictures: int,
    space: NeuronSpace,
) -> dict[int, sp.csr_matrix]:
    """Return layer -> which neurons of each picture influence or contribute; layers as `assemble` counts them."""
    members: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for index, (neurons, contributions) in found.items():
        picture = neurons.picture.cpu().numpy()
        place, slot = neurons.place(layers[index]).cpu().numpy(), contributions.slot.cpu().numpy()
        members.setdefault(index, []).append((picture, space.number(place, layers[index])))
        giving, place = picture[contributions.to.cpu().numpy()], contributions.place.cpu().numpy()
        for number, before in enumerate(layers[index].predecessors):
            mine = slot == number
            members.setdefault(before, []).append((giving[mine], space.number(place[mine], layers[before])))
    sets = {}
    for index, parts in sorted(members.items()):
        row, column = (np.concatenate(part) for part in zip(*parts, strict=True))
        shape = (n_pictures, prod(space.shape(layers[index])))
        matrix = sp.csr_matrix((np.ones(len(row), dtype=bool), (row, column)), shape)  # repeats become one
        sets[index] = matrix
    return sets


def _flaw(header: SetsHeader, arrays: Mapping[str, np.ndarray]) -> str | None:
    """Return what is wrong with the arrays of a file, if anything: scipy would trust them and may crash."""
    for what, size in (("stimuli", header.n_stimuli), *(("neurons", layer.n_neurons) for layer in header.layers)):
        if not isinstance(size, int) or size < 1:
            return f"the number of {what} in its header is {size!r}, expected a whole number from 1 up"
    numbers = [layer.index for layer in header.layers]
    if numbers != list(range(len(numbers) or 1)):
        return f"the layers in its header are {first_names(numbers) or 'none'}, expected 0, 1 and on"
    if others := {f"{name}_{number}" for name in ("indptr", "indices") for number in numbers} ^ set(arrays):
        return f"its header and its arrays differ in {first_names(sorted(others))}"
    for layer in header.layers:
        indices, indptr = arrays[f"indices_{layer.index}"], arrays[f"indptr_{layer.index}"]
        if flaw := _flaw_of_rows(indices, indptr, header.n_stimuli, layer.n_neurons):
            return f"layer {layer.index}: {flaw}"
    return None


def _flaw_of_rows(indices: np.ndarray, indptr: np.ndarray, n_stimuli: int, n_neurons: int) -> str | None:
    for name, array in (("indices", indices), ("indptr", indptr)):
        if array.ndim != 1 or array.dtype.kind != "i":
            return f"{name} are {array.dtype} {array.shape}, expected integers in a row"
    if len(indptr) != n_stimuli + 1:
        return f"indptr are {len(indptr)}, expected {n_stimuli + 1} for {n_stimuli} stimuli"
    if indptr[0] != 0 or indptr[-1] != len(indices) or (indptr[1:] < indptr[:-1]).any():
        return f"indptr do not ascend from 0 to {len(indices)}, the number of indices"
    if len(indices) and not 0 <= indices.min() <= indices.max() < n_neurons:
        return f"indices are {indices.min()} to {indices.max()}, expected 0 to {n_neurons - 1}"
    begins = np.zeros(len(indices) + 1, dtype=bool)
    begins[indptr] = True
    if not (begins[1:-1] | (indices[1:] > indices[:-1])).all():
        return "indices of a row are not in ascending order, each once"
    return None


def _rows(indices: np.ndarray, indptr: np.ndarray, n_neurons: int) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones(len(indices), dtype=bool), indices, indptr), (len(indptr) - 1, n_neurons))
