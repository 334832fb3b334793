"""The files of a benchmark folder: its tables and description, read and checked.

    NAME/
      benchmark.json   what it is and how it was made (optional)
      stimuli.csv      stimulus_id, image_path, optional split (train|test), anything else
      images/...
      neuroids.csv     neuroid_id, subject, roi_NAME (one boolean column a region), optional ncsnr, anything else
      responses.npy    float (neuroid, stimulus) or (neuroid, stimulus, repetition); or responses.csv|parquet
      rdms.npz         instead of neuroids and responses: (stimulus, stimulus) matrices, keys REGION__SUBJECT

`docs/bring-your-own.md` describes it for users; `juicyfruits.Benchmark` is the object over it, and
`juicyfruits.arrays` reads the responses and RDMs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from juicyfruits.errors import InputError, first_names, near_names
from juicyfruits.files import digest, reading
from juicyfruits.picture_file import count_pictures, split_address
from juicyfruits.pictures import picture_content

ROI_PREFIX = "roi_"
RESPONSE_FILES = ("responses.npy", "responses.parquet", "responses.csv")
RDM_FILE = "rdms.npz"
PARTS = ("benchmark.json", "stimuli.csv", "neuroids.csv", *RESPONSE_FILES, RDM_FILE, "images", "images.hdf5")
SPLITS = ("train", "test")
REPEATS = "n_repeats"
MIN_STIMULI = 3  # in train and in test: fewer have no correlation
SAID = ("name", "title", "dataset", "image_set", "source", "digest")  # what benchmark.json says in text


def read_info(folder: Path) -> dict:
    """Return what `benchmark.json` says, or {} where there is none."""
    path = folder / "benchmark.json"
    if not path.exists():
        return {}
    with reading(path, "JSON"):
        info = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(info, dict):
        raise InputError(
            f"{path} must hold one object {{...}}, but holds a {type(info).__name__}; correct or delete it"
        )
    for key in SAID:
        if not isinstance(info.get(key, "text"), str):
            raise InputError(f"{path}: {key!r} must be text, but is {info[key]!r}; put it in quotes")
    return info


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
    check_unique(path, table["stimulus_id"])
    check_split(path, table)
    _check_pictures(path, table["image_path"])
    table["image_path"] = [str((folder / name).resolve()) for name in table["image_path"]]
    return table


def train_rows(stimuli: pd.DataFrame) -> np.ndarray:
    """Boolean mask (stimulus,) of the train stimuli: column `split` where there is one, else the even rows."""
    if "split" in stimuli.columns:
        return (stimuli["split"] == "train").to_numpy()
    return np.arange(len(stimuli)) % 2 == 0


def check_split(where: Path | str, table: pd.DataFrame) -> None:
    """Raise `InputError` for a split other than train and test, and for too few stimuli in either."""
    if "split" in table.columns:
        wrong = sorted(set(table["split"].astype(str)) - set(SPLITS))
        if wrong:
            raise InputError(f"{where}: column 'split' must hold train or test, but has {first_names(wrong)}")
    n_train = int(train_rows(table).sum())
    n_test = len(table) - n_train
    if min(n_train, n_test) < MIN_STIMULI:
        raise InputError(
            f"{where} must leave at least {MIN_STIMULI} stimuli in train and in test, but has {n_train} and {n_test}; "
            "add stimuli or change the column 'split'"
        )


def check_repeats(path: Path, stimuli: pd.DataFrame, subjects: list[str], n_repetitions: int) -> None:
    """Raise `InputError` for columns of repeats in stimuli.csv that are no counts, or that contradict the responses."""
    columns = _repeat_columns(stimuli)
    for name in columns:
        counts = pd.to_numeric(stimuli[name], errors="coerce")
        if not ((counts >= 1) & (counts % 1 == 0)).all():
            wrong = stimuli[name][~((counts >= 1) & (counts % 1 == 0))]
            raise InputError(f"{path}: column {name!r} must hold whole numbers from 1, but has {first_names(wrong)}")
        subject = name.removeprefix(REPEATS).removeprefix("_")
        if subject and subject not in subjects:
            raise InputError(f"{path}: column {name!r} is of no subject; {near_names(subject, subjects)}")
    if columns and n_repetitions > 1:
        raise InputError(
            f"{path}: column {columns[0]!r} is for responses that are averages, but these have up to {n_repetitions} "
            "repeats, which are counted; leave it out"
        )
    lacking = [subject for subject in subjects if columns and not {REPEATS, f"{REPEATS}_{subject}"} & set(columns)]
    if lacking:
        raise InputError(f"{path} says the repeats of other subjects, but not of {first_names(lacking)}; add a column")


def said_repeats(stimuli: pd.DataFrame, subjects: list[str]) -> dict[str, np.ndarray]:
    """Return how many repeats each average rests on, int (stimulus,) a subject; {} where the stimuli do not say."""
    if not _repeat_columns(stimuli):
        return {}
    names = {subject: f"{REPEATS}_{subject}" for subject in subjects}
    return {s: stimuli[name if name in stimuli else REPEATS].to_numpy(int) for s, name in names.items()}


def _repeat_columns(stimuli: pd.DataFrame) -> list[str]:
    return [name for name in stimuli if name == REPEATS or str(name).startswith(f"{REPEATS}_")]


def read_neuroids(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return (metadata, rois): neuroids.csv indexed by neuroid_id, its `roi_NAME` columns as booleans called NAME."""
    path = folder / "neuroids.csv"
    table = _read_table(path, ("neuroid_id", "subject"))
    check_unique(path, table["neuroid_id"])
    check_numbers(path, table)
    columns = [name for name in table.columns if name.startswith(ROI_PREFIX)]
    if not columns:
        raise InputError(f"{path} has no ROI columns; add one boolean column a region, such as {ROI_PREFIX}V4")
    rois = [name.removeprefix(ROI_PREFIX) for name in columns]
    clashes = [roi for roi in rois if roi in table.columns or not roi]
    if clashes:
        raise InputError(f"{path}: the ROI name {clashes[0]!r} is also another column's name; rename one of the two")
    for column, roi in zip(columns, rois, strict=True):
        table[column] = as_bool(path, table[column])
        if not table[column].any():
            raise InputError(f"{path}: ROI {roi!r} has no neuroids; leave out the column {column!r}")
    return table.rename(columns=dict(zip(columns, rois, strict=True))).set_index("neuroid_id"), rois


