"""What a change reruns: a table of changes against the jobs that Snakemake plans, its reasons, and some of them run."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from deepjuice.results import read_scores
from juicyfruits.synthetic.mini import make_mini
from tests.juicyfruits.tiny_brain import TINY
from tests.running import job_counts, planned, snakemake

pytestmark = pytest.mark.slow

FIRST, SECOND, THIRD = (f"torchvision_{name}_random" for name in ("alexnet", "squeezenet1_1", "squeezenet1_0"))
SETTINGS = {"source": "nsd", "path": "release", "subjects": ["subj01", "subj02"], "rois": ["EVC", "OTC", "V1"]}
CONFIG = {
    "model_table": "models.tsv",
    "benchmarks": {"nsd": SETTINGS},
    "device": "cpu",
    "extract": {"eps": 0.5, "memory_limit": "2GB"},
    "score": {"n_bootstraps": 20, "n_permutations": 20},
}
SCORING = {"score": 2, "aggregate": 1, "report": 1}
ALL = {"extract": 2, **SCORING}
TABLES = {"aggregate": 1, "report": 1}
ONE_MORE = {"extract": 1, "score": 1, **TABLES}

# A change: settings merged into CONFIG, a stage of another version, words of the command line; jobs; a reason.
CHANGES = {
    "nothing": ({}, "", [], {}, None),
    "alphas": (
        {"score": {"alphas": [1, 100]}},
        "",
        [],
        SCORING,
        r"Params have changed.*now: \['--alphas', '1', '100'\]",
    ),
    "scored ROIs": ({"score": {"rois": ["EVC"]}}, "", [], SCORING, r"Params have changed.*now: \['--rois', 'EVC'\]"),
    "statistics": (
        {"score": {"n_bootstraps": 50}},
        "",
        [],
        SCORING,
        r"before: \['--n-bootstraps', '20'\] now: \['--n-bootstraps', '50'\]",
    ),
    "comparison": ({"score": {"rdm_comparison": "spearman"}}, "", [], SCORING, "spearman"),
    "metrics": ({"score": {"metrics": ["eReg"]}}, "", [], SCORING, r"now: \['--metrics', 'eReg'\]"),
    "profiles": (
        {"score": {"metrics": ["eReg", "cRSA", "eRSA", "pRSA"]}},
        *("", [], {"profile": 2, **SCORING}),
        r"now: \['--metrics', 'eReg', 'cRSA', 'eRSA', 'pRSA'\]",
    ),
    "profiles that nobody asked for": ({"profile": {"threshold": 0.5}}, "", [], {"report": 1}, None),
    "prepared ROIs": ({"benchmarks": {"nsd": {"rois": ["EVC", "OTC"]}}}, "", [], {"prepare": 1, **SCORING}, "Params"),
    "threshold": ({"benchmarks": {"nsd": {"ncsnr_threshold": 0.3}}}, "", [], {"prepare": 1, **SCORING}, "0.3"),
    "repeats": ({"benchmarks": {"nsd": {"repeats": "mean"}}}, "", [], {"prepare": 1, **SCORING}, "mean"),
    "image set": ({"benchmarks": {"nsd": {"image_set": "shared515"}}}, "", [], {"prepare": 1, **ALL}, "shared515"),
    "subjects": ({"benchmarks": {"nsd": {"subjects": ["subj01"]}}}, "", [], {"prepare": 1, **ALL}, "subj02"),
    "features": ({"extract": {"eps": 0.6}}, "", [], ALL, r"before: \['--eps', '0.5'\] now: \['--eps', '0.6'\]"),
    "image size": ({"extract": {"image_size": 160}}, "", [], ALL, r"Params.*now: \['--image-size', '160'\]"),
    "order of the settings": ({"score": {"n_permutations": 20}}, "", [], {}, None),
    "seed": ({"seed": 1}, "", [], ALL, r"before: \['--seed', '0'\] now: \['--seed', '1'\]"),
    "memory and batch": ({"extract": {"batch_size": 3, "memory_limit": "3GB"}}, "", [], {"report": 1}, None),
    "device": ({"device": "auto"}, "", [], {"report": 1}, None),
    "parts": ({"score": {"parts": 3}}, "", [], {"score": 6, "join": 2, **TABLES}, None),
    "code of extraction": ({}, "deepjuice.versions.EXTRACT", [], ALL, "Params have changed"),
    "code of scoring": ({}, "deepjuice.versions.SCORE", [], SCORING, "Params have changed"),
    "code of tables": ({}, "deepjuice.versions.AGGREGATE", [], TABLES, "Params have changed"),
    "code of the report": ({}, "deepjuice.versions.REPORT", [], {"report": 1}, "Params have changed"),
    "code of preparation": ({}, "juicyfruits.versions.PREPARE", [], {"prepare": 1, **ALL}, "Params have changed"),
    "one model more": ({"models": [FIRST, SECOND, THIRD]}, "", [], ONE_MORE, f"Missing output files: .*{THIRD}"),
    "one model fewer": ({"models": [FIRST]}, "", [], TABLES, "Set of input files has changed"),
    "a tag": ({"tag": "later"}, "", [], ONE_MORE, f"Missing output files: .*{THIRD}"),
    "two tags": ({"tag": ["later", "fire"]}, "", [], ONE_MORE, None),
    "a second benchmark": (
        {"benchmarks": {"one": {**SETTINGS, "subjects": ["subj01"]}}},
        *("", [], {"prepare": 1, "extract": 2, "score": 2, "aggregate": 1, "report": 1}),
        "Missing output files: .*data/one",
    ),
    "one subject a benchmark": (
        {"benchmarks": {"nsd": None, "own": {**SETTINGS, "image_set": "unique"}}},
        *("", [], {"prepare": 2, "extract": 4, "score": 4, "aggregate": 2, "report": 1}),
        "data/own_subj02",
    ),
    "a file by name": ({}, "", [f"results/nsd/scores/{THIRD}.nc"], {"extract": 1, "score": 1}, "Missing output files"),
}


def merged(config, change):
    """Merge settings into settings, section by section; those that change come first, as order must not matter."""
    both = {**change, **config, **change}
    for key in config.keys() & change.keys():
        if isinstance(config[key], dict) and isinstance(change[key], dict):
            both[key] = merged(config[key], change[key])
    return both


def configured(workdir, name, change):
    path = workdir / f"{name.replace(' ', '_')}.json"
    path.write_text(json.dumps(merged(CONFIG, change)))
    return "--configfile", path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder in which two models have been run on a tiny brain."""
    workdir = tmp_path_factory.mktemp("reruns")
    make_mini(workdir / "release", **TINY)
    (workdir / "config").mkdir()
    (workdir / "config/config.yaml").write_text(json.dumps(CONFIG))
    lines = ["model_uid\ttags", f"{FIRST}\told, large", f"{SECOND}\tsmall,fire", f"{THIRD}\tlater,fire"]
    (workdir / "models.tsv").write_text("\n".join(lines[:3]) + "\n")
    snakemake(workdir)
    (workdir / "tagged.tsv").write_text("\n".join(lines) + "\n")
    return workdir


