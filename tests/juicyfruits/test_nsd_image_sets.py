"""Image sets against a plain count of what was shown, in a design that one subject did not finish."""

import shutil

import numpy as np
import pandas as pd
import pytest
from plain_nsd import BETAS, plain_counts, plain_subject
from tiny_brain import TINY

from juicyfruits import InputError
from juicyfruits.nsd.design import behaviour_needed, choose_stimuli, read_shown
from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.synthetic.mini import make_mini

SUBJECTS = ("subj01", "subj02", "subj03")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three subjects; the third one's last session was never run."""
    folder = make_mini(tmp_path_factory.mktemp("sets") / "mini", seed=6, **TINY | {"n_unique": 8, "n_subjects": 3})
    path = folder / "nsddata/ppdata/subj03/behav/responses.tsv"
    table = pd.read_csv(path, sep="\t")
    table[table["SESSION"] <= 4].to_csv(path, sep="\t", index=False)
    (folder / f"nsddata_betas/ppdata/subj03/{BETAS}/betas_session05.hdf5").unlink()
    return folder


def plain_set(source, image_set, subjects):
    """The nsd ids, in order."""
    info = pd.read_csv(source / "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    shared = set(info.loc[info["shared1000"], "nsdId"])
    counts = {subject: plain_counts(source, subject) for subject in SUBJECTS}
    seen = set.intersection(*(set(counts[subject]) for subject in subjects))
    three = {nsd_id for nsd_id in shared if all(counts[subject].get(nsd_id, 0) == 3 for subject in SUBJECTS)}
    return sorted({"shared1000": shared & seen, "shared515": three, "unique": seen - shared, "all": seen}[image_set])


CASES = [
    ("shared1000", SUBJECTS),
    ("shared515", ("subj01", "subj02")),
    ("shared515", SUBJECTS),
    ("unique", ("subj02",)),
    ("all", ("subj02",)),
    ("all", ("subj03",)),
]


@pytest.mark.parametrize("image_set, subjects", CASES)
def test_sets_equal_a_plain_count_before_and_with_betas(source, tmp_path, image_set, subjects):
    expected = plain_set(source, image_set, subjects)
    table = choose_stimuli(source, image_set, {subject: read_shown(source, subject) for subject in subjects})
    assert list(table["nsd_id"]) == expected
    benchmark = prepare_nsd(source, tmp_path / "out", subjects=subjects, image_set=image_set, rois=["V1"])
    assert list(benchmark.stimulus_data["nsd_id"]) == expected
    assert list(benchmark.stimulus_data["split"]) == list(table["split"])
    last = benchmark.metadata.iloc[-1]
    plain, _, _ = plain_subject(source, subjects[-1])
    by_picture = plain[last["voxel_x"], last["voxel_y"], last["voxel_z"]]
    for values, nsd_id in zip(benchmark.responses[-1], expected, strict=True):
        np.testing.assert_allclose(values[~np.isnan(values)], by_picture[nsd_id], atol=1e-5)


def test_the_designs_differ_where_they_should(source):
    """shared515 is smaller than shared1000, and the unfinished subject makes it so, chosen or not."""
    sizes = [len(plain_set(source, image_set, subjects)) for image_set, subjects in CASES]
    assert sizes[0] > sizes[1] == sizes[2] >= 6 and sizes[3] == 8 and sizes[4] == 28


@pytest.mark.parametrize("image_set", ["shared1000", "unique"])
def test_even_rows_train_and_odd_rows_test(source, image_set):
    table = choose_stimuli(source, image_set, {"subj02": read_shown(source, "subj02")})
    assert list(table["split"]) == ["train" if row % 2 == 0 else "test" for row in range(len(table))]
    assert table.attrs["dropped"] == 0


def test_of_all_the_unique_ones_train(source):
    table = choose_stimuli(source, "all", {"subj02": read_shown(source, "subj02")})
    unique = plain_set(source, "unique", ["subj02"])
    assert list(table.loc[table["split"] == "train", "nsd_id"]) == unique
    assert list(table.loc[table["split"] == "test", "nsd_id"]) == plain_set(source, "shared1000", ["subj02"])


def test_pictures_that_someone_was_not_shown_are_counted(source):
    table = choose_stimuli(source, "shared1000", {subject: read_shown(source, subject)[:1] for subject in SUBJECTS})
    assert table.attrs["dropped"] == 20 - len(table) > 0


def test_whose_behaviour_is_needed(source):
    assert behaviour_needed(source, "shared515", ["subj02"]) == list(SUBJECTS)
    assert behaviour_needed(source, "all", ["subj02"]) == ["subj02"]


@pytest.mark.parametrize("image_set", ["unique", "all"])
def test_personal_sets_are_of_one_subject(source, tmp_path, image_set):
    with pytest.raises(InputError, match=f"'{image_set}' is of one subject.*2 are chosen.*one benchmark a subject"):
        prepare_nsd(source, tmp_path / "out", subjects=["subj01", "subj02"], image_set=image_set)
    with pytest.raises(InputError, match="is of one subject"):
        behaviour_needed(source, image_set, ["subj01", "subj02"])


def spoil_sessions(table):
    return table.assign(SESSION=table["SESSION"] + 1)


def spoil_numbers(table):
    return table[table["nsdId"] != table["nsdId"].max()]


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("nsddata/ppdata/subj01/behav/responses.tsv", spoil_sessions, "SESSION must count 1, 2, 3"),
        ("nsddata/experiments/nsd/nsd_stim_info_merged.csv", spoil_numbers, "lacks picture [0-9]+, which was shown"),
    ],
)
def test_spoiled_tables_are_told(source, tmp_path, name, change, message):
    copy = shutil.copytree(source / "nsddata", tmp_path / "nsddata").parent
    sep = "\t" if name.endswith(".tsv") else ","
    change(pd.read_csv(copy / name, sep=sep)).to_csv(copy / name, sep=sep, index=False)
    with pytest.raises(InputError, match=message):
        for subject in SUBJECTS:
            choose_stimuli(copy, "all", {subject: read_shown(copy, subject)})


def test_too_few_pictures_are_told_before_betas_are_read(mini_source, tmp_path):
    with pytest.raises(InputError, match="'unique' leaves 2 pictures to train and 2 to test, but 3"):
        prepare_nsd(mini_source, tmp_path / "out", subjects=["subj01"], image_set="unique")
