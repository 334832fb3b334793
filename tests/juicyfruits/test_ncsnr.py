import numpy as np
import pytest

from juicyfruits import estimate_ncsnr
from juicyfruits.ncsnr import compare_ncsnr


def simulate(ncsnr, n_stimuli, n_repeats, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((len(ncsnr), n_stimuli, 1))
    return signal + rng.standard_normal((len(ncsnr), n_stimuli, n_repeats)) / ncsnr[:, None, None]


def plain_ncsnr(responses):
    """One neuroid, by loops."""
    rows = [row[~np.isnan(row)] for row in responses]
    rows = [row for row in rows if len(row)]
    noise = np.mean([np.var(row, ddof=1) for row in rows if len(row) > 1])
    signal = np.var([row.mean() for row in rows], ddof=1) - noise * np.mean([1 / len(row) for row in rows])
    return np.sqrt(max(signal, 0) / noise)


def test_recovers_the_truth():
    truth = np.array([0.3, 0.6, 1.0, 1.5])
    np.testing.assert_allclose(estimate_ncsnr(simulate(truth, 20_000, 3)), truth, rtol=0.06)


def test_recovers_the_truth_with_unequal_repeats():
    truth = np.array([0.4, 0.8, 1.2])
    responses = simulate(truth, 20_000, 4)
    n = np.random.default_rng(1).integers(1, 5, responses.shape[1])
    responses[:, np.arange(4) >= n[:, None]] = np.nan
    np.testing.assert_allclose(estimate_ncsnr(responses), truth, rtol=0.06)


def test_equals_loops_in_every_block(monkeypatch):
    monkeypatch.setattr("juicyfruits.ncsnr.BLOCK", 4)
    responses = simulate(np.linspace(0.1, 1.5, 11), 30, 3)
    responses[np.random.default_rng(2).random(responses.shape) < 0.2] = np.nan
    np.testing.assert_allclose(estimate_ncsnr(responses), [plain_ncsnr(r) for r in responses], rtol=1e-10)


def test_pure_noise_is_floored_at_zero():
    noise = np.random.default_rng(0).standard_normal((200, 40, 3))
    estimate = estimate_ncsnr(noise)
    assert (estimate >= 0).all() and (estimate == 0).mean() > 0.3


def test_edges():
    values = np.random.default_rng(0).standard_normal((2, 10, 1))
    assert np.isnan(estimate_ncsnr(values)).all()  # no repeats
    assert np.isinf(estimate_ncsnr(np.repeat(values, 2, axis=2))).all()  # no noise
    assert np.isnan(estimate_ncsnr(np.full((1, 5, 3), np.nan))).all()
    assert estimate_ncsnr(np.empty((0, 5, 3))).shape == (0,)
    with pytest.raises(ValueError, match="neuroid, stimulus, repetition"):
        estimate_ncsnr(values[:, :, 0])


def zscored(truth, n_stimuli, seed=0):
    responses = simulate(truth, n_stimuli, 3, seed)
    return (responses - responses.mean(axis=(1, 2), keepdims=True)) / responses.std(axis=(1, 2), keepdims=True)


def test_equals_loops_with_a_known_total():
    responses = zscored(np.array([0.05, 0.4, 1.0]), 40)
    responses[np.random.default_rng(2).random(responses.shape) < 0.2] = np.nan
    expected = []
    for rows in responses:
        rows = [row[~np.isnan(row)] for row in rows]
        noise = np.mean([np.var(row, ddof=1) for row in rows if len(row) > 1])
        expected.append(np.sqrt(max(1 - noise, 0)) / np.sqrt(noise))
    np.testing.assert_allclose(estimate_ncsnr(responses, total_variance=1.0), expected, rtol=1e-10)


@pytest.mark.parametrize("n_stimuli", [50, 2000])
def test_attenuation_is_that_of_simulated_maps(n_stimuli):
    """The correlation that is expected of a true map is what simulated repeats give."""
    truth = np.random.default_rng(1).uniform(0.3, 1.2, 2000)
    found = compare_ncsnr(truth, estimate_ncsnr(zscored(truth, n_stimuli), 1.0), 2 * n_stimuli)
    assert found["correlation"] == pytest.approx(found["reliability"], abs=0.02)
    assert abs(found["median_difference"]) < 0.03 and found["matches"] is True and found["n_voxels"] == 2000


@pytest.mark.parametrize(
    "change, n, matches",
    [
        (lambda s: s, 400, True),
        (lambda s: s + 0.04, 400, True),
        (lambda s: s + 0.07, 400, False),
        (lambda s: s - 0.07, 400, False),
        (lambda s: s[::-1], 400, False),
        (lambda s: s[::-1], 19, True),  # too few for a correlation
        (lambda s: np.where(s > 0.6, np.nan, s), 400, True),
        (lambda s: 0 * s + 0.75, 400, True),  # no correlation exists
    ],
)
def test_what_counts_as_a_match(change, n, matches):
    shipped = np.linspace(0.3, 1.2, n)
    assert compare_ncsnr(shipped, change(shipped), 20_000)["matches"] is matches


def test_comparisons_without_numbers_say_so():
    nothing = compare_ncsnr(np.array([np.nan]), np.array([0.5]), 0)
    assert nothing == {
        "n_voxels": 0,
        "correlation": None,
        "median_difference": None,
        "reliability": None,
        "matches": True,
    }
    alike = compare_ncsnr(np.full(30, 0.5), np.linspace(0.4, 0.6, 30), 100)
    assert alike["correlation"] is None and alike["n_voxels"] == 30
