"""Which of several models is better: paired differences on the same resamples, corrected for how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from deepjuice.alignment.inference.resampling import MAX_UNDEFINED, confidence_interval
from deepjuice.alignment.inference.spread import deflate
from deepjuice.alignment.linalg import ArrayLike, as_tensor, working_dtype
from juicyfruits.errors import InputError


@dataclass(frozen=True)
class PairedTest:
    """A difference of scores, or many, each field (...): `difference`, `low` and `high` (interval), `p` (two-sided)."""

    difference: Tensor
    low: Tensor
    high: Tensor
    p: Tensor


@dataclass(frozen=True)
class ModelComparisons:
    """Every pair of models.

    Attributes:
        first, second: (pairs,), numbers of the models of a pair, first < second.
        difference, low, high: (pairs, ...), score of the first less that of the second, and its interval.
        p: (pairs, ...), two-sided.
        q: (pairs, ...), the false discovery rate at which this difference would be called one (Benjamini & Hochberg),
            over all pairs and all else that was compared.
    """

    first: Tensor
    second: Tensor
    difference: Tensor
    low: Tensor
    high: Tensor
    p: Tensor
    q: Tensor


def paired_test(
    difference: Tensor, resamples: Tensor, level: float = 0.95, df: float | Tensor = math.inf
) -> PairedTest:
    """Test differences of scores (...) by their resamples (B, ...), which two models share.

        t = difference / standard deviation of the resamples, p = 2 (1 - T_df(|t|))

    The bootstrap gives the standard error and Student's t the tail (as Schuett et al. 2023, eLife 12, e82566): counting
    resamples beyond 0 could not tell p-values below 1 / B apart, and a correction for many comparisons needs them. The
    interval is that of `confidence_interval`, with the same `df`. Models that do not differ in any resample have p = 1;
    NaN where the difference is NaN or fewer than 90 % of the resamples are defined.

    >>> test = paired_test(torch.tensor(0.2), 0.2 + 0.1 * torch.randn(5000, generator=torch.Generator().manual_seed(0)))
    >>> round(test.p.item(), 2), bool(test.low < 0.2 < test.high)
    (0.04, True)
    """
    difference, resamples = as_tensor(difference, "The difference"), as_tensor(resamples, "The resamples")
    if resamples.shape[1:] != difference.shape:
        raise InputError(
            f"Resamples must be (resamples, ...) of differences (...), but {tuple(resamples.shape)} and "
            f"{tuple(difference.shape)} came; put the resamples along the first axis."
        )
    resamples = resamples.to(working_dtype(resamples.device))
    low, high = confidence_interval(resamples, level, df)
    error = (resamples - resamples.nanmean(dim=0)).square().nanmean(dim=0).sqrt()
    difference = difference.to(resamples)
    t = torch.where((difference == 0) & (error == 0), 0.0, difference.abs() / error)
    df = df.cpu().numpy() if isinstance(df, Tensor) else df
    p = torch.as_tensor(2 * stats.t.sf(t.cpu().numpy(), df)).to(resamples)
    undefined = difference.isnan() | (resamples.isnan().to(resamples).mean(dim=0) > MAX_UNDEFINED)
    return PairedTest(difference, low, high, p.masked_fill(undefined, torch.nan))


def compare_models(
    observed: Tensor,
    resamples: Tensor,
    jackknife: Tensor | None = None,
    level: float = 0.95,
    df: float | Tensor = math.inf,
) -> ModelComparisons:
    """Compare every two of m models by scores (m, ...), resamples (m, B, ...) of one plan, and `paired_test`.

    RSA scores come as they are resampled, with their `jackknife` (m, n, ...): their differences are deflated (see
    `deflate`). Raises InputError for fewer than 2 models.

    >>> generator = torch.Generator().manual_seed(0)
    >>> shared = 0.1 * torch.randn(500, 1, generator=generator)
    >>> noise = 0.01 * torch.randn(3, 500, 1, generator=generator)
    >>> scores = torch.tensor([[0.5], [0.4], [0.4]])
    >>> (compare_models(scores, scores[:, None] + shared + noise).q < 0.05).flatten().tolist()
    [True, True, False]
    """
    observed, resamples = as_tensor(observed, "The scores"), as_tensor(resamples, "The resamples")
    if len(observed) < 2 or len(resamples) != len(observed):
        raise InputError(
            f"A comparison needs the scores and the resamples of 2 models or more, but {len(observed)} and "
            f"{len(resamples)} came; stack models along the first axis."
        )
    jackknife = None if jackknife is None else as_tensor(jackknife, "The jackknife")
    if jackknife is not None and len(jackknife) != len(observed):
        raise InputError(f"The jackknife must be of all {len(observed)} models, but of {len(jackknife)} came; stack.")
    pairs = list(combinations(range(len(observed)), 2))
    tests = []
    for a, b in pairs:
        differences = resamples[a] - resamples[b]
        if jackknife is not None:
            differences = deflate(differences, jackknife[a] - jackknife[b])
        tests.append(paired_test(observed[a] - observed[b], differences, level, df))
    first, second = torch.tensor(pairs, device=observed.device).T
    fields = {name: torch.stack([getattr(t, name) for t in tests]) for name in ("difference", "low", "high", "p")}
    return ModelComparisons(first, second, **fields, q=benjamini_hochberg(fields["p"]))


def benjamini_hochberg(p: ArrayLike) -> Tensor:
    """Return p-values adjusted to the false discovery rate, same shape, one family; NaN is not tested and stays.

        q_(i) = min over j >= i of min(1, m p_(j) / j),   p_(1) <= ... <= p_(m)

    Benjamini & Hochberg (1995, J. R. Stat. Soc. B 57, 289-300); holds for independent and positively dependent tests.
    Raises InputError for p outside 0 .. 1.

    >>> benjamini_hochberg([0.01, float("nan"), 0.04, 0.03])
    tensor([0.0300,    nan, 0.0400, 0.0400], dtype=torch.float64)
    """
    p = as_tensor(p, "The p-values")
    values = p.detach().cpu().numpy().astype(np.float64)
    tested = ~np.isnan(values)
    if ((values[tested] < 0) | (values[tested] > 1)).any():
        raise InputError(
            f"p-values must lie in 0 .. 1, but {values[tested].min():g} to {values[tested].max():g} came; "
            "pass probabilities, not statistics."
        )
    q = np.full(values.shape, np.nan)
    if tested.any():
        q[tested] = stats.false_discovery_control(values[tested])
    return torch.from_numpy(q).to(p.device, working_dtype(p.device))
