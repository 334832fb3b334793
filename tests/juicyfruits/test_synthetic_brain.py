"""The miniature: deterministic, in the release's layout, and with the answers it says it has."""

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tiny_brain import TINY

from juicyfruits import InputError
from juicyfruits.files import digest
from juicyfruits.nsd import layout
from juicyfruits.synthetic.brain import evc_signals, oriented_energy, otc_signals
from juicyfruits.synthetic.mini import make_mini
from juicyfruits.synthetic.scenes import make_scenes
from juicyfruits.synthetic.shapes import KINDS


def files_digest(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest(*(part for path in paths for part in (str(path.relative_to(folder)), path)))


def test_same_seed_same_bytes(mini_source, tmp_path):
    np.random.seed(99)  # global state plays no part
    again = make_mini(tmp_path / "again", seed=3, **TINY)
    other = make_mini(tmp_path / "other", seed=4, **TINY)
    assert files_digest(again) == files_digest(mini_source)
    assert files_digest(other) != files_digest(mini_source)


def test_the_files_are_named_as_in_the_release(mini_source):
    found = {str(path.relative_to(mini_source)) for path in mini_source.rglob("*") if path.is_file()}
    betas = "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    assert {
        "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
        "nsddata/experiments/nsd/nsd_expdesign.mat",
        "nsddata/experiments/nsd/nsd_stim_info_merged.csv",
        "nsddata/ppdata/subj01/behav/responses.tsv",
        "nsddata/ppdata/subj01/func1pt8mm/roi/prf-visualrois.nii.gz",
        "nsddata/ppdata/subj02/func1pt8mm/roi/floc-words.nii.gz",
        f"{betas}/betas_session01.hdf5",
        f"{betas}/ncsnr.nii.gz",
    } <= found


def test_betas_and_maps_have_the_release_types(mini_source):
    with h5py.File(mini_source / layout.betas_session("subj01", 1)) as file:
        betas = file["betas"]
        assert betas.dtype == np.int16 and betas.shape == (15, 8, 9, 7) and betas.chunks == (15, 1, 1, 1)
    for name, labels in layout.ROI_MAPS.items():
        volume = np.asarray(nib.load(mini_source / layout.roi_map("subj01", name)).dataobj)
        assert volume.shape == (7, 9, 8) and set(np.unique(volume)) <= {-1, 0, *labels}
        assert (volume == -1).any() and (volume == 0).any()
    with h5py.File(mini_source / layout.STIMULI) as file:
        assert file["imgBrick"].shape == (28, 48, 48, 3) and file["imgBrick"].dtype == np.uint8


def test_factors_vary_independently_of_category():
    pictures, factors = make_scenes(200, 16, np.random.default_rng(0))
    assert pictures.shape == (200, 16, 16, 3) and set(factors["category"]) == set(KINDS)
    assert factors["category"].value_counts().between(20, 20).all()
    for name in ("x", "y", "scale", "ground_orientation", "ground_hue"):
        groups = factors.groupby("category")[name].mean()
        assert groups.std() < 0.5 * factors[name].std()


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(60, 64, np.random.default_rng(1))


def test_energy_prefers_its_orientation_and_place():
    x = np.arange(96) / 96
    grating = 127 * (1 + np.sin(2 * np.pi * 12 * x))[None, :] * np.ones((96, 1))  # varies along x
    half = np.where(np.arange(96)[:, None] < 48, grating, 127)  # upper half only
    pictures = np.stack([np.repeat(p[..., None], 3, axis=2) for p in (grating, half)]).astype(np.uint8)
    energy = oriented_energy(pictures)
    per_channel = energy[0].mean(axis=(1, 2)).reshape(3, 6)
    assert np.unravel_index(per_channel.argmax(), (3, 6)) == (1, 0)  # 12 cycles, orientation 0
    assert energy[1, 6, :10].mean() > 5 * energy[1, 6, 14:].mean()


def test_evc_answers_ignore_contrast_polarity(scenes):
    pictures, _ = scenes
    first, _ = evc_signals(oriented_energy(pictures), ["V1", "hV4"], np.random.default_rng(0))
    inverted, _ = evc_signals(oriented_energy(255 - pictures), ["V1", "hV4"], np.random.default_rng(0))
    np.testing.assert_allclose(first, inverted, atol=0.05)
    np.testing.assert_allclose(first.std(axis=1), 1)


