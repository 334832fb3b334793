"""A small but whole run of the workflow, SIGKILL for parts of it, and what must be equal in the end."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import xarray as xr

from juicyfruits.run_lock import RUN
from tests.running import SNAKEFILE

BENCHMARK, MODEL = "nsd_mini", "torchvision_alexnet_random"
CONFIG = {
    "benchmarks": {BENCHMARK: {"source": "mini", "rois": ["EVC"]}},
    "models": [MODEL],
    "device": "cpu",
    "extract": {"eps": 0.5, "batch_size": 4, "memory_limit": "2GB"},
    "score": {"n_bootstraps": 20, "n_permutations": 20},
}
# What the rule make_mini starts; its brain of 280 pictures takes a while, one of 22 a second.
JUICYFRUITS = """#!/bin/sh
[ "$1" = make-mini ] && set -- "$@" --shared 20 --unique 2 --subjects 1
exec {python} -m juicyfruits.cli "$@"
"""
KINDS = ("snakemake", "job", "all")
LONG = 900  # seconds after which a run hangs


def lay_out(workdir):
    """Make a folder in which the workflow can be run."""
    for name in ("bin", "config"):
        (workdir / name).mkdir(parents=True)
    (workdir / "config" / "config.yaml").write_text(json.dumps(CONFIG))
    command = workdir / "bin" / "juicyfruits"
    command.write_text(JUICYFRUITS.format(python=shlex.quote(sys.executable)))
    command.chmod(0o755)
    return workdir


def start(workdir, *words, log="log"):
    """Start Snakemake there, in a session of its own, with a file for what it says."""
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    path = os.pathsep.join([str(workdir / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    with (workdir / log).open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--snakefile", SNAKEFILE, *words],
            cwd=workdir,
            env={**hidden, "PATH": path},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def wait_for_jobs(run, workdir):
    """Wait until a run has its lock and so begins with its jobs, or has ended; before, it only reads."""
    lock = workdir / "results" / RUN
    while run.poll() is None and not (lock.exists() and f'"pid": {run.pid},' in lock.read_text()):
        time.sleep(0.02)


def finish(workdir):
    """Run it to the end, which must be a good one."""
    status, said = start(workdir).wait(LONG), (workdir / "log").read_text()
    assert status == 0, said[-4000:]


def kill(process, kind, choice: random.Random):
    """SIGKILL Snakemake, one process of its jobs, or all at once; return the words of what was killed, [] if none."""
    jobs = descendants(process)
    if process.poll() is not None or (kind == "job" and not jobs):
        return []
    victims = {"snakemake": [], "job": [choice.choice(jobs)] if jobs else [], "all": jobs}[kind]
    told = [said for job in victims if (said := words(job))]
    for pid in [*([] if kind == "job" else [process.pid]), *(job.pid for job in victims)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return told or [kind]


def descendants(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def words(process):
    try:
        return " ".join(Path(word).name for word in process.cmdline())[:80]
    except psutil.Error:
        return ""


def working_in(workdir):
    """Return the processes that have a folder as their own."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(workdir):
                found.append(process)
        except psutil.Error:
            continue
    return found


def outcome(workdir):
    """What all runs must have in common: every file of tables and features, by bytes, but for the seconds they took."""
    folder = workdir / "results" / BENCHMARK
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".snakemake_timestamp"):
        found[str(path.relative_to(folder))] = scores(path) if path.suffix == ".nc" else path.read_bytes()
    return found


def scores(path):
    """All variables and attributes of a score file, by bytes."""
    with xr.open_dataset(path) as table:
        found = {f"attribute {name}": value for name, value in table.attrs.items() if not name.startswith("wall_time")}
        for name, variable in table.variables.items():
            values = variable.values
            if name == "model_attrs":
                values = [
                    {k: v for k, v in json.loads(text).items() if not k.startswith("wall_time")} for text in values
                ]
                found[name] = str(values)
            else:
                found[name] = (variable.dims, values.tolist() if values.dtype == object else values.tobytes())
    return {name: str(value) for name, value in found.items()}


def left_over(workdir):
    """Return what a killed process has left of files that were being written."""
    found = [path for place in ("results", "data") for path in (workdir / place).rglob("*")]
    return [path for path in found if path.name.endswith((".partial", ".tmp", ".old", ".part"))]
