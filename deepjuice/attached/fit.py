"""A ridge regression from one layer's stored features to the voxels of one region, kept with all that it rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepjuice.alignment import DEFAULT_ALPHAS, fit_ridge, ridge_coefficients, ridge_decompose, ridge_weights
from deepjuice.devices import get_device
from deepjuice.extraction.inspection import MapRecord
from deepjuice.extraction.store import FeatureStore
from juicyfruits import Benchmark
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import atomic_path, reading

ARRAYS = ("alpha", "mean", "coefficients", "intercept")
STIMULI = ("train", "all")


@dataclass(frozen=True, eq=False)
class FittedEncoder:
    """What predicts the voxels of a region from a layer: intercept + (R x - mean) coefficients.

    x is the layer's map, flattened, R the projection that `reduction` describes. Arrays are float64 on the CPU.

    Attributes:
        alpha: (n_voxels,) penalties of the fit.
        mean: (k,) mean features of the stimuli of the fit.
        coefficients: (k, n_voxels) on the features as they are stored, the z-scoring of the fit folded in.
        intercept: (n_voxels,) mean responses.
        layer: the map's record in the store: uid, path, shape.
        roi, subject, neuroids: the region, whose (`None`: all subjects'), and the ids of its voxels in order.
        stimuli: `'train'` or `'all'`, those that were fitted.
        model_uid, weights_digest, precision, reduction, features_digest: of the feature store.
        benchmark, benchmark_digest: name and content.
    """

    alpha: Tensor
    mean: Tensor
    coefficients: Tensor
    intercept: Tensor
    layer: MapRecord
    roi: str
    subject: str | None
    neuroids: tuple[str, ...]
    stimuli: str
    model_uid: str
    weights_digest: str
    precision: str
    reduction: dict[str, Any]
    features_digest: str
    benchmark: str
    benchmark_digest: str

    def predict(self, features: np.ndarray | Tensor) -> Tensor:
        """Predict from stored features (n, k), such as `store[uid]`: (n, n_voxels) float64."""
        X = torch.as_tensor(features).to("cpu", torch.float64)
        if X.ndim != 2 or X.shape[1] != len(self.mean):
            raise InputError(
                f"features of {self.layer.uid}: expected shape (n, {len(self.mean)}), got {tuple(X.shape)}; give rows "
                "of the store that was fitted."
            )
        return torch.addmm(self.intercept, X - self.mean, self.coefficients)

    def save(self, path: str | Path) -> Path:
        """Write one `.npz` file, whole or not at all, and return its path."""
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError(f"file of an encoder {path}: expected a name that ends in .npz.")
        about = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ARRAYS}
        about = json.dumps(about | {"layer": asdict(self.layer)})
        with atomic_path(path) as tmp, open(tmp, "wb") as file:
            np.savez(file, about=np.array(about), **{name: getattr(self, name).numpy() for name in ARRAYS})
        return path

    @classmethod
    def load(cls, path: str | Path) -> FittedEncoder:
        """Read what `save` wrote; raises InputError for any other file."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no fitted encoder at {path}: expected a file that FittedEncoder.save wrote.")
        with reading(path, "a fitted encoder"), np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            record = about.pop("layer")
            about["layer"] = MapRecord(**record | {"shape": tuple(record["shape"])})
            about["neuroids"] = tuple(about["neuroids"])
            return cls(**about, **{name: torch.from_numpy(file[name]) for name in ARRAYS})

    def __repr__(self) -> str:
        whose = f" of {self.subject}" if self.subject else ""
        return (
            f"FittedEncoder from {self.layer.uid} ({self.layer.path}) of {self.model_uid}\n"
            f"  to {len(self.neuroids)} voxels of {self.roi}{whose} in {self.benchmark}; fitted on: {self.stimuli}"
        )


