"""Comparisons of RDMs over weighted pairs by moments: Pearson, cosine and concordance.

Every class here prepares the brain's side; its `scores` of a model's `RDMStack`, of one RDM or one for every cell, are
(resamples, cells). `bootstrap.GeometryResampler` says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from deepjuice.alignment.inference.rdm_stack import RDMStack
from deepjuice.alignment.linalg import blocks, working_dtype

PairValues = Callable[[slice], Tensor]
PairMean = Callable[[PairValues], Tensor]
CACHED_BYTES = 8 * 1024**2
"""Working memory of blocks that are read again at once, while the processor's cache still holds them."""

FEW = 16
"""Up to so many RDMs are resampled one by one."""

SAFE_SHARE = 0.25
"""Of a mean square, the share that must be variance for means in float32 to give a correlation."""

_Moments = tuple[Tensor, Tensor, Tensor, Tensor]  # mean and mean square of scaled pairs (B, k), offset and scale (k,)


def resampled_mean(counts: Tensor, dtype: torch.dtype) -> PairMean:
    """Return the mean over the pairs of every resample: sum_ij c_i c_j x_ij / sum_ij c_i c_j, i < j, of counts (B, n).

    It takes what gives the values (k, some) of a slice of the pairs, and returns (B, k). Products are of `dtype`: in
    float32 a mean of values of size 1 is right to about 2e-7. Few RDMs are matrices A, of which c' A c is a product
    and a sum; of many, how often every pair is there is made once for all, a block at a time, and half the products.
    """
    wide = counts.to(working_dtype(counts.device))
    n_pairs = (wide.sum(dim=1).square() - wide.square().sum(dim=1)) / 2
    counts = counts.to(dtype)

    def mean(values: PairValues) -> Tensor:
        few = len(values(slice(0, 1))) <= FEW
        total = _sums_by_matrices(counts, values) if few else _sums_by_pairs(counts, values)
        return total / n_pairs[:, None]

    return mean


def _sums_by_matrices(counts: Tensor, values: PairValues) -> Tensor:
    n = counts.shape[1]
    rows, columns = torch.triu_indices(n, n, offset=1, device=counts.device)
    total = []
    for pairs in values(slice(None)):
        A = counts.new_zeros(n, n)
        A[rows, columns] = pairs.to(A)
        total.append((counts @ A).mul_(counts).sum(dim=1).to(pairs.dtype))
    return torch.stack(total, dim=1)


