"""prepare_nsd against a plain reading of the same files that shares no code with it."""

import json
import shutil

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat

from juicyfruits import Benchmark, InputError
from juicyfruits.nsd.prepare import prepare_nsd

BETAS = "func1pt8mm/betas_fithrf_GLMdenoise_RR"
SESSION = f"nsddata_betas/ppdata/subj01/{BETAS}/betas_session01.hdf5"
NCSNR = f"nsddata_betas/ppdata/subj01/{BETAS}/ncsnr.nii.gz"


def plain_maps(source, subject):
    def load(name):
        return nib.load(source / f"nsddata/ppdata/{subject}/func1pt8mm/roi/{name}.nii.gz").get_fdata()

    names = ["nsdgeneral", "streams", "prf-visualrois"]
    return {name: load(name) for name in [*names, *(f"floc-{kind}" for kind in ("faces", "bodies", "places", "words"))]}


def plain_regions(m, at):
    """Which regions a voxel is in, from its codes."""
    codes = {name: int(volume[at]) for name, volume in m.items()}
    regions = set()
    if codes["prf-visualrois"] in (1, 2, 3, 4, 5, 6, 7):
        regions |= {"EVC", {1: "V1", 2: "V1", 3: "V2", 4: "V2", 5: "V3", 6: "V3", 7: "hV4"}[codes["prf-visualrois"]]}
    floc = [codes[f"floc-{kind}"] for kind in ("faces", "bodies", "places", "words")]
    if (codes["nsdgeneral"] == 1 and codes["streams"] in (2, 3, 5, 6)) or max(floc) >= 1:
        regions.add("OTC")
    regions |= {"FFA"} if floc[0] in (2, 3) else set()
    regions |= {"PPA"} if floc[2] == 2 else set()
    return regions


def plain_subject(source, subject, threshold=0.2):
    """Every trial of every voxel, z-scored over its session, gathered by picture: {(x, y, z): {nsd_id: [values]}}."""
    maps = plain_maps(source, subject)
    ncsnr = nib.load(source / f"nsddata_betas/ppdata/{subject}/{BETAS}/ncsnr.nii.gz").get_fdata()
    design = loadmat(source / "nsddata/experiments/nsd/nsd_expdesign.mat")
    own = design["subjectim"][int(subject[-1]) - 1]
    sessions = []
    for path in sorted((source / f"nsddata_betas/ppdata/{subject}/{BETAS}").glob("*.hdf5")):
        with h5py.File(path) as file:
            sessions.append(file["betas"][:].transpose(0, 3, 2, 1) / 300)
    result, flat, low = {}, 0, 0
    for at in np.ndindex(ncsnr.shape):
        if not plain_regions(maps, at) & {"EVC", "OTC"}:
            continue
        if not ncsnr[at] > threshold:
            low += 1
            continue
        series = [session[(slice(None), *at)] for session in sessions]
        if any(len(set(values)) == 1 for values in series):
            flat += 1
            continue
        trial, by_picture = 0, {}
        for values in series:
            for value in values:
                nsd_id = int(own[int(design["masterordering"][0, trial]) - 1]) - 1
                by_picture.setdefault(nsd_id, []).append((value - np.mean(values)) / np.std(values))
                trial += 1
        result[at] = by_picture
    return result, flat, low


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


def test_missing_sessions_leave_missing_repeats(source_copy, tmp_path):
    (source_copy / f"nsddata_betas/ppdata/subj02/{BETAS}/betas_session05.hdf5").unlink()
    benchmark = prepare_nsd(source_copy, tmp_path / "out")
    counts = benchmark.repeats()
    first = (benchmark.metadata["subject"] == "subj01").to_numpy()
    assert (counts[first] == 3).all()
    assert counts[~first].min() >= 1 and counts[~first].min() < 3
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
