"""prepare_nsd against a plain reading of the same files that shares no code with it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from plain_nsd import BETAS, plain_maps, plain_ncsnr, plain_regions, plain_subject
from scipy.io import loadmat

from juicyfruits import Benchmark, InputError
from juicyfruits.nsd.prepare import prepare_nsd, scratch_folder

SESSION = f"nsddata_betas/ppdata/subj01/{BETAS}/betas_session01.hdf5"
NCSNR = f"nsddata_betas/ppdata/subj01/{BETAS}/ncsnr.nii.gz"


@pytest.fixture(scope="module")
def benchmark(mini_folder):
    return Benchmark(mini_folder)


def test_equals_a_plain_reading(benchmark, mini_source):
    n_voxels = 0
    for subject in ("subj01", "subj02"):
        plain, flat, low = plain_subject(mini_source, subject)
        maps = plain_maps(mini_source, subject)
        n_voxels += len(plain)
        for at, by_picture in plain.items():
            row = benchmark.metadata.index.get_loc(f"S{subject[-1]}-{at[0]}-{at[1]}-{at[2]}")
            expected = [by_picture[nsd_id] for nsd_id in benchmark.stimulus_data["nsd_id"]]
            np.testing.assert_allclose(benchmark.responses[row], expected, atol=1e-5)
            entry = benchmark.metadata.iloc[row]
            known = {"EVC", "OTC", "V1", "V2", "V3", "hV4", "FFA", "PPA"} & set(benchmark.rois)
            assert {roi for roi in known if entry[roi]} == plain_regions(maps, at)
            assert (entry["voxel_x"], entry["voxel_y"], entry["voxel_z"]) == at
            np.testing.assert_allclose(entry["ncsnr_recomputed"], plain_ncsnr(by_picture), rtol=1e-5)
        masked = benchmark.info["masked_voxels"][subject]
        assert masked == {"ncsnr not above 0.2": low, "flat or without data in a session": flat}
        assert flat >= 3
    assert len(benchmark.metadata) == n_voxels > 100


def test_pictures_are_those_of_the_release(benchmark, mini_source):
    with h5py.File(mini_source / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        for nsd_id, path in zip(benchmark.stimulus_data["nsd_id"], benchmark.image_paths, strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(path)), file["imgBrick"][nsd_id])
    info = pd.read_csv(mini_source / "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    assert list(benchmark.stimulus_data["nsd_id"]) == sorted(info.loc[info["shared1000"], "nsdId"])


def test_tables_of_the_source_agree(mini_source):
    """Design, behaviour and stimulus table tell the same story, in the release's own numbering."""
    info = pd.read_csv(mini_source / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").set_index("nsdId")
    design = loadmat(mini_source / "nsddata/experiments/nsd/nsd_expdesign.mat")
    assert sorted(design["sharedix"][0] - 1) == sorted(info.index[info["shared1000"]])
    for number in (1, 2):
        behaviour = pd.read_csv(mini_source / f"nsddata/ppdata/subj{number:02d}/behav/responses.tsv", sep="\t")
        shown = behaviour["73KID"].to_numpy() - 1
        for nsd_id in np.unique(shown):
            expected = list(np.flatnonzero(shown == nsd_id) + 1)
            assert [info.loc[nsd_id, f"subject{number}_rep{k}"] for k in range(3)] == expected
        assert set(info.index[info[f"subject{number}"] == 1]) == set(shown)


def test_truth_is_recovered_as_ncsnr_predicts(benchmark, mini_source):
    truth = np.load(mini_source / "truth.npz")
    got, expected = [], []
    for subject in benchmark.subjects:
        picture = {nsd_id: i for i, nsd_id in enumerate(truth[f"{subject}_nsd_id"])}
        columns = [picture[nsd_id] for nsd_id in benchmark.stimulus_data["nsd_id"]]
        for neuroid, signal in zip(truth[f"{subject}_neuroid_id"], truth[f"{subject}_signal"], strict=True):
            if neuroid in benchmark.metadata.index:
                ncsnr = benchmark.metadata.loc[neuroid, "ncsnr"]
                got.append(np.corrcoef(benchmark.response_data.loc[neuroid], signal[columns])[0, 1])
                expected.append(np.sqrt(ncsnr**2 / (ncsnr**2 + 1 / 3)))
    assert len(got) == len(benchmark.metadata)
    assert abs(np.mean(got) - np.mean(expected)) < 0.03
    assert np.corrcoef(got, expected)[0, 1] > 0.6


def test_missing_sessions_leave_missing_repeats(source_copy, tmp_path, capsys):
    (source_copy / f"nsddata_betas/ppdata/subj02/{BETAS}/betas_session05.hdf5").unlink()
    benchmark = prepare_nsd(source_copy, tmp_path / "out")
    counts = benchmark.repeats()
    first = (benchmark.metadata["subject"] == "subj01").to_numpy()
    assert (counts[first] == 3).all()
    assert counts[~first].min() >= 1 and counts[~first].min() < 3
    assert benchmark.info["missing_sessions"] == {"subj02": 1}
    assert "subj02: the betas of its last 1 sessions are not there" in capsys.readouterr().out
    plain, _, _ = plain_subject(source_copy, "subj02")
    row = np.flatnonzero(~first)[0]
    at = tuple(benchmark.metadata.iloc[row][["voxel_x", "voxel_y", "voxel_z"]].astype(int))
    for k, nsd_id in enumerate(benchmark.stimulus_data["nsd_id"]):
        values = benchmark.responses[row, k]
        np.testing.assert_allclose(values[~np.isnan(values)], plain[at][nsd_id], atol=1e-5)


def test_pictures_not_seen_by_all_are_dropped(source_copy, tmp_path):
    for session in (3, 4, 5):
        (source_copy / f"nsddata_betas/ppdata/subj02/{BETAS}/betas_session{session:02d}.hdf5").unlink()
    benchmark = prepare_nsd(source_copy, tmp_path / "out")
    behaviour = pd.read_csv(source_copy / "nsddata/ppdata/subj02/behav/responses.tsv", sep="\t")
    seen = set(behaviour.loc[behaviour["SESSION"] <= 2, "73KID"] - 1)
    assert set(benchmark.stimulus_data["nsd_id"]) <= seen
    assert benchmark.info["dropped_stimuli"] == 20 - len(benchmark.stimulus_data) > 0


def test_chosen_rois_subjects_threshold_and_name(mini_source, tmp_path):
    benchmark = prepare_nsd(
        mini_source, tmp_path / "v1", subjects=["subj02"], rois=["V1", "ventral"], ncsnr_threshold=0.5, name="early"
    )
    assert benchmark.rois == ["V1", "ventral"] and benchmark.subjects == ["subj02"] and benchmark.name == "early"
    assert (benchmark.metadata["ncsnr"] > 0.5).all() and benchmark.metadata[["V1", "ventral"]].any(axis=1).all()


def test_expressions_choose_voxels_under_their_names(mini_source, tmp_path):
    rois = ["faces = floc-faces & ventral", "nsdgeneral & !(V1 | streams)", "V2"]
    with pytest.raises(InputError, match=r"'nsdgeneral & !\(V1 \| streams\)' has no voxel left"):
        prepare_nsd(mini_source, tmp_path / "empty", rois=rois)
    benchmark = prepare_nsd(mini_source, tmp_path / "some", subjects=["subj01"], rois=[rois[0], rois[2]])
    assert benchmark.rois == ["faces", "V2"] and benchmark.info["voxel_set"] == [rois[0], rois[2]]
    maps = plain_maps(mini_source, "subj01")
    faces = (maps["floc-faces"] > 0) & (maps["streams"] == 5)
    second = np.isin(maps["prf-visualrois"], (3, 4))
    plain, _, _ = plain_subject(mini_source, "subj01")
    at = [tuple(xyz) for xyz in benchmark.metadata[["voxel_x", "voxel_y", "voxel_z"]].to_numpy()]
    assert sorted(at) == sorted(xyz for xyz in plain if faces[xyz] or second[xyz])
    assert [list(row) for row in benchmark.metadata[["faces", "V2"]].to_numpy()] == [[faces[v], second[v]] for v in at]


def test_empty_areas_are_no_columns(benchmark):
    assert {"EVC", "OTC", "V1", "hV4", "FFA", "PPA"} <= set(benchmark.rois)
    assert benchmark.metadata[benchmark.rois].any().all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rois": ["V1", "FFB"]}, "unknown ROI 'FFB'; did you mean .*'FFA'"),
        ({"rois": ["V1", "aTL-faces"]}, "'aTL-faces' has no voxel left"),
        ({"subjects": ["subj03"]}, "no betas of subject 'subj03'"),
        ({"image_set": "shared100"}, "unknown image set 'shared100'; did you mean 'shared1000'"),
        ({"ncsnr_threshold": 50.0}, "no voxel is left"),
        ({"beta_version": "betas_fithrf"}, "holds no nsddata_betas"),
        ({"rois": ["V1", "ncsnr=V2"]}, "no ROI can be called 'ncsnr'"),
        ({"repeats": "all"}, "repeats must be 'keep' or 'mean', but is 'all'"),
        ({"jobs": 0}, "jobs must be 1 or more, but is 0"),
    ],
)
def test_options_that_do_not_fit(mini_source, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        prepare_nsd(mini_source, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_stray_files_are_no_sessions(source_copy, tmp_path):
    for name in ("betas_session_old.hdf5", "betas_session05_old.hdf5", "betas_session5.hdf5"):
        shutil.copy(source_copy / SESSION, (source_copy / SESSION).with_name(name))
    (source_copy / SESSION.replace("01.hdf5", "05.hdf5")).unlink()
    benchmark = prepare_nsd(source_copy, tmp_path / "out", subjects=["subj01"])
    assert benchmark.repeats().sum(axis=1).max() < 60


def test_averaged_repeats_are_the_mean_of_the_kept_ones(benchmark, source_copy, mini_source, tmp_path):
    means = prepare_nsd(mini_source, tmp_path / "mean", repeats="mean")
    assert means.responses.shape == (*benchmark.responses.shape[:2], 1)
    expected = np.mean(np.array(benchmark.responses, dtype=np.float64), axis=2)
    np.testing.assert_allclose(means.responses[:, :, 0], expected, rtol=1e-6, atol=1e-7)
    assert (means.stimulus_data[["n_repeats_subj01", "n_repeats_subj02"]] == 3).all(axis=None)

    (source_copy / SESSION.replace("01.hdf5", "05.hdf5")).unlink()
    means = prepare_nsd(source_copy, tmp_path / "fewer", repeats="mean")
    plain, _, _ = plain_subject(source_copy, "subj01")
    at, by_picture = next(iter(plain.items()))
    seen = [by_picture[nsd_id] for nsd_id in means.stimulus_data["nsd_id"]]
    row = means.metadata.index.get_loc(f"S1-{at[0]}-{at[1]}-{at[2]}")
    np.testing.assert_allclose(means.responses[row, :, 0], [np.mean(values) for values in seen], atol=1e-6)
    assert list(means.stimulus_data["n_repeats_subj01"]) == [len(values) for values in seen]
    assert 1 <= min(map(len, seen)) < max(map(len, seen)) == 3


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("repeats", ["keep", "mean"])
def test_blocks_change_no_bit(mini_source, tmp_path, monkeypatch, repeats):
    once = prepare_nsd(mini_source, tmp_path / "once" / "nsd", repeats=repeats).folder
    for values in (1, 500):  # one voxel at a time; 6 with the tiny brain's 72 trials
        monkeypatch.setattr("juicyfruits.nsd.responses.BLOCK", values)
        blocks = prepare_nsd(mini_source, tmp_path / str(values) / "nsd", repeats=repeats).folder
        assert contents(blocks) == contents(once)


def test_processes_change_no_bit(mini_folder, mini_source, tmp_path):
    assert contents(prepare_nsd(mini_source, tmp_path / "nsd_mini", jobs=2).folder) == contents(mini_folder)


def test_what_a_killed_run_left_is_removed(mini_source, tmp_path):
    with scratch_folder(tmp_path / "out") as folder:
        left = folder.rename(folder.with_name(folder.name.replace(f"{os.getpid():010d}", "0999999999")))
    assert left.is_dir() and not folder.exists() and left != folder
    prepare_nsd(mini_source, tmp_path / "out", subjects=["subj01"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_ncsnr_map_of_other_data_is_told(source_copy, mini_source, tmp_path, capsys):
    good = prepare_nsd(mini_source, tmp_path / "good")
    assert "warning" not in capsys.readouterr().out
    volume = np.asarray(nib.load(source_copy / NCSNR).dataobj)
    nib.save(nib.Nifti1Image(np.where(volume > 0, volume + 0.4, 0), np.eye(4)), source_copy / NCSNR)
    raised = prepare_nsd(source_copy, tmp_path / "raised", subjects=["subj01"])
    assert "warning: subj01: the shipped ncsnr map does not match the repeats" in capsys.readouterr().out
    shuffled = volume.copy()
    shuffled[volume > 0] = np.random.default_rng(0).permutation(volume[volume > 0])
    nib.save(nib.Nifti1Image(shuffled, np.eye(4)), source_copy / NCSNR)
    mixed = prepare_nsd(source_copy, tmp_path / "mixed", subjects=["subj01"])
    matches = [b.info["ncsnr_check"]["subj01"]["matches"] for b in (good, raised, mixed)]
    assert matches == [True, False, False]
    found, table = good.info["ncsnr_check"]["subj02"], good.metadata[good.metadata["subject"] == "subj02"]
    assert found["n_voxels"] == len(table)
    assert found["correlation"] == pytest.approx(table["ncsnr"].corr(table["ncsnr_recomputed"]), abs=1e-6)
    assert found["median_difference"] == pytest.approx((table["ncsnr_recomputed"] - table["ncsnr"]).median(), abs=1e-6)


def test_infinite_ncsnr_is_masked_and_counted(source_copy, mini_source, tmp_path):
    before = prepare_nsd(mini_source, tmp_path / "before", subjects=["subj01"])
    x, y, z = before.metadata[["voxel_x", "voxel_y", "voxel_z"]].iloc[0]
    volume = np.asarray(nib.load(source_copy / NCSNR).dataobj).copy()
    volume[x, y, z] = np.inf
    nib.save(nib.Nifti1Image(volume, np.eye(4)), source_copy / NCSNR)
    after = prepare_nsd(source_copy, tmp_path / "after", subjects=["subj01"])
    assert list(after.metadata.index) == list(before.metadata.index[1:])
    assert after.info["masked_voxels"]["subj01"]["ncsnr infinite"] == 1


def test_only_an_earlier_benchmark_is_replaced(mini_source, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="will not be replaced"):
        prepare_nsd(mini_source, tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"
    out = tmp_path / "out"
    prepare_nsd(mini_source, out, subjects=["subj01"])
    prepare_nsd(mini_source, out, subjects=["subj02"])
    assert json.loads((out / "benchmark.json").read_text())["subjects"] == ["subj02"]


def test_a_source_within_the_benchmark_is_not_replaced(mini_source, tmp_path):
    out = tmp_path / "out"
    prepare_nsd(mini_source, out, subjects="subj01", rois="EVC")  # one name as plain text
    shutil.copytree(mini_source, out / "raw")
    with pytest.raises(InputError, match="also holds 'raw', which would be lost"):
        prepare_nsd(out / "raw", out)
    assert (out / "raw" / "nsddata").is_dir()


HANGS = """
import os, sys, time
from juicyfruits.nsd import responses
from juicyfruits.nsd.responses import read_all
def read_answers(job):
    print(os.getpid(), flush=True)
    time.sleep(600)
if __name__ == "__main__":
    responses.read_answers = read_answers
    read_all([1, 2], 2)
"""


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS)
    parent = subprocess.Popen([sys.executable, tmp_path / "hangs.py"], stdout=subprocess.PIPE, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers):
            break
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
