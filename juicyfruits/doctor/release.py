"""Checks of a folder in NSD's layout that need no betas: files, pictures, ROI codes, the design and the trials."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from juicyfruits.doctor.findings import Check, Problem, Problems, counted
from juicyfruits.doctor.series import all_series, key_of
from juicyfruits.doctor.trials import check_order, check_shared, check_trials
from juicyfruits.doctor.voxels import voxel_checks
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import reading
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import open_hdf5, read_volume
from juicyfruits.remote.records import FOLDER as RECORDS

VOLUMES = (
    "nsddata/ppdata/*/func*/*.nii.gz",
    "nsddata/ppdata/*/func*/roi/*.nii.gz",
    "nsddata_betas/ppdata/*/func*/*/ncsnr.nii.gz",
)
STORED = ("nsddata_stimuli/stimuli/nsd/*.hdf5", "nsddata_betas/ppdata/*/func*/*/betas_session*.hdf5")
MAX_HASHED_PICTURES = 12_000  # all that one subject saw, and not the release's 73,000 in 39.6 GB


def release_checks(root: Path, *, hashes: bool, thorough: bool, n_voxels: int, seed: int) -> Iterator[Check]:
    """Yield the checks of a folder in NSD's layout, one subject after the other."""
    yield files_check(root, hashes)
    yield Check("pictures", "stimuli", partial(check_pictures, root, thorough))
    yield Check("stimulus order", "shared1000", partial(check_shared, root))
    for subject in sorted({path.name for path in root.glob("nsddata*/ppdata/subj*")}):
        yield Check("stimulus order", subject, partial(check_order, root, subject))
        for space in (name for name in layout.SPACES if (root / layout.roi_map(subject, "", name)).parent.is_dir()):
            yield Check("ROI codes", f"{subject} {space}", partial(check_codes, root, subject, space))
    found = all_series(root)
    if not found:
        yield Check("trial counts", "betas", partial(_tell_no_betas, root))
    for series in found:
        yield Check("trial counts", series.where, partial(check_trials, series))
        yield from voxel_checks(series, None if thorough else n_voxels, seed)


def files_check(root: Path, hashes: bool) -> Check:
    """Return the check of all files, which needs no layout."""
    return Check("files", root.name, partial(check_files, root, hashes))


def check_files(root: Path, hashes: bool) -> Problems:
    """Compare fetched files with the records of their fetch, and open every HDF5 and NIfTI file.

    A record is `.fetched/KEY.json` with key, size and sha256. NIfTI files are read to their end, which verifies
    gzip's checksum; of HDF5 files the structure and the length are verified.
    """
    records = sorted((root / RECORDS).rglob("*.json"))
    for path in tqdm(records, "fetched files", unit="file", disable=not (hashes and records)):
        try:
            with reading(path, "the record of a fetched file"):
                record = json.loads(path.read_text(encoding="utf-8"))
        except InputError as error:
            yield "error", key_of(root, path), str(error)
            continue
        yield from _compare(root, record, hashes)
    for path in sorted(root.rglob("*.part")):
        yield (
            "warning",
            key_of(root, path),
            f"is what an unfinished fetch left ({counted(path.stat().st_size, 'byte')}); fetch again to finish it, or "
            "delete it",
        )
    volumes, stored = _files(root, VOLUMES, ".nii.gz"), _files(root, STORED, ".hdf5")
    for path in [*volumes, *stored]:
        try:
            read_volume(path) if path in volumes else _open(path)
        except InputError as error:
            yield "error", key_of(root, path), str(error)
    compared = f"{counted(len(records), 'record')} of a fetch agree{'' if hashes else ' in size, sums not compared'}"
    opened = f"{counted(len(volumes), 'NIfTI file')} and {counted(len(stored), 'HDF5 file')} are whole"
    return f"{compared if records else 'no fetch recorded sums to compare'}, {opened}"


def check_pictures(root: Path, thorough: bool) -> Problems:
    """Look for pictures that are blank or the same, and verify the ids of those fetched by ranges."""
    chosen = (root / layout.CHOSEN_STIMULI).exists() and not (root / layout.STIMULI).exists()
    path = root / (layout.CHOSEN_STIMULI if chosen else layout.STIMULI)
    name = key_of(root, path)
    with open_hdf5(path, "imgBrick") as brick:
        if brick.dtype != np.uint8 or brick.ndim != 4 or brick.shape[3] != 3:
            yield (
                "error",
                name,
                f"/imgBrick must be uint8 (picture, height, width, 3), but is {brick.dtype} {brick.shape}; fetch again",
            )
            return ""
        ids = brick.parent["nsd_id"][:] if "nsd_id" in brick.parent else np.arange(len(brick))
        if len(ids) != len(brick) or (np.diff(ids) <= 0).any() or (ids < 0).any():
            yield (
                "error",
                name,
                f"/nsd_id must name the {len(brick):,} pictures once each in ascending order, but has {len(ids):,} ids "
                f"with {int((np.diff(ids) <= 0).sum())} out of order; delete the file and fetch it again",
            )
            return ""
        if len(brick) > MAX_HASHED_PICTURES and not thorough:
            return f"{len(brick):,} pictures in {name}, too many to compare one by one unless asked to be thorough"
        yield from _judge_pictures(name, brick, ids)
    return f"{len(ids):,} pictures, no two the same"


