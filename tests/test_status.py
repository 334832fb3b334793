"""`deepjuice status`: what it says of results folders in every state, made by the code that makes real ones."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from deepjuice import cli, versions
from deepjuice.extraction.inspection import MapRecord
from deepjuice.extraction.store import StoreHeader
from deepjuice.extraction.store_writer import StoreWriter
from deepjuice.extraction.telemetry import N_BINS
from deepjuice.results import aggregate, write_scores
from deepjuice.status import DONE, NO, NONE, OTHER, OTHER_SCORES, UNREADABLE, YES, folder_status
from deepjuice.status_text import SHOWN, status_text
from tests.results.conftest import make_scores

N, WIDTH = 8, 5
NOW = time.time()


def header(uid):
    maps = [
        MapRecord("Conv2d-1-1", "0", 0, "Conv2d", 1, 1, 0, (3, 2, 2)),
        MapRecord("Linear-1-2", "1", 0, "Linear", 1, 2, 1, (4,)),
        MapRecord("Net-0-1", "", 0, "Net", 0, 0, 2, (4,), alias_of="Linear-1-2"),
    ]
    reduction = {"method": "signed_sums", "width": WIDTH, "eps": 0.1, "seed": 0}
    return StoreHeader(uid, "w", "p", "s", N, reduction, "float32", "float32", maps, versions.EXTRACT)


def extract(folder, uid, rows=N):
    """Write a store, or begin one, and return its digest."""
    of = header(uid)
    with StoreWriter(
        folder / f"{uid}.zarr", of, {r.uid: np.ones(of.width(r), np.float32) for r in of.distinct}
    ) as store:
        for record in of.distinct:
            values, moments, histogram = np.ones((rows, of.width(record))), np.ones((3, rows)), np.ones(N_BINS, int)
            store.write(record.uid, slice(0, rows), values, moments, histogram)
        store.commit(rows)
        if rows == N:
            store.finish()
    return of.digest


def score(folder, uid, features_digest, config_digest="c"):
    scores = make_scores(uid, 3)
    scores.attrs |= {"features_digest": features_digest, "benchmark_digest": "b", "config_digest": config_digest}
    scores.attrs["stage_score"] = versions.SCORE
    return write_scores(scores, folder / f"{uid}.nc")


def logged(path, text="", minutes_ago=10.0, ended=None):
    """Write a job's log; with `ended`, also the record that a job leaves that ended well, so many minutes ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW, time.time() - 60 * minutes_ago))
    if ended is not None:
        record = path.with_suffix(".tsv")
        record.touch()
        os.utime(record, (NOW, time.time() - 60 * ended))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One benchmark with models in every state: a and b done, and see below."""
    results = tmp_path_factory.mktemp("made") / "results"
    toy = results / "toy"
    digests = {uid: extract(toy / "features", uid) for uid in ("a", "b", "unscored", "again", "parts")}
    extract(toy / "features", "begun", rows=3)
    paths = [score(toy / "scores", uid, digests[uid]) for uid in "ab"]
    aggregate(paths, toy)
    score(toy / "scores", "again", "of an earlier store")
    for part in (1, 3):
        path = toy / f"scores/parts/parts/{part}-of-4.nc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    (results / "report.html").touch()
    logs = results / "logs"
    for uid in "ab":
        logged(logs / f"extract/toy/{uid}.log", ended=9.9)
    logged(logs / "extract/toy/refused.log", "loading\ndeepjuice extract: error: memory limit 1 MB\n")
    logged(logs / "score/toy/parts/parts/2-of-4.log", "\rscoring:  25%|##\rscoring:  75%|#####", minutes_ago=0.1)
    logged(logs / "score/toy/b.log", "an earlier record stands beside it", ended=20)
    logged(logs / "slurm/rule_extract/toy_a/12.log", "what Slurm says")
    return results


@pytest.fixture
def results(made, tmp_path):
    shutil.copytree(made, tmp_path / "results")
    return tmp_path / "results"


def models(results):
    (benchmark,) = folder_status(results).benchmarks
    return {m.uid: (m.features, m.scores, m.tables) for m in benchmark.models}


def test_every_model_is_found_in_its_state(results):
    assert models(results) == {
        "a": (DONE, DONE, YES),
        "b": (DONE, DONE, YES),
        "again": (DONE, OTHER, NO),
        "begun": ("3 of 8 rows", NONE, NO),
        "parts": (DONE, "2 of 4 parts", NO),
        "refused": (NONE, NONE, NO),
        "unscored": (DONE, NONE, NO),
    }


def test_scores_made_anew_are_not_those_in_the_tables(results):
    score(results / "toy/scores", "a", header("a").digest, config_digest="another grid of penalties")
    assert models(results)["a"] == (DONE, DONE, OTHER_SCORES)
    assert "with other scores of 1 model than are here" in status_text(folder_status(results))
    (results / "toy/scores/b.nc").unlink()
    assert models(results)["b"] == (DONE, NONE, YES)
    assert "with 1 model whose scores are no longer here" in status_text(folder_status(results))


def test_sizes_are_those_of_the_files(results):
    """Chunks of the maps on disk, to the byte; scores and tables as the file system says."""
    (benchmark,) = folder_status(results).benchmarks
    sizes = {m.uid: m.n_bytes for m in benchmark.models}
    stored = sum(f.stat().st_size for f in (results / "toy/features/unscored.zarr/features").rglob("c/*/*"))
    assert sizes["unscored"] == stored == N * (WIDTH + 4) * 4
    assert sizes["begun"] == 3 * (WIDTH + 4) * 4
    assert sizes["parts"] == stored + 200
    assert sizes["a"] == stored + (results / "toy/scores/a.nc").stat().st_size
    tables = sum(f.stat().st_size for f in (results / "toy").iterdir() if f.is_file())
    assert benchmark.n_bytes == sum(sizes.values()) + tables


def test_no_array_is_opened(results):
    for chunk in (results / "toy/features/a.zarr").rglob("c/*"):
        if chunk.is_file() or chunk.is_symlink():
            chunk.unlink()
        else:
            shutil.rmtree(chunk)
    assert models(results)["a"] == (DONE, DONE, YES)


def test_what_cannot_be_read_is_said_to_be_so(results):
    (results / "toy/features/a.zarr/zarr.json").write_text('{"attributes": {')
    (results / "toy/scores/b.nc").write_bytes(b"no HDF5")
    assert models(results)["a"] == (UNREADABLE, DONE, YES)
    assert models(results)["b"] == (DONE, UNREADABLE, YES)
    (results / "toy/scores.nc").write_bytes(b"no HDF5")
    assert models(results)["unscored"] == (DONE, NONE, NO)
    (results / "toy/scores/gone.nc").symlink_to("nowhere")  # as where old files are cleared away
    assert models(results)["gone"] == (NONE, UNREADABLE, NO)


def test_jobs_whose_log_is_not_followed_by_a_record_have_not_ended_well(results):
    assert [job.name for job in folder_status(results).jobs] == [
        "extract toy/refused",
        "score toy/b",
        "score toy/parts/parts/2-of-4",
    ]
    text = status_text(folder_status(results))
    assert (
        "failed or stopped at the last attempt:\n  extract toy/refused: deepjuice extract: error: memory limit" in text
    )
    assert f"log: {results}/logs/extract/toy/refused.log" in text
    assert "  score toy/parts/parts/2-of-4: scoring:  75%|#####" in text


def test_a_run_that_is_on_is_told_with_what_it_does_now(results):
    code = f"from juicyfruits.run_lock import start_run; start_run([{str(results)!r}]); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        text = status_text(folder_status(results))
        assert f"a run is on (process {process.pid} on " in text
        assert "running:\n  score toy/parts/parts/2-of-4  75%\nfailed, stopped or silent for long:" in text
        process.communicate(b"\n", timeout=20)
    assert folder_status(results).run is None


def test_a_report_that_is_older_than_tables_is_told(results):
    (results / "report.html").touch()
    assert folder_status(results).report == DONE
    os.utime(results / "report.html", (0, 1e9))
    assert folder_status(results).report == "older than the tables of toy"
    (results / "report.html").unlink()
    assert folder_status(results).report == NONE


def test_counts_come_first_and_then_the_unfinished_models(results):
    lines = status_text(folder_status(results)).splitlines()
    assert lines[0].startswith(f"{results}: 1 benchmark, ") and lines[3].startswith("toy: 7 models, ")
    assert lines[4:7] == [
        "  features  5 done, 1 in part, 1 none",
        "  scores    2 done, 1 in part, 1 of other features, 3 none",
        "  tables    of 2 models, up to date",
    ]
    assert [line.split()[0] for line in lines[7:13]] == ["model", "again", "begun", "parts", "refused", "unscored"]
    every = status_text(folder_status(results), every=True)
    assert "  a         done         done" in every


def test_a_thousand_models_fit_on_a_screen(tmp_path):
    for benchmark in ("nsd", "things"):
        for i in range(500):
            logged(tmp_path / f"logs/extract/{benchmark}/m{i:03d}.log")
        (tmp_path / benchmark / "features").mkdir(parents=True)
    status = folder_status(tmp_path)
    text = status_text(status)
    assert len(text.splitlines()) < 70 and text.count(f"and {500 - SHOWN} more unfinished ones (--all") == 2
    assert f"and {1000 - SHOWN} more (--all)" in text and "(its log is empty)" in text
    assert len(status_text(status, every=True).splitlines()) > 3000


@pytest.mark.parametrize("folder", ["docs", "absent"])
def test_another_folder_is_refused(tmp_path, capsys, folder):
    (tmp_path / "docs/text").mkdir(parents=True)
    assert cli.main(["status", str(tmp_path / folder)]) == 2
    found = "a folder without any of these" if folder == "docs" else "no folder"
    assert f"{folder}: expected a results folder of the workflow" in (error := capsys.readouterr().err)
    assert f"found {found}; give the one that `results` names" in error


def test_the_command_prints_it_and_ends_well(results, capsys):
    assert cli.main(["status", str(results), "--all"]) == 0
    assert capsys.readouterr().out == status_text(folder_status(results), every=True) + "\n"
