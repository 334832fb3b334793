"""Which cells of a score table exist: a NaN in one of them is an undefined score, a NaN elsewhere is nothing."""

from __future__ import annotations

import numpy as np
import xarray as xr

SPLITS = ("train", "test", "all")
FITTED_METRICS = ("eReg", "eRSA")  # they predict from a fit on the train split: nothing of theirs exists on "all"


PARTIAL_METRICS = ("pRSA",)  # of which some maps have no score: profiles do not know them as layers


def measured_pairs(ds: xr.Dataset) -> xr.DataArray:
    """Return which (region, subject) pairs were measured, as bool of shape (region, subject).

    The variable `measured` says so where there is one; otherwise a pair is measured if the subject has a voxel in the
    region or, for a benchmark of RDMs without voxels, if any of the pair's scores or ceilings is a number.
    """
    if "measured" in ds:
        return ds["measured"]
    if "neuroid" in ds.dims:
        return count_neuroids(ds) > 0
    scored = ds["score"].notnull().any(("metric", "layer", "split"))
    return (scored | ds["ceiling"].notnull().any(("metric", "split"))).transpose("region", "subject")


def count_neuroids(ds: xr.Dataset) -> xr.DataArray:
    """Return the number of voxels of each subject in each region, int64 of shape (region, subject)."""
    member = ds["neuroid_in_region"].values.astype(np.int64)
    owner = ds["neuroid_subject"].values[:, None] == ds["subject"].values[None, :]
    coords = {"region": ds["region"], "subject": ds["subject"]}
    return xr.DataArray(member.T @ owner.astype(np.int64), coords, dims=("region", "subject"))


def existing_cells(ds: xr.Dataset) -> xr.DataArray:
    """Return which cells exist, as bool with the dims metric, region, subject, split (every layer has the same).

    Two kinds never do: a fitted metric (eReg, eRSA) on split "all", and a pair of region and subject that nobody
    measured. A NaN in any other cell is an undefined score (say the correlation of a constant) and is kept as such.
    """
    metric = ds["metric"].isin(FITTED_METRICS)
    return ~(metric & (ds["split"] == "all")) & measured_pairs(ds)


def scored_layers(ds: xr.Dataset) -> xr.DataArray:
    """Return of which layers a metric exists, as bool of shape (metric, layer).

    pRSA exists of layers that have any such score, since other maps are no layers of a profile; where none has, and
    for all other metrics, it exists of all.
    """
    found = ds["score"].notnull().any(("region", "subject", "split")).transpose("metric", "layer")
    partial = ds["metric"].isin(PARTIAL_METRICS) & found.any("layer")
    return found | ~partial
