"""`snakemake --report`: one file that needs no network, with our captions and the results in it."""

import base64
import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from tests.running import REPOSITORY

pytestmark = pytest.mark.slow

PRINTED = r"model_uid,score_test\nalexnet,0.51\n"
TABLE = PRINTED.replace(r"\n", "\n")
# The captions as the workflow uses them, on outputs that take no time.
TOY = f"""
config.update(results="results", benchmarks={{"nsd_mini": {{}}}}, score={{"metrics": ["eReg"]}})
report: "{REPOSITORY}/workflow/report/workflow.rst"

rule all:
    input: "results/report.html", "results/nsd_mini/best_layers.csv"

rule aggregate:
    output:
        report("results/{{benchmark}}/best_layers.csv", caption="{REPOSITORY}/workflow/report/best_layers.rst",
               category="Results", labels={{"benchmark": "{{benchmark}}", "what": "best layers"}}),
        report("results/{{benchmark}}/summary.txt", caption="{REPOSITORY}/workflow/report/summary.rst",
               category="Results", labels={{"benchmark": "{{benchmark}}", "what": "summary"}}),
    shell: r"printf '{PRINTED}' > {{output[0]}}; echo found > {{output[1]}}"

rule report:
    input: "results/nsd_mini/best_layers.csv"
    output:
        report("results/report.html", caption="{REPOSITORY}/workflow/report/report.rst", category="Results"),
    shell: "echo '<p>curves</p>' > {{output}}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A workflow that has run and reported, twice, where every way out leads nowhere."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "Snakefile").write_text(TOY)
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    for words in ([], ["--report", "report.html"], ["--report", "report.zip"]):
        command = [sys.executable, "-m", "snakemake", "-c1", "--nolock", "--logger", "deepjuice", *words]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


def held(page):
    """What the page holds of the results: {path: {"caption": ..., "data_uri": ...}}."""
    text = page.split('<script id="results">')[1].split("var results = ")[1]
    return json.JSONDecoder().raw_decode(text)[0]


def test_it_is_one_file_without_links_to_elsewhere(page):
    assert not re.findall(r"""(?:src|href)\s*=\s*\\?["']?(?:https?:)?//""", page)
    assert not re.findall(r"""url\(\s*["']?(?:https?:)?//""", page)
    assert "<link" not in page


def test_the_results_are_in_it(page):
    results = held(page)
    assert set(results) == {
        "results/report.html",
        "results/nsd_mini/best_layers.csv",
        "results/nsd_mini/summary.txt",
    }
    kind, _, data = results["results/nsd_mini/best_layers.csv"]["data_uri"].partition("base64,")
    assert kind.startswith("data:text/csv") and base64.b64decode(data).decode() == TABLE
    data = results["results/report.html"]["data_uri"].partition("base64,")[2]
    assert base64.b64decode(data).decode() == "<p>curves</p>\n"


def test_every_result_has_its_caption(page):
    captions = {path: re.sub(r"<[^>]*>|\s+", " ", result["caption"]) for path, result in held(page).items()}
    assert "Score against depth for every network and region" in captions["results/report.html"]
    assert "subject of nsd_mini" in captions["results/nsd_mini/best_layers.csv"]
    assert "nsd_mini at first sight" in captions["results/nsd_mini/summary.txt"]
    about = page.split("var workflow_desc = ")[1].split("</script>")[0]
    assert "Benchmarks: nsd_mini" in about and "Metrics: eReg" in about and "system-message" not in about
    assert not any("system-message" in result["caption"] for result in held(page).values())


def test_as_an_archive_the_results_are_files(folder):
    with zipfile.ZipFile(folder / "report.zip") as archive:
        names = archive.namelist()
        table = next(name for name in names if name.endswith("best_layers.csv"))
        assert "report/report.html" in names and archive.read(table).decode() == TABLE


def test_every_caption_is_used_and_every_one_used_is_there():
    rules = [*(REPOSITORY / "workflow").rglob("*.smk"), REPOSITORY / "workflow/Snakefile"]
    used = {name for path in rules for name in re.findall(r'"[./]*report/(\w+\.rst)"', path.read_text())}
    assert used == {path.name for path in (REPOSITORY / "workflow/report").glob("*")}
