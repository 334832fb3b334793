"""Write the miniature brain: generated pictures and answers in the layout of the public NSD release."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import savemat
from tqdm import tqdm

from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path, check_replaceable
from juicyfruits.nsd import layout
from juicyfruits.synthetic.anatomy import Anatomy, make_anatomy
from juicyfruits.synthetic.brain import add_noise, draw_ncsnr, evc_signals, oriented_energy, otc_signals
from juicyfruits.synthetic.scenes import make_scenes

PARTS = ("nsddata", "nsddata_betas", "nsddata_stimuli", layout.TRUTH, "truth_factors.csv")
N_FLAT = 4  # labelled voxels a subject that lose their data in the second session


@dataclass(frozen=True)
class Design:
    """Who sees what when.

    Attributes:
        shared: 0-based nsd ids that all subjects see.
        pictures: subject -> nsd ids of all pictures it sees, the shared ones first.
        order: (trial,) index into a subject's pictures; the same for all subjects, as in NSD.
        sessions: (trial,) 1-based session.
    """

    shared: np.ndarray
    pictures: dict[str, np.ndarray]
    order: np.ndarray
    sessions: np.ndarray

    def shown(self, subject: str) -> np.ndarray:
        """Return the 0-based nsd id of every trial."""
        return self.pictures[subject][self.order]


def make_mini(
    out: str | Path,
    *,
    seed: int = 0,
    n_shared: int = 240,
    n_unique: int = 20,
    n_subjects: int = 2,
    n_repeats: int = 3,
    n_sessions: int = 3,
    volume: tuple[int, int, int] = (12, 14, 11),
    picture_size: int = 425,
) -> Path:
    """Write a synthetic brain with known answers under `out`, in NSD's own layout, and return `out`.

    Every subject sees `n_shared` common and `n_unique` own pictures, each `n_repeats` times, in `n_sessions` sessions.
    A stored beta is 300 x (baseline + scale x (signal + noise)), in percent signal change x 300, int16; baseline
    and scale differ from voxel to voxel and session to session. The signal has SD 1 over the subject's pictures, the
    noise SD 1 / ncsnr, and ncsnr.nii.gz holds these true values. A few voxels are flat in session 2.

    Beside the release's folders stand `truth.npz` (for each subject: SUBJECT_signal, float32 (voxel, picture);
    SUBJECT_neuroid_id; SUBJECT_ncsnr; SUBJECT_nsd_id; SUBJECT_flat; SUBJECT_field) and `truth_factors.csv` (a row a
    picture: what was drawn). The same seed gives the same bytes. The default takes about 20 seconds and 150 MB.

    Raises `InputError` if `out` holds anything but an earlier miniature, and for a negative seed.
    """
    out = Path(out)
    check_replaceable(out, layout.TRUTH, PARTS)
    if seed < 0:
        raise InputError(f"seed {seed} is negative; choose 0 or more")
    if min(n_shared, n_subjects, n_repeats, n_sessions) < 1 or n_unique < 0 or min(volume) < 6:
        raise InputError(
            "a miniature needs at least one picture, subject, repeat and session, and a volume of 6 x 6 x 6"
        )
    scene_rng, design_rng, *subject_rngs = np.random.default_rng(seed).spawn(2 + n_subjects)
    subjects = [f"subj{i + 1:02d}" for i in range(n_subjects)]
    design = make_design(subjects, n_shared, n_unique, n_repeats, n_sessions, design_rng)
    pictures, factors = make_scenes(n_shared + n_unique * n_subjects, picture_size, scene_rng)
    energy = oriented_energy(pictures)
    with atomic_path(out) as root:
        write_stimuli(root, pictures)
        write_design(root, design, len(pictures))
        truth = {}
        for subject, rng in zip(tqdm(subjects, desc="subjects"), subject_rngs, strict=True):
            anatomy = make_anatomy(volume, rng)
            seen = design.pictures[subject]
            signals, fields = make_signals(energy[seen], factors.iloc[seen], anatomy, rng)
            anatomy.maps["prf-eccrois"][tuple(anatomy.early.T)] = eccentricity_bands(fields)
            voxels = np.concatenate([anatomy.early, anatomy.high])
            ncsnr = draw_ncsnr(len(voxels), rng)
            flat = rng.choice(len(voxels), N_FLAT, replace=False)
            write_maps(root, subject, anatomy, voxels, ncsnr)
            write_behaviour(root, subject, design)
            write_betas(root, subject, anatomy, voxels, signals, ncsnr, flat, design, rng)
            ids = np.array([layout.neuroid_id(subject, *xyz) for xyz in voxels])
            truth |= {
                f"{subject}_signal": signals.astype(np.float32),
                f"{subject}_neuroid_id": ids,
                f"{subject}_ncsnr": ncsnr,
                f"{subject}_nsd_id": seen,
                f"{subject}_flat": ids[flat],
                f"{subject}_field": fields,
            }
        factors.rename_axis("nsd_id").to_csv(root / "truth_factors.csv")
        np.savez(root / layout.TRUTH, **truth)
    return out


def make_design(
    subjects: list[str], n_shared: int, n_unique: int, n_repeats: int, n_sessions: int, rng: np.random.Generator
) -> Design:
    """Draw which pictures are shared, which belong to whom, and one order of trials for all."""
    ids = rng.permutation(n_shared + n_unique * len(subjects))
    shared = np.sort(ids[:n_shared])
    own = np.sort(ids[n_shared:].reshape(len(subjects), n_unique), axis=1)
    pictures = {subject: np.concatenate([shared, own[i]]) for i, subject in enumerate(subjects)}
    order = rng.permutation(np.repeat(np.arange(n_shared + n_unique), n_repeats))
    sessions = np.concatenate([np.full(len(part), k + 1) for k, part in enumerate(np.array_split(order, n_sessions))])
    return Design(shared, pictures, order, sessions)


def make_signals(
    energy: np.ndarray, factors: pd.DataFrame, anatomy: Anatomy, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return noiseless answers (voxel, picture) of the early, then of the high voxels; and the early ones' fields."""
    early = [area.rstrip("vd") if area != "hV4" else area for area in anatomy.early_areas]
    high = [area.split("-")[0] for area in anatomy.high_areas]
    signals, fields = evc_signals(energy, early, rng)
    return np.concatenate([signals, otc_signals(factors, high, rng)]), fields


