"""Parts of a benchmark, and what is made of it: RDMs, counts, repeats. Expected values are read off the tables."""

import numpy as np
import pandas as pd
import pytest
from folders import edit, rdm_folder

from juicyfruits import Benchmark, InputError, write_benchmark

N = 10
ROIS = {"V4": [1, 1, 1, 0, 1, 0], "IT": [0, 0, 1, 1, 0, 1], "aIT": [0, 0, 0, 1, 0, 0]}
SUBJECTS = ["m1", "m1", "m1", "m1", "m2", "m2"]
NCSNR = [0.1, 0.5, 0.9, 0.2, np.nan, 0.7]


@pytest.fixture
def brain(tmp_path):
    """6 neurons of 2 monkeys, 10 pictures, 2 repeats, many missing."""
    rng = np.random.default_rng(1)
    responses = rng.standard_normal((6, N, 2)).astype(np.float32)
    responses[..., 1][rng.random((6, N)) < 0.4] = np.nan
    neuroids = pd.DataFrame({"neuroid_id": list("abcdef"), "subject": SUBJECTS, "ncsnr": NCSNR})
    neuroids = neuroids.assign(**{f"roi_{roi}": flags for roi, flags in ROIS.items()})
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i}" for i in range(N)], "kind": ["cat", "dog"] * 5})
    images = rng.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
    return write_benchmark(tmp_path / "brain", stimuli, images, neuroids=neuroids, responses=responses)


@pytest.mark.parametrize(
    "chosen, neuroids, stimuli",
    [
        ({}, "abcdef", range(N)),
        ({"rois": "IT"}, "cdf", range(N)),
        ({"rois": ["aIT", "V4"], "subjects": "m1"}, "abcd", range(N)),
        ({"ncsnr": 0.2}, "bcf", range(N)),
        ({"ncsnr": 0.2, "subjects": ["m2"]}, "f", range(N)),
        ({"stimuli": ["s7", "s1", "s2", "s3", "s4", "s6"], "rois": ["V4"]}, "abce", [1, 2, 3, 4, 6, 7]),
        ({"stimuli": np.arange(N) > 2, "ncsnr": 0.6}, "cf", range(3, N)),
    ],
)
def test_rows_and_columns(brain, chosen, neuroids, stimuli):
    rows, columns = ["abcdef".index(name) for name in neuroids], list(stimuli)
    part = brain.subset(**chosen)
    assert list(part.metadata.index) == list(neuroids)
    assert list(part.stimulus_data["stimulus_id"]) == [f"s{i}" for i in columns]
    np.testing.assert_array_equal(part.responses, brain.responses[rows][:, columns])
    np.testing.assert_array_equal(part.response_data, brain.response_data.to_numpy()[np.ix_(rows, columns)])
    np.testing.assert_array_equal(part.repeats(), brain.repeats()[np.ix_(rows, columns)])
    np.testing.assert_array_equal(part.train, brain.train[columns])
    assert part.image_paths == [brain.image_paths[i] for i in columns]
    for roi in part.rois:
        assert list(part.metadata[roi]) == [bool(ROIS[roi][row]) for row in rows] and part.metadata[roi].any()
    assert set(brain.rois) - set(part.rois) == set(brain.metadata) - set(part.metadata)


def test_digests_tell_subsets_apart(brain):
    mask = np.arange(N) > 2
    choices = [{}, {"rois": "IT"}, {"subjects": "m1"}, {"ncsnr": 0.2}, {"ncsnr": 0.15}, {"stimuli": mask}]
    parts = [brain.subset(**chosen) for chosen in choices]
    parts += [parts[-1].subset(ncsnr=0.2), brain]
    assert len({part.digest for part in parts}) == len(parts)
    assert brain.subset(stimuli=mask).digest == parts[5].digest
    assert brain.subset(stimuli=[f"s{i}" for i in range(3, N)]).stimulus_digest == parts[5].stimulus_digest
    assert {part.stimulus_digest for part in parts[:5]} == {brain.stimulus_digest} != {parts[5].stimulus_digest}


