"""Checks of betas and volumes: voxels without data, orientation, ceilings, and data that stand there twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from juicyfruits.doctor.findings import Check, Problem, Problems, counted
from juicyfruits.doctor.series import Map, Measured, Series, measure, read_maps, sample_voxels, session_paths
from juicyfruits.doctor.trials import is_real
from juicyfruits.errors import InputError, first_names
from juicyfruits.ncsnr import compare_ncsnr
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import open_hdf5

AXES = "xyz"
MAX_EMPTY = 0.05  # share of labelled voxels without data; more is no matter of a few voxels at the edge
CLEARLY_HIGHER = 1.1  # mean ncsnr within the labels after a flip, as a multiple of that before
CLEAR_STEP = 4.0  # between two rank correlations: standard errors of Fisher's z
MIN_PAIRS = 30  # voxels below which they say nothing
MAX_NCSNR = 10.0  # beyond it the map probably holds percent


def voxel_checks(series: Series, n_voxels: int | None, seed: int) -> Iterator[Check]:
    """Yield the checks of one series over `n_voxels` labelled voxels drawn by `seed`, or over all for None."""
    maps = cache(lambda: read_maps(series))
    measured = cache(lambda: measure(series, sample_voxels(maps(), n_voxels, seed)))
    yield Check("voxels", series.where, lambda: check_voxels(series, measured()))
    yield Check("orientation", f"{series.where} volumes", lambda: check_volumes(series, maps()))
    yield Check("orientation", series.where, lambda: check_orientation(series, maps(), measured()))
    yield Check("ceilings", f"{series.where} ncsnr", lambda: check_ceilings(series, maps()))
    yield Check("ceilings", series.where, lambda: check_recomputed(series, maps(), measured()))
    yield Check("duplicates", series.where, lambda: check_duplicates(series, measured()))


def check_voxels(series: Series, measured: Measured) -> Problems:
    """Count voxels that are flat or 0 in a session, or reach the ends of int16."""
    yield from measured.problems
    table, n_sessions = measured.table, len(measured.sessions)
    flat, empty = table[table["flat"] > 0], table[table["zero"] == n_sessions]
    if len(flat) > len(empty):
        part = flat.drop(empty.index)
        yield (
            "warning",
            series.where,
            f"{_share(len(part), len(table))} do not vary in a session, such as {_voxels(series, part)}; preparation "
            "masks them, so nothing need be done unless they are many",
        )
    if len(empty):
        yield (
            "warning" if len(empty) <= MAX_EMPTY * len(table) else "error",
            series.where,
            f"{_share(len(empty), len(table))} are 0 in all trials, such as {_voxels(series, empty)}; preparation "
            "masks them, but many of them mean that betas and maps are of different spaces or orientations: fetch both",
        )
    full = table[table["saturated"] > 0]
    if len(full):
        yield (
            "warning",
            series.where,
            f"{_share(len(full), len(table))} reach the ends of int16, -32768 or 32767, in "
            f"{int(full['saturated'].sum())} trials, such as {_voxels(series, full)}; leave them out, as larger values "
            "were cut off",
        )
    return f"{counted(len(table), 'labelled voxel')} vary in each of {counted(n_sessions, 'session')}"


def check_volumes(series: Series, maps: dict[str, Map]) -> Problems:
    """Compare the shapes, affines and contents of the volumes with one another, and the shapes with the betas'."""
    if not maps:
        raise InputError(f"{series.where} has no volume that can be read; fetch its ROI maps and ncsnr")
    shapes = [volume.values.shape for volume in maps.values()]
    shape = max(shapes, key=shapes.count)
    first = next(volume for volume in maps.values() if volume.values.shape == shape)
    for session, path in session_paths(series).items():
        yield from _compare_betas(series, session, path, shape)
    for volume in maps.values():
        if volume.values.shape != shape:
            words = f"is (X, Y, Z) = {volume.values.shape}, but most volumes are {shape}; fetch the maps of one space"
            yield "error", volume.path, words
        elif not np.allclose(volume.affine, first.affine, atol=1e-3):
            yield (
                "warning",
                volume.path,
                f"has {_placed(volume)}, but {first.path} has {_placed(first)}; fetch both again, unless you saved one "
                "of them yourself",
            )
    if is_real(series.root) and shape != layout.VOLUME_SHAPES[series.space][series.subject]:
        released = layout.VOLUME_SHAPES[series.space][series.subject]
        yield "error", first.path, f"is (X, Y, Z) = {shape}, but the release has {released}; fetch the maps again"
    alike = {name: volume for name, volume in maps.items() if volume.values.shape == shape}
    yield from _compare_cortex({name: volume for name, volume in alike.items() if name != "ncsnr"})
    yield from _compare_labels(alike)
    return f"{counted(len(maps), 'volume')} of {' x '.join(map(str, shape))}, betas the reverse"


