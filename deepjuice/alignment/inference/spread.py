"""Resamples brought to the spread of the score: of pairs of stimuli, and of stimuli and subjects together.

Resampling two things at once, the rows and the columns of an RDM, or stimuli and subjects, counts the noise that
belongs to their combinations three times. Both corrections subtract what is known of it (Schuett et al. 2023, eLife 12,
e82566, for the second); resamples keep their mean and their shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepjuice.alignment.inference.resampling import MIN_SUBJECTS, ResamplingPlan
from deepjuice.alignment.linalg import ArrayLike, as_tensor, working_dtype
from juicyfruits.errors import InputError


def deflate(resamples: Tensor, jackknife: Tensor) -> Tensor:
    """Shrink resamples (B, ...) of scores over pairs of stimuli about their mean, to the variance

        2 V_jackknife - V_bootstrap, within V_jackknife / 2 .. V_jackknife

    where V_jackknife = (n - 1) / n sum_i (s_i - mean s)^2 of the scores (n, ...) with stimulus i left out. Such a score
    varies by what single stimuli add, V1, and by what only pairs of them add, V2. With self-pairs dropped, resampled
    stimuli give V1 + 3 V2 and the jackknife V1 + 2 V2 (Efron & Stein 1981, Annals of Statistics 9, 586-596), both too
    wide, and most so where RDMs hardly correlate. Differences of two models' scores are deflated as differences.

    >>> resamples, jackknife = torch.randn(1000, 3), 1 + 0.01 * torch.randn(100, 3)
    >>> bool((deflate(resamples, jackknife).var(dim=0) <= 99**2 / 100 * jackknife.var(dim=0)).all())
    True
    """
    resamples, jackknife = _wide(resamples, "The resamples"), _wide(jackknife, "The jackknife")
    if resamples.shape[1:] != jackknife.shape[1:]:
        raise InputError(
            f"Resamples and jackknife must be of the same scores, but {tuple(resamples.shape[1:])} and "
            f"{tuple(jackknife.shape[1:])} came; take both from one resampler."
        )
    left_out = (len(jackknife) - 1) * jackknife.var(dim=0, correction=0)
    target = torch.minimum(torch.maximum(2 * left_out - _variance(resamples), left_out / 2), left_out)
    return _with_variance(resamples, target)


@dataclass(frozen=True)
class SubjectMeans:
    """Means over the subjects of every region.

    Attributes:
        observed: (regions,), the mean of the subjects' scores.
        resamples: (B, regions), for `confidence_interval`.
        df: (regions,), degrees of freedom of their spread.
        with_subjects: (regions,), bool: whether subjects were resampled, or stimuli only, as they are where fewer than
            MIN_SUBJECTS have the region.
    """

    observed: Tensor
    resamples: Tensor
    df: Tensor
    with_subjects: Tensor


def over_subjects(
    resamples: Tensor, observed: Tensor, regions: Tensor, subjects: Tensor, plan: ResamplingPlan
) -> SubjectMeans:
    """Average cells, each a region of a subject, over subjects, resampled as the plan says.

    `resamples` (B, cells) are over stimuli, `observed` (cells,) are the scores; `regions` and `subjects` (cells,), int,
    are the places of every cell. All stimuli and subjects resampled together have the variance V_both; the mean's is

        V = 2 (V_stimuli + V_subjects) - V_both, within max(V_stimuli, V_subjects) .. V_both

    to which resamples are shrunk about their mean. Degrees of freedom after Satterthwaite (1946): those of the subjects
    by their share of the variance, (n_subjects - 1) (V / V_subjects)^2, and never more than n_stimuli - 1. A subject
    whose score is NaN is left out, in that resample. Also for differences between two models.

    >>> plan = ResamplingPlan.draw(n_stimuli=30, n_subjects=2)
    >>> places = {"regions": torch.tensor([0, 0, 1]), "subjects": torch.tensor([0, 1, 1])}
    >>> means = over_subjects(torch.rand(1000, 3), torch.tensor([0.2, 0.4, 0.5]), **places, plan=plan)
    >>> means.observed, means.with_subjects.tolist()
    (tensor([0.3000, 0.5000], dtype=torch.float64), [False, False])
    """
    resamples, observed = _wide(resamples, "The resamples"), _wide(observed, "The scores")
    regions, subjects = (as_tensor(places, "Places").to(resamples.device).long() for places in (regions, subjects))
    n_drawn = plan.subject_counts.shape[1]
    if not observed.shape == regions.shape == subjects.shape == resamples.shape[1:]:
        shapes = ", ".join(str(tuple(values.shape)) for values in (resamples, observed, regions, subjects))
        raise InputError(f"Resamples (B, cells), scores, regions and subjects (cells,) must agree, but {shapes} came.")
    if min(regions.min(), subjects.min()) < 0 or subjects.max() >= n_drawn:
        raise InputError(f"Regions count from 0, and subjects from 0 to {n_drawn - 1}, as many as the plan has.")
    region_of = torch.nn.functional.one_hot(regions).to(resamples)
    drawn = plan.subject_counts.to(resamples)[:, subjects]
    equal = torch.ones_like(drawn[:1])
    by_stimuli = _weighted_means(resamples, equal, region_of)
    means = _weighted_means(observed[None], equal, region_of)[0]
    n_subjects = region_of.T @ (~observed.isnan()).to(observed)
    with_subjects = (n_subjects >= MIN_SUBJECTS) & ("subjects" in plan.over)
    df = torch.full_like(means, plan.n_stimuli - 1.0 if "stimuli" in plan.over else math.inf)
    if not with_subjects.any():
        return SubjectMeans(means, by_stimuli, df, with_subjects)
    together = _weighted_means(resamples, drawn, region_of)
    v_stimuli, v_both = _variance(by_stimuli), _variance(together)
    v_subjects = _variance(_weighted_means(observed[None], drawn, region_of))
    variance = torch.maximum(2 * (v_stimuli + v_subjects) - v_both, torch.maximum(v_stimuli, v_subjects))
    variance = torch.minimum(variance, v_both)
    of_subjects = torch.minimum(df, (n_subjects - 1) * (variance / v_subjects).square())
    return SubjectMeans(
        means,
        torch.where(with_subjects, _with_variance(together, variance), by_stimuli),
        torch.where(with_subjects, of_subjects, df),
        with_subjects,
    )


def _wide(values: ArrayLike, name: str) -> Tensor:
    values = as_tensor(values, name)
    return values.to(working_dtype(values.device))


def _weighted_means(values: Tensor, weights: Tensor, region_of: Tensor) -> Tensor:
    """Mean of values (B or 1, cells) in every region by weights (B or 1, cells), NaN left out: (B, regions)."""
    weights = weights * ~values.isnan()
    return ((values.nan_to_num() * weights) @ region_of) / (weights @ region_of)


def _variance(resamples: Tensor) -> Tensor:
    """Variance over the first axis, NaN left out."""
    return (resamples - resamples.nanmean(dim=0)).square().nanmean(dim=0)


def _with_variance(resamples: Tensor, variance: Tensor) -> Tensor:
    """Scale resamples about their mean to a variance; those that do not vary stay."""
    mean, own = resamples.nanmean(dim=0), _variance(resamples)
    scale = torch.where(own > 0, (variance / own).sqrt(), 1.0)
    return mean + (resamples - mean) * scale
