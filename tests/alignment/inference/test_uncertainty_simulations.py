"""Whether what is promised holds over many simulated experiments: coverage, uniform p-values, error rates."""

import numpy as np
import pytest
import torch
from scipy import stats

from deepjuice.alignment import compare_rdms, compute_rdm, pearsonr
from deepjuice.alignment.inference.bootstrap import EncodingResampler, GeometryResampler
from deepjuice.alignment.inference.model_comparison import benjamini_hochberg, compare_models
from deepjuice.alignment.inference.resampling import MaxNull, NestedBest, ResamplingPlan, confidence_interval, p_values
from deepjuice.alignment.inference.spread import deflate, over_subjects

pytestmark = pytest.mark.slow


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def near_nominal(n_hits, n_trials, rate=0.95):
    """Within 3.3 binomial standard errors of the rate: by chance missed once in a thousand simulations."""
    return abs(n_hits / n_trials - rate) <= 3.3 * np.sqrt(rate * (1 - rate) / n_trials)


def mean_r(Y, P):
    return pearsonr(Y, P).mean().item()


def covers(interval, truth):
    low, high = interval
    return (low <= truth) & (truth <= high)


@pytest.mark.parametrize(("n", "level"), [(50, 0.0), (50, 0.3), (50, 0.9), (200, 0.3)])
def test_intervals_of_encoding_scores_cover_at_their_rate(n, level):
    rng, n_trials, hits = generator(0), 300, 0
    r = torch.linspace(max(level - 0.05, 0.0), level + 0.05, 12, dtype=torch.float64)
    for trial in range(n_trials):
        plan = ResamplingPlan.draw(n, n_bootstraps=400, n_permutations=0, seed=trial)
        common_p, common_e = normal(rng, 2, n, 1)  # voxels are not independent of each other
        P, E = (0.7 * common + 0.51**0.5 * normal(rng, n, 12) for common in (common_p, common_e))
        Y = r * P + (1 - r.square()).sqrt() * E
        resamples = EncodingResampler(plan, Y, [torch.arange(12)]).bootstrap(P)
        hits += int(covers(confidence_interval(resamples, df=n - 1), r.mean()))
    assert near_nominal(hits, n_trials), hits / n_trials


def rsa_experiment(rng, n, signal, weights):
    latent = normal(rng, n, len(weights[0]))
    responses = signal * latent @ weights[1] + 2 * normal(rng, n, weights[1].shape[1])
    return compute_rdm(latent @ weights[0]), compute_rdm(responses)


@pytest.mark.parametrize(
    ("n", "signal", "comparison"),
    [(40, 0.0, "pearson"), (120, 0.0, "pearson"), (40, 1.0, "pearson"), (120, 1.0, "pearson"), (40, 1.0, "spearman")],
)
def test_intervals_of_rsa_scores_cover_at_their_rate_once_deflated(n, signal, comparison):
    n_trials, n_bootstraps = (200, 250) if comparison == "pearson" else (150, 150)
    rng = generator(1)
    weights = normal(rng, 8, 60), normal(rng, 8, 30)
    large = (rsa_experiment(rng, 1200, signal, weights) for _ in range(8))
    truth = np.mean([compare_rdms(a, b, comparison) for a, b in large])
    plain = deflated = 0
    for trial in range(n_trials):
        model, brain = rsa_experiment(rng, n, signal, weights)
        plan = ResamplingPlan.draw(n, n_bootstraps=n_bootstraps, n_permutations=0, seed=trial)
        resampler = GeometryResampler(plan, brain, comparison)
        resamples, jackknife = resampler.bootstrap(model), resampler.jackknife(model)
        plain += int(covers(confidence_interval(resamples), truth))
        deflated += int(covers(confidence_interval(deflate(resamples, jackknife), df=n - 1), truth))
    assert near_nominal(deflated, n_trials), deflated / n_trials
    if signal == 0:
        assert plain >= 0.985 * n_trials  # why resamples are deflated


@pytest.mark.parametrize(("n_subjects", "spread", "n"), [(6, 0.2, 100), (6, 0.03, 100), (8, 0.1, 50)])
def test_intervals_over_subjects_and_stimuli_cover_other_subjects(n_subjects, spread, n):
    rng, n_trials, hits = generator(2), 300, 0
    places = {"regions": torch.zeros(n_subjects, dtype=torch.int64), "subjects": torch.arange(n_subjects)}
    cells = list(torch.arange(n_subjects)[:, None])
    for trial in range(n_trials):
        plan = ResamplingPlan.draw(n, n_subjects, n_bootstraps=400, n_permutations=0, seed=trial)
        r = (0.4 + spread * normal(rng, n_subjects)).clamp(-0.95, 0.95)
        P, E = (0.7 * normal(rng, n, 1) + 0.51**0.5 * normal(rng, n, n_subjects) for _ in range(2))
        Y = r * P + (1 - r.square()).sqrt() * E
        resampler = EncodingResampler(plan, Y, cells)
        observed = pearsonr(Y, P)
        means = over_subjects(resampler.bootstrap(P), observed, plan=plan, **places)
        hits += int(covers(confidence_interval(means.resamples, df=means.df), 0.4)[0])
    assert near_nominal(hits, n_trials), hits / n_trials