def check_roi_names(where: Path | str, rois: Iterable[str]) -> None:
    """Raise `InputError` for ROI names that cannot stand in a table's line or a file's name."""
    odd = [roi for roi in rois if "/" in roi or not roi.isprintable()]
    if odd:
        raise InputError(f"{where}: the ROI name {odd[0]!r} must have neither / nor control characters; rename it")


def stimulus_digest(stimulus_ids: Iterable[str], image_paths: Iterable[str]) -> str:
    """Digest of the stimuli: ids, order, and the content of every picture."""
    return digest(*stimulus_ids, *map(picture_content, image_paths))


def content_digest(folder: Path, stimulus_digest: str) -> str:
    """Digest of all that a benchmark holds: tables, responses or RDMs, and pictures; not of benchmark.json."""
    data = find_data_file(folder)
    tables = [path for path in (folder / "stimuli.csv", folder / "neuroids.csv") if path.exists()]
    return digest(stimulus_digest, *tables, data.name, data)


def _read_table(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} is missing; a benchmark needs it with the columns {', '.join(required)}")
    with reading(path, "a CSV table with a header line"):
        header = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].dropna()
        table = pd.read_csv(path, dtype={required[0]: str, "image_path": str, "subject": str})
    if header.duplicated().any():
        raise InputError(f"{path} has the column {header[header.duplicated()].iloc[0]!r} twice; leave one out")
    absent = [name for name in required if name not in table.columns]
    if absent:
        raise InputError(f"{path} lacks the column {absent[0]!r}; it has {first_names(table.columns, 8)}")
    if table.empty:
        raise InputError(f"{path} has no rows")
    empty = table[list(required)].isna().any(axis=1)
    if empty.any():
        raise InputError(f"{path}: row {int(empty.argmax()) + 1} has an empty {' or '.join(required)}; fill it in")
    return table


def check_unique(path: Path, ids: pd.Series) -> None:
    """Raise `InputError` for ids that occur twice."""
    repeated = list(ids[ids.duplicated()].unique())
    if repeated:
        raise InputError(f"{path}: {ids.name} must be unique, but {len(repeated)} occur twice: {first_names(repeated)}")


def _check_pictures(path: Path, names: pd.Series) -> None:
    """Every picture must be there, as a file or as a row of an HDF5 file."""
    places = [split_address(path.parent / name) or (path.parent / name, None) for name in names]
    missing = [name for name, (file, _) in zip(names, places, strict=True) if not os.path.isfile(file)]
    if missing:
        raise InputError(f"{path} names {len(missing)} pictures that are not in {path.parent}: {first_names(missing)}")
    last = dict(sorted((file, row) for file, row in places if row is not None))
    for file, row in last.items():
        if row >= (n_pictures := count_pictures(file)):
            raise InputError(f"{path} names row {row} of {file}, which has {n_pictures}: 0 to {n_pictures - 1}")


def check_numbers(path: Path, table: pd.DataFrame) -> None:
    """Raise `InputError` for an ncsnr or a voxel index that is no number, and for an ncsnr below 0."""
    for name in ("ncsnr", "voxel_x", "voxel_y", "voxel_z"):
        if name in table.columns and table[name].dtype.kind not in "fiu" and table[name].notna().any():
            wrong = table[name][pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()]
            raise InputError(f"{path}: column {name!r} must hold numbers, but has {first_names(wrong.unique())}")
    if "ncsnr" in table.columns and (table["ncsnr"] < 0).any():
        raise InputError(f"{path}: column 'ncsnr' must be 0 or more, or empty, but has {table['ncsnr'].min():g}")


def as_bool(path: Path, column: pd.Series) -> pd.Series:
    """Return a column of true/false or 1/0, in any spelling, as booleans; anything else is an `InputError`."""
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    values = column.astype(str).str.lower().map(words)
    if values.isna().any():
        wrong = column[values.isna()].astype(str).unique()
        raise InputError(f"{path}: column {column.name!r} must hold true/false or 1/0, but has {first_names(wrong)}")
    return values.astype(bool)
