"""The files of a benchmark folder: read, checked, and written whole or not at all.

    NAME/
      benchmark.json   what it is and how it was made (optional)
      stimuli.csv      stimulus_id, image_path, optional split (train|test), anything else
      images/...
      neuroids.csv     neuroid_id, subject, roi_NAME (one boolean column a region), optional ncsnr, anything else
      responses.npy    float (neuroid, stimulus) or (neuroid, stimulus, repetition); or responses.csv|parquet
      rdms.npz         instead of neuroids and responses: (stimulus, stimulus) matrices, keys REGION__SUBJECT

`docs/bring-your-own.md` describes it for users; `juicyfruits.Benchmark` is the object over it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from juicyfruits.errors import InputError
from juicyfruits.files import digest
from juicyfruits.ncsnr import BLOCK, estimate_ncsnr

ROI_PREFIX = "roi_"
RESERVED = ("neuroid_id", "subject", "ncsnr", "voxel_x", "voxel_y", "voxel_z")
RESPONSE_FILES = ("responses.npy", "responses.parquet", "responses.csv")
RDM_FILE = "rdms.npz"
SPLITS = ("train", "test")

Rdms = dict[str, dict[str, np.ndarray]]


def read_info(folder: Path) -> dict:
    """Return what `benchmark.json` says, or {} where there is none."""
    path = folder / "benchmark.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}); prepare the benchmark again or delete the file"
        ) from error


def find_data_file(folder: Path) -> Path:
    """Return the one file of responses or RDMs in the folder; none or several are an `InputError`."""
    if not folder.is_dir():
        raise InputError(f"no benchmark folder at {folder}; see docs/bring-your-own.md for its layout")
    found = [folder / name for name in (*RESPONSE_FILES, RDM_FILE) if (folder / name).exists()]
    if len(found) != 1:
        got = " and ".join(path.name for path in found) or "none of them"
        raise InputError(
            f"{folder} must hold exactly one of {', '.join((*RESPONSE_FILES, RDM_FILE))}, but has {got}; "
            "add the missing file or remove the others"
        )
    return found[0]


def read_stimuli(folder: Path) -> pd.DataFrame:
    """Return stimuli.csv with `image_path` made absolute, after checking ids, splits and that every picture exists."""
    path = folder / "stimuli.csv"
    table = _read_table(path, ("stimulus_id", "image_path"))
    _check_unique(path, table["stimulus_id"])
    if "split" in table.columns:
        wrong = sorted(set(table["split"].astype(str)) - set(SPLITS))
        if wrong:
            raise InputError(f"{path}: column 'split' must hold train or test, but has {_first(wrong)}")
    missing = [name for name in table["image_path"] if not (folder / str(name)).is_file()]
    if missing:
        raise InputError(f"{path} names {len(missing)} pictures that are not in {folder}: {_first(missing)}")
    table["image_path"] = [str((folder / name).resolve()) for name in table["image_path"]]
    return table


def read_neuroids(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return (metadata, rois): neuroids.csv indexed by neuroid_id, its `roi_NAME` columns as booleans called NAME."""
    path = folder / "neuroids.csv"
    table = _read_table(path, ("neuroid_id", "subject"))
    _check_unique(path, table["neuroid_id"])
    columns = [name for name in table.columns if name.startswith(ROI_PREFIX)]
    if not columns:
        raise InputError(f"{path} has no ROI columns; add one boolean column a region, such as {ROI_PREFIX}V4")
    rois = [name.removeprefix(ROI_PREFIX) for name in columns]
    clashes = [roi for roi in rois if roi in table.columns or not roi]
    if clashes:
        raise InputError(f"{path}: the ROI name {clashes[0]!r} is also another column's name; rename one of the two")
    for column in columns:
        table[column] = _as_bool(path, table[column])
    table = table.rename(columns=dict(zip(columns, rois, strict=True)))
    table["subject"] = table["subject"].astype(str)
    return table.set_index("neuroid_id"), rois


def read_responses(path: Path, neuroid_ids: pd.Index, stimulus_ids: pd.Series) -> np.ndarray:
    """Return (neuroid, stimulus, repetition), memory-mapped where the file is .npy, checked against both tables.

    Rows and columns of a .csv or .parquet are matched by their ids, an array's by their order.
    """
    responses = np.load(path, mmap_mode="r") if path.suffix == ".npy" else _labelled(path, neuroid_ids, stimulus_ids)
    if responses.ndim == 2:
        responses = responses[:, :, None]
    expected = (len(neuroid_ids), len(stimulus_ids))
    if responses.ndim != 3 or responses.shape[:2] != expected or responses.dtype.kind not in "fiu":
        raise InputError(
            f"{path} must be numbers of (neuroid, stimulus[, repetition]) = {expected} by neuroids.csv and "
            f"stimuli.csv, but is {responses.dtype} {responses.shape}; make the rows of the three files agree"
        )
    _check_finite(path, responses, neuroid_ids)
    return responses


