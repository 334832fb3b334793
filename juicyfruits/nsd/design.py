"""Which picture was shown in which trial, and which pictures make a set; checked against behaviour and betas."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from juicyfruits.errors import InputError, near_names
from juicyfruits.files import reading
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import open_hdf5, read_table, require
from juicyfruits.prepared import MIN_STIMULI, train_rows

IMAGE_SETS = ("shared1000", "shared515", "unique", "all")
PERSONAL_SETS = ("unique", "all")  # different subjects saw different pictures
FULL_REPEATS = 3  # how often every picture was to be shown


@dataclass(frozen=True)
class Trials:
    """One subject's trials in the sessions that have betas.

    Attributes:
        sessions: (betas file, 0-based nsd ids in the order shown) for every session.
        n_missing: how many further sessions there were, whose betas are not there.
    """

    subject: str
    sessions: list[tuple[Path, np.ndarray]]
    n_missing: int

    @property
    def shown(self) -> list[np.ndarray]:
        """The 0-based nsd ids of every session."""
        return [shown for _, shown in self.sessions]


def read_trials(source: Path, subject: str, beta_version: str, space: str) -> Trials:
    """Return the pictures of every session that has betas.

    Sessions and trials may be fewer than the release's 750 a session; their numbers come from the files. Raises
    `InputError` when a session is missing in between, or when betas, behaviour and design disagree.
    """
    paths = _session_paths(source, subject, beta_version, space)
    known = read_shown(source, subject)
    shown = known + [_joined([])] * (len(paths) - len(known))
    for session, (path, pictures) in enumerate(zip(paths, shown, strict=False), start=1):
        with open_hdf5(path, "betas") as betas:
            n_trials = betas.shape[0] if betas.ndim else 0
        if len(pictures) != n_trials:
            raise InputError(
                f"{path} has {n_trials} trials, but responses.tsv has {len(pictures)} in session {session}; fetch both "
                "files again"
            )
    return Trials(subject, list(zip(paths, shown, strict=False)), len(shown) - len(paths))


def read_shown(source: Path, subject: str) -> list[np.ndarray]:
    """Return the 0-based nsd ids that a subject was shown, an array a session, from responses.tsv alone.

    Raises `InputError` when the sessions have a gap, and when the design has other pictures in these trials.
    """
    path = source / layout.responses_tsv(subject)
    behaviour = read_table(path, f"the behaviour of {subject}", ("SESSION", "73KID"), sep="\t")
    session, pictures = (behaviour[name].to_numpy(dtype=np.int64) for name in ("SESSION", "73KID"))
    sessions = np.unique(session)
    if not np.array_equal(sessions, np.arange(1, len(sessions) + 1)):
        raise InputError(f"{path}: SESSION must count 1, 2, 3 and so on, but goes {sessions[:3]}; fetch the file again")
    shown = [pictures[session == number] - 1 for number in sessions]
    _check_design(source, subject, _joined(shown))
    return shown


def designed_pictures(source: Path, subject: str) -> np.ndarray:
    """Return the 0-based nsd ids of all designed trials of a subject: subjectim[subject, masterordering]."""
    order, pictures = _read_design(source)
    row = layout.subject_number(subject) - 1
    if row >= len(pictures):
        raise InputError(
            f"{source / layout.EXPDESIGN} has {len(pictures)} subjects, but {subject} was asked for; choose others"
        )
    return pictures[row][order]


def behaviour_needed(source: Path, image_set: str, subjects: Sequence[str]) -> list[str]:
    """Return the subjects whose responses.tsv `choose_stimuli` reads: for shared515 those of all in the design."""
    _check_image_set(image_set, subjects)
    if image_set != "shared515":
        return list(subjects)
    n_subjects = len(_read_design(source)[1])
    return [f"subj{number:02d}" for number in range(1, n_subjects + 1)]


def choose_stimuli(source: Path, image_set: str, shown: dict[str, list[np.ndarray]]) -> pd.DataFrame:
    """Return the pictures of a set that every subject was shown, sorted by nsd id.

        shared1000   the common pictures; even rows train, odd rows test [DeepNSD in `juicyfruits.nsd.layout`]
        shared515    those of them that all subjects of the design, chosen or not, were shown three times; likewise
        unique       the pictures that only this one subject was to see; likewise
        all          both: the unique ones train, the common ones test

    `shown` holds every chosen subject's 0-based nsd ids, an array a session (`read_shown`); only the small tables of
    the release are read. Columns: stimulus_id, nsd_id (0-based among the 73,000), split, and coco_id where it is known;
    `.attrs["dropped"]` counts the pictures of the set that some chosen subject was not shown. Raises `InputError` for
    an unknown set, a set of one subject asked of several, and when too few pictures are left.
    """
    _check_image_set(image_set, list(shown))
    path = source / layout.STIM_INFO
    info = read_table(path, "the table of stimuli", ("nsdId", "shared1000")).set_index("nsdId", drop=False)
    if info.index.has_duplicates:
        raise InputError(f"{path} has two rows of nsdId {info.index[info.index.duplicated()][0]}; fetch the file again")
    if not info["shared1000"].isin([0, 1]).all():
        raise InputError(f"{path}: column 'shared1000' must hold True/False or 1/0; fetch the file again")
    shared = set(info.index[info["shared1000"].astype(bool)])
    seen = set.intersection(*(set(_joined(sessions).tolist()) for sessions in shown.values()))
    if not seen <= set(info.index):
        raise InputError(f"{path} lacks picture {min(seen - set(info.index))}, which was shown; fetch the file again")
    members = {
        "shared1000": lambda: shared,
        "shared515": lambda: shared & _shown_fully_to_all(source),
        "unique": lambda: seen - shared,
        "all": lambda: seen,
    }[image_set]()
    chosen = info.loc[sorted(members & seen)]
    if chosen.empty:
        raise InputError(
            f"none of the {len(members)} pictures of {image_set} was seen by all of {', '.join(shown)} in the "
            "sessions at hand; choose fewer subjects or add sessions"
        )
    table = pd.DataFrame({"stimulus_id": [layout.stimulus_id(i) for i in chosen["nsdId"]], "nsd_id": chosen["nsdId"]})
    train = ~chosen["shared1000"].astype(bool) if image_set == "all" else train_rows(table)
    table["split"] = np.where(train, "train", "test")
    n_train, n_test = int(train.sum()), int((~train).sum())
    if min(n_train, n_test) < MIN_STIMULI:
        raise InputError(
            f"image set {image_set!r} leaves {n_train} pictures to train and {n_test} to test, but {MIN_STIMULI} are "
            "needed of each; add sessions or choose another image set"
        )
    if "cocoId" in chosen.columns:
        table["coco_id"] = chosen["cocoId"]
    table = table.reset_index(drop=True)
    table.attrs["dropped"] = len(members) - len(table)
    return table


def _shown_fully_to_all(source: Path) -> set[int]:
    """Return the nsd ids that all subjects of the design were shown three times in the sessions they completed."""
    full = []
    for subject in behaviour_needed(source, "shared515", []):
        counts = Counter(_joined(read_shown(source, subject)).tolist())
        full.append({nsd_id for nsd_id, count in counts.items() if count >= FULL_REPEATS})
    return set.intersection(*full)


def _joined(sessions: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *sessions])


def _check_image_set(image_set: str, subjects: Sequence[str]) -> None:
    if image_set not in IMAGE_SETS:
        raise InputError(f"unknown image set {image_set!r}; {near_names(image_set, IMAGE_SETS)}")
    if image_set in PERSONAL_SETS and len(subjects) != 1:
        raise InputError(
            f"image set {image_set!r} is of one subject, as every subject saw other pictures, but {len(subjects)} are "
            f"chosen: {', '.join(subjects)}; make one benchmark a subject"
        )


def _session_paths(source: Path, subject: str, beta_version: str, space: str) -> list[Path]:
    folder = source / layout.betas_folder(subject, beta_version, space)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    numbers = sorted(int(match[1]) for name in names if (match := re.fullmatch(r"betas_session(\d{2,})\.hdf5", name)))
    if not numbers:
        raise InputError(f"no betas of {subject} in {folder}; fetch them, or choose another beta version or space")
    gaps = sorted(set(range(1, max(numbers) + 1)) - set(numbers))
    if gaps:
        raise InputError(f"{folder} lacks session {gaps[0]} of {max(numbers)}; sessions must be there without a gap")
    return [source / layout.betas_session(subject, number, beta_version, space) for number in numbers]


def _read_design(source: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (order, pictures), 0-based: (trial,) index into a subject's pictures; (subject, picture) nsd ids."""
    path = require(source / layout.EXPDESIGN, "the experiment's design")
    with reading(path, "a MATLAB file"):
        design = loadmat(path, variable_names=["masterordering", "subjectim"])
    for name in ("masterordering", "subjectim"):
        if name not in design:
            raise InputError(f"{path} lacks {name!r}; fetch the file again")
        if design[name].dtype.kind not in "fiu" or design[name].ndim != 2:
            raise InputError(f"{path}: {name!r} must be a matrix of numbers; fetch the file again")
    order, pictures = (design[name].astype(np.int64) - 1 for name in ("masterordering", "subjectim"))
    if order.size and not 0 <= order.min() <= order.max() < pictures.shape[1]:
        raise InputError(f"{path}: 'masterordering' must point into {pictures.shape[1]} pictures; fetch the file again")
    return order.ravel(), pictures


def _check_design(source: Path, subject: str, shown: np.ndarray) -> None:
    designed = designed_pictures(source, subject)
    if len(shown) > len(designed):
        raise InputError(
            f"{subject} has {len(shown)} trials, but the design has only {len(designed)}; fetch responses.tsv and "
            "nsd_expdesign.mat again"
        )
    wrong = np.flatnonzero(shown != designed[: len(shown)])
    if len(wrong):
        raise InputError(
            f"{subject}: responses.tsv and nsd_expdesign.mat name different pictures in {len(wrong)} trials, "
            f"first in trial {wrong[0] + 1}; fetch both files again"
        )
