"""Ridge against scikit-learn and against a loop that really leaves one out."""

import numpy as np
import pytest
import torch

from deepjuice.alignment import (
    DEFAULT_ALPHAS,
    choose_alphas,
    compute_score,
    count_at_edges,
    fit_ridge,
    loo_predictions,
    loo_scores,
    project,
    ridge_coefficients,
    ridge_decompose,
    ridge_weights,
    select_alphas,
)
from deepjuice.alignment.linalg import blocks
from juicyfruits.errors import InputError
from tests import oracles
from tests.alignment.simulation import ALPHAS, SHAPES, simulated


def mean_squared_errors(X, Y, fit_intercept=True):
    return np.array([((oracles.leave_one_out(X, Y, a, fit_intercept) - Y) ** 2).mean(0) for a in ALPHAS])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_leave_one_out_is_the_loop(shape, fit_intercept, scale):
    X, Y = simulated(*shape, offset=1000.0)
    reference = oracles.scaled(X) if scale else X
    dec = ridge_decompose(torch.tensor(X), scale=scale, fit_intercept=fit_intercept)
    for alpha in (0.1, 30.0, 1e5):
        ours = loo_predictions(dec, torch.tensor(Y), alpha).numpy()
        np.testing.assert_allclose(
            ours, oracles.leave_one_out(reference, Y, alpha, fit_intercept), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_selection_is_by_the_loops_squared_error(shape, fit_intercept):
    X, Y = simulated(*shape)
    errors = mean_squared_errors(oracles.scaled(X), Y, fit_intercept)
    dec = ridge_decompose(torch.tensor(X), fit_intercept=fit_intercept)
    chosen = select_alphas(dec, torch.tensor(Y), ALPHAS, keep_scores=True)
    np.testing.assert_allclose(-chosen.scores, errors, rtol=1e-8)
    np.testing.assert_array_equal(chosen.alpha, ALPHAS[errors.argmin(axis=0)])
    np.testing.assert_allclose(-chosen.score, errors.min(axis=0), rtol=1e-8)
    assert len(set(chosen.alpha.tolist())) > 1, "the example must ask for more than one alpha"
    shared = select_alphas(dec, torch.tensor(Y), ALPHAS, per_target=False)
    assert set(shared.alpha.tolist()) == {ALPHAS[errors.mean(axis=1).argmin()]}


@pytest.mark.parametrize("scoring", ["pearsonr", "spearmanr", "r2", "explained_variance", "concordance"])
def test_selection_by_other_scores_is_the_loops(scoring):
    X, Y = simulated(20, 30)
    scaled = oracles.scaled(X)
    table = torch.stack([compute_score(Y, oracles.leave_one_out(scaled, Y, a), scoring) for a in ALPHAS])
    chosen = select_alphas(ridge_decompose(torch.tensor(X)), torch.tensor(Y), ALPHAS, scoring, keep_scores=True)
    torch.testing.assert_close(chosen.scores, table, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(chosen.alpha, ALPHAS[table.argmax(dim=0)])


def test_targets_without_a_score_have_no_say_in_a_shared_alpha():
    X, Y = (torch.tensor(v) for v in simulated(20, 30))
    dec, flat = ridge_decompose(X), torch.ones(20, 1, dtype=torch.float64)
    chosen = [
        select_alphas(dec, y, ALPHAS[::-1].copy(), "pearsonr", per_target=False).alpha[0]
        for y in (Y, torch.cat([Y, flat], dim=1))
    ]
    assert chosen[0] == chosen[1] < ALPHAS[-1]


@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
@pytest.mark.parametrize("bytes_a_block", [1, 10_000, 30_011])
def test_block_size_changes_nothing(shape, bytes_a_block):
    X, Y = simulated(*shape, n_targets=23)
    dec = ridge_decompose(torch.tensor(X))
    whole, parts = (
        select_alphas(dec, torch.tensor(Y), ALPHAS, keep_scores=True, **kw)
        for kw in ({}, {"block_bytes": bytes_a_block})
    )
    assert torch.equal(whole.alpha, parts.alpha)
    torch.testing.assert_close(whole.scores, parts.scores, rtol=1e-12, atol=0)
    whole, parts = (
        loo_predictions(dec, torch.tensor(Y), parts.alpha, **kw) for kw in ({}, {"block_bytes": bytes_a_block})
    )
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
def test_blocks_of_features_and_rows_change_nothing(shape, monkeypatch):
    X, Y = (torch.tensor(v) for v in simulated(*shape))

    def everything():
        dec = ridge_decompose(X)
        weights, y_mean = ridge_weights(dec, Y, 3.0)
        return dec.mean, dec.eigenvalues, project(dec, X[:5]) @ weights, *ridge_coefficients(dec, weights, y_mean)

    whole = everything()
    monkeypatch.setattr(blocks, "__defaults__", (1000,))
    for one, other in zip(whole, everything(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(30, 80), (60, 15)], ids=["wide", "tall"])
def test_columns_without_variance_do_nothing(shape):
    X, Y = (torch.tensor(v) for v in simulated(*shape))
    idle = torch.zeros(len(X), 3, dtype=torch.float64)
    idle[:, 1] = 1 / 3
    idle[:, 2] = torch.nextafter(torch.tensor(7.0), torch.tensor(8.0))
    idle[::2, 2] = 7.0  # differs in the last bit of float32, as the same feature does from batch to batch
    padded = torch.cat([X, idle], dim=1).float()
    plain, more = ridge_decompose(X.float()), ridge_decompose(padded)
    assert more.inverse_scale[-3:].tolist() == [0, 0, 0]
    torch.testing.assert_close(loo_predictions(plain, Y, 2.0), loo_predictions(more, Y, 2.0), rtol=1e-9, atol=1e-9)
    coefficients, _ = ridge_coefficients(more, *ridge_weights(more, Y, 2.0))
    assert (coefficients[-3:] == 0).all()


def test_only_constant_columns_predict_the_mean_of_the_others():
    Y = torch.tensor(simulated(8, 2)[1])
    expected = (Y.sum(dim=0) - Y) / 7
    torch.testing.assert_close(loo_predictions(ridge_decompose(torch.ones(8, 5)), Y, 1.0), expected)
    torch.testing.assert_close(loo_predictions(ridge_decompose(torch.ones(8, 9)), Y, 1.0), expected)


def test_features_one_fewer_than_stimuli_lose_no_digits():
    """Centred stimuli have n - 1 dimensions: the dual form is the one without a difference of nearly equal numbers."""
    X, Y = simulated(41, 40)
    dec = ridge_decompose(torch.tensor(X))
    assert dec.is_dual and not ridge_decompose(torch.tensor(X), fit_intercept=False).is_dual
    ours = loo_predictions(dec, torch.tensor(Y), 1e-8).numpy()
    np.testing.assert_allclose(ours, oracles.leave_one_out(oracles.scaled(X), Y, 1e-8), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("p", [15, 200], ids=["tall", "wide"])
def test_rank_deficient_features_and_duplicated_stimuli(p):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20, 4)) @ rng.normal(size=(4, p))
    X = np.concatenate([X, X[:10]])
    Y = rng.normal(size=(30, 3))
    ours = loo_predictions(ridge_decompose(torch.tensor(X)), torch.tensor(Y), 0.01).numpy()
    np.testing.assert_allclose(ours, oracles.leave_one_out(oracles.scaled(X), Y, 0.01), atol=1e-8)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_scale_of_features_does_not_matter_once_scaled(factor):
    X, Y = (torch.tensor(v) for v in simulated(30, 50))
    predictions = [loo_predictions(ridge_decompose(x), Y, 1.0) for x in (X, X * factor)]
    torch.testing.assert_close(*predictions, rtol=1e-9, atol=1e-9)


def test_small_alphas_keep_their_digits():
    """With n <= p and alpha near 0 both parts of (y - y_hat) / (1 - H_ii) go to 0; their ratio must not."""
    X, Y = simulated(30, 50)
    dec = ridge_decompose(torch.tensor(X))
    at_limit, near = (loo_predictions(dec, torch.tensor(Y), alpha) for alpha in (1e-30, 1e-9))
    torch.testing.assert_close(at_limit, near, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_precision_is_computed_in_float64(dtype):
    X, Y = (torch.tensor(v).to(dtype) for v in simulated(25, 40))
    ours = loo_predictions(ridge_decompose(X), Y, 1.0)
    exact = oracles.leave_one_out(oracles.scaled(X.double().numpy()), Y.double().numpy(), 1.0)
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours, exact, atol=1e-9)


def test_one_decomposition_serves_all_targets():
    X, Y = (torch.tensor(v) for v in simulated(30, 50, n_targets=6))
    dec = ridge_decompose(X)
    together = select_alphas(dec, Y)
    apart = [select_alphas(dec, Y[:, k]) for k in range(6)]
    assert torch.equal(together.alpha, torch.cat([a.alpha for a in apart]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("how", [{}, {"per_target": False}, {"scoring": "pearsonr"}], ids=str)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_fit_is_the_choice_and_the_weights(shape, how, fit_intercept):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=53))
    dec = ridge_decompose(X, fit_intercept=fit_intercept)
    alpha = choose_alphas(dec, Y, ALPHAS, **how)
    expected = alpha, *ridge_weights(dec, Y, alpha)
    for block_bytes in (1, 2**14, 2**26):
        found = fit_ridge(dec, Y, ALPHAS, block_bytes=block_bytes, **how)
        assert torch.equal(found.alpha, alpha)
        torch.testing.assert_close(tuple(found), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_weights_at_hand_leave_one_out_as_well(shape, fit_intercept):
    X, Y = (torch.tensor(v) for v in simulated(*shape, n_targets=5))
    dec = ridge_decompose(X, fit_intercept=fit_intercept)
    alpha = torch.tensor([0.1, 1.0, 10.0, 100.0, 1e5])
    weights, _ = ridge_weights(dec, Y, alpha)
    columns = zip(Y.numpy().T, alpha.tolist(), strict=True)
    scaled = oracles.scaled(X.numpy())
    expected = np.stack([oracles.leave_one_out(scaled, y[:, None], a, fit_intercept)[:, 0] for y, a in columns], axis=1)
    np.testing.assert_allclose(loo_predictions(dec, Y, alpha, weights=weights), expected, rtol=1e-8, atol=1e-9)
    scores = loo_scores(dec, Y, alpha, weights=weights, block_bytes=1)
    np.testing.assert_allclose(scores, -((Y.numpy() - expected) ** 2).mean(axis=0), rtol=1e-8)


def test_edges_are_counted():
    X, Y = simulated(60, 20, n_targets=2)
    noise = torch.randn(60, 50, generator=torch.Generator().manual_seed(1))
    dec = ridge_decompose(torch.tensor(X))
    lowest, highest = count_at_edges(select_alphas(dec, noise, DEFAULT_ALPHAS).alpha)
    assert lowest == 0 and highest > 10
    assert count_at_edges(select_alphas(dec, torch.tensor(Y)[:, :1], [1e-3, 1e4]).alpha, [1e-3, 1e4]) == (1, 0)


def with_nan(values, *where):
    values = values.clone()
    for row, column in where:
        values[row, column] = torch.nan
    return values


def test_bad_input_is_named():
    X, Y = (torch.tensor(v) for v in simulated(10, 5))
    dec = ridge_decompose(X)
    with pytest.raises(InputError, match=r"^X has 2 of 50 values that are NaN"):
        ridge_decompose(with_nan(X, (0, 0), (3, 2)))
    with pytest.raises(InputError, match=r"^Y has 1 of 70 values"):
        select_alphas(dec, with_nan(Y, (1, 1)))
    with pytest.raises(InputError, match=r"^Y has 1 of 70 values"):
        loo_predictions(dec, with_nan(Y, (1, 1)).nan_to_num(nan=torch.inf), 1.0)
    with pytest.raises(InputError, match="at least 3 row"):
        ridge_decompose(X[:2])
    with pytest.raises(InputError, match="10 stimuli of X as rows, but it has 9"):
        select_alphas(dec, Y[:9])
    with pytest.raises(InputError, match="5 features that the model was fitted on, but it has 4"):
        project(dec, X[:, :4])
    with pytest.raises(InputError, match="positive number, but -1"):
        select_alphas(dec, Y, [1.0, -1.0])
    with pytest.raises(InputError, match="Alpha must be numbers"):
        ridge_weights(dec, Y, "one")
    for alpha in (torch.ones(3), torch.ones(7, 1)):
        with pytest.raises(InputError, match="one for each of 7 targets"):
            loo_predictions(dec, Y, alpha)
        with pytest.raises(InputError, match="one for each of 7 targets"):
            ridge_weights(dec, Y, alpha)
    weights, _ = ridge_weights(dec, Y, 1.0)
    for wrong in (weights[:, :1], torch.cat([weights, weights], dim=1), weights[1:]):
        with pytest.raises(InputError, match=r"Weights must be \(5, 7\)"):
            loo_predictions(dec, Y, 1.0, weights=wrong)
    with pytest.raises(InputError, match=r"^The weights has 1 of 35 values that are NaN"):
        loo_scores(dec, Y, 1.0, weights=with_nan(weights, (0, 0)))
    with pytest.raises(InputError, match="list of positive numbers"):
        select_alphas(dec, Y, [])
    with pytest.raises(InputError, match="did you mean 'pearsonr'"):
        select_alphas(dec, Y, scoring="pearson")
    with pytest.raises(InputError, match="too large"):
        ridge_decompose(X * 1e200)