def read_rdms(path: Path, n_stimuli: int) -> Rdms:
    """Return rdms[roi][subject], each a symmetric (stimulus, stimulus) float array."""
    rdms: Rdms = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            region, _, subject = key.rpartition("__") if "__" in key else (key, "", "group")
            rdm = arrays[key]
            _check_rdm(f"{path}, matrix {key!r}", rdm, n_stimuli)
            rdms.setdefault(region, {})[subject] = rdm.astype(np.float64)
    if not rdms:
        raise InputError(f"{path} holds no matrices; save one array a region under keys such as IT__subj01")
    return rdms


def with_ncsnr(metadata: pd.DataFrame, responses: np.ndarray) -> pd.DataFrame:
    """Add the column `ncsnr` where it is absent: estimated from the repeats, NaN where there are none."""
    if "ncsnr" in metadata.columns:
        return metadata
    repeated = responses.shape[2] > 1
    return metadata.assign(ncsnr=estimate_ncsnr(responses) if repeated else np.full(len(metadata), np.nan))


def stimulus_digest(stimuli: pd.DataFrame) -> str:
    """Digest of the stimuli: ids, order, and the content of every picture."""
    return digest(*stimuli["stimulus_id"], *(Path(path) for path in stimuli["image_path"]))


def content_digest(folder: Path, stimuli: pd.DataFrame) -> str:
    """Digest of all that a benchmark holds: tables, responses or RDMs, and pictures; not of benchmark.json."""
    data = find_data_file(folder)
    tables = [path for path in (folder / "stimuli.csv", folder / "neuroids.csv") if path.exists()]
    return digest(stimulus_digest(stimuli), *tables, data.name, data)


def _read_table(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} is missing; a benchmark needs it with the columns {', '.join(required)}")
    try:
        table = pd.read_csv(path, dtype={required[0]: str, "image_path": str, "subject": str})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a CSV table with a header line: {error}") from error
    absent = [name for name in required if name not in table.columns]
    if absent:
        raise InputError(f"{path} lacks the column {absent[0]!r}; it has {_first(list(table.columns), 8)}")
    if table.empty:
        raise InputError(f"{path} has no rows")
    empty = table[list(required)].isna().any(axis=1)
    if empty.any():
        raise InputError(f"{path}: row {int(empty.argmax()) + 1} has an empty {' or '.join(required)}; fill it in")
    return table


def _check_unique(path: Path, ids: pd.Series) -> None:
    repeated = list(ids[ids.duplicated()].unique())
    if repeated:
        raise InputError(f"{path}: {ids.name} must be unique, but {len(repeated)} occur twice: {_first(repeated)}")


def _as_bool(path: Path, column: pd.Series) -> pd.Series:
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    values = column.astype(str).str.lower().map(words)
    if values.isna().any():
        wrong = list(column[values.isna()].astype(str).unique())
        raise InputError(f"{path}: column {column.name!r} must hold true/false or 1/0, but has {_first(wrong)}")
    return values.astype(bool)


def _labelled(path: Path, neuroid_ids: pd.Index, stimulus_ids: pd.Series) -> np.ndarray:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, index_col=0)
    if "neuroid_id" in table.columns:
        table = table.set_index("neuroid_id")
    table.index, table.columns = table.index.astype(str), table.columns.astype(str)
    for got, expected, where in (
        (table.index, neuroid_ids, "neuroids.csv"),
        (table.columns, stimulus_ids, "stimuli.csv"),
    ):
        odd = sorted(set(got) ^ set(expected))
        if odd or len(got) != len(expected):
            raise InputError(
                f"{path} and {where} must name the same ids once each ({len(got)} against {len(expected)}); "
                f"in only one of them: {_first(odd)}"
            )
    return table.loc[list(neuroid_ids), list(stimulus_ids)].to_numpy()


def _check_finite(path: Path, responses: np.ndarray, neuroid_ids: pd.Index) -> None:
    """Missing repeats are legal; a stimulus without any repeat, or an infinite value, is not."""
    if responses.dtype.kind != "f":
        return
    bad = []
    for start in range(0, len(responses), BLOCK):
        block = np.asarray(responses[start : start + BLOCK])
        wrong = np.isinf(block).any(axis=(1, 2)) | np.isnan(block).all(axis=2).any(axis=1)
        bad += list(neuroid_ids[start : start + BLOCK][wrong])
    if bad:
        raise InputError(
            f"{path}: {len(bad)} neuroids have an infinite value or a stimulus without any repeat: {_first(bad)}; "
            "leave these neuroids or stimuli out (single missing repeats may be NaN)"
        )


def _check_rdm(where: str, rdm: np.ndarray, n_stimuli: int) -> None:
    if rdm.shape != (n_stimuli, n_stimuli) or rdm.dtype.kind not in "fiu":
        raise InputError(
            f"{where} must be numbers of shape ({n_stimuli}, {n_stimuli}), as stimuli.csv has as many rows, "
            f"but is {rdm.dtype} {rdm.shape}"
        )
    if not np.isfinite(rdm).all():
        raise InputError(f"{where} has {int((~np.isfinite(rdm)).sum())} entries that are not finite numbers")
    if not np.allclose(rdm, rdm.T, rtol=1e-4, atol=1e-6):
        raise InputError(f"{where} is not symmetric; average it with its transpose if that is what you mean")


def _first(names: list, n: int = 3) -> str:
    shown = ", ".join(repr(str(name)) for name in names[:n])
    return shown + (f" and {len(names) - n} more" if len(names) > n else "")
