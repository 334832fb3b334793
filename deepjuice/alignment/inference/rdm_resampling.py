"""Comparisons of RDMs over weighted pairs: by moments, by ranks within the resample, and under shuffles.

Every class here prepares the brain's side; its `scores` of a model's `RDMStack`, of one RDM or one for every cell, are
(resamples, cells). `bootstrap.GeometryResampler` says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from deepjuice.alignment.geometry.rdm import upper_triangle
from deepjuice.alignment.linalg import ArrayLike, average_ranks, blocks, column_moments, is_constant, working_dtype

PairMean = Callable[[Tensor], Tensor]
_Moments = tuple[Tensor, Tensor, Tensor, Tensor]  # mean and mean square of scaled pairs (B, k), offset and scale (k,)


class RDMStack:
    """RDMs (k, n, n) in working precision, with the moments of their pairs.

    Attributes:
        n: number of stimuli.
        pairs: (k, pairs), those above the diagonal.
        mean, std: (k,), of the pairs.
        undefined: (k,), which have a NaN or an infinite value.
        flat: (k,), which do not vary.
    """

    def __init__(self, rdms: ArrayLike, device: torch.device | None = None):
        rdms = torch.as_tensor(rdms, device=device)
        rdms = rdms[None] if rdms.ndim == 2 else rdms
        self.pairs = upper_triangle(rdms)
        self.n = rdms.shape[1]
        self.mean, self.std = column_moments(self.pairs.T)
        self.undefined = (~self.pairs.isfinite()).any(dim=1)
        self.flat = is_constant(self.std, self.mean, rdms.dtype if rdms.is_floating_point() else self.pairs.dtype)

    def says_nothing(self, comparison: str) -> Tensor:
        """Tell which (k,) have no comparison with any other: NaN, and but for the cosine those that do not vary."""
        return self.undefined if comparison == "cosine" else self.undefined | self.flat

    @cached_property
    def scaled(self) -> tuple[Tensor, Tensor, Tensor]:
        """RDMs with pairs of mean 0 and variance 1 and a diagonal of 0, and mean and deviation to undo it."""
        std = self.std.masked_fill(self.flat, 1.0)
        pairs = ((self.pairs - self.mean[:, None]) / std[:, None]).masked_fill_(self.flat[:, None], 0.0)
        return _square(pairs, self.n), self.mean, std

    @cached_property
    def orders(self) -> list[_Order]:
        """The pairs of every RDM, sorted."""
        return [_Order(pairs, self.n) for pairs in self.pairs]


def resampled_mean(counts: Tensor) -> PairMean:
    """Return the function that takes the mean of an (n, n) matrix over the pairs of every resample, counts (B, n).

    (c' A c - sum_i c_i^2 A_ii) / (n^2 - sum_i c_i^2) for a symmetric A with a diagonal of 0: one product for all.
    """
    counts = counts.to(working_dtype(counts.device))
    n_pairs = counts.sum(dim=1).square() - counts.square().sum(dim=1)
    return lambda A: (counts @ A).mul_(counts).sum(dim=1) / n_pairs


def left_out_mean(A: Tensor) -> Tensor:
    """Return the means of a symmetric (n, n) matrix with a diagonal of 0 over all pairs without stimulus i: (n,)."""
    n = len(A)
    return (A.sum() - 2 * A.sum(dim=1)) / ((n - 1) * (n - 2))


class MomentScores:
    """Pearson, cosine or concordance from means over pairs of a, b, a^2, b^2 and a b."""

    def __init__(self, mean: PairMean, brain: RDMStack, comparison: str):
        self._mean, self._comparison = mean, comparison
        self._brain, self._offset, self._scale = brain.scaled
        self._moments = self._means(self._brain), self._means(self._brain.square())
        self._silent = brain.says_nothing(comparison)

    def scores(self, model: RDMStack) -> Tensor:
        """Return (resamples, cells)."""
        rdms, offset, scale = model.scaled
        a = (self._means(rdms), self._means(rdms.square()), offset, scale)
        b = (*self._moments, self._offset, self._scale)
        products = (one * other for one, other in zip(rdms.expand_as(self._brain), self._brain, strict=True))
        compare = {"pearson": _pearson, "cosine": _cosine, "concordance": _concordance}[self._comparison]
        silent = self._silent | model.says_nothing(self._comparison)
        return compare(self._means(products), a, b).clamp_(-1.0, 1.0).masked_fill_(silent, torch.nan)

    def _means(self, matrices: Iterable[Tensor]) -> Tensor:
        return torch.stack([self._mean(matrix) for matrix in matrices], dim=1)


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


class RankScores:
    """Spearman: ranks within every resample from one sort of each RDM, since resampling changes weights, not order.

    With pairs in order of dissimilarity, the cumulative weight before and up to a pair, or the pairs it ties with, says
    which places its copies share.
    """

    def __init__(self, counts: Tensor, brain: RDMStack):
        self._counts = counts.to(brain.pairs)
        self._orders = brain.orders
        self._silent = brain.says_nothing("spearman")

    def scores(self, model: RDMStack) -> Tensor:
        """Return (resamples, cells)."""
        if len(model.pairs) == 1:
            scores = self._against(model.orders[0], self._orders)
        else:
            each = zip(model.orders, self._orders, strict=True)
            scores = torch.cat([self._against(one, [brain]) for one, brain in each], dim=1)
        return scores.masked_fill_(self._silent | model.says_nothing("spearman"), torch.nan)

    def _against(self, model: _Order, brains: list[_Order]) -> Tensor:
        """Compare one RDM with some: everything stands in the model's order, and goes into each brain's."""
        place = torch.empty_like(model.order)
        place[model.order] = torch.arange(len(place), device=place.device)
        places = [place[brain.order] for brain in brains]
        scores = self._counts.new_empty(len(self._counts), len(brains))
        for some in blocks(len(scores), 8 * 8 * len(place)):
            counts = self._counts[some]
            weights = model.weights(counts)
            ranks = model.ranks(weights)
            size = (weights * ranks).mul_(ranks).sum(dim=1)
            for number, (brain, into) in enumerate(zip(brains, places, strict=True)):
                w, own = brain.weights(counts), _take(ranks, into)
                other = brain.ranks(w)
                w *= other
                product, other_size = torch.linalg.vecdot(w, own), torch.linalg.vecdot(w, other)
                scores[some, number] = product / (size * other_size).sqrt_()  # 0 / 0 where all drawn pairs tie
        return scores.clamp_(-1.0, 1.0)


class _Order:
    """The pairs of an RDM sorted, their stimuli, and the first and last places of the ties they stand in, if any."""

    def __init__(self, pairs: Tensor, n: int):
        ordered, self.order = pairs.sort()
        self.rows, self.columns = torch.triu_indices(n, n, offset=1, device=pairs.device)[:, self.order]
        _, tie, size = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
        self.tied = None
        if len(size) < len(ordered):
            last = size.cumsum(0) - 1
            self.tied = (last - size + 1)[tie], last[tie]

    def weights(self, counts: Tensor) -> Tensor:
        """Return how often (b, pairs) each sorted pair is there, of counts (b, n)."""
        return _take(counts, self.rows).mul_(_take(counts, self.columns))

    def ranks(self, weights: Tensor) -> Tensor:
        """Return twice the mid-ranks less their mean of sorted pairs that are there `weights` (b, pairs) times."""
        upto = weights.cumsum(dim=1)
        total = upto[:, -1:].clone()
        if self.tied is None:
            return upto.mul_(2).sub_(weights).sub_(total)
        first, last = self.tied
        before = _take(upto - weights, first)
        return _take(upto, last).add_(before).sub_(total)


def _take(rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows[:, columns], several times faster than indexing and `index_select` on a CPU."""
    return rows.gather(1, columns.expand(len(rows), -1))


class ShuffledScores:
    """Any comparison with the brain's RDMs shuffled: moments and ranks stay, only products of pairs change.

    Products of vectors of length 1 in float32, to about 1e-7.
    """

    def __init__(self, shuffles: Tensor, brain: RDMStack, comparison: str, keep_bytes: int):
        self._comparison, self._brain = comparison, brain
        self._units = _units(brain, comparison)
        self._inverse = shuffles.argsort(dim=1)
        keep = self._units.element_size() * len(shuffles) * brain.pairs.numel() <= keep_bytes
        self._kept = [self._shuffled_pairs(rdm, shuffles) for rdm in self._units] if keep else None

    def scores(self, model: RDMStack) -> Tensor:
        """Return (shuffles, cells)."""
        units = _units(model, self._comparison)
        null = units.new_empty(len(self._inverse), len(self._units))
        if self._kept is not None:
            pairs = 2 * _take(units.flatten(1), _above_diagonal(model.n, units.device))
            for number, kept in enumerate(self._kept):
                null[:, number] = kept @ pairs[number % len(pairs)]
        else:  # the model's RDM is shuffled the other way round, once for all cells it is compared with
            for number, rdm in enumerate(units):
                cells = slice(None) if len(units) == 1 else slice(number, number + 1)
                for some, shuffled in _shuffled(rdm, self._inverse):
                    null[some, cells] = shuffled @ self._units[cells].flatten(1).T
        silent = self._brain.says_nothing(self._comparison) | model.says_nothing(self._comparison)
        return (null * self._bias(model)).masked_fill_(silent, torch.nan)

    def _shuffled_pairs(self, rdm: Tensor, shuffles: Tensor) -> Tensor:
        above = _above_diagonal(len(rdm), rdm.device)
        kept = rdm.new_empty(len(shuffles), len(above))
        for some, shuffled in _shuffled(rdm, shuffles):
            kept[some] = _take(shuffled, above)
        return kept

    def _bias(self, model: RDMStack) -> Tensor | float:
        """Lin's bias correction, which makes a concordance of a correlation."""
        if self._comparison != "concordance":
            return 1.0
        a, b = model, self._brain
        return 2 * a.std * b.std / (a.std.square() + b.std.square() + (a.mean - b.mean).square())


def _units(rdms: RDMStack, comparison: str) -> Tensor:
    """RDMs (k, n, n) as vectors of length 1, centred but for the cosine: products are comparisons. float32."""
    pairs = average_ranks(rdms.pairs) if comparison == "spearman" else rdms.pairs
    if comparison != "cosine":
        pairs = pairs - pairs.mean(dim=1, keepdim=True)
    length = 2**0.5 * torch.linalg.vector_norm(pairs, dim=1, keepdim=True)  # every pair is there twice
    return _square(pairs / length, rdms.n).float()


def _square(pairs: Tensor, n: int) -> Tensor:
    """Return symmetric matrices (..., n, n) with a diagonal of 0 from their pairs (..., pairs)."""
    rows, columns = torch.triu_indices(n, n, offset=1, device=pairs.device)
    matrix = pairs.new_zeros(*pairs.shape[:-1], n, n)
    matrix[..., rows, columns] = matrix[..., columns, rows] = pairs
    return matrix


def _above_diagonal(n: int, device: torch.device) -> Tensor:
    """Return the places of the pairs in a flattened (n, n) matrix."""
    rows, columns = torch.triu_indices(n, n, offset=1, device=device)
    return rows * n + columns


def _shuffled(rdm: Tensor, shuffles: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield an RDM (n, n) with rows and columns shuffled, flat (b, n n), for block after block of shuffles."""
    n = len(rdm)
    for some in blocks(len(shuffles), 16 * n * n):
        order = shuffles[some]
        rows = rdm.index_select(0, order.flatten()).view(-1, n, n)
        yield some, rows.gather(2, order[:, None].expand_as(rows)).flatten(1)