def eccentricity_bands(fields: np.ndarray) -> np.ndarray:
    """Return the codes of `prf-eccrois` for receptive fields (voxel, 3) whose centres are shares of the picture.

    >>> eccentricity_bands(np.array([[0.5, 0.5, 0.1], [0.5, 0.75, 0.1], [0.0, 1.0, 0.1]]))  # at 0, 2.1 and 5.9 degrees
    array([1, 4, 5])
    """
    degrees = layout.PICTURE_DEGREES * np.hypot(*(fields[:, :2] - 0.5).T)
    return 1 + np.searchsorted((0.5, 1.0, 2.0, 4.0), degrees)


def write_stimuli(root: Path, pictures: np.ndarray) -> None:
    """Write `/imgBrick`."""
    with h5py.File(_parent(root / layout.STIMULI), "w") as file:
        file.create_dataset("imgBrick", data=pictures)


def write_design(root: Path, design: Design, n_pictures: int) -> None:
    """Write nsd_expdesign.mat and nsd_stim_info_merged.csv; ids and trials count from 1 where the release's do."""
    content = io.BytesIO()
    subjectim = np.stack([ids + 1 for ids in design.pictures.values()]).astype(np.float64)
    ordering = (design.order + 1).astype(np.float64)[None]
    savemat(content, {"masterordering": ordering, "subjectim": subjectim, "sharedix": (design.shared + 1.0)[None]})
    header = b"MATLAB 5.0 MAT-file, made by juicyfruits".ljust(116)  # SciPy's names the time: bytes would differ
    _parent(root / layout.EXPDESIGN).write_bytes(header + content.getvalue()[116:])
    table = pd.DataFrame({"nsdId": np.arange(n_pictures), "shared1000": np.isin(np.arange(n_pictures), design.shared)})
    for subject, ids in design.pictures.items():
        name = f"subject{layout.subject_number(subject)}"
        table[name] = np.isin(table["nsdId"], ids).astype(int)
        trials = np.argsort(design.order, kind="stable").reshape(len(ids), -1) + 1
        for repeat, column in enumerate(trials.T):
            table[f"{name}_rep{repeat}"] = pd.Series(column, index=ids).reindex(table["nsdId"], fill_value=0).to_numpy()
    table.to_csv(_parent(root / layout.STIM_INFO))


def write_behaviour(root: Path, subject: str, design: Design) -> None:
    """Write responses.tsv: the pictures only, no button presses."""
    trial = pd.Series(np.arange(len(design.order))).groupby(design.sessions).cumcount() + 1
    table = pd.DataFrame({"SUBJECT": layout.subject_number(subject), "SESSION": design.sessions, "RUN": 1})
    table["TRIAL"], table["73KID"], table["10KID"] = trial, design.shown(subject) + 1, design.order + 1
    table.to_csv(_parent(root / layout.responses_tsv(subject)), sep="\t", index=False)


def write_maps(root: Path, subject: str, anatomy: Anatomy, voxels: np.ndarray, ncsnr: np.ndarray) -> None:
    """Write the ROI volumes and the true ncsnr (0 in voxels without a signal)."""
    for name, volume in anatomy.maps.items():
        _save_volume(root / layout.roi_map(subject, name), volume)
    volume = np.zeros(anatomy.brain.shape, np.float32)
    volume[tuple(voxels.T)] = ncsnr
    _save_volume(root / layout.ncsnr_map(subject), volume)


def write_betas(
    root: Path,
    subject: str,
    anatomy: Anatomy,
    voxels: np.ndarray,
    signals: np.ndarray,
    ncsnr: np.ndarray,
    flat: np.ndarray,
    design: Design,
    rng: np.random.Generator,
) -> None:
    """Write int16 betas (trial, Z, Y, X) session by session, stored voxel by voxel; zeros outside the brain."""
    baseline, scale = rng.uniform(0.3, 2.0, len(voxels)), rng.uniform(0.4, 1.2, len(voxels))
    for session in np.unique(design.sessions):
        trials = design.order[design.sessions == session]
        volume = rng.normal(0, 1.0, (len(trials), *anatomy.brain.shape)) * anatomy.brain
        answers = add_noise(signals[:, trials], ncsnr, rng)
        drift, gain = rng.normal(0, 0.3, len(voxels)), rng.uniform(0.8, 1.25, len(voxels))
        betas = (baseline + drift)[:, None] + (scale * gain)[:, None] * answers
        if session == 2:
            betas[flat[::2]], betas[flat[1::2]] = 0.0, 1.0
        volume[(slice(None), *voxels.T)] = betas.T
        stored = np.clip(np.round(layout.BETA_SCALE * volume), -32768, 32767).astype(np.int16)
        with h5py.File(_parent(root / layout.betas_session(subject, int(session))), "w") as file:
            file.create_dataset("betas", data=stored.transpose(0, 3, 2, 1), chunks=(len(trials), 1, 1, 1))


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _save_volume(path: Path, volume: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1.0])), _parent(path))
