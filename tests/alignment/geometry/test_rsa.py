"""The RSA calls against the same thing done step by step, and RDMs handed to rsatoolbox."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from deepjuice.alignment.geometry.rdm import compute_rdm
from deepjuice.alignment.geometry.rsa import classical_rsa, encoding_rsa, projected_rsa
from deepjuice.alignment.geometry.rsatoolbox_io import to_rsatoolbox
from juicyfruits.errors import InputError


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def brains():
    return [squareform(pdist(draw(10, 6, seed=s), "correlation")) for s in (1, 2, 3)]


def test_classical_rsa_step_by_step():
    X = draw(10, 30)
    expected = [stats.spearmanr(pdist(X, "euclidean"), squareform(b, checks=False)).statistic for b in brains()]
    scores = classical_rsa(X, brains(), rdm_method="euclidean", comparison="spearman")
    assert scores.tolist() == pytest.approx(expected, abs=1e-12)
    assert classical_rsa(X, np.stack(brains()), "euclidean", "spearman").tolist() == scores.tolist()
    one = classical_rsa(torch.tensor(X), torch.tensor(brains()[1]), "euclidean", "spearman")
    assert one.ndim == 0 and one.item() == pytest.approx(expected[1], abs=1e-12)
    plain = stats.pearsonr(pdist(X, "correlation"), squareform(brains()[0], checks=False)).statistic
    assert classical_rsa(X, brains()[0]).item() == pytest.approx(plain, abs=1e-12)
    with pytest.raises(InputError, match="none came"):
        classical_rsa(X, [])


def test_projected_rsa_is_of_the_row_centred_map():
    X, R = draw(10, 300) + 5, draw(64, 300, seed=7)
    centred = (X - X.mean(axis=1, keepdims=True)) @ R.T
    expected = [stats.pearsonr(pdist(centred, "cosine"), squareform(b, checks=False)).statistic for b in brains()]
    scores = projected_rsa(X @ R.T, X.mean(axis=1), R.sum(axis=1), brains())
    assert scores.tolist() == pytest.approx(expected, abs=1e-10)
    ranked = projected_rsa(X @ R.T, X.mean(axis=1), R.sum(axis=1), brains()[0], "spearman")
    rho = stats.spearmanr(pdist(centred, "cosine"), squareform(brains()[0], checks=False)).statistic
    assert ranked.item() == pytest.approx(rho, abs=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encoding_rsa_step_by_step(dtype):
    Y = draw(10, 12)
    predictions, Y = (0.5 * Y + draw(10, 12, seed=1)).astype(dtype), Y.astype(dtype)
    expected = stats.pearsonr(pdist(predictions.astype(float), "correlation"), pdist(Y.astype(float), "correlation"))
    assert encoding_rsa(predictions, Y) == pytest.approx(expected.statistic, abs=1e-10)
    keep = np.arange(12) % 3 > 0
    assert encoding_rsa(predictions, Y, weights=keep) == pytest.approx(
        encoding_rsa(predictions[:, keep], Y[:, keep]), abs=1e-12
    )
    rho = stats.spearmanr(pdist(predictions.astype(float), "sqeuclidean"), pdist(Y.astype(float), "sqeuclidean"))
    assert encoding_rsa(predictions, Y, None, "squared_euclidean", "spearman") == pytest.approx(
        rho.statistic, abs=1e-10
    )
    with pytest.raises(InputError, match=r"\(10, 12\) and \(10, 11\)"):
        encoding_rsa(predictions, Y[:, 1:])


def test_weights_find_the_voxels_that_are_predicted():
    Y = draw(40, 30)
    predictions = Y + np.where(np.arange(30) < 10, 0.2, 4.0) * draw(40, 30, seed=1)
    weights = np.where(np.arange(30) < 10, 1.0, 0.01)
    assert encoding_rsa(predictions, Y, weights=weights) > encoding_rsa(predictions, Y) + 0.3


def test_rsatoolbox_gets_pairs_and_descriptors():
    toolbox = pytest.importorskip("rsatoolbox")
    layers = torch.stack([compute_rdm(draw(10, 30, seed=s)) for s in (0, 1)])
    ids = [f"s{i}" for i in range(10)]
    rdms = to_rsatoolbox(layers.float(), "correlation", {"stimulus_id": ids}, {"layer": ["a", "b"], "index": [0, 1]})
    assert isinstance(rdms, toolbox.rdm.RDMs) and rdms.dissimilarities.dtype == np.float64
    assert (rdms.n_rdm, rdms.n_cond, rdms.dissimilarity_measure) == (2, 10, "correlation")
    np.testing.assert_allclose(rdms.get_matrices(), layers, atol=1e-6)
    assert list(rdms.pattern_descriptors["stimulus_id"]) == ids
    assert rdms.subset("layer", "b").rdm_descriptors["index"] == [1]
    one = to_rsatoolbox(layers[0])
    theirs = toolbox.rdm.calc_rdm(toolbox.data.Dataset(draw(10, 30)), method="correlation")
    np.testing.assert_allclose(one.dissimilarities, theirs.dissimilarities, atol=1e-12)


def test_rsatoolbox_bad_input_is_named(monkeypatch):
    rdm = brains()[0]
    with pytest.raises(InputError, match="each of 10 stimuli, but 9 came"):
        to_rsatoolbox(rdm, pattern_descriptors={"stimulus_id": range(9)})
    with pytest.raises(InputError, match="each of 1 RDMs, but a str came"):
        to_rsatoolbox(rdm, rdm_descriptors={"layer": "c"})
    with pytest.raises(InputError, match="square"):
        to_rsatoolbox(rdm[1:])
    monkeypatch.setitem(sys.modules, "rsatoolbox.rdm", None)
    with pytest.raises(InputError, match="pip install rsatoolbox"):
        to_rsatoolbox(rdm)


def test_rdms_of_brains_may_be_a_table_or_lists_and_nothing_else():
    X, rdm = np.random.default_rng(0).normal(size=(10, 7)), brains()[0]
    expected = classical_rsa(X, rdm)
    for one in (pd.DataFrame(np.asarray(rdm)), np.asarray(rdm).tolist()):
        found = classical_rsa(X, one)
        assert found.ndim == 0 and found == expected
    assert classical_rsa(X, [np.asarray(rdm)]).shape == (1,)
    for wrong in (None, {"V1": rdm}, 1.0, "V1"):
        with pytest.raises(InputError):
            classical_rsa(X, wrong)
    with pytest.raises(InputError, match="but a int came"):
        to_rsatoolbox(rdm, pattern_descriptors={"stimulus_id": 3})
