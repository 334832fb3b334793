"""Checks of the trials: which picture was shown when, by the design, the behaviour, the table of stimuli, the betas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from juicyfruits.doctor.findings import Problem, Problems, counted
from juicyfruits.doctor.series import Series, key_of, session_paths
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import reading
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import open_hdf5, read_table, require

N_TRIALS_DESIGN = 30_000  # trials of the real design; what has another number is a miniature


def check_shared(root: Path) -> Problems:
    """Compare `sharedix` of the design with the column shared1000 of the table of stimuli."""
    designed = _read_design(root)["sharedix"].ravel()
    info = read_table(root / layout.STIM_INFO, "the table of stimuli", ("nsdId", "shared1000"))
    listed = info.loc[info["shared1000"].astype(bool), "nsdId"].to_numpy()
    odd = np.setxor1d(designed, listed)
    if len(odd):
        yield (
            "error",
            layout.STIM_INFO,
            f"its column shared1000 ({len(listed):,} pictures) and sharedix of nsd_expdesign.mat ({len(designed):,}) "
            f"differ in nsd ids {first_names(odd)}; fetch both files again",
        )
    return f"{len(designed):,} shared pictures in both tables"


def check_order(root: Path, subject: str) -> Problems:
    """Verify trial by trial that behaviour and table of stimuli name the picture subjectim[masterordering]."""
    design, number = _read_design(root), layout.subject_number(subject)
    pictures, order = design["subjectim"], design["masterordering"].ravel()
    if number > len(pictures) or not 0 <= order.min() <= order.max() < pictures.shape[1]:
        raise InputError(
            f"{root / layout.EXPDESIGN} has {pictures.shape[0]} subjects with {pictures.shape[1]} pictures, which "
            f"{subject} or masterordering goes beyond; fetch it again"
        )
    own, tsv = pictures[number - 1], root / layout.responses_tsv(subject)
    designed = own[order]
    try:
        table = read_table(tsv, f"the behaviour of {subject}", ("SESSION", "73KID"), sep="\t")
        yield from _compare_trials(key_of(root, tsv), table, designed, own)
    except InputError as error:
        yield "error", key_of(root, tsv), str(error)
    yield from _compare_stim_info(root, number, designed)
    return f"{len(designed):,} designed trials of {len(np.unique(designed)):,} pictures agree in all tables"


def check_trials(series: Series) -> Problems:
    """Compare the trials of every session's betas with the behaviour, and the sessions with the release's numbers."""
    table = series.behaviour()
    expected = table.groupby("SESSION").size()
    paths = session_paths(series)
    gaps = sorted(set(range(1, max(paths) + 1)) - set(paths))
    if gaps:
        yield (
            "error",
            series.where,
            f"session {first_names(gaps)} of {max(paths)} is missing; fetch it: sessions must be there without a gap",
        )
    for session, path in paths.items():
        yield from _compare_session(key_of(series.root, path), path, session, expected.get(session, 0))
    if is_real(series.root):
        yield from _compare_with_release(series, expected)
    if len(expected) > len(paths) and not gaps:
        yield (
            "warning",
            series.where,
            f"betas of {len(paths)} of {len(expected)} sessions; fetch the others, or repeats and ceilings are fewer",
        )
    return f"{counted(int(expected.sum()), 'trial')} in {counted(len(paths), 'session')}"


def _compare_session(name: str, path: Path, session: int, expected: int) -> Iterator[Problem]:
    try:
        with open_hdf5(path, "betas") as betas:
            n_trials = betas.shape[0] if betas.ndim else 0
    except InputError as error:
        yield "error", name, str(error)
        return
    if n_trials != expected:
        words = f"has {n_trials} trials, but responses.tsv has {expected} in session {session}; fetch both again"
        yield "error", name, words


def _read_design(root: Path) -> dict[str, np.ndarray]:
    """Return masterordering, subjectim and sharedix, all counted from 0 here and from 1 in the file."""
    names = ["masterordering", "subjectim", "sharedix"]
    path = require(root / layout.EXPDESIGN, "the experiment's design")
    with reading(path, "a MATLAB file"):
        design = loadmat(path, variable_names=names)
    for name in names:
        if name not in design or design[name].dtype.kind not in "fiu" or not design[name].size:
            raise InputError(f"{path} lacks numbers under {name!r}; fetch the file again")
    return {name: design[name].astype(np.int64) - 1 for name in names}


def _compare_trials(where: str, table: pd.DataFrame, designed: np.ndarray, own: np.ndarray) -> Iterator[Problem]:
    shown = table["73KID"].to_numpy(dtype=np.int64) - 1
    if len(shown) > len(designed):
        yield "error", where, f"has {len(shown):,} trials, but the design has {len(designed):,}; fetch both again"
        return
    wrong = np.flatnonzero(shown != designed[: len(shown)])
    if len(wrong):
        yield (
            "error",
            where,
            f"{counted(len(wrong), 'trial')} with another picture than subjectim[masterordering] of nsd_expdesign.mat, "
            f"first trial {wrong[0] + 1} (session {table['SESSION'].iloc[wrong[0]]}): nsd id {shown[wrong[0]]} instead "
            f"of {designed[wrong[0]]}; fetch both files again",
        )
    if "10KID" in table.columns:
        odd = own[table["10KID"].to_numpy(dtype=np.int64).clip(1, len(own)) - 1] != shown
        if odd.any():
            yield (
                "error",
                where,
                f"10KID and 73KID name different pictures in {counted(int(odd.sum()), 'trial')}; fetch it again",
            )


def _compare_stim_info(root: Path, number: int, designed: np.ndarray) -> Iterator[Problem]:
    """Every showing that nsd_stim_info lists (trials from 1, 0 for never) must be in the design, and the reverse."""
    info = read_table(root / layout.STIM_INFO, "the table of stimuli", ("nsdId",))
    columns = [name for name in info.columns if name.startswith(f"subject{number}_rep")]
    if not columns:
        yield "error", layout.STIM_INFO, f"has no columns subject{number}_rep0, _rep1, _rep2; fetch it again"
        return
    listed = info.melt(id_vars="nsdId", value_vars=columns, value_name="trial").query("trial > 0")
    trials = listed["trial"].to_numpy(dtype=np.int64)
    inside = trials <= len(designed)
    wrong = np.count_nonzero(designed[trials[inside] - 1] != listed["nsdId"].to_numpy()[inside]) + np.sum(~inside)
    left = len(designed) - len(np.unique(trials[inside]))
    if wrong or left:
        yield (
            "error",
            layout.STIM_INFO,
            f"columns subject{number}_rep*: {counted(int(wrong), 'showing')} of another picture than in "
            f"nsd_expdesign.mat, and {counted(left, 'designed trial')} in no column; fetch both files again",
        )


def is_real(root: Path) -> bool:
    """Whether the design is that of the real experiment, 8 subjects and 30,000 trials, and not a miniature's."""
    if not (root / layout.EXPDESIGN).exists():
        return False
    design = _read_design(root)
    return len(design["subjectim"]) == len(layout.N_SESSIONS) and design["masterordering"].size == N_TRIALS_DESIGN


def _compare_with_release(series: Series, expected: pd.Series) -> Iterator[Problem]:
    n_sessions = layout.N_SESSIONS[series.subject]
    odd = expected[expected != layout.N_TRIALS_SESSION]
    if len(expected) != n_sessions or len(odd):
        yield (
            "error",
            layout.responses_tsv(series.subject),
            f"has {len(expected)} sessions, {len(odd)} of them with other than {layout.N_TRIALS_SESSION} trials; the "
            f"release has {n_sessions}; fetch it again",
        )
