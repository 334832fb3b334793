"""Ridge regression and its held-out scores from `RidgeStatistics` alone, exact, without the images.

Training folds joined give mean m, deviations s and gram G of the features; with V diag(e) V' = diag(1/s) G diag(1/s),

    u = V' diag(1/s) cross / (e + alpha)            weights, in the eigenvectors' coordinates
    pp = u' A u,  py = u' c,  yy,  means            the moments of predictions and responses of a held-out fold,

A = V' diag(1/s) gram_f diag(1/s) V and c = V' diag(1/s) cross_f. Every score that is made of these moments follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from deepjuice.alignment.encoding.ridge import DEFAULT_ALPHAS, AlphaSelection, best_positions
from deepjuice.alignment.encoding.streaming import RidgeStatistics
from deepjuice.alignment.linalg import BLOCK_BYTES, as_tensor, blocks, eigh, is_constant
from juicyfruits.errors import InputError, near_names


def kfold_ridge(
    stats: RidgeStatistics,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    scoring: str = "neg_mean_squared_error",
    *,
    per_target: bool = True,
    folds: Sequence[int] | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: bool = False,
) -> AlphaSelection:
    """Choose the alpha of every target by k-fold cross-validation: `alpha` and `score` (t,), `scores` (alphas, t).

        score = mean over folds f of score(y_f, prediction of f by the fit to all other folds)

    Features are z-scored by the moments of the training folds, the intercept is theirs. `scoring` is any of
    `STREAMED_SCORES`; a target that has no score in one fold (a constant has no correlation) has none. Ties go to the
    alpha named first; `per_target=False` chooses one alpha by the mean score over targets that have one. The score of
    a chosen alpha is a little too good, for it was chosen by it: leave a fold out of `folds` (all by default) and ask
    `held_out_scores` for an honest one. Raises InputError for fewer than 2 folds, empty ones, unknown scores, and
    alphas that are not positive.

    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(60, 5, generator=generator)
    >>> stats = RidgeStatistics(5, 2, n_folds=3)
    >>> stats.update(X, X[:, :2] + torch.randn(60, 2, generator=generator), folds=[0, 1, 2] * 20)
    >>> kfold_ridge(stats, alphas=(1.0, 1e6), scoring="r2").alpha
    tensor([1., 1.], dtype=torch.float64)
    """
    folds = _checked_folds(stats, folds, at_least=2)
    score = _moment_score(scoring)
    alphas = _checked_alpha(stats, alphas).reshape(-1)
    scores = stats.gram.new_zeros(len(alphas), stats.n_targets)
    for fold in tqdm(folds, "k-fold ridge", unit="fold", disable=not progress):
        fit = _fit(stats, [f for f in folds if f != fold])
        held_out = _HeldOut(stats, fit, fold)
        for targets in _target_blocks(stats, block_bytes):
            moments = held_out.prepare(targets)
            for k, alpha in enumerate(alphas):
                scores[k, targets] += score(moments(alpha)) / len(folds)
    best = best_positions(scores, per_target)  # the first alpha for a target without any score
    return AlphaSelection(alphas[best], scores.gather(0, best[None])[0], scores)


def held_out_scores(
    stats: RidgeStatistics,
    alpha: Tensor | float,
    test_fold: int,
    scoring: str = "pearsonr",
    *,
    folds: Sequence[int] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Tensor:
    """Score the fit to `folds` (all but `test_fold` by default) on `test_fold`, at one alpha or one a target: (t,).

    Honest where the alphas were chosen without it: `kfold_ridge(stats, folds=others)`. Scores and errors as there.
    """
    others = [f for f in range(stats.n_folds) if f != test_fold] if folds is None else folds
    others, (test_fold,) = _checked_folds(stats, others, 1), _checked_folds(stats, [test_fold], 1)
    if test_fold in others:
        raise InputError(f"Fold {test_fold} must not train what it tests, but it is among the folds; leave it out.")
    score = _moment_score(scoring)
    alpha = _checked_alpha(stats, alpha).expand(stats.n_targets)
    held_out = _HeldOut(stats, _fit(stats, others), test_fold)
    parts = [score(held_out.prepare(targets)(alpha[targets, None])) for targets in _target_blocks(stats, block_bytes)]
    return torch.cat(parts)


def streamed_coefficients(
    stats: RidgeStatistics,
    alpha: Tensor | float,
    *,
    folds: Sequence[int] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield the fit to `folds` (all by default), a block of targets at a time: targets, coefficients, intercepts.

    At one alpha or one a target (t,). Coefficients (p, b) and intercepts (b,) are for features as they came, as
    `ridge_coefficients` gives them: predictions are `intercepts + X @ coefficients`.
    """
    fit = _fit(stats, _checked_folds(stats, folds, 1))
    alpha = _checked_alpha(stats, alpha).expand(stats.n_targets)
    for targets in _target_blocks(stats, block_bytes):
        rotated, y_mean = _rotated(stats, fit, targets)
        weights = rotated / (fit.eigenvalues + alpha[targets, None])
        coefficients = fit.inverse_scale[:, None] * (fit.rotation @ weights.T)
        yield targets, coefficients, y_mean - fit.mean @ coefficients


