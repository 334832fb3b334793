"""The ceiling of a score is what a perfect model reaches in a simulation whose truth is known."""

import numpy as np
import pytest
import torch
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs
from rsatoolbox.util.matrix import get_v
from scipy.stats import rankdata

from deepjuice.alignment import compute_rdm, noise_ceiling_r, pearsonr
from deepjuice.alignment.geometry.rdm_compare import COMPARISONS, compare_rdm_to_many, compare_rdms
from deepjuice.alignment.inference.ceilings import rdm_ceilings, split_half_ceiling
from juicyfruits.errors import InputError
from juicyfruits.ncsnr import estimate_ncsnr


def simulate(n_stimuli, n_repeats, ncsnr=(0.2, 0.5, 1.0, 2.0), seed=0):
    """Signals (neuroid, stimulus) and responses with noise of SD 1; `n_repeats` a number, or one a stimulus."""
    rng = np.random.default_rng(seed)
    repeats = np.broadcast_to(n_repeats, n_stimuli)
    signal = rng.normal(size=(len(ncsnr), n_stimuli)) * np.asarray(ncsnr)[:, None]
    responses = signal[..., None] + rng.normal(size=(*signal.shape, repeats.max()))
    responses[:, np.arange(repeats.max()) >= repeats[:, None]] = np.nan
    return signal, responses


@pytest.mark.parametrize("repeats", [np.full(20_000, 3), np.tile([1, 2, 3, 6], 5_000)], ids=["equal", "unequal"])
def test_the_truth_reaches_its_ceiling(repeats):
    rng = np.random.default_rng(0)
    ncsnr = np.array([0.2, 0.5, 1.0, 2.0])
    signal = rng.normal(size=(20_000, 4)) * ncsnr
    measured = signal + rng.normal(size=signal.shape) / np.sqrt(repeats)[:, None]
    np.testing.assert_allclose(noise_ceiling_r(ncsnr, repeats), pearsonr(measured, signal), atol=0.01)


def test_known_values():
    np.testing.assert_allclose(noise_ceiling_r([0.0, 1.0, np.nan], 1), [0.0, np.sqrt(0.5), np.nan])
    per_voxel = noise_ceiling_r([1.0, 1.0], [[1, 1, 1], [3, 3, 3]])
    np.testing.assert_allclose(per_voxel, np.sqrt([1 / 2, 3 / 4]))
    np.testing.assert_allclose(noise_ceiling_r([1.0], [1, 2]), np.sqrt(1 / 1.75))


