"""Fetch from the release of NSD, or a mirror of it, what one benchmark needs and nothing else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path
from juicyfruits.nsd import layout
from juicyfruits.nsd.design import PERSONAL_SETS, behaviour_needed, choose_stimuli, read_shown
from juicyfruits.nsd.rois import needed_maps
from juicyfruits.nsd.stimuli import fetch_images, image_bytes
from juicyfruits.nsd.terms import ACCEPTED, TERMS
from juicyfruits.remote.download import download, stat_files
from juicyfruits.remote.errors import NotFound
from juicyfruits.remote.records import Record
from juicyfruits.remote.sources import Source
from juicyfruits.remote.urls import open_source


@dataclass(frozen=True)
class Needed:
    """What one benchmark needs of the release: files by their keys, and pictures by their 0-based nsd ids."""

    keys: list[str]
    nsd_ids: np.ndarray


def fetch_nsd(
    url: str,
    out: str | Path,
    *,
    subjects: str | Sequence[str] = layout.COMPLETE_SUBJECTS,
    image_set: str = "shared1000",
    rois: Sequence[str] | None = None,
    beta_version: str = layout.DEFAULT_BETAS,
    space: str = layout.DEFAULT_SPACE,
    accept_terms: bool = False,
    jobs: int = 4,
) -> list[Record]:
    """Fetch into `out`, in the layout of the release, what `prepare_nsd` needs for the same options.

    Args:
        url: where from: "s3://natural-scenes-dataset" or another bucket ("?endpoint=https://..." for another server
            than Amazon's), an HTTP address, or a folder; its root holds nsddata, nsddata_betas and nsddata_stimuli.
        out: folder to fetch into; files that are there and whole are not fetched again.
        subjects, image_set, rois, beta_version, space: as for `prepare_nsd`; by default the subjects who finished. One
            subject may be a text.
        accept_terms: that you accept NSD's terms of use; asked for once a folder.
        jobs: files fetched at the same time.

    Returns a record of every file. Raises `InputError` when the terms have not been accepted, and `FetchError` for
    what goes wrong on the way; what has come so far stays and is gone on with next time.
    """
    out, source = Path(out), open_source(url)
    _check_terms(out, accept_terms)
    subjects = _named(subjects)
    tables = _fetch_tables(source, out, subjects, image_set, jobs)
    needed = needed_of_release(out, subjects, image_set, rois, beta_version, space)
    pictures = fetch_images(source, out, needed.nsd_ids)  # first: not every mirror gives out parts of a file
    return [*tables, pictures, *download(source, needed.keys, out, jobs=jobs)]


def list_nsd(
    url: str,
    *,
    subjects: str | Sequence[str] = layout.COMPLETE_SUBJECTS,
    image_set: str = "shared1000",
    rois: Sequence[str] | None = None,
    beta_version: str = layout.DEFAULT_BETAS,
    space: str = layout.DEFAULT_SPACE,
) -> list[tuple[str, int]]:
    """Return (what, bytes) of all that `fetch_nsd` would fetch; nothing but small tables is read, and nothing kept."""
    source, subjects = open_source(url), _named(subjects)
    with tempfile.TemporaryDirectory() as folder:
        tables = _fetch_tables(source, Path(folder), subjects, image_set, 4)
        needed = needed_of_release(Path(folder), subjects, image_set, rois, beta_version, space)
    pictures = f"{layout.STIMULI}: {len(needed.nsd_ids)} of its pictures"
    return [
        *((record.key, record.size) for record in tables),
        *((file.key, file.size) for file in stat_files(source, needed.keys)),
        (pictures, image_bytes(source, needed.nsd_ids)),
    ]


def needed_of_release(
    root: Path, subjects: Sequence[str], image_set: str, rois: Sequence[str] | None, beta_version: str, space: str
) -> Needed:
    """Return what is needed beside the tables under `root`, which tell sessions and pictures.

    A subject's sessions are those of its responses.tsv.
    """
    layout.check_betas(beta_version, space)
    keys, shown = [], {subject: read_shown(root, subject) for subject in subjects}
    for subject in subjects:
        sessions = range(1, len(shown[subject]) + 1)
        keys += [layout.betas_session(subject, n, beta_version, space) for n in sessions]
        keys.append(layout.ncsnr_map(subject, beta_version, space))
        keys += [layout.roi_map(subject, name, space) for name in sorted(needed_maps(rois))]
    stimuli = [
        choose_stimuli(root, image_set, {subject: shown[subject] for subject in group})["nsd_id"]
        for group in _groups(image_set, subjects)
    ]
    return Needed(keys, np.unique(np.concatenate(stimuli)))


def _groups(image_set: str, subjects: Sequence[str]) -> list[list[str]]:
    """Return whose pictures make a set together: everybody's, or each subject's own."""
    return [[subject] for subject in subjects] if image_set in PERSONAL_SETS else [list(subjects)]


def _named(subjects: str | Sequence[str]) -> list[str]:
    """Return the subjects' names, each once; one alone may come as a text."""
    subjects = list(dict.fromkeys([subjects] if isinstance(subjects, str) else subjects))
    if not subjects:
        raise InputError(f"no subject was chosen; name one or more of {', '.join(layout.N_SESSIONS)}")
    layout.check_subjects(subjects)
    return subjects


def _fetch_tables(source: Source, out: Path, subjects: list[str], image_set: str, jobs: int) -> list[Record]:
    """Fetch the tables; whose behaviour must be known for the image set stands in the design, fetched first."""
    general = download(source, [layout.EXPDESIGN, layout.STIM_INFO], out, jobs=jobs)
    needed = [behaviour_needed(out, image_set, group) for group in _groups(image_set, subjects)]
    behaviour = dict.fromkeys(layout.responses_tsv(subject) for group in needed for subject in group)
    try:
        return [*general, *download(source, behaviour, out, jobs=jobs)]
    except NotFound as error:
        raise NotFound(f"{error}; or choose other subjects, or another image set") from error


def _check_terms(out: Path, accept: bool) -> None:
    """Show the terms and ask for them, unless they were accepted for this folder before; keep when they were."""
    path = out / ACCEPTED
    if path.exists():
        return
    print(TERMS)
    if not accept:
        raise InputError(
            "NSD's terms of use must be accepted once before anything is fetched; read them, then add --accept-terms "
            "(or `accept_terms: true` to the benchmark's settings in the configuration)"
        )
    with atomic_path(path) as tmp:
        tmp.write_text(json.dumps({"accepted_at": datetime.now(UTC).isoformat(), "terms": TERMS}) + "\n")