class _Fit(NamedTuple):
    """The training folds' side of a fit, the same for all targets."""

    folds: list[int]
    counts: Tensor  # (f,)
    offsets: Tensor  # (f, p) of every fold's means from the joined ones
    mean: Tensor  # (p,)
    inverse_scale: Tensor  # (p,) 0 where a feature is constant
    eigenvalues: Tensor  # (p,)
    rotation: Tensor  # (p, p)


def _fit(stats: RidgeStatistics, folds: list[int]) -> _Fit:
    counts = stats.count[folds].to(stats.gram)
    if counts.sum() < 3:
        raise InputError(f"A fit needs 3 images, but the folds {folds} hold {int(counts.sum())}; add images.")
    mean, offsets = _joined(counts, stats.x_mean[folds])
    gram = (offsets.T * counts) @ offsets
    for fold in folds:
        gram += stats.gram[fold]
    std = (gram.diagonal() / counts.sum()).sqrt()
    if not torch.isfinite(gram).all():
        raise InputError("X must have squares that fit into float64, but its values are too large; divide X first.")
    inverse_scale = (1.0 / std).masked_fill(is_constant(std, mean, stats.x_dtype), 0.0)
    gram *= inverse_scale[:, None] * inverse_scale
    eigenvalues, rotation = eigh(gram)
    return _Fit(folds, counts, offsets, mean, inverse_scale, eigenvalues.clamp_(min=0), rotation)


