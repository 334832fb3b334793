"""How well a perfect model could do, given the noise of the measurement."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from juicyfruits.errors import InputError


def noise_ceiling_r(ncsnr: ArrayLike, n_repeats: ArrayLike) -> np.ndarray:
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
    if n_wrong:
        raise InputError(
            f"Every stimulus needs at least 1 repeat, but {n_wrong} entries of n_repeats have fewer; mask them first."
        )
    noise = (1.0 / repeats).mean(axis=-1) if repeats.ndim else 1.0 / repeats
    if noise.ndim and noise.shape != ncsnr.shape:
        raise InputError(
            f"n_repeats must be a number, (stimuli,) or (voxels, stimuli) for {ncsnr.shape} voxels, "
            f"but its shape is {repeats.shape}; put voxels into rows."
        )
    with np.errstate(invalid="ignore"):  # inf / inf
        return np.where(np.isposinf(ncsnr), 1.0, ncsnr / np.hypot(ncsnr, np.sqrt(noise)))
