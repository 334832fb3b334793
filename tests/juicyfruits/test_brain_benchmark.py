"""Benchmark on the documented layout: what it offers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import as_table, edit, rdm_folder
from PIL import Image

from juicyfruits import Benchmark, InputError, estimate_ncsnr, write_benchmark
from juicyfruits.arrays import blocks

ROOT = Path(__file__).parents[2]


REAL = ROOT.parent / "shared" / "data"


def test_what_it_offers(own_folder):
    b = Benchmark(own_folder)
    raw = np.load(own_folder / "responses.npy")
    assert (b.name, b.kind, b.rois, b.subjects) == ("own", "responses", ["V4", "IT"], ["m1", "m2"])
    np.testing.assert_allclose(b.response_data, np.nanmean(raw, axis=2), rtol=1e-5)
    assert list(b.response_data.index) == list("abcd") and list(b.response_data.columns) == [f"s{i}" for i in range(6)]
    assert b.metadata["V4"].dtype == bool and list(b.metadata["V4"]) == [True, True, True, False]
    np.testing.assert_array_equal(b.repeats(), (~np.isnan(raw)).sum(axis=2))
    np.testing.assert_allclose(b.metadata["ncsnr"], estimate_ncsnr(raw))
    assert all(Path(path).is_absolute() for path in b.image_paths) and len(b.image_paths) == 6
    np.testing.assert_array_equal(b.train, [True, False] * 3)
    np.testing.assert_array_equal(b.test, [False, True] * 3)
    indices = b.get_roi_indices()
    assert {roi: {s: list(rows) for s, rows in by.items()} for roi, by in indices.items()} == {
        "V4": {"m1": [0, 1], "m2": [2]},
        "IT": {"m2": [3]},
    }
    assert list(b.get_roi_indices(row_number=False)["V4"]["m1"]) == ["a", "b"]
    assert b.get_stimulus(2).size == b.get_stimulus("s2").size == b.get_stimulus().size == (8, 8)
    np.testing.assert_array_equal(np.asarray(b.get_stimulus("s2")), np.asarray(Image.open(b.image_paths[2])))
    with pytest.raises(InputError, match="no stimulus 's9'"):
        b.get_stimulus("s9")
    with pytest.raises(InputError, match=r"by its row number or its stimulus_id, but 1\.0 is neither"):
        b.get_stimulus(1.0)


def test_rdms_are_built_from_averaged_responses(own_folder):
    b = Benchmark(own_folder)
    assert b.rdms == {}
    rdms = b.build_rdms(lambda x, scale: scale * np.abs(x[:, :1] - x[:, :1].T), scale=2)
    first = b.response_data.loc["a"].to_numpy()
    np.testing.assert_allclose(rdms["V4"]["m1"], 2 * np.abs(first[:, None] - first[None]))
    assert b.rdms is rdms and list(rdms) == ["V4", "IT"] and list(rdms["IT"]) == ["m2"]


def test_subset(own_folder):
    b = Benchmark(own_folder)
    v4 = b.subset(rois=["V4"], subjects=["m1"])
    assert list(v4.metadata.index) == ["a", "b"] and v4.rois == ["V4"] and "IT" not in v4.metadata.columns
    np.testing.assert_allclose(v4.response_data, b.response_data.loc[["a", "b"]])
    assert v4.digest != b.digest and v4.digest != b.subset(rois=["V4"]).digest
    with pytest.raises(InputError, match="no ROI 'V1' in benchmark 'own'; did you mean 'V4'"):
        b.subset(rois=["V1"])
    with pytest.raises(InputError, match="no subject 'm3'"):
        b.subset(subjects=["m3"])


def test_repr_is_compact(own_folder):
    assert repr(Benchmark(own_folder)) == (
        "Benchmark 'own'\n"
        "  Subjects: m1, m2\n"
        "  Probe Stimuli: 6 (3 train, 3 test)\n"
        "  Responding Neuroids: 4 (up to 3 repeats)\n"
        "  Largest ROIs: V4 (3), IT (1)"
    )


def test_digest_follows_the_content(own_folder, tmp_path):
    b = Benchmark(own_folder)
    assert b.digest == json.loads((own_folder / "benchmark.json").read_text())["digest"]
    copy = Path(shutil.copytree(own_folder, tmp_path / "elsewhere"))
    assert Benchmark(copy).digest == b.digest
    Image.new("RGB", (8, 8)).save(copy / "images" / "s3.png")
    assert Benchmark(copy).digest != b.digest and Benchmark(copy).stimulus_digest != b.stimulus_digest
    shutil.copy(own_folder / "images" / "s3.png", copy / "images" / "s3.png")
    np.save(copy / "responses.npy", 2 * np.load(copy / "responses.npy"))
    assert Benchmark(copy).digest != b.digest and Benchmark(copy).stimulus_digest == b.stimulus_digest


def test_split_column_is_used(own_folder):
    table = pd.read_csv(own_folder / "stimuli.csv")
    table.assign(split=["train", "train", "test", "test", "test", "train"]).to_csv(own_folder / "stimuli.csv")
    np.testing.assert_array_equal(Benchmark(own_folder).train, [True, True, False, False, False, True])


@pytest.mark.parametrize("kind", ["csv", "parquet", "parquet with a column of ids", "two-dimensional npy"])
def test_other_forms_of_responses(own_folder, kind):
    expected = Benchmark(own_folder).response_data
    table = as_table(own_folder)
    shuffled = table.iloc[[2, 0, 3, 1], ::-1]  # tables are matched by their ids
    if kind == "csv":
        shuffled.to_csv(own_folder / "responses.csv")
    elif kind == "parquet":
        shuffled.to_parquet(own_folder / "responses.parquet")
    elif kind == "two-dimensional npy":
        np.save(own_folder / "responses.npy", table.to_numpy())
    else:
        shuffled.reset_index().to_parquet(own_folder / "responses.parquet")
    b = Benchmark(own_folder)
    np.testing.assert_allclose(b.response_data, expected, rtol=1e-6)
    assert b.responses.shape == (4, 6, 1) and b.metadata["ncsnr"].isna().all()


def test_noise_free_and_missing_ncsnr_are_legal(own_folder):
    edit(own_folder, "neuroids.csv", lambda table: table.assign(ncsnr=[np.inf, 0.0, np.nan, 1.0]))
    np.testing.assert_array_equal(Benchmark(own_folder).metadata["ncsnr"], [np.inf, 0, np.nan, 1])


def test_ids_are_text(own_folder):
    """000 is not 0, in tables as in responses.csv."""
    ids = ["000", "001", "01", "1"]
    edit(own_folder, "neuroids.csv", lambda table: table.assign(neuroid_id=ids))
    table = as_table(own_folder)
    table.index = pd.Index(ids, name="neuroid_id")
    table.iloc[::-1].to_csv(own_folder / "responses.csv")
    np.testing.assert_allclose(Benchmark(own_folder).response_data, table, rtol=1e-6)
    table.reset_index().to_csv(own_folder / "responses.csv")
    assert list(Benchmark(own_folder).response_data.index) == ids


def test_averages_are_taken_in_double(own_folder):
    values = np.full((4, 6, 3), 60000, np.float16)
    np.save(own_folder / "responses.npy", values)
    averages = Benchmark(own_folder).response_data
    assert (averages == 60000 - 60000 % 32).all(axis=None) and (averages.dtypes == np.float32).all()
    np.save(own_folder / "responses.npy", values.astype(np.int64))
    assert (Benchmark(own_folder).response_data.dtypes == np.float32).all()


@pytest.mark.parametrize("block", [1, 40, 10**6])
def test_blocks_change_nothing(own_folder, monkeypatch, block):
    monkeypatch.setattr("juicyfruits.arrays.BLOCK", block)
    b = Benchmark(own_folder)
    raw = np.load(own_folder / "responses.npy")
    np.testing.assert_allclose(b.response_data, np.nanmean(raw, axis=2, dtype=np.float64), rtol=1e-6)
    np.testing.assert_array_equal(b.repeats(), (~np.isnan(raw)).sum(axis=2))
    np.testing.assert_allclose(b.metadata["ncsnr"], estimate_ncsnr(raw))
    b.check_varies()
    b.responses = raw.copy()
    b.responses[2, 1::2] = 5
    with pytest.raises(InputError, match=r"1 neuroids answer all test stimuli alike .*: 'c'"):
        b.check_varies()


def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell its memory")
def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path):
    size = 2**28
    np.lib.format.open_memmap(tmp_path / "r.npy", "w+", np.float32, (64, size // 256)).flush()
    mapped = np.load(tmp_path / "r.npy", mmap_mode="r")[:, :, None]
    before, total = resident(), 0
    peak = max(resident() for _, block in blocks(mapped) if (total := total + block.nbytes))
    assert total == size and peak - before < size / 2


def test_subset_names_and_empty_regions(own_folder):
    b = Benchmark(own_folder)
    assert b.subset(rois="V4", subjects="m1").rois == b.subset(subjects=["m1"]).rois == ["V4"]
    with pytest.raises(InputError, match="ROI 'IT' has no neuroids in m1"):
        b.subset(rois=["IT"], subjects=["m1"])
    with pytest.raises(InputError, match=r"no ROI chosen .* known are 'V4', 'IT'"):
        b.subset(rois=[])


def test_rdms(tmp_path):
    rdm = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    b = Benchmark(rdm_folder(tmp_path / "k", IT__m1=rdm, IT__m2=2 * rdm, V1=3 * rdm))
    assert (b.kind, b.rois, b.subjects, b.responses) == ("rdms", ["IT", "V1"], ["m1", "m2", "group"], None)
    np.testing.assert_array_equal(b.rdms["V1"]["group"], 3 * rdm)
    assert list(b.subset(rois=["IT"], subjects=["m2"]).rdms["IT"]) == ["m2"]
    assert "RDMs: IT (2), V1 (1)" in repr(b) and b.get_roi_indices() == {}
    with pytest.raises(InputError, match="holds RDMs only"):
        _ = b.response_data


@pytest.mark.skipif(not (REAL / "v4").is_dir(), reason="needs the macaque V4 data in ../shared/data")
def test_real_neurons_with_repeats(tmp_path):
    source = REAL / "v4" / "210325"
    responses = np.load(source / "responses_raw.npz")["responses"]
    images = sorted((source / "images").iterdir())
    stimuli = pd.DataFrame({"stimulus_id": [path.stem for path in images]})
    ids = [f"n{i}" for i in range(len(responses))]
    neuroids = pd.DataFrame({"neuroid_id": ids, "subject": "210325", "roi_V4": True})
    b = write_benchmark(tmp_path / "v4", stimuli, images, neuroids=neuroids, responses=responses)
    assert b.response_data.shape == (50, 640) and b.repeats().max() == 10
    np.testing.assert_allclose(b.response_data, np.load(source / "responses.npy"), atol=1e-4)
    assert b.metadata["ncsnr"].between(0.05, 5).all()
    assert b.get_stimulus("image0001").size == (112, 112)


@pytest.mark.skipif(not (REAL / "k92").is_dir(), reason="needs the 92-objects data in ../shared/data")
def test_real_rdms(tmp_path):
    table = pd.read_csv(REAL / "k92" / "stimuli.csv")
    images = [REAL / "k92" / "images" / name for name in table["file"]]
    arrays = np.load(REAL / "k92" / "rdms.npz")
    human = arrays["hIT_subj_session"].mean(axis=1)
    rdms = {
        "hIT": {f"subj{i + 1}": rdm for i, rdm in enumerate(human)},
        "mIT": {"group": arrays["mIT_674neurons"]},
    }
    stimuli = table.assign(stimulus_id=[path.stem for path in images])
    b = write_benchmark(tmp_path / "k92", stimuli, images, rdms=rdms)
    assert b.rois == ["hIT", "mIT"] and len(b.rdms["hIT"]) == 4 and b.rdms["mIT"]["group"].shape == (92, 92)
    assert b.stimulus_data["category"].nunique() > 3
