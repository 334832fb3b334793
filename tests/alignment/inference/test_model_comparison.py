"""Paired differences and the false discovery rate against scipy and a plain loop."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from deepjuice.alignment.inference.model_comparison import benjamini_hochberg, compare_models, paired_test
from deepjuice.alignment.inference.resampling import confidence_interval
from deepjuice.alignment.inference.spread import deflate
from juicyfruits.errors import InputError


@pytest.mark.parametrize("df", [math.inf, 7, torch.tensor([5.0, 9.0, 99.0])])
def test_a_paired_test_is_a_t_test_with_the_standard_error_of_the_resamples(df):
    rng = np.random.default_rng(0)
    difference = np.array([0.1, -0.3, 0.0])
    resamples = difference + 0.2 * rng.normal(size=(400, 3))
    test = paired_test(torch.from_numpy(difference), torch.from_numpy(resamples), 0.9, df)
    expected = 2 * stats.t.cdf(-np.abs(difference) / resamples.std(axis=0), df)
    np.testing.assert_allclose(test.p, expected)
    low, high = confidence_interval(torch.from_numpy(resamples), 0.9, df)
    assert torch.equal(test.low, low) and torch.equal(test.high, high)
    assert test.p[2] == 1 and torch.equal(test.difference, torch.from_numpy(difference))


def test_models_that_never_differ_and_those_that_are_undefined():
    difference, resamples = torch.tensor([0.0, torch.nan, 0.3, 0.3]), torch.full((50, 4), 0.3)
    resamples[:, 0], resamples[:20, 3] = 0.0, torch.nan
    p = paired_test(difference, resamples).p
    assert p[:3].nan_to_num(nan=-1).tolist() == [1, -1, 0] and p[3].isnan()


@pytest.mark.parametrize("with_jackknife", [False, True])
def test_every_pair_of_models_is_compared_and_corrected_together(with_jackknife):
    rng = np.random.default_rng(1)
    observed = torch.from_numpy(0.3 + 0.1 * rng.normal(size=(4, 2)))
    shared = 0.1 * torch.from_numpy(rng.normal(size=(300, 2)))
    resamples = observed[:, None] + shared + 0.05 * torch.from_numpy(rng.normal(size=(4, 300, 2)))
    jackknife = observed[:, None] + 0.005 * torch.from_numpy(rng.normal(size=(4, 40, 2)))
    ours = compare_models(observed, resamples, jackknife if with_jackknife else None, df=39)
    assert list(zip(ours.first.tolist(), ours.second.tolist(), strict=True)) == [
        (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)
    ]  # fmt: skip
    for i, (a, b) in enumerate(zip(ours.first, ours.second, strict=True)):
        differences = resamples[a] - resamples[b]
        if with_jackknife:
            differences = deflate(differences, jackknife[a] - jackknife[b])
        test = paired_test(observed[a] - observed[b], differences, df=39)
        for name in ("difference", "low", "high", "p"):
            assert torch.equal(getattr(ours, name)[i], getattr(test, name))
    assert torch.equal(ours.q, benjamini_hochberg(ours.p)) and (ours.q >= ours.p).all()


def by_hand(p):
    """Step up through the sorted p-values, as the paper says it."""
    m, q = len(p), np.empty(len(p))
    for i in range(m):
        q[i] = min(1.0, min(m * p[j] / (p <= p[j]).sum() for j in range(m) if p[j] >= p[i]))
    return q


@pytest.mark.parametrize("n", [1, 2, 30])
def test_benjamini_hochberg_by_hand(n):
    rng = np.random.default_rng(n)
    p = np.round(rng.random(n) ** 3, 2)  # with ties
    np.testing.assert_allclose(benjamini_hochberg(p), by_hand(p))
    with_holes = np.insert(p, [0, n], np.nan)
    ours = benjamini_hochberg(torch.from_numpy(with_holes).reshape(1, -1)).flatten()
    np.testing.assert_allclose(ours, np.insert(by_hand(p), [0, n], np.nan))
    assert benjamini_hochberg(torch.full((3,), torch.nan)).isnan().all()


def test_bad_input_is_told():
    with pytest.raises(InputError, match=r"must lie in 0 \.\. 1, but -0.1 to 0.5 came"):
        benjamini_hochberg([0.5, -0.1, math.nan])
    with pytest.raises(InputError, match="2 models or more, but 1 and 1 came"):
        compare_models(torch.zeros(1, 2), torch.zeros(1, 10, 2))
    with pytest.raises(InputError, match="but 2 and 3 came"):
        compare_models(torch.zeros(2, 2), torch.zeros(3, 10, 2))


def test_arrays_are_compared_as_tensors_are_and_shapes_must_fit():
    rng = np.random.default_rng(0)
    scores, resamples = rng.normal(size=(3, 2)), rng.normal(size=(3, 50, 2))
    expected = compare_models(torch.from_numpy(scores), torch.from_numpy(resamples))
    for kind in (np.asarray, np.ndarray.tolist):
        assert torch.equal(compare_models(kind(scores), kind(resamples)).q, expected.q)
    assert torch.equal(benjamini_hochberg([0.1, 0.2]), torch.tensor([0.2, 0.2], dtype=torch.float64))
    with pytest.raises(InputError, match=r"but \(50,\) and \(2,\) came"):
        paired_test(scores[0], resamples[0, :, 0])
    with pytest.raises(InputError, match="jackknife must be of all 3 models, but of 1"):
        compare_models(scores, resamples, resamples[:1])
