"""The score dataset: what it must hold."""

from __future__ import annotations

from collections import Counter
from numbers import Number
from typing import NamedTuple

import numpy as np
import xarray as xr

from deepjuice.results.cells import FITTED_METRICS, SPLITS, existing_cells
from deepjuice.results.tidy import MEAN
from juicyfruits.errors import InputError

SCHEMA_VERSION = 3
_CELL = ("metric", "layer", "region", "subject", "split")
_KINDS = {
    "float32": lambda d: d == np.float32,
    "float": lambda d: d.kind == "f",
    "number": lambda d: d.kind in "fiu",
    "integer": lambda d: d.kind in "iu",
    "int64": lambda d: d == np.int64,
    "bool": lambda d: d.kind == "b",
    "text": lambda d: d.kind in "UOT",
}


class Field(NamedTuple):
    """Where a variable stands (its dims, in order) and of which kind its values are."""

    dims: tuple[str, ...]
    kind: str
    required: bool = True


TELEMETRY = ("activation_mean", "activation_std", "dead_share", "treves_rolls", "hoyer")
# Region-level: in every file; `best_of` is every subject and the mean over them.
COORDS = {
    "layer": Field(("layer",), "text"),
    "layer_path": Field(("layer",), "text"),
    "layer_index": Field(("layer",), "integer"),
    "layer_depth": Field(("layer",), "float"),
    "metric": Field(("metric",), "text"),
    "region": Field(("region",), "text"),
    "subject": Field(("subject",), "text"),
    "split": Field(("split",), "text"),
    "best_of": Field(("best_of",), "text"),
    "bin_low": Field(("bin",), "float"),
    "bin_high": Field(("bin",), "float"),
}
VARIABLES = {
    "score": Field(_CELL, "float32"),
    "score_normalized": Field(_CELL, "float32"),
    "ci_low": Field(_CELL, "float32"),
    "ci_high": Field(_CELL, "float32"),
    "p_value": Field(_CELL, "float32"),
    "p_max": Field(_CELL, "float32"),
    "mean_ci_low": Field(("metric", "layer", "region", "split"), "float32"),
    "mean_ci_high": Field(("metric", "layer", "region", "split"), "float32"),
    "ceiling": Field(("metric", "region", "subject", "split"), "float32"),
    "ceiling_low": Field(("metric", "region", "subject", "split"), "float32"),
    "n_features": Field(("layer",), "int64"),
    "width": Field(("layer",), "int64"),
    "effective_dimensionality": Field(("layer",), "float32"),
    **{name: Field(("layer",), "float32") for name in TELEMETRY},
    "n_silent": Field(("layer",), "int64"),
    "activation_histogram": Field(("layer", "bin"), "int64"),
    "subjects_resampled": Field(("region",), "bool"),
    "measured": Field(("region", "subject"), "bool", required=False),
    "n_neuroids": Field(("region", "subject"), "int64", required=False),
}
# Many numbers a layer: all that is large of the region level.
LAYER_ARRAYS = {name: field for name, field in VARIABLES.items() if "layer" in field.dims and len(field.dims) > 1}
# Only in a model's own file.
OWN_VARIABLES = {
    "eigenspectrum": Field(("layer", "component"), "float32"),
    "best_ci_low": Field(("metric", "region", "best_of"), "float32"),
    "best_ci_high": Field(("metric", "region", "best_of"), "float32"),
    "best_df": Field(("metric", "region", "best_of"), "float32"),
    "best_resamples": Field(("metric", "region", "best_of", "resample"), "float32"),
}
# Per voxel: in a model's own file, unless the benchmark is only RDMs.
NEUROID_COORDS = {
    "neuroid": Field(("neuroid",), "text"),
    "neuroid_subject": Field(("neuroid",), "text"),
    "ncsnr": Field(("neuroid",), "float"),
    "voxel_x": Field(("neuroid",), "number", required=False),
    "voxel_y": Field(("neuroid",), "number", required=False),
    "voxel_z": Field(("neuroid",), "number", required=False),
}
NEUROID_VARIABLES = {
    "encoding": Field(("layer", "neuroid", "split"), "float32"),
    "alpha": Field(("layer", "neuroid"), "float32"),
    "neuroid_ceiling": Field(("neuroid", "split"), "float32"),
    "neuroid_in_region": Field(("neuroid", "region"), "bool"),
}
# Only where all models stand in one dataset; `model_attrs` holds each one's attributes as JSON.
AGGREGATE_COORDS = {
    "model_uid": Field(("layer",), "text"),
    "model": Field(("model",), "text"),
}
AGGREGATE_VARIABLES = {
    "model_attrs": Field(("model",), "text"),
    "best_ci_low": Field(("model", "metric", "region", "best_of"), "float32"),
    "best_ci_high": Field(("model", "metric", "region", "best_of"), "float32"),
}
CELL_VARIABLES = ("score", "score_normalized", "ci_low", "ci_high", "p_value", "p_max")


