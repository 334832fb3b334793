"""Scores under every resample and shuffle of the stimuli; the fit stays, the stimuli it is scored on change.

The brain's side is prepared once, then every layer of every model is scored with a few matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from deepjuice.alignment.inference.rdm_moments import CACHED_BYTES, MomentScores, left_out_mean, resampled_mean
from deepjuice.alignment.inference.rdm_ranks import RankScores
from deepjuice.alignment.inference.rdm_shuffles import ShuffledScores
from deepjuice.alignment.inference.rdm_stack import RDMStack
from deepjuice.alignment.inference.resampling import ResamplingPlan
from deepjuice.alignment.linalg import (
    ArrayLike,
    as_matrix,
    as_tensor,
    blocks,
    column_moments,
    is_constant,
    working_dtype,
)
from juicyfruits.errors import InputError, near_names

KEEP_BYTES = 2 * 1024**3
"""What is kept of the brain's side between layers; above it, it is made again for every layer."""

RESAMPLED_COMPARISONS = ("pearson", "spearman", "cosine", "concordance")


class EncodingResampler:
    """The mean over each cell's voxels of Pearson's r between responses and predictions, resampled and shuffled.

    A cell is a set of voxels, say a region of a subject; cells may overlap. As in `scores`, a prediction that is
    constant, in a resample or altogether, scores 0, and a voxel whose responses are constant has no score: it is left
    out of the mean of that resample; a cell without any is NaN.

    Args:
        plan: resamples and shuffles of the n stimuli.
        Y: responses (n, voxels).
        cells: column numbers of each cell's voxels, or a mask.
        keep_bytes: moments of the responses under every resample, (2, B, voxels) float64, are kept up to this size.

    Raises:
        InputError: for NaN, a number of stimuli other than the plan's, and empty cells.

    >>> plan = ResamplingPlan.draw(n_stimuli=40, n_bootstraps=100, n_permutations=50)
    >>> Y = torch.randn(40, 6)
    >>> resampler = EncodingResampler(plan, Y, [torch.arange(3), torch.arange(6)])
    >>> prediction = Y + torch.randn(40, 6)
    >>> resampler.bootstrap(prediction).shape, resampler.permute(prediction).shape
    (torch.Size([100, 2]), torch.Size([50, 2]))
    """

    def __init__(self, plan: ResamplingPlan, Y: ArrayLike, cells: Sequence[Tensor], keep_bytes: int = KEEP_BYTES):
        Y = as_matrix(Y, "The responses")
        _check_stimuli(len(Y), plan)
        self.plan, self.cells = plan, [_columns(cell, Y) for cell in cells]
        if not self.cells or not all(len(cell) for cell in self.cells):
            raise InputError("Every cell needs a voxel or more, but one has none; leave empty cells out.")
        self._responses = _Columns(Y)
        self._share = _shares(plan.counts.to(Y.device))
        self._membership = torch.zeros(Y.shape[1], len(cells), dtype=self._share.dtype, device=Y.device)
        for number, cell in enumerate(self.cells):
            self._membership[cell, number] = 1.0
        keep = 2 * self._share.dtype.itemsize * len(self._share) * Y.shape[1] <= keep_bytes
        self._kept, self._n_defined = [], self._share.new_zeros(len(self._share), len(cells))
        for voxels in self._blocks():
            moments = self._response_moments(voxels)
            self._n_defined.addmm_((moments[1] > 0).to(self._share), self._membership[voxels])
            self._kept += [moments] if keep else []

    def bootstrap(self, pred: ArrayLike) -> Tensor:
        """Return the score of every cell in every resample (B, cells), of predictions (n, voxels)."""
        predictions, total = self._predictions(pred), torch.zeros_like(self._n_defined)
        for number, voxels in enumerate(self._blocks()):
            total.addmm_(self._correlations(predictions, voxels, number), self._membership[voxels])
        return total / self._n_defined

    def permute(self, pred: ArrayLike) -> Tensor:
        """Return the score of every cell (P, cells) after every shuffle of the rows of predictions (n, voxels).

            mean over voxels of sum_i y_i p_shuffle(i) = sum_i M[i, shuffle(i)],    M = Y P' / voxels

        with columns of Y and P of mean 0 and length 1: one product a cell, and a look-up.
        """
        predictions, n = self._predictions(pred), self.plan.n_stimuli
        shuffles = self.plan.permutations.to(self._share.device).T.contiguous()
        null = self._share.new_zeros(shuffles.shape[1], len(self.cells))
        for number, cell in enumerate(self.cells):
            n_defined = (~self._responses.flat[cell]).sum()
            products = self._responses.scaled(cell) @ predictions.scaled(cell).T
            products /= n * n_defined  # 0 / 0, NaN, where no response varies
            for some in blocks(n, 8 * len(null)):
                null[:, number] += products[some].gather(1, shuffles[some]).sum(dim=0)
        return null

    def _predictions(self, pred: ArrayLike) -> _Columns:
        pred = as_matrix(pred, "The predictions", self._share.device)
        if pred.shape != self._responses.values.shape:
            raise InputError(
                f"Predictions must have the shape of the responses, {tuple(self._responses.values.shape)}, but "
                f"{tuple(pred.shape)} came; rows are stimuli, columns are voxels."
            )
        return _Columns(pred)

    def _blocks(self) -> Iterator[slice]:
        n_resamples, n_stimuli = self._share.shape
        return blocks(self._responses.values.shape[1], 8 * (8 * n_resamples + 5 * n_stimuli), CACHED_BYTES)

    def _response_moments(self, voxels: slice) -> tuple[Tensor, Tensor]:
        """Mean and 1 / deviation of the responses in every resample, each (B, voxels); 0 for what is constant."""
        y = self._responses.scaled(voxels)
        mean = self._share @ y
        return mean, self._responses.inverse_deviation(voxels, mean, self._share @ y.square())

    def _correlations(self, predictions: _Columns, voxels: slice, number: int) -> Tensor:
        """Pearson's r (B, voxels), and 0 where predictions or responses are constant."""
        y, p = self._responses.scaled(voxels), predictions.scaled(voxels)
        y_mean, y_inverse = self._kept[number] if self._kept else self._response_moments(voxels)
        mean, square, product = (self._share @ torch.cat([p, p.square(), y * p], dim=1)).split(p.shape[1], dim=1)
        inverse = predictions.inverse_deviation(voxels, mean, square)
        return product.addcmul_(y_mean, mean, value=-1.0).mul_(y_inverse).mul_(inverse).clamp_(-1.0, 1.0)


