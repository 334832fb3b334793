"""Resampled and shuffled scores against loops that really repeat rows and drop the pairs of a stimulus with itself."""

import numpy as np
import pytest
import torch
from scipy import stats

from deepjuice.alignment.inference import bootstrap, rdm_moments, rdm_ranks, rdm_shuffles
from deepjuice.alignment.inference.bootstrap import EncodingResampler, GeometryResampler
from deepjuice.alignment.inference.resampling import ResamplingPlan, p_values
from juicyfruits.errors import InputError
from tests import oracles

COMPARISONS = {
    "pearson": lambda a, b: stats.pearsonr(a, b).statistic,
    "spearman": lambda a, b: stats.spearmanr(a, b).statistic,
    "cosine": lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b)),
    "concordance": oracles.concordance,
}
CELLS = [torch.tensor([0, 1, 2]), torch.tensor([4, 2, 6]), torch.arange(7), torch.tensor([5])]


def plan_for(n, n_bootstraps=15, n_permutations=9, seed=0):
    return ResamplingPlan.draw(n, n_bootstraps=n_bootstraps, n_permutations=n_permutations, seed=seed)


def taken(counts):
    return np.repeat(np.arange(len(counts)), counts)


def mean_r(y, p, cells):
    """Each cell's mean r, rows as they come; constant responses have none, constant predictions 0."""

    def r(y, p):
        if np.ptp(y) == 0:
            return np.nan
        return 0.0 if np.ptp(p) == 0 else stats.pearsonr(y, p).statistic

    y, p = y.astype(np.float64), p.astype(np.float64)
    return [np.nanmean([r(y[:, v], p[:, v]) for v in cell.tolist()]) for cell in cells]


def responses_and_predictions(n, dtype=np.float64, offset=0.0):
    rng = np.random.default_rng(n)
    scale = np.array([1e-6, 1, 1, 1e6, 30, 1, 1])
    Y = rng.normal(size=(n, 7)) * scale
    P = 0.5 * Y + scale * rng.normal(size=(n, 7))
    Y[1], P[1] = Y[0], P[0]  # a stimulus shown twice
    return (Y + offset * scale).astype(dtype), (P - offset * scale).astype(dtype)


@pytest.mark.parametrize("n", [4, 5, 6, 31])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore::scipy.stats.NearConstantInputWarning")
def test_encoding_equals_scores_of_repeated_rows(n, dtype):
    Y, P = responses_and_predictions(n, dtype)
    plan = plan_for(n)
    ours = EncodingResampler(plan, torch.from_numpy(Y), CELLS).bootstrap(torch.from_numpy(P))
    assert ours.dtype == torch.float64
    for counts, row in zip(plan.counts.numpy(), ours, strict=True):
        expected = mean_r(Y[taken(counts)], P[taken(counts)], CELLS)
        np.testing.assert_allclose(row, expected, atol=1e-10)


@pytest.mark.parametrize("n", [4, 31])
def test_encoding_equals_scores_of_shuffled_rows(n):
    Y, P = responses_and_predictions(n)
    plan = plan_for(n, n_permutations=300)  # more than one piece
    ours = EncodingResampler(plan, Y, CELLS).permute(P)
    for permutation, row in list(zip(plan.permutations.numpy(), ours, strict=True))[::11]:
        np.testing.assert_allclose(row, mean_r(Y, P[permutation], CELLS), atol=1e-10)


