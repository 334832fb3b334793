"""How sure the scores of one model are: resampled layer by layer, and reduced at once.

A plan of resamples and shuffles a split, drawn once, serves every metric, layer, region and subject, and every model
that is scored with the same seed, so that models can be compared resample by resample (docs/uncertainty.md).
"""

from __future__ import annotations

import json

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from deepjuice.alignment.inference.bootstrap import EncodingResampler, GeometryResampler
from deepjuice.alignment.inference.rdm_stack import RDMStack
from deepjuice.alignment.inference.resampling import (
    MIN_SUBJECTS,
    MaxNull,
    NestedBest,
    ResamplingPlan,
    confidence_interval,
    p_values,
)
from deepjuice.alignment.inference.spread import deflate, over_subjects
from deepjuice.results import MEAN, SPLITS
from deepjuice.scoring.brain import Brain

LEVEL = 0.95


class Uncertainty:
    """Fills the intervals and p-values of a score table, a layer at a time; in the end those of the best layers.

    Layers are taken in by `encoding` and `geometry`, once their scores stand in the table, train before test.

    Args:
        brain: what is compared with.
        table: the model's scores.
    """

    def __init__(self, brain: Brain, table: xr.Dataset):
        self.brain, self.table = brain, table
        device = brain.rows["all"].device
        self._places = {
            "regions": torch.tensor(brain.regions, device=device),
            "subjects": torch.tensor(brain.subjects, device=device),
        }
        self._best = {metric: NestedBest() for metric in brain.metrics}
        self._null = {metric: MaxNull() for metric in brain.metrics}
        self._train: dict[str, Tensor] = {}
        self._df: dict[str, Tensor] = {}
        self._plans: dict[str, ResamplingPlan] = {}
        self._encoders: dict[str, EncodingResampler] = {}
        self._geometers: dict[str, GeometryResampler] = {}
        if brain.settings.n_bootstraps or brain.settings.n_permutations:
            for split, rows in brain.rows.items():
                self._prepare(split, len(rows), device)

    def _prepare(self, split: str, n_stimuli: int, device: torch.device) -> None:
        brain, settings = self.brain, self.brain.settings
        n_subjects, shuffles = len(brain.benchmark.subjects), settings.n_permutations if split == "test" else 0
        draw = (n_stimuli, n_subjects, settings.n_bootstraps, shuffles, settings.seed, SPLITS.index(split))
        plan = self._plans[split] = ResamplingPlan.draw(*draw, device=device)
        if split in brain.Y and "eReg" in brain.metrics:
            self._encoders[split] = EncodingResampler(plan, brain.Y[split], list(brain.cells.values()))
        if {"cRSA", "eRSA"} & set(brain.metrics):
            self._geometers[split] = GeometryResampler(plan, brain.stacks[split], settings.rdm_comparison)

    def encoding(self, layer: int, split: str, predicted: Tensor) -> None:
        """Take in the predictions (stimuli, neuroids) of a layer: eReg."""
        if self.brain.settings.n_bootstraps:
            self._add_resamples("eReg", layer, split, self._encoders[split].bootstrap(predicted))
        if self.brain.settings.n_permutations and split == "test":
            self._add_null("eReg", layer, self._encoders[split].permute(predicted))

    def geometry(self, metric: str, layer: int, split: str, rdms: RDMStack) -> None:
        """Take in the RDM of a layer, or one for every cell: cRSA, eRSA."""
        if self.brain.settings.n_bootstraps:
            geometer = self._geometers[split]
            self._add_resamples(metric, layer, split, deflate(geometer.bootstrap(rdms), geometer.jackknife(rdms)))
        if self.brain.settings.n_permutations and split == "test":
            self._add_null(metric, layer, self._geometers[split].permute(rdms))

    def finish(self) -> None:
        """Write what is known only after the last layer: p-values over all layers, and the best layers' resamples."""
        for metric, null in self._null.items():
            if null.null is not None:
                for layer, corrected in enumerate(null.p_values(self._observed(metric, "test"))):
                    self.brain.fill(self.table, "p_max", metric, layer, "test", corrected)
        self._write_best()
        settings = self.brain.settings
        enough = np.bincount(self.brain.regions) >= MIN_SUBJECTS
        self.table["subjects_resampled"] = ("region", enough & bool(settings.n_bootstraps))
        drawn = {"bootstraps": settings.n_bootstraps, "permutations": settings.n_permutations, "seed": settings.seed}
        self.table.attrs["resampling"] = json.dumps(drawn | {"level": LEVEL})

    def _write_best(self) -> None:
        benchmark, dims = self.brain.benchmark, ("metric", "region", "best_of")
        shape = len(self.brain.metrics), len(benchmark.rois), len(benchmark.subjects) + 1
        resamples = np.full((*shape, self.brain.settings.n_bootstraps), np.nan, dtype=np.float32)
        ends, df = np.full((2, *shape), np.nan, dtype=np.float32), np.full(shape, np.nan, dtype=np.float32)
        regions = [*self.brain.regions, *range(shape[1])]
        subjects = [*self.brain.subjects, *[shape[2] - 1] * shape[1]]
        for number, metric in enumerate(self.brain.metrics):
            if self.brain.settings.n_bootstraps:
                best = self._best[metric].resamples
                resamples[number, regions, subjects] = best.T.cpu()
                df[number, regions, subjects] = self._df[metric].cpu()
                for end, values in zip(ends, confidence_interval(best, LEVEL, self._df[metric]), strict=True):
                    end[number, regions, subjects] = values.cpu()
        self.table["best_resamples"] = ((*dims, "resample"), resamples)
        for name, values in (("best_ci_low", ends[0]), ("best_ci_high", ends[1]), ("best_df", df)):
            self.table[name] = (dims, values)
        self.table.coords["best_of"] = [*benchmark.subjects, MEAN]

    def _add_resamples(self, metric: str, layer: int, split: str, resamples: Tensor) -> None:
        """Fill the intervals of a layer's cells and of their means over subjects; let it compete for the best layer."""
        plan = self._plans[split]
        means = over_subjects(resamples, self._observed(metric, split)[layer], **self._places, plan=plan)
        both = torch.cat([resamples, means.resamples], dim=1)
        n_cells = resamples.shape[1]
        df = torch.cat([torch.full_like(both[0, :n_cells], plan.n_stimuli - 1), means.df])
        place = (self.brain.metrics.index(metric), layer, slice(None), SPLITS.index(split))
        for side, end in zip(("low", "high"), confidence_interval(both, LEVEL, df), strict=True):
            self.brain.fill(self.table, f"ci_{side}", metric, layer, split, end[:n_cells])
            self.table[f"mean_ci_{side}"].values[place] = end[n_cells:].cpu()
        if split == "train":
            self._train[metric] = both
        elif split == "test":
            self._best[metric].update(self._train.pop(metric), both)
            self._df[metric] = torch.minimum(self._df.get(metric, df), df)

    def _add_null(self, metric: str, layer: int, null: Tensor) -> None:
        self._null[metric].update(null)
        p = p_values(self._observed(metric, "test")[layer], null)
        self.brain.fill(self.table, "p_value", metric, layer, "test", p)

    def _observed(self, metric: str, split: str) -> Tensor:
        """Return the scores that stand in the table, (layers, cells)."""
        scores = self.table["score"].values[self.brain.metrics.index(metric), ..., SPLITS.index(split)]
        return torch.from_numpy(scores[:, self.brain.regions, self.brain.subjects]).to(self._places["regions"].device)
