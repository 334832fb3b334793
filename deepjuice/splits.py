"""How stimuli are divided into those a model is fitted on and those it is tested on."""

from __future__ import annotations

import numpy as np

from juicyfruits.errors import InputError


def even_odd_split(n_stimuli: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide stimuli 0 .. n - 1 into the even ones (train) and the odd ones (test).

    The split of DeepNSD and of Conwell et al. (2024, Nature Communications 15, 9383). Returns two int64 index arrays
    of ceil(n / 2) and floor(n / 2) entries. Raises InputError for fewer than two stimuli.

    >>> even_odd_split(5)
    (array([0, 2, 4]), array([1, 3]))
    """
    if n_stimuli < 2:
        raise InputError(f"A train and a test half need at least 2 stimuli, but {n_stimuli} came; add stimuli.")
    indices = np.arange(n_stimuli)
    return indices[::2], indices[1::2]
