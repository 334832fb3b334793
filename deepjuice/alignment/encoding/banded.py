"""Banded ridge: several feature spaces in one model, each with a penalty of its own for every target.

    minimise |y - b - sum_i Z_i w_i|^2 + alpha sum_i |w_i|^2 / gamma_i,    gamma_i >= 0,  sum_i gamma_i = 1

Z_i are the z-scored features of space i (Nunez-Elizalde, Huth & Gallant 2019, NeuroImage 197, 482-492). The weights
gamma are searched at random on the simplex (Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant 2022, NeuroImage 264,
119728); for each, alphas are compared by exact leave-one-out, so that a candidate costs one decomposition and no folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from deepjuice.alignment.encoding.crossval import as_spaces
from deepjuice.alignment.encoding.ridge import (
    DEFAULT_ALPHAS,
    RidgeDecomposition,
    ridge_coefficients,
    ridge_decompose,
    ridge_weights,
    select_alphas,
)
from deepjuice.alignment.linalg import ArrayLike, as_matrix, as_tensor, column_moments, is_constant
from deepjuice.alignment.scores import columnwise_score
from deepjuice.devices import get_device
from juicyfruits.errors import InputError


def simplex_candidates(n_spaces: int, n_random: int, seed: int = 0) -> np.ndarray:
    """Return weights of feature spaces to try, (candidates, n_spaces) float64, rows of sum 1.

    Equal weights, then each space alone, then `n_random` draws from Dirichlet distributions whose concentration is by
    turns 1 (anywhere on the simplex) and 0.1 (near its corners, where penalties differ by decades). One space has one.

    >>> simplex_candidates(2, n_random=0)
    array([[0.5, 0.5],
           [1. , 0. ],
           [0. , 1. ]])
    """
    if not isinstance(n_random, Integral) or n_random < 0:
        raise InputError(f"n_random must be a whole number from 0 up, but {n_random!r} came; 20 is the default.")
    if n_spaces == 1:
        return np.ones((1, 1))
    rng = np.random.default_rng(seed)
    draws = [rng.dirichlet(np.full(n_spaces, (1.0, 0.1)[i % 2])) for i in range(n_random)]
    return np.array([np.full(n_spaces, 1 / n_spaces), *np.eye(n_spaces), *draws])


class BandedRidge:
    """Ridge regression on several named feature spaces, weighted anew for every target.

    Args:
        alphas: the penalties to choose from, all positive.
        n_random: random weightings to try beside equal weights and every space alone (`simplex_candidates`). Each costs
            a decomposition; two spaces need some twenty, five a few hundred.
        scoring: by which leave-one-out predictions are compared, as in `select_alphas`.
        seed: of the random weightings.
        device: where the work is done.
        progress: whether to show a bar.

    `fit` sets `gamma_` (spaces, t), `alpha_` (t,) and `score_` (t,), the best leave-one-out score; `coef_`, by name
    (p_i, t), and `intercept_` (t,), on the features as they came. Without the target axis for Y of one dimension.
    float64 (float32 on mps). The coefficients of all targets are held: take regions in turn where they are too many.
    Of equally good candidates the first is taken.

    >>> generator = torch.Generator().manual_seed(0)
    >>> a, b = (torch.randn(40, 30, generator=generator) for _ in "ab")
    >>> model = BandedRidge(n_random=4).fit({"a": a, "b": b}, a[:, 0])
    >>> model.gamma_[0] > model.gamma_[1]
    tensor(True)
    """

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        n_random: int = 20,
        scoring: str = "neg_mean_squared_error",
        seed: int = 0,
        device: str | int | torch.device = "cpu",
        progress: bool = False,
    ):
        columnwise_score(scoring)
        self.alphas, self.n_random, self.scoring, self.seed = alphas, n_random, scoring, seed
        self.device, self.progress = get_device(device), progress

    def fit(self, X: Mapping[str, ArrayLike], Y: ArrayLike) -> BandedRidge:
        """Fit feature spaces {name: (n, p_i)} to one target (n,) or several (n, t).

        Raises InputError for NaN or infinity, fewer than 3 stimuli, and unequal numbers of rows.
        """
        spaces, _ = as_spaces(X, self.device)
        Y = as_tensor(Y, "Y")
        self._one_target = Y.ndim == 1
        Y = as_matrix(Y, "Y", self.device)
        self._moments = {name: _scaling(space) for name, space in spaces.items()}
        Z = {name: (space - self._moments[name][0]) * self._moments[name][1] for name, space in spaces.items()}
        candidates = simplex_candidates(len(Z), self.n_random, self.seed)
        choice, alpha, score = self._search(Z, Y, candidates)
        coefficients, intercept = self._refit(Z, Y, candidates, choice, alpha)
        gamma = torch.as_tensor(candidates.T, dtype=alpha.dtype, device=self.device)[:, choice]
        self.alpha_, self.score_, self.gamma_ = (self._squeeze(values) for values in (alpha, score, gamma))
        self.coef_ = {name: self._squeeze(values) for name, values in coefficients.items()}
        self.intercept_ = self._squeeze(intercept)
        return self

    def predict(self, X: Mapping[str, ArrayLike]) -> Tensor:
        """Predict the targets of feature spaces (m, p_i): (m, t), or (m,) where Y had one dimension."""
        spaces = self._checked(X)
        return self.intercept_ + sum(spaces[name] @ coefficients for name, coefficients in self.coef_.items())

    def predict_parts(self, X: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
        """Predict what each space adds to the mean of the training targets: {name: (m, t)}."""
        spaces = self._checked(X)
        means = {name: mean for name, (mean, _) in self._moments.items()}
        return {name: (spaces[name] - means[name]) @ coefficients for name, coefficients in self.coef_.items()}

    def _search(self, Z: dict[str, Tensor], Y: Tensor, candidates: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return the number of the best candidate, its alpha and its score for every target."""
        choice = torch.zeros(Y.shape[1], dtype=torch.int64, device=self.device)
        for number, gamma in enumerate(tqdm(candidates, "banded ridge", unit="weighting", disable=not self.progress)):
            found = select_alphas(_decompose(Z, gamma), Y, self.alphas, self.scoring)
            if number == 0:
                alpha, score = found.alpha, found.score
            better = found.score > score  # never where one is NaN: such a target keeps equal weights
            choice[better] = number
            alpha, score = torch.where(better, found.alpha, alpha), torch.where(better, found.score, score)
        return choice, alpha, score

    def _refit(self, Z: dict[str, Tensor], Y: Tensor, candidates: np.ndarray, choice: Tensor, alpha: Tensor) -> tuple:
        """Coefficients on the features as they came, by space, and intercepts; one fit a chosen candidate."""
        coefficients = {name: alpha.new_zeros(space.shape[1], Y.shape[1]) for name, space in Z.items()}
        intercept = torch.empty_like(alpha)
        for number in choice.unique().tolist():
            targets = torch.nonzero(choice == number)[:, 0]
            dec, gamma = _decompose(Z, candidates[number]), candidates[number]
            weighted, intercept[targets] = ridge_coefficients(dec, *ridge_weights(dec, Y[:, targets], alpha[targets]))
            names = [name for name, share in zip(Z, gamma, strict=True) if share]
            parts = weighted.split([Z[name].shape[1] for name in names])
            for name, part, share in zip(names, parts, gamma[gamma > 0], strict=True):
                coefficients[name][:, targets] = part * share**0.5
        for name, (mean, inverse_scale) in self._moments.items():
            coefficients[name] *= inverse_scale[:, None]
            intercept -= mean @ coefficients[name]
        return coefficients, intercept

    def _checked(self, X: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
        if not hasattr(self, "coef_"):
            raise InputError("This BandedRidge has nothing to predict with yet; call fit(X, Y) first.")
        spaces, _ = as_spaces(X, self.device)
        given = {name: space.shape[1] for name, space in spaces.items()}
        known = {name: len(coefficients) for name, coefficients in self.coef_.items()}
        if given != known:
            raise InputError(f"Feature spaces must have the columns of the fit, {known}, but {given} came; align them.")
        return {name: space.to(self.intercept_.dtype) for name, space in spaces.items()}

    def _squeeze(self, values: Tensor) -> Tensor:
        return values.squeeze(-1) if self._one_target else values


def _scaling(X: Tensor) -> tuple[Tensor, Tensor]:
    """Means and what z-scores columns, 0 for one that is constant up to its rounding."""
    mean, std = column_moments(X)
    if not torch.isfinite(std).all():
        raise InputError("Features must have squares that fit into float64, but some are too large; divide them first.")
    return mean, (1.0 / std).masked_fill(is_constant(std, mean, X.dtype), 0.0)


def _decompose(Z: dict[str, Tensor], gamma: np.ndarray) -> RidgeDecomposition:
    weighted = [space * share**0.5 for space, share in zip(Z.values(), gamma, strict=True) if share]
    return ridge_decompose(torch.cat(weighted, dim=1), scale=False)