def fit_encoder(
    store: FeatureStore,
    benchmark: Benchmark,
    layer: str,
    roi: str,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    alpha: Mapping[str, float] | None = None,
    subject: str | None = None,
    stimuli: str = "train",
    device: str | torch.device = "auto",
) -> FittedEncoder:
    """Fit the voxels of a region from one layer as scoring does: z-scored features, an alpha a voxel.

    Args:
        store: features of the benchmark's stimuli.
        benchmark: with responses.
        layer: uid of a map (`Conv2d-2-7`) or the dotted path of its module.
        roi: one region of the benchmark.
        alphas: grid of penalties, from which exact leave-one-out chooses.
        alpha: neuroid id -> penalty, where they are known already; then none is chosen.
        subject: whose voxels; those of all subjects by default.
        stimuli: `'train'`, or `'all'` where nothing is to be tested on the others.
        device: where the fit is computed; what is returned is on the CPU.

    Raises:
        InputError: for an unknown layer, region or subject, a region without voxels, and a store of other stimuli.
    """
    device, record = get_device(device), find_layer(store, layer)
    neuroids = _find_neuroids(benchmark, roi, subject)
    store.check_stimuli(benchmark.name, benchmark.stimulus_digest)
    if stimuli not in STIMULI:
        raise InputError(f"stimuli {stimuli!r} to fit: expected one of {', '.join(map(repr, STIMULI))}.")
    rows = np.flatnonzero(benchmark.train) if stimuli == "train" else np.arange(len(benchmark.train))
    decomposition = ridge_decompose(torch.from_numpy(store[record.uid][rows]).to(device))
    Y = torch.from_numpy(benchmark.response_data.loc[neuroids].to_numpy().T[rows]).to(device)
    if alpha is None:
        penalties, weights, intercept = fit_ridge(decomposition, Y, alphas)
    else:
        penalties = torch.tensor([alpha[neuroid] for neuroid in neuroids], dtype=torch.float64, device=device)
        weights, intercept = ridge_weights(decomposition, Y, penalties)
    coefficients, _ = ridge_coefficients(decomposition, weights, intercept)
    arrays = penalties, decomposition.mean, coefficients, intercept
    header = store.header
    return FittedEncoder(
        **{name: tensor.to("cpu", torch.float64) for name, tensor in zip(ARRAYS, arrays, strict=True)},
        layer=record,
        roi=roi,
        subject=subject,
        neuroids=tuple(neuroids),
        stimuli=stimuli,
        model_uid=header.model_uid,
        weights_digest=header.weights_digest,
        precision=header.precision,
        reduction=header.reduction,
        features_digest=store.digest,
        benchmark=benchmark.name,
        benchmark_digest=benchmark.digest,
    )


def find_layer(store: FeatureStore, layer: str) -> MapRecord:
    """Return the record of a map by its uid, or by the path of a module that makes one map; a duplicate has its own."""
    maps = store.header.maps
    by_uid = {record.uid: record for record in maps}
    if layer in by_uid:
        return by_uid[layer]
    by_path = [record for record in maps if record.path == layer]
    if len(by_path) > 1:
        uids = ", ".join(record.uid for record in by_path)
        raise InputError(f"layer {layer!r} of {store.header.model_uid} makes {len(by_path)} maps: name one of {uids}.")
    if not by_path:
        known = [*by_uid, *(record.path for record in maps)]
        raise InputError(f"layer {layer!r} of {store.header.model_uid} is unknown; {near_names(layer, known)}")
    return by_path[0]


def _find_neuroids(benchmark: Benchmark, roi: str, subject: str | None) -> list[str]:
    benchmark.need_responses()
    for what, name, known in (("region", roi, benchmark.rois), ("subject", subject, benchmark.subjects)):
        if name not in known and (what, name) != ("subject", None):
            raise InputError(f"{what} {name!r} of benchmark {benchmark.name!r} is unknown; {near_names(name, known)}")
    by_subject = benchmark.get_roi_indices(row_number=False).get(roi, {})
    found = [neuroid for name, ids in by_subject.items() if subject in (None, name) for neuroid in ids]
    if not found:
        raise InputError(
            f"region {roi!r} of subject {subject!r} in benchmark {benchmark.name!r}: expected voxels, it has none; "
            f"those who have some are {', '.join(map(repr, by_subject)) or 'nobody'}."
        )
    return found