def test_encoding_loses_no_digits_to_an_offset():
    Y, P = responses_and_predictions(31, offset=1e4)
    plan = plan_for(31)
    ours = EncodingResampler(plan, Y, CELLS).bootstrap(P)
    expected = [mean_r(Y[taken(c)], P[taken(c)], CELLS) for c in plan.counts.numpy()]
    np.testing.assert_allclose(ours, expected, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_constants_follow_the_rules_of_scores(value, dtype):
    Y, P = responses_and_predictions(12, dtype)
    Y[:, 0], P[:, 1] = value, value
    Y[2:, 2] = value  # constant in resamples without the first two
    P[2:, 6] = value
    Y[:, 5] = value  # a cell on its own
    plan = plan_for(12, 60)
    resampler = EncodingResampler(plan, Y, CELLS)
    ours = resampler.bootstrap(P)
    expected = np.array([mean_r(Y[taken(c)], P[taken(c)], CELLS) for c in plan.counts.numpy()])
    constant_in_some = [(np.ptp(Y[taken(c)][:, 2]) == 0, np.ptp(P[taken(c)][:, 6]) == 0) for c in plan.counts.numpy()]
    assert np.any(constant_in_some, axis=0).all()
    np.testing.assert_allclose(ours, expected, atol=1e-10)
    shuffled = [mean_r(Y, P[permutation], CELLS) for permutation in plan.permutations.numpy()]
    np.testing.assert_allclose(resampler.permute(P), shuffled, atol=1e-10)
    assert ours[:, 3].isnan().all() and not ours[:, :3].isnan().any()


def test_rounding_of_the_data_counts_as_constant_in_a_resample():
    Y, P = responses_and_predictions(12, np.float32)
    Y[2:, 5] = np.float32(1000.1)
    Y[4::3, 5] = np.nextafter(np.float32(1000.1), np.float32(2000))
    plan = plan_for(12, 60)
    without_first = (plan.counts[:, :2] == 0).all(dim=1)
    ours = EncodingResampler(plan, Y, CELLS[3:]).bootstrap(P)[:, 0]
    assert 3 < without_first.sum() < 57
    assert torch.equal(ours.isnan(), without_first)
    Y[:2, 5] = np.float32(1000.15)  # so little that rounding is no small part of what is left
    ours = EncodingResampler(plan, Y, CELLS[3:]).bootstrap(P)[:, 0]
    assert torch.equal(ours.isnan(), without_first)
    ours = EncodingResampler(plan, P, CELLS[3:]).bootstrap(Y)[:, 0]
    assert torch.equal(ours == 0, without_first)


@pytest.mark.parametrize("block_bytes", [1, 7000, 12345])
@pytest.mark.parametrize("keep_bytes", [0, bootstrap.KEEP_BYTES])
def test_neither_blocks_nor_what_is_kept_change_scores(monkeypatch, block_bytes, keep_bytes):
    Y, P = responses_and_predictions(20)
    plan = plan_for(20)
    whole = EncodingResampler(plan, Y, CELLS).bootstrap(P)
    rdms = symmetric(4, 20)
    geometry = [whole_geometry(plan, rdms, name) for name in COMPARISONS]
    monkeypatch.setattr(rdm_moments, "FEW", 0)
    use_blocks_of(monkeypatch, block_bytes)
    resampler = EncodingResampler(plan, Y, CELLS, keep_bytes)
    np.testing.assert_allclose(resampler.bootstrap(P), whole, atol=1e-13)
    np.testing.assert_allclose(resampler.bootstrap(P), whole, atol=1e-13)  # a second layer
    for name, before in zip(COMPARISONS, geometry, strict=True):
        for ours, expected in zip(whole_geometry(plan, rdms, name, keep_bytes), before, strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-6)


def use_blocks_of(monkeypatch, block_bytes):
    from deepjuice.alignment import linalg

    for module in (bootstrap, rdm_moments, rdm_ranks, rdm_shuffles):
        monkeypatch.setattr(module, "blocks", lambda n, each, *_: linalg.blocks(n, each, block_bytes))


def whole_geometry(plan, rdms, comparison, keep_bytes=bootstrap.KEEP_BYTES):
    resampler = GeometryResampler(plan, rdms[1:], comparison, keep_bytes)
    methods = (resampler.bootstrap, resampler.jackknife, resampler.permute)
    return [method(model) for method in methods for model in (rdms[0], rdms[:3])]


def symmetric(k, n, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    common = rng.random((1, n, n))
    rdms = 1 + common + rng.random((k, n, n)) if levels is None else rng.integers(0, levels, (k, n, n))
    rdms = np.triu(rdms, 1)
    return (rdms + rdms.transpose(0, 2, 1)).astype(np.float64)


def over_pairs(function, a, b, index):
    """Compare the RDMs of stimuli that are really there as often as they were drawn."""
    i, j = np.triu_indices(len(index), 1)
    i, j = index[i], index[j]
    apart = i != j
    x, y = a[i, j][apart].astype(np.float64), b[i, j][apart].astype(np.float64)
    return function(x, y)


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("n", [4, 7, 24])
@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("each_its_own", [False, True])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("few", [0, 16])
def test_geometry_equals_comparisons_of_repeated_stimuli(comparison, n, levels, each_its_own, exact, few, monkeypatch):
    monkeypatch.setattr(rdm_moments, "FEW", few)
    if exact:
        monkeypatch.setattr(rdm_moments, "SAFE_SHARE", np.inf)
        monkeypatch.setattr(rdm_ranks, "EXACT_IN_FLOAT32", 0)
    rdms = symmetric(4, n, levels=levels)
    brain, models = rdms[1:], rdms[:3] if each_its_own else rdms[:1].repeat(3, axis=0)
    plan = plan_for(n)
    resampler = GeometryResampler(plan, torch.from_numpy(brain), comparison)
    model = torch.from_numpy(models if each_its_own else models[0])
    samples = [taken(counts) for counts in plan.counts.numpy()]
    left_out = [np.delete(np.arange(n), i) for i in range(n)]
    for ours, indices in ((resampler.bootstrap(model), samples), (resampler.jackknife(model), left_out)):
        for index, row in zip(indices, ours, strict=True):
            expected = [over_pairs(COMPARISONS[comparison], a, b, index) for a, b in zip(models, brain, strict=True)]
            np.testing.assert_allclose(row, expected, atol=1e-10 if exact else 1e-6)


def test_ranks_within_resamples_where_some_rdms_have_ties():
    rdms = np.concatenate([symmetric(2, 12), symmetric(2, 12, levels=4)])
    plan = plan_for(12)
    for model in (rdms[0], rdms[2]):
        ours = GeometryResampler(plan, rdms, "spearman").bootstrap(model)
        for counts, row in zip(plan.counts.numpy(), ours, strict=True):
            expected = [over_pairs(COMPARISONS["spearman"], model, brain, taken(counts)) for brain in rdms]
            np.testing.assert_allclose(row, expected, atol=1e-6)


def test_ranks_stand_in_float32_only_where_it_holds_them(monkeypatch):
    rdms, plan = symmetric(3, 40), plan_for(40)

    def scores(largest):
        monkeypatch.setattr(rdm_ranks, "EXACT_IN_FLOAT32", largest)
        return GeometryResampler(plan, rdms[1:], "spearman").bootstrap(rdms[0])

    assert torch.equal(scores(40**2 - 1), scores(0))
    assert not torch.equal(scores(40**2), scores(0))


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("each_its_own", [False, True])
@pytest.mark.parametrize("of_brain", [False, True])
@pytest.mark.parametrize("few", [0, 16])
def test_a_resample_without_the_pair_that_dominates_an_rdm_is_right(
    comparison, each_its_own, of_brain, few, monkeypatch
):
    monkeypatch.setattr(rdm_moments, "FEW", few)
    rdms = symmetric(4, 40)
    rdms[1 if of_brain else 0, [3, 7], [7, 3]] = 3e5  # the other cells keep their variance
    brain, models = rdms[1:], rdms[[0, 2, 3]] if each_its_own else rdms[:1].repeat(3, axis=0)
    plan = plan_for(40, 30)
    ours = GeometryResampler(plan, brain, comparison).bootstrap(models if each_its_own else models[0])
    assert 3 < (plan.counts[:, [3, 7]] == 0).any(dim=1).sum() < 27
    for counts, row in zip(plan.counts.numpy(), ours, strict=True):
        expected = [
            over_pairs(COMPARISONS[comparison], a, b, taken(counts)) for a, b in zip(models, brain, strict=True)
        ]
        np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("each_its_own", [False, True])
@pytest.mark.parametrize("keep_bytes", [0, bootstrap.KEEP_BYTES])
def test_geometry_equals_comparisons_of_shuffled_rdms(comparison, each_its_own, keep_bytes):
    rdms = symmetric(4, 9)
    brain, models = rdms[1:], rdms[:3] if each_its_own else rdms[:1].repeat(3, axis=0)
    plan = plan_for(9)
    resampler = GeometryResampler(plan, brain, comparison, keep_bytes)
    ours = resampler.permute(models if each_its_own else models[0])
    for order, row in zip(plan.permutations.numpy(), ours, strict=True):
        expected = [
            over_pairs(COMPARISONS[comparison], a, b[order][:, order], np.arange(9))
            for a, b in zip(models, brain, strict=True)
        ]
        np.testing.assert_allclose(row, expected, atol=3e-7)  # products in float32


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_geometry_at_any_scale_and_in_float32(comparison, scale):
    rdms = symmetric(3, 12)
    plan = plan_for(12)
    one = GeometryResampler(plan, torch.from_numpy(rdms[1:]), comparison).bootstrap(rdms[0])
    scaled = GeometryResampler(plan, torch.from_numpy(rdms[1:] * scale), comparison).bootstrap(rdms[0] * scale)
    single = GeometryResampler(plan, torch.from_numpy(rdms[1:]).float(), comparison).bootstrap(
        torch.from_numpy(rdms[0]).float()
    )
    np.testing.assert_allclose(scaled, one, atol=1e-6)
    np.testing.assert_allclose(single, one, atol=1e-5)
    assert single.dtype == torch.float64


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("keep_bytes", [0, bootstrap.KEEP_BYTES])
def test_rdms_without_an_answer_are_nan_and_leave_the_others_alone(comparison, keep_bytes):
    rdms = symmetric(4, 10)
    plan = plan_for(10)
    before = whole_geometry(plan, rdms, comparison, keep_bytes)
    rdms[1, 3, 5] = rdms[1, 5, 3] = np.nan
    rdms[2] = 0.7 - 0.7 * np.eye(10)
    constant = comparison != "cosine"
    for ours, expected in list(zip(whole_geometry(plan, rdms, comparison, keep_bytes), before, strict=True))[::2]:
        assert ours[:, 0].isnan().all()
        assert ours[:, 1].isnan().all() == constant
        np.testing.assert_allclose(ours[:, 2], expected[:, 2], atol=1e-6)
    rdms = symmetric(4, 10)
    rdms[0, 0, 1] = rdms[0, 1, 0] = np.inf  # the model's
    assert all(ours.isnan().all() for ours in whole_geometry(plan, rdms, comparison, keep_bytes)[::2])


@pytest.mark.parametrize("comparison", ["pearson", "spearman", "concordance"])
def test_an_rdm_that_does_not_vary_in_a_resample_is_nan_there(comparison):
    rdms = symmetric(2, 8)
    rdms[1, 1:, 1:] = 0.3 * (1 - np.eye(7))  # varies by its first stimulus only
    plan = plan_for(8, 40)
    ours = GeometryResampler(plan, rdms[1:], comparison).bootstrap(rdms[0])[:, 0]
    without_first = plan.counts[:, 0] == 0
    assert 3 < without_first.sum() < 37
    assert torch.equal(ours.isnan(), without_first)


def test_only_the_pairs_above_the_diagonal_are_read():
    rdms = symmetric(4, 10)
    plan = plan_for(10)
    expected = whole_geometry(plan, rdms, "pearson")[::2]
    spoiled = rdms + np.tril(np.random.default_rng(0).random((10, 10)))
    for ours, before in zip(whole_geometry(plan, spoiled, "pearson")[::2], expected, strict=True):
        np.testing.assert_allclose(ours, before, atol=1e-6)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_a_plan_may_hold_no_resamples_or_no_shuffles(comparison):
    Y, P = responses_and_predictions(10)
    plan = plan_for(10, n_bootstraps=0, n_permutations=0)
    encoding, geometry = EncodingResampler(plan, Y, CELLS), GeometryResampler(plan, symmetric(3, 10), comparison)
    assert encoding.bootstrap(P).shape == encoding.permute(P).shape == (0, 4)
    model = symmetric(1, 10)[0]
    assert geometry.bootstrap(model).shape == geometry.permute(model).shape == (0, 3)


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("n", [50, 72, 300])
def test_shuffles_that_change_nothing_tie_with_the_observed_score(comparison, n):
    """One stimulus against the rest: a shuffle changes nothing if, and only if, it leaves that one in its place."""
    odd = torch.arange(n) == 0
    rdm = (odd[:, None] != odd).double()
    plan = ResamplingPlan.draw(n, n_bootstraps=1, n_permutations=1000)
    n_same = int((plan.permutations[:, 0] == 0).sum())
    assert n_same > 1
    both = torch.stack([rdm, rdm])
    for brains, models, keep_bytes in ((rdm, rdm, 0), (both, rdm, 0), (both, both, 0), (both, both, 2**30)):
        null = GeometryResampler(plan, brains, comparison, keep_bytes).permute(models)
        assert (p_values(torch.ones(null.shape[1]), null) == (1 + n_same) / 1001).all()


def test_a_cell_is_a_set_of_columns_by_number_or_by_mask():
    Y, P = responses_and_predictions(10)
    cells = [[0, 1, 2], [2, 0, 1, 1, 0], np.arange(7) < 3]
    for scores in (
        EncodingResampler(plan_for(10), Y, cells).bootstrap(P),
        EncodingResampler(plan_for(10), Y, cells).permute(P),
    ):
        assert torch.equal(scores[:, 0], scores[:, 1]) and torch.equal(scores[:, 0], scores[:, 2])


def test_bad_input_is_told():
    plan = plan_for(10)
    Y, rdms = np.random.default_rng(0).normal(size=(10, 7)), symmetric(3, 10)
    encoding, geometry = EncodingResampler(plan, Y, CELLS), GeometryResampler(plan, rdms)
    for call, words in (
        (lambda: EncodingResampler(plan, Y[:9], CELLS), "plan is for 10 stimuli.* has 9"),
        (lambda: EncodingResampler(plan, Y, [torch.arange(0)]), "one has none"),
        *(
            (lambda cell=cell: EncodingResampler(plan, Y, [cell]), "column numbers from 0 to 6")
            for cell in ([0, -1], [7], [0.0, 1.0], [[0, 1]], [True, False])
        ),
        (lambda: EncodingResampler(plan, Y, [[False] * 7]), "one has none"),
        (lambda: EncodingResampler(plan, np.where(Y > 1, np.nan, Y), CELLS), "NaN"),
        (lambda: encoding.bootstrap(Y[:, :6]), r"\(10, 7\), but \(10, 6\)"),
        (lambda: encoding.permute(np.where(Y > 1, np.nan, Y)), "The predictions .* NaN"),
        (lambda: GeometryResampler(plan, rdms[:, :9, :9]), "plan is for 10 stimuli.* has 9"),
        (lambda: GeometryResampler(plan, rdms, "kendall"), "'kendall' cannot be resampled; known are"),
        (lambda: geometry.bootstrap(rdms[:2]), "one or 3 of 10 .* 2 of 10 came"),
        (lambda: geometry.permute(rdms[:, :9, :9]), "3 of 9 came"),
    ):
        with pytest.raises(InputError, match=words):
            call()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "comparison"), [("corr", "pearson"), ("spearman", "spearman")])
