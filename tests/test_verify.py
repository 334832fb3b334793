"""`deepjuice verify`: it agrees where all is right, and says so where something is wrong, missing or undefined."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from deepjuice import extract_features
from deepjuice.alignment import compute_rdm
from deepjuice.cli import main
from deepjuice.verify import (
    Difference,
    compare_comparisons,
    compare_projected_rdm,
    compare_rdms_made,
    compare_ridge,
    compare_scores,
    find_differences,
    format_table,
    verify,
)
from deepjuice.verify.differences import Quantity, largest_difference, largest_of_each
from deepjuice.verify.geometry import constant_rows
from juicyfruits import write_benchmark
from juicyfruits.errors import InputError
from tests.tiny_net import tiny_net, to_tensor

N = 24
PEERS = ("himalaya", "rsatoolbox", "scikit-learn", "scipy")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(N)]
    neuroids = pd.DataFrame({"neuroid_id": [f"n{i}" for i in range(10)], "subject": ["a"] * 5 + ["b"] * 5})
    neuroids["roi_V1"] = [1, 1, 1, 0, 0, 1, 1, 1, 1, 0]
    neuroids["roi_one"] = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]  # one neuroid has no Pearson RDM
    signal = np.stack([p.reshape(-1) for p in pictures]) @ rng.standard_normal((192, 10)) / 1000
    responses = signal.T[:, :, None] + rng.standard_normal((10, N, 3)) * 0.5 + 3
    responses[:, :, 1][rng.random((10, N)) < 0.3] = np.nan
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(N)]})
    folder = tmp_path_factory.mktemp("data") / "tiny"
    return write_benchmark(folder, stimuli, pictures, neuroids=neuroids, responses=responses)


@pytest.fixture(scope="module")
def store(benchmark, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "tiny.zarr"
    options = {"model_uid": "tiny", "stimulus_digest": benchmark.stimulus_digest, "eps": 0.9, "device": "cpu"}
    return extract_features(tiny_net(), to_tensor, benchmark.image_paths, out, progress=False, **options)


@pytest.fixture(scope="module")
def rdms_only(benchmark, tmp_path_factory):
    rng = np.random.default_rng(1)
    rdms = {subject: compute_rdm(rng.standard_normal((N, 9))).numpy() for subject in "ab"}
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(N)]})
    folder = tmp_path_factory.mktemp("data") / "rdms"
    return write_benchmark(folder, stimuli, benchmark.image_paths, rdms={"IT": rdms})


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("deepjuice.verify.run.N_LAYERS", 2)


def data(seed=0, n=24, p=40, t=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, p, generator=generator, dtype=dtype)
    Y = X[:, :t] + torch.randn(n, t, generator=generator, dtype=dtype)
    return X, Y


def verdicts(found):
    return {(line.quantity, line.peer.split()[0]): line.differs for line in found}


def test_everything_agrees_and_every_peer_has_its_say(benchmark, store):
    found = verify(store, benchmark)
    assert found.ok, str(found)
    assert {line.peer.split()[0] for line in found.differences} == set(PEERS)
    by_name = {(line.quantity, line.peer.split()[0]): line for line in found.differences}
    n_layers = 3
    assert by_name["ridge: log10 of the chosen alphas", "scikit-learn"].cases == n_layers * 10
    assert by_name["ridge: test predictions", "himalaya"].cases == n_layers * 10 * N // 2
    assert by_name["RDM: pearson", "rsatoolbox"].cases == n_layers * N * (N - 1) // 2
    assert by_name["comparison of RDMs: spearman", "scipy"].cases == n_layers * 2
    assert by_name["score: r2", "scikit-learn"].cases == n_layers * 10
    assert "no comparison with 1 RDMs of the brain that hold NaN" in str(found)
    assert all(np.isfinite(line.largest) and line.cases for line in found.differences)


def test_layers_and_neuroids_are_as_asked_and_drawn_by_the_seed(benchmark, store):
    layer = store.maps[1].uid
    found = verify(store, benchmark, [layer], max_neuroids=4, seed=3)
    assert f"layers {layer}; seed 3" in found.heading and "4 of 10 neuroids" in found.notes[1]
    again = verify(store, benchmark, [layer], max_neuroids=4, seed=3)
    assert again == found
    other = verify(store, benchmark, [layer], max_neuroids=4, seed=4)
    assert [line.largest for line in other.differences] != [line.largest for line in found.differences]


def test_large_benchmarks_are_sampled(benchmark, store, monkeypatch):
    monkeypatch.setattr("deepjuice.verify.run.N_RDM", 9)
    monkeypatch.setattr("deepjuice.verify.run.N_RIDGE", 16)
    found = verify(store, benchmark, [store.maps[0].uid])
    assert found.notes[0] == "RDMs of 9 of 24 stimuli"
    assert found.notes[1] == "ridge on 8 train and 8 test stimuli and 10 of 10 neuroids"
    assert {line.cases for line in found.differences if line.quantity.startswith("RDM")} == {36}
    assert found.ok


def test_rdms_only_have_no_ridge(rdms_only, store):
    found = verify(store, rdms_only)
    assert found.ok and {line.quantity.split(":")[0] for line in found.differences} == {"RDM", "comparison of RDMs"}


def off_by(amount):
    """Wrap a function so that the last number of what it gives is off."""

    def wrap(function):
        def wrong(*args, **kwargs):
            values = function(*args, **kwargs).clone()
            values.view(-1)[-1] += amount
            return values

        return wrong

    return wrap


@pytest.mark.parametrize("name", ["pearsonr", "spearmanr", "r2", "explained_variance"])
def test_a_wrong_score_is_noticed(monkeypatch, name):
    import deepjuice.verify.scores as module

    monkeypatch.setattr(module, name, off_by(1e-3)(getattr(module, name)))
    Y, predictions = data(t=5)[1], data(seed=1, t=5)[1]
    wrong = [quantity for (quantity, _), differs in verdicts(compare_scores(Y, predictions)).items() if differs]
    assert wrong == [f"score: {name}"]


@pytest.mark.parametrize("method", ["pearson", "spearman", "cosine", "euclidean", "squared_euclidean"])
def test_a_wrong_rdm_is_noticed(monkeypatch, method):
    def wrong(X, name):
        rdm = compute_rdm(X, name)
        rdm[0, 1] *= 1.001 if name == method else 1
        return rdm

    monkeypatch.setattr("deepjuice.verify.geometry.compute_rdm", wrong)
    found = verdicts(compare_rdms_made(data()[0]))
    assert {quantity for (quantity, _), differs in found.items() if differs} == {f"RDM: {method}"}
    assert found[f"RDM: {method}", "scipy"]
    assert found.get((f"RDM: {method}", "rsatoolbox"), True)


def test_a_wrong_comparison_and_a_wrong_projected_rdm_are_noticed(monkeypatch):
    import deepjuice.verify.geometry as module

    rdms = torch.stack([compute_rdm(data(seed)[0]) for seed in range(3)])
    monkeypatch.setattr(module, "compare_rdm_to_many", off_by(1e-3)(module.compare_rdm_to_many))
    assert all(verdicts(compare_comparisons(rdms[0], rdms[1:])).values())
    X = data()[0]
    means, ones = X.mean(dim=1).numpy(), np.ones(X.shape[1], dtype=np.float32)
    assert not any(verdicts(compare_projected_rdm(X, means, ones)).values())
    assert all(verdicts(compare_projected_rdm(X, means, 1.001 * ones)).values()) is False  # both sides are given it
    monkeypatch.setattr(module, "projected_pearson_rdm", lambda *given: compute_rdm(given[0], "cosine"))
    assert all(verdicts(compare_projected_rdm(X, means, ones)).values())


@pytest.mark.parametrize(
    ("attribute", "quantity"),
    [
        ("alpha_", "log10 of the chosen alphas"),
        ("score_", "leave-one-out squared error"),
        ("coef_", "coefficients"),
        ("cv_y_pred_", "predictions of left-out stimuli"),
    ],
)
def test_a_wrong_ridge_is_noticed(monkeypatch, attribute, quantity):
    import deepjuice.verify.ridge as module

    class Wrong(module.TorchRidgeGCV):
        def __getattribute__(self, name):
            values = super().__getattribute__(name)
            return values * 1.001 if name == attribute else values

    monkeypatch.setattr(module, "TorchRidgeGCV", Wrong)
    X, Y = data()
    found = verdicts(compare_ridge(X[:16], Y[:16], X[16:], n_left_out=16))
    assert found[f"ridge: {quantity}", "scikit-learn"]
    if attribute != "alpha_":  # peers fit at the alpha that they are told
        assert sum(found.values()) == 1


def test_wrong_predictions_are_noticed_by_both_peers(monkeypatch):
    import deepjuice.verify.ridge as module

    monkeypatch.setattr(module.TorchRidgeGCV, "predict", off_by(1e-3)(module.TorchRidgeGCV.predict))
    X, Y = data()
    wrong = {key for key, differs in verdicts(compare_ridge(X[:16], Y[:16], X[16:])).items() if differs}
    assert wrong == {("ridge: test predictions", "scikit-learn"), ("ridge: test predictions", "himalaya")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [7, 16, 60])
def test_ridge_agrees_whatever_the_shape_scale_and_constants(p, dtype):
    X, Y = data(p=p, dtype=dtype)
    X = torch.cat([X, X[:, :2], X[:, :1] * 1e6, X[:, :1] * 1e-6, torch.full((len(X), 1), 3.3)], dim=1).to(dtype)
    X[3] = X[5]
    Y = Y * torch.tensor([1e-6, 1.0, 1e5, 1.0, 3.0]) + torch.tensor([0.0, 1e3, 0.0, -5.0, 0.0])
    found = compare_ridge(X[:16], Y[:16].to(dtype), X[16:])
    assert not any(line.differs for line in found), format_table(found)


@pytest.mark.parametrize("missing", PEERS)
def test_a_missing_peer_is_named_and_the_others_still_compare(benchmark, store, monkeypatch, missing, small):
    module = "sklearn" if missing == "scikit-learn" else missing
    monkeypatch.setitem(sys.modules, module, None)
    if missing in ("scikit-learn", "scipy"):  # of which the other peers are made
        lines = find_differences({}, missing, lambda: pytest.fail("asked"))
        assert lines[0].skipped and not lines[0].differs
        return
    found = verify(store, benchmark)
    lines = [line for line in found.differences if line.skipped]
    assert {line.peer for line in lines} == {missing} and found.ok
    assert all("skipped: cannot be imported" in row for row in str(found).splitlines() if missing in row)
    assert {line.peer.split()[0] for line in found.differences if not line.skipped} == set(PEERS) - {missing}


def test_himalaya_keeps_the_backend_that_its_user_has_set():
    from himalaya.backend import get_backend, set_backend

    set_backend("torch")
    try:
        X, Y = data()
        compare_ridge(X[:16], Y[:16], X[16:])
        assert get_backend().name == "torch"
    finally:
        set_backend("numpy")


def test_stimuli_with_a_constant_map_are_left_out_and_counted(benchmark, store, monkeypatch):
    layer = store.maps[1].uid
    X, means, ones = store[layer].copy(), store.row_means(layer).copy(), store.ones(layer)
    X[[2, 5]], means[[2, 5]] = np.float32(0.7) * ones, np.float32(0.7)
    X[9], means[9] = 0, 0
    monkeypatch.setattr(type(store), "__getitem__", lambda self, uid: X)
    monkeypatch.setattr(type(store), "row_means", lambda self, uid: means)
    assert np.flatnonzero(constant_rows(torch.from_numpy(X), means, ones)).tolist() == [2, 5, 9]
    found = verify(store, benchmark, [layer])
    assert f"{layer}: no RDMs of 3 stimuli whose map is constant" in found.notes
    assert found.ok, str(found)
    assert {line.cases for line in found.differences if line.quantity.startswith("RDM")} == {21 * 20 // 2}


def test_a_dead_layer_has_neither_rdms_nor_scores_but_is_fitted(benchmark, store, monkeypatch):
    layer = store.maps[1].uid
    monkeypatch.setattr(type(store), "__getitem__", lambda self, uid: np.zeros((N, 5), dtype=np.float32))
    monkeypatch.setattr(type(store), "row_means", lambda self, uid: np.zeros(N, dtype=np.float32))
    monkeypatch.setattr(type(store), "ones", lambda self, uid: np.ones(5, dtype=np.float32))
    found = verify(store, benchmark, [layer])
    assert f"{layer}: no RDMs of {N} stimuli whose map is constant" in found.notes
    assert f"{layer}: no scores of 10 neuroids whose predictions hardly vary" in found.notes
    assert {line.quantity.split(":")[0] for line in found.differences} == {"ridge"}
    assert found.ok, str(found)


def test_differences_are_measured_and_merged():
    nan = np.nan
    assert largest_difference(np.array([1.0, nan, 3.0]), np.array([1.0, nan, 2.5])) == 0.5
    assert largest_difference(np.array([1.0, nan]), np.array([1.0, 2.0])) == np.inf
    assert largest_difference(np.array([1.0, 2.0]), np.array([1.0, nan])) == np.inf
    assert largest_difference(np.zeros(3), np.zeros((3, 1))) == np.inf
    lines = [
        Difference("q", "p 1", 3, 1e-12, 1e-9),
        Difference("q", "p 1", 4, 1e-3, 1e-9),
        Difference("q", "p 2", 1, 0, 1),
    ]
    merged = largest_of_each(lines)
    assert [(line.cases, line.largest, line.differs) for line in merged] == [(7, 1e-3, True), (1, 0, False)]
    assert Difference("q", "p", 1, np.inf, 1e-9).differs and Difference("q", "p", 1, nan, 1e-9).differs
    [line] = find_differences({Quantity("q", 0.1): np.zeros(2)}, "scipy", lambda: {Quantity("q", 0.1): np.full(2, 0.2)})
    assert line.differs and line.largest == pytest.approx(0.2)


def test_the_command_line_tells_by_its_status(benchmark, store, rdms_only, monkeypatch, capsys):
    words = ["verify", str(store.path), str(benchmark.folder), "--layers", store.maps[0].uid]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "All that was compared agrees." in out and "DIFFERS" not in out
    import deepjuice.verify.scores as module

    monkeypatch.setattr(module, "pearsonr", off_by(1e-3)(module.pearsonr))
    assert main([*words, "--max-neuroids", "4"]) == 1
    out = capsys.readouterr().out
    assert [row.split()[1] for row in out.splitlines() if row.endswith("DIFFERS")] == ["pearsonr"]
    assert "1 of 29 lines DIFFER." in out
    assert main(["verify", str(store.path), str(benchmark.folder), "--layers", "Nothing-1-1"]) == 2
    assert "feature map 'Nothing-1-1'" in capsys.readouterr().err
    assert main(["verify", str(store.path), str(benchmark.folder), "--max-neuroids", "0"]) == 2
    assert "max_neuroids must be 1 or more" in capsys.readouterr().err


def test_a_device_without_float64_is_refused(benchmark, store, monkeypatch):
    monkeypatch.setattr("deepjuice.verify.run.working_dtype", lambda device: torch.float32)
    with pytest.raises(InputError, match="device cpu must have float64"):
        verify(store, benchmark)


def test_features_of_other_stimuli_are_refused(benchmark, store, tmp_path):
    stimuli = pd.DataFrame({"stimulus_id": [f"x{i}" for i in range(N)]})
    rdm = 1 - np.eye(N)
    other = write_benchmark(tmp_path / "other", stimuli, benchmark.image_paths, rdms={"IT": {"m": rdm}})
    with pytest.raises(InputError, match="expected features of the stimuli of 'other'"):
        verify(store, other)


def test_one_neuroid_is_compared_as_many_are(benchmark, store):
    found = verify(store, benchmark, max_neuroids=1)
    assert found.ok, str(found)
    with pytest.raises(InputError, match="seed must be a whole number from 0 up, but -1"):
        verify(store, benchmark, seed=-1)
