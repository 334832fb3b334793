"""From a public bucket to scores by one command: the miniature behind a real S3 protocol, through a bad connection."""

import json
import logging

import boto3
import numpy as np
import pandas as pd
import pytest
from hostile import Fault, Hostile
from moto.server import ThreadedMotoServer

from juicyfruits import Benchmark
from juicyfruits.nsd import layout
from juicyfruits.nsd.prepare import prepare_nsd
from tests.running import REPOSITORY, planned, snakemake

BUCKET = "natural-scenes-dataset"
BOTH = ["subj01", "subj02"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(mini_source):
    """A server that misbehaves on demand, in front of an S3 server with the miniature as a public bucket."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    address = "http://{}:{}".format(*moto.get_host_and_port())
    owner = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **owner)
    client.create_bucket(Bucket=BUCKET)
    for path in mini_source.rglob("*"):
        if path.is_file():
            key = str(path.relative_to(mini_source))
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes(), ACL="public-read")
    with Hostile(upstream=address) as hostile:
        yield hostile
    moto.stop()


def configure(workdir, bucket, **settings):
    nsd = {"source": "nsd", "path": f"s3://{BUCKET}?endpoint={bucket.url}", "subjects": BOTH, **settings}
    config = {
        "model_table": str(REPOSITORY / "config/models.tsv"),
        "models": ["torchvision_alexnet_random"],
        "benchmarks": {"nsd_mini": None, "nsd": nsd},
        "extract": {"eps": 0.5},
        "score": {"n_bootstraps": 0, "n_permutations": 0, "rois": ["EVC", "OTC"]},
    }
    (workdir / "config.json").write_text(json.dumps(config))
    return "--configfile", workdir / "config.json"


def test_fetch_prepare_and_score_from_a_public_bucket(bucket, mini_source, tmp_path):
    config = configure(tmp_path, bucket)
    text = snakemake(tmp_path, *config, ok=False)
    assert "the terms of use of nsd must be accepted once" in text and not bucket.sent

    config = configure(tmp_path, bucket, accept_terms=True)
    betas = [f"/{BUCKET}/{layout.betas_session(subject, n)}" for subject in BOTH for n in (1, 2)]
    for path, fault in zip(
        betas, (Fault(break_after=9000), Fault(corrupt=500), Fault(truncate=99), Fault(status=500)), strict=True
    ):
        bucket.faults[path] = [fault]
    text = snakemake(tmp_path, *config)
    assert "nsd: 1 model, 18 layers, " in text
    assert "came damaged" in (tmp_path / "results/logs/fetch/nsd.log").read_text()
    size = (mini_source / layout.betas_session("subj01", 1)).stat().st_size
    assert [bucket.sent[path] for path in betas] == [size, 2 * size, size + 99, size]  # broken, damaged, cut short, 500
    header = 65_536
    assert bucket.sent[f"/{BUCKET}/{layout.STIMULI}"] == header + 20 * 48 * 48 * 3

    fetched, plain = Benchmark(tmp_path / "data/nsd"), prepare_nsd(mini_source, tmp_path / "plain")
    assert fetched.digest == plain.digest and fetched.name == "nsd"
    table = pd.read_parquet(tmp_path / "results/nsd/scores.parquet")
    assert set(table["region"]) == {"EVC", "OTC"} and set(table["subj_id"]) == set(BOTH)
    assert np.isfinite(table["score"]).all()
    assert planned(tmp_path, *config) == {}


def test_another_choice_fetches_only_what_is_missing(bucket, mini_source, tmp_path):
    prepare_nsd(mini_source, tmp_path / "data/nsd", subjects=["subj02"])  # by hand and otherwise: is made again
    config = configure(tmp_path, bucket, accept_terms=True, rois=["EVC", "OTC"], subjects=["subj01"])
    snakemake(tmp_path, *config, "--until", "prepare")
    assert Benchmark(tmp_path / "data/nsd").subjects == ["subj01"]
    before = bucket.sent.copy()
    config = configure(
        tmp_path, bucket, accept_terms=True, rois=["EVC", "OTC", "far=ecc4 | ecc4+"], subjects=["subj01"]
    )
    assert planned(tmp_path, *config).keys() >= {"fetch", "prepare", "extract", "score"}
    snakemake(tmp_path, *config, "--until", "prepare")
    assert Benchmark(tmp_path / "data/nsd").rois == ["EVC", "OTC", "far"]
    come = {path for path in bucket.sent if bucket.sent[path] > before[path]}
    assert come == {f"/{BUCKET}/{layout.roi_map('subj01', 'prf-eccrois')}"}


def test_subjects_with_pictures_of_their_own_are_benchmarks_of_their_own(bucket, tmp_path):
    config = configure(tmp_path, bucket, accept_terms=True, image_set="all", repeats="mean")
    snakemake(tmp_path, *config, "--until", "prepare")
    for subject in BOTH:
        benchmark = Benchmark(tmp_path / f"data/nsd_{subject}")
        assert benchmark.subjects == [subject] and benchmark.test.sum() == 20 and benchmark.train.sum() == 4
        assert (benchmark.repeats() == 3).all() and benchmark.responses.shape[2] == 1
