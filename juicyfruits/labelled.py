"""A benchmark's responses as a labelled array, in the dimensions that Brain-Score's assemblies have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from juicyfruits.arrays import blocks
from juicyfruits.prepared import ROI_PREFIX

if TYPE_CHECKING:
    from juicyfruits.benchmark import Benchmark


def to_xarray(benchmark: Benchmark, average: bool = False) -> xr.DataArray:
    """Return float32 (presentation, neuroid): what every neuroid answered to every presentation of a stimulus.

    A presentation is a repeat of a stimulus that any neuroid has, NaN for those that lack it; stimuli in order, and
    the repeats of each together. With `average` it is a stimulus, and the values are those of `response_data`.

    Coordinates of presentation: `stimulus_id` (indexed, for `.sel`), `repetition` from 0 (not averaged), `split`, and
    the other columns of the stimuli; one that is also a neuroid's is called `stimulus_NAME`. Of neuroid: `neuroid_id`
    (indexed), `subject`, one boolean `roi_NAME` an ROI (`_` stands for what netCDF takes in no name),
    `region`, the name of the smallest ROI that the neuroid lies in ("" for none), and the other columns of `metadata`.
    Averages have `n_repeats` (presentation, neuroid) as well.
    Attributes: `name`, `digest`, `source`.

    Raises `InputError` for a benchmark of RDMs.
    """
    responses = benchmark.need_responses()
    present = np.ones((responses.shape[1], 1), bool) if average else _presented(responses)
    stimulus, repetition = np.nonzero(present)
    neuroids = _neuroid_coords(benchmark)
    stimuli = benchmark.stimulus_data.drop(columns="split", errors="ignore").iloc[stimulus]
    clashes = {name: f"stimulus_{name}" for name in stimuli if name in neuroids or name in ("repetition", "region")}
    coords = {name: ("presentation", _plain(column)) for name, column in stimuli.rename(columns=clashes).items()}
    coords["split"] = ("presentation", np.where(benchmark.train[stimulus], "train", "test"))
    coords |= {name: ("neuroid", values) for name, values in neuroids.items()}
    if average:
        coords.pop("n_repeats", None)
        coords["n_repeats"] = (("presentation", "neuroid"), benchmark.repeats().T)
        values = benchmark.response_data.to_numpy().T
    else:
        coords["repetition"] = ("presentation", repetition)
        values = np.empty((len(stimulus), len(responses)), np.float32)
        for rows, block in blocks(responses):
            values[:, rows] = block[:, present].T
    attrs = {"name": benchmark.name, "digest": benchmark.digest, "source": benchmark.info.get("source", "")}
    array = xr.DataArray(values, coords, ("presentation", "neuroid"), attrs=attrs)
    return array.set_xindex("stimulus_id").set_xindex("neuroid_id")


def _presented(responses: np.ndarray) -> np.ndarray:
    """Mark the repeats that any neuroid has: bool (stimulus, repetition)."""
    return np.any([(~np.isnan(block)).any(axis=0) for _, block in blocks(responses)], axis=0)


def _neuroid_coords(benchmark: Benchmark) -> dict[str, np.ndarray]:
    table = benchmark.metadata
    others = table.drop(columns=benchmark.rois)
    coords = {"neuroid_id": _plain(table.index), **{name: _plain(column) for name, column in others.items()}}
    coords |= {name: table[roi].to_numpy() for roi, name in _roi_coords(benchmark.rois).items()}
    region = np.full(len(table), "", object)
    for roi in reversed(sorted(benchmark.rois, key=lambda roi: table[roi].sum())):  # smaller ones over larger ones
        region[table[roi].to_numpy()] = roi
    return {**coords, "region": region.astype(str)}


def _roi_coords(rois: list[str]) -> dict[str, str]:
    """Name the ROIs as netCDF takes names: letters, digits, _ and -; numbered where that makes two alike.

    >>> _roi_coords(["FFA-1", "OTC & !V1", "OTC | V1"])
    {'FFA-1': 'roi_FFA-1', 'OTC & !V1': 'roi_OTC_V1', 'OTC | V1': 'roi_OTC_V1_2'}
    """
    names: dict[str, str] = {}
    for roi in rois:
        plain = ROI_PREFIX + re.sub(r"[^\w-]+", "_", roi).strip("_")
        tries = [plain, *(f"{plain}_{n}" for n in range(2, len(rois) + 1))]
        names[roi] = next(name for name in tries if name not in names.values())
    return names


def _plain(column: pd.Series | pd.Index) -> np.ndarray:
    """Return NumPy's own text for a column of texts, which every file format takes."""
    if pd.api.types.is_string_dtype(column) and not column.isna().any():
        return column.to_numpy().astype(str)
    return column.to_numpy()
