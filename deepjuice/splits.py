"""Folds for cross-validation, the same for the same seed."""

from __future__ import annotations

import numpy as np

from juicyfruits.errors import InputError

Split = dict[str, np.ndarray]


class CVIndexer:
    """Rows of shuffled folds, repeated with another shuffle in every iteration.

    Args:
        n: number of rows (stimuli).
        iterations: how often all rows are shuffled and split.
        random_state: seed of a generator of its own, which makes every call give the same folds; `None` for other
            folds at every call.

    Raises:
        InputError: for fewer than 2 rows or no iteration.

    >>> folds = CVIndexer(5, iterations=2, random_state=0).kfold_split(2)
    >>> len(folds), [len(split["test"]) for split in folds[0].values()]
    (2, [3, 2])
    """

    def __init__(self, n: int, iterations: int = 1, random_state: int | None = None):
        if n < 2 or iterations < 1:
            raise InputError(f"CVIndexer(n={n}, iterations={iterations}): expected at least 2 rows and 1 iteration.")
        self.n, self.iterations, self.random_state = n, iterations, random_state

    def kfold_split(self, kfolds: int) -> list[dict[int, Split]]:
        """Return, for every iteration, fold -> {'train': rows, 'test': rows}.

        Every row is in the test set of exactly one fold, whose sizes differ by at most one, the larger ones first.
        Folds count from 0, rows are int64 and ascend. Raises InputError unless 2 <= kfolds <= n.
        """
        if not 2 <= kfolds <= self.n:
            raise InputError(f"kfolds={kfolds} of {self.n} rows: expected 2 to {self.n} folds; give another number.")
        rng = np.random.default_rng(self.random_state)
        return [self._split(rng.permutation(self.n), kfolds) for _ in range(self.iterations)]

    def _split(self, order: np.ndarray, kfolds: int) -> dict[int, Split]:
        rows = np.arange(self.n)
        tests = [np.sort(test) for test in np.array_split(order, kfolds)]
        return {fold: {"train": np.setdiff1d(rows, test), "test": test} for fold, test in enumerate(tests)}
