"""Benchmark: stimuli with what a brain answered to them, as voxel or neuron responses or as RDMs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from juicyfruits import arrays, prepared
from juicyfruits.errors import InputError, first_names, near_names
from juicyfruits.files import digest
from juicyfruits.pictures import open_rgb


def data_folder() -> Path:
    """Return the folder of prepared benchmarks: the environment's JUICYFRUITS_DATA, or `data`."""
    return Path(os.environ.get("JUICYFRUITS_DATA", "data"))


class Benchmark:
    """One prepared benchmark folder, read and checked; `docs/bring-your-own.md` describes the layout.

    Attributes:
        name, kind: its name, and "responses" or "rdms".
        info: what benchmark.json says ({} where there is none).
        stimulus_data: a row a stimulus, in the order of the responses: stimulus_id, image_path (absolute), ...
        metadata: a row a neuroid (index neuroid_id): subject, one boolean column an ROI, ncsnr, voxel indices, ...
            Empty for RDMs.
        responses: (neuroid, stimulus, repetition), NaN where a repeat is missing; memory-mapped where it can be.
            None for RDMs.
        rois: names of the ROIs.
        rdms: rdms[roi][subject] -> (stimulus, stimulus); for responses {} until `build_rdms` has been called.

    Raises `InputError` for a folder that is not a whole and consistent benchmark.

    Example (a folder made by `juicyfruits make-mini mini` and `juicyfruits prepare mini data/nsd_mini`):
        >>> benchmark = Benchmark("data/nsd_mini")  # doctest: +SKIP
        >>> benchmark.response_data.shape == (len(benchmark.metadata), len(benchmark.image_paths))  # doctest: +SKIP
        True
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        data = prepared.find_data_file(self.folder)
        self.info = prepared.read_info(self.folder)
        self.name: str = self.info.get("name", self.folder.resolve().name)
        self.stimulus_data = prepared.read_stimuli(self.folder)
        self._selected: list[str] = []
        self.responses: np.ndarray | None = None
        self.rdms: arrays.Rdms = {}
        if data.name == prepared.RDM_FILE:
            self.kind = "rdms"
            self.metadata = pd.DataFrame({"subject": []}, index=pd.Index([], name="neuroid_id"))
            self.rdms = arrays.read_rdms(data, len(self.stimulus_data))
            self.rois = list(self.rdms)
        else:
            self.kind = "responses"
            metadata, self.rois = prepared.read_neuroids(self.folder)
            self.responses = arrays.read_responses(data, metadata.index, self.stimulus_data["stimulus_id"])
            self.metadata = arrays.with_ncsnr(metadata, self.responses)

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, in the order of the neuroids (or of the RDM keys)."""
        if self.kind == "rdms":
            return list(dict.fromkeys(subject for by_subject in self.rdms.values() for subject in by_subject))
        return list(self.metadata["subject"].unique())

    @property
    def image_paths(self) -> list[str]:
        """Absolute paths of the pictures, in the order of the stimuli."""
        return list(self.stimulus_data["image_path"])

    @cached_property
    def response_data(self) -> pd.DataFrame:
        """Responses averaged over the repeats that are there: float32 (neuroid, stimulus), labelled by their ids.

        The average is taken in float64, whatever the dtype of `responses`.
        """
        return pd.DataFrame(
            arrays.mean_responses(self._need_responses()),
            index=self.metadata.index,
            columns=pd.Index(self.stimulus_data["stimulus_id"], name="stimulus_id"),
            copy=False,
        )

    def check_varies(self) -> None:
        """Raise `InputError` for neuroids that answer all train or all test stimuli alike: they have no score."""
        for split, rows in (("train", self.train), ("test", self.test)):
            flat = self.metadata.index[arrays.constant_rows(self._need_responses(), rows)]
            if len(flat):
                raise InputError(
                    f"{self.folder}: {len(flat)} neuroids answer all {split} stimuli alike and have no score: "
                    f"{first_names(flat)}; leave them out"
                )

    def repeats(self) -> np.ndarray:
        """Return n_i, how many repeats each mean rests on: int (neuroid, stimulus)."""
        return arrays.count_repeats(self._need_responses())

    @property
    def train(self) -> np.ndarray:
        """Boolean mask (stimulus,) of the train stimuli: column `split` where there is one, else the even rows."""
        return prepared.train_rows(self.stimulus_data)

    @property
    def test(self) -> np.ndarray:
        """Boolean mask (stimulus,) of the test stimuli: all that are not train."""
        return ~self.train

    @cached_property
    def digest(self) -> str:
        """Digest of the folder's content (tables, responses or RDMs, pictures) and of what `select` chose from it."""
        content = prepared.content_digest(self.folder, self.stimulus_data)
        return digest(content, *self._selected) if self._selected else content

    @cached_property
    def stimulus_digest(self) -> str:
        """Digest of the stimuli alone: ids, order and pictures."""
        return prepared.stimulus_digest(self.stimulus_data)

    def get_stimulus(self, index: int | str | None = None) -> Image.Image:
        """Return a picture as RGB (see `open_rgb`) by its row number or stimulus_id; a random one for None."""
        if index is None:
            index = int(np.random.default_rng().integers(len(self.stimulus_data)))
        if isinstance(index, str):
            ids = list(self.stimulus_data["stimulus_id"])
            if index not in ids:
                raise InputError(f"no stimulus {index!r} in {self.name}; {near_names(index, ids)}")
            index = ids.index(index)
        return open_rgb(self.image_paths[index])

    def get_roi_indices(self, row_number: bool = True) -> dict[str, dict[str, np.ndarray]]:
        """Return indices[roi][subject]: row numbers of its neuroids, or their ids; pairs without any are left out."""
        labels = np.arange(len(self.metadata)) if row_number else self.metadata.index.to_numpy()
        indices: dict[str, dict[str, np.ndarray]] = {}
        for roi in self.rois if self.kind == "responses" else []:
            for subject in self.subjects:
                rows = (self.metadata[roi] & (self.metadata["subject"] == subject)).to_numpy()
                if rows.any():
                    indices.setdefault(roi, {})[subject] = labels[rows]
        return indices

    def build_rdms(self, compute_rdm: Callable[..., np.ndarray], **kwargs) -> arrays.Rdms:
        """Compute, keep as `rdms` and return rdms[roi][subject] = compute_rdm(X, **kwargs).

        X is the averaged responses of the subject's neuroids in the ROI, (stimulus, neuroid).
        """
        values = self.response_data.to_numpy()
        self.rdms = {
            roi: {subject: compute_rdm(values[rows].T, **kwargs) for subject, rows in by_subject.items()}
            for roi, by_subject in self.get_roi_indices().items()
        }
        return self.rdms

    def select(self, rois: str | Iterable[str] | None = None, subjects: str | Iterable[str] | None = None) -> Benchmark:
        """Return a benchmark of only these ROIs and subjects, all by default; one name may be given as plain text.

        ROIs that are not named, and of which these subjects have none, are left out. Raises `InputError` for an unknown
        name, and for a named ROI of which these subjects have none.
        """
        subjects = self._known("subject", subjects, self.subjects)
        present = [roi for roi in self.rois if self._has(roi, subjects)]
        rois = self._known("ROI", present if rois is None else rois, self.rois)
        for roi in rois:
            if roi not in present:
                raise InputError(f"ROI {roi!r} has no neuroids in {', '.join(subjects)}; choose other ROIs or subjects")
        chosen = copy.copy(self)
        for cached in ("response_data", "digest"):
            chosen.__dict__.pop(cached, None)
        chosen._selected = [*self._selected, "rois", *rois, "subjects", *subjects]
        chosen.rois = rois
        chosen.rdms = {
            roi: {subject: rdm for subject, rdm in self.rdms[roi].items() if subject in subjects}
            for roi in rois
            if roi in self.rdms
        }
        if self.kind == "responses":
            rows = self.metadata[rois].any(axis=1) & self.metadata["subject"].isin(subjects)
            others = [roi for roi in self.rois if roi not in rois]
            chosen.metadata = self.metadata.loc[rows].drop(columns=others)
            chosen.responses = self._need_responses()[rows.to_numpy()]
        return chosen

    def _has(self, roi: str, subjects: list[str]) -> bool:
        if self.kind == "rdms":
            return any(subject in self.rdms[roi] for subject in subjects)
        return bool(self.metadata.loc[self.metadata["subject"].isin(subjects), roi].any())

    def _known(self, what: str, names: str | Iterable[str] | None, known: list[str]) -> list[str]:
        names = known if names is None else [names] if isinstance(names, str) else list(dict.fromkeys(names))
        for name in names:
            if name not in known:
                raise InputError(f"no {what} {name!r} in benchmark {self.name!r}; {near_names(name, known)}")
        if not names:
            raise InputError(f"no {what} chosen from benchmark {self.name!r}; known are {first_names(known, 20)}")
        return names

    def _need_responses(self) -> np.ndarray:
        if self.responses is None:
            raise InputError(f"benchmark {self.name!r} holds RDMs only; it has no responses of single neuroids")
        return self.responses

    def __repr__(self) -> str:
        lines = [
            f"{type(self).__name__} {self.name!r}",
            f"  Subjects: {', '.join(self.subjects)}",
            f"  Probe Stimuli: {len(self.stimulus_data)} ({self.train.sum()} train, {self.test.sum()} test)",
        ]
        if self.kind == "rdms":
            lines.append(f"  RDMs: {', '.join(f'{roi} ({len(rdms)})' for roi, rdms in self.rdms.items())}")
        else:
            sizes = self.metadata[self.rois].sum().sort_values(ascending=False, kind="stable").head(5)
            lines.append(f"  Responding Neuroids: {len(self.metadata)} (up to {self.responses.shape[2]} repeats)")
            lines.append(f"  Largest ROIs: {', '.join(f'{roi} ({size})' for roi, size in sizes.items())}")
        return "\n".join(lines)
