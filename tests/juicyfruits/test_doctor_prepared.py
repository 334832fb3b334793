"""Every way a prepared benchmark can be spoiled, and the check that finds it."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from folders import edit, rdm_folder
from PIL import Image

from juicyfruits import Benchmark, write_benchmark
from juicyfruits.doctor import examine
from juicyfruits.doctor.prepared import scan


def table(name, change):
    return lambda folder: edit(folder, name, change)


def responses(change):
    """Spoil the responses: `change` gets the array and changes it in place."""

    def spoil(folder):
        values = np.load(folder / "responses.npy")
        change(values)
        np.save(folder / "responses.npy", values)

    return spoil


def put(where, value):
    return responses(lambda values: values.__setitem__(where, value))


def say(**info):
    def spoil(folder):
        path = folder / "benchmark.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | info))

    return spoil


def picture(folder):
    return sorted((folder / "images").iterdir())


def cut_picture(folder):
    picture(folder)[2].write_bytes(picture(folder)[2].read_bytes()[:60])


def two_rows(column):
    """Exchange the values of the first two rows."""
    return lambda t: t.assign(**{column: [t[column][1], t[column][0], *t[column][2:]]})


SPOILED = {
    "changed": (put((0, 0, 0), 9.0), "files", "error", "has changed since it was prepared: its recorded digest is"),
    "cut picture": (cut_picture, "pictures", "error", "nsd-[0-9]+: .*cannot be read as a picture"),
    "lost picture": (lambda f: picture(f)[2].unlink(), "pictures", "error", "nsd-[0-9]+: .*No such file"),
    "same picture": (
        lambda f: shutil.copy(picture(f)[2], picture(f)[3]),
        "pictures",
        "warning",
        "1 picture found under several stimulus ids, such as 'nsd-",
    ),
    "order of pictures": (
        table("stimuli.csv", lambda t: t[::-1]),
        "stimulus order",
        "error",
        "not in 19 rows, first row 2",
    ),
    "an id twice": (
        table("stimuli.csv", lambda t: t.assign(nsd_id=t["nsd_id"].where(t.index != 3, t["nsd_id"][2]))),
        "stimulus order",
        "error",
        "not in 1 row, first row 4",
    ),
    "ids exchanged": (
        table("stimuli.csv", two_rows("stimulus_id")),
        "stimulus order",
        "error",
        "2 stimulus ids of another nsd_id: 'nsd-",
    ),
    "ids in text": (table("stimuli.csv", lambda t: t.assign(nsd_id="one")), "stimulus order", "error", "whole numbers"),
    "few test stimuli": (
        table("stimuli.csv", lambda t: t.assign(split=["test"] * 5 + ["train"] * 15)),
        "splits",
        "warning",
        "only 5 test stimuli",
    ),
    "a voxel twice": (
        table("neuroids.csv", lambda t: t.assign(voxel_x=1, voxel_y=2, voxel_z=t.index.where(t.index != 7, 6))),
        "neuroids",
        "error",
        "2 neuroids share subject, voxel_x",
    ),
    "neuroids exchanged": (
        table("neuroids.csv", two_rows("neuroid_id")),
        "neuroids",
        "error",
        "2 neuroid ids of other voxel indices: 'S1-",
    ),
    "flat": (put((4, slice(1, None, 2)), 1.0), "responses", "error", "1 neuroids answer all test stimuli alike.*'S1-"),
    "a repeat of one voxel": (
        put((4, 3, 1), np.nan),
        "responses",
        "error",
        r"1 neuroid of subj01 with other missing repeats than most, of which 0 are missing: 'S1-",
    ),
    "no ncsnr": (
        table("neuroids.csv", lambda t: t.assign(ncsnr=t["ncsnr"].where(t.index > 2))),
        "ceilings",
        "warning",
        "3 neuroids without ncsnr",
    ),
    "zero ncsnr": (table("neuroids.csv", lambda t: t.assign(ncsnr=0.0)), "ceilings", "error", "is 0 in all neuroids"),
    "threshold": (say(ncsnr_threshold=0.6), "ceilings", "error", "neuroids not above the ncsnr threshold 0.6: 'S"),
    "other rows": (
        table("neuroids.csv", lambda t: t.assign(ncsnr=t["ncsnr"][::-1].to_numpy())),
        "ceilings",
        "warning",
        r"ncsnr does not fit these repeats \(correlation -?0.[0-3]",
    ),
    "other betas": (
        table("neuroids.csv", lambda t: t.assign(ncsnr=2 * t["ncsnr"])),
        "ceilings",
        "warning",
        r"ncsnr does not fit .*median difference -0\.",
    ),
    "neuroid twice": (
        responses(lambda values: values.__setitem__(5, values[9])),
        "duplicates",
        "error",
        "2 neuroids have the same responses as another: 'S1-",
    ),
    "unreadable": (lambda f: (f / "responses.npy").write_bytes(b"no"), "layout", "error", "cannot be read as a NumPy"),
    "no image_path": (
        table("stimuli.csv", lambda t: t.drop(columns="image_path")),
        "pictures",
        "error",
        "has no columns stimulus_id and image_path, only",
    ),
}


@pytest.fixture
def prepared(mini_folder, tmp_path):
    return shutil.copytree(mini_folder, tmp_path / "nsd_mini")


def told(report, check, level):
    return [f"{finding.where}: {finding.words}" for finding in report.of(level) if finding.check == check]


@pytest.mark.parametrize("spoil, check, level, words", SPOILED.values(), ids=SPOILED.keys())
def test_every_spoiling_is_found_and_named(prepared, spoil, check, level, words):
    spoil(prepared)
    report = examine(prepared)
    assert any(re.search(words, text) for text in told(report, check, level)), report
    assert report.ok == (not report.of("error"))


def test_prepared_and_own_folders_are_in_order(mini_folder, own_folder):
    report = examine(mini_folder)
    assert report.ok and not report.of("warning") and len(report.of("ok")) == 9
    assert str(report).endswith(f"{mini_folder} is in order: 9 checks, no error, no warning.")
    assert examine(own_folder).ok
    assert [finding.words for finding in examine(own_folder).of("warning")] == [
        f"only 3 {split} stimuli make very unsure scores; add stimuli, or change the column split"
        for split in ("train", "test")
    ]


def test_several_faults_are_all_reported(prepared):
    chosen = ("cut picture", "few test stimuli", "neuroids exchanged", "neuroid twice", "zero ncsnr")
    for name in chosen:
        SPOILED[name][0](prepared)
    report = examine(prepared)
    for _, check, level, words in map(SPOILED.get, chosen):
        assert any(re.search(words, text) for text in told(report, check, level)), report
    assert told(report, "files", "error")


def test_a_folder_that_does_not_load_is_examined_as_far_as_it_goes(prepared):
    (prepared / "responses.npy").write_bytes(b"no")
    cut_picture(prepared)
    report = examine(prepared)
    assert told(report, "pictures", "error") and len(told(report, "layout", "error")) == 1
    assert told(report, "duplicates", "skipped") == ["responses: for the reason that stands under 'layout'"]
    assert "is not in order: 9 checks, 2 errors" in str(report)


def test_the_scan_equals_a_plain_reading(own_folder):
    benchmark = Benchmark(own_folder)
    values, found = np.array(benchmark.responses), scan(benchmark)
    for row, neuroid in zip(values, found.itertuples(), strict=True):
        means = [np.mean([value for value in repeats if value == value]) for repeats in row]
        noise = np.mean([np.var([v for v in repeats if v == v], ddof=1) for repeats in row])
        shares = np.mean([1 / sum(v == v for v in repeats) for repeats in row])
        signal = max(np.var(means, ddof=1) - noise * shares, 0)
        assert neuroid.ncsnr == pytest.approx(np.sqrt(signal / noise), abs=1e-6)
        assert neuroid.missing == sum(value != value for repeats in row for value in repeats)
        assert not neuroid.flat_train and not neuroid.flat_test
    assert found["digest"].nunique() == len(values)


@pytest.mark.parametrize(
    "rdms, level, words",
    [
        (dict(IT__m1="a", IT__m2="b"), "ok", "2 RDMs, no two the same"),
        (dict(IT__m1="a", IT__m2="a"), "error", "IT__m2 is the same matrix as IT__m1"),
        (dict(IT__m1="a", V4__m1="flat"), "error", "V4__m1 has the same dissimilarity between all stimuli"),
    ],
)
def test_rdm_benchmarks(tmp_path, rdms, level, words):
    rng = np.random.default_rng(0)
    matrices = {name: (lambda m: m + m.T)(np.triu(rng.random((6, 6)), 1)) for name in "ab"} | {"flat": 1 - np.eye(6)}
    folder = rdm_folder(tmp_path / "k", **{key: matrices[name] for key, name in rdms.items()})
    report = examine(folder)
    assert any(words in text for text in told(report, "duplicates", level)), report
    assert report.ok == (level == "ok")


def test_pictures_in_one_file_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("juicyfruits.write.MAX_PICTURE_FILES", 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, 8, 8, 3), dtype=np.uint8)
    images[4] = images[1]
    stimuli = {"stimulus_id": [f"s{i:02d}" for i in range(12)]}
    neuroids = {"neuroid_id": list("abc"), "subject": "m1", "roi_IT": True}
    write_benchmark(
        tmp_path / "own",
        pd.DataFrame(stimuli),
        images,
        neuroids=pd.DataFrame(neuroids),
        responses=rng.standard_normal((3, 12, 2)),
    )
    assert (tmp_path / "own" / "images.hdf5").exists()
    assert any("'s01', 's04'" in text for text in told(examine(tmp_path / "own"), "pictures", "warning"))


# ru_maxrss would start at the size of the process that started this one
PEAK = """
import re, sys
from juicyfruits.doctor import examine
examine(sys.argv[1])
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_responses(tmp_path):
    """0.6 GB of responses, of 10,000 stimuli as a whole subject of NSD has; most of the file is a hole."""
    folder = tmp_path / "whole"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(folder / "images" / "one.png")
    stimuli = "".join(f"s{i},images/one.png\n" for i in range(10_000))
    (folder / "stimuli.csv").write_text("stimulus_id,image_path\n" + stimuli)
    neuroids = "".join(f"n{i},subj01,1\n" for i in range(5_000))
    (folder / "neuroids.csv").write_text("neuroid_id,subject,roi_OTC\n" + neuroids)
    np.lib.format.open_memmap(folder / "responses.npy", "w+", np.float32, (5_000, 10_000, 3)).flush()
    run = subprocess.run([sys.executable, "-c", PEAK, folder], capture_output=True, text=True, check=True)
    assert int(run.stdout.splitlines()[-1]) < 0.6e9