def is_aggregate(ds: xr.Dataset) -> bool:
    """Whether `ds` holds the layers of all models (coord `model_uid(layer)`) and not one model's (attr `model_uid`)."""
    return "model_uid" in ds.coords


def check_scores(ds: xr.Dataset, per_voxel: bool = True) -> None:
    """Raise InputError, one sentence naming the variable or dim, unless `ds` is a valid score dataset.

    Valid is: every required variable with its dims in order and its dtype, none unknown; splits train, test, all;
    unique labels, those of `best_of` being the subjects and "mean"; layers in execution order with depths from 0 to 1;
    histograms that count every value of a layer once; attributes that are text or numbers, with `model_uid` and
    `benchmark` among them; and NaN wherever no cell exists (eReg and eRSA on split "all", a pair of region and subject
    without voxels). Both a model's own file and the aggregate of all models are checked. Without `per_voxel` the scores
    of single voxels are not looked at, nor read.

    >>> check_scores(xr.Dataset())
    Traceback (most recent call last):
    ...
    juicyfruits.errors.InputError: Score dataset: coordinate 'layer' is missing; expected dims ('layer',) of kind text.
    """
    aggregate = is_aggregate(ds)
    voxels = "neuroid" in ds.dims
    if aggregate and voxels:
        raise _bad("dim 'neuroid' has no place in the aggregate of all models; it stays in each model's own file")
    coords = COORDS | (AGGREGATE_COORDS if aggregate else {}) | (NEUROID_COORDS if voxels else {})
    _check_fields(ds, coords, "coordinate")
    variables = VARIABLES | (AGGREGATE_VARIABLES if aggregate else OWN_VARIABLES)
    variables |= NEUROID_VARIABLES if voxels else {}
    _check_fields(ds, variables, "variable")
    _check_attrs(ds, ("benchmark",) if aggregate else ("benchmark", "model_uid"))
    _check_labels(ds)
    _check_layers(ds)
    _check_histograms(ds)
    if voxels:
        _check_neuroids(ds, per_voxel)
    elif aggregate and "measured" not in ds:
        raise _bad("variable 'measured' is missing; an aggregate must say which pairs of region and subject exist")
    elif not aggregate and set(FITTED_METRICS) & set(ds.metric.values.tolist()):
        named = next(m for m in FITTED_METRICS if m in ds.metric.values)
        raise _bad(f"metric lists {named!r} but there is no dim 'neuroid'; a benchmark of RDMs only has cRSA")
    _check_best_of(ds)
    _check_cells(ds)


def _bad(what: str) -> InputError:
    return InputError(f"Score dataset: {what}.")


def _check_fields(ds: xr.Dataset, fields: dict[str, Field], what: str) -> None:
    present = ds.coords if what == "coordinate" else ds.data_vars
    for name, (dims, kind, required) in fields.items():
        if name not in present:
            if required:
                raise _bad(f"{what} {name!r} is missing; expected dims {dims} of kind {kind}")
            continue
        found = ds[name]
        if found.dims != dims:
            raise _bad(f"{what} {name!r} has dims {found.dims}, expected {dims}")
        if not _KINDS[kind](found.dtype):
            raise _bad(f"{what} {name!r} has dtype {found.dtype}, expected {kind}")
    unknown = [str(n) for n in present if n not in fields]
    if unknown:
        raise _bad(f"{what} {unknown[0]!r} is not in the schema; known are {', '.join(fields)}")


