"""How well a perfect model could do, given the noise of the measurement: in the unit of the score that it caps.

Of a voxel's Pearson r, from its ncsnr (`noise_ceiling_r`) or straight from repeats (`split_half_ceiling`); of an RDM,
from the agreement of subjects (`rdm_ceilings`).
"""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike as NumpyLike
from torch import Tensor

from deepjuice.alignment.geometry.rdm_compare import (
    COMPARISONS,
    compare_pairs,
    compare_vectors,
    comparison_vectors,
    upper_triangle,
)
from deepjuice.alignment.linalg import (
    ArrayLike,
    as_tensor,
    average_ranks,
    blocks,
    is_constant,
    working_dtype,
)
from juicyfruits.errors import InputError, near_names

FEWEST_STIMULI = 3  # two points always lie on a line


def noise_ceiling_r(ncsnr: NumpyLike, n_repeats: NumpyLike) -> np.ndarray:
    """Return the highest Pearson r a model can expect with responses averaged over repeats, one a voxel, in 0 .. 1.

        sqrt(ncsnr^2 / (ncsnr^2 + mean_i(1 / n_i)))

    `ncsnr` (voxels,) is the ratio of the standard deviations of signal and of the noise of one trial; `n_repeats` is
    the number of repeats: a scalar, (stimuli,) or (voxels, stimuli). The square root of the share of explainable
    variance of Allen et al. (2022, Nature Neuroscience 25, 116-126), written for unequal repeats. A voxel whose ncsnr
    is NaN gets NaN, one without noise (infinite ncsnr) 1. Returns float64. Raises InputError for a negative ncsnr, for
    repeats below 1 (a stimulus without a response has no place in a score), and for shapes that do not fit.

    >>> noise_ceiling_r([1.0, 0.0, np.inf], n_repeats=3).round(3)
    array([0.866, 0.   , 1.   ])
    """
    ncsnr = np.asarray(ncsnr, dtype=np.float64)
    repeats = np.asarray(n_repeats, dtype=np.float64)
    n_wrong = int(np.sum(ncsnr < 0))
    if n_wrong:
        raise InputError(f"ncsnr must be a ratio from 0 up, or NaN, but {n_wrong} values are not; check its source.")
    n_wrong = int(np.sum(~(repeats >= 1)))
    if n_wrong or not repeats.size:
        raise InputError(
            f"Every stimulus needs at least 1 repeat, but {n_wrong} of {repeats.size} entries of n_repeats have fewer; "
            "mask them first."
        )
    noise = (1.0 / repeats).mean(axis=-1) if repeats.ndim else 1.0 / repeats
    if noise.ndim and noise.shape != ncsnr.shape:
        raise InputError(
            f"n_repeats must be a number, (stimuli,) or (voxels, stimuli) for {ncsnr.shape} voxels, "
            f"but its shape is {repeats.shape}; put voxels into rows."
        )
    with np.errstate(invalid="ignore"):  # inf / inf
        return np.where(np.isposinf(ncsnr), 1.0, ncsnr / np.hypot(ncsnr, np.sqrt(noise)))


