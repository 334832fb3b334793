"""From ROI volumes to masks: single labels, areas in parts, and the voxel sets EVC and OTC."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from juicyfruits.errors import InputError, near_names
from juicyfruits.nsd import layout

ReadMap = Callable[[str], np.ndarray]
"""Gives the volume (X, Y, Z) of an ROI map by its name, such as "streams"."""


def known_rois() -> list[str]:
    """Every ROI name that `roi_mask` understands: voxel sets, areas, and the single labels of the maps."""
    labels = [label for table in layout.ROI_MAPS.values() for label in table.values()]
    return [*layout.VOXEL_SETS, *layout.ROI_GROUPS, *labels]


def check_roi(name: str) -> None:
    """Raise `InputError`, with the names that look like it, if `name` is no ROI."""
    if name not in known_rois():
        raise InputError(f"unknown ROI {name!r}; {near_names(name, known_rois())}")


def roi_mask(name: str, read_map: ReadMap) -> np.ndarray:
    """Return the boolean mask (X, Y, Z) of an ROI; only codes above 0 are labels.

        EVC = V1v, V1d, V2v, V2d, V3v, V3d and hV4
        OTC = (nsdgeneral and one of the streams midventral, midlateral, ventral, lateral) or any floc area

    Raises `InputError` for an unknown name. Source of the sets: [DeepNSD] in `juicyfruits.nsd.layout`.
    """
    check_roi(name)
    if name == "EVC":
        return read_map("prf-visualrois") > 0
    if name == "OTC":
        stream = _any_label(layout.OTC_STREAMS, read_map)
        floc = np.any([read_map(floc_map) > 0 for floc_map in layout.FLOC_MAPS], axis=0)
        return ((read_map("nsdgeneral") > 0) & stream) | floc
    return _any_label(layout.ROI_GROUPS.get(name, (name,)), read_map)


def _any_label(labels: tuple[str, ...], read_map: ReadMap) -> np.ndarray:
    return np.any([_label_mask(label, read_map) for label in labels], axis=0)


def _label_mask(label: str, read_map: ReadMap) -> np.ndarray:
    for map_name, table in layout.ROI_MAPS.items():
        for code, known in table.items():
            if known == label:
                return read_map(map_name) == code
    raise KeyError(label)