def _check_attrs(ds: xr.Dataset, needed: tuple[str, ...]) -> None:
    for name in needed:
        if not isinstance(ds.attrs.get(name), str) or not ds.attrs[name]:
            raise _bad(f"attribute {name!r} is missing; expected a text")
    for name, value in ds.attrs.items():
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, Number)):
            raise _bad(f"attribute {name!r} is {value!r}; NetCDF attributes here are text or numbers")


def _check_labels(ds: xr.Dataset) -> None:
    if tuple(ds.split.values.tolist()) != SPLITS:
        raise _bad(f"coordinate 'split' is {ds.split.values.tolist()}, expected {list(SPLITS)}")
    if MEAN in ds["subject"].values:
        raise _bad(f"dim 'subject' holds {MEAN!r}, which stands for the mean over subjects; rename that subject")
    for dim in ("layer", "metric", "region", "subject", "best_of", "neuroid"):
        if dim not in ds.dims:
            continue
        if not ds.sizes[dim]:
            raise _bad(f"dim {dim!r} is empty")
        labels = ds[dim].values.tolist()
        if dim == "layer" and is_aggregate(ds):  # a trained network and its untrained twin share their uids
            labels = list(zip(ds["model_uid"].values.tolist(), labels, strict=True))
        repeated = [label for label, n in Counter(labels).items() if n > 1]
        if repeated:
            raise _bad(f"coordinate {dim!r} holds {repeated[0]!r} more than once")


def _check_best_of(ds: xr.Dataset) -> None:
    found, expected = ds.best_of.values.tolist(), [*ds.subject.values.tolist(), MEAN]
    if sorted(found) != sorted(expected):
        raise _bad(f"coordinate 'best_of' is {found}, expected every subject and the mean, {expected}")


def _check_layers(ds: xr.Dataset) -> None:
    depth = ds.layer_depth.values
    if not ((depth >= 0) & (depth <= 1)).all():
        raise _bad("coordinate 'layer_depth' leaves the range 0 to 1")
    models = ds.model_uid.values if is_aggregate(ds) else np.zeros(ds.sizes["layer"])
    if (np.diff(ds.layer_index.values)[models[1:] == models[:-1]] <= 0).any():
        raise _bad("coordinate 'layer_index' does not rise; layers stand in the order of execution")


def _check_histograms(ds: xr.Dataset) -> None:
    low, high = ds.bin_low.values, ds.bin_high.values
    if not ((low < high).all() and np.array_equal(high[:-1], low[1:]) and np.isinf([low[0], high[-1]]).all()):
        raise _bad("coordinates 'bin_low' and 'bin_high' are no bins from -inf to inf, one after another")
    counts, n_features = ds.activation_histogram.values, ds.n_features.values
    n_stimuli = counts.sum(axis=1) / n_features
    if (counts < 0).any() or (n_stimuli != n_stimuli[0]).any() or n_stimuli[0] % 1:
        raise _bad("variable 'activation_histogram' does not count n_features values of every stimulus in each layer")


def _check_neuroids(ds: xr.Dataset, per_voxel: bool) -> None:
    strangers = set(ds.neuroid_subject.values.tolist()) - set(ds.subject.values.tolist())
    if strangers:
        raise _bad(f"coordinate 'neuroid_subject' names {sorted(strangers)[0]!r}, which is not in dim 'subject'")
    if per_voxel and ds["encoding"].sel(split="all").notnull().any():  # ds.encoding is xarray's own attribute
        raise _bad("variable 'encoding' has values on split 'all', where nothing is fitted; expected NaN")


def _check_cells(ds: xr.Dataset) -> None:
    exists = existing_cells(ds)
    for name in CELL_VARIABLES:
        values = ds[name]
        if np.isinf(values).any():
            raise _bad(f"variable {name!r} holds an infinite value; an undefined score is NaN")
        stray = (values.notnull() & ~exists).transpose(*_CELL).values
        if stray.any():
            at = np.argwhere(stray)[0]
            cell = ", ".join(str(ds[dim].values[i]) for dim, i in zip(_CELL, at, strict=True))
            raise _bad(f"variable {name!r} has a value at ({cell}), where no cell exists; expected NaN")
