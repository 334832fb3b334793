"""From the public release of NSD (or anything in its layout) to a prepared benchmark.

Subject by subject and session by session: only the voxels of the chosen ROIs are read from the betas, and only the
chosen pictures from the 39.6 GB of stimuli.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from juicyfruits.benchmark import Benchmark
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import check_replaceable
from juicyfruits.nsd import layout
from juicyfruits.nsd.design import Trials, choose_stimuli, read_trials
from juicyfruits.nsd.files import open_hdf5
from juicyfruits.nsd.rois import check_roi
from juicyfruits.nsd.voxels import Voxels, choose_voxels
from juicyfruits.prepared import ROI_PREFIX
from juicyfruits.write import write_benchmark

STAGE_VERSION = 1
"""Raise it when the method changes: prepared benchmarks then have to be made again."""


def prepare_nsd(
    source: str | Path,
    out: str | Path,
    *,
    subjects: Sequence[str] | None = None,
    image_set: str = "shared1000",
    rois: Sequence[str] | None = None,
    ncsnr_threshold: float = 0.2,
    beta_version: str = layout.DEFAULT_BETAS,
    space: str = layout.DEFAULT_SPACE,
    name: str | None = None,
) -> Benchmark:
    """Prepare a benchmark from a folder in the layout of the NSD release, and print what was left out.

    A response is the beta / 300 (percent signal change), z-scored over all trials of its session,
    (b - mean(b)) / std(b) with ddof = 0, before any selection of stimuli; repeats stand in the order of the trials.
    Kept are the voxels in any chosen ROI with ncsnr > threshold whose data vary in every session.

    Args:
        source: root of the release: holds nsddata, nsddata_betas and nsddata_stimuli.
        out: the benchmark folder to write; an earlier benchmark there is replaced.
        subjects: such as ["subj01", "subj05"]; all that have betas in `source` by default.
        image_set: "shared1000": the common pictures that every chosen subject has seen at least once.
        rois: names that choose the voxels and become the ROI columns. By default the voxels are EVC and OTC, and
            the finer areas that are not empty become columns too.
        ncsnr_threshold: keep voxels above it; the ncsnr map is the beta version's own.
        beta_version: such as "betas_fithrf_GLMdenoise_RR".
        space: such as "func1pt8mm".
        name: the benchmark's name; by default the folder's.

    Returns the written `Benchmark`. Raises `InputError` for missing files, unknown or empty ROIs and subjects, trial
    counts that disagree between the design, the behaviour and the betas, and when no stimulus or voxel is left.
    Sources: Allen et al. 2022 and the NSD Data Manual, fact by fact in `juicyfruits.nsd.layout`.
    """
    source, out = Path(source), Path(out)
    check_replaceable(out, "benchmark.json")
    for roi in rois or ():
        check_roi(roi)
    subjects = choose_subjects(source, subjects, beta_version, space)
    trials = {subject: read_trials(source, subject, beta_version, space) for subject in subjects}
    stimuli, n_dropped = choose_stimuli(source, image_set, trials)
    print(f"{len(stimuli)} stimuli of {image_set}; {n_dropped} dropped because not every subject has seen them")
    tables, responses, masked = [], [], {}
    for subject in subjects:
        voxels = choose_voxels(source, subject, rois, ncsnr_threshold, beta_version, space)
        values, usable = read_responses(trials[subject], voxels, stimuli["nsd_id"].to_numpy())
        tables.append(voxels.table[usable])
        responses.append(values[usable])
        masked[subject] = {**voxels.masked, "flat or without data in a session": int((~usable).sum())}
        reasons = ", ".join(f"{count} {reason}" for reason, count in masked[subject].items())
        if not usable.any():
            raise InputError(
                f"no voxel is left of {subject}; masked: {reasons}; lower the ncsnr threshold, choose other ROIs, or "
                "leave the subject out"
            )
        print(f"{subject}: {usable.sum()} voxels kept; masked: {reasons}")
    return write_benchmark(
        out,
        stimuli,
        read_images(source, stimuli["nsd_id"].to_numpy()),
        neuroids=merge_tables(tables, rois),
        responses=stack(responses),
        info={
            "name": name or out.resolve().name,
            "title": title(source),
            "dataset": "nsd",
            "image_set": image_set,
            "voxel_set": list(rois or layout.VOXEL_SETS),
            "subjects": subjects,
            "beta_version": beta_version,
            "space": space,
            "ncsnr_threshold": ncsnr_threshold,
            "masked_voxels": masked,
            "dropped_stimuli": n_dropped,
            "stage_version": STAGE_VERSION,
            "source": source.resolve().name,
        },
    )


def choose_subjects(source: Path, subjects: Sequence[str] | None, beta_version: str, space: str) -> list[str]:
    """Return the chosen subjects, or all with betas of this version and space; unknown ones are an `InputError`."""
    pattern = layout.betas_folder("subj*", beta_version, space)
    present = sorted(path.parts[-3] for path in source.glob(pattern))
    if not present:
        raise InputError(f"{source} holds no {pattern}; is it the root of the NSD release (or of `make-mini`)?")
    for subject in subjects or ():
        if subject not in present:
            raise InputError(f"no betas of subject {subject!r} in {source}; {near_names(subject, present)}")
    return list(subjects or present)


def read_responses(trials: Trials, voxels: Voxels, nsd_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (responses, usable) of one subject's voxels.

    `responses` is float32 (voxel, stimulus, repetition), z-scored within session, NaN where a repeat is missing;
    `usable` is bool (voxel,): False where the data of a session do not vary, as z-scores do not exist there.
    """
    counts = trials.counts()
    shape = (len(voxels.table), len(nsd_ids), max(counts[nsd_id] for nsd_id in nsd_ids))
    responses = np.full(shape, np.nan, np.float32)
    usable = np.ones(len(voxels.table), dtype=bool)
    column = {nsd_id: i for i, nsd_id in enumerate(nsd_ids)}
    seen = np.zeros(len(nsd_ids), dtype=int)
    for path, shown in tqdm(trials.sessions, desc=f"{trials.subject} betas", unit="session"):
        betas = read_betas(path, voxels)
        varies = betas.max(axis=1) > betas.min(axis=1)
        usable &= varies
        scores = zscore(betas[varies] / layout.BETA_SCALE)
        for trial, nsd_id in enumerate(shown):
            stimulus = column.get(nsd_id)
            if stimulus is not None:
                responses[varies, stimulus, seen[stimulus]] = scores[:, trial]
                seen[stimulus] += 1
    return responses, usable


