"""The arrays of a benchmark folder, responses or RDMs, read and checked against its tables."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from juicyfruits.errors import InputError, first_names
from juicyfruits.files import reading
from juicyfruits.ncsnr import estimate_ncsnr

Rdms = dict[str, dict[str, np.ndarray]]
BLOCK = 2**22  # values a block: 32 MiB as float64


def read_responses(path: Path, neuroid_ids: pd.Index, stimulus_ids: pd.Series) -> np.ndarray:
    """Return (neuroid, stimulus, repetition), memory-mapped where the file is .npy, checked against both tables.

    Rows and columns of a .csv or .parquet are matched by their ids, an array's by their order.
    """
    responses = _mapped(path) if path.suffix == ".npy" else _labelled(path, neuroid_ids, stimulus_ids)
    if responses.ndim == 2:
        responses = responses[:, :, None]
    return check_responses(path, responses, neuroid_ids, stimulus_ids)


def check_responses(path: Path, responses: np.ndarray, neuroid_ids: pd.Index, stimulus_ids: pd.Series) -> np.ndarray:
    """Return (neuroid, stimulus, repetition) if it is numbers of the tables' shape and finite enough."""
    expected = (len(neuroid_ids), len(stimulus_ids))
    if responses.ndim != 3 or responses.shape[:2] != expected or 0 in responses.shape or not _is_number(responses):
        raise InputError(
            f"{path} must be numbers of (neuroid, stimulus[, repetition]) = {expected} by neuroids.csv and "
            f"stimuli.csv, of at most 64 bits, but is {responses.dtype} {responses.shape}; make the three files agree"
        )
    _check_finite(path, responses, neuroid_ids)
    return responses


def blocks(responses: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, a copy of them), a few million values at a time, however large a memory-mapped file is.

    >>> [(rows.start, block.shape) for rows, block in blocks(np.zeros((3, 2**20, 2)))]
    [(0, (2, 1048576, 2)), (2, (1, 1048576, 2))]
    """
    size = max(1, BLOCK // max(1, responses[:1].size))
    for start in range(0, len(responses), size):
        rows = slice(start, start + size)
        yield rows, np.array(responses[rows])
        _release(responses)


def some_responses(responses: np.ndarray, neuroids: np.ndarray, stimuli: np.ndarray) -> np.ndarray:
    """Return the responses of these neuroids to these stimuli (masks): the same array if those are all of them."""
    if neuroids.all() and stimuli.all():
        return responses
    chosen = np.empty((neuroids.sum(), stimuli.sum(), responses.shape[2]), responses.dtype)
    row = 0
    for rows, block in blocks(responses):
        kept = block[neuroids[rows]][:, stimuli]
        chosen[row : row + len(kept)] = kept
        row += len(kept)
    return chosen


def mean_responses(responses: np.ndarray) -> np.ndarray:
    """Average (neuroid, stimulus, repetition) over the repeats that are there, in float64: float32 (neuroid, stimulus).

    >>> mean_responses(np.array([[[60000, 60000, np.nan]]], dtype=np.float16))
    array([[60000.]], dtype=float32)
    """
    means = np.empty(responses.shape[:2], np.float32)
    for rows, block in blocks(responses):
        means[rows] = np.nanmean(block, axis=2, dtype=np.float64)
    return means


def count_repeats(responses: np.ndarray) -> np.ndarray:
    """Count the repeats that are there, in (neuroid, stimulus, repetition): int (neuroid, stimulus).

    >>> count_repeats(np.array([[[1, np.nan], [2, 3]]]))
    array([[1, 2]])
    """
    counts = np.empty(responses.shape[:2], int)
    for rows, block in blocks(responses):
        counts[rows] = (~np.isnan(block)).sum(axis=2)
    return counts


def constant_rows(responses: np.ndarray, stimuli: np.ndarray) -> np.ndarray:
    """Mark the neuroids whose mean responses to the stimuli of a mask (stimulus,) are all alike: bool (neuroid,)."""
    constant = np.empty(len(responses), bool)
    for rows, block in blocks(responses):
        means = mean_responses(block[:, stimuli])
        constant[rows] = (means == means[:, :1]).all(axis=1)
    return constant


def with_ncsnr(metadata: pd.DataFrame, responses: np.ndarray) -> pd.DataFrame:
    """Add the column `ncsnr` where it is absent: estimated from the repeats, NaN where there are none."""
    if "ncsnr" in metadata.columns:
        return metadata
    if responses.shape[2] == 1:
        return metadata.assign(ncsnr=np.nan)
    return metadata.assign(ncsnr=np.concatenate([estimate_ncsnr(block) for _, block in blocks(responses)]))


def match_ids(path: Path, table: pd.DataFrame, axis: int, ids: Iterable[str], where: str) -> pd.DataFrame:
    """Return the rows (axis 0) or columns (1) of a table in the order of the ids, which must be the same and unique."""
    got, expected = table.axes[axis], list(ids)
    if got.has_duplicates:
        raise InputError(f"{path} must name every id once, but has {first_names(got[got.duplicated()])} again")
    odd = sorted(set(got) ^ set(expected))
    if odd:
        raise InputError(
            f"{path} and {where} must name the same ids ({len(got)} against {len(expected)}); "
            f"in only one of them: {first_names(odd)}"
        )
    return table.reindex(expected, axis=axis)


def within(rdms: Rdms, rows: np.ndarray) -> Rdms:
    """Return the part of every RDM that is about the stimuli of a mask (stimulus,)."""
    square = np.ix_(rows, rows)
    return {roi: {subject: rdm[square] for subject, rdm in by_subject.items()} for roi, by_subject in rdms.items()}


def read_rdms(path: Path, n_stimuli: int) -> Rdms:
    """Return rdms[roi][subject], each a symmetric (stimulus, stimulus) float64 array with zeros on its diagonal."""
    rdms: Rdms = {}
    for key, rdm in _matrices(path).items():
        roi, _, subject = key.rpartition("__") if "__" in key else (key, "", "group")
        if not roi or not subject or subject in rdms.get(roi, {}):
            raise InputError(f"{path}: key {key!r} must be REGION or REGION__SUBJECT, such as IT__subj01, and unique")
        _check_rdm(f"{path}, matrix {key!r}", rdm, n_stimuli)
        rdms.setdefault(roi, {})[subject] = rdm.astype(np.float64)
    if not rdms:
        raise InputError(f"{path} holds no matrices; save one array a region under keys such as IT__subj01")
    return rdms


def _mapped(path: Path) -> np.ndarray:
    with reading(path, "a NumPy array"):
        return np.lib.format.open_memmap(path, mode="r")


def _release(array: np.ndarray | mmap.mmap | None) -> None:
    """Let go of the pages of a memory-mapped file that were read: they would count as this process's memory."""
    read_only = isinstance(array, np.memmap) and array.mode == "r"
    while isinstance(array, np.ndarray):
        array = array.base
    if read_only and isinstance(array, mmap.mmap):
        array.madvise(mmap.MADV_DONTNEED)


