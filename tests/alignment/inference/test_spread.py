"""Deflated resamples and means over subjects against plain numpy."""

import math

import numpy as np
import pytest
import torch

from deepjuice.alignment.inference.resampling import ResamplingPlan
from deepjuice.alignment.inference.spread import deflate, over_subjects
from juicyfruits.errors import InputError


@pytest.mark.parametrize(("spread", "case"), [(0.085, "between"), (0.3, "half"), (0.01, "whole")])
def test_deflated_resamples_have_the_variance_asked_for_and_nothing_else_changed(spread, case):
    rng = np.random.default_rng(0)
    resamples, jackknife = 0.5 + spread * rng.gamma(2, size=(500, 3)), rng.normal(size=(60, 3))
    jackknife = 0.5 + 0.014 * jackknife / jackknife.std(axis=0)
    ours = deflate(torch.from_numpy(resamples), torch.from_numpy(jackknife)).numpy()
    left_out = 59 / 60 * ((jackknife - jackknife.mean(axis=0)) ** 2).sum(axis=0)
    plain = 2 * left_out - resamples.var(axis=0)
    expected = np.clip(plain, left_out / 2, left_out)
    assert {"between": (expected == plain), "half": expected == left_out / 2, "whole": expected == left_out}[case].all()
    np.testing.assert_allclose(ours.var(axis=0), expected)
    np.testing.assert_allclose(ours.mean(axis=0), resamples.mean(axis=0))
    np.testing.assert_allclose(ours - ours.mean(0), (resamples - resamples.mean(0)) * ours.std(0) / resamples.std(0))


def test_deflating_passes_by_resamples_that_are_undefined_or_all_the_same():
    resamples, jackknife = torch.randn(100, 2), 0.1 * torch.randn(30, 2)
    resamples[3, 0], resamples[:, 1] = torch.nan, 0.4
    ours = deflate(resamples, jackknife)
    assert ours[:, 0].isnan().sum() == 1
    np.testing.assert_allclose(ours[:, 1], 0.4, rtol=1e-6)
    with pytest.raises(InputError, match=r"\(2,\) and \(1,\) came"):
        deflate(resamples, jackknife[:, :1])


def test_arrays_are_as_good_as_tensors_and_places_are_checked():
    plan = ResamplingPlan.draw(30, n_subjects=6, n_bootstraps=50)
    resamples, observed = torch.rand(50, 6), torch.rand(6)
    ours = over_subjects(resamples, observed, torch.zeros(6, dtype=torch.long), torch.arange(6), plan)
    same = over_subjects(resamples.numpy(), observed.numpy(), [0] * 6, list(range(6)), plan)
    assert torch.equal(ours.resamples, same.resamples) and torch.equal(ours.observed, same.observed)
    assert torch.equal(deflate(resamples.numpy(), resamples[:9].numpy()), deflate(resamples, resamples[:9]))
    for regions, subjects, words in (
        ([0] * 5, range(6), "must agree"),
        ([0] * 6, range(1, 7), "from 0 to 5"),
        ([-1] * 6, range(6), "from 0 to 5"),
    ):
        with pytest.raises(InputError, match=words):
            over_subjects(resamples, observed, regions, list(subjects), plan)


def cells(n_subjects, shared=0.05, single=0.02, n_bootstraps=300):
    """Region 0 of all subjects, region 1 of the first two, region 2 of all but the first; in no order."""
    places = [(0, s) for s in range(n_subjects)] + [(1, 0), (1, 1)] + [(2, s) for s in range(1, n_subjects)]
    rng = np.random.default_rng(n_subjects)
    places = [places[i] for i in rng.permutation(len(places))]
    observed = 0.4 + 0.1 * rng.normal(size=len(places))
    resamples = (
        observed + shared * rng.normal(size=(n_bootstraps, 1)) + single * rng.normal(size=(n_bootstraps, len(places)))
    )
    regions, subjects = torch.tensor(places).T
    return torch.from_numpy(resamples), torch.from_numpy(observed), regions, subjects


