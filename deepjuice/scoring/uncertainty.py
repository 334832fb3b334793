"""How sure the scores of one model are: resampled layer by layer, and reduced at once.

A plan of resamples and shuffles a split, drawn once, serves every metric, layer, region and subject, and every model
that is scored with the same seed, so that models can be compared resample by resample (docs/uncertainty.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

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
from deepjuice.results import SPLITS
from deepjuice.scoring.brain import Brain
from deepjuice.scoring.settings import RDM_METRICS

LEVEL = 0.95


class Uncertainty:
    """Fills the intervals and p-values of a score table, a layer at a time; in the end adds what joining needs.

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
        if set(RDM_METRICS) & set(brain.metrics):
            self._geometers[split] = GeometryResampler(plan, brain.stacks[split], settings.rdm_comparison)

    def encoding(self, layer: int, split: str, predicted: Tensor) -> None:
        """Take in the predictions (stimuli, neuroids) of a layer: eReg."""
        if self.brain.settings.n_bootstraps:
            self._add_resamples("eReg", layer, split, self._encoders[split].bootstrap(predicted))
        if self.brain.settings.n_permutations and split == "test":
            self._add_null("eReg", layer, self._encoders[split].permute(predicted))

    def geometry(self, metric: str, layer: int, split: str, rdms: RDMStack) -> None:
        """Take in the RDM of a layer, or one for every cell: the metrics of RSA."""
        if self.brain.settings.n_bootstraps:
            geometer = self._geometers[split]
            self._add_resamples(metric, layer, split, deflate(geometer.bootstrap(rdms), geometer.jackknife(rdms)))
        if self.brain.settings.n_permutations and split == "test":
            self._add_null(metric, layer, self._geometers[split].permute(rdms))

    def add_state(self) -> None:
        """Write into the table what is needed of these layers when all are known: a part of a scoring (`join_parts`).

        On `cell`, the pairs of region and subject, and on `place`, these and the means over subjects of every region:
        the largest null scores `null_max`; of the best layer on train, chosen anew in every resample, the scores
        `best_train` and `best_test`; and the fewest degrees of freedom of any layer, `least_df`. Without a layer they
        are NaN and infinity, to which every layer is preferred. Precision is that of the work.
        """
        brain, settings = self.brain, self.brain.settings
        n_cells, n_regions, n_subjects = len(brain.regions), len(brain.benchmark.rois), len(brain.benchmark.subjects)
        null, best = self._null.values(), self._best.values()
        shuffled, resampled = (settings.n_permutations, n_cells), (settings.n_bootstraps, n_cells + n_regions)
        states = {
            "null_max": (("shuffle", "cell"), _stacked([n.null for n in null], shuffled)),
            "best_train": (("resample", "place"), _stacked([b.train for b in best], resampled)),
            "best_test": (("resample", "place"), _stacked([b.resamples for b in best], resampled)),
            "least_df": (("place",), _stacked([self._df.get(m) for m in brain.metrics], resampled[1:], torch.inf)),
        }
        self.table.update({name: (("metric", *dims), values) for name, (dims, values) in states.items()})
        self.table["place_region"] = ("place", [*brain.regions, *range(n_regions)])
        self.table["place_best_of"] = ("place", [*brain.subjects, *[n_subjects] * n_regions])
        enough = np.bincount(brain.regions) >= MIN_SUBJECTS
        self.table["subjects_resampled"] = ("region", enough & bool(settings.n_bootstraps))
        drawn = {"bootstraps": settings.n_bootstraps, "permutations": settings.n_permutations, "seed": settings.seed}
        self.table.attrs["resampling"] = json.dumps(drawn | {"level": LEVEL})

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


def _stacked(found: Sequence[Tensor | None], shape: tuple[int, ...], nothing: float = torch.nan) -> np.ndarray:
    """Return what was found of every metric, (metrics, *shape); `nothing` everywhere where there was no layer."""
    filled = [torch.full(shape, nothing, dtype=torch.float64) if values is None else values.cpu() for values in found]
    return torch.stack(filled).numpy()