def check_orientation(series: Series, maps: dict[str, Map], measured: Measured) -> Problems:
    """Verify that ncsnr, recomputed from the betas, fits the shipped map better as it is than flipped."""
    shipped, table = _ncsnr_of(series, maps), measured.table
    as_is = _rank_correlation(_at(shipped, table), table["ncsnr"])
    if as_is is None:
        return f"{counted(len(table), 'voxel')} or their repeats are too few to compare ncsnr with the betas"
    flipped = {axis: _rank_correlation(_at(np.flip(shipped, i), table), table["ncsnr"]) for i, axis in enumerate(AXES)}
    ranks = {axis: rank for axis, rank in flipped.items() if rank is not None} or {"x": -1.0}
    axis = max(ranks, key=ranks.__getitem__)
    if _clearly_higher(ranks[axis], as_is, len(table)):
        yield (
            "error",
            maps["ncsnr"].path,
            f"fits the betas better with its {axis} axis flipped (its rank correlation with ncsnr from the repeats is "
            f"{as_is:.2f} as it is, {ranks[axis]:.2f} flipped); they were saved in different orientations: fetch both",
        )
    return f"ncsnr from the betas follows the map (rank correlation {as_is:.2f}, {ranks[axis]:.2f} with {axis} flipped)"


def check_ceilings(series: Series, maps: dict[str, Map]) -> Problems:
    """Verify that the shipped ncsnr is finite and not negative, and its ceilings are between 0 and 100 percent."""
    values, name = _ncsnr_of(series, maps), maps["ncsnr"].path
    labelled = _labelled(maps, values.shape)
    inside = values[labelled] if labelled.any() else values.ravel()
    n_negative, n_odd = int((values < 0).sum()), int((~np.isfinite(inside)).sum())
    finite = inside[np.isfinite(inside)].astype(np.float64)
    if n_negative:
        yield "error", name, f"has {counted(n_negative, 'negative value')}, but ncsnr is 0 or more; fetch it again"
    if not finite.size or not (finite > 0).any():
        yield "error", name, "is 0 or no number in all labelled voxels; fetch it again"
        return ""
    if n_odd:
        words = f"{_share(n_odd, inside.size)} have no finite ncsnr; preparation leaves them out, nothing need be done"
        yield "warning", name, words
    if finite.max() > MAX_NCSNR:
        words = f"goes up to {finite.max():.0f}, as a noise ceiling in percent would; take the map called ncsnr"
        yield "error", name, words
    ceiling = np.percentile(100 * finite**2 / (finite**2 + 1 / 3), [0, 50, 100])
    return f"noise ceilings {ceiling[0]:.0f} to {ceiling[2]:.0f}%, median {ceiling[1]:.0f}%, for 3 repeats"


def check_recomputed(series: Series, maps: dict[str, Map], measured: Measured) -> Problems:
    """Compare the size of the shipped ncsnr with that recomputed from the repeats."""
    series.behaviour()  # without it nothing could be recomputed: say why
    found = compare_ncsnr(_at(_ncsnr_of(series, maps), measured.table), measured.table["ncsnr"], measured.degrees)
    if not found["matches"]:
        yield (
            "warning",
            maps["ncsnr"].path,
            f"does not fit ncsnr recomputed from the betas ({differs(found)}); make sure that the map is of this beta "
            "version, and that all sessions are there",
        )
    return f"ncsnr recomputed from the betas fits the map ({differs(found)})"


def check_duplicates(series: Series, measured: Measured) -> Problems:
    """Look for voxels, and for sessions, whose betas are the same numbers."""
    vary = measured.table[measured.table["flat"] < len(measured.sessions)]
    same = vary[vary["digest"].duplicated(keep=False)].sort_values("digest")
    if len(same):
        yield (
            "error",
            series.where,
            f"{_share(len(same), len(measured.table))} have the same betas as another, such as "
            f"{_voxels(series, same, 2)}; fetch the betas again",
        )
    first: dict[str, int] = {}
    for session, digest in measured.sessions.items():
        if first.setdefault(digest, session) != session:
            path = layout.betas_session(series.subject, session, series.version, series.space)
            yield "error", path, f"has the same betas as session {first[digest]}; fetch both sessions again"
    return f"no two of {len(measured.table)} voxels and {len(measured.sessions)} sessions are the same"


def _compare_betas(series: Series, session: int, path: Path, shape: tuple[int, ...]) -> Iterator[Problem]:
    try:
        with open_hdf5(path, "betas") as betas:
            got = betas.shape[1:]
    except InputError:
        return  # told under trial counts
    if got != shape[::-1]:
        turned = ", so its axes stand in the order of the volumes" if got == shape else ""
        yield (
            "error",
            layout.betas_session(series.subject, session, series.version, series.space),
            f"/betas must be (trial, Z, Y, X) with Z, Y, X = {shape[::-1]} as the volumes say, but has {got}{turned}; "
            "fetch betas and maps of one space",
        )


