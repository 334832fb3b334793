"""Benchmark on the documented layout: what it offers, and every way a folder can be wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from juicyfruits import Benchmark, InputError, NSDBenchmark, estimate_ncsnr, write_benchmark

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"


def test_what_it_offers(own_folder):
    b = Benchmark(own_folder)
    raw = np.load(own_folder / "responses.npy")
    assert (b.name, b.kind, b.rois, b.subjects) == ("own", "responses", ["V4", "IT"], ["m1", "m2"])
    np.testing.assert_allclose(b.response_data, np.nanmean(raw, axis=2))
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


def test_rdms_are_built_from_averaged_responses(own_folder):
    b = Benchmark(own_folder)
    assert b.rdms == {}
    rdms = b.build_rdms(lambda x, scale: scale * np.abs(x[:, :1] - x[:, :1].T), scale=2)
    first = b.response_data.loc["a"].to_numpy()
    np.testing.assert_allclose(rdms["V4"]["m1"], 2 * np.abs(first[:, None] - first[None]))
    assert b.rdms is rdms and list(rdms) == ["V4", "IT"] and list(rdms["IT"]) == ["m2"]


def test_select(own_folder):
    b = Benchmark(own_folder)
    v4 = b.select(rois=["V4"], subjects=["m1"])
    assert list(v4.metadata.index) == ["a", "b"] and v4.rois == ["V4"] and "IT" not in v4.metadata.columns
    np.testing.assert_allclose(v4.response_data, b.response_data.loc[["a", "b"]])
    assert v4.digest != b.digest and v4.digest != b.select(rois=["V4"]).digest
    with pytest.raises(InputError, match="no ROI 'V1' in benchmark 'own'; did you mean 'V4'"):
        b.select(rois=["V1"])
    with pytest.raises(InputError, match="no subject 'm3'"):
        b.select(subjects=["m3"])


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


def as_table(folder):
    means = np.nanmean(np.load(folder / "responses.npy"), axis=2)
    (folder / "responses.npy").unlink()
    return pd.DataFrame(means, index=pd.Index(list("abcd"), name="neuroid_id"), columns=[f"s{i}" for i in range(6)])


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


def edit(folder, name, change):
    change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)


def set_responses(folder, where, value):
    responses = np.load(folder / "responses.npy")
    responses[where] = value
    np.save(folder / "responses.npy", responses)


SPOILED = {
    "no responses": (lambda f: (f / "responses.npy").unlink(), "has none of them"),
    "two kinds": (lambda f: np.savez(f / "rdms.npz", IT=np.eye(6)), "has responses.npy and rdms.npz"),
    "no stimuli.csv": (lambda f: (f / "stimuli.csv").unlink(), "stimuli.csv is missing"),
    "empty stimuli.csv": (lambda f: (f / "stimuli.csv").write_text(""), "cannot be read as a CSV"),
    "no rows": (lambda f: edit(f, "stimuli.csv", lambda t: t[:0]), "has no rows"),
    "no image_path": (lambda f: edit(f, "stimuli.csv", lambda t: t.drop(columns="image_path")), "lacks the column"),
    "an empty id": (
        lambda f: edit(f, "stimuli.csv", lambda t: t.assign(stimulus_id=[*t["stimulus_id"][:5], None])),
        "row 6 has an empty",
    ),
    "no neuroids.csv": (lambda f: (f / "neuroids.csv").unlink(), "neuroids.csv is missing"),
    "wrong split": (lambda f: edit(f, "stimuli.csv", lambda t: t.assign(split="dev")), "'split' must hold train or"),
    "same stimulus twice": (
        lambda f: edit(f, "stimuli.csv", lambda t: t.assign(stimulus_id="s")),
        "stimulus_id must be unique",
    ),
    "same neuroid twice": (
        lambda f: edit(f, "neuroids.csv", lambda t: t.assign(neuroid_id=list("abca"))),
        "neuroid_id must be unique, but 1 occur twice: 'a'",
    ),
    "missing pictures": (lambda f: shutil.rmtree(f / "images"), "names 6 pictures that are not in .*and 3 more"),
    "fewer stimuli": (lambda f: edit(f, "stimuli.csv", lambda t: t[:5]), r"\(4, 5\) .* but is float32 \(4, 6, 3\)"),
    "fewer neuroids": (lambda f: edit(f, "neuroids.csv", lambda t: t[:3]), r"\(3, 6\) .* but is float32 \(4, 6, 3\)"),
    "responses are text": (lambda f: np.save(f / "responses.npy", np.full((4, 6), "x")), "must be numbers"),
    "no ROI columns": (lambda f: edit(f, "neuroids.csv", lambda t: t.filter(regex="^(?!roi_)")), "has no ROI columns"),
    "odd ROI values": (lambda f: edit(f, "neuroids.csv", lambda t: t.assign(roi_V4="maybe")), "must hold true/false"),
    "ROI called subject": (lambda f: edit(f, "neuroids.csv", lambda t: t.assign(roi_subject=1)), "another column's"),
    "all repeats missing": (
        lambda f: set_responses(f, (2, 3), np.nan),
        "1 neuroids have an infinite value or a stimulus without any repeat: 'c'",
    ),
    "infinite": (lambda f: set_responses(f, (3, 3, 1), np.inf), "1 neuroids have .*'d'"),
    "unknown ids": (
        lambda f: as_table(f).rename(index={"a": "z"}).to_csv(f / "responses.csv"),
        "only one of them: 'a', 'z'",
    ),
    "broken json": (lambda f: (f / "benchmark.json").write_text("{"), "is not valid JSON"),
}


@pytest.mark.parametrize("spoil, message", SPOILED.values(), ids=SPOILED.keys())
def test_spoiled_folders_are_told_in_a_sentence(own_folder, spoil, message):
    spoil(own_folder)
    with pytest.raises(InputError, match=message) as error:
        Benchmark(own_folder)
    assert "\n" not in str(error.value)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="no benchmark folder at"):
        Benchmark(tmp_path / "nothing")


def rdm_folder(folder, **rdms):
    stimuli = pd.DataFrame({"stimulus_id": ["a", "b", "c"]})
    folder.mkdir()
    (folder / "images").mkdir()
    for name in "abc":
        Image.new("RGB", (4, 4)).save(folder / "images" / f"{name}.png")
    stimuli.assign(image_path=[f"images/{name}.png" for name in "abc"]).to_csv(folder / "stimuli.csv", index=False)
    np.savez(folder / "rdms.npz", **rdms)
    return folder


def test_rdms(tmp_path):
    rdm = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0.0]])
    b = Benchmark(rdm_folder(tmp_path / "k", IT__m1=rdm, IT__m2=2 * rdm, V1=3 * rdm))
    assert (b.kind, b.rois, b.subjects, b.responses) == ("rdms", ["IT", "V1"], ["m1", "m2", "group"], None)
    np.testing.assert_array_equal(b.rdms["V1"]["group"], 3 * rdm)
    assert list(b.select(rois=["IT"], subjects=["m2"]).rdms["IT"]) == ["m2"]
    assert "RDMs: IT (2), V1 (1)" in repr(b) and b.get_roi_indices() == {}
    with pytest.raises(InputError, match="holds RDMs only"):
        _ = b.response_data


@pytest.mark.parametrize(
    "rdm, message",
    [
        (np.zeros((2, 2)), r"\(3, 3\), as stimuli.csv has as many rows, but is float64 \(2, 2\)"),
        (np.arange(9.0).reshape(3, 3), "is not symmetric"),
        (np.full((3, 3), np.nan), "9 entries that are not finite"),
    ],
)
def test_wrong_rdms(tmp_path, rdm, message):
    with pytest.raises(InputError, match=f"matrix 'IT__m1' .*{message}|matrix 'IT__m1'.*{message}"):
        Benchmark(rdm_folder(tmp_path / "k", IT__m1=rdm))


def test_nothing_invalid_is_written(tmp_path):
    stimuli = pd.DataFrame({"stimulus_id": ["a", "b"]})
    neuroids = pd.DataFrame({"neuroid_id": ["x"], "subject": ["s"], "roi_V1": [True]})
    images = [np.zeros((4, 4, 3), np.uint8)] * 2
    with pytest.raises(InputError, match="without any repeat"):
        write_benchmark(tmp_path / "b", stimuli, images, neuroids=neuroids, responses=np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="zip"):
        write_benchmark(tmp_path / "b", stimuli, images[:1], neuroids=neuroids, responses=np.ones((1, 2)))
    with pytest.raises(InputError, match="give one of the two"):
        write_benchmark(tmp_path / "b", stimuli, images)
    assert list(tmp_path.iterdir()) == []


def test_only_a_benchmark_is_replaced(own_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    stimuli = pd.DataFrame({"stimulus_id": ["a", "b"]})
    images = [np.zeros((4, 4, 3), np.uint8)] * 2
    for folder, message in ((tmp_path / "mine", "will not be replaced"), (tmp_path / "mine/thesis.txt", "is a file")):
        with pytest.raises(InputError, match=message):
            write_benchmark(folder, stimuli, images, rdms={"IT": {"m1": np.eye(2)}})
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    assert write_benchmark(own_folder, stimuli, images, rdms={"IT": {"m1": np.eye(2)}}).kind == "rdms"


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
    assert len(b.image_paths) == 20


def test_nsd_benchmark_prefers_the_real_one(mini_folder, tmp_path, monkeypatch, recwarn):
    monkeypatch.setenv("JUICYFRUITS_DATA", str(tmp_path))
    with pytest.raises(InputError, match="juicyfruits make-mini"):
        NSDBenchmark()
    for name in ("nsd", "nsd_mini"):
        shutil.copytree(mini_folder, tmp_path / name)
    assert NSDBenchmark().folder == tmp_path / "nsd" and not recwarn.list


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
