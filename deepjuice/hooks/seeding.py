"""One seed for all random numbers of a script."""

from __future__ import annotations

import random

import numpy as np
import torch

from juicyfruits.errors import InputError


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed the global generators of torch (all devices), Python and NumPy.

    For scripts and lessons; the functions of this package take generators or seeds of their own.

    Args:
        seed: from 0 to 2^32 - 1, which all three take.
        deterministic: whether torch shall use deterministic algorithms only, and refuse what has none, from now on;
            False turns that off again.

    Raises InputError for any other seed.

    >>> set_seed(1)
    >>> first = torch.rand(2)
    >>> set_seed(1)
    >>> bool((torch.rand(2) == first).all())
    True
    """
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise InputError(f"seed {seed!r}: expected an integer from 0 to 2^32 - 1.")
    if deterministic != torch.are_deterministic_algorithms_enabled():  # setting it loads torch's compiler: seconds
        torch.use_deterministic_algorithms(deterministic)
    torch.manual_seed(int(seed))
    random.seed(int(seed))
    np.random.seed(int(seed))