def check_codes(root: Path, subject: str, space: str) -> Problems:
    """Verify that ROI maps hold only -1 (outside cortex), 0 (cortex without a label) and the labels of the layout."""
    n_maps, n_labelled = 0, 0
    for map_name, labels in layout.ROI_MAPS.items():
        path = root / layout.roi_map(subject, map_name, space)
        if not path.exists():
            continue
        try:
            volume = read_volume(path)
        except InputError as error:
            yield "error", key_of(root, path), str(error)
            continue
        n_maps, n_labelled = n_maps + 1, n_labelled + int((volume > 0).sum())
        for level, words in _judge_codes(volume, labels):
            yield level, key_of(root, path), words
    if not n_maps:
        yield "warning", f"{subject} {space}", f"none of the maps {', '.join(layout.ROI_MAPS)}; fetch what you need"
    return f"{counted(n_maps, 'map')} with {counted(n_labelled, 'label')} in all"


def _tell_no_betas(root: Path) -> Problems:
    yield "warning", root.name, "holds no betas, so no voxel was examined; fetch those of the subjects you need"
    return ""


def _compare(root: Path, record: dict, hashes: bool) -> Iterator[Problem]:
    key, path = record["key"], root / record["key"]
    remedy = "delete it and fetch it again"
    if not path.is_file():
        yield "error", key, "was fetched, but is not there any more; fetch it again"
    elif path.stat().st_size != record["size"]:
        yield "error", key, f"has {path.stat().st_size:,} bytes, but {record['size']:,} were fetched; {remedy}"
    elif hashes and record["sha256"]:
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != record["sha256"]:
            yield "error", key, f"has sha256 {got[:12]}..., but {record['sha256'][:12]}... was fetched; {remedy}"


def _judge_pictures(name: str, brick: h5py.Dataset, ids: np.ndarray) -> Iterator[Problem]:
    blank: list[int] = []
    seen: dict[bytes, list[int]] = {}
    for nsd_id, row in zip(ids.tolist(), tqdm(range(len(brick)), desc="pictures", unit="picture"), strict=True):
        picture = brick[row]
        same = blank if picture.min() == picture.max() else seen.setdefault(hashlib.sha256(picture).digest(), [])
        same.append(nsd_id)
    if blank:
        yield (
            "error",
            name,
            f"{counted(len(blank), 'picture')} of one colour, so probably never fetched: nsd ids {first_names(blank)}; "
            "delete the file and fetch it again",
        )
    groups = [group for group in seen.values() if len(group) > 1]
    if groups:
        yield (
            "warning",
            name,
            f"{counted(len(groups), 'picture')} stored under several nsd ids, such as {first_names(groups[0])}; leave "
            "all but one of them out if they must not be in train and test",
        )


def _files(root: Path, patterns: tuple[str, ...], suffix: str) -> list[Path]:
    """Return the files that are used of a release, which a whole copy of it has many more of; all of other data."""
    layouts = patterns if any(root.glob("nsddata*")) else (f"**/*{suffix}",)
    return sorted(path for pattern in layouts for path in root.glob(pattern))


def _open(path: Path) -> None:
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        raise InputError(f"{path} is no whole HDF5 file ({error}); fetch it again") from error


def _judge_codes(volume: np.ndarray, labels: dict[int, str]) -> Iterator[tuple[str, str]]:
    known = [-1, 0, *labels]
    if volume.ndim != 3 or volume.dtype.kind not in "fiu":
        yield "error", f"must be whole numbers (X, Y, Z), but is {volume.dtype} {volume.shape}; fetch it again"
        return
    odd = volume[~np.isin(volume, known)]
    if odd.size:
        yield (
            "error",
            f"has {counted(odd.size, 'voxel')} with codes {first_names(np.unique(odd))}, but only -1, 0 and the labels "
            f"1 to {max(labels)} exist; fetch it again",
        )
    if not (volume > 0).any():
        yield "warning", "labels no voxel at all, so its ROIs are empty; fetch it again unless that is meant"
    if not (volume == -1).any():
        yield (
            "warning",
            "has no voxel with -1, so what lies outside cortex is not told from cortex without a label; fetch it again "
            "unless you made it yourself",
        )
