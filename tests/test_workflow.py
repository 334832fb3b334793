"""The whole offline default through Snakemake, what it must show, and what reruns when something changes."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepjuice import FeatureStore, ScoreSettings, score_model
from deepjuice.results import read_scores
from juicyfruits import Benchmark
from tests.running import REPOSITORY, planned, snakemake

TRAINED, UNTRAINED = "efficientnet_lite0_imagenet1k", "efficientnet_lite0_random"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder in which the default job has run, and what it printed."""
    workdir = tmp_path_factory.mktemp("run")
    shutil.copytree(REPOSITORY / "config", workdir / "config")
    return workdir, snakemake(workdir)


@pytest.fixture(scope="module")
def tidy(run):
    return pd.read_parquet(run[0] / "results/nsd_mini/scores.parquet")


@pytest.fixture(scope="module")
def best(run):
    table = pd.read_csv(run[0] / "results/nsd_mini/best_layers.csv")
    return table.set_index(["model_uid", "metric", "region", "subj_id"]).sort_index()


SUBJECTS = ["subj01", "subj02"]


def test_it_ends_with_where_everything_is_and_the_three_best_layers(run):
    workdir, text = run
    tail = text[text.index("nsd_mini: 2 models") :]
    for name in ("scores.parquet", "best_layers.csv", "scores.nc", "report.html"):
        path = re.search(rf"\S*{name}", tail).group()
        assert (workdir / path).is_file()
    assert len(re.findall(r"^    [123]\. ", tail, re.MULTILINE)) == 3
    assert "to do: 1 make_mini, 1 prepare, 2 extract, 2 score, 1 aggregate, 1 report" in text
    assert "extract: 2/2" in text and "score: 2/2" in text  # progress was shown
    page = (workdir / "results/report.html").read_text()
    assert TRAINED in page and "<svg" in page and "<script" not in page


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("metric", ["eReg", "eRSA"])
def test_the_best_layer_for_evc_lies_earlier_than_that_for_otc(best, metric, subject):
    evc, otc = (best.loc[(TRAINED, metric, region, subject)] for region in ("EVC", "OTC"))
    assert evc["model_layer_index"] < otc["model_layer_index"]


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("metric", ["eReg", "cRSA", "eRSA"])
def test_the_trained_network_beats_its_untrained_twin_in_otc(best, metric, subject):
    trained, untrained = (best.loc[(model, metric, "OTC", subject), "score_test"] for model in (TRAINED, UNTRAINED))
    assert trained > untrained + 0.1


def test_mean_scores_stay_below_the_true_ceiling(run, tidy):
    """The ceiling of the table is the true one: the ncsnr that the voxels' noise was drawn with."""
    encoding = tidy[(tidy["metric"] == "eReg") & (tidy["cv_split"] == "test")]
    assert encoding["ceiling"].notna().all() and (encoding["ceiling"] < 1).all()
    assert (encoding["score"] < encoding["ceiling"]).all()
    assert set(encoding["region"]) >= {"EVC", "OTC", "V1", "hV4", "FFA", "PPA"}


def test_a_permuted_benchmark_scores_zero_on_test_and_below_on_train(run):
    """Leave-one-out predictions of noise correlate negatively with it: each is near the mean of the others."""
    workdir, _ = run
    store = FeatureStore(workdir / f"results/nsd_mini/features/{TRAINED}.zarr")
    store.maps = store.maps[:: len(store.maps) // 4]
    rng, test, train = np.random.default_rng(0), [], []
    for _ in range(8):
        benchmark = Benchmark(workdir / "data/nsd_mini").subset(rois=["EVC", "OTC"])
        benchmark.responses = np.asarray(benchmark.responses)[:, rng.permutation(len(benchmark.image_paths))]
        table = score_model(store, benchmark, ScoreSettings(metrics=("eReg",)), "cpu", progress=False)
        mean = table["score"].sel(metric="eReg").mean(["layer", "region", "subject"])
        test.append(mean.sel(split="test").item())
        train.append(mean.sel(split="train").item())
    error = np.std(test, ddof=1) / np.sqrt(len(test))
    assert abs(np.mean(test)) < 3 * error < 0.06
    assert np.mean(train) < 0


def test_every_map_is_there_with_its_voxels(run):
    workdir, _ = run
    scores = read_scores(workdir / f"results/nsd_mini/scores/{TRAINED}.nc")
    assert scores.sizes["layer"] == 159 and scores.sizes["neuroid"] > 400
    assert scores["encoding"].sel(split=["train", "test"]).notnull().all()
    on_test = scores.sel(split="test")
    measured = on_test["score"].notnull()
    ordered = (on_test["ci_low"] < on_test["ci_high"]) & (on_test["p_value"] <= on_test["p_max"])
    assert ordered.where(measured, True).all()
    memory = pd.read_csv(workdir / f"results/logs/extract/nsd_mini/{TRAINED}.tsv", sep="\t")["max_rss"].item()
    assert memory < 4096  # MB


def test_a_second_run_does_nothing(run):
    assert planned(run[0]) == {}


def test_a_whole_number_is_one_however_it_is_written(run):
    assert planned(run[0], "--config", "score={n_bootstraps: 1e3, n_permutations: 1000.0}") == {}


def test_the_report_of_snakemake_holds_results_and_captions_without_the_network(run):
    snakemake(run[0], "--report", "how.html")
    page = (run[0] / "how.html").read_text()
    for text in ("best_layers.csv", "summary.txt", "report.html", "efficientnet_lite0_imagenet1k"):
        assert text in page
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"https?://", page)


