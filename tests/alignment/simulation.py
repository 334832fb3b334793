"""Features and targets for the ridge tests."""

import numpy as np

from tests import oracles

ALPHAS = np.logspace(-1, 5, 7)
SHAPES = {"wide": (24, 60), "square": (24, 24), "almost square": (24, 23), "tall": (50, 12), "one feature": (20, 1)}


def simulated(n, p, n_targets=7, seed=0, dtype=np.float64, offset=0.0):
    """Features of many scales and offsets, targets from noiseless to pure noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * rng.uniform(0.2, 5, p) + rng.normal(size=p) * 10
    signal = oracles.scaled(X) @ rng.normal(size=(p, n_targets)) / np.sqrt(p)
    Y = signal + rng.normal(size=(n, n_targets)) * np.linspace(0, 4, n_targets) + offset
    return X.astype(dtype), Y.astype(dtype)