@pytest.mark.parametrize(
    "chosen, message",
    [
        ({"rois": ["V1"]}, "no ROI 'V1' in benchmark 'brain'; did you mean 'V4'"),
        ({"subjects": "m3"}, "no subject 'm3' in benchmark 'brain'"),
        ({"stimuli": ["s1", "s99"]}, "no stimulus 's99' in benchmark 'brain'"),
        ({"stimuli": []}, "no stimulus chosen"),
        ({"stimuli": [True, False]}, r"shape \(10,\), but has \(2,\)"),
        ({"stimuli": ["s0", "s1", "s2", "s4"]}, r"4 chosen stimuli must leave at least 3 .* has 3 and 1"),
        ({"ncsnr": 0.9}, r"no neuroid of m1, m2 has an ncsnr above 0\.9; the largest is 0\.9"),
        ({"rois": "aIT", "ncsnr": 0.3}, "ROI 'aIT' has no neuroids in m1, m2, or none above"),
        ({"rois": "aIT", "subjects": "m2"}, "ROI 'aIT' has no neuroids in m2"),
        ({"rois": []}, "no ROI chosen"),
        ({"rois": 5}, "ROI must be chosen by a name or a list of names, but 5 came"),
        ({"rois": [["V4"]]}, r"ROI must be chosen by a name or a list of names, but \[\['V4'\]\] came"),
        ({"stimuli": 5}, "stimulus must be chosen by a name or a list of names, but 5 came"),
        ({"stimuli": [["s1"], True]}, "stimulus must be chosen by a name or a list"),
        ({"ncsnr": "0.2"}, "ncsnr must be a number, but is '0.2'"),
    ],
)
def test_what_cannot_be_chosen(brain, chosen, message):
    with pytest.raises(InputError, match=message):
        brain.subset(**chosen)


def test_a_subset_can_be_saved(brain, tmp_path):
    part = brain.subset(rois=["IT"], stimuli=np.arange(N) != 4)
    saved = part.save(tmp_path / "part")
    assert saved.name == "part" and saved.rois == ["IT"] and saved.stimulus_digest == part.stimulus_digest
    np.testing.assert_array_equal(saved.responses, part.responses)
    np.testing.assert_array_equal(saved.train, part.train)
    pd.testing.assert_frame_equal(saved.metadata, part.metadata, check_column_type=False, check_dtype=False)


def test_counts_of_neuroids(brain):
    assert brain.get_roi_structure()["neuroids"].to_dict() == {"V4": 4, "IT": 3, "aIT": 1}
    by_subject = brain.get_roi_structure(mode="subject")
    assert by_subject.loc["V4"].to_dict() == {"m1": 3, "m2": 1} and by_subject.loc["aIT", "m2"] == 0
    with pytest.raises(InputError, match="mode='deep': expected 'global' or 'subject'"):
        brain.get_roi_structure("deep")
    assert {roi: {s: list(i) for s, i in by.items()} for roi, by in brain.roi_indices.items()} == {
        "V4": {"m1": [0, 1, 2], "m2": [4]},
        "IT": {"m1": [2, 3], "m2": [5]},
        "aIT": {"m1": [3]},
    }


def distances(X, power):
    return np.array([[sum(abs(x - y) ** power) for y in X] for x in X])


def test_rdms_of_all_and_of_each_split(brain):
    brain.build_rdms(distances, power=3)
    values = brain.response_data.to_numpy()
    for roi, by_subject in brain.roi_indices.items():
        for subject, rows in by_subject.items():
            expected = distances(values[rows].T, 3)
            halves = brain.splithalf_rdms[roi][subject]
            np.testing.assert_allclose(brain.rdms[roi][subject], expected, rtol=1e-6)
            np.testing.assert_allclose(halves["train"], expected[::2, ::2], rtol=1e-6)
            np.testing.assert_allclose(halves["test"], expected[1::2, 1::2], rtol=1e-6)
    assert brain.subset(rois="IT").rdms == {}