def test_a_third_model_computes_that_model_only(run):
    workdir, _ = run
    models = f'models=["{TRAINED}", "{UNTRAINED}", "torchvision_alexnet_random"]'
    assert planned(workdir, "--config", models) == {"extract": 1, "score": 1, "aggregate": 1, "report": 1}
    before = (workdir / f"results/nsd_mini/scores/{TRAINED}.nc").stat().st_mtime_ns
    snakemake(workdir, "--config", models)
    assert (workdir / f"results/nsd_mini/scores/{TRAINED}.nc").stat().st_mtime_ns == before
    table = pd.read_parquet(workdir / "results/nsd_mini/scores.parquet")
    assert table["model_uid"].nunique() == 3
    assert planned(workdir, "--config", models) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modells=[a]"], "did you mean 'models'"),
        (["score={alpha: [1]}"], "score: .*'alpha' was unexpected.*did you mean 'alphas'"),
        (["score={metrics: [eRag]}"], "'eRag' is not one of"),
        (["benchmarks={own: {source: nsd, sessions: [1]}}"], "benchmarks: own: 'sessions' is not one of"),
        (["benchmarks={own: {source: nsd, image_set: all}}"], "own: image_set all needs the list `subjects`"),
        (["benchmarks={own: {source: nsd, image_set: some}}"], "own: image_set: 'some' is not one of"),
        (
            ["benchmarks={v4_1: {source: cowley_v4}, v4: {source: cowley_v4, sessions: [1, 2]}}"],
            "two benchmarks would be called v4_1",
        ),
        (["benchmarks={own: {source: folder, rois: [V1]}}"], "benchmarks: own: 'rois' is not one of"),
        (["extract={batch_size: 0}"], "extract: batch_size: "),
        (["extract={eps: nan}"], "extract: eps: 'nan' is not of type 'number'"),
        (["score={rois: [FFFA]}"], "benchmark nsd_mini has no region 'FFFA'; did you mean 'FFA'"),
        (["results=data/out"], "results: data/out is, or lies in, the folder of data"),
        (["benchmarks={logs: {source: mini}}"], "benchmarks: 'logs' does not match"),
        (['models=["alexnt"]'], "did you mean 'torchvision_alexnet_imagenet1k_v1'"),
        (["benchmarks={absent: {source: folder}}"], "absent: expected a folder with stimuli.csv at data/absent"),
        (["benchmarks=[nsd_mini]"], "benchmarks: .* is not of type 'object'"),
        (["model_table=absent.tsv"], "model_table: absent.tsv cannot be read"),
    ],
)
def test_a_wrong_key_is_named(run, words, message):
    assert re.search(message, snakemake(run[0], "--dry-run", "--config", *words, ok=False))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (['models=["torchvision_alexnet_random"]', "extract={memory_limit: 1MB, eps: 0.3}"], "memory limit 1.00 MB"),
    ],
)
def test_a_failing_job_says_why_and_leaves_nothing_half_written(run, words, message):
    workdir, _ = run
    before = {path: path.stat().st_mtime_ns for path in (workdir / "results").glob("*/*.*")}
    assert re.search(message, snakemake(workdir, "--config", *words, ok=False))
    assert not list((workdir / "results/nsd_mini/features").glob("*.partial"))
    assert not list((workdir / "results").rglob("*.tmp"))
    assert {path: path.stat().st_mtime_ns for path in (workdir / "results").glob("*/*.*")} == before


def test_your_own_folder_is_a_benchmark(run, tmp_path):
    """The miniature itself, brought as a folder; RDMs only, so that it is quick."""
    workdir, _ = run
    mini = Benchmark(workdir / "data/nsd_mini")
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    folder = tmp_path / "brought"
    (folder / "images").mkdir(parents=True)
    stimuli = mini.stimulus_data.head(20).copy()
    for path in stimuli["image_path"]:
        shutil.copy(path, folder / "images")
    stimuli["image_path"] = [f"images/{Path(path).name}" for path in stimuli["image_path"]]
    stimuli[["stimulus_id", "image_path"]].to_csv(folder / "stimuli.csv", index=False)
    np.savez(folder / "rdms.npz", IT__m1=1 - np.corrcoef(mini.response_data.to_numpy().T[:20]))
    config = tmp_path / "own.yaml"
    own = {"nsd_mini": None, "own": {"source": "folder", "path": "brought"}}
    config.write_text(json.dumps({"benchmarks": own, "models": ["torchvision_alexnet_random"]}))
    text = snakemake(tmp_path, "--configfile", config)
    assert "brought: 1 model, 18 layers" in text
    assert planned(tmp_path, "--configfile", config) == {}
    changed = next((folder / "images").iterdir())
    shutil.copy(mini.image_paths[50], changed)
    assert planned(tmp_path, "--configfile", config) == {"extract": 1, "score": 1, "aggregate": 1, "report": 1}
    snakemake(tmp_path, "--configfile", config)
    np.savez(folder / "rdms.npz", IT__m1=1 - np.corrcoef(mini.response_data.to_numpy().T[20:40]))
    assert planned(tmp_path, "--configfile", config) == {"score": 1, "aggregate": 1, "report": 1}


def test_a_model_table_that_is_no_table_is_refused(run, tmp_path):
    for text, message in [
        ("model_uid\ttags\n", "has no models"),
        ("model_uid\ttags\na\tx\na\ty\n", "names 'a' twice"),
        ("model\ttags\na\tx\n", "'model' was unexpected|'model_uid' is a required"),
    ]:
        table = tmp_path / "models.tsv"
        table.write_text(text)
        assert re.search(message, snakemake(run[0], "--dry-run", "--config", f"model_table={table}", ok=False))