@pytest.fixture(scope="module")
def plans(run):
    """What a dry run prints after every change, two at a time."""

    def plan(name):
        change, version, words, _, _ = CHANGES[name]
        module, _, stage = version.rpartition(".")
        code = f"import {module} as versions; versions.{stage} += 1" if version else ""
        table = {"model_table": "tagged.tsv"} if "tag" in change else {}
        return snakemake(run, *words, "--dry-run", *configured(run, name, change | table), code=code)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CHANGES, pool.map(plan, CHANGES), strict=True))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_exactly_what_depends_on_it_and_says_why(plans, name):
    *_, jobs, reason = CHANGES[name]
    assert job_counts(plans[name]) == jobs
    assert reason is None or re.search(reason, plans[name])
    assert "Code has changed" not in plans[name] or name == "parts"  # score files are then another rule's


def test_a_newer_release_is_extracted_from_though_the_run_was_stopped_after_preparation(run, plans):
    release = run / "release"
    before = release.stat()
    os.utime(release)
    assert planned(run) == {"prepare": 1, **ALL}
    snakemake(run, "--until", "prepare")
    assert planned(run) == ALL
    os.utime(release, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert planned(run) == SCORING


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_other_voxels_are_scored_with_the_features_that_are_there(run):
    features = times(run / "results/nsd/features")
    config = configured(run, "executed", {"benchmarks": {"nsd": {"rois": ["EVC", "OTC"]}}})
    snakemake(run, *config)
    assert times(run / "results/nsd/features") == features
    assert read_scores(run / f"results/nsd/scores/{FIRST}.nc")["region"].values.tolist() == ["EVC", "OTC"]
    assert planned(run, *config) == {}


def test_a_region_that_is_not_there_is_refused_before_scores_are_removed(run):
    scores = times(run / "results/nsd/scores")
    own = {"nsd": None, "own": {"source": "folder", "path": "data/nsd"}}
    config = configured(run, "wrong", {"benchmarks": own, "score": {"rois": ["EVC", "V9"]}})
    (run / "results/own").symlink_to("nsd")
    text = snakemake(run, *config, ok=False)
    (run / "results/own").unlink()
    assert "config: score: rois: benchmark own has no region 'V9'" in text
    assert times(run / "results/nsd/scores") == scores


def test_other_pictures_are_extracted_anew(run):
    before = read_scores(run / f"results/nsd/scores/{FIRST}.nc").attrs["features_digest"]
    config = configured(run, "pictures", {"benchmarks": {"nsd": {"image_set": "all", "subjects": ["subj01"]}}})
    snakemake(run, *config)
    assert read_scores(run / f"results/nsd/scores/{FIRST}.nc").attrs["features_digest"] != before
    assert planned(run, *config) == {}


def test_layers_in_parts_change_no_number(run):
    whole, parts = configured(run, "whole", {"models": [SECOND]}), {"models": [SECOND], "score": {"parts": 3}}
    snakemake(run, *whole)
    path = run / f"results/nsd/scores/{SECOND}.nc"
    expected, table = read_scores(path), pd.read_parquet(run / "results/nsd/scores.parquet")
    parts = configured(run, "in parts", parts)
    text = snakemake(run, *parts)
    assert "rule join" in text or "join" in text
    found = read_scores(path)
    time = {"wall_time_score_s": 0}
    assert found.assign_attrs(time).identical(expected.assign_attrs(time))
    pd.testing.assert_frame_equal(pd.read_parquet(run / "results/nsd/scores.parquet"), table, check_exact=True)
    assert not list((run / "results/nsd/scores/parts").rglob("*.nc"))
    assert planned(run, *parts) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tag=smal"], "no line of tagged.tsv carries 'smal'; did you mean 'small'"),
        (["tag=[small, larg]"], "carries 'larg'; did you mean 'large'"),
        (["tag=small", f"models=[{FIRST}]"], "models and tag are both set"),
        (["score={parts: 0}"], "score: parts: "),
        (["extract={memory_limit: much}"], "extract: memory limit 'much': expected a positive size"),
    ],
)
def test_a_wrong_choice_is_named(run, words, message):
    text = snakemake(run, "--dry-run", "--config", "model_table=tagged.tsv", *words, ok=False)
    assert re.search(message, text)


def test_a_file_of_an_unknown_model_is_refused(run):
    text = snakemake(run, "--dry-run", "results/nsd/scores/alexnt.nc", ok=False)
    assert "did you mean 'torchvision_alexnet" in text