def split_half_ceiling(responses: ArrayLike, n_splits: int = 100, seed: int = 0) -> Tensor:
    """Return the highest Pearson r a model can expect with responses averaged over repeats, from halves of the repeats.

        r    mean over random splits of the correlation, over stimuli, of the means of the two halves
        m    mean(1 / floor(n_i / 2) + 1 / ceil(n_i / 2)) / 2 / mean(1 / n_i), 2 for equal and even n
        sqrt(m r / (1 + (m - 1) r))

    Spearman-Brown (Brown 1910, Spearman 1910, British Journal of Psychology 3) with the factor m by which averaging all
    repeats lowers the variance of the noise below that of a half, then the square root: the correlation of the mean
    with what is reproducible in it. Of an odd number of repeats either half gets the odd one, by chance. Stimuli of one
    repeat cannot be split; in mean(1 / n_i) they count. Stimuli without any are left out.

    `responses` is (neuroid, stimulus, repetition), any real dtype, NaN where a repeat is missing; the answer
    (neuroid,), float64, is on their device. A negative mean r gives 0, as a negative signal variance does in the
    ncsnr; NaN where fewer than 3 stimuli have two repeats, and for a neuroid that is constant. The same seed splits
    alike everywhere, and all neuroids alike. Raises InputError for another number of dimensions, infinite values, and
    n_splits below 1.

    Of few stimuli the ceiling of a noisy neuroid is low on average, for the floor at 0 and the root are concave: by
    0.054 (0.012, 0.002) of 0.58 in simulations of two repeats of 50 (200, 1000) stimuli. The mean of Fisher's z in
    place of r changed that by less than 0.001.

    >>> rng = np.random.default_rng(0)
    >>> signal, noise = rng.standard_normal((1, 2000, 1)), rng.standard_normal((1, 2000, 4))
    >>> split_half_ceiling(signal + noise).numpy().round(2), noise_ceiling_r([1.0], 4).round(2)
    (array([0.9]), array([0.89]))
    """
    if not hasattr(responses, "ndim"):  # files and memory maps are read block by block
        responses = as_tensor(responses, "The responses")
    if responses.ndim != 3:
        raise InputError(
            f"responses must be (neuroid, stimulus, repetition), but their shape is {tuple(responses.shape)}; "
            "a mean over repeats cannot be split."
        )
    if not isinstance(n_splits, Integral) or n_splits < 1:
        raise InputError(f"n_splits={n_splits!r}: expected at least 1 split into halves; 100 is the default.")
    _, n_stimuli, n_repeats = responses.shape
    parts = blocks(len(responses), 48 * n_stimuli * n_repeats)
    ceilings = [_split_half_ceiling(_as_tensor(responses[rows]), n_splits, seed) for rows in parts]
    return torch.cat(ceilings) if ceilings else torch.empty(0, dtype=torch.float64)


def rdm_ceilings(rdms: ArrayLike, comparison: str = "pearson") -> tuple[Tensor, Tensor]:
    """Return the bounds between which a perfect model's RDM would compare with that of every subject.

        lower_s = compare(mean of the others' RDMs, RDM of s),   upper_s = compare(mean of all RDMs, RDM of s)

    Nili et al. (2014, PLoS Computational Biology 10, e1003553). Before they are averaged RDMs are brought to what the
    comparison sees of them, so that no RDM compares better with all on average than their mean does: less their mean
    and to unit length for pearson, to unit length for cosine, both under whitening, to ranks for spearman and rho_a.
    For kendall_tau_a ranks, and for concordance the RDMs as they are, only come near to that best.

    `rdms` (k, n, n), of k subjects; both answers (k,), float64, on their device. Fewer than 2 subjects have no bounds:
    NaN. One RDM that compares with nothing (`compare_rdms`: a NaN, no variance) makes all NaN, for no mean over the
    subjects is then defined, and none is left out in silence. Raises InputError for another shape and an unknown
    comparison.

    >>> rdm = torch.arange(16.0).reshape(4, 4)
    >>> lower, upper = rdm_ceilings(torch.stack([rdm, rdm.sqrt(), rdm.square()]))
    >>> lower.round(decimals=2), upper.round(decimals=2)
    (tensor([1.0000, 0.9600, 0.9500], dtype=torch.float64), tensor([1.0000, 0.9800, 0.9800], dtype=torch.float64))
    """
    if comparison not in COMPARISONS:
        raise InputError(f"The RDM comparison {comparison!r} is unknown; {near_names(comparison, COMPARISONS)}")
    stack = as_tensor(rdms, "RDMs of subjects")
    if stack.ndim != 3:
        raise InputError(
            f"RDMs of subjects must be (subject, n, n), but their shape is {tuple(stack.shape)}; stack them."
        )
    pairs = upper_triangle(stack)
    k = len(pairs)
    if k < 2:
        return pairs.new_full((k,), torch.nan), pairs.new_full((k,), torch.nan)
    if comparison in _OF_RANKS or comparison == "concordance":
        # ranks add up exactly, so that equal sums stay tied; the mean is ranked again when it is compared
        seen = average_ranks(pairs) if comparison in _OF_RANKS else pairs
        seen = seen.masked_fill(comparison_vectors(pairs, "pearson").isnan(), torch.nan)
        total = seen.sum(dim=0)
        means = (total - seen) / (k - 1), total[None] / k
        return compare_pairs(means[0], pairs, comparison), compare_pairs(means[1], pairs, comparison)
    seen = comparison_vectors(pairs, comparison)
    total = seen.sum(dim=0)
    lower, upper = (mean / torch.linalg.vector_norm(mean, dim=1, keepdim=True) for mean in (total - seen, total[None]))
    return compare_vectors(lower, seen), compare_vectors(upper, seen)


