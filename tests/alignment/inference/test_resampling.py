"""Plans, intervals, p-values, the largest of many and the nested best, against plain loops and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from deepjuice.alignment.inference import resampling
from deepjuice.alignment.inference.resampling import MaxNull, NestedBest, ResamplingPlan, confidence_interval, p_values
from juicyfruits.errors import InputError


def test_a_plan_draws_one_unit_fewer_than_there_are():
    plan = ResamplingPlan.draw(n_stimuli=20, n_subjects=6, n_bootstraps=2000, n_permutations=3000, seed=3)
    assert plan.counts.shape == (2000, 20) and plan.subject_counts.shape == (2000, 6)
    assert (plan.counts.sum(dim=1) == 19).all() and (plan.subject_counts.sum(dim=1) == 5).all()
    assert torch.equal(plan.permutations.sort(dim=1).values, torch.arange(20).expand(3000, 20))
    # Binomial counts and uniform places, tested at .001.
    expected = 2000 * 20 * stats.binom.pmf(range(5), 19, 1 / 20)
    seen = np.bincount(plan.counts.flatten(), minlength=5)[:5]
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-3
    places = torch.bincount(plan.permutations[:, 0], minlength=20)
    assert stats.chisquare(places).pvalue > 1e-3


def test_a_seed_is_a_plan_and_a_stream_has_stimuli_of_its_own_but_the_same_subjects():
    def draw(**changes):
        return ResamplingPlan.draw(**{"n_stimuli": 12, "n_subjects": 7, "n_bootstraps": 30, **changes})

    def same(a, b):
        return [torch.equal(getattr(a, x), getattr(b, x)) for x in ("counts", "permutations", "subject_counts")]

    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    plan = draw()
    assert torch.equal(state[0], torch.get_rng_state()) and np.array_equal(state[1], np.random.get_state()[1])
    assert same(plan, draw()) == [True, True, True]
    assert same(plan, draw(seed=1)) == [False, False, False]
    assert same(plan, draw(stream=1)) == [False, False, True]
    assert same(plan, draw(n_permutations=1000, n_subjects=9)) == [True, True, False]
    # Streams are independent: what a stimulus gets in one says nothing about the other.
    a, b = (draw(n_bootstraps=2000, stream=stream).counts.double() for stream in (0, 1))
    assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 4 / math.sqrt(a.numel())


@pytest.mark.parametrize("n_stimuli", [4, 5])
def test_every_resample_has_three_distinct_stimuli(n_stimuli):
    plan = ResamplingPlan.draw(n_stimuli, n_bootstraps=500, n_permutations=0)
    assert ((plan.counts > 0).sum(dim=1) >= 3).all()
    assert (plan.counts.sum(dim=1) == n_stimuli - 1).all() and plan.permutations.shape == (0, n_stimuli)


@pytest.mark.parametrize(
    ("n_subjects", "over", "stimuli", "subjects"),
    [
        (1, None, True, False),
        (5, None, True, False),
        (6, None, True, True),
        (8, "stimuli", True, False),
        (8, "subjects", False, True),
        (8, "stimuli and subjects", True, True),
    ],
)
def test_what_is_resampled_and_what_is_not(n_subjects, over, stimuli, subjects):
    plan = ResamplingPlan.draw(10, n_subjects, n_bootstraps=20, over=over)
    assert (plan.counts == 1).all() != stimuli
    assert (plan.subject_counts == 1).all() != subjects
    assert plan.over == " and ".join(["stimuli"] * stimuli + ["subjects"] * subjects)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_are_percentiles_widened_by_student(shape, level):
    resamples = np.random.default_rng(0).gamma(2.0, size=(200, *shape))
    tail = (1 - level) / 2
    quantiles = np.quantile(resamples, [tail, 1 - tail], axis=0)
    ours = confidence_interval(torch.from_numpy(resamples), level)
    np.testing.assert_allclose(ours, quantiles, rtol=1e-12)
    df = np.broadcast_to(np.array([5.0, 7.0, math.inf])[: shape[-1] if shape else 1], shape or (1,)).reshape(shape)
    mean = resamples.mean(axis=0)
    expected = mean + (quantiles - mean) * stats.t.ppf(1 - tail, df) / stats.norm.ppf(1 - tail)
    ours = confidence_interval(torch.from_numpy(resamples), level, torch.tensor(df))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    single = confidence_interval(torch.from_numpy(resamples).float(), level, 5)
    assert single[0].dtype == torch.float64 and single[0].shape == shape


def test_resamples_without_a_score_are_left_out_unless_they_are_many():
    resamples = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    resamples[:10, 0] = torch.nan
    resamples[:11, 1] = torch.nan
    low, high = confidence_interval(resamples)
    np.testing.assert_allclose([low[0], high[0]], np.quantile(resamples[10:, 0], [0.025, 0.975]))
    assert low.isnan().tolist() == high.isnan().tolist() == [False, True, False]


def test_wide_tables_of_resamples_go_through_in_blocks(monkeypatch):
    resamples = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    whole = confidence_interval(resamples)
    from deepjuice.alignment import linalg

    monkeypatch.setattr(resampling, "blocks", lambda n, each: linalg.blocks(n, each, 7 * 8 * 50))
    assert torch.equal(torch.stack(confidence_interval(resamples)), torch.stack(whole))


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_p_values_count_null_scores_as_large(shape, dtype):
    rng = np.random.default_rng(0)
    null, observed = rng.integers(0, 12, size=(40, 3)) / 7, rng.integers(0, 12, size=shape) / 7  # with many ties
    expected = (1 + (null[:, None] >= observed.reshape(-1, 3)).sum(axis=0)) / 41
    ours = p_values(torch.tensor(observed, dtype=dtype), torch.tensor(null))
    np.testing.assert_array_equal(ours, expected.reshape(shape))  # to the last bit: p <= .05 must hold for 5 of 100
    assert ours.min() >= 1 / 41


def test_undefined_scores_have_no_p_value():
    null = torch.tensor([[0.1, 0.2, 0.3], [0.1, torch.nan, 0.3]])
    assert p_values(torch.tensor([0.2, 0.2, torch.nan]), null).isnan().tolist() == [False, True, True]


def test_the_largest_null_is_that_of_all_layers_at_once():
    rng = np.random.default_rng(1)
    nulls, observed = torch.from_numpy(rng.normal(size=(6, 50, 4))), torch.from_numpy(rng.normal(size=(6, 4)) + 1)
    nulls[2, :, 1] = torch.nan  # a layer without a score
    nulls[:, :, 3] = torch.nan  # a region without any
    maximum = MaxNull()
    for null in nulls:
        maximum.update(null)
    ours = maximum.p_values(observed)
    largest = np.max(torch.where(nulls.isnan(), -torch.inf, nulls).numpy(), axis=0)
    expected = (1 + (largest[:, None] >= observed.numpy()).sum(axis=0)) / 51
    np.testing.assert_allclose(ours[:, :3], expected[:, :3])
    assert ours[:, 3].isnan().all()
    uncorrected = torch.stack([p_values(o, n) for o, n in zip(observed, nulls, strict=True)])
    assert (ours >= uncorrected)[~uncorrected.isnan()].all()


def test_taking_in_a_layer_leaves_its_null_scores_as_they_were():
    null = torch.zeros(5, 2)
    maximum = MaxNull()
    maximum.update(null)
    maximum.update(torch.ones(5, 2))
    assert (null == 0).all() and (maximum.null == 1).all()


@pytest.mark.parametrize("n_rows", [1, 40])
def test_the_best_layer_is_chosen_on_train_in_every_resample(n_rows):
    rng = np.random.default_rng(2)
    train, test = torch.from_numpy(rng.integers(0, 4, size=(2, 7, n_rows, 5)) / 4)  # with ties
    train[3, :, 2] = torch.nan
    train[0, 0, 1] = torch.nan
    train[:, :, 4] = torch.nan
    best = NestedBest()
    for layer in range(7):
        best.update(train[layer], test[layer])
    assert best.n_layers == 7
    for b in range(n_rows):
        for cell in range(4):
            layer = int(np.nanargmax(train[:, b, cell]))
            assert best.chosen[b, cell] == layer
            assert best.resamples[b, cell] == test[layer, b, cell] and best.train[b, cell] == train[layer, b, cell]
    assert best.resamples[:, 4].isnan().all() and (best.chosen[:, 4] == -1).all()


def test_bad_input_is_told():
    draw = ResamplingPlan.draw
    for call, words in (
        (lambda: draw(20.5), "n_stimuli must be a whole number"),
        (lambda: draw(10, n_bootstraps=-1), "n_bootstraps must be a whole number from 0 up, but -1"),
        (lambda: draw(10, seed=None), "seed must be a whole number"),
        (lambda: draw(3), "needs 4 stimuli or more, but 3 came"),
        (lambda: draw(10, 5, over="subjects"), "from 6 up, but 5 came"),
        (lambda: draw(10, 5, over="stimuli and subjects"), "from 6 up, but 5 came"),
        (lambda: draw(10, over="voxels"), "'voxels', is unknown; known are"),
        (lambda: confidence_interval(torch.zeros(1, 3)), "2 or more"),
        (lambda: confidence_interval(torch.tensor(0.0)), "2 or more"),
        (lambda: confidence_interval(torch.zeros(5), 95), "between 0 and 1, but 95"),
        (lambda: p_values(torch.zeros(2), torch.zeros(5, 3)), r"\(5, 3\) and \(2,\) came"),
        (lambda: p_values("high", torch.zeros(5, 3)), "The scores must be numbers"),
        (lambda: MaxNull().p_values(torch.zeros(1, 1)), "of no layer yet"),
    ):
        with pytest.raises(InputError, match=words):
            call()
