"""Snakemake on the login node of the cluster in a box, in the background, and a run that takes seconds a job."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from juicyfruits import write_benchmark
from tests.cluster import quick_snakemake
from tests.running import REPOSITORY

PROFILE = REPOSITORY / "workflow/profiles/slurm/config.yaml"
MODEL = "torchvision_squeezenet1_1_random"
SITE = {  # what a user of this cluster writes into the five lines
    1: "jobs: 4",
    2: "slurm-status-command: squeue",
    3: "",
    4: "  slurm_partition: cpu",
    5: '  extract: &gpu {slurm_partition: gpu, gres: "gpu:1"}',
}


def fill_in(profile):
    """Write the profile with its five lines filled in into a folder, as a user does, and return the folder."""
    lines = PROFILE.read_text().splitlines()
    marked = {int(found.group(1)): i for i, line in enumerate(lines) if (found := re.search(r"# SITE (\d):", line))}
    assert sorted(marked) == sorted(SITE)
    for number, i in marked.items():
        lines[i] = SITE[number]
    (profile / "config.yaml").write_text("\n".join(lines))
    return profile


class Run:
    """A run of the workflow; its end is awaited for minutes, never for ever."""

    def __init__(self, box, profile, workdir, *words):
        command = [sys.executable, quick_snakemake.__file__, "--snakefile", REPOSITORY / "workflow/Snakefile"]
        command += ["--workflow-profile", profile, *words]
        env = {**box.env, "PATH": f"{box.env['PATH']}{os.pathsep}{Path(sys.executable).parent}"}
        env["PYTHONPATH"] = str(REPOSITORY)
        self.workdir = workdir
        self.out = (workdir / "out.txt").open("w+")
        words = [str(word) for word in command]
        self.process = subprocess.Popen(words, cwd=workdir, env=env, stdout=self.out, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.out.close()

    def kill(self):
        """What SIGKILL does to Snakemake; its jobs on the nodes are not told."""
        self.process.kill()
        self.process.wait()

    def end(self, ok=True, seconds=900):
        """What it printed; it must end as `ok` says."""
        self.process.wait(seconds)
        self.out.seek(0)
        text = self.out.read()
        assert (self.process.returncode == 0) == ok, text[-6000:]
        return text


def small_run(workdir):
    """Lay out a folder to run in with a benchmark of one's own, so small that a job takes seconds."""
    rng = np.random.default_rng(0)
    write_benchmark(
        workdir / "brought",
        pd.DataFrame({"stimulus_id": [f"picture{i:02}" for i in range(24)]}),
        list(rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)),
        neuroids=pd.DataFrame({"neuroid_id": [f"n{i}" for i in range(6)], "subject": "s1", "roi_IT": True}),
        responses=rng.standard_normal((6, 24, 2)),
    )
    shutil.copytree(REPOSITORY / "config", workdir / "config")
    config = {
        "benchmarks": {"nsd_mini": None, "own": {"source": "folder", "path": "brought"}},
        "models": [MODEL],
        "score": {"n_bootstraps": 20, "n_permutations": 20},
    }
    (workdir / "own.yaml").write_text(json.dumps(config))
    return workdir