def _sums_by_pairs(counts: Tensor, values: PairValues) -> Tensor:
    n_resamples, n = counts.shape
    counts, total = counts.T.contiguous(), 0.0
    for rows, pairs in _blocks_of_rows(n, counts.element_size() * n_resamples):
        weights = counts.new_empty(pairs.stop - pairs.start, n_resamples)
        for i, row in _rows(rows, n):
            _multiply(counts[i], counts[i + 1 :], weights[row])
        x = values(pairs)
        total = total + (x.to(counts) @ weights).to(x.dtype)
    return total.T


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a b. NumPy does it in this thread: waiting for others, n times, takes seconds where cores are shared."""
    if out.device.type == "cpu":
        np.multiply(a.numpy(), b.numpy(), out=out.numpy())
    else:
        torch.mul(a, b, out=out)


def left_out_mean(n: int) -> PairMean:
    """Return the mean over all pairs without stimulus i, for each of n: as `resampled_mean`, (n, k)."""

    def mean(values: PairValues) -> Tensor:
        total = 0.0
        for rows, pairs in _blocks_of_rows(n, 8 * n):
            x = values(pairs)
            of_stimulus = x.new_zeros(len(x), n)
            for i, row in _rows(rows, n):
                of_stimulus[:, i] += x[:, row].sum(dim=1)
                of_stimulus[:, i + 1 :] += x[:, row]
            total = total + of_stimulus
        return (total.sum(dim=1) / 2 - total.T) / ((n - 1) * (n - 2) / 2)

    return mean


def _blocks_of_rows(n: int, bytes_per_pair: int) -> Iterator[tuple[range, slice]]:
    """Cut an (n, n) matrix into blocks of rows, each with the slice of its pairs above the diagonal."""
    for rows in blocks(n - 1, bytes_per_pair * n, CACHED_BYTES):
        start, stop = (i * (2 * n - i - 1) // 2 for i in (rows.start, rows.stop))
        yield range(rows.start, rows.stop), slice(start, stop)


def _rows(rows: range, n: int) -> Iterator[tuple[int, slice]]:
    """Yield every row and where its pairs are, (i, i + 1) .. (i, n - 1), among those of all these rows."""
    start = 0
    for i in rows:
        yield i, slice(start, start + n - 1 - i)
        start += n - 1 - i


class MomentScores:
    """Pearson, cosine or concordance from means over pairs of a, b, a^2, b^2 and a b.

    Where `rough` means, in float32, are given, they serve all cells whose mean squares are in every resample variance
    enough for a score that is right to 1e-6; the others, of RDMs that a few pairs dominate, have exact means.
    """

    def __init__(self, mean: PairMean, brain: RDMStack, comparison: str, rough: PairMean | None = None):
        self._mean, self._rough, self._comparison = mean, rough, comparison
        self._brain, self._offset, self._scale = brain.scaled
        self._moments = self._mean(_with_squares(self._brain)).split(len(self._brain), dim=1)
        self._silent = brain.says_nothing(comparison)

    def scores(self, model: RDMStack) -> Tensor:
        """Return (resamples, cells)."""
        scores, least = self._scores(model, slice(None), self._rough or self._mean)
        silent = self._silent | model.says_nothing(self._comparison)
        unsure = torch.nonzero(~(least >= SAFE_SHARE) & ~silent)[:, 0]
        if self._rough is not None and len(unsure):
            scores[:, unsure], _ = self._scores(model, unsure, self._mean)
        return scores.clamp_(-1.0, 1.0).masked_fill_(silent, torch.nan)

    def _scores(self, model: RDMStack, cells: slice | Tensor, mean_of: PairMean) -> tuple[Tensor, Tensor]:
        """Return scores of some cells, and (cells,) in any resample the least share of variance in a mean square."""
        rdms, offset, scale = (part if len(model.pairs) == 1 else part[cells] for part in model.scaled)
        brain, own = self._brain[cells], _with_squares(rdms)
        means = mean_of(lambda some: torch.cat([own(some), rdms[:, some] * brain[:, some]]))
        mean, square, product = means.split([len(rdms), len(rdms), len(brain)], dim=1)
        a = mean, square, offset, scale
        b = *(moment[:, cells] for moment in self._moments), self._offset[cells], self._scale[cells]
        least = 1 - torch.maximum(mean.square() / square, b[0].square() / b[1])
        compare = {"pearson": _pearson, "cosine": _cosine, "concordance": _concordance}[self._comparison]
        return compare(product, a, b), least.amin(dim=0) if len(least) else least.new_ones(len(brain))


def _with_squares(pairs: Tensor) -> PairValues:
    return lambda some: torch.cat([pairs[:, some], pairs[:, some].square()])


def _pearson(product: Tensor, a: _Moments, b: _Moments) -> Tensor:
    return (product - a[0] * b[0]) / (_variance(a) * _variance(b)).sqrt_()


def _concordance(product: Tensor, a: _Moments, b: _Moments) -> Tensor:
    (a_mean, _, a_offset, a_scale), (b_mean, _, b_offset, b_scale) = a, b
    apart = (a_offset + a_scale * a_mean) - (b_offset + b_scale * b_mean)
    spread = a_scale.square() * _variance(a) + b_scale.square() * _variance(b) + apart.square()
    return 2 * a_scale * b_scale * (product - a_mean * b_mean) / spread


def _cosine(product: Tensor, a: _Moments, b: _Moments) -> Tensor:
    (a_mean, a_square, a_offset, a_scale), (b_mean, b_square, b_offset, b_scale) = a, b
    a_offset, b_offset = a_offset / a_scale, b_offset / b_scale
    a_square = a_square + 2 * a_offset * a_mean + a_offset.square()
    b_square = b_square + 2 * b_offset * b_mean + b_offset.square()
    return (product + a_mean * b_offset + b_mean * a_offset + a_offset * b_offset) / (a_square * b_square).sqrt_()


def _variance(moments: _Moments) -> Tensor:
    """Variance over the pairs of every resample, NaN where it is only the rounding of its two moments."""
    mean, square = moments[:2]
    variance = square - mean.square()
    return variance.masked_fill_(variance <= 512 * torch.finfo(mean.dtype).eps * square, torch.nan)
