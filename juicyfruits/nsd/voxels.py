"""Choose the voxels of one subject: in a region, and reliable enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from juicyfruits.errors import InputError
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import read_volume
from juicyfruits.nsd.rois import named_rois, roi_mask
from juicyfruits.prepared import ROI_PREFIX

COLUMNS = ("neuroid_id", "subject", "ncsnr", "voxel_x", "voxel_y", "voxel_z")


@dataclass(frozen=True)
class Voxels:
    """One subject's chosen voxels.

    Attributes:
        table: a row a voxel: `COLUMNS` (indices 0-based in the NIfTI volume) and one boolean `roi_NAME` a region; z
            slowest and x fastest, which is the order of the betas' storage.
        shape: (X, Y, Z) of the volumes they come from.
        masked: reason -> how many voxels of the regions were left out.
    """

    table: pd.DataFrame
    shape: tuple[int, int, int]
    masked: dict[str, int]


def choose_voxels(
    source: Path, subject: str, rois: Sequence[str] | None, threshold: float, beta_version: str, space: str
) -> Voxels:
    """Return the voxels in any of `rois` (EVC and OTC by default) whose ncsnr is above the threshold.

    Raises `InputError` for ROIs that cannot be read, for volumes that do not fit one another, and when no voxel is
    left.
    """
    chosen = named_rois(rois or layout.VOXEL_SETS)
    columns = chosen if rois else named_rois([*layout.VOXEL_SETS, *layout.FINER_ROIS])
    ncsnr_path = source / layout.ncsnr_map(subject, beta_version, space)
    ncsnr = read_volume(ncsnr_path)
    if ncsnr.ndim != 3 or ncsnr.dtype.kind not in "fiu":
        raise InputError(
            f"{ncsnr_path} must be numbers of (X, Y, Z), but is {ncsnr.dtype} {ncsnr.shape}; fetch it again"
        )

    @cache
    def read_map(map_name: str) -> np.ndarray:
        volume = read_volume(source / layout.roi_map(subject, map_name, space))
        if volume.shape != ncsnr.shape:
            raise InputError(
                f"{subject}: the ROI map {map_name!r} is {volume.shape} but ncsnr is {ncsnr.shape}; they must be of "
                "one space"
            )
        if map_name in layout.ROI_MAPS and not np.isfinite(volume).all():
            raise InputError(f"{subject}: the ROI map {map_name!r} has codes that are no numbers; fetch it again")
        return volume

    masks = {name: roi_mask(expression, read_map) for name, expression in columns.items()}
    inside = np.any([masks[name] for name in chosen], axis=0)
    reliable = np.isfinite(ncsnr) & (np.nan_to_num(ncsnr) > threshold)
    masked = {f"ncsnr not above {threshold:g}": int((inside & ~reliable & ~np.isinf(ncsnr)).sum())}
    if n_infinite := int((inside & np.isinf(ncsnr)).sum()):
        masked["ncsnr infinite"] = n_infinite
    z, y, x = np.nonzero((inside & reliable).T)
    ids = [layout.neuroid_id(subject, *xyz) for xyz in zip(x, y, z, strict=True)]
    columns = dict(zip(COLUMNS, (ids, subject, ncsnr[x, y, z].astype(np.float32), x, y, z), strict=True))
    table = pd.DataFrame(columns | {ROI_PREFIX + roi: mask[x, y, z] for roi, mask in masks.items()})
    if table.empty:
        raise none_left(subject, masked)
    return Voxels(table, inside.shape, masked)


def none_left(subject: str, masked: dict[str, int]) -> InputError:
    """Say that no voxel of a subject is left, and why."""
    return InputError(
        f"no voxel is left of {subject}; masked: {told(masked)}; lower the ncsnr threshold, choose other ROIs, or "
        "leave the subject out"
    )


def told(masked: dict[str, int]) -> str:
    """Say how many voxels were masked and why, as one line."""
    return ", ".join(f"{count} {reason}" for reason, count in masked.items())
