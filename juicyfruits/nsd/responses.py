"""One subject's betas: read voxel block by voxel block, z-scored within session, and streamed to disk by picture."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from juicyfruits.errors import InputError
from juicyfruits.files import reading
from juicyfruits.ncsnr import estimate_ncsnr
from juicyfruits.nsd.design import Trials
from juicyfruits.nsd.files import open_hdf5
from juicyfruits.nsd.voxels import Voxels

BLOCK = 2**22  # values a block, voxels x trials: 32 MiB as float64, a few times over


@dataclass(frozen=True)
class Job:
    """What is to be read of one subject, and where to.

    Attributes:
        trials, voxels: the subject's.
        nsd_ids: (stimulus,) pictures to keep, 0-based.
        n_repeats: repetitions to keep of each.
        average: over the repetitions that are there, instead of keeping them.
        path: file to write: raw little-endian float32 of (usable voxel, stimulus, repetition).
    """

    trials: Trials
    voxels: Voxels
    nsd_ids: np.ndarray
    n_repeats: int
    average: bool
    path: Path


@dataclass(frozen=True)
class Answers:
    """What came of a job.

    Attributes:
        usable: (voxel,) False where the data of a session do not vary, as z-scores do not exist there.
        ncsnr: (usable voxel,) float64, recomputed from all pictures with repeats; NaN where there are none.
        degrees: the sum over these pictures of (repeats - 1).
    """

    usable: np.ndarray
    ncsnr: np.ndarray
    degrees: int


def read_all(jobs: list[Job], n_processes: int) -> list[Answers]:
    """Work on several subjects, each in a process of its own, at most `n_processes` at a time; the same for any number.

    Raises `InputError` for what is wrong with a subject's files, and when a process was killed.
    """
    if n_processes == 1 or len(jobs) == 1:
        return [read_answers(job) for job in jobs]
    workers = min(n_processes, len(jobs))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            return list(pool.map(read_answers, jobs))
        except BrokenProcessPool as error:
            raise InputError(
                f"a process that read betas was killed, as happens when memory is short; prepare with fewer than "
                f"{n_processes} jobs"
            ) from error


def _end_with_parent() -> None:
    """Let a worker end when the process that started it was killed; it would wait for work for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def read_answers(job: Job) -> Answers:
    """Read one subject's voxels, write the kept pictures' responses to the job's file, and recompute ncsnr.

    Only these voxels are read, and never more than a block of them is in memory; files of a release hold single voxels
    over all trials, so that nothing is read twice.
    """
    shown = np.concatenate(job.trials.shown)
    kept = trial_table(shown, job.nsd_ids, job.n_repeats)
    pictures, counts = np.unique(shown, return_counts=True)
    repeated = trial_table(shown, pictures[counts >= 2], counts.max(initial=0))
    usable, ncsnr = [], []
    with (
        job.path.open("wb") as out,
        tqdm(total=len(job.voxels.table), desc=f"{job.trials.subject} betas", unit="voxel") as bar,
    ):
        for betas in read_blocks(job.trials, job.voxels):
            varies = np.all([part.max(axis=1) > part.min(axis=1) for part in betas], axis=0)
            scores = with_missing([zscore(part[varies]) for part in betas])
            values = np.take(scores, kept, axis=1)
            if job.average:
                values = np.nanmean(values, axis=2, keepdims=True)
            values.astype("<f4").tofile(out)
            usable.append(varies)
            ncsnr.append(estimate_ncsnr(np.take(scores, repeated, axis=1), total_variance=1.0))
            bar.update(len(varies))
    return Answers(np.concatenate(usable), np.concatenate(ncsnr), int((counts[counts >= 2] - 1).sum()))


def read_blocks(trials: Trials, voxels: Voxels) -> Iterator[list[np.ndarray]]:
    """Yield blocks of the voxels in their order, each a list with the stored int16 (voxel, trial) of every session."""
    n_trials = sum(len(shown) for shown in trials.shown)
    size = max(1, BLOCK // n_trials)
    with ExitStack() as stack:
        files = [(path, stack.enter_context(open_betas(path, voxels.shape))) for path, _ in trials.sessions]
        for start in range(0, len(voxels.table), size):
            at = voxels.table.iloc[start : start + size]
            x, y, z = (at[f"voxel_{axis}"].to_numpy() for axis in "xyz")
            yield [read_voxels(path, betas, x, y, z) for path, betas in files]


@contextmanager
def open_betas(path: Path, shape: tuple[int, int, int]) -> Iterator[h5py.Dataset]:
    """Yield `/betas` of a session, after checking that it is int16 (trial, Z, Y, X) of volumes of this (X, Y, Z)."""
    with open_hdf5(path, "betas") as betas:
        if (betas.dtype.kind, betas.dtype.itemsize) != ("i", 2) or betas.shape[1:] != shape[::-1]:
            raise InputError(
                f"{path}: /betas must be int16 (trial, Z, Y, X) with Z, Y, X = {shape[::-1]} as the ROI maps "
                f"say, but is {betas.dtype} {betas.shape}; betas and maps must be of one space"
            )
        yield betas


def read_voxels(path: Path, betas: h5py.Dataset, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the stored betas of voxels: int16 (voxel, trial); neighbours along x are read together and no others."""
    values = np.empty((len(x), betas.shape[0]), np.int16)
    starts = np.flatnonzero(
        (np.diff(x, prepend=-9) != 1) | (np.diff(y, prepend=-9) != 0) | (np.diff(z, prepend=-9) != 0)
    )
    with reading(path, "betas"):
        for first, stop in zip(starts, [*starts[1:], len(x)], strict=True):
            values[first:stop] = betas[:, z[first], y[first], x[first] : x[first] + stop - first].T
    return values


def zscore(betas: np.ndarray) -> np.ndarray:
    """Z-score the rows (voxel, trial) with ddof = 0, as NumPy, SciPy and scikit-learn do by default; float64."""
    return (betas - betas.mean(axis=1, keepdims=True)) / betas.std(axis=1, keepdims=True)


def with_missing(sessions: list[np.ndarray]) -> np.ndarray:
    """Join the sessions' (voxel, trial), and add a last column of NaN, for which -1 stands in a `trial_table`."""
    return np.concatenate([*sessions, np.full((len(sessions[0]), 1), np.nan)], axis=1)


def trial_table(shown: np.ndarray, nsd_ids: np.ndarray, n_repeats: int) -> np.ndarray:
    """Return (stimulus, repetition): in which trials pictures were shown, in the order of the trials; -1 for never.

    >>> trial_table(np.array([7, 5, 7, 9]), np.array([5, 7]), 2)
    array([[ 1, -1],
           [ 0,  2]])
    """
    row = {nsd_id: i for i, nsd_id in enumerate(nsd_ids.tolist())}
    table = np.full((len(nsd_ids), n_repeats), -1)
    seen = np.zeros(len(nsd_ids), dtype=int)
    for trial, nsd_id in enumerate(shown.tolist()):
        if nsd_id in row:
            stimulus = row[nsd_id]
            table[stimulus, seen[stimulus]] = trial
            seen[stimulus] += 1
    return table


def join_files(parts: list[Path], shape: tuple[int, ...], path: Path) -> Path:
    """Join raw files of float32 rows into one .npy of this shape, deleting them one by one to save room on the disk."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for part in parts:
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file, 2**22)
            part.unlink()
    return path