def test_standard_errors_are_those_of_rsatoolbox(method, comparison):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    from rsatoolbox.inference import eval_bootstrap_pattern

    rng = np.random.default_rng(0)
    latent = rng.normal(size=(40, 6))
    X = latent @ rng.normal(size=(6, 30))
    brain, model = (1 - np.corrcoef(X + noise * rng.normal(size=X.shape)) for noise in (2.0, 1.0))
    data = rsatoolbox.rdm.RDMs(brain[None][:, *np.triu_indices(40, 1)])
    fixed = rsatoolbox.model.ModelFixed("model", model[np.triu_indices(40, 1)])
    np.random.seed(0)  # its own draws come from numpy's global state
    theirs = eval_bootstrap_pattern(fixed, data, method=method, N=1500).evaluations[:, 0]
    plan = ResamplingPlan.draw(40, n_bootstraps=1500)
    ours = GeometryResampler(plan, brain, comparison).bootstrap(model)[:, 0].numpy()
    assert ours.std() == pytest.approx(np.nanstd(theirs), rel=0.08)  # 4 standard errors of the ratio
    assert ours.mean() == pytest.approx(np.nanmean(theirs), abs=0.15 * ours.std())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_gpu_gives_the_same_numbers():
    Y, P = responses_and_predictions(30)
    rdms = symmetric(3, 30)
    on_cpu = plan_for(30)
    on_gpu = ResamplingPlan.draw(30, n_bootstraps=15, n_permutations=9, device="cuda")
    assert torch.equal(on_cpu.counts, on_gpu.counts.cpu())
    encoding = [EncodingResampler(on_cpu, torch.tensor(Y, device=d), CELLS) for d in ("cpu", "cuda")]
    for method in ("bootstrap", "permute"):
        ours, theirs = (getattr(r, method)(torch.tensor(P)) for r in encoding)
        np.testing.assert_allclose(ours, theirs.cpu(), atol=1e-10)
    for name in COMPARISONS:
        cpu = whole_geometry(on_cpu, torch.tensor(rdms), name, keep_bytes=0)
        gpu = whole_geometry(on_gpu, torch.tensor(rdms, device="cuda"), name, keep_bytes=0)
        for ours, theirs in zip(cpu, gpu, strict=True):
            np.testing.assert_allclose(ours, theirs.cpu(), atol=1e-6)