@pytest.mark.parametrize(("n_subjects", "over"), [(1, None), (5, None), (8, "stimuli")])
def test_few_subjects_are_averaged_and_not_resampled(n_subjects, over):
    resamples, observed, regions, subjects = cells(max(n_subjects, 2))
    plan = ResamplingPlan.draw(30, max(n_subjects, 2), n_bootstraps=300, over=over)
    means = over_subjects(resamples, observed, regions, subjects, plan)
    for region in range(3):
        np.testing.assert_allclose(means.resamples[:, region], resamples[:, regions == region].mean(dim=1))
        np.testing.assert_allclose(means.observed[region], observed[regions == region].mean())
    assert not means.with_subjects.any() and (means.df == 29).all()


# Without noise of single subjects, and with nothing else, the variance comes to lie at one of its bounds in some.
@pytest.mark.parametrize(
    ("n_subjects", "shared", "single"),
    [(6, 0.05, 0.02), (7, 0.05, 0.02)] + [(n, *noise) for n in range(6, 12) for noise in ((0.05, 0.0), (0.0, 0.05))],
)
def test_from_six_subjects_up_both_are_resampled_and_the_excess_is_taken_away(n_subjects, shared, single):
    resamples, observed, regions, subjects = cells(n_subjects, shared, single)
    plan = ResamplingPlan.draw(30, n_subjects, n_bootstraps=300)
    means = over_subjects(resamples, observed, regions, subjects, plan)
    assert means.with_subjects.tolist() == [True, False, n_subjects > 6]
    for region in range(3):
        here = regions == region
        weights, scores = plan.subject_counts.numpy()[:, subjects[here]], observed[here].numpy()
        by_stimuli = resamples[:, here].numpy().mean(axis=1)
        if not means.with_subjects[region]:
            np.testing.assert_allclose(means.resamples[:, region], by_stimuli)
            continue
        together = np.array(
            [np.average(r[w > 0], weights=w[w > 0]) for r, w in zip(resamples[:, here].numpy(), weights, strict=True)]
        )
        by_subjects = np.array([np.average(scores, weights=w) for w in weights])
        v_stimuli, v_subjects, v_both = by_stimuli.var(), by_subjects.var(), together.var()
        variance = np.clip(2 * (v_stimuli + v_subjects) - v_both, max(v_stimuli, v_subjects), v_both)
        expected = together.mean() + (together - together.mean()) * math.sqrt(variance / v_both)
        np.testing.assert_allclose(means.resamples[:, region], expected)
        n_here = int(here.sum())
        assert means.df[region].item() == pytest.approx(min((n_here - 1) * (variance / v_subjects) ** 2, 29))


def test_subjects_only():
    _, observed, regions, subjects = cells(6)
    plan = ResamplingPlan.draw(30, 6, n_bootstraps=300, over="subjects")
    means = over_subjects(observed.expand(300, -1), observed, regions, subjects, plan)
    here = regions == 0
    weights = plan.subject_counts[:, subjects[here]].double()
    np.testing.assert_allclose(means.resamples[:, 0], (weights @ observed[here]) / 5)
    assert means.df[0].item() == pytest.approx(5)
    # s^2 / n without bias, since five of six are drawn
    assert means.resamples[:, 0].var().item() == pytest.approx(observed[here].var().item() / 6, rel=0.25)


def test_a_subject_without_a_score_is_left_out():
    resamples, observed, regions, subjects = cells(7)
    plan = ResamplingPlan.draw(30, 7, n_bootstraps=300)
    at = int(torch.nonzero((regions == 0) & (subjects == 3)))
    observed[at], resamples[:, at] = torch.nan, torch.nan
    means = over_subjects(resamples, observed, regions, subjects, plan)
    keep = torch.arange(len(observed)) != at
    without = over_subjects(resamples[:, keep], observed[keep], regions[keep], subjects[keep], plan)
    np.testing.assert_allclose(means.resamples, without.resamples)
    np.testing.assert_allclose(means.df, without.df)
    assert torch.equal(means.with_subjects, without.with_subjects)