class GeometryResampler:
    """The comparison of RDMs with the brain's under every resample, with every stimulus left out, and shuffled.

    A resample that takes stimulus i c_i times has the pair (i, j) c_i c_j times; pairs of a stimulus with itself are
    dropped, since their dissimilarity is 0 by definition. RDMs with NaN, or that do not vary, are NaN throughout, and
    one that does not vary in a resample is NaN there.

    Args:
        plan: resamples and shuffles of the n stimuli.
        rdms: RDMs of the brain (k, n, n), one a cell; here and below, as an `RDMStack` they are prepared once for all.
        comparison: `pearson`, `spearman` (of the ranks within the resample), `cosine` or `concordance`.
        keep_bytes: shuffled RDMs of the brain are kept, in float32, up to this size.

    Raises:
        InputError: for RDMs that are not square or of other stimuli than the plan's, and an unknown comparison.

    >>> plan = ResamplingPlan.draw(n_stimuli=20, n_bootstraps=100, n_permutations=50)
    >>> brain, model = torch.rand(3, 20, 20), torch.rand(20, 20)
    >>> resampler = GeometryResampler(plan, brain + brain.mT)
    >>> [method(model + model.T).shape for method in (resampler.bootstrap, resampler.jackknife, resampler.permute)]
    [torch.Size([100, 3]), torch.Size([20, 3]), torch.Size([50, 3])]
    """

    def __init__(
        self,
        plan: ResamplingPlan,
        rdms: ArrayLike | RDMStack,
        comparison: str = "pearson",
        keep_bytes: int = KEEP_BYTES,
    ):
        if comparison not in RESAMPLED_COMPARISONS:
            hint = near_names(comparison, RESAMPLED_COMPARISONS)
            raise InputError(f"The RDM comparison {comparison!r} cannot be resampled; {hint}")
        self._brain = rdms if isinstance(rdms, RDMStack) else RDMStack(rdms)
        _check_stimuli(self._brain.n, plan)
        self._plan, self._comparison, self._keep_bytes = plan, comparison, keep_bytes

    def bootstrap(self, rdm: ArrayLike | RDMStack) -> Tensor:
        """Return the scores (B, k) of a model's RDM (n, n), or of one for every cell (k, n, n), in every resample."""
        return self._bootstrap.scores(self._model(rdm))

    def jackknife(self, rdm: ArrayLike | RDMStack) -> Tensor:
        """Return the scores (n, k) with every stimulus left out once, for `deflate`; RDMs as for `bootstrap`."""
        return self._jackknife.scores(self._model(rdm))

    def permute(self, rdm: ArrayLike | RDMStack) -> Tensor:
        """Return scores (P, k) with rows and columns of the brain's RDMs shuffled together; RDMs as `bootstrap`."""
        return self._permute.scores(self._model(rdm))

    @cached_property
    def _bootstrap(self) -> MomentScores | RankScores:
        counts = self._plan.counts.to(self._brain.pairs.device)
        if self._comparison == "spearman":
            return RankScores(counts, self._brain)
        exact = resampled_mean(counts, working_dtype(counts.device))
        rough = resampled_mean(counts, torch.float32) if counts.device.type == "cpu" else None
        return MomentScores(exact, self._brain, self._comparison, rough)

    @cached_property
    def _jackknife(self) -> MomentScores | RankScores:
        if self._comparison == "spearman":
            return RankScores(1 - torch.eye(self._brain.n, device=self._brain.pairs.device), self._brain)
        return MomentScores(left_out_mean(self._brain.n), self._brain, self._comparison)

    @cached_property
    def _permute(self) -> ShuffledScores:
        shuffles = self._plan.permutations.to(self._brain.pairs.device)
        return ShuffledScores(shuffles, self._brain, self._comparison, self._keep_bytes)

    def _model(self, rdm: ArrayLike | RDMStack) -> RDMStack:
        model = rdm if isinstance(rdm, RDMStack) else RDMStack(rdm, self._brain.pairs.device)
        if model.n != self._brain.n or len(model.pairs) not in (1, len(self._brain.pairs)):
            raise InputError(
                f"Of RDMs, one or {len(self._brain.pairs)} of {self._brain.n} stimuli are compared with the brain's, "
                f"but {len(model.pairs)} of {model.n} came; make both from the same stimuli."
            )
        return model


