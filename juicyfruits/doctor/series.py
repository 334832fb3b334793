"""One subject's betas of one version in one space, with its maps: what the voxel checks read, each byte once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm import tqdm

from juicyfruits.doctor.findings import Problem
from juicyfruits.errors import InputError
from juicyfruits.ncsnr import estimate_ncsnr
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import open_hdf5, read_table, read_volume
from juicyfruits.nsd.responses import read_voxels, zscore

BLOCK = 400  # voxels at once: below 1 GB for the ncsnr of 30,000 trials
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Series:
    """A subject's betas: `root`/nsddata_betas/ppdata/`subject`/`space`/`version`."""

    root: Path
    subject: str
    space: str
    version: str

    @property
    def where(self) -> str:
        """How findings name it: "subj01", and what is not the default, as "subj01 func1mm betas_fithrf"."""
        usual = (layout.DEFAULT_SPACE, layout.DEFAULT_BETAS)
        return " ".join([self.subject, *(name for name in (self.space, self.version) if name not in usual)])

    def behaviour(self) -> pd.DataFrame:
        """Return responses.tsv, a row a trial, with whole numbers in SESSION and 73KID (both from 1)."""
        path = self.root / layout.responses_tsv(self.subject)
        return read_table(path, f"the behaviour of {self.subject}", ("SESSION", "73KID"), sep="\t")


@dataclass(frozen=True)
class Map:
    """A volume (X, Y, Z) of the series' space, an ROI map or ncsnr, and its affine (4, 4)."""

    path: str
    values: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Measured:
    """What the betas of some voxels say.

    Attributes:
        table: a row a voxel: x, y, z; flat and zero (in how many sessions the betas do not vary, and are 0);
            saturated (in how many trials they stand at an end of int16); ncsnr, recomputed from all repeats
            (NaN where there are none); digest (of all betas).
        sessions: session -> digest of the betas of all these voxels.
        degrees: sum over the pictures of (repeats - 1), where ncsnr was recomputed.
        problems: sessions that could not be read, and why.
    """

    table: pd.DataFrame
    sessions: dict[int, str]
    degrees: int
    problems: list[Problem]


def all_series(root: Path) -> list[Series]:
    """Return every subject, space and version with betas under `root`."""
    folders = sorted({path.parent for path in root.glob("nsddata_betas/ppdata/subj*/*/*/betas_session*.hdf5")})
    found = [Series(root, *path.parts[-3:]) for path in folders]
    return [series for series in found if series.space in layout.SPACES]


def key_of(root: Path, path: Path) -> str:
    """Name a file as the release does, by its path from the root."""
    return path.relative_to(root).as_posix()


def session_paths(series: Series) -> dict[int, Path]:
    """Return session number -> file of betas, in the order of the sessions."""
    folder = series.root / layout.betas_folder(series.subject, series.version, series.space)
    found = {
        int(m[1]): path for path in folder.iterdir() if (m := re.fullmatch(r"betas_session(\d+)\.hdf5", path.name))
    }
    return dict(sorted(found.items()))


def read_maps(series: Series) -> dict[str, Map]:
    """Return the ROI maps and "ncsnr" that can be read as volumes of numbers; "files" tells of the others."""
    paths = {name: layout.roi_map(series.subject, name, series.space) for name in layout.ROI_MAPS}
    paths["ncsnr"] = layout.ncsnr_map(series.subject, series.version, series.space)
    maps = {}
    for name, key in paths.items():
        path = series.root / key
        try:
            values = read_volume(path)
        except InputError:
            continue
        if values.ndim == 3 and values.dtype.kind in "fiu":
            maps[name] = Map(key, values, nib.load(path).affine)
    return maps


def sample_voxels(maps: dict[str, Map], n_voxels: int | None, seed: int) -> np.ndarray:
    """Return x, y, z, int (voxel, 3), of `n_voxels` voxels with a label in any ROI map, drawn by `seed`; all for None.

    Raises `InputError` where no map labels any voxel. Maps of another shape than most are left out.
    """
    rois = [volume.values for name, volume in maps.items() if name != "ncsnr"]
    shapes = [values.shape for values in rois]
    common = max(shapes, key=shapes.count, default=None)
    labelled = [values > 0 for values in rois if values.shape == common]
    voxels = np.argwhere(np.any(labelled, axis=0)) if labelled else np.empty((0, 3), int)
    if not len(voxels):
        raise InputError("no ROI map labels a voxel, so none can be examined; fetch the ROI maps you need")
    if n_voxels is None or n_voxels >= len(voxels):
        return voxels
    rows = np.random.default_rng(seed).choice(len(voxels), n_voxels, replace=False)
    return voxels[np.sort(rows)]


