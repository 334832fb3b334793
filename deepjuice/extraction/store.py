"""The feature store: one Zarr group a model, whole or absent, and never another model's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from deepjuice.extraction.inspection import MapRecord
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import atomic_path, digest, remove

ROWS_PER_CHUNK = 128


@dataclass(frozen=True)
class StoreHeader:
    """Everything that determines what a store holds; its digest is the store's identity.

    Attributes:
        model_uid, weights_digest, preprocessing: the network and how pictures reach it.
        stimulus_digest, n_stimuli: the pictures, in order.
        reduction: method, width, eps and seed of the projection.
        maps: every map of the network, duplicates too (`alias_of`).
        stage_version: of the code that makes the values.
    """

    model_uid: str
    weights_digest: str
    preprocessing: str
    stimulus_digest: str
    n_stimuli: int
    reduction: dict[str, Any]
    maps: list[MapRecord]
    stage_version: int

    @property
    def digest(self) -> str:
        """The identity of the content."""
        return digest(json.dumps(asdict(self), sort_keys=True))

    @property
    def distinct(self) -> list[MapRecord]:
        """The maps that are stored, in the order of the computation."""
        return sorted((r for r in self.maps if r.alias_of is None), key=lambda record: record.order)

    def width(self, record: MapRecord) -> int:
        """Columns stored for a map."""
        return min(record.n_features, self.reduction["width"])


class StoreWriter:
    """Write a store by blocks of rows under `NAME.partial`; a second writer of the same content goes on where it ended.

    Args:
        path: where the finished store will stand.
        header: what it holds. A `.partial` of other content is discarded.
        ones: R 1 for every stored map, uid -> (k,).
    """

    def __init__(self, path: str | Path, header: StoreHeader, ones: Mapping[str, np.ndarray]):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.header = header
        self._progress = self.partial / "progress.json"
        self.rows_done = self._resume()
        if self.rows_done == 0:
            self._create(ones)
        self._group = zarr.open_group(self.partial, mode="r+")

    def write_block(self, features: Mapping[str, np.ndarray], row_means: np.ndarray) -> None:
        """Append rows: features uid -> (rows, k) and the means of the unprojected rows (n_maps, rows)."""
        rows = slice(self.rows_done, self.rows_done + row_means.shape[1])
        for record in self.header.distinct:
            self._group["features"][record.uid][rows] = features[record.uid]
        self._group["row_means"][:, rows] = row_means
        self.rows_done = rows.stop
        with atomic_path(self._progress) as tmp:  # only now do these rows count
            tmp.write_text(json.dumps({"digest": self.header.digest, "rows_done": self.rows_done}))

    def finish(self) -> Path:
        """Rename the whole store into place."""
        if self.rows_done != self.header.n_stimuli:
            raise InputError(
                f"feature store {self.path}: expected {self.header.n_stimuli} rows before it is finished, "
                f"got {self.rows_done}; run the extraction again, it goes on from there."
            )
        remove(self.path)
        self.partial.rename(self.path)
        (self.path / self._progress.name).unlink()  # last, so that a kill in between leaves a store to resume or use
        return self.path

    def _resume(self) -> int:
        try:
            progress = json.loads(self._progress.read_text())
        except (OSError, ValueError):
            return 0
        return progress["rows_done"] if progress.get("digest") == self.header.digest else 0

    def _create(self, ones: Mapping[str, np.ndarray]) -> None:
        remove(self.partial)
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        attributes = {"header": asdict(self.header), "digest": self.header.digest}
        group = zarr.create_group(self.partial, attributes=attributes)
        features, projected_ones = group.create_group("features"), group.create_group("ones")
        n = self.header.n_stimuli
        # Projected values are noise to a compressor: it would take time and save nothing.
        options = {"dtype": "float32", "compressors": None}
        for record in self.header.distinct:
            width = self.header.width(record)
            chunks = (min(n, ROWS_PER_CHUNK), width)
            features.create_array(record.uid, shape=(n, width), chunks=chunks, attributes=asdict(record), **options)
            projected_ones.create_array(record.uid, shape=(width,), chunks=(width,), **options)
            projected_ones[record.uid][:] = ones[record.uid]
        shape = (len(self.header.distinct), n)
        group.create_array("row_means", shape=shape, chunks=shape, **options)


class FeatureStore:
    """A finished feature store, read map by map.

    Args:
        path: the `.zarr` folder that `deepjuice extract` wrote.

    Raises:
        InputError: when it is missing, incomplete or not a feature store.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            partial = self.path.with_name(self.path.name + ".partial")
            state = "only an unfinished one (.partial)" if partial.exists() else "nothing"
            raise InputError(
                f"feature store {self.path}: expected a finished store, found {state}; run deepjuice extract."
            )
        try:
            self._group = zarr.open_group(self.path, mode="r")
            header = dict(self._group.attrs["header"])
            self.digest = self._group.attrs["digest"]
        except (KeyError, FileNotFoundError, ValueError) as error:
            raise InputError(
                f"feature store {self.path}: expected a Zarr group with a header, got {error}; delete it and extract "
                "again."
            ) from error
        known = {field.name for field in fields(MapRecord)}
        maps = [MapRecord(**{**{k: m[k] for k in known}, "shape": tuple(m["shape"])}) for m in header.pop("maps")]
        self.header = StoreHeader(**header, maps=maps)
        self.maps = self.header.distinct
        self._row_means = np.asarray(self._group["row_means"][:])

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, uid: str) -> np.ndarray:
        """Return one map as stored, (n_stimuli, k) float32; a duplicate's uid gives the map that it repeats."""
        return np.asarray(self._group["features"][self._resolve(uid)][:])

    def row_means(self, uid: str) -> np.ndarray:
        """Return the mean over features of every unprojected row, (n_stimuli,) float32."""
        index = [record.uid for record in self.maps].index(self._resolve(uid))
        return self._row_means[index]

    def ones(self, uid: str) -> np.ndarray:
        """Return the projection of the all-ones vector, (k,) float32."""
        return np.asarray(self._group["ones"][self._resolve(uid)][:])

    def _resolve(self, uid: str) -> str:
        for record in self.header.maps:
            if record.uid == uid:
                return record.alias_of or uid
        raise InputError(f"feature map {uid!r} in {self.path}: {near_names(uid, (r.uid for r in self.header.maps))}")

    def __repr__(self) -> str:
        kind = self.header.reduction
        return (
            f"FeatureStore of {self.header.model_uid}\n  {len(self)} maps "
            f"(+{len(self.header.maps) - len(self)} duplicates); {self.header.n_stimuli} stimuli\n"
            f"  {kind['method']} to {kind['width']} columns; content {self.digest}"
        )
