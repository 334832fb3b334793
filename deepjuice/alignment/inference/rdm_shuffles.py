"""Comparisons of RDMs under shuffles of their stimuli; `bootstrap.GeometryResampler` says what they mean."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from deepjuice.alignment.inference.rdm_moments import CACHED_BYTES
from deepjuice.alignment.inference.rdm_stack import RDMStack, take
from deepjuice.alignment.linalg import average_ranks, blocks


class ShuffledScores:
    """Any comparison with the brain's RDMs shuffled: moments and ranks stay, only products of pairs change.

    With few distinct dissimilarities, say of categories, many shuffles change nothing, and `p_values` must see that:
    what is kept is of float32 and summed pairwise, to 6e-7 of a score; all else is float64.
    """

    def __init__(self, shuffles: Tensor, brain: RDMStack, comparison: str, keep_bytes: int):
        self._comparison, self._brain, self._shuffles = comparison, brain, shuffles
        self._units = _units(brain, comparison)
        self._inverse = shuffles.argsort(dim=1)
        self._keep = torch.float32.itemsize * len(shuffles) * self._units.numel() <= keep_bytes

    def scores(self, model: RDMStack) -> Tensor:
        """Return (shuffles, cells)."""
        units = _units(model, self._comparison)
        null = units.new_empty(len(self._shuffles), len(self._units))
        if len(units) > 1 and self._keep:
            for number, (kept, pairs) in enumerate(zip(self._kept, units.float(), strict=True)):
                for some in blocks(len(kept), 4 * kept.element_size() * len(pairs), CACHED_BYTES):
                    null[some, number] = (kept[some] * pairs).sum(dim=1).to(null)  # pairwise, unlike a product
        else:  # the model's RDM is shuffled the other way round, once for all cells it is compared with
            for number, pairs in enumerate(units):
                cells = slice(None) if len(units) == 1 else slice(number, number + 1)
                for some, shuffled in self._shuffled(pairs, self._inverse):
                    null[some, cells] = shuffled @ self._units[cells].T
        silent = self._brain.says_nothing(self._comparison) | model.says_nothing(self._comparison)
        return (null * self._bias(model)).masked_fill_(silent, torch.nan)

    @cached_property
    def _kept(self) -> Tensor:
        """The brain's RDMs shuffled, (k, shuffles, pairs)."""
        units = self._units.float()
        kept = units.new_empty(len(units), len(self._shuffles), units.shape[1])
        for pairs, shuffled in zip(units, kept, strict=True):
            for some, values in self._shuffled(pairs, self._shuffles):
                shuffled[some] = values
        return kept

    def _shuffled(self, pairs: Tensor, shuffles: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the pairs of an RDM with rows and columns shuffled, (b, pairs), for block after block of shuffles."""
        n = self._brain.n
        matrix = _square(pairs, n).flatten()
        rows, columns = torch.triu_indices(n, n, offset=1, device=pairs.device)
        for some in blocks(len(shuffles), 3 * 8 * len(pairs), CACHED_BYTES):
            places = take(shuffles[some] * n, rows).add_(take(shuffles[some], columns))
            yield some, take(matrix.expand(len(places), -1), places)

    def _bias(self, model: RDMStack) -> Tensor | float:
        """Lin's bias correction, which makes a concordance of a correlation."""
        if self._comparison != "concordance":
            return 1.0
        a, b = model, self._brain
        return 2 * a.std * b.std / (a.std.square() + b.std.square() + (a.mean - b.mean).square())


def _units(rdms: RDMStack, comparison: str) -> Tensor:
    """Pairs of RDMs as vectors (k, pairs) of length 1, centred but for the cosine: products are comparisons.

    It is taken of RDMs without a comparison as well, which are NaN or whatever rounding makes of them.
    """
    pairs = average_ranks(rdms.pairs) if comparison == "spearman" else rdms.pairs
    if comparison != "cosine":
        pairs = pairs - pairs.mean(dim=1, keepdim=True)
    return pairs / torch.linalg.vector_norm(pairs, dim=1, keepdim=True)


def _square(pairs: Tensor, n: int) -> Tensor:
    """Return the symmetric matrix (n, n) with a diagonal of 0 of its pairs (pairs,)."""
    rows, columns = torch.triu_indices(n, n, offset=1, device=pairs.device)
    matrix = pairs.new_zeros(n, n)
    matrix[rows, columns] = matrix[columns, rows] = pairs
    return matrix
