"""Every way a benchmark folder can be wrong, and what is said about it."""

import shutil

import numpy as np
import pandas as pd
import pytest
from folders import as_table, edit, rdm_folder

from juicyfruits import Benchmark, InputError


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
    "more stimuli": (
        lambda f: edit(f, "stimuli.csv", lambda t: pd.concat([t, t.assign(stimulus_id="t" + t["stimulus_id"])])),
        r"\(4, 12\) .* but is float32 \(4, 6, 3\)",
    ),
    "fewer neuroids": (lambda f: edit(f, "neuroids.csv", lambda t: t[1:]), r"\(3, 6\) .* but is float32 \(4, 6, 3\)"),
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
    "broken json": (lambda f: (f / "benchmark.json").write_text("{"), "cannot be read as JSON"),
}


@pytest.mark.parametrize("spoil, message", SPOILED.values(), ids=SPOILED.keys())
def test_spoiled_folders_are_told_in_a_sentence(own_folder, spoil, message):
    spoil(own_folder)
    with pytest.raises(InputError, match=message) as error:
        Benchmark(own_folder)
    assert "\n" not in str(error.value)


def save(name, content):
    """Replace the responses by another file: bytes, an array, or None for a folder."""

    def spoil(folder):
        (folder / "responses.npy").unlink()
        if content is None:
            (folder / name).mkdir()
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            np.save(folder / name, content, allow_pickle=True)

    return spoil


def cut(folder):
    content = (folder / "responses.npy").read_bytes()
    (folder / "responses.npy").write_bytes(content[:-40])


def save_npz_as_npy(folder):
    np.savez(folder / "rdms.npz", IT=np.eye(6))
    (folder / "rdms.npz").rename(folder / "responses.npy")


def header(folder, old, new):
    path = folder / "neuroids.csv"
    path.write_text(path.read_text().replace(old, new, 1))


def neuroids(**columns):
    return lambda folder: edit(folder, "neuroids.csv", lambda table: table.assign(**columns))


UNREADABLE = {
    **{
        f"npy {kind}": (save("responses.npy", content), "responses.npy cannot be read as a NumPy array")
        for kind, content in (("empty", b""), ("text", b"1,2"), ("folder", None), ("object", np.array([[{}]])))
    },
    "npy cut": (cut, "responses.npy cannot be read as a NumPy array"),
    "npz as npy": (save_npz_as_npy, "responses.npy cannot be read as a NumPy array"),
    "csv garbage": (save("responses.csv", b"\xff\xfe\x00\x01"), "responses.csv cannot be read"),
    "csv empty": (save("responses.csv", b""), "responses.csv cannot be read"),
    "parquet garbage": (save("responses.parquet", b"PAR1"), "responses.parquet cannot be read"),
    "csv rows twice": (
        lambda f: (lambda t: pd.concat([t, t[:1]]))(as_table(f)).to_csv(f / "responses.csv"),
        "must name every id once, but has 'a' again",
    ),
    "longdouble": (save("responses.npy", np.ones((4, 6), np.longdouble)), "of at most 64 bits, but is"),
    "no repeats": (save("responses.npy", np.ones((4, 6, 0), np.int16)), "responses.npy"),
    "beyond float32": (lambda f: np.save(f / "responses.npy", np.full((4, 6), 1e300)), "4 neuroids have an infinite"),
    "json list": (lambda f: (f / "benchmark.json").write_text("[1]"), "must hold one object .* holds a list"),
    "json latin-1": (lambda f: (f / "benchmark.json").write_bytes(b'{"name": "\xe9"}'), "cannot be read as JSON"),
    "json name": (lambda f: (f / "benchmark.json").write_text('{"name": 3}'), "'name' must be text, but is 3"),
    "ncsnr text": (neuroids(ncsnr=["1", "low", "1", "1"]), "'ncsnr' must hold numbers, but has 'low'"),
    "ncsnr negative": (neuroids(ncsnr=[1, -0.5, 1, 1]), "'ncsnr' must be 0 or more, or empty, but has -0.5"),
    "voxel text": (neuroids(voxel_x="left"), "'voxel_x' must hold numbers, but has 'left'"),
    "empty ROI": (neuroids(roi_V9=0), "ROI 'V9' has no neuroids"),
    "ROI twice": (lambda f: header(f, "roi_IT", "roi_V4"), "has the column 'roi_V4' twice"),
    "few train": (
        lambda f: edit(f, "stimuli.csv", lambda t: t.assign(split=["train"] * 2 + ["test"] * 4)),
        "at least 3 stimuli in train and in test, but has 2 and 4",
    ),
}


@pytest.mark.parametrize("spoil, message", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_or_senseless_files_are_named(own_folder, spoil, message):
    spoil(own_folder)
    with pytest.raises(InputError, match=message) as error:
        Benchmark(own_folder)
    assert "\n" not in str(error.value)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="no benchmark folder at"):
        Benchmark(tmp_path / "nothing")


@pytest.mark.parametrize(
    "rdm, message",
    [
        (np.zeros((2, 2)), r"\(6, 6\), as stimuli.csv has as many rows, but is float64 \(2, 2\)"),
        (np.arange(36.0).reshape(6, 6), "is not symmetric"),
        (np.full((6, 6), np.nan), "36 entries that are not finite"),
        (np.eye(6), "must be 0 on its diagonal, but has 1 there"),
        (np.zeros((6, 6), np.longdouble), "must be numbers"),
    ],
)
def test_wrong_rdms(tmp_path, rdm, message):
    with pytest.raises(InputError, match=f"matrix 'IT__m1' .*{message}|matrix 'IT__m1'.*{message}"):
        Benchmark(rdm_folder(tmp_path / "k", IT__m1=rdm))


@pytest.mark.parametrize("key", ["IT__", "__m1"])
def test_wrong_rdm_keys(tmp_path, key):
    with pytest.raises(InputError, match=f"key '{key}' must be REGION or REGION__SUBJECT"):
        Benchmark(rdm_folder(tmp_path / "k", **{key: 1 - np.eye(6)}))


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "object", "npy", "folder"])
def test_unreadable_rdms(tmp_path, kind):
    folder = rdm_folder(tmp_path / "k", IT=1 - np.eye(6))
    path = folder / "rdms.npz"
    content = {"empty": b"", "text": b"1,2", "cut": path.read_bytes()[:-30]}.get(kind)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    elif kind == "object":
        np.savez(path, IT=np.array([{}]))
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.eye(6))
    else:
        path.mkdir()
    with pytest.raises(InputError, match=r"rdms.npz cannot be read as an archive of NumPy arrays"):
        Benchmark(folder)
