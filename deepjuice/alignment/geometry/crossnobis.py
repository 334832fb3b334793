"""Distances that noise does not inflate: every product is one of two different repeats."""

from __future__ import annotations

import torch
from torch import Tensor

from deepjuice.alignment.geometry.noise import NoiseModel, as_repeats
from deepjuice.alignment.geometry.rdm import column_centred, squared_distance_of, within_range
from deepjuice.alignment.linalg import ArrayLike, row_gram
from juicyfruits.errors import InputError


def crossnobis_rdm(repeats: ArrayLike, noise: NoiseModel | None = None) -> Tensor:
    """Return the cross-validated squared Mahalanobis distances (n, n) of responses (r, n, p) to r repeats.

        d_ij = mean over repeats a != b of (x_ai - x_aj)' S^-1 (x_bi - x_bj)

    Noise that is independent between repeats averages to zero, so that the estimate is unbiased: it is 0 on average
    for two stimuli with one response, and may be negative (Walther et al. 2016, NeuroImage 137, 188-200). The mean over
    pairs equals that over folds which leave one repeat out and average the others. Without `noise`, S is the identity:
    the cross-validated squared Euclidean distance. Not divided by p (rsatoolbox divides). float64, where `repeats` is.
    Raises InputError for fewer than 2 repeats or stimuli, and for NaN: every stimulus needs all r repeats.

    >>> signal, noise = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.1, -0.1], [0.2, 0.3]])
    >>> crossnobis_rdm(torch.stack([signal + noise, signal - noise]))[0, 1].round(decimals=2).item()
    24.83
    """
    if not (noise is None or isinstance(noise, NoiseModel)):
        raise InputError(
            f"The noise must be a NoiseModel, but a {type(noise).__name__} came; make one by noise_from_residuals or "
            "noise_from_precision."
        )
    stack = as_repeats(repeats)
    r, n, p = stack.shape
    X, scale = within_range(stack.reshape(r * n, p))
    each = torch.cat([column_centred(part) for part in X.view(r, n, p)])
    each = (each if noise is None else noise.whiten(each)).view(r, n, p)
    within = sum(row_gram([part]) for part in each)
    gram = row_gram([each.sum(dim=0)]).sub_(within).div_(r * (r - 1))
    return squared_distance_of(gram, within.diagonal() / r).mul_(scale).mul_(scale)