class _Columns:
    """Columns that are scaled to mean 0 and variance 1 as they are used, so that their moments lose no digits."""

    def __init__(self, values: Tensor):
        self.values = values
        self.mean, std = column_moments(values)
        self.flat = is_constant(std, self.mean, values.dtype)
        self.std = std.masked_fill(self.flat, 1.0)

    def scaled(self, columns: slice | Tensor) -> Tensor:
        wide = self.values[:, columns].to(self.mean.dtype)
        return ((wide - self.mean[columns]) / self.std[columns]).masked_fill_(self.flat[columns], 0.0)

    def inverse_deviation(self, columns: slice, mean: Tensor, square: Tensor) -> Tensor:
        """Return 1 / deviation (B, columns) from moments of scaled columns, and 0 where they are none but rounding.

        What the data's own precision cannot tell from constant counts as such (see `is_constant`), and so does what
        this difference of two moments cannot. Squares are n at most: where no variance is near the rounding of that, as
        almost always, nothing has to be looked at one by one.
        """
        variance, n = square.addcmul(mean, mean, value=-1.0), len(self.values)
        offset, rounding = self.mean[columns] / self.std[columns], 512 * torch.finfo(mean.dtype).eps
        own_rounding = (2 * torch.finfo(self.values.dtype).eps * (1 + offset.abs())).square()
        if not (variance <= n * (rounding + own_rounding)).any():
            return variance.rsqrt_()
        constant = is_constant(variance.clamp(min=0.0).sqrt_(), mean + offset, self.values.dtype)
        return variance.rsqrt().masked_fill_(constant | (variance <= rounding * square), 0.0)


def _columns(cell: ArrayLike, Y: Tensor) -> Tensor:
    """The column numbers (voxels,) of a cell, each once, given as numbers or as a mask."""
    cell = as_tensor(cell, "A cell").to(Y.device)
    if cell.dtype == torch.bool and cell.shape == Y.shape[1:]:
        return cell.nonzero()[:, 0]
    whole = not (cell.is_floating_point() or cell.is_complex() or cell.dtype == torch.bool)
    if cell.numel() and not (whole and cell.ndim == 1 and cell.min() >= 0 and cell.max() < Y.shape[1]):
        raise InputError(
            f"A cell must hold column numbers from 0 to {Y.shape[1] - 1} of the responses, or be a mask of all "
            f"{Y.shape[1]}, but {cell.dtype} of shape {tuple(cell.shape)} came, or numbers beyond these."
        )
    return cell.long().unique()


def _shares(counts: Tensor) -> Tensor:
    """Resamples as weights that sum to 1."""
    counts = counts.to(working_dtype(counts.device))
    return counts / counts.sum(dim=1, keepdim=True)


def _check_stimuli(n_stimuli: int, plan: ResamplingPlan) -> None:
    if n_stimuli != plan.n_stimuli:
        raise InputError(
            f"The plan is for {plan.n_stimuli} stimuli, but the brain's side has {n_stimuli}; draw one for each split."
        )
