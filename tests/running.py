"""Snakemake as a user runs it, and what it says it would do."""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SNAKEFILE = REPOSITORY / "workflow" / "Snakefile"


def snakemake(workdir, *words, ok=True, code=""):
    """Run it in a folder, without credentials of this machine, and return what it printed; it must end as `ok` says.

    `code` is Python that runs before, in the same process.
    """
    start = f"{code}\nfrom snakemake.cli import main; main()"
    command = [sys.executable, "-c", start, "--cores", "all", "--snakefile", SNAKEFILE, *words]
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(word) for word in command],
        cwd=workdir,
        env={**hidden, "PATH": path},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    text = done.stdout + done.stderr
    assert (done.returncode == 0) == ok, text[-4000:]
    return text


def planned(workdir, *words, code=""):
    """Job counts by rule of a dry run, without `all`."""
    return job_counts(snakemake(workdir, "--dry-run", *words, code=code))


def job_counts(text):
    """Read the job counts by rule of what a dry run printed, without `all`."""
    if "Nothing to be done" in text:
        return {}
    table = re.search(r"^job +count\n-[- ]+\n(.*?)\n\n", text, re.DOTALL | re.MULTILINE).group(1)
    counts = {name: int(count) for name, count in (line.split() for line in table.splitlines())}
    return {name: count for name, count in counts.items() if name not in ("all", "total")}
