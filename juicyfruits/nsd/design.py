"""Which picture was shown in which trial: the experiment's design, checked against behaviour and betas."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from juicyfruits.errors import InputError, near_names
from juicyfruits.files import reading
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import open_hdf5, read_table, require

IMAGE_SETS = ("shared1000",)


@dataclass(frozen=True)
class Trials:
    """One subject's trials: `sessions` holds (betas file, 0-based nsd ids in the order shown) for every session."""

    subject: str
    sessions: list[tuple[Path, np.ndarray]]

    def counts(self) -> Counter:
        """How often each picture was shown: nsd_id -> count."""
        return Counter(int(nsd_id) for _, shown in self.sessions for nsd_id in shown)


def read_trials(source: Path, subject: str, beta_version: str, space: str) -> Trials:
    """Return the pictures of every session that has betas, taken from responses.tsv.

    Sessions and trials may be fewer than the release's 750 a session; their numbers come from the files. Raises
    `InputError` when a session is missing in between, or when betas, behaviour and design disagree.
    """
    paths = _session_paths(source, subject, beta_version, space)
    tsv = source / layout.responses_tsv(subject)
    behaviour = read_table(tsv, f"the behaviour of {subject}", ("SESSION", "73KID"), sep="\t")
    sessions = []
    for session, path in enumerate(paths, start=1):
        shown = behaviour.loc[behaviour["SESSION"] == session, "73KID"].to_numpy(dtype=np.int64) - 1
        with open_hdf5(path, "betas") as betas:
            n_trials = betas.shape[0] if betas.ndim else 0
        if len(shown) != n_trials:
            raise InputError(f"{path} has {n_trials} trials, but responses.tsv has {len(shown)} in session {session}")
        sessions.append((path, shown))
    _check_design(source, subject, np.concatenate([shown for _, shown in sessions]))
    return Trials(subject, sessions)


def designed_pictures(source: Path, subject: str) -> np.ndarray:
    """Return the 0-based nsd ids of all designed trials of a subject: subjectim[subject, masterordering]."""
    path = require(source / layout.EXPDESIGN, "the experiment's design")
    with reading(path, "a MATLAB file"):
        design = loadmat(path, variable_names=["masterordering", "subjectim"])
    for name in ("masterordering", "subjectim"):
        if name not in design:
            raise InputError(f"{path} lacks {name!r}; fetch the file again")
        if design[name].dtype.kind not in "fiu" or design[name].ndim != 2:
            raise InputError(f"{path}: {name!r} must be a matrix of numbers; fetch the file again")
    row = layout.subject_number(subject) - 1
    if row >= len(design["subjectim"]):
        raise InputError(f"{path} has {len(design['subjectim'])} subjects, but {subject} was asked for")
    pictures, order = design["subjectim"][row].astype(np.int64), design["masterordering"].ravel().astype(np.int64) - 1
    if len(order) and not 0 <= order.min() <= order.max() < len(pictures):
        raise InputError(f"{path}: 'masterordering' must point into {len(pictures)} pictures; fetch the file again")
    return pictures[order] - 1


def choose_stimuli(source: Path, image_set: str, trials: dict[str, Trials]) -> tuple[pd.DataFrame, int]:
    """Return the pictures of the set that every subject has seen, sorted by nsd_id, and how many were dropped.

    Columns: stimulus_id, nsd_id (0-based among the 73,000) and coco_id where it is known. Raises `InputError` for an
    unknown image set and when no picture is left.
    """
    if image_set not in IMAGE_SETS:
        raise InputError(f"unknown image set {image_set!r}; {near_names(image_set, IMAGE_SETS)}")
    path = source / layout.STIM_INFO
    info = read_table(path, "the table of stimuli", ("nsdId", image_set))
    if not info[image_set].isin([0, 1]).all():
        raise InputError(f"{path}: column {image_set!r} must hold True/False or 1/0; fetch the file again")
    members = info.loc[info[image_set].astype(bool)].sort_values("nsdId")
    seen_by_all = set.intersection(*(set(subject.counts()) for subject in trials.values()))
    chosen = members[members["nsdId"].isin(seen_by_all)]
    if chosen.empty:
        raise InputError(
            f"none of the {len(members)} pictures of {image_set} was seen by all of {', '.join(trials)} in the "
            "sessions at hand; choose fewer subjects or add sessions"
        )
    table = pd.DataFrame({"stimulus_id": [layout.stimulus_id(i) for i in chosen["nsdId"]], "nsd_id": chosen["nsdId"]})
    if "cocoId" in chosen.columns:
        table["coco_id"] = chosen["cocoId"]
    return table.reset_index(drop=True), len(members) - len(chosen)


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


def _check_design(source: Path, subject: str, shown: np.ndarray) -> None:
    designed = designed_pictures(source, subject)
    if len(shown) > len(designed):
        raise InputError(f"{subject} has {len(shown)} trials, but the design has only {len(designed)}")
    wrong = np.flatnonzero(shown != designed[: len(shown)])
    if len(wrong):
        raise InputError(
            f"{subject}: responses.tsv and nsd_expdesign.mat name different pictures in {len(wrong)} trials, "
            f"first in trial {wrong[0] + 1}; fetch both files again"
        )
