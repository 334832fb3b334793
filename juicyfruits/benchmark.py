"""Benchmark: stimuli with what a brain answered to them, as voxel or neuron responses or as RDMs."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from juicyfruits import arrays, choosing, prepared
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import digest
from juicyfruits.pictures import open_rgb

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


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
        splithalf_rdms: splithalf_rdms[roi][subject]["train" or "test"] -> the same among the stimuli of a split.

    Raises `InputError` for a folder that is not a whole and consistent benchmark.

    Example (a folder made by `juicyfruits make-mini mini` and `juicyfruits prepare nsd mini data/nsd_mini`):
        >>> benchmark = Benchmark("data/nsd_mini")  # doctest: +SKIP
        >>> benchmark.response_data.shape == (len(benchmark.metadata), len(benchmark.image_paths))  # doctest: +SKIP
        True
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        data = prepared.find_data_file(self.folder)
        info, stimuli = prepared.read_info(self.folder), prepared.read_stimuli(self.folder)
        name = info.get("name", self.folder.resolve().name)
        if data.name == prepared.RDM_FILE:
            self._hold(name, stimuli, rdms=arrays.read_rdms(data, len(stimuli)), info=info)
            return
        metadata, rois = prepared.read_neuroids(self.folder)
        responses = arrays.read_responses(data, metadata.index, stimuli["stimulus_id"])
        path, subjects = self.folder / "stimuli.csv", list(metadata["subject"].unique())
        prepared.check_repeats(path, stimuli, subjects, responses.shape[2])
        metadata = arrays.with_ncsnr(metadata, responses)
        self._hold(name, stimuli, metadata=metadata, rois=rois, responses=responses, info=info)

    def _hold(
        self,
        name: str,
        stimuli: pd.DataFrame,
        *,
        metadata: pd.DataFrame | None = None,
        rois: Sequence[str] = (),
        responses: np.ndarray | None = None,
        rdms: arrays.Rdms | None = None,
        info: dict | None = None,
    ) -> None:
        """Set all attributes from checked tables and arrays, wherever they come from."""
        self.name: str = name
        self.kind = "responses" if rdms is None else "rdms"
        self.info = info or {}
        self.stimulus_data = stimuli
        self.metadata = pd.DataFrame({"subject": []}, index=pd.Index([], name="neuroid_id")) if rdms else metadata
        self.responses = responses
        self.rois = list(rdms or rois)
        prepared.check_roi_names(self.folder, self.rois)
        self.rdms: arrays.Rdms = rdms or {}
        self.splithalf_rdms: dict[str, dict[str, dict[str, np.ndarray]]] = self._halves()
        self._whole, self._chosen = None, []  # what `subset` chose from, and what it chose

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, in the order of the neuroids (or of the RDM keys)."""
        if self.kind == "rdms":
            return list(dict.fromkeys(subject for by_subject in self.rdms.values() for subject in by_subject))
        return list(self.metadata["subject"].unique())

    @property
    def image_paths(self) -> list[str]:
        """Absolute paths of the pictures, or their addresses in one HDF5 file, in the order of the stimuli."""
        return list(self.stimulus_data["image_path"])

    @cached_property
    def response_data(self) -> pd.DataFrame:
        """Responses averaged over the repeats that are there: float32 (neuroid, stimulus), labelled by their ids.

        The average is taken in float64, whatever the dtype of `responses`.
        """
        return pd.DataFrame(
            arrays.mean_responses(self.need_responses()),
            index=self.metadata.index,
            columns=pd.Index(self.stimulus_data["stimulus_id"], name="stimulus_id"),
            copy=False,
        )

    def check_varies(self) -> None:
        """Raise `InputError` for neuroids that answer all train or all test stimuli alike: they have no score."""
        for split, rows in self._splits.items():
            flat = self.metadata.index[arrays.constant_rows(self.need_responses(), rows)]
            if len(flat):
                raise InputError(
                    f"{self.folder}: {len(flat)} neuroids answer all {split} stimuli alike and have no score: "
                    f"{first_names(flat)}; leave them out"
                )

    def repeats(self) -> np.ndarray:
        """Return n_i, how many repeats each mean rests on: int (neuroid, stimulus).

        They are counted in `responses`; of responses that are averages already, the column `n_repeats`, or
        `n_repeats_SUBJECT`, of the stimuli says them, and without it they count as one.
        """
        said = prepared.said_repeats(self.stimulus_data, self.subjects)
        if not said:
            return arrays.count_repeats(self.need_responses())
        return np.stack([said[subject] for subject in self.metadata["subject"]])

    @property
    def train(self) -> np.ndarray:
        """Boolean mask (stimulus,) of the train stimuli: column `split` where there is one, else the even rows."""
        return prepared.train_rows(self.stimulus_data)

    @property
    def test(self) -> np.ndarray:
        """Boolean mask (stimulus,) of the test stimuli: all that are not train."""
        return ~self.train

    @property
    def _splits(self) -> dict[str, np.ndarray]:
        return {"train": self.train, "test": self.test}

    @cached_property
    def digest(self) -> str:
        """Digest of the content (tables, responses or RDMs, pictures) and of what `subset` chose from it."""
        if self._whole is not None:
            return digest(self._whole.digest, *self._chosen)
        return self._content_digest()

    def _content_digest(self) -> str:
        return prepared.content_digest(self.folder, self.stimulus_digest)

    @cached_property
    def stimulus_digest(self) -> str:
        """Digest of the stimuli alone: ids, order and pictures."""
        return prepared.stimulus_digest(self.stimulus_data["stimulus_id"], self.image_paths)

    def get_stimulus(self, index: int | str | None = None) -> Image.Image:
        """Return a picture as RGB (see `open_rgb`) by its row number or stimulus_id; a random one for None."""
        if index is None:
            index = int(np.random.default_rng().integers(len(self.stimulus_data)))
        return open_rgb(self.image_paths[choosing.stimulus_row(self, index)])

    def plot_stimuli(self, indices: Iterable[int | str] | None = None, n: int = 12) -> Figure:
        """Return a figure of these pictures (row numbers or stimulus_ids), or of `n` spread over all; see `plots`."""
        from juicyfruits.plots import plot_stimuli

        return plot_stimuli(self, indices, n)

    @property
    def roi_indices(self) -> dict[str, dict[str, np.ndarray]]:
        """Row numbers of the neuroids: `get_roi_indices()`."""
        return self.get_roi_indices()

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

    def get_roi_structure(self, mode: str = "global") -> pd.DataFrame:
        """Return how many neuroids each ROI has: ROI x ["neuroids"], or ROI x subject for the mode "subject"."""
        self.need_responses()
        if mode not in ("global", "subject"):
            raise InputError(f"mode={mode!r}: expected 'global' or 'subject'")
        counts = self.metadata.groupby("subject", sort=False)[self.rois].sum().T.rename_axis("roi")
        return counts if mode == "subject" else counts.sum(axis=1).to_frame("neuroids")

    def build_rdms(self, compute_rdm: Callable[..., np.ndarray], **kwargs) -> arrays.Rdms:
        """Compute, keep as `rdms` and return rdms[roi][subject] = compute_rdm(X, **kwargs).

        X is the averaged responses of the subject's neuroids in the ROI, float32 (stimulus, neuroid);
        `splithalf_rdms` is made likewise of the train and of the test stimuli alone. What compute_rdm returns, an
        array or a tensor, is kept as it is. Should it fail, earlier RDMs stay.
        """
        values, rdms, halves = self.response_data.to_numpy(), {}, {}
        for roi, by_subject in self.roi_indices.items():
            for subject, rows in by_subject.items():
                X = np.ascontiguousarray(values[rows].T)
                rdms.setdefault(roi, {})[subject] = compute_rdm(X, **kwargs)
                parts = {split: compute_rdm(X[mask], **kwargs) for split, mask in self._splits.items()}
                halves.setdefault(roi, {})[subject] = parts
        self.rdms, self.splithalf_rdms = rdms, halves
        return self.rdms

    def _halves(self) -> dict[str, dict[str, dict[str, np.ndarray]]]:
        squares = {split: np.ix_(mask, mask) for split, mask in self._splits.items()}
        return {
            roi: {s: {split: rdm[square] for split, square in squares.items()} for s, rdm in by_subject.items()}
            for roi, by_subject in self.rdms.items()
        }

    def to_xarray(self, average: bool = False) -> xr.DataArray:
        """Return the responses as a labelled array (presentation, neuroid); see `juicyfruits.labelled.to_xarray`."""
        from juicyfruits.labelled import to_xarray

        return to_xarray(self, average)

    def subset(
        self,
        rois: str | Iterable[str] | None = None,
        subjects: str | Iterable[str] | None = None,
        stimuli: Iterable[str] | np.ndarray | None = None,
        ncsnr: float | None = None,
    ) -> Benchmark:
        """Return a benchmark of only these ROIs, subjects and stimuli, and of neuroids with an ncsnr above this.

        All by default; one name may be given as plain text. Stimuli are ids or a boolean mask (stimulus,); they keep
        the benchmark's order, and each its place in train or test. ROIs that are not named, and of which no neuroid is
        left, are left out, and RDMs built from responses are to be built again. Raises `InputError` for an unknown
        name, and for a named ROI of which nothing is left.
        """
        subjects = choosing.known(self, "subject", subjects, self.subjects)
        neuroids = choosing.neuroids(self, subjects, ncsnr)
        rois = choosing.rois(self, rois, subjects, neuroids)
        chosen = copy.copy(self)
        for cached in ("response_data", "digest", "stimulus_digest"):
            chosen.__dict__.pop(cached, None)
        chosen._whole, chosen._chosen = self, ["rois", *rois, "subjects", *subjects]
        rows = choosing.stimuli(self, stimuli)
        if stimuli is not None:
            chosen._chosen += ["stimuli", *self.stimulus_data["stimulus_id"][rows]]
        if ncsnr is not None:
            chosen._chosen += ["ncsnr", repr(float(ncsnr))]
        chosen.stimulus_data = choosing.stimulus_table(self, rows, subjects)
        chosen.rois = rois
        if self.kind == "rdms":
            named = {roi: {s: rdm for s, rdm in self.rdms[roi].items() if s in subjects} for roi in rois}
            chosen.rdms = arrays.within(named, rows)
        else:
            neuroids = neuroids & self.metadata[rois].any(axis=1).to_numpy()
            chosen.metadata = self.metadata.loc[neuroids].drop(columns=[roi for roi in self.rois if roi not in rois])
            chosen.responses = arrays.some_responses(self.responses, neuroids, rows)
            chosen.rdms = {}
        chosen.splithalf_rdms = chosen._halves()
        return chosen

    def save(self, folder: str | Path) -> Benchmark:
        """Write this benchmark, such as a subset, to a folder of its own, and return that one."""
        from juicyfruits.write import save_benchmark

        return save_benchmark(self, folder)

    def need_responses(self) -> np.ndarray:
        """Return `responses`; an `InputError` says where there are none."""
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
            unit = "Voxels" if "voxel_x" in self.metadata else "Neuroids"
            sizes = self.metadata[self.rois].sum().sort_values(ascending=False, kind="stable").head(5)
            repeats = f" (up to {self.responses.shape[2]} repeats)" if self.responses.shape[2] > 1 else ""
            lines.append(f"  Responding {unit}: {len(self.metadata)}{repeats}")
            lines.append(f"  Largest ROIs: {', '.join(f'{roi} ({size})' for roi, size in sizes.items())}")
        return "\n".join(lines)
