import numpy as np
import pytest
import torch
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

from deepjuice.splits import CVIndexer, as_splits, fold_labels
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


def as_lists(pairs):
    """The rows of every split as lists."""
    return [(list(map(int, train)), list(map(int, test))) for train, test in pairs]


def rows_split(*args):
    """What `as_splits` returns, as lists; always int64 arrays."""
    pairs = as_splits(*args)
    assert {rows.dtype for pair in pairs for rows in pair} == {np.dtype(np.int64)}
    return as_lists(pairs)


GROUPS = np.repeat(list("abcdef"), 4)


@pytest.mark.parametrize(
    ("splitter", "groups"),
    [
        (KFold(4), None),
        (KFold(3, shuffle=True, random_state=1), None),
        (ShuffleSplit(3, test_size=0.2, random_state=0), None),
        (LeaveOneOut(), None),
        (PredefinedSplit(np.arange(24) % 3), None),
        (TimeSeriesSplit(3), None),
        (GroupKFold(3), GROUPS),
        (LeaveOneGroupOut(), GROUPS),
        (GroupShuffleSplit(2, random_state=0), GROUPS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_splitters_split_as_in_scikit_learn(splitter, groups):
    assert rows_split(splitter, 24, groups) == as_lists(list(splitter.split(np.zeros((24, 1)), groups=groups)))


def test_a_number_is_the_indexers_shuffled_folds_and_keeps_groups_together():
    folds = CVIndexer(24, random_state=0).kfold_split(4)[0]
    expected = [(split["train"], split["test"]) for split in folds.values()]
    for k in (4, np.int64(4)):
        assert rows_split(k, 24) == as_lists(expected)
    assert rows_split(3, 24, GROUPS) == as_lists(list(GroupKFold(3).split(GROUPS, groups=GROUPS)))


def test_all_that_the_indexer_gives_is_taken():
    indexer = CVIndexer(23, iterations=2, random_state=3)
    iterations = indexer.kfold_split(5)
    expected = [(split["train"], split["test"]) for folds in iterations for split in folds.values()]
    assert len(expected) == 10
    assert rows_split(indexer, 23) == as_lists(expected)
    assert rows_split(iterations, 23) == as_lists(expected)
    assert rows_split(iterations[1], 23) == as_lists(expected[5:])
    assert rows_split(iterations[1][2], 23) == as_lists(expected[7:8])
    assert rows_split(list(iterations[0].values()), 23) == as_lists(expected[:5])


def test_pairs_may_be_generators_lists_tensors_and_masks():
    expected = [([0, 1, 1], [2]), ([2, 3], [1, 0])]
    assert rows_split(expected, 4) == as_lists(expected)
    assert rows_split(((torch.tensor(a), np.int32(b)) for a, b in expected), 4) == as_lists(expected)
    test = np.array([True, False, False, True])
    assert rows_split([(~test, test)], 4) == as_lists([([1, 2], [0, 3])])


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
@pytest.mark.parametrize(
    ("cv", "groups", "message"),
    [
        ([([0, 1], [1, 2])], None, "1 rows are on both sides"),
        ([([0], [4])], None, "must be rows 0 to 3, but 4 to 4"),
        ([([-1], [0])], None, "must be rows 0 to 3, but -1 to -1"),
        ([([], [0])], None, "train of split 0 must be numbers of rows"),
        ([([0], [1]), ([0], [])], None, "test of split 1 must be numbers of rows"),
        ([([0], np.array([], dtype=int))], None, "test of split 0 must be numbers of rows"),
        ([([0.5], [1])], None, "float64"),
        ([([True, False], [1])], None, "bool"),
        ([([0], [1, 1])], None, "repeated in its test set"),
        ([([0], [1], [2])], None, "holds a tuple"),
        ([3], None, "holds a int"),
        ([], None, "there is none"),
        ("kfold", None, "'kfold' came"),
        (None, None, "None came"),
        (True, None, "True came"),
        (2.0, None, "2.0 came"),
        (1, None, "kfolds=1"),
        (5, None, "kfolds=5"),
        (KFold(5), None, "cannot split 4 rows"),
        (LeaveOneGroupOut(), None, "give groups"),
        (StratifiedKFold(2), None, "cannot split"),
        (CVIndexer(5), None, "must be one of 4 rows, but it is of 5"),
        (KFold(2), [1, 2, 1, 2], "'1', '2' are in train and test"),
        ([([0], [2])], list("abab"), "'a' are in train and test"),
        (GroupKFold(2), [1, 2], "one label for each of 4 rows"),
        (3, list("aabb"), "choose other folds or groups"),
    ],
)
def test_what_is_no_cross_validation_is_refused(cv, groups, message):
    with pytest.raises(InputError, match=message):
        as_splits(cv, 4, groups)


def test_labels_name_the_fold_of_every_row():
    splits = as_splits(CVIndexer(11, random_state=2).kfold_split(3), 11)
    labels = fold_labels(splits, 11)
    for fold, (_, test) in enumerate(splits):
        assert sorted(test) == np.flatnonzero(labels == fold).tolist()
    partial = [(splits[0][0][1:], splits[0][1]), *splits[1:]]
    for wrong in (splits[:2], [*splits, splits[0]], partial, as_splits(TimeSeriesSplit(3), 11)):
        with pytest.raises(InputError, match="test every row once"):
            fold_labels(wrong, 11)


@pytest.mark.parametrize("missing", [np.nan, None])
def test_a_row_without_a_group_is_refused_whatever_splits(missing):
    groups = np.array([missing, "a", "a", "b", missing, "b"], dtype=object)
    with pytest.raises(InputError, match="2 of 6 are missing"):
        as_splits([([0, 1, 2], [3, 4, 5])], 6, groups)