def test_earlier_rdms_outlive_a_failure(brain):
    brain.build_rdms(distances, power=3)
    earlier, halves = brain.rdms, brain.splithalf_rdms
    with pytest.raises(np.linalg.LinAlgError):
        brain.build_rdms(lambda X: np.linalg.inv(X - X))
    assert brain.rdms is earlier and brain.splithalf_rdms is halves and list(earlier) == list(ROIS)


def test_rdms_as_tensors(brain):
    torch = pytest.importorskip("torch")
    from deepjuice import compute_rdm

    rdms = brain.build_rdms(compute_rdm, method="pearson", device="cpu")
    assert isinstance(rdms["V4"]["m1"], torch.Tensor)
    expected = 1 - np.corrcoef(brain.response_data.iloc[:3, 1::2].T)
    np.testing.assert_allclose(brain.splithalf_rdms["V4"]["m1"]["test"], expected, atol=1e-6)


def test_given_rdms_are_sliced(tmp_path):
    rdm = np.abs(np.subtract.outer(np.arange(6.0) ** 2, np.arange(6.0) ** 2))
    b = Benchmark(rdm_folder(tmp_path / "k", IT__m1=rdm, IT__m2=2 * rdm, V1__m2=3 * rdm))
    np.testing.assert_array_equal(b.splithalf_rdms["IT"]["m2"]["train"], 2 * rdm[::2, ::2])
    np.testing.assert_array_equal(b.splithalf_rdms["V1"]["m2"]["test"], 3 * rdm[1::2, 1::2])
    part = b.subset(rois="IT", subjects=["m2"], stimuli=np.ones(6, bool))
    assert part.rois == ["IT"] and list(part.rdms["IT"]) == list(part.splithalf_rdms["IT"]) == ["m2"]
    np.testing.assert_array_equal(part.save(tmp_path / "part").rdms["IT"]["m2"], 2 * rdm)
    for refused in (b.get_roi_structure, lambda: b.subset(ncsnr=0.2)):
        with pytest.raises(InputError, match="holds RDMs only"):
            refused()


def average(folder, **columns):
    """Leave only averages in the folder, and say of how many repeats."""
    np.save(folder / "responses.npy", np.nanmean(np.load(folder / "responses.npy"), axis=2))
    edit(folder, "stimuli.csv", lambda table: table.assign(**columns))


def test_repeats_of_averages_are_said(own_folder, tmp_path):
    average(own_folder, n_repeats=[1, 2, 3, 4, 5, 6], n_repeats_m2=[9, 9, 9, 9, 9, 8])
    b = Benchmark(own_folder)
    first, second = [1, 2, 3, 4, 5, 6], [9, 9, 9, 9, 9, 8]
    np.testing.assert_array_equal(b.repeats(), [first, first, second, second])
    one = b.subset(subjects="m1").save(tmp_path / "one")
    np.testing.assert_array_equal(one.repeats(), [first, first])
    assert "n_repeats_m2" not in one.stimulus_data


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"n_repeats": [1, 2, 3, 4, 5, 0]}, "'n_repeats' must hold whole numbers from 1, but has '0'"),
        ({"n_repeats": [1, 2, 3, 4, 5, 1.5]}, r"must hold whole numbers from 1, but has '1\.5'"),
        ({"n_repeats_m1": ["x", 1, 1, 1, 1, 1]}, "'n_repeats_m1' must hold whole numbers from 1, but has 'x'"),
        ({"n_repeats": [1, None, 1, 1, 1, 1]}, "must hold whole numbers from 1, but has 'nan'"),
        ({"n_repeats": 2, "n_repeats_m3": 2}, "'n_repeats_m3' is of no subject; did you mean"),
        ({"n_repeats_m1": 2}, "says the repeats of other subjects, but not of 'm2'"),
    ],
)
def test_wrong_counts_of_repeats(own_folder, columns, message):
    average(own_folder, **columns)
    with pytest.raises(InputError, match=message):
        Benchmark(own_folder)


def test_counted_repeats_are_not_said(own_folder):
    edit(own_folder, "stimuli.csv", lambda table: table.assign(n_repeats=3))
    with pytest.raises(InputError, match=r"is for responses that are averages, but these have up to 3 repeats"):
        Benchmark(own_folder)