def _joined(counts: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of several folds, and how far each fold's own is from it; folds that agree are off by exactly 0."""
    steps = means - means[0]
    step = (counts / counts.sum()) @ steps
    return means[0] + step, steps - step


def _rotated(stats: RidgeStatistics, fit: _Fit, targets: slice) -> tuple[Tensor, Tensor]:
    """V' diag(1/s) cross of the training folds, a row a target (b, p), and the targets' means (b,)."""
    y_mean, y_offsets = _joined(fit.counts, stats.y_mean[fit.folds, targets])
    cross = (y_offsets.T * fit.counts) @ fit.offsets
    for fold in fit.folds:
        cross += stats.cross[fold, targets].to(cross)
    return cross.mul_(fit.inverse_scale) @ fit.rotation, y_mean


class _Moments(NamedTuple):
    """Of one fold: n, means, centred sums of squares and products, and which targets and predictions are constant."""

    n: int
    y_mean: Tensor
    p_mean: Tensor
    yy: Tensor
    pp: Tensor
    py: Tensor
    y_flat: Tensor
    p_flat: Tensor


class _HeldOut:
    """The moments of one fold's responses and of their predictions by a fit to others."""

    def __init__(self, stats: RidgeStatistics, fit: _Fit, fold: int):
        self.stats, self.fit, self.fold, self.n = stats, fit, fold, int(stats.count[fold])
        if self.n < 2:
            raise InputError(f"Every fold must hold 2 images, but fold {fold} holds {self.n}; add images or drop it.")
        scaled = fit.inverse_scale[:, None] * fit.rotation
        self.gram = scaled.T @ stats.gram[fold] @ scaled
        self.offset = (stats.x_mean[fold] - fit.mean) @ scaled

    def prepare(self, targets: slice) -> Callable[[Tensor], _Moments]:
        """Return the moments of a block of targets as a function of alpha (0-d or (b, 1))."""
        stats, fit, fold = self.stats, self.fit, self.fold
        rotated, train_mean = _rotated(stats, fit, targets)
        cross = (stats.cross[fold, targets].to(rotated) * fit.inverse_scale) @ fit.rotation
        y_mean, yy = stats.y_mean[fold, targets], stats.y_squares[fold, targets]
        y_flat = is_constant((yy / self.n).sqrt(), y_mean, stats.y_dtype)

        def moments(alpha: Tensor) -> _Moments:
            weights = rotated / (fit.eigenvalues + alpha)
            p_mean = train_mean + weights @ self.offset
            pp = torch.linalg.vecdot(weights @ self.gram, weights).clamp_(min=0)
            p_flat = is_constant((pp / self.n).sqrt(), p_mean, pp.dtype)
            return _Moments(self.n, y_mean, p_mean, yy, pp, torch.linalg.vecdot(weights, cross), y_flat, p_flat)

        return moments


def _residual(m: _Moments) -> Tensor:
    """Sum of squares of the residuals around their mean."""
    return (m.yy - 2 * m.py + m.pp).clamp(min=0)


def _offset(m: _Moments) -> Tensor:
    return m.n * (m.y_mean - m.p_mean).square()


def _correlation_rules(m: _Moments, scores: Tensor) -> Tensor:
    return scores.clamp(-1.0, 1.0).masked_fill(m.p_flat, 0.0).masked_fill(m.y_flat, torch.nan)


_SCORES: dict[str, Callable[[_Moments], Tensor]] = {
    "neg_mean_squared_error": lambda m: -(_residual(m) + _offset(m)) / m.n,
    "r2": lambda m: (1.0 - (_residual(m) + _offset(m)) / m.yy).masked_fill(m.y_flat, torch.nan),
    "explained_variance": lambda m: (1.0 - _residual(m) / m.yy).masked_fill(m.y_flat, torch.nan),
    "pearsonr": lambda m: _correlation_rules(m, m.py / (m.yy.sqrt() * m.pp.sqrt())),
    "concordance": lambda m: _correlation_rules(m, 2 * m.py / (m.yy + m.pp + _offset(m))),
}
STREAMED_SCORES = tuple(_SCORES)
"""The scores that are functions of moments; ranks are not."""


def _moment_score(name: str) -> Callable[[_Moments], Tensor]:
    if name not in _SCORES:
        raise InputError(f"The score {name!r} cannot be had from sums over images; {near_names(name, _SCORES)}")
    return _SCORES[name]


def _checked_folds(stats: RidgeStatistics, folds: Sequence[int] | None, at_least: int) -> list[int]:
    stats.check_whole()
    folds = list(range(stats.n_folds) if folds is None else folds)
    if len(folds) < at_least or len(set(folds)) < len(folds) or not set(folds) <= set(range(stats.n_folds)):
        raise InputError(
            f"The folds must be {at_least} or more of 0 to {stats.n_folds - 1}, each once, but {folds} came; "
            "choose others."
        )
    empty = [fold for fold in folds if not stats.count[fold]]
    if empty:
        raise InputError(
            f"Every fold must hold images, but {empty} are empty; add images or leave them out of `folds`."
        )
    return folds


def _checked_alpha(stats: RidgeStatistics, alpha: Tensor | Sequence[float] | float) -> Tensor:
    alpha = as_tensor(alpha, "Alpha").to(stats.device, stats.gram.dtype)
    if alpha.numel() == 0 or not bool((torch.isfinite(alpha) & (alpha > 0)).all()):
        raise InputError("Alphas must be positive numbers, one at least, but others came; see DEFAULT_ALPHAS.")
    return alpha


def _target_blocks(stats: RidgeStatistics, block_bytes: int) -> Iterator[slice]:
    return blocks(stats.n_targets, 8 * 6 * stats.n_features, block_bytes)