@pytest.mark.filterwarnings("error")
def test_a_voxel_without_noise_can_be_predicted_perfectly():
    np.testing.assert_array_equal(noise_ceiling_r([np.inf, 0.0, np.nan], 1), [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(noise_ceiling_r([np.inf], [[1, 3]]), [1.0])


def test_bad_input_is_named():
    with pytest.raises(InputError, match="2 values are not"):
        noise_ceiling_r([0.1, -0.1, -np.inf], 3)
    with pytest.raises(InputError, match="2 of 3 entries"):
        noise_ceiling_r([0.1], [[0, 3, np.nan]])
    with pytest.raises(InputError, match=r"for \(2,\) voxels"):
        noise_ceiling_r([0.1, 0.1], np.ones((3, 5)))


REPEATS = {"two": 2, "three": 3, "five": 5, "six": 6, "unequal": [1, 2, 3, 6], "mostly one": [1, 1, 4, 1]}


@pytest.mark.parametrize("repeats", REPEATS.values(), ids=REPEATS)
def test_the_truth_reaches_the_split_half_ceiling(repeats):
    """And so the two roads to a ceiling, from halves and from the ncsnr, meet: on average over 100 neuroids a ncsnr."""
    n = np.resize(repeats, 4000)
    signal, responses = simulate(4000, n, np.repeat([0.4, 0.7, 1.0, 2.0], 100))

    def mean(ceiling):
        return np.asarray(ceiling).reshape(4, 100).mean(axis=1)

    ceiling = mean(split_half_ceiling(responses, n_splits=3))
    np.testing.assert_allclose(ceiling, mean(pearsonr(np.nanmean(responses, axis=2).T, signal.T)), atol=0.01)
    np.testing.assert_allclose(ceiling, noise_ceiling_r([0.4, 0.7, 1.0, 2.0], n), atol=0.01)
    np.testing.assert_allclose(ceiling, mean(noise_ceiling_r(estimate_ncsnr(responses), n)), atol=0.01)


@pytest.mark.parametrize(("n_stimuli", "bias"), [(50, 0.054), (200, 0.012), (1000, 0.002)])
def test_the_bias_at_few_stimuli_is_as_documented(n_stimuli, bias):
    _, responses = simulate(n_stimuli, 2, np.full(1500, 0.5))
    mean = split_half_ceiling(responses, n_splits=4).mean()
    assert noise_ceiling_r([0.5], 2)[0] - mean == pytest.approx(bias, abs=0.008)


def split_half_by_loop(responses, n_splits, seed):
    """The same draws, everything else by plain loops and numpy's corrcoef."""
    n_neuroids, n_stimuli, n_repeats = responses.shape
    ceilings = np.empty(n_neuroids)
    for v, neuroid in enumerate(responses):
        rng, correlations = np.random.default_rng(seed), []
        for _ in range(n_splits):
            keys, odd_ones = rng.random((n_stimuli, n_repeats)), rng.integers(0, 2, n_stimuli)
            halves = []
            for i in range(n_stimuli):
                order = [r for r in np.argsort(keys[i]) if not np.isnan(neuroid[i, r])]
                size = (len(order) + odd_ones[i]) // 2
                if len(order) >= 2:
                    halves.append([neuroid[i, order[:size]].mean(), neuroid[i, order[size:]].mean()])
            correlations.append(np.corrcoef(np.transpose(halves))[0, 1])
        r = max(0, np.mean(correlations))
        counts = [k for k in np.sum(~np.isnan(neuroid), axis=1) if k]
        noise = {2: 1.0, 3: 0.75, 4: 0.5, 5: 5 / 12}  # of half means, in units of one trial's
        m = np.mean([noise[k] for k in counts if k > 1]) / np.mean([1 / k for k in counts])
        ceilings[v] = np.sqrt(m * r / (1 + (m - 1) * r))
    return ceilings


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_split_half_is_the_plain_loop(dtype, scale):
    rng = np.random.default_rng(3)
    _, responses = simulate(25, rng.integers(1, 6, 25), np.full(9, 0.7))
    responses[rng.random(responses.shape) < 0.2] = np.nan  # every neuroid lacks others, some stimuli altogether
    assert np.isnan(responses).all(axis=2).any()
    responses = (responses * scale).astype(dtype)
    expected = split_half_by_loop(responses.astype(float), 7, seed=5)
    assert len(set(expected)) > 5
    np.testing.assert_allclose(split_half_ceiling(responses, 7, seed=5), expected, rtol=1e-10)


def test_even_and_equal_repeats_are_spearman_brown():
    _, responses = simulate(40, 2, [1.0])
    order = np.random.default_rng(0).random((40, 2)).argsort(axis=1)
    r = np.corrcoef(np.take_along_axis(responses[0], order, axis=1).T)[0, 1]
    np.testing.assert_allclose(split_half_ceiling(responses, 1), [np.sqrt(2 * r / (1 + r))], rtol=1e-12)


@pytest.mark.parametrize("neuroids", [1, 2, 3])
def test_blocks_and_seeds(monkeypatch, neuroids):
    _, responses = simulate(30, 3, np.full(7, 0.8))
    whole = split_half_ceiling(responses, 5)
    assert not torch.equal(whole, split_half_ceiling(responses, 5, seed=1))
    monkeypatch.setattr(
        "deepjuice.alignment.inference.ceilings.blocks",
        lambda n, _: (slice(i, i + neuroids) for i in range(0, n, neuroids)),
    )
    torch.testing.assert_close(split_half_ceiling(responses, 5), whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(split_half_ceiling(torch.from_numpy(responses), 5), whole, rtol=1e-12, atol=0)
    assert split_half_ceiling(responses[:0]).shape == (0,)


@pytest.mark.filterwarnings("error")
def test_undefined_and_perfect_neuroids(tmp_path):
    signal, responses = simulate(12, 3, np.ones(8))
    responses[0] = signal[0][:, None]  # no noise
    responses[1] = 0.1  # constant
    responses[2, 2:, 1:] = np.nan  # two stimuli with repeats
    responses[3, 3:, 1:] = np.nan  # three
    responses[4] = responses[4] - responses[4].mean(axis=1, keepdims=True)  # repeats contradict each other
    responses[5] = np.nan
    responses[6, 1:] = 4.0  # constant but for one stimulus
    responses[6, 0] = [4.0, 4.0, 5.0]
    np.save(tmp_path / "responses.npy", responses)
    for same in (responses, responses.astype(np.float32), np.load(tmp_path / "responses.npy", mmap_mode="r")):
        ceiling = split_half_ceiling(same, 20).numpy()
        np.testing.assert_array_equal(np.isnan(ceiling), [False, True, True, False, False, True, False, False])
        assert ceiling[0] == pytest.approx(1, abs=1e-7) and ceiling[4] == 0 and ceiling[6] == 0
    assert split_half_ceiling(responses[:, :, :1]).isnan().all()
    integers = (10 * np.nan_to_num(responses[6:])).astype(np.int64)
    np.testing.assert_array_equal(split_half_ceiling(integers), split_half_ceiling(integers.astype(float)))


def test_bad_responses_are_named():
    _, responses = simulate(12, 3)
    with pytest.raises(InputError, match=r"\(neuroid, stimulus, repetition\), but their shape is \(4, 12\)"):
        split_half_ceiling(responses[:, :, 0])
    with pytest.raises(InputError, match="n_splits=0"):
        split_half_ceiling(responses, 0)
    responses[1, 2, 0] = -np.inf
    with pytest.raises(InputError, match="infinite"):
        split_half_ceiling(responses)


def subjects(k=5, n=20, noise=1.0, seed=0, scales=True):
    """A true RDM and the RDMs of subjects, whose patterns are the true ones and noise, each at a scale of its own."""
    rng = np.random.default_rng(seed)
    truth = compute_rdm(rng.normal(size=(n, 4)) @ rng.normal(size=(4, 30)))
    off = torch.from_numpy(rng.normal(scale=noise * truth.std().item(), size=(k, n, n)))
    rdms = truth + (off + off.mT) / 2
    if scales:
        rdms = rdms * torch.from_numpy(rng.uniform(0.1, 10, (k, 1, 1)))
    return truth, rdms


RSATOOLBOX = {
    "pearson": "corr",
    "spearman": "spearman",
    "rho_a": "rho-a",
    "kendall_tau_a": "tau-a",
    "cosine": "cosine",
}
every_comparison = pytest.mark.parametrize("comparison", COMPARISONS)


@pytest.mark.parametrize(("comparison", "theirs"), RSATOOLBOX.items())
def test_rdm_ceilings_are_those_of_rsatoolbox(comparison, theirs):
    _, rdms = subjects(n=12)
    rdms[:, 3, 4] = rdms[:, 4, 3] = rdms[:, 0, 1]  # ties
    pairs = RDMs(rdms[:, *np.triu_indices(12, 1)].numpy())
    lower, upper = rdm_ceilings(rdms, comparison)
    np.testing.assert_allclose([lower.mean(), upper.mean()], boot_noise_ceiling(pairs, theirs), rtol=1e-12)


def standardised(comparison, pairs):
    if comparison == "pearson":
        return (pairs - pairs.mean()) / pairs.std()
    if comparison == "cosine":
        return pairs / np.sqrt((pairs**2).sum())
    if "whitened" in comparison:  # rsatoolbox pools so too, but by an iteration that ends 3e-4 off
        centred = pairs - pairs.mean() if comparison == "whitened_pearson" else pairs
        return centred / np.sqrt(centred @ np.linalg.solve(get_v(9, None).toarray(), centred))
    return pairs if comparison == "concordance" else rankdata(pairs)


@every_comparison
@pytest.mark.parametrize("k", [2, 3, 6])
def test_rdm_ceilings_are_the_plain_loop(comparison, k):
    """Every subject's own, where rsatoolbox tells the means only."""
    _, rdms = subjects(k, n=9)
    above = np.triu_indices(9, 1)

    def mean_rdm(chosen):
        mean = np.zeros((9, 9))
        mean[above] = np.mean([standardised(comparison, rdms[s].numpy()[above]) for s in chosen], axis=0)
        return mean + mean.T

    lower, upper = rdm_ceilings(rdms, comparison)
    for s in range(k):
        others = [t for t in range(k) if t != s]
        assert lower[s].item() == pytest.approx(compare_rdms(mean_rdm(others), rdms[s], comparison), rel=1e-12)
        assert upper[s].item() == pytest.approx(compare_rdms(mean_rdm(range(k)), rdms[s], comparison), rel=1e-12)


@every_comparison
@pytest.mark.parametrize("k", [3, 8])
def test_the_true_rdm_is_between_the_bounds(comparison, k):
    for seed in range(10):
        truth, rdms = subjects(k, n=20, seed=seed, scales=comparison != "concordance")
        reached = compare_rdm_to_many(truth, rdms, comparison).mean()
        lower, upper = rdm_ceilings(rdms, comparison)
        assert lower.mean() < reached < upper.mean()


@pytest.mark.parametrize("comparison", [c for c in COMPARISONS if c not in ("kendall_tau_a", "concordance")])
def test_no_rdm_beats_the_mean_of_all(comparison):
    """Not random ones, none of the subjects', nor their plain mean."""
    _, rdms = subjects(4, n=8, noise=2.0)
    upper = rdm_ceilings(rdms, comparison)[1].mean()
    generator = torch.Generator().manual_seed(0)
    for rdm in [*rdms, rdms.mean(dim=0), *torch.rand((200, 8, 8), generator=generator)]:
        assert compare_rdm_to_many(rdm, rdms, comparison).mean() <= upper + 1e-12


@pytest.mark.parametrize("comparison", [c for c in COMPARISONS if c != "concordance"])
def test_rdm_ceilings_do_not_see_what_the_comparison_does_not(comparison):
    _, rdms = subjects(4, n=12)
    scales = torch.tensor([1e-9, 1.0, 3.0, 1e9], dtype=torch.float64)[:, None, None]
    for bound, scaled in zip(rdm_ceilings(rdms, comparison), rdm_ceilings(rdms * scales, comparison), strict=True):
        torch.testing.assert_close(bound, scaled, rtol=1e-9, atol=0)


@every_comparison
def test_subjects_who_agree_have_a_ceiling_of_one(comparison):
    for bound in rdm_ceilings(subjects(1)[1].repeat(3, 1, 1), comparison):
        torch.testing.assert_close(bound, torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)


@every_comparison
def test_rdm_ceilings_undefined_for_one_are_for_all(comparison):
    _, rdms = subjects(4)
    undefined = rdms.clone(), rdms.clone(), rdms[:1], rdms[:0]
    undefined[0][1, 2, 3] = torch.nan
    undefined[1][2] = 0.0 if "cosine" in comparison else 0.1
    for case in undefined:
        for bound in rdm_ceilings(case, comparison):
            assert bound.shape == (len(case),) and bound.isnan().all()


def test_bad_rdms_are_named():
    _, rdms = subjects(4)
    with pytest.raises(InputError, match="did you mean 'spearman'"):
        rdm_ceilings(rdms, "spearmann")
    with pytest.raises(InputError, match=r"\(subject, n, n\), but their shape is \(20, 20\)"):
        rdm_ceilings(rdms[0])


def test_responses_of_other_kinds():
    responses = np.random.default_rng(0).normal(size=(2, 6, 3))
    expected = split_half_ceiling(responses, n_splits=3)
    for kind in (lambda r: r.astype(">f8"), np.ndarray.tolist, torch.from_numpy, lambda r: r[::-1].copy()[::-1]):
        assert torch.equal(split_half_ceiling(kind(responses), n_splits=3), expected)
    with pytest.raises(InputError, match="complex"):
        split_half_ceiling(responses + 0j)
    with pytest.raises(InputError, match="The responses must be numbers"):
        split_half_ceiling(responses.astype(str))
    for number in (1.5, None):
        with pytest.raises(InputError, match="n_splits="):
            split_half_ceiling(responses, n_splits=number)
    with pytest.raises(InputError, match="0 of 0 entries"):
        noise_ceiling_r([1.0], [])