def measure(series: Series, voxels: np.ndarray) -> Measured:
    """Read the betas of these voxels, x, y, z (voxel, 3), once, a block of voxels and a session at a time."""
    paths, problems = _usable_sessions(series, voxels)
    if not paths:
        raise InputError(f"no session of {series.where} has betas that can be read; see the trial counts")
    shown = _shown(series, paths)
    digests = {session: hashlib.sha256() for session in paths}
    tables = []
    with tqdm(total=len(voxels) * len(paths), desc=f"{series.subject} voxels", unit="voxel") as bar:
        for start in range(0, len(voxels), BLOCK):
            block = voxels[start : start + BLOCK]
            stored = {}
            for session, path in paths.items():
                stored[session] = _read(path, block)
                digests[session].update(stored[session].tobytes())
                bar.update(len(block))
            tables.append(_describe(block, stored, shown))
    sessions = {session: sha.hexdigest() for session, sha in digests.items()}
    return Measured(pd.concat(tables, ignore_index=True), sessions, int((shown["repeat"] > 0).sum()), problems)


def _usable_sessions(series: Series, voxels: np.ndarray) -> tuple[dict[int, Path], list[Problem]]:
    """Return the sessions whose betas are int16 (trial, Z, Y, X) of the maps' space, and what is wrong with others."""
    usable, problems = {}, []
    for session, path in session_paths(series).items():
        name = key_of(series.root, path)
        try:
            with open_hdf5(path, "betas") as betas:
                shape, dtype = betas.shape, betas.dtype
        except InputError as error:
            problems.append(("error", name, str(error)))
            continue
        if dtype != np.int16 or len(shape) != 4:
            words = f"/betas must be int16 (trial, Z, Y, X), but is {dtype} {shape}; fetch it again"
            problems.append(("error", name, words))
        elif (voxels.max(axis=0) >= shape[:0:-1]).any():
            words = f"/betas is (trial, Z, Y, X) = {shape}, smaller than the ROI maps; fetch betas of their space"
            problems.append(("error", name, words))
        else:
            usable[session] = path
    return usable, problems


def _shown(series: Series, paths: dict[int, Path]) -> pd.DataFrame:
    """Return session, stimulus and repeat (both from 0) of every trial, of sessions whose betas have as many trials."""
    try:
        table = series.behaviour()
    except InputError:
        table = pd.DataFrame({"SESSION": [], "73KID": []}, dtype=int)
    counts = table.groupby("SESSION").size()
    kept = []
    for session, path in paths.items():
        with open_hdf5(path, "betas") as betas:
            if counts.get(session) == len(betas):
                kept.append(session)
    table = table[table["SESSION"].isin(kept)].sort_values("SESSION", kind="stable")
    stimulus = np.unique(table["73KID"], return_inverse=True)[1]
    trials = pd.DataFrame({"session": table["SESSION"].to_numpy(), "stimulus": stimulus})
    trials["repeat"] = trials.groupby("stimulus").cumcount()
    return trials


def _read(path: Path, voxels: np.ndarray) -> np.ndarray:
    """Return stored betas, int16 (voxel, trial)."""
    with open_hdf5(path, "betas") as betas:
        return read_voxels(path, betas, *voxels.T)


def _describe(voxels: np.ndarray, stored: dict[int, np.ndarray], shown: pd.DataFrame) -> pd.DataFrame:
    flat = np.stack([betas.min(axis=1) == betas.max(axis=1) for betas in stored.values()])
    zero = np.stack([~betas.any(axis=1) for betas in stored.values()])
    saturated = [((betas == INT16.min) | (betas == INT16.max)).sum(axis=1) for betas in stored.values()]
    table = pd.DataFrame(voxels, columns=["x", "y", "z"])
    whole = np.concatenate(list(stored.values()), axis=1)
    return table.assign(
        flat=flat.sum(axis=0),
        zero=zero.sum(axis=0),
        saturated=np.sum(saturated, axis=0),
        ncsnr=_recompute(stored, shown, len(voxels)),
        digest=[hashlib.sha256(row.tobytes()).hexdigest() for row in whole],
    )


def _recompute(stored: dict[int, np.ndarray], shown: pd.DataFrame, n_voxels: int) -> np.ndarray:
    """Return ncsnr, (voxel,), from betas z-scored within their session, so of variance 1, over all repeats."""
    if shown.empty:
        return np.full(n_voxels, np.nan)
    responses = np.full((n_voxels, shown["stimulus"].max() + 1, shown["repeat"].max() + 1), np.nan, np.float32)
    for session, scores in _zscored(stored):
        trials = shown[shown["session"] == session]
        if len(trials):
            responses[:, trials["stimulus"], trials["repeat"]] = scores
    return estimate_ncsnr(responses, total_variance=1.0)


def _zscored(stored: dict[int, np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    for session, betas in stored.items():
        with np.errstate(invalid="ignore"):  # where they do not vary they become NaN
            yield session, zscore(betas)
