"""The feature store: one Zarr group a model, whole or absent, and never another model's."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from filelock import FileLock, Timeout

from deepjuice.extraction.inspection import MapRecord
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import atomic_path, check_replaceable, digest, remove

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

    Use it as a context manager: inside, no other process can write the same store.

    Args:
        path: where the finished store will stand; an earlier store is replaced, anything else is refused.
        header: what it holds. A `.partial` of other content is discarded.
        ones: R 1 for every stored map, uid -> (k,).
    """

    def __init__(self, path: str | Path, header: StoreHeader, ones: Mapping[str, np.ndarray]):
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.header, self._ones = header, ones
        self._progress = self.partial / "progress.json"
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)

    def __enter__(self) -> StoreWriter:
        for folder in (self.path, self.partial):
            check_replaceable(folder, "zarr.json")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"feature store {self.path}: another process is writing it; wait for that, or stop it."
            ) from None
        self.rows_done, self._checksums = self._resume()
        if self.rows_done == 0:
            self._create()
        self._group = zarr.open_group(self.partial, mode="r+")
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def write_block(self, features: Mapping[str, np.ndarray], row_means: np.ndarray) -> None:
        """Append rows: features uid -> (rows, k) and the means of the unprojected rows (n_maps, rows)."""
        rows = slice(self.rows_done, self.rows_done + row_means.shape[1])
        for record in self.header.distinct:
            block = np.ascontiguousarray(features[record.uid], dtype=np.float32)
            name = f"features/{record.uid}"
            self._group[name][rows] = block
            self._checksums[name] = zlib.crc32(block, self._checksums.get(name, 0))
        self._group["row_means"][:, rows] = row_means
        self.rows_done = rows.stop
        state = {"digest": self.header.digest, "rows_done": self.rows_done, "checksums": self._checksums}
        with atomic_path(self._progress) as tmp:  # only now do these rows count
            tmp.write_text(json.dumps(state))

    def finish(self) -> Path:
        """Rename the whole store into place."""
        if self.rows_done != self.header.n_stimuli:
            raise InputError(
                f"feature store {self.path}: expected {self.header.n_stimuli} rows before it is finished, "
                f"got {self.rows_done}; run the extraction again, it goes on from there."
            )
        small = ["row_means", *(f"ones/{record.uid}" for record in self.header.distinct)]
        self._group.attrs["checksums"] = self._checksums | {name: checksum(self._group[name][:]) for name in small}
        remove(self.path)
        self.partial.rename(self.path)
        (self.path / self._progress.name).unlink()  # last, so that a kill in between leaves a store to resume or use
        return self.path

    def _resume(self) -> tuple[int, dict[str, int]]:
        try:
            state = json.loads(self._progress.read_text())
            rows, checksums = int(state["rows_done"]), dict(state["checksums"])
            same = state["digest"] == self.header.digest and 0 < rows <= self.header.n_stimuli
            zarr.open_group(self.partial, mode="r")
        except (OSError, ValueError, KeyError, TypeError):
            return 0, {}
        return (rows, checksums) if same else (0, {})

    def _create(self) -> None:
        remove(self.partial)
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
            projected_ones[record.uid][:] = self._ones[record.uid]
        shape = (len(self.header.distinct), n)
        group.create_array("row_means", shape=shape, chunks=shape, **options)


def checksum(values: np.ndarray) -> int:
    """Return the CRC-32 of an array's bytes, row after row; it can be continued block by block."""
    return zlib.crc32(np.ascontiguousarray(values))


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
            self.header = _read_header(dict(self._group.attrs["header"]))
            self.digest, self._checksums = self._group.attrs["digest"], dict(self._group.attrs["checksums"])
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f"it cannot be read ({type(error).__name__}: {error})") from error
        if self.header.digest != self.digest:
            raise self._damaged("its header is not the one it was written with")
        self._row_means = self._read("row_means")
        self.maps = self.header.distinct

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, uid: str) -> np.ndarray:
        """Return one map as stored, (n_stimuli, k) float32; a duplicate's uid gives the map that it repeats."""
        return self._read(f"features/{self._resolve(uid)}")

    def row_means(self, uid: str) -> np.ndarray:
        """Return the mean over features of every unprojected row, (n_stimuli,) float32."""
        index = [record.uid for record in self.maps].index(self._resolve(uid))
        return self._row_means[index]

    def ones(self, uid: str) -> np.ndarray:
        """Return the projection of the all-ones vector, (k,) float32."""
        return self._read(f"ones/{self._resolve(uid)}")

    def _read(self, name: str) -> np.ndarray:
        """Read an array whole; a lost chunk would read as zeros and a flipped bit as another number."""
        try:
            values = np.asarray(self._group[name][:])
        except (OSError, KeyError, ValueError) as error:
            raise self._damaged(f"{name} cannot be read ({type(error).__name__}: {error})") from error
        if checksum(values) != self._checksums.get(name):
            raise self._damaged(f"the values of {name} are not those that were written")
        return values

    def _damaged(self, what: str) -> InputError:
        return InputError(f"feature store {self.path} is damaged: {what}; delete it and extract again.")

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


def _read_header(header: dict[str, Any]) -> StoreHeader:
    known = {field.name for field in fields(MapRecord)}
    maps = [MapRecord(**{**{name: m[name] for name in known}, "shape": tuple(m["shape"])}) for m in header["maps"]]
    return StoreHeader(**{**header, "maps": maps})