def _matrices(path: Path) -> dict[str, np.ndarray]:
    with reading(path, "an archive of NumPy arrays"), np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _is_number(array: np.ndarray) -> bool:
    return array.dtype.kind in "fiu" and array.dtype.itemsize <= 8


def _labelled(path: Path, neuroid_ids: pd.Index, stimulus_ids: pd.Series) -> np.ndarray:
    with reading(path, "a table of neuroids by stimuli"):
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:  # ids are text: 000 is not 0
            table = pd.read_csv(path, index_col=0, converters={0: str, "neuroid_id": str})
        if "neuroid_id" in table.columns:
            table = table.set_index("neuroid_id")
        table.index, table.columns = table.index.astype(str), table.columns.astype(str)
    table = match_ids(path, table, 0, neuroid_ids, "neuroids.csv")
    return match_ids(path, table, 1, stimulus_ids, "stimuli.csv").to_numpy()


def _check_finite(path: Path, responses: np.ndarray, neuroid_ids: pd.Index) -> None:
    """Missing repeats are legal; a stimulus without any repeat, or a value that is infinite as float32, is not."""
    if responses.dtype.kind != "f":
        return
    bad = []
    for rows, block in blocks(responses):
        with np.errstate(over="ignore"):
            block = block.astype(np.float32, copy=False)
        wrong = np.isinf(block).any(axis=(1, 2)) | np.isnan(block).all(axis=2).any(axis=1)
        bad += list(neuroid_ids[rows][wrong])
    if bad:
        raise InputError(
            f"{path}: {len(bad)} neuroids have an infinite value or a stimulus without any repeat: {first_names(bad)}; "
            "leave these neuroids or stimuli out (single missing repeats may be NaN)"
        )


def _check_rdm(where: str, rdm: np.ndarray, n_stimuli: int) -> None:
    if rdm.shape != (n_stimuli, n_stimuli) or not _is_number(rdm):
        raise InputError(
            f"{where} must be numbers of shape ({n_stimuli}, {n_stimuli}), as stimuli.csv has as many rows, "
            f"but is {rdm.dtype} {rdm.shape}"
        )
    if not np.isfinite(rdm).all():
        raise InputError(f"{where} has {int((~np.isfinite(rdm)).sum())} entries that are not finite numbers")
    if not np.allclose(rdm, rdm.T, rtol=1e-4, atol=1e-6):
        raise InputError(f"{where} is not symmetric; average it with its transpose if that is what you mean")
    far = np.abs(np.diag(rdm)).max()
    if far > 1e-3 * np.abs(rdm).max():
        raise InputError(
            f"{where} must be 0 on its diagonal, but has {far:g} there; save dissimilarities, not similarities"
        )
