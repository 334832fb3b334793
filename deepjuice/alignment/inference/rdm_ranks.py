"""Spearman's comparison of RDMs, ranked anew within every resample: see `bootstrap.GeometryResampler`."""

from __future__ import annotations

import torch
from torch import Tensor

from deepjuice.alignment.inference.rdm_stack import RDMStack, SortedPairs, take
from deepjuice.alignment.linalg import blocks

RANKS_BYTES = 32 * 1024**2
"""Working memory of resamples that are ranked together: more is slower by half, and less leaves threads idle."""

EXACT_IN_FLOAT32 = 2**24
"""Whole numbers up to this are exact in float32."""


class RankScores:
    """Spearman: ranks within every resample from one sort of each RDM, since resampling changes weights, not order.

    With pairs in order of dissimilarity, the cumulative weight before and up to a pair, or the pairs it ties with, says
    which places its copies share. Weights and ranks are whole numbers, and stand in float32 as long as it holds them
    exactly, for reading and writing them is nearly all the work; products round, to about 1e-7 of a score.
    """

    def __init__(self, counts: Tensor, brain: RDMStack):
        exact = brain.n**2 <= EXACT_IN_FLOAT32  # more than twice the number of drawn pairs, of which ranks are halves
        self._counts = counts.to(brain.pairs.device, torch.float32 if exact else brain.pairs.dtype)
        self._dtype, self._orders = brain.pairs.dtype, brain.orders
        self._silent = brain.says_nothing("spearman")

    def scores(self, model: RDMStack) -> Tensor:
        """Return (resamples, cells)."""
        if len(model.pairs) == 1:
            scores = self._against(model.orders[0], self._orders)
        else:
            each = zip(model.orders, self._orders, strict=True)
            scores = torch.cat([self._against(one, [brain]) for one, brain in each], dim=1)
        return scores.masked_fill_(self._silent | model.says_nothing("spearman"), torch.nan)

    def _against(self, model: SortedPairs, brains: list[SortedPairs]) -> Tensor:
        """Compare one RDM with some: everything stands in the model's order, and goes into each brain's."""
        place = torch.empty_like(model.order)
        place[model.order] = torch.arange(len(place), device=place.device)
        places = [place[brain.order] for brain in brains]
        scores = self._counts.new_empty(len(self._counts), len(brains), dtype=self._dtype)
        for some in blocks(len(scores), 8 * self._counts.element_size() * len(place), RANKS_BYTES):
            counts = self._counts[some]
            both = counts.new_empty(*counts.shape[:1], len(place), 2)  # side by side: one look-up brings the two
            weights, weighted = both.unbind(dim=2)
            weights.copy_(model.weights(counts))
            ranks = model.ranks(weights)
            size = self._sum(ranks * torch.mul(weights, ranks, out=weighted))
            for number, (brain, into) in enumerate(zip(brains, places, strict=True)):
                w, own = torch.view_as_real(take(torch.view_as_complex(both), into)).unbind(dim=2)
                other = brain.ranks(w)
                product = self._sum(own.mul_(other))
                same = model.tied is None and brain.tied is None  # then ranks in all orders have one size
                other_size = size if same else self._sum(w.mul_(other).mul_(other))
                scores[some, number] = product / (size * other_size).sqrt_()  # 0 / 0 where all drawn pairs tie
        return scores.clamp_(-1.0, 1.0)

    def _sum(self, products: Tensor) -> Tensor:
        return products.sum(dim=1).to(self._dtype)  # torch adds pairwise: the rounding of float32 does not build up
