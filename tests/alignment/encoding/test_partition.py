"""Variance partitioning on data whose parts are known, and against sums written out."""

import numpy as np
import pytest
import torch
from himalaya.scoring import r2_score_split
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepjuice.alignment import TorchRidgeGCV, compute_score
from deepjuice.alignment.encoding.banded import BandedRidge
from deepjuice.alignment.encoding.crossval import cross_val_score
from deepjuice.alignment.encoding.partition import split_explained_variance, variance_partition
from juicyfruits.errors import InputError
from tests.alignment.simulation import ALPHAS

FOLDS = KFold(5, shuffle=True, random_state=0)


def known(n=600, seed=0):
    """Spaces a and b of their own, with 2 columns in common; targets: half a and half b, the common, a alone, noise."""
    rng = np.random.default_rng(seed)
    own_a, own_b, both = (rng.normal(size=(n, p)) for p in (3, 3, 2))
    spaces = {"a": np.concatenate([own_a, both], 1), "b": np.concatenate([own_b, both], 1)}
    noise = rng.normal(size=(n, 4))
    Y = np.stack([own_a[:, 0] + own_b[:, 0], both[:, 0], 2 * own_a[:, 1], 0 * noise[:, 0]], 1)
    return spaces, Y + noise * [np.sqrt(2), 1, 1, 1]


@pytest.mark.parametrize("encoder", [None, BandedRidge(n_random=2)], ids=["ridge", "banded"])
def test_known_parts_are_found(encoder):
    spaces, Y = known()
    partition = variance_partition(spaces, Y, FOLDS, encoder=encoder)
    table = torch.stack([partition.parts[key] for key in [("a",), ("b",), ("a", "b")]]).numpy()
    expected = np.array([[0.25, 0.25, 0.0], [0.0, 0.0, 0.5], [0.8, 0.0, 0.0], [0.0, 0.0, 0.0]]).T
    np.testing.assert_allclose(table, expected, atol=0.06)


def test_parts_of_three_spaces_are_the_sums_of_the_textbook():
    rng = np.random.default_rng(1)
    base = rng.normal(size=(80, 9))
    spaces = {"a": base[:, :4], "b": base[:, 2:7], "c": base[:, 5:]}
    Y = base @ rng.normal(size=(9, 3)) + rng.normal(size=(80, 3)) * 2
    r2, parts = variance_partition(spaces, Y, FOLDS, encoder=TorchRidgeGCV(ALPHAS))
    for names, ours in r2.items():
        X = np.concatenate([spaces[name] for name in names], 1)
        folds = []
        for train, test in FOLDS.split(X):
            model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS, alpha_per_target=True)).fit(X[train], Y[train])
            folds.append(compute_score(Y[test], model.predict(X[test]), "r2"))
        torch.testing.assert_close(ours, torch.stack(folds).mean(dim=0), rtol=1e-7, atol=1e-7)
    r = {"".join(names): values for names, values in r2.items()}
    written_out = {
        "a": r["abc"] - r["bc"],
        "b": r["abc"] - r["ac"],
        "c": r["abc"] - r["ab"],
        "ab": r["ac"] + r["bc"] - r["abc"] - r["c"],
        "ac": r["ab"] + r["bc"] - r["abc"] - r["b"],
        "bc": r["ab"] + r["ac"] - r["abc"] - r["a"],
        "abc": r["abc"] + r["a"] + r["b"] + r["c"] - r["ab"] - r["ac"] - r["bc"],
    }
    assert ["".join(names) for names in parts] == list(written_out)
    for names, part in parts.items():
        torch.testing.assert_close(part, written_out["".join(names)], rtol=0, atol=1e-12)
    for names, together in r2.items():
        touching = sum(part for subset, part in parts.items() if set(subset) & set(names))
        torch.testing.assert_close(touching, together, rtol=0, atol=1e-12)


def test_all_subsets_see_the_same_splits():
    spaces, Y = known(60)
    r2, _ = variance_partition({"a": spaces["a"], "again": spaces["a"]}, Y[:, 0], ShuffleSplit(3))
    torch.testing.assert_close(r2["a",], r2["again",], rtol=0, atol=0)
    assert r2["a",].ndim == 0
    groups = np.arange(60) // 2
    grouped, _ = variance_partition({"a": spaces["a"]}, Y, 4, groups)
    torch.testing.assert_close(grouped["a",], cross_val_score(spaces["a"], Y, 4, groups, scoring="r2").mean(dim=0))


def test_split_scores_are_himalayas_and_sum_to_the_whole():
    rng = np.random.default_rng(2)
    y = rng.normal(size=(30, 4)) + 10
    parts = {name: 0.4 * y + rng.normal(size=(30, 4)) + shift for name, shift in (("a", 0), ("b", -5), ("c", 2))}
    ours = split_explained_variance(y, parts)
    centred = np.stack([part - part.mean(axis=0) for part in parts.values()])
    theirs = r2_score_split(y - y.mean(axis=0), centred)
    np.testing.assert_allclose(torch.stack(list(ours.values())), theirs, rtol=1e-9, atol=1e-9)
    total = compute_score(y, sum(parts.values()), "explained_variance")
    torch.testing.assert_close(sum(ours.values()), total, rtol=1e-9, atol=1e-9)
    one = split_explained_variance(y[:, 1], {name: part[:, 1] for name, part in parts.items()})
    for name, share in one.items():
        torch.testing.assert_close(share, ours[name][1], rtol=1e-12, atol=1e-12)
    y[:, 2] = 0.1
    assert split_explained_variance(y, parts)["a"].isnan().tolist() == [False, False, True, False]


def test_alike_spaces_halve_their_share():
    rng = np.random.default_rng(3)
    y = rng.normal(size=50)
    shares = split_explained_variance(y.astype(np.float32), {"a": y / 2, "b": y / 2})
    assert shares["a"].item() == pytest.approx(0.5, abs=1e-6) and shares["b"].item() == pytest.approx(0.5, abs=1e-6)


def test_what_cannot_be_done_is_refused():
    spaces, Y = known(60)
    with pytest.raises(InputError, match=r"the targets' shape \(60, 4\), but {'a': \(60, 5\)} came"):
        split_explained_variance(Y, {"a": spaces["a"]})
    with pytest.raises(InputError, match="none came"):
        variance_partition({}, Y)
    with pytest.raises(InputError, match="they have 60 and 59"):
        variance_partition(spaces, Y[1:])
