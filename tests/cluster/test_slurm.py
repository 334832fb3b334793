"""The workflow through a real Slurm, by the profile that users have, with what happens to jobs on a cluster."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from deepjuice import FeatureStore, ScoreSettings, score_model
from deepjuice.results import read_scores
from juicyfruits import Benchmark
from tests.cluster.running import MODEL, Run, fill_in, small_run
from tests.cluster.slurm_box import CPU_NODES, GPU_NODE, wait_for
from tests.running import REPOSITORY, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(1800)]

SMALL = ("--configfile", "own.yaml")
GPU = ("extract:slurm_partition=gpu", "extract:gres=gpu:1", "score:slurm_partition=gpu", "score:gres=gpu:1")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return fill_in(tmp_path_factory.mktemp("profile"))


class Jobs:
    """What Slurm was given after this was made."""

    def __init__(self, box):
        self.box = box
        self.before = {job["JobId"] for job in box.jobs()}

    def of(self, rule):
        return [job for job in self.box.jobs(f"rule_{rule}") if job["JobId"] not in self.before]

    def begun(self, rule, log):
        """The last job of a rule, as soon as its command has begun to write its log."""
        wait_for(lambda: self.of(rule), f"a job of {rule}", 600)
        wait_for(log.exists, f"the start of {rule}", 300)
        return self.of(rule)[-1]


def without_times(path):
    """Scores with all that is told about them, apart from the seconds that they took."""
    scores = read_scores(path).load()
    scores["model_attrs"] = scores["model_attrs"].str.replace(r'"wall_time_score_s": [^,]*', "")
    return scores.drop_attrs().assign_attrs({name: a for name, a in scores.attrs.items() if "wall_time" not in name})


def megabytes(job):
    size, unit = re.fullmatch(r"([\d.]+)([MG])", job["MinMemoryNode"]).groups()
    return float(size) * {"M": 1, "G": 1024}[unit]


def minutes(job):
    hours, minutes, _ = job["TimeLimit"].split(":")
    return 60 * int(hours) + int(minutes)


@pytest.fixture(scope="module")
def disturbed(box, profile, tmp_path_factory):
    """A small run that meets everything that can happen: its folder, its jobs, and a node that died."""
    workdir = small_run(tmp_path_factory.mktemp("disturbed"))
    logs, jobs = workdir / "results/logs", Jobs(box)
    words = (*SMALL, "--set-resources", "extract:mem_mb=700 * attempt", *GPU)  # extraction needs about 1000
    with Run(box, profile, workdir, *words) as run:
        jobs.begun("extract", logs / f"extract/own/{MODEL}.log")
        run.kill()
    with Run(box, profile, workdir, *words) as run:
        box.cancel(jobs.begun("score", logs / f"score/own/{MODEL}.log"))
        node = jobs.begun("aggregate", logs / "aggregate/own.log")["NodeList"]
        box.crash(node)
        try:
            run.end()
        finally:
            box.revive(node)
    return workdir, jobs, node


def test_jobs_of_a_killed_run_end_and_the_same_command_goes_on(disturbed):
    _, jobs, _ = disturbed
    assert [job["JobState"] for job in jobs.of("extract")] == ["FAILED", "FAILED", "COMPLETED"]
    assert megabytes(jobs.of("extract")[0]) == megabytes(jobs.of("extract")[1])  # of two runs, each the first attempt


def test_a_job_killed_for_memory_is_started_again_with_more(disturbed):
    workdir, jobs, _ = disturbed
    killed, again = jobs.of("extract")[1:]
    assert megabytes(killed) == 700 and megabytes(again) == 1400
    log = workdir / f"results/logs/slurm/rule_extract/own_{MODEL}/{killed['JobId']}.log"
    assert "exceeded memory limit" in log.read_text()


def test_a_cancelled_job_is_started_again_with_more_of_all_that_its_rule_asks_for(disturbed):
    _, jobs, _ = disturbed
    cancelled, again = jobs.of("score")
    assert (cancelled["JobState"], again["JobState"]) == ("CANCELLED", "COMPLETED")
    assert megabytes(again) > 1.4 * megabytes(cancelled) and minutes(again) > 1.4 * minutes(cancelled)


def test_a_job_on_a_node_that_dies_goes_on_elsewhere(disturbed):
    _, jobs, node = disturbed
    (job,) = jobs.of("aggregate")
    assert job["JobState"] == "COMPLETED" and job["Restarts"] == "1"
    assert {node, job["NodeList"]} == set(CPU_NODES)


def test_results_are_those_of_a_quiet_run_on_one_machine_to_the_bit(disturbed, tmp_path):
    workdir = disturbed[0]
    snakemake(small_run(tmp_path), *SMALL)
    ours, theirs = (without_times(folder / "results/own/scores.nc") for folder in (workdir, tmp_path))
    assert ours.identical(theirs)
    tables = [(folder / "results/own/best_layers.csv").read_bytes() for folder in (workdir, tmp_path)]
    assert tables[0] == tables[1]


def test_a_job_that_fails_says_why_in_its_log_and_on_the_terminal(box, profile, disturbed):
    workdir, jobs = disturbed[0], Jobs(box)
    with Run(box, profile, workdir, *SMALL, "--retries", "0", "--config", "extract={image_size: 7}") as run:
        text = run.end(ok=False)
    message = "image size 7: "
    assert message in text and "does not take pictures of that size" in text
    assert message in (workdir / f"results/logs/extract/own/{MODEL}.log").read_text()
    (job,) = jobs.of("extract")
    assert job["JobState"] == "FAILED"
    assert (workdir / f"results/logs/slurm/rule_extract/own_{MODEL}/{job['JobId']}.log").is_file()
    assert {path.name for path in workdir.iterdir()} <= {
        "brought",
        "config",
        "own.yaml",
        "out.txt",
        "results",
        ".snakemake",
    }


@pytest.fixture(scope="module")
def whole(box, profile, tmp_path_factory):
    """A folder in which the default job has run on the cluster, and its jobs."""
    workdir, jobs = tmp_path_factory.mktemp("whole"), Jobs(box)
    shutil.copytree(REPOSITORY / "config", workdir / "config")
    with Run(box, profile, workdir, "--slurm-keep-successful-logs") as run:
        run.end(seconds=1500)
    return workdir, jobs


TRAINED, UNTRAINED = "efficientnet_lite0_imagenet1k", "efficientnet_lite0_random"


def test_every_job_of_the_default_run_succeeds_at_its_first_start_and_small_ones_go_as_one(whole):
    _, jobs = whole
    counts = {rule: len(jobs.of(rule)) for rule in ("data", "extract", "score", "aggregate", "report")}
    assert counts == {"data": 1, "extract": 2, "score": 2, "aggregate": 1, "report": 1} and len(jobs.of("")) == 7
    assert {(job["JobState"], job["Restarts"]) for job in jobs.of("")} == {("COMPLETED", "0")}


def test_gpu_rules_get_a_gpu_each_on_the_node_that_has_them_and_start_once(whole):
    workdir, jobs = whole
    for rule in ("extract", "score"):
        for job in jobs.of(rule):
            assert job["NodeList"] == GPU_NODE and job["JOB_GRES"].strip() == "gpu:1"
            (log,) = (workdir / "results/logs/slurm").glob(f"rule_{rule}/*/{job['JobId']}.log")
            assert log.read_text().count(f"localrule {rule}:") == 1
    assert {job["NodeList"] for rule in ("data", "aggregate", "report") for job in jobs.of(rule)} <= set(CPU_NODES)


def test_what_is_asked_for_comes_from_what_was_prepared_in_the_meantime(whole):
    workdir, jobs = whole
    n_images = len(pd.read_csv(workdir / "data/nsd_mini/stimuli.csv"))
    assert {minutes(job) for job in jobs.of("extract")} == {30 + n_images // 50} and n_images >= 50


def test_the_tables_of_the_default_run_are_whole_and_hold_what_scoring_here_gives(whole):
    workdir, _ = whole
    scores = read_scores(workdir / "results/nsd_mini/scores.nc").load()
    assert sorted(scores["model"].values) == [TRAINED, UNTRAINED] and scores.sizes["layer"] == 318
    tidy = pd.read_parquet(workdir / "results/nsd_mini/scores.parquet")
    rows = tidy[tidy["score"].notna()].groupby(["metric", "model_uid", "subj_id"]).size()
    n_cells = 159 * 18  # layers and regions, in each of the splits that a metric has
    assert {metric: set(rows[metric] / n_cells) for metric in ("eReg", "cRSA", "eRSA")} == {
        "eReg": {2},
        "cRSA": {3},
        "eRSA": {2},
    }
    store = FeatureStore(workdir / f"results/nsd_mini/features/{UNTRAINED}.zarr")
    store.maps = store.maps[::40]
    settings = ScoreSettings(n_bootstraps=0, n_permutations=0)
    here = score_model(store, Benchmark(workdir / "data/nsd_mini"), settings, "cpu", progress=False)["score"]
    there = read_scores(workdir / f"results/nsd_mini/scores/{UNTRAINED}.nc")["score"].sel(layer=here["layer"])
    np.testing.assert_allclose(there, here, atol=1e-6)