def test_evc_answers_come_from_the_receptive_field():
    """Noise in one of 8 x 8 places at a time: the answers' centre of mass is the field's."""
    rng = np.random.default_rng(0)
    pictures = np.full((64, 96, 96, 3), 127, np.uint8)
    for place, (row, column) in enumerate(np.ndindex(8, 8)):
        noise = rng.integers(0, 256, (12, 12, 1), dtype=np.uint8)
        pictures[place, 12 * row : 12 * row + 12, 12 * column : 12 * column + 12] = noise
    answers, fields = evc_signals(oriented_energy(pictures), ["V1"] * 40, np.random.default_rng(1))
    strength = np.maximum(answers - np.median(answers, axis=1, keepdims=True), 0) ** 2
    rows, columns = (np.indices((8, 8)).reshape(2, -1) + 0.5) / 8
    for place, at in ((columns, fields[:, 0]), (rows, fields[:, 1])):
        found = (strength * place).sum(axis=1) / strength.sum(axis=1)
        assert np.corrcoef(found, at)[0, 1] > 0.95 and np.abs(found - at).mean() < 0.05


def test_bands_of_eccentricity_are_those_of_the_fields(mini_source):
    truth = np.load(mini_source / layout.TRUTH)
    codes = np.asarray(nib.load(mini_source / layout.roi_map("subj01", "prf-eccrois")).dataobj)
    n_labelled = 0
    for neuroid, (x, y, _) in zip(truth["subj01_neuroid_id"], truth["subj01_field"], strict=False):
        degrees = 8.4 * ((x - 0.5) ** 2 + (y - 0.5) ** 2) ** 0.5
        band = layout.PRF_ECCROIS[codes[tuple(map(int, neuroid.split("-")[1:]))]]
        low, high = {"ecc0pt5": (0, 0.5), "ecc1": (0.5, 1), "ecc2": (1, 2), "ecc4": (2, 4), "ecc4+": (4, 9)}[band]
        assert low < degrees <= high
        n_labelled += 1
    areas = np.asarray(nib.load(mini_source / layout.roi_map("subj01", "prf-visualrois")).dataobj)
    assert n_labelled == (areas > 0).sum() == (codes > 0).sum() > 50


def test_otc_answers_depend_on_what_is_shown_only(scenes):
    _, factors = scenes
    elsewhere = factors.assign(x=0.1, y=0.9, scale=0.3, hue=0.5, ground_contrast=0.0)
    areas = ["FFA", "PPA", "EBA", "VWFA", ""] * 10
    signals = otc_signals(factors, areas, np.random.default_rng(0))
    np.testing.assert_array_equal(signals, otc_signals(elsewhere, areas, np.random.default_rng(0)))
    by_area = pd.DataFrame(signals, index=areas).groupby(level=0).mean().T
    means = by_area.groupby(factors["category"].to_numpy()).mean()
    assert means["FFA"].idxmax() == "face" and means["PPA"].idxmax() == "house"
    assert means["EBA"].idxmax() == "body" and means["VWFA"].idxmax() == "word"


def test_noise_is_set_by_the_true_ncsnr(mini_source):
    """Trials of one picture vary with SD 1 / ncsnr around a signal of SD 1, up to a gain a session."""
    truth = np.load(mini_source / "truth.npz")
    signal, ncsnr = truth["subj01_signal"], truth["subj01_ncsnr"]
    np.testing.assert_allclose(signal.std(axis=1), 1, rtol=1e-4)
    behaviour = pd.read_csv(mini_source / layout.responses_tsv("subj01"), sep="\t")
    place = {nsd_id: i for i, nsd_id in enumerate(truth["subj01_nsd_id"])}
    flat = set(truth["subj01_flat"])
    ratios = []
    for session in range(1, 6):
        shown = behaviour.loc[behaviour["SESSION"] == session, "73KID"] - 1
        with h5py.File(mini_source / layout.betas_session("subj01", session)) as file:
            betas = file["betas"][:] / 300
        for neuroid, row, snr in zip(truth["subj01_neuroid_id"], signal, ncsnr, strict=True):
            if neuroid in flat:
                continue
            x, y, z = map(int, neuroid.split("-")[1:])
            expected = row[[place[nsd_id] for nsd_id in shown]]
            slope, offset = np.polyfit(expected, betas[:, z, y, x], 1)
            noise = np.std(betas[:, z, y, x] - slope * expected - offset, ddof=2)
            if snr > 0.8:
                ratios.append(noise / slope * snr)
    assert abs(np.median(ratios) - 1) < 0.1


def test_bad_options_and_precious_folders(tmp_path):
    with pytest.raises(InputError, match="at least one picture"):
        make_mini(tmp_path / "mini", n_subjects=0)
    with pytest.raises(InputError, match="seed -1 is negative"):
        make_mini(tmp_path / "mini", seed=-1)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="will not be replaced"):
        make_mini(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
