"""Folds for cross-validation, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import GroupKFold

from juicyfruits.errors import InputError, first_names

Split = dict[str, np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]

DEFAULT_FOLDS = 5
"""Folds of a `CVIndexer` that is given without their number, as many as scikit-learn's."""


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


def as_splits(cv: Any, n: int, groups: ArrayLike | None = None) -> list[Pair]:
    """Turn whatever describes a cross-validation of n rows into checked pairs of (train, test) rows, int64.

    Args:
        cv: one of
            - a number k: the k shuffled folds of `CVIndexer(n, random_state=0)`, since stimuli often come in order of
              category; with `groups`, scikit-learn's GroupKFold(k);
            - a `CVIndexer`: its `kfold_split(5)`, all iterations one after the other;
            - what `CVIndexer.kfold_split` returns, or one of its dictionaries `{fold: {'train', 'test'}}`;
            - a splitter of scikit-learn (KFold, LeaveOneGroupOut, ShuffleSplit ...);
            - pairs (train, test) of row numbers or of masks.
        n: number of rows (stimuli).
        groups: (n,) labels of rows that belong together, of any type. Whatever `cv` is, no group may then be on both
            sides of a split.

    Raises:
        InputError: for rows out of range, an empty side, a row on both sides or twice in a test set, a group on both
            sides, groups that a splitter needs and does not get, and anything else that is no cross-validation.

    >>> [test.tolist() for train, test in as_splits([([0, 1], [2]), ([1, 2], [0])], n=3)]
    [[2], [0]]
    >>> len(as_splits(5, n=20)), len(as_splits(CVIndexer(20, iterations=2, random_state=1).kfold_split(4), n=20))
    (5, 8)
    """
    groups = None if groups is None else _checked_groups(groups, n)
    splits = [
        (_rows(train, n, f"train of split {i}"), _rows(test, n, f"test of split {i}"))
        for i, (train, test) in enumerate(_pairs(cv, n, groups))
    ]
    if not splits:
        raise InputError("cv must hold at least one split, but there is none; give a number of folds.")
    for i, (train, test) in enumerate(splits):
        _check_sides(train, test, i)
        shared = [] if groups is None else np.intersect1d(groups[train], groups[test])
        if len(shared):
            raise InputError(
                f"Split {i} must keep each group on one side, but {first_names(shared)} are in train and test; "
                "split by GroupKFold or LeaveOneGroupOut."
            )
    return splits


def fold_labels(splits: Sequence[Pair], n: int) -> np.ndarray:
    """Return the fold in which each of n rows is tested, (n,) int64: the other way to write folds that cut the rows.

    Raises InputError unless every row is tested once and all rows that are not tested train.

    >>> fold_labels(as_splits([([0, 1], [2]), ([2], [0, 1])], n=3), n=3)
    array([1, 1, 0])
    """
    labels = np.full(n, -1, dtype=np.int64)
    tests = np.bincount(np.concatenate([test for _, test in splits]), minlength=n)
    for fold, (train, test) in enumerate(splits):
        labels[test] = fold
        if (tests != 1).any() or not np.array_equal(np.sort(train), np.flatnonzero(~np.isin(np.arange(n), test))):
            raise InputError(
                "The folds must test every row once and train on all others, but they do not; split by a number."
            )
    return labels


def _pairs(cv: Any, n: int, groups: np.ndarray | None) -> Iterator[tuple[Any, Any]]:
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        cv = GroupKFold(int(cv)) if groups is not None and cv >= 2 else CVIndexer(n, random_state=0).kfold_split(cv)
    elif isinstance(cv, CVIndexer):
        if cv.n != n:
            raise InputError(
                f"The CVIndexer must be one of {n} rows, but it is of {cv.n}; make one of the rows at hand."
            )
        cv = cv.kfold_split(DEFAULT_FOLDS)
    if hasattr(cv, "get_n_splits"):
        yield from _splitter_pairs(cv, n, groups)
    else:
        yield from _given_pairs(cv)


def _splitter_pairs(cv: Any, n: int, groups: np.ndarray | None) -> list[Pair]:
    try:
        return list(cv.split(np.zeros((n, 1)), groups=groups))
    except (ValueError, TypeError) as error:
        hint = "give groups, one label a row" if groups is None else "choose other folds or groups"
        raise InputError(f"{cv} cannot split {n} rows ({error}); {hint}.") from error


def _given_pairs(cv: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(cv, Mapping):
        if {"train", "test"} <= set(cv):
            yield cv["train"], cv["test"]
            return
        cv = cv.values()
    elif not isinstance(cv, Iterable) or isinstance(cv, (str, bytes)):
        raise InputError(
            f"cv must be a number of folds, a splitter or pairs (train, test), but {cv!r} came; see as_splits."
        )
    for item in cv:
        if isinstance(item, Mapping):
            yield from _given_pairs(item)
        elif isinstance(item, Sequence) and len(item) == 2:
            yield item[0], item[1]
        else:
            raise InputError(f"cv must hold pairs (train, test), but it holds a {type(item).__name__}; see as_splits.")


def _rows(rows: ArrayLike, n: int, name: str) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.dtype == bool and rows.shape == (n,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or len(rows) == 0 or rows.dtype.kind not in "iu":
        raise InputError(
            f"The {name} must be numbers of rows, one at least, but {rows.shape} of {rows.dtype} came; "
            "give row numbers or a mask of all rows."
        )
    if rows.min() < 0 or rows.max() >= n:
        raise InputError(
            f"The {name} must be rows 0 to {n - 1}, but {rows.min()} to {rows.max()} came; split the rows at hand."
        )
    return rows.astype(np.int64)


def _check_sides(train: np.ndarray, test: np.ndarray, i: int) -> None:
    shared = np.intersect1d(train, test)
    if len(shared):
        raise InputError(
            f"Split {i} must not test what it trains on, but {len(shared)} rows are on both sides; part them."
        )
    if len(np.unique(test)) < len(test):
        raise InputError(f"Split {i} must test a row once, but rows are repeated in its test set; keep one of each.")


def _checked_groups(groups: ArrayLike, n: int) -> np.ndarray:
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise InputError(f"groups must be one label for each of {n} rows, but its shape is {groups.shape}; align them.")
    if pd.isna(groups).any():
        n_missing = int(pd.isna(groups).sum())
        raise InputError(f"groups must label every row, but {n_missing} of {n} are missing; label or leave them out.")
    return groups
