import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from deepjuice.splits import CVIndexer
from juicyfruits.errors import InputError


@pytest.mark.parametrize(("n", "kfolds"), [(2, 2), (10, 5), (11, 4), (160, 7), (5, 5)])
def test_folds_are_scikit_learns_on_the_shuffled_rows(n, kfolds):
    iterations = CVIndexer(n, iterations=3, random_state=4).kfold_split(kfolds)
    assert len(iterations) == 3
    rng = np.random.default_rng(4)
    for folds in iterations:
        order = rng.permutation(n)
        assert list(folds) == list(range(kfolds))
        for split, (train, test) in zip(folds.values(), KFold(kfolds).split(order), strict=True):
            np.testing.assert_array_equal(split["train"], np.sort(order[train]))
            np.testing.assert_array_equal(split["test"], np.sort(order[test]))
            assert split["train"].dtype == split["test"].dtype == np.int64


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_tested_once(seed):
    for folds in CVIndexer(23, iterations=2, random_state=seed).kfold_split(5):
        assert sorted(np.concatenate([split["test"] for split in folds.values()])) == list(range(23))
        sizes = [len(split["test"]) for split in folds.values()]
        assert max(sizes) - min(sizes) <= 1
        for split in folds.values():
            assert sorted([*split["train"], *split["test"]]) == list(range(23))


def rows_of(folds):
    return [split["test"].tolist() for iteration in folds for split in iteration.values()]


def test_the_seed_alone_decides():
    indexer = CVIndexer(40, iterations=3, random_state=1)
    first = rows_of(indexer.kfold_split(4))
    np.random.seed(5)
    assert rows_of(indexer.kfold_split(4)) == first == rows_of(CVIndexer(40, 3, 1).kfold_split(4))
    assert rows_of(CVIndexer(40, 3, 2).kfold_split(4)) != first
    assert first[:4] != first[4:8] != first[8:]
    assert rows_of(CVIndexer(40).kfold_split(4)) != rows_of(CVIndexer(40).kfold_split(4))


def test_the_global_generator_is_neither_used_nor_moved():
    np.random.seed(5)
    before = np.random.get_state()[1:3]
    CVIndexer(40).kfold_split(4)
    CVIndexer(40, random_state=0).kfold_split(4)
    after = np.random.get_state()[1:3]
    assert np.array_equal(before[0], after[0]) and before[1] == after[1]


def test_rows_index_tensors():
    split = CVIndexer(6, random_state=0).kfold_split(3)[0][0]
    x = torch.arange(6) * 10
    assert x[split["test"]].tolist() == (split["test"] * 10).tolist()


def test_impossible_splits_are_refused():
    for arguments in [(1,), (0,), (5, 0)]:
        with pytest.raises(InputError, match="expected at least 2 rows and 1 iteration"):
            CVIndexer(*arguments)
    for kfolds in (0, 1, 6):
        with pytest.raises(InputError, match=f"kfolds={kfolds} of 5 rows: expected 2 to 5"):
            CVIndexer(5).kfold_split(kfolds)
