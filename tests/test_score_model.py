"""The scoring stage against scikit-learn, scipy and plain loops, on a small benchmark with all that real data have."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.spatial.distance import pdist
from scipy.stats import norm, spearmanr
from scipy.stats import t as scipy_t
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from deepjuice import ScoreSettings, extract_features, score_model
from deepjuice.alignment import ResamplingPlan
from deepjuice.cli import main
from deepjuice.extraction.telemetry import bin_edges
from deepjuice.results import read_scores, write_scores
from juicyfruits import Benchmark, write_benchmark
from juicyfruits.errors import InputError
from tests.tiny_net import tiny_net, to_tensor

ALPHAS = (0.1, 10.0, 1e3, 1e5)
N, REPEATS = 26, 3


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(N)]
    neuroids = pd.DataFrame({"neuroid_id": [f"n{i}" for i in range(14)], "subject": ["a"] * 8 + ["b"] * 6})
    neuroids["roi_V1"] = [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]
    neuroids["roi_IT"] = [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]  # n3 and n10 are in both
    neuroids["roi_only_a"] = [1, 1, 1] + [0] * 11
    neuroids["ncsnr"] = rng.uniform(0.2, 2, 14)
    signal = np.stack([p.reshape(-1) for p in pictures]) @ rng.standard_normal((192, 14)) / 1000
    responses = signal.T[:, :, None] + rng.standard_normal((14, N, REPEATS)) * 0.5 + 3
    responses[rng.random(responses.shape) < 0.1] = np.nan
    responses[:, :, 0] = np.nan_to_num(responses[:, :, 0], nan=3.0)
    folder = tmp_path_factory.mktemp("data") / "tiny"
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(N)]})
    return write_benchmark(folder, stimuli, pictures, neuroids=neuroids, responses=responses)


@pytest.fixture(scope="module")
def store(benchmark, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "tiny.zarr"
    options = {"model_uid": "tiny", "stimulus_digest": benchmark.stimulus_digest, "eps": 0.9, "device": "cpu"}
    return extract_features(tiny_net(), to_tensor, benchmark.image_paths, out, progress=False, **options)


@pytest.fixture(scope="module")
def scores(benchmark, store):
    return score_model(store, benchmark, ScoreSettings(alphas=ALPHAS), device="cpu", progress=False)


@pytest.fixture(scope="module")
def fits(benchmark, store):
    """layer -> (alphas, leave-one-out predictions on train, predictions on test), by scikit-learn and a real loop."""
    Y, found = np.nanmean(benchmark.responses, axis=2).T.astype(np.float64), {}
    for record in store.maps:
        X = store[record.uid].astype(np.float64)
        scaler = StandardScaler().fit(X[::2])
        train, test = scaler.transform(X[::2]), scaler.transform(X[1::2])
        alpha = RidgeCV(ALPHAS, alpha_per_target=True).fit(train, Y[::2]).alpha_
        loo = np.empty_like(Y[::2])
        for i in range(len(train)):
            rest = np.arange(len(train)) != i
            loo[i] = Ridge(alpha).fit(train[rest], Y[::2][rest]).predict(train[i : i + 1])[0]
        found[record.uid] = alpha, {"train": loo, "test": Ridge(alpha).fit(train, Y[::2]).predict(test)}
    return Y, found


def pearson_rdm(X):
    return pdist(X, "correlation")


def members(benchmark, region, subject):
    table = pd.read_csv(benchmark.folder / "neuroids.csv")
    return np.flatnonzero((table[f"roi_{region}"] == 1) & (table["subject"] == subject))


ROWS = {"train": slice(0, None, 2), "test": slice(1, None, 2), "all": slice(None)}
CELLS = [("V1", "a"), ("V1", "b"), ("IT", "a"), ("IT", "b"), ("only_a", "a")]


def test_alphas_and_voxel_scores_equal_scikit_learn_and_a_real_leave_one_out(benchmark, scores, fits):
    Y, found = fits
    for layer, (alpha, predictions) in found.items():
        np.testing.assert_allclose(scores["alpha"].sel(layer=layer), alpha, rtol=1e-6)
        for split, predicted in predictions.items():
            expected = [np.corrcoef(Y[ROWS[split], v], predicted[:, v])[0, 1] for v in range(Y.shape[1])]
            np.testing.assert_allclose(scores["encoding"].sel(layer=layer, split=split), expected, atol=1e-5)
    assert scores["encoding"].sel(split="all").isnull().all()


@pytest.mark.parametrize(("region", "subject"), CELLS)
def test_region_scores_equal_means_and_rdms_made_by_hand(benchmark, store, scores, fits, region, subject):
    Y, found = fits
    voxels = members(benchmark, region, subject)
    cell = scores["score"].sel(region=region, subject=subject)
    for layer, (_, predictions) in found.items():
        for split, predicted in predictions.items():
            brain = Y[ROWS[split]][:, voxels]
            r = [np.corrcoef(brain[:, v], predicted[:, voxel])[0, 1] for v, voxel in enumerate(voxels)]
            assert cell.sel(metric="eReg", layer=layer, split=split).item() == pytest.approx(np.mean(r), abs=1e-5)
            ersa = np.corrcoef(pearson_rdm(brain), pearson_rdm(predicted[:, voxels]))[0, 1]
            assert cell.sel(metric="eRSA", layer=layer, split=split).item() == pytest.approx(ersa, abs=1e-5)
        centred = store[layer] - np.outer(store.row_means(layer), store.ones(layer))
        for split, rows in ROWS.items():
            crsa = np.corrcoef(pdist(centred[rows], "cosine"), pearson_rdm(Y[rows][:, voxels]))[0, 1]
            assert cell.sel(metric="cRSA", layer=layer, split=split).item() == pytest.approx(crsa, abs=1e-5)


def test_rdms_of_maps_left_whole_are_exactly_those_of_the_map(store):
    """Maps no wider than k are not projected, so their Pearson RDM is the true one."""
    from deepjuice.alignment import projected_pearson_rdm, upper_triangle

    for record in store.maps:
        if store.header.width(record) == record.n_features:
            rdm = projected_pearson_rdm(store[record.uid], store.row_means(record.uid), store.ones(record.uid))
            np.testing.assert_allclose(upper_triangle(rdm), pearson_rdm(store[record.uid]), atol=1e-5)


def test_ceilings_and_normalised_scores(benchmark, scores):
    table = pd.read_csv(benchmark.folder / "neuroids.csv")
    counts = (~np.isnan(benchmark.responses)).sum(axis=2)
    for split, rows in ROWS.items():
        noise = (1 / counts[:, rows]).mean(axis=1)
        expected = np.sqrt(table["ncsnr"] ** 2 / (table["ncsnr"] ** 2 + noise))
        np.testing.assert_allclose(scores["neuroid_ceiling"].sel(split=split), expected, rtol=1e-6)
        if split != "all":
            cell = {"metric": "eReg", "region": "IT", "subject": "b", "split": split}
            mean = expected[members(benchmark, "IT", "b")].mean()
            assert scores["ceiling"].sel(cell).item() == pytest.approx(mean, rel=1e-6)
            np.testing.assert_allclose(
                scores["score_normalized"].sel(cell), scores["score"].sel(cell) / mean, rtol=1e-5
            )
    Y = np.nanmean(benchmark.responses, axis=2).T
    for split, rows in ROWS.items():
        a, b = (pearson_rdm(Y[rows][:, members(benchmark, "IT", subject)]) for subject in "ab")
        zscored = [(rdm - rdm.mean()) / rdm.std() for rdm in (a, b)]
        lower, upper = np.corrcoef(a, b)[0, 1], np.corrcoef(a, sum(zscored))[0, 1]
        cell = {"metric": "cRSA", "region": "IT", "subject": "a", "split": split}
        assert scores["ceiling_low"].sel(cell).item() == pytest.approx(lower, abs=1e-6)
        assert scores["ceiling"].sel(cell).item() == pytest.approx(upper, abs=1e-6)
        ersa = scores["ceiling"].sel(cell | {"metric": "eRSA"}).item()
        assert np.isnan(ersa) if split == "all" else ersa == pytest.approx(upper, abs=1e-6)
    assert scores["ceiling"].sel(metric="cRSA", region="only_a").isnull().all()  # of a single subject nothing is known


def test_cells_that_nobody_measured_are_empty(scores):
    for name in ("score", "ci_low", "ci_high", "p_value", "p_max"):
        assert scores[name].sel(region="only_a", subject="b").isnull().all()
    assert scores["best_resamples"].sel(region="only_a", best_of="b").isnull().all()


def resampled(counts):
    """The rows of every resample, one after another."""
    return [np.repeat(np.arange(len(count)), count) for count in counts]


def test_intervals_p_values_and_the_nested_best_layer_equal_loops_over_the_same_resamples(benchmark, store, fits):
    """eReg of two cells and their mean over subjects, from scikit-learn's predictions, resample by resample."""
    settings = ScoreSettings(("eReg",), ALPHAS, ("IT",), n_bootstraps=40, n_permutations=30, seed=3)
    table = score_model(store, benchmark, settings, "cpu", progress=False)
    Y, found = fits
    cells = {subject: members(benchmark, "IT", subject) for subject in "ab"}
    drawn, shuffles = {}, None
    for stream, split in enumerate(("train", "test")):
        plan = ResamplingPlan.draw(N // 2, 2, 40, 30 * stream, seed=3, stream=stream)
        drawn[split], shuffles = resampled(plan.counts.numpy()), plan.permutations.numpy()

    def score(split, layer, rows, columns, order=slice(None)):
        y, p = Y[ROWS[split]][rows][:, columns], found[layer][1][split][order][rows][:, columns]
        return np.mean([np.corrcoef(y[:, v], p[:, v])[0, 1] for v in range(y.shape[1])])

    widening = scipy_t.ppf(0.975, N // 2 - 1) / norm.ppf(0.975)
    every = {}
    for split in ("train", "test"):
        for layer in found:
            values = np.array([[score(split, layer, rows, c) for c in cells.values()] for rows in drawn[split]])
            values = np.column_stack([values, values.mean(axis=1)])
            every[split, layer] = values
            mean, ends = values.mean(axis=0), np.quantile(values, (0.025, 0.975), axis=0)
            ends = mean + (ends - mean) * widening
            cell = table.sel(metric="eReg", layer=layer, region="IT", split=split)
            np.testing.assert_allclose([cell.ci_low, cell.ci_high], ends[:, :2], atol=2e-5)
            np.testing.assert_allclose([cell.mean_ci_low, cell.mean_ci_high], ends[:, 2], atol=2e-5)
    whole, layers = np.arange(N // 2), list(found)
    null = {
        (la, s): np.array([score("test", la, whole, c, o) for o in shuffles]) for la in found for s, c in cells.items()
    }
    for subject, columns in cells.items():
        highest = np.max([null[layer, subject] for layer in found], axis=0)
        for layer in found:
            observed = score("test", layer, whole, columns)
            cell = table.sel(metric="eReg", layer=layer, region="IT", subject=subject, split="test")
            assert cell.p_value.item() == pytest.approx((1 + (null[layer, subject] >= observed).sum()) / 31)
            assert cell.p_max.item() == pytest.approx((1 + (highest >= observed).sum()) / 31)
    best = np.argmax([every["train", layer] for layer in layers], axis=0)
    nested = np.take_along_axis(np.array([every["test", layer] for layer in layers]), best[None], axis=0)[0]
    np.testing.assert_allclose(table["best_resamples"].sel(metric="eReg", region="IT"), nested.T, atol=2e-5)
    assert list(table["best_of"].values) == ["a", "b", "mean"] and not table["subjects_resampled"].any()
    assert table["p_value"].sel(split="train").isnull().all()


def test_without_resamples_scores_are_the_same_and_intervals_empty(benchmark, store, scores):
    settings = ScoreSettings(alphas=ALPHAS, n_bootstraps=0, n_permutations=0)
    table = score_model(store, benchmark, settings, "cpu", progress=False)
    xr.testing.assert_equal(table["score"], scores["score"])
    for name in ("ci_low", "mean_ci_low", "p_value", "p_max", "best_ci_high"):
        assert table[name].isnull().all() and scores[name].notnull().any()
    assert table.sizes["resample"] == 0


def test_the_spectrum_of_every_map_is_that_of_its_stored_features(store, scores):
    for record in store.maps:
        variances = np.linalg.eigvalsh(np.cov(store[record.uid].astype(np.float64).T))[::-1]
        row = scores.sel(layer=record.uid)
        k = min(N - 1, len(variances))
        np.testing.assert_allclose(row.eigenspectrum[:k], variances[:k], rtol=1e-4, atol=1e-6 * variances[0])
        assert row.eigenspectrum[k:].isnull().all()
        expected = variances.sum() ** 2 / (variances**2).sum()
        assert row.effective_dimensionality.item() == pytest.approx(expected, rel=1e-4)


def test_what_values_are_like_stands_beside_the_scores(store, scores):
    edges = bin_edges()
    assert np.array_equal(scores["bin_low"], edges[:-1]) and np.array_equal(scores["bin_high"], edges[1:])
    for record in store.maps:
        row, found = scores.sel(layer=record.uid), store.telemetry(record.uid)
        for name in found._fields[:-1]:
            assert row[name].item() == pytest.approx(getattr(found, name), rel=1e-6, nan_ok=True)
        assert np.array_equal(row["activation_histogram"], found.activation_histogram)
        assert row["activation_histogram"].sum() == N * record.n_features
        if store.header.width(record) == record.n_features:  # not projected: it is the map itself
            whole = store[record.uid].astype(np.float64)
            assert row["activation_mean"].item() == pytest.approx(whole.mean(), rel=1e-5, abs=1e-6)
            assert row["activation_std"].item() == pytest.approx(whole.std(), rel=1e-5)
            assert row["dead_share"].item() == pytest.approx((whole == 0).all(axis=0).mean())


def test_spearman_between_rdms_and_a_choice_of_regions(benchmark, store):
    settings = ScoreSettings(metrics=("cRSA",), rois=("IT",), rdm_comparison="spearman")
    table = score_model(store, benchmark, settings, "cpu", progress=False)
    Y = np.nanmean(benchmark.responses, axis=2).T
    layer = store.maps[-1].uid
    expected = spearmanr(
        pdist(store[layer] - store.row_means(layer)[:, None], "cosine"),
        pearson_rdm(Y[:, members(benchmark, "IT", "a")]),
    )[0]
    assert table["score"].sel(
        metric="cRSA", layer=layer, region="IT", subject="a", split="all"
    ).item() == pytest.approx(expected, abs=1e-5)
    assert list(table["region"].values) == ["IT"] and list(table["metric"].values) == ["cRSA"]


def test_alphas_at_the_edges_are_counted(benchmark, store, caplog):
    table = score_model(store, benchmark, ScoreSettings(alphas=(1e-3, 1e-2)), "cpu", progress=False)
    fits = table["alpha"].size
    at_highest = int((table["alpha"] > 5e-3).sum())
    assert f"of {fits} fits" in caplog.text and f"and {at_highest} (" in caplog.text
    assert table.attrs["alphas_at_highest"] == pytest.approx(at_highest / fits)


def test_the_table_is_valid_and_comes_back_from_disk(scores, tmp_path):
    write_scores(scores, tmp_path / "tiny.nc")
    back = read_scores(tmp_path / "tiny.nc")
    np.testing.assert_array_equal(back["score"], scores["score"])
    assert back.attrs["model_uid"] == "tiny" and back.attrs["seed"] == 0


def test_features_of_other_stimuli_and_unknown_names_are_refused(benchmark, store, tmp_path):
    stimuli = pd.DataFrame({"stimulus_id": [f"x{i}" for i in range(N)]})
    rdm = np.ones((N, N)) - np.eye(N)
    other = write_benchmark(tmp_path / "other", stimuli, benchmark.image_paths, rdms={"IT": {"m": rdm}})
    with pytest.raises(InputError, match="expected features of the stimuli of 'other'"):
        score_model(store, other, device="cpu", progress=False)
    with pytest.raises(InputError, match="no ROI 'It'"):
        score_model(store, benchmark, ScoreSettings(rois=("It",)), "cpu", progress=False)
    with pytest.raises(InputError, match=r"did you mean 'eReg'"):
        ScoreSettings(metrics=("ereg",))


@pytest.mark.parametrize(
    "settings",
    [
        {"rdm_comparison": "kendall"},
        {"n_bootstraps": 7},
        {"n_bootstraps": 10**10},
        {"n_permutations": -1},
        {"seed": -1},
        {"seed": 1.5},
        {"metrics": "eReg"},
        {"metrics": ("cRSA", "cRSA")},
        {"rois": ("IT", "IT")},
        {"metrics": None},
        {"metrics": ()},
        {"rois": ()},
        {"rois": (1,)},
        {"rois": 3},
        {"alphas": ()},
        {"alphas": 3.0},
        {"alphas": ("a",)},
        {"alphas": (1j,)},
        {"alphas": (0.0,)},
        {"alphas": (float("nan"),)},
        {"alphas": (1.0, 1.0)},
    ],
)
def test_impossible_settings_are_refused_before_anything_runs(settings):
    with pytest.raises(InputError, match=next(iter(settings)).split("_")[-1]):
        ScoreSettings(**settings)


def test_a_neuroid_that_does_not_vary_is_named(benchmark, store):
    flat = Benchmark(benchmark.folder)
    flat.responses = np.array(benchmark.responses)
    flat.responses[5, 1::2] = 2.0
    with pytest.raises(InputError, match=r"1 neuroids answer all test stimuli alike.*: 'n5';"):
        score_model(store, flat, device="cpu", progress=False)


def test_a_benchmark_of_rdms_has_crsa_only(benchmark, store, tmp_path):
    Y = np.nanmean(benchmark.responses, axis=2).T
    square = np.corrcoef(Y)
    stimuli = pd.read_csv(benchmark.folder / "stimuli.csv")[["stimulus_id"]]
    rdms = write_benchmark(tmp_path / "rdms", stimuli, benchmark.image_paths, rdms={"IT": {"m": 1 - square}})
    table = score_model(store, rdms, device="cpu", progress=False)
    assert list(table["metric"].values) == ["cRSA"] and "neuroid" not in table.dims
    layer = store.maps[0].uid
    centred = store[layer] - np.outer(store.row_means(layer), store.ones(layer))
    expected = np.corrcoef(pdist(centred, "cosine"), pearson_rdm(Y))[0, 1]
    assert table["score"].sel(layer=layer, split="all").item() == pytest.approx(expected, abs=1e-5)
    write_scores(table, tmp_path / "rdms.nc")
    with pytest.raises(InputError, match="metrics for it are cRSA and pRSA"):
        score_model(store, rdms, ScoreSettings(metrics=("eReg",)), "cpu", progress=False)


def test_shuffled_responses_score_zero_on_test(benchmark, store, tmp_path):
    """Mean over 20 permutations of the stimuli within its standard error of zero."""
    rng, means = np.random.default_rng(0), []
    for _ in range(20):
        shuffled = Benchmark(benchmark.folder)
        shuffled.responses = np.asarray(benchmark.responses)[:, rng.permutation(N)]
        table = score_model(store, shuffled, ScoreSettings(metrics=("eReg",)), "cpu", progress=False)
        means.append(table["score"].sel(metric="eReg", split="test").mean().item())
    assert abs(np.mean(means)) < 3 * np.std(means, ddof=1) / np.sqrt(len(means))


def test_the_command_line_does_the_same_and_tells_errors_in_one_line(benchmark, store, scores, tmp_path, capsys):
    out = tmp_path / "cli.nc"
    words = [
        "score",
        str(store.path),
        str(benchmark.folder),
        str(out),
        "--device",
        "cpu",
        "--alphas",
        *map(str, ALPHAS),
    ]
    assert main(words) == 0
    np.testing.assert_array_equal(read_scores(out)["score"], scores["score"])
    capsys.readouterr()
    assert main([*words[:3], str(tmp_path / "no.nc"), "--rois", "V9"]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("deepjuice score: error: no ROI 'V9'")
    assert main(["extract", "alexnett", str(benchmark.folder), str(tmp_path / "no.zarr")]) == 2
    assert "torchvision_alexnet_random" in capsys.readouterr().err
    assert not list(tmp_path.glob("no*"))


def test_nan_in_prepared_responses_is_told_before_anything_runs(benchmark, store, tmp_path, capsys):
    import shutil

    folder = shutil.copytree(benchmark.folder, tmp_path / "broken")
    responses = np.load(folder / "responses.npy")
    responses[4, 7] = np.nan
    np.save(folder / "responses.npy", responses)
    assert main(["score", str(store.path), str(folder), str(tmp_path / "no.nc")]) == 2
    assert "n4" in capsys.readouterr().err and not (tmp_path / "no.nc").exists()


def test_an_interrupted_scoring_says_so_and_leaves_nothing(benchmark, store, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepjuice.benchmark.score_model", interrupted)
    assert main(["score", str(store.path), str(benchmark.folder), str(tmp_path / "no.nc")]) == 130
    assert capsys.readouterr().err.strip() == "deepjuice score: interrupted" and not list(tmp_path.iterdir())