def _compare_cortex(rois: dict[str, Map]) -> Iterator[Problem]:
    """All maps of a subject mark the same voxels as outside cortex (-1): the odd one out is of another orientation."""
    cortex = {name: volume.values != -1 for name, volume in rois.items() if (volume.values == -1).any()}
    if len(cortex) < 2:
        return
    apart = {name: sum(int((mask != other).sum()) for other in cortex.values()) for name, mask in cortex.items()}
    usual = min(apart, key=apart.__getitem__)
    for name, mask in cortex.items():
        n_odd = int((mask != cortex[usual]).sum())
        flips = {axis: int((np.flip(mask, i) != cortex[usual]).sum()) for i, axis in enumerate(AXES)}
        axis = min(flips, key=flips.__getitem__)
        if flips[axis] < n_odd / 2:
            yield (
                "error",
                rois[name].path,
                f"its cortex fits that of {usual} better with the {axis} axis flipped ({flips[axis]:,} voxels differ "
                f"instead of {n_odd:,}); it was saved in another orientation: fetch it again",
            )
        elif n_odd:
            words = f"{counted(n_odd, 'voxel')} cortex here but not in {usual}, or the reverse (-1); fetch both again"
            yield "warning", rois[name].path, words


def _compare_labels(maps: dict[str, Map]) -> Iterator[Problem]:
    """Labels lie where responses are reliable: where ncsnr is clearly higher once flipped, it lies otherwise."""
    if "ncsnr" not in maps:
        return
    values = np.nan_to_num(maps["ncsnr"].values.astype(np.float64), posinf=0, neginf=0)
    labelled = _labelled(maps, values.shape)
    if not labelled.any():
        return
    as_is = values[labelled].mean()
    flips = {axis: np.flip(values, i)[labelled].mean() for i, axis in enumerate(AXES)}
    axis = max(flips, key=flips.__getitem__)
    if flips[axis] > CLEARLY_HIGHER * as_is:
        yield (
            "error",
            maps["ncsnr"].path,
            f"is higher within the ROI maps' labels with its {axis} axis flipped (mean {flips[axis]:.3f} instead of "
            f"{as_is:.3f}); it and the ROI maps were saved in different orientations: fetch both again",
        )


def _labelled(maps: dict[str, Map], shape: tuple[int, ...]) -> np.ndarray:
    masks = [m.values > 0 for name, m in maps.items() if name != "ncsnr" and m.values.shape == shape]
    return np.any(masks, axis=0) if masks else np.zeros(shape, dtype=bool)


def _ncsnr_of(series: Series, maps: dict[str, Map]) -> np.ndarray:
    if "ncsnr" not in maps:
        key = layout.ncsnr_map(series.subject, series.version, series.space)
        raise InputError(f"there is no {key} that can be read as a volume; fetch it")
    return maps["ncsnr"].values


def _at(volume: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """Return the volume's values at the table's voxels; NaN outside of it."""
    xyz = table[["x", "y", "z"]].to_numpy()
    values = np.full(len(xyz), np.nan)
    inside = (xyz < volume.shape).all(axis=1)
    values[inside] = volume[tuple(xyz[inside].T)]
    return values


def differs(found: dict) -> str:
    """Say in words how two estimates of ncsnr differ, as `compare_ncsnr` found."""
    if not found["n_voxels"]:
        return "nothing to compare"
    correlation = "" if found["correlation"] is None else f"correlation {found['correlation']:.2f}, "
    return f"{correlation}median difference {found['median_difference']:+.3f} over {found['n_voxels']:,}"


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return Spearman's correlation over the voxels that have both; None for too few, or where one does not vary."""
    both = np.isfinite(first) & np.isfinite(second)
    first, second = np.asarray(first)[both], np.asarray(second)[both]
    if len(first) < MIN_PAIRS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second)[0])


def _clearly_higher(correlation: float, other: float, n: int) -> bool:
    """Whether Fisher's z of two correlations over n voxels are more than CLEAR_STEP standard errors apart."""
    step = np.arctanh(min(correlation, 0.999)) - np.arctanh(np.clip(other, -0.999, 0.999))
    return step > CLEAR_STEP / np.sqrt(n - 3)


def _voxels(series: Series, table: pd.DataFrame, n: int = 3) -> str:
    return first_names([layout.neuroid_id(series.subject, *xyz) for xyz in table[["x", "y", "z"]].to_numpy()], n)


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} labelled voxels ({100 * count / total:.1f}%)"


def _placed(volume: Map) -> str:
    """Say how the affine places a volume: its directions, voxel sizes in mm, and origin in mm."""
    sizes = " x ".join(f"{size:.2f}" for size in nib.affines.voxel_sizes(volume.affine))
    origin = ", ".join(f"{value:.1f}" for value in volume.affine[:3, 3])
    return f"axes {''.join(nib.aff2axcodes(volume.affine))}, voxels of {sizes} mm and origin ({origin})"
