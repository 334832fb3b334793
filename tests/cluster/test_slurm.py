"""The workflow through a real Slurm, by the profile that users have, with what happens to jobs on a cluster."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from juicyfruits import write_benchmark
from tests.cluster import quick_snakemake
from tests.cluster.slurm_box import wait_for
from tests.running import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

PROFILE = REPOSITORY / "workflow/profiles/slurm/config.yaml"
MODEL = "torchvision_squeezenet1_1_random"
SITE = {  # what a user of this cluster writes into the five lines
    1: "jobs: 4",
    2: "slurm-status-command: squeue",
    3: "",
    4: "  slurm_partition: cpu",
    5: '  extract: &gpu {slurm_partition: gpu, gres: "gpu:1"}',
}


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The profile with its five lines filled in."""
    lines = PROFILE.read_text().splitlines()
    marked = {int(found.group(1)): i for i, line in enumerate(lines) if (found := re.search(r"# SITE (\d):", line))}
    assert sorted(marked) == sorted(SITE)
    for number, i in marked.items():
        lines[i] = SITE[number]
    path = tmp_path_factory.mktemp("profile") / "config.yaml"
    path.write_text("\n".join(lines))
    return path.parent


class Run:
    """Snakemake on the login node, in the background; its end is awaited for minutes, never for ever."""

    def __init__(self, box, profile, workdir, *words):
        command = [sys.executable, quick_snakemake.__file__, "--snakefile", REPOSITORY / "workflow/Snakefile"]
        command += ["--workflow-profile", profile, *words]
        env = {**box.env, "PATH": f"{box.env['PATH']}:{Path(sys.executable).parent}"}
        self.out = (workdir / "out.txt").open("w+")
        words = [str(word) for word in command]
        self.process = subprocess.Popen(words, cwd=workdir, env=env, stdout=self.out, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.out.close()

    def end(self, ok=True, seconds=600):
        """What it printed; it must end as `ok` says."""
        try:
            self.process.wait(seconds)
        finally:
            self.out.seek(0)
            text = self.out.read()
            print(text)
        assert (self.process.returncode == 0) == ok, text[-4000:]
        return text


@pytest.fixture
def small(tmp_path):
    """A folder to run in with a benchmark of one's own, so small that a job takes seconds."""
    rng = np.random.default_rng(0)
    ids = [f"picture{i:02}" for i in range(24)]
    pictures = list(rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8))
    neuroids = pd.DataFrame({"neuroid_id": [f"n{i}" for i in range(6)], "subject": "s1", "roi_IT": True})
    write_benchmark(
        tmp_path / "brought",
        pd.DataFrame({"stimulus_id": ids}),
        pictures,
        neuroids=neuroids,
        responses=rng.standard_normal((6, 24, 2)),
    )
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    config = {
        "benchmarks": {"nsd_mini": None, "own": {"source": "folder", "path": "brought"}},
        "models": [MODEL],
        "score": {"n_bootstraps": 20, "n_permutations": 20},
    }
    (tmp_path / "own.yaml").write_text(json.dumps(config))
    return tmp_path


def test_small(box, profile, small):
    with Run(box, profile, small, "--configfile", "own.yaml") as run:
        text = run.end(seconds=240)
    for job in box.jobs("rule_"):
        print({k: job.get(k) for k in "JobId JobState Restarts Comment NodeList MinMemoryNode TimeLimit JOB_GRES GRES NumCPUs RunTime".split()})
    print(subprocess.run(["find", small / "results"], capture_output=True, text=True).stdout)
    assert 0
