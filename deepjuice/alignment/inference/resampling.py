"""How sure are we: one plan of resamples and shuffles for every metric, and what is read from what it gives.

Efron & Tibshirani (1993, An Introduction to the Bootstrap); Nichols & Holmes (2002, Human Brain Mapping 15, 1-25) for
the largest of many. What every number means: docs/uncertainty.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from deepjuice.alignment.linalg import as_tensor, blocks, working_dtype
from juicyfruits.errors import InputError, near_names

MIN_SUBJECTS = 6
"""Fewer subjects say too little about other subjects: intervals are over stimuli only."""

MIN_DISTINCT = 3
"""Of two distinct stimuli every correlation is 1 or -1, so a resample has more."""

MAX_UNDEFINED = 0.1
"""Where a larger share of the resamples has no score, there is no interval."""

TIE = 1e-6
"""Scores closer than this are equal to a permutation test, to the disadvantage of the model: rounding of float32."""

OVER = ("stimuli", "subjects", "stimuli and subjects")


@dataclass(frozen=True)
class ResamplingPlan:
    """How often each resample takes each stimulus and each subject, and how stimuli are shuffled under the null.

    Attributes:
        counts: (n_bootstraps, n_stimuli), int64; a row sums to n_stimuli - 1, or is all ones where only subjects are
            resampled.
        permutations: (n_permutations, n_stimuli), int64; each row is a permutation of the stimuli.
        subject_counts: (n_bootstraps, n_subjects), int64; a row sums to n_subjects - 1, or is all ones where only
            stimuli are resampled.
        over: what is resampled: `stimuli`, `subjects` or `stimuli and subjects`.
    """

    counts: Tensor
    permutations: Tensor
    subject_counts: Tensor
    over: str

    @classmethod
    def draw(
        cls,
        n_stimuli: int,
        n_subjects: int = 1,
        n_bootstraps: int = 1000,
        n_permutations: int = 1000,
        seed: int = 0,
        stream: int = 0,
        over: str | None = None,
        device: str | torch.device = "cpu",
    ) -> ResamplingPlan:
        """Draw a plan: units with replacement, one fewer than there are, and uniform permutations.

        The variance of a mean of n - 1 draws from n units is the unbiased s^2 / n; that of n draws is too small by
        (n - 1) / n, which matters for six subjects. Resamples with fewer than MIN_DISTINCT distinct stimuli are drawn
        again. By default `over` has subjects from MIN_SUBJECTS up.

        A seed gives the same numbers on every device. Different `stream`s (one a split) give independent stimuli, but
        the same subjects: who is drawn is drawn for the choice of a layer and for its test.

        Raises InputError for fewer than 4 stimuli, an unknown `over`, and subjects to be resampled that are too few.

        >>> plan = ResamplingPlan.draw(n_stimuli=50, n_subjects=4, n_bootstraps=100, n_permutations=20)
        >>> plan.counts.shape, plan.counts.sum(dim=1).unique().item(), plan.over
        (torch.Size([100, 50]), 49, 'stimuli')
        """
        _check_whole(n_stimuli=n_stimuli, n_subjects=n_subjects, seed=seed, stream=stream)
        _check_whole(n_bootstraps=n_bootstraps, n_permutations=n_permutations)
        over = over or ("stimuli and subjects" if n_subjects >= MIN_SUBJECTS else "stimuli")
        _check_draw(n_stimuli, n_subjects, over)
        of_counts, of_permutations = (np.random.default_rng([seed, purpose, stream]) for purpose in (0, 1))
        counts = np.ones((n_bootstraps, n_stimuli), dtype=np.int64)
        subject_counts = np.ones((n_bootstraps, n_subjects), dtype=np.int64)
        if "stimuli" in over:
            counts = _draw_counts(of_counts, n_bootstraps, n_stimuli, MIN_DISTINCT)
        if "subjects" in over:
            subject_counts = _draw_counts(np.random.default_rng([seed, 2]), n_bootstraps, n_subjects, 1)
        permutations = of_permutations.permuted(np.tile(np.arange(n_stimuli), (n_permutations, 1)), axis=1)
        drawn = (torch.from_numpy(values).to(device) for values in (counts, permutations, subject_counts))
        return cls(*drawn, over=over)

    @property
    def n_stimuli(self) -> int:
        """Number of stimuli."""
        return self.counts.shape[1]


def _check_whole(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, Integral) or number < 0:
            raise InputError(f"{name} must be a whole number from 0 up, but {number!r} came.")


def _check_draw(n_stimuli: int, n_subjects: int, over: str) -> None:
    if over not in OVER:
        raise InputError(f"What to resample, {over!r}, is unknown; {near_names(over, OVER)}")
    if n_stimuli < MIN_DISTINCT + 1:
        raise InputError(
            f"Resampling needs {MIN_DISTINCT + 1} stimuli or more, but {n_stimuli} came; "
            "score with 0 bootstraps and 0 permutations."
        )
    if "subjects" in over and n_subjects < MIN_SUBJECTS:
        raise InputError(
            f"Subjects are resampled from {MIN_SUBJECTS} up, but {n_subjects} came; resample over 'stimuli' only."
        )


def _draw_counts(rng: np.random.Generator, n_resamples: int, n_units: int, min_distinct: int) -> np.ndarray:
    """How often each unit is taken in n_units - 1 draws, by resamples that have enough distinct units."""
    counts = np.empty((n_resamples, n_units), dtype=np.int64)
    redraw = np.ones(n_resamples, dtype=bool)
    while redraw.any():
        counts[redraw] = rng.multinomial(n_units - 1, np.full(n_units, 1 / n_units), size=redraw.sum())
        redraw = (counts > 0).sum(axis=1) < min_distinct
    return counts


def confidence_interval(resamples: Tensor, level: float = 0.95, df: float | Tensor = math.inf) -> tuple[Tensor, Tensor]:
    """Return the lower and upper end of the percentile interval of resamples (B, ...), each (...).

        m + (q - m) t / z,    m: mean, q: quantile of the resamples; t, z: quantiles of Student's t and the normal

    `df`, a number or (...), are the degrees of freedom of the spread: units resampled less one, for stimuli
    `plan.n_stimuli - 1`; without, t = z. Percentiles because they follow the skew of correlations; the factor makes
    them wide enough where units are few (Hesterberg 2015, The American Statistician 69, 371-386). The ends may pass 1
    by a little. Resamples that are NaN are left out; an interval with fewer than 90 % of them is NaN. Raises
    InputError for fewer than 2 resamples, and for a level that is not between 0 and 1.

    >>> low, high = confidence_interval(torch.arange(1001.0))
    >>> round(low.item(), 6), round(high.item(), 6)
    (25.0, 975.0)
    """
    resamples = as_tensor(resamples, "The resamples")
    _check_resamples(resamples)
    if not 0 < level < 1:
        raise InputError(f"The level of an interval must lie between 0 and 1, but {level} came; 0.95 is usual.")
    values = resamples.to(working_dtype(resamples.device))
    tail = (1 - level) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=values.dtype, device=values.device)
    flat = values.reshape(len(values), -1)
    columns = blocks(flat.shape[1], 8 * len(flat))  # nanquantile takes 16 million numbers at a time
    quantiles = torch.cat([torch.nanquantile(flat[:, some], ends, dim=0) for some in columns], dim=1)
    df = df.cpu().numpy() if isinstance(df, Tensor) else df
    widening = torch.as_tensor(stats.t.ppf(1 - tail, df) / stats.norm.ppf(1 - tail)).to(values)
    mean = values.nanmean(dim=0)
    quantiles = quantiles.reshape(2, *mean.shape)
    low, high = quantiles + (quantiles - mean) * (widening - 1)
    unsure = values.isnan().to(values).mean(dim=0) > MAX_UNDEFINED
    return low.masked_fill(unsure, torch.nan), high.masked_fill(unsure, torch.nan)


def p_values(observed: Tensor, null: Tensor) -> Tensor:
    """Return one-sided permutation p-values of scores (..., k) from null scores (P, k): (..., k).

        (1 + #{null >= observed}) / (1 + P)

    Never 0: the score as observed is one of the P + 1 arrangements (Phipson & Smyth 2010, Stat. Appl. Genet. Mol.
    Biol. 9, 39). Null scores less than TIE below count as equal. NaN where the score or one of its null scores is NaN.

    >>> p_values(torch.tensor([0.5, 0.0]), torch.tensor([[0.1, 0.2], [0.3, -0.1], [0.5, 0.4]]))
    tensor([0.5000, 0.7500], dtype=torch.float64)
    """
    null, observed = as_tensor(null, "The null scores"), as_tensor(observed, "The scores")
    if null.ndim != 2 or not len(null) or observed.shape[-1:] != null.shape[1:]:
        raise InputError(
            f"Null scores must be (shuffles, k) of scores (..., k), but {tuple(null.shape)} and "
            f"{tuple(observed.shape)} came; one is the other's permute()."
        )
    null = null.to(working_dtype(null.device))
    scores = observed.to(null)
    ordered = null.sort(dim=0).values.T.contiguous()
    below = torch.searchsorted(ordered, (scores.reshape(-1, null.shape[1]).T - TIE).contiguous())
    p = ((1 + len(null) - below.T).to(null) / (1 + len(null))).reshape(scores.shape)
    return p.masked_fill(scores.isnan() | null.isnan().any(dim=0), torch.nan)


class MaxNull:
    """The largest null score over layers, layer by layer: p-values corrected for having looked at all of them.

    In each shuffle, the same for all layers, only the best layer counts, so that any layer is called significant at
    level alpha with probability alpha when none is, however alike they are (family-wise error; Nichols & Holmes 2002).
    One family is one column: the layers of a model in one region of one subject.

    >>> null = MaxNull()
    >>> null.update(torch.tensor([[0.1], [0.3], [0.0]]))
    >>> null.update(torch.tensor([[0.2], [0.1], [0.4]]))
    >>> null.p_values(torch.tensor([[0.25], [0.5]])).T
    tensor([[0.7500, 0.2500]], dtype=torch.float64)
    """

    def __init__(self) -> None:
        self.null: Tensor | None = None

    def update(self, null: Tensor) -> None:
        """Take in the null scores (P, cells) of one more layer; NaN (a layer without a score) is passed over."""
        self.null = null if self.null is None else torch.fmax(self.null, null)

    def p_values(self, observed: Tensor) -> Tensor:
        """Return the corrected p-values of scores (layers, cells), as `p_values`."""
        if self.null is None:
            raise InputError("The largest null score is of no layer yet; call update for every layer first.")
        return p_values(observed, self.null)


class NestedBest:
    """The test score of the layer that is best on train, chosen anew in every resample.

    An interval of a layer's score that was chosen as the best of many must hold what the choice adds: other stimuli
    (and subjects) would have chosen another layer. Train and test are resampled independently, so that the test score
    does not know of the choice. With one row, the observed scores, it is the choice itself.

    Attributes:
        train: (B, cells), the best train score so far.
        resamples: (B, cells), the test score of that layer; NaN where no layer has a train score.
        chosen: (B, cells), the number of that layer, counted by updates from 0; -1 where there is none. The share of
            resamples that choose a layer says how sure the choice is.

    >>> best = NestedBest()
    >>> best.update(torch.tensor([[0.5], [0.1]]), torch.tensor([[0.4], [0.3]]))
    >>> best.update(torch.tensor([[0.2], [0.6]]), torch.tensor([[0.9], [0.7]]))
    >>> best.resamples.T, best.chosen.T
    (tensor([[0.4000, 0.7000]]), tensor([[0, 1]]))
    """

    def __init__(self) -> None:
        self.n_layers = 0
        self.train: Tensor | None = None
        self.resamples: Tensor | None = None
        self.chosen: Tensor | None = None

    def update(self, train: Tensor, test: Tensor) -> None:
        """Take in one more layer's resamples (B, cells) of both splits; the first of equal layers stays."""
        if self.train is None:
            self.train, self.resamples = torch.full_like(train, torch.nan), torch.full_like(test, torch.nan)
            self.chosen = torch.full(train.shape, -1, device=train.device)
        better = (train > self.train) | (self.train.isnan() & ~train.isnan())
        self.train = torch.where(better, train, self.train)
        self.resamples = torch.where(better, test, self.resamples)
        self.chosen = torch.where(better, self.n_layers, self.chosen)
        self.n_layers += 1


def _check_resamples(resamples: Tensor) -> None:
    if resamples.ndim < 1 or len(resamples) < 2:
        raise InputError(
            f"Resamples must be (resamples, ...), 2 or more, but their shape is {tuple(resamples.shape)}; "
            "draw a plan with more n_bootstraps."
        )