def test_p_values_are_uniform_and_the_family_is_wrong_at_its_rate_under_the_null():
    rng, n_trials, n = generator(3), 500, 30
    single, corrected = {"encoding": [], "rsa": []}, {"encoding": [], "rsa": []}
    for trial in range(n_trials):
        plan = ResamplingPlan.draw(n, n_bootstraps=2, n_permutations=99, seed=trial)
        Y = normal(rng, n, 4)
        cells, brain = [torch.arange(4)], compute_rdm(Y)
        encoding, geometry = EncodingResampler(plan, Y, cells), GeometryResampler(plan, brain)
        shared = normal(rng, n, 4)  # layers resemble each other
        layers = [0.7 * shared + 0.7 * normal(rng, n, 4) for _ in range(6)]
        for name in single:
            maximum, observed = MaxNull(), []
            for layer in layers:
                null = encoding.permute(layer) if name == "encoding" else geometry.permute(compute_rdm(layer))
                observed.append(mean_r(Y, layer) if name == "encoding" else compare_rdms(compute_rdm(layer), brain))
                maximum.update(null)
            observed = torch.tensor(observed)[:, None]
            single[name].append(p_values(observed[-1], null).item())
            corrected[name].append(maximum.p_values(observed).min().item())
    for name in single:
        # p takes the values 1 / 100 .. 1, so uniform noise within a step makes it continuous.
        p = np.array(single[name]) - np.random.default_rng(0).random(n_trials) / 100
        assert stats.kstest(p, "uniform").pvalue > 1e-3, name
        smallest = np.array(corrected[name]) - np.random.default_rng(1).random(n_trials) / 100
        assert stats.kstest(smallest, "uniform").pvalue > 1e-3, name
        n_wrong = sum(p <= 0.05 for p in corrected[name])
        assert near_nominal(n_wrong, n_trials, 0.05), (name, n_wrong)


def test_the_best_layer_of_noise_is_about_zero_and_its_interval_covers_where_the_naive_best_does_not():
    rng, n_trials, n, n_layers = generator(4), 150, 60, 15
    nested_scores, naive_scores, hits, naive_hits = [], [], 0, 0
    for trial in range(n_trials):
        plans = [ResamplingPlan.draw(n, n_bootstraps=200, n_permutations=0, seed=trial, stream=s) for s in (0, 1)]
        Y = normal(rng, 2, n, 3)
        resamplers = [EncodingResampler(plan, y, [torch.arange(3)]) for plan, y in zip(plans, Y, strict=True)]
        best, choice, naive, scores = NestedBest(), NestedBest(), [], []
        for _ in range(n_layers):
            P = normal(rng, 2, n, 3)
            observed = [torch.tensor([[mean_r(y, p)]]) for y, p in zip(Y, P, strict=True)]
            choice.update(*observed)
            resamples = [resampler.bootstrap(p) for resampler, p in zip(resamplers, P, strict=True)]
            best.update(*resamples)
            scores.append(observed[1].item())
            naive.append(resamples[1])
        nested_scores.append(choice.resamples.item())
        naive_scores.append(max(scores))
        hits += int(covers(confidence_interval(best.resamples, df=n - 1), 0.0))
        naive_hits += int(covers(confidence_interval(naive[int(np.argmax(scores))], df=n - 1), 0.0))
    assert abs(np.mean(nested_scores)) < 3.3 * np.std(nested_scores) / np.sqrt(n_trials)
    assert np.mean(naive_scores) > 0.1
    assert hits >= 0.95 * n_trials - 3.3 * np.sqrt(n_trials * 0.95 * 0.05)
    assert naive_hits < 0.8 * n_trials


def test_paired_comparisons_of_equal_models_are_wrong_at_their_rate():
    rng, n_trials, n = generator(5), 400, 60
    wrong = {"encoding": 0, "rsa": 0}
    weights = normal(rng, 6, 20)
    for trial in range(n_trials):
        plan = ResamplingPlan.draw(n, n_bootstraps=200, n_permutations=0, seed=trial)
        latent = normal(rng, n, 6)
        Y = latent @ weights + 3 * normal(rng, n, 20)
        models = [latent @ weights + 3 * normal(rng, n, 20) for _ in range(2)]
        encoding = EncodingResampler(plan, Y, [torch.arange(20)])
        observed = torch.tensor([[mean_r(Y, m)] for m in models])
        resamples = torch.stack([encoding.bootstrap(m) for m in models])
        wrong["encoding"] += int(compare_models(observed, resamples, df=n - 1).p < 0.05)
        rdms = [compute_rdm(m) for m in models]
        geometry = GeometryResampler(plan, compute_rdm(Y))
        observed = torch.tensor([[compare_rdms(rdm, compute_rdm(Y))] for rdm in rdms])
        resamples, jackknife = (
            torch.stack([method(rdm) for rdm in rdms]) for method in (geometry.bootstrap, geometry.jackknife)
        )
        wrong["rsa"] += int(compare_models(observed, resamples, jackknife, df=n - 1).p < 0.05)
    for name, count in wrong.items():
        assert near_nominal(count, n_trials, 0.05), (name, count / n_trials)


def test_false_discoveries_are_as_many_as_allowed():
    rng, shares = np.random.default_rng(6), []
    for _ in range(2000):
        real = np.arange(40) < 10
        p = stats.norm.sf(rng.normal(size=40) + 3 * real)
        called = benjamini_hochberg(p).numpy() <= 0.1
        shares.append((called & ~real).sum() / max(called.sum(), 1))
    expected = 0.1 * 30 / 40  # Benjamini and Hochberg's theorem for independent tests
    assert abs(np.mean(shares) - expected) < 3.3 * np.std(shares) / np.sqrt(2000)
