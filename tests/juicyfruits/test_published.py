"""The published benchmarks: which folder is found, and what is printed."""

import json
import shutil

import numpy as np
import pytest

from juicyfruits import CowleyV4Benchmark, InputError, Kriegeskorte92Benchmark, NSDBenchmark


def test_nsd_benchmark_prints_four_lines(mini_folder, monkeypatch, capsys):
    monkeypatch.setenv("JUICYFRUITS_DATA", str(mini_folder.parent))
    with pytest.warns(UserWarning, match="synthetic miniature"):
        b = NSDBenchmark()
    assert capsys.readouterr().out == (
        "Initializing DeepJuice Benchmarks (JuicyFruits)\n"
        "Loading DeepJuice NSDBenchmark: \n"
        "  Image Set: shared1000\n"
        "  Voxel Set: ['EVC', 'OTC']\n"
    )
    assert len(b.image_paths) == 20 and f"Responding Voxels: {len(b.metadata)} (up to 3 repeats)" in repr(b)


def test_nsd_benchmark_prefers_the_real_one(mini_folder, tmp_path, monkeypatch, recwarn):
    monkeypatch.setenv("JUICYFRUITS_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"`juicyfruits prepare nsd` make it.*; `snakemake` makes the miniature"):
        NSDBenchmark()
    for name in ("nsd", "nsd_mini"):
        shutil.copytree(mini_folder, tmp_path / name)
    assert NSDBenchmark().folder == tmp_path / "nsd" and not recwarn.list


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("JUICYFRUITS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.parametrize("kind, name", [(Kriegeskorte92Benchmark, "kriegeskorte92"), (CowleyV4Benchmark, "cowley_v4")])
def test_siblings_are_announced_alike(own_folder, data, capsys, kind, name):
    with pytest.raises(InputError, match=rf"no prepared {name} in .*`juicyfruits fetch {name}`"):
        kind()
    shutil.copytree(own_folder, data / name)
    assert kind().folder == data / name
    assert capsys.readouterr().out == (
        "Initializing DeepJuice Benchmarks (JuicyFruits)\n"
        f"Loading DeepJuice {kind.__name__}: \n"
        "  Image Set: 6 images\n"
        "  Voxel Set: ['V4', 'IT']\n"
    )
    info = {"image_set": "natural", "voxel_set": ["V4"]}
    (data / name / "benchmark.json").write_text(json.dumps(info))
    kind(data / name)
    assert capsys.readouterr().out.endswith("  Image Set: natural\n  Voxel Set: ['V4']\n")


def prepared(own_folder, folder, dataset):
    shutil.copytree(own_folder, folder)
    (folder / "benchmark.json").write_text(json.dumps({"dataset": dataset}))
    return folder


def test_it_is_found_by_its_data_set_under_any_name(own_folder, data):
    for name, dataset in (("mine", "cowley_v4"), ("cowley_v4_old", "nsd"), (".mine.1.tmp", "cowley_v4")):
        prepared(own_folder, data / name, dataset)
    shutil.copytree(own_folder, data / "cowley_v4_own")  # which says nothing of a data set
    assert CowleyV4Benchmark().folder == data / "mine"
    with pytest.raises(InputError, match="no prepared kriegeskorte92"):
        Kriegeskorte92Benchmark()


def test_a_folder_of_another_data_set_is_refused(own_folder, data):
    message = "is a benchmark of nsd, not of cowley_v4; open it as `juicyfruits.Benchmark`"
    folder = prepared(own_folder, data / "cowley_v4", "nsd")
    for given in (folder, None):
        with pytest.raises(InputError, match=message):
            CowleyV4Benchmark(given)


def test_sessions_are_told_apart(own_folder, data):
    for session in ("v4_210325", "201016"):
        b = CowleyV4Benchmark(prepared(own_folder, data / session, "cowley_v4"))
    with pytest.raises(InputError, match="holds 2 benchmarks of cowley_v4: '201016', 'v4_210325'; name the folder"):
        CowleyV4Benchmark()
    np.testing.assert_array_equal(CowleyV4Benchmark(b.folder).responses, b.responses)
