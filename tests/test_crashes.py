"""Runs that are killed: the same command again comes to the same end to the bit, and needs no hand."""

import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.killing import (
    KINDS,
    LONG,
    finish,
    kill,
    lay_out,
    left_over,
    outcome,
    start,
    wait_for_jobs,
    working_in,
)

pytestmark = pytest.mark.slow
N_KILLS, SEEDS = 10, (0, 1)  # kills a chain, and a chain a seed

LASTING = """
import time
from pathlib import Path
from juicyfruits.errors import exit_status
def work():
    Path("works").touch()
    time.sleep(600)
exit_status("job", work)
"""


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path):
    yield
    for process in working_in(tmp_path):
        process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nobody disturbed, and the seconds from its first job to its end."""
    workdir = lay_out(tmp_path_factory.mktemp("undisturbed"))
    run = start(workdir)
    wait_for_jobs(run, workdir)
    begin = time.perf_counter()
    assert run.wait(LONG) == 0, (workdir / "log").read_text()[-4000:]
    return workdir, time.perf_counter() - begin


def test_kills_at_random_moments_change_nothing(undisturbed, tmp_path):
    workdir, seconds = undisturbed
    expected = outcome(workdir)
    assert {"scores.nc", "scores.parquet", "best_layers.csv", "comparisons.parquet", "summary.txt"} < set(expected)
    with ThreadPoolExecutor(len(SEEDS)) as chains:
        for chain in [chains.submit(disturb, tmp_path / str(seed), expected, seconds, seed) for seed in SEEDS]:
            chain.result()


def disturb(workdir, expected, seconds, seed):
    """Kill runs at moments within the length of one, each going on from the one before, and let the last one end."""
    lay_out(workdir)
    rng, n_kills = random.Random(seed), 0
    while n_kills < N_KILLS:
        kind, moment = KINDS[n_kills % len(KINDS)], rng.uniform(0, seconds)
        run = start(workdir)
        killed = kill_after(run, workdir, moment, kind, rng)
        status = run.wait(LONG)
        print(f"seed {seed}, kill {n_kills}: {kind}, {moment:.2f} s of {seconds:.2f}: {killed}, status {status}")
        check_said(workdir)
        n_kills += bool(killed)
        if status == 0:  # nothing was left to be disturbed: once more from the beginning
            check_end(workdir, expected)
            for folder in ("results", "data", ".snakemake"):
                shutil.rmtree(workdir / folder)
    finish(workdir)
    check_said(workdir)
    check_end(workdir, expected)


def kill_after(run, workdir, moment, kind, rng):
    """Kill some seconds after the run has begun with its jobs, or as soon afterwards as there is something to kill."""
    wait_for_jobs(run, workdir)
    time.sleep(moment)
    while run.poll() is None:
        if killed := kill(run, kind, rng):
            return killed
        time.sleep(0.02)
    return []


def check_said(workdir):
    said = (workdir / "log").read_text()
    for word in ("unlock", "LockException", "cannot be locked", "in use by", "Traceback", "IncompleteFiles"):
        assert word not in said, said[-4000:]


def check_end(workdir, expected):
    found = outcome(workdir)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert left_over(workdir) == []
    assert working_in(workdir) == []


def test_a_run_is_refused_while_another_one_has_its_results_whatever_its_profile(tmp_path):
    """It does nothing; a look at what would be done is not refused."""
    run = start(lay_out(tmp_path))
    wait_for_jobs(run, tmp_path)
    os.kill(run.pid, signal.SIGSTOP)  # so that it is there when the other one comes
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("nolock: true\nrerun-incomplete: true\ncores: 1")
    other = start(tmp_path, "--workflow-profile", profile, log="other")
    look = start(tmp_path, "--dry-run", log="look")
    assert (other.wait(LONG), look.wait(LONG)) == (1, 0)
    said = (tmp_path / "other").read_text()
    assert f"results is in use by another run of the workflow (process {run.pid} on " in said
    assert "Traceback" not in said and "Finished job" not in said
    assert kill(run, "all", random.Random(0))
    run.wait()


def test_jobs_end_soon_after_snakemake_was_killed(tmp_path):
    """With a job that would last."""
    lay_out(tmp_path)
    (tmp_path / "job.py").write_text(LASTING)
    (tmp_path / "bin" / "juicyfruits").write_text(f"#!/bin/sh\nexec {sys.executable} job.py\n")
    run = start(tmp_path)
    while not (tmp_path / "works").exists():
        assert run.poll() is None
        time.sleep(0.05)
    assert kill(run, "snakemake", random.Random(0))
    run.wait()
    until = time.monotonic() + 60
    while working_in(tmp_path):
        assert time.monotonic() < until
        time.sleep(0.1)
