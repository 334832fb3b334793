"""The feature store: one Zarr group a model, whole or absent, and never another model's."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from deepjuice import versions
from deepjuice.extraction.inspection import MapRecord
from deepjuice.extraction.telemetry import Telemetry, summarize
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import check_replaceable, digest

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class StoreHeader:
    """Everything that determines what a store holds; its digest is the store's identity.

    Attributes:
        model_uid, weights_digest, preprocessing: the network and how pictures reach it.
        stimulus_digest, n_stimuli: the pictures, in order.
        reduction: method, width, eps and seed of the projection.
        precision: in which the network computed: `float32` (as its weights are), `float16` or `bfloat16`.
        dtype: of the stored values, `float32` or `float16`.
        maps: every map of the network, duplicates too (`alias_of`).
        stage_version: of the code that makes the values.
    """

    model_uid: str
    weights_digest: str
    preprocessing: str
    stimulus_digest: str
    n_stimuli: int
    reduction: dict[str, Any]
    precision: str
    dtype: str
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


def check_is_store(path: Path) -> None:
    """Raise `InputError` if `path` holds anything but a feature store: it would be replaced."""
    check_replaceable(path, "zarr.json")
    if (path / "zarr.json").exists():
        try:
            ours = "weights_digest" in json.loads((path / "zarr.json").read_text())["attributes"]["header"]
        except (OSError, ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise InputError(f"{path} is a Zarr group but no feature store, and stays; choose another place")


def row_checksums(values: np.ndarray) -> np.ndarray:
    """Return the CRC-32 of every row's bytes, (rows,) uint32."""
    return np.fromiter((zlib.crc32(row) for row in np.ascontiguousarray(values)), np.uint32, len(values))


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
            attrs = dict(self._group.attrs)
            version = attrs["header"]["stage_version"]
            if version == versions.EXTRACT:  # of another one nothing more is known
                self.header, self.digest = _read_header(attrs["header"]), attrs["digest"]
                self._checksums = dict(attrs["checksums"])
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f"it cannot be read ({type(error).__name__}: {error})") from error
        if version != versions.EXTRACT:
            raise InputError(
                f"feature store {self.path}: expected what version {versions.EXTRACT} of extraction writes, got "
                f"a store of version {version}; delete it and extract again."
            )
        if self.header.digest != self.digest:
            raise self._damaged("its header is not the one it was written with")
        self._row_means, self._row_checksums = self._read_small("row_means"), self._read_small("row_checksums")
        self._row_mean_squares = self._read_small("row_mean_squares")
        self._row_mean_magnitudes = self._read_small("row_mean_magnitudes")
        self._histograms, self._n_dead = self._read_small("histograms"), self._read_small("n_dead")
        self.maps = self.header.distinct
        self._column = {record.uid: column for column, record in enumerate(self.maps)}
        self._n_features = [record.n_features for record in self.maps]

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, uid: str) -> np.ndarray:
        """Return one map as stored, (n_stimuli, k); a duplicate's uid gives the map that it repeats.

        A lost chunk would read as zeros and a flipped bit as another number: every row is checked.
        """
        uid = self._resolve(uid)
        values = self._read(f"features/{uid}")
        if not np.array_equal(row_checksums(values), self._row_checksums[:, self._column[uid]]):
            raise self._damaged(f"the values of features/{uid} are not those that were written")
        return values

    def check_stimuli(self, name: str, digest: str) -> None:
        """Raise `InputError` unless the features are of the stimuli of the benchmark `name`, which have that digest."""
        if self.header.stimulus_digest != digest:
            raise InputError(
                f"feature store {self.path}: expected features of the stimuli of {name!r} ({digest}), "
                f"got others ({self.header.stimulus_digest}); extract again."
            )

    def row_means(self, uid: str) -> np.ndarray:
        """Return the mean over features of every unprojected row, (n_stimuli,) float32."""
        return self._row_means[:, self._column[self._resolve(uid)]]

    def row_mean_squares(self, uid: str) -> np.ndarray:
        """Return the mean over features of every unprojected row's squares, (n_stimuli,) float32."""
        return self._row_mean_squares[:, self._column[self._resolve(uid)]]

    def telemetry(self, uid: str) -> Telemetry:
        """Return what the values of one map are like, over all stimuli and features before projection."""
        column = self._column[self._resolve(uid)]
        rows = (self._row_means, self._row_mean_squares, self._row_mean_magnitudes)
        moments = np.stack([values[:, column] for values in rows])
        n_dead, histogram = int(self._n_dead[column]), self._histograms[column]
        return summarize(moments, self._n_features[column], n_dead, histogram)

    def ones(self, uid: str) -> np.ndarray:
        """Return the projection of the all-ones vector, (k,) float32."""
        return self._read_small(f"ones/{self._resolve(uid)}")

    def _read_small(self, name: str) -> np.ndarray:
        values = self._read(name)
        if zlib.crc32(values) != self._checksums.get(name):
            raise self._damaged(f"the values of {name} are not those that were written")
        return values

    def _read(self, name: str) -> np.ndarray:
        try:
            return np.ascontiguousarray(self._group[name][:])
        except (OSError, KeyError, ValueError) as error:
            raise self._damaged(f"{name} cannot be read ({type(error).__name__}: {error})") from error

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