_OF_RANKS = ("spearman", "rho_a", "kendall_tau_a")


def _as_tensor(block: Tensor | np.ndarray) -> Tensor:
    tensor = as_tensor(block, "The responses").detach()
    if tensor.is_complex():
        raise InputError("responses must be real numbers, but complex ones came; take their real part or modulus.")
    if torch.isinf(tensor).any():
        raise InputError(
            "responses hold infinite values, but a repeat is finite, or NaN where missing; repair them first."
        )
    return tensor if tensor.is_floating_point() else tensor.to(working_dtype(tensor.device))


def _split_half_ceiling(responses: Tensor, n_splits: int, seed: int) -> Tensor:
    """As `split_half_ceiling`, for a block of neuroids; the splits are drawn anew, so that all blocks see the same."""
    values = responses.to(working_dtype(responses.device))
    n = (~values.isnan()).sum(dim=2, dtype=values.dtype)  # divided below: whole numbers would give float32
    halved, shown = n >= 2, n >= 1
    r = torch.zeros(len(values), dtype=values.dtype, device=values.device)
    rng = np.random.default_rng(seed)
    for _ in range(n_splits):
        order = torch.from_numpy(rng.random(values.shape[1:]).argsort(axis=1)).to(values.device)
        odd_ones = torch.from_numpy(rng.integers(0, 2, values.shape[1])).to(values.device)
        first, second = _half_means(values.gather(2, order.expand_as(values)), odd_ones)
        r += _correlation(first, second, halved, responses.dtype)
    r = (r / n_splits).clamp(min=0.0)
    half_noise = _mean((1 / (n // 2) + 1 / ((n + 1) // 2)) / 2, halved)
    factor = half_noise / _mean(1 / n, shown)
    ceiling = (factor * r / (1 + (factor - 1) * r)).sqrt()
    _, flat = _deviations(values.flatten(1), ~values.isnan().flatten(1), responses.dtype)
    return ceiling.masked_fill(flat | (halved.sum(dim=1) < FEWEST_STIMULI), torch.nan)


def _half_means(shuffled: Tensor, odd_ones: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of the first and of the other half of those repeats that there are, each (neuroid, stimulus)."""
    present = ~shuffled.isnan()
    n = present.sum(dim=2)
    n_first = (n + odd_ones) // 2
    in_first = present.cumsum(dim=2) <= n_first[..., None]
    known = shuffled.nan_to_num(nan=0.0)
    return (known * in_first).sum(dim=2) / n_first, (known * ~in_first).sum(dim=2) / (n - n_first)


def _correlation(a: Tensor, b: Tensor, where: Tensor, dtype: torch.dtype) -> Tensor:
    """Correlate rows of a and b where they count; a half that is constant, to the rounding of `dtype`, has r = 0."""
    (a, a_flat), (b, b_flat) = _deviations(a, where, dtype), _deviations(b, where, dtype)
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (torch.linalg.vecdot(a, b) / norms).clamp(-1.0, 1.0).masked_fill(a_flat | b_flat, 0.0)


def _deviations(values: Tensor, where: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return rows less their means, 0 where they do not count, and which rows are constant."""
    mean = _mean(values, where)
    centred = (values - mean[:, None]).masked_fill_(~where, 0.0)
    return centred, is_constant(_mean(centred.square(), where).sqrt(), mean, dtype)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Average what counts of each row: NaN where nothing does."""
    return values.masked_fill(~where, 0.0).sum(dim=1) / where.sum(dim=1)