def zscore(betas: np.ndarray) -> np.ndarray:
    """Z-score the rows (voxel, trial) with ddof = 0, as NumPy, SciPy and scikit-learn do by default."""
    return (betas - betas.mean(axis=1, keepdims=True)) / betas.std(axis=1, keepdims=True)


def read_betas(path: Path, voxels: Voxels) -> np.ndarray:
    """Return the stored betas of these voxels: int16 (voxel, trial), percent signal change x 300.

    The release stores voxels one by one over all trials, so neighbours along x are read together and no others.
    """
    x, y, z = (voxels.table[f"voxel_{axis}"].to_numpy() for axis in "xyz")
    breaks = np.flatnonzero((np.diff(x) != 1) | (np.diff(y) != 0) | (np.diff(z) != 0)) + 1
    with open_hdf5(path, "betas") as betas:
        if (betas.dtype.kind, betas.dtype.itemsize) != ("i", 2) or betas.shape[1:] != voxels.shape[::-1]:
            raise InputError(
                f"{path}: /betas must be int16 (trial, Z, Y, X) with Z, Y, X = {voxels.shape[::-1]} as the ROI maps "
                f"say, but is {betas.dtype} {betas.shape}; betas and maps must be of one space"
            )
        values = np.empty((len(x), betas.shape[0]), betas.dtype)
        starts, stops = [0, *breaks], [*breaks, len(x)]
        for first, last in zip(starts, np.array(stops) - 1, strict=True) if len(x) else ():
            values[first : last + 1] = betas[:, z[first], y[first], x[first] : x[last] + 1].T
    return values


def read_images(source: Path, nsd_ids: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the chosen pictures, (height, width, 3) uint8, one range of the file at a time."""
    with open_hdf5(source / layout.STIMULI, "imgBrick") as brick:
        if brick.dtype != np.uint8 or brick.ndim != 4 or brick.shape[3] != 3:
            raise InputError(
                f"{source / layout.STIMULI}: /imgBrick must be uint8 (picture, height, width, 3), but is {brick.dtype} "
                f"{brick.shape}; fetch it again"
            )
        if nsd_ids.max() >= len(brick):
            raise InputError(
                f"{source / layout.STIMULI} has {len(brick)} pictures, but number {nsd_ids.max()} is needed"
            )
        for nsd_id in tqdm(nsd_ids, desc="pictures", unit="picture"):
            yield brick[nsd_id]


def merge_tables(tables: list[pd.DataFrame], rois: Sequence[str] | None) -> pd.DataFrame:
    """Join the subjects' voxel tables; drop ROI columns without any voxel, unless they were named: an `InputError`."""
    table = pd.concat(tables, ignore_index=True)
    columns = [name for name in table.columns if name.startswith(ROI_PREFIX)]
    empty = [name for name in columns if not table[name].any()]
    if rois and empty:
        raise InputError(f"ROI {empty[0].removeprefix(ROI_PREFIX)!r} has no voxel left in any subject; leave it out")
    return table.drop(columns=empty)


def stack(responses: list[np.ndarray]) -> np.ndarray:
    """Join (voxel, stimulus, repetition) of all subjects; fewer repetitions are filled up with NaN."""
    n_repeats = max(values.shape[2] for values in responses)
    joined = np.full((sum(map(len, responses)), responses[0].shape[1], n_repeats), np.nan, np.float32)
    row = 0
    for values in responses:
        joined[row : row + len(values), :, : values.shape[2]] = values
        row += len(values)
    return joined


def title(source: Path) -> str:
    """Name the data set in a folder of NSD's layout: real, or the miniature, which brings its own truth along."""
    synthetic = (source / layout.TRUTH).exists()
    return "Synthetic miniature brain, in NSD's layout" if synthetic else "Natural Scenes Dataset"
