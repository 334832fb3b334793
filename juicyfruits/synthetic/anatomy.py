"""A small head: which voxels are cortex, and which label each has in NSD's ROI maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from juicyfruits.nsd import layout

EARLY = tuple(layout.PRF_VISUALROIS.values())
HIGH = (
    *("OFA", "FFA-1", "FFA-2", "EBA", "FBA-1", "FBA-2", "OPA", "PPA", "RSC", "OWFA", "VWFA-1", "VWFA-2"),
    *layout.OTC_STREAMS,
)
HIGH_WEIGHTS = np.array([1.0] * 12 + [3.0] * 4)
"""Areas of the miniature's OTC and their relative sizes; the mTL and aTL areas are empty, as in some people."""

OUTSIDE_NSDGENERAL = ("OPA", "RSC")
"""Areas that lie outside `nsdgeneral` and outside the streams: of OPA only voxels with a t-value of 1 or more belong to
OTC, as of a floc area, and of RSC none."""


@dataclass(frozen=True)
class Anatomy:
    """One subject's volumes and labelled voxels.

    Attributes:
        maps: name -> int16 (X, Y, Z): -1 outside cortex, 0 cortex without a label, above 0 the label; and the t-values
            of the floc maps, float32.
        brain: bool (X, Y, Z), where the betas hold data at all.
        early, high: int (voxel, 3), the x, y, z of the labelled voxels.
        early_areas, high_areas: the label of each, such as "V1v" or "FFA-1" or "ventral".
    """

    maps: dict[str, np.ndarray]
    brain: np.ndarray
    early: np.ndarray
    early_areas: list[str]
    high: np.ndarray
    high_areas: list[str]


def make_anatomy(shape: tuple[int, int, int], rng: np.random.Generator) -> Anatomy:
    """Grow a subject's cortex in a volume (X, Y, Z): early areas at low y (behind), high ones at high y.

    About 38% of the cortex is early and 40% high; the middle is unlabelled, but for some parietal voxels that lie in
    `nsdgeneral` and must not count as OTC. Every subject's areas differ in place and extent.
    """
    brain, cortex = _head(shape, rng)
    voxels = np.argwhere(cortex)
    behind = voxels[np.argsort(voxels[:, 1] + rng.uniform(0, 1.5, len(voxels)), kind="stable")]
    n_early, n_high = round(0.38 * len(behind)), round(0.40 * len(behind))
    early, middle, high = behind[:n_early], behind[n_early : len(behind) - n_high], behind[len(behind) - n_high :]
    early, early_areas = _parcel(early, EARLY, np.ones(len(EARLY)), rng)
    high, high_areas = _parcel(high, HIGH, HIGH_WEIGHTS, rng)
    maps = {name: np.where(cortex, 0, -1).astype(np.int16) for name in layout.ROI_MAPS}
    _label(maps, early, early_areas, stream="early")
    _label(maps, high, high_areas, stream="ventral")
    _label(maps, middle[::3], ["parietal"] * len(middle[::3]), stream="parietal")
    maps |= {name: _tvalues(maps[areas]) for name, areas in layout.FLOC_TVALUES.items()}
    return Anatomy(maps, brain, early, early_areas, high, high_areas)


def _head(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (brain, cortex): an ellipsoid, lopsided so that no axis can be flipped unnoticed, without its core."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt((x - 0.05) ** 2 + (y + 0.03) ** 2 + (z + 0.08) ** 2) + 0.05 * x * z + 0.03 * y
    brain = radius < 1.15
    return brain, (radius < 1.05) & (radius > 0.3) & (rng.random(shape) > 0.04)


def _parcel(
    voxels: np.ndarray, areas: tuple[str, ...], weights: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """Cut voxels into slabs along x (with ragged borders), one an area, of sizes in proportion to the weights."""
    ordered = voxels[np.argsort(voxels[:, 0] + rng.uniform(0, 1.0, len(voxels)), kind="stable")]
    bounds = np.round(np.cumsum(weights) / weights.sum() * len(ordered)).astype(int)
    labels = np.array(areas)[np.searchsorted(bounds, np.arange(len(ordered)), side="right")]
    return ordered, labels.tolist()


def _tvalues(codes: np.ndarray) -> np.ndarray:
    """Return t-values (X, Y, Z): 4 in labelled voxels, but 0.5 in every fifth diagonal plane; 0 elsewhere."""
    diagonal = np.indices(codes.shape).sum(axis=0)
    return np.where(codes > 0, np.where(diagonal % 5 == 0, 0.5, 4.0), 0.0).astype(np.float32)


def _label(maps: dict[str, np.ndarray], voxels: np.ndarray, areas: list[str], stream: str) -> None:
    """Enter each voxel's area, its stream and nsdgeneral; `stream` is that of areas that are no stream themselves."""
    stream_code = {label: code for code, label in layout.STREAMS.items()}
    for (x, y, z), area in zip(voxels, areas, strict=True):
        for name, table in layout.ROI_MAPS.items():
            for code, label in table.items():
                if label == area:
                    maps[name][x, y, z] = code
        if area not in OUTSIDE_NSDGENERAL:
            maps["nsdgeneral"][x, y, z] = 1
            maps["streams"][x, y, z] = stream_code.get(area, stream_code[stream])
