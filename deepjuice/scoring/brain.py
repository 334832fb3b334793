"""The benchmark's side of every comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from deepjuice.alignment import compare_pairs, compute_rdm
from deepjuice.alignment.inference.rdm_stack import RDMStack
from deepjuice.results import MEAN, SPLITS
from deepjuice.scoring.settings import UNFITTED_METRICS, ScoreSettings
from juicyfruits import Benchmark
from juicyfruits.errors import InputError


class Brain:
    """Responses and RDMs of a benchmark, made once, by cell (region, subject) and split.

    Attributes:
        metrics: those of the settings that this benchmark can have.
        rows: split -> row numbers of its stimuli.
        cells: (region, subject) -> row numbers of its neuroids; `None` for a benchmark of RDMs.
        Y: split -> responses (stimuli, neuroids), for train and test; empty for a benchmark of RDMs.
        rdms: split -> Pearson RDMs of the cells (cells, stimuli, stimuli).
        stacks: split -> the same, as resamplers take them.
    """

    def __init__(self, benchmark: Benchmark, settings: ScoreSettings, device: torch.device):
        self.benchmark, self.settings = benchmark, settings
        self.has_responses = benchmark.kind == "responses"
        self.metrics = [m for m in settings.metrics if self.has_responses or m in UNFITTED_METRICS]
        if not self.metrics:
            raise InputError(
                f"benchmark {benchmark.name!r} holds RDMs only: metrics for it are cRSA and pRSA, add one."
            )
        if MEAN in benchmark.subjects:
            raise InputError(
                f"benchmark {benchmark.name!r}: {MEAN!r} stands for the mean over subjects; rename that one."
            )
        rows = {"train": np.flatnonzero(benchmark.train), "test": np.flatnonzero(benchmark.test)}
        rows["all"] = np.arange(len(benchmark.train))
        self.rows = {split: torch.from_numpy(index).to(device) for split, index in rows.items()}
        self.Y: dict[str, Tensor] = {}
        if self.has_responses:
            benchmark.check_varies()
            Y = torch.tensor(benchmark.response_data.to_numpy().T, device=device)
            self.Y = {split: Y[self.rows[split]] for split in ("train", "test")}
            self.cells = {
                (roi, subject): torch.from_numpy(index).to(device)
                for roi, by_subject in benchmark.get_roi_indices().items()
                for subject, index in by_subject.items()
            }
            rdms = [compute_rdm(Y[:, index]) for index in self.cells.values()]
        else:
            self.cells = {(roi, subject): None for roi in benchmark.rdms for subject in benchmark.rdms[roi]}
            rdms = [torch.from_numpy(benchmark.rdms[roi][subject]).to(device) for roi, subject in self.cells]
        self.rdms = {split: self.among(torch.stack(rdms), split) for split in self.rows}
        self.stacks = {split: RDMStack(rdms) for split, rdms in self.rdms.items()}
        self.regions = [benchmark.rois.index(region) for region, _ in self.cells]
        self.subjects = [benchmark.subjects.index(subject) for _, subject in self.cells]

    def among(self, rdm: Tensor, split: str) -> Tensor:
        """Return the part of an RDM (n, n), or of a stack (k, n, n), that is about a split's stimuli."""
        rows = self.rows[split]
        return rdm[..., rows, :][..., rows]

    def compare(self, split: str, model: RDMStack) -> Tensor:
        """Return the comparison (cells,) of a model's RDM, or of one for every cell, with those of the brain."""
        return compare_pairs(model.pairs, self.stacks[split].pairs, self.settings.rdm_comparison)

    def fill(
        self, table: xr.Dataset, name: str, metric: str, layer: int, split: str, values: Sequence[float] | Tensor
    ) -> None:
        """Write one value a cell into a variable of a table; positions are much faster than labels here."""
        place = (self.metrics.index(metric), layer, self.regions, self.subjects, SPLITS.index(split))
        table[name].values[place] = values.cpu() if isinstance(values, Tensor) else values
