"""Every way a folder in NSD's layout can be spoiled, and the check that finds it."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from spoiling import (
    BEHAVIOUR,
    GENERAL,
    NCSNR,
    STREAMS,
    all_maps,
    betas,
    blank_picture,
    change_pictures,
    chosen_out_of_order,
    cut,
    garble_record,
    on_hdf5,
    on_map,
    on_table,
    on_voxel,
    put,
    real_design,
    record,
    record_and_lose,
    same_picture,
    swap_showings,
)

from juicyfruits import InputError
from juicyfruits.doctor import examine
from juicyfruits.doctor.series import all_series, measure, read_maps, sample_voxels
from juicyfruits.nsd import layout

NAMES = ["files", "pictures", "stimulus order", "ROI codes", "trial counts", "voxels", "orientation", "ceilings"]

FLIP = {axis: (lambda values, i=i: np.flip(values, i).copy(), 3 - i) for i, axis in enumerate("xyz")}
SPOILED = {
    "recorded size": (
        lambda r: record(r, size=7),
        "files",
        "error",
        "streams.nii.gz: has .* bytes, but 7 were fetched",
    ),
    "recorded sum": (
        lambda r: record(r, sha256="0" * 64),
        "files",
        "error",
        "streams.*has sha256 .*delete it and fetch",
    ),
    "fetched and lost": (record_and_lose, "files", "error", "streams.nii.gz: was fetched, but is not there any more"),
    "garbled record": (
        garble_record,
        "files",
        "error",
        "streams.nii.gz.json cannot be read as the record of a fetched",
    ),
    "unfinished": (lambda r: (r / ".a.12.part").write_bytes(b"1234"), "files", "warning", r".a.12.part: .*4 bytes"),
    "cut HDF5": (cut(betas(2), 900), "files", "error", "betas_session02.hdf5 is no whole HDF5 file"),
    "cut NIfTI": (cut(STREAMS, 200), "files", "error", "streams.nii.gz cannot be read as a whole NIfTI"),
    "same picture": (change_pictures(same_picture), "pictures", "warning", "1 picture stored under .*'3', '7'"),
    "blank picture": (change_pictures(blank_picture), "pictures", "error", "1 picture of one colour.*nsd ids '5'"),
    "grey pictures": (change_pictures(lambda b: b[..., 0]), "pictures", "error", "/imgBrick must be uint8"),
    "chosen out of order": (chosen_out_of_order, "pictures", "error", "3 ids with 1 out of order; delete the file"),
    "no pictures": (lambda r: shutil.rmtree(r / "nsddata_stimuli"), "pictures", "error", "imgBrick is missing"),
    "other shared": (
        on_table(layout.STIM_INFO, lambda t: t.assign(shared1000=t["shared1000"] & (t["shared1000"].cumsum() > 1))),
        "stimulus order",
        "error",
        r"shared1000 \(19 pictures\) and sharedix .*\(20\) differ in nsd ids '",
    ),
    "other pictures": (
        on_table(BEHAVIOUR, lambda t: t.assign(**{"73KID": t["73KID"].where(t.index != 3, 1 + t["73KID"] % 28)})),
        "stimulus order",
        "error",
        r"1 trial with another picture .* first trial 4 \(session 1\): nsd id",
    ),
    "other 10KID": (
        on_table(BEHAVIOUR, lambda t: t.assign(**{"10KID": 1})),
        "stimulus order",
        "error",
        "10KID and 73KID name different pictures in 69 trials",
    ),
    "showings swapped": (
        on_table(layout.STIM_INFO, swap_showings),
        "stimulus order",
        "error",
        r"subject1_rep\*: 2 showings of another picture",
    ),
    "a showing lost": (
        on_table(layout.STIM_INFO, lambda t: t.assign(subject1_rep2=0)),
        "stimulus order",
        "error",
        "24 designed trials in no column",
    ),
    "too many trials": (
        on_table(BEHAVIOUR, lambda t: pd.concat([t, t[-1:]])),
        "stimulus order",
        "error",
        "has 73 trials, but the design has 72",
    ),
    "no design": (lambda r: (r / layout.EXPDESIGN).unlink(), "stimulus order", "error", "design is missing"),
    "unknown code": (
        on_map(STREAMS, change=lambda v: put(v, lambda v: np.nonzero(v == 7), 9)),
        "ROI codes",
        "error",
        "streams.nii.gz: has .* voxels with codes '9.0', but only -1, 0 and the labels 1 to 7",
    ),
    "half a code": (
        on_map(GENERAL, change=lambda v: np.where(v == 1, 0.5, v)),
        "ROI codes",
        "error",
        "nsdgeneral.nii.gz: has .* voxels with codes '0.5'",
    ),
    "no labels": (on_map(STREAMS, change=lambda v: np.minimum(v, 0)), "ROI codes", "warning", "streams.* labels no"),
    "0 for outside": (on_map(STREAMS, change=lambda v: np.maximum(v, 0)), "ROI codes", "warning", "no voxel with -1"),
    "no maps": (lambda r: [(r / key).unlink() for key in all_maps(r)], "ROI codes", "warning", "none of the maps"),
    "fewer trials": (
        on_hdf5(betas(2), change=lambda b: b[:-1]),
        "trial counts",
        "error",
        r"session02.hdf5: has 14 trials, but responses.tsv has 15 in session 2",
    ),
    "a session between": (lambda r: (r / betas(3)).unlink(), "trial counts", "error", "session '3' of 5 is missing"),
    "the last session": (lambda r: (r / betas(5)).unlink(), "trial counts", "warning", "betas of 4 of 5 sessions"),
    "real, few sessions": (real_design, "trial counts", "error", "has 5 sessions, .*the release has 40"),
    "real, small volumes": (real_design, "orientation", "error", r"\(7, 9, 8\), but the release has \(81, 104, 83\)"),
    "no betas": (lambda r: shutil.rmtree(r / "nsddata_betas"), "trial counts", "warning", "holds no betas"),
    "int32": (
        on_hdf5(betas(2), change=lambda b: b.astype(np.int32)),
        "voxels",
        "error",
        "must be int16 .* but is int32",
    ),
    "small betas": (
        on_hdf5(betas(2), change=lambda b: b[:, :2]),
        "voxels",
        "error",
        "session02.* smaller than the ROI",
    ),
    "flat": (on_voxel(7, [4]), "voxels", "warning", "5 of 1.* do not vary in a session"),
    "all zero": (on_voxel(0, range(1, 6)), "voxels", "warning", "1 of 1.* are 0 in all trials, such as 'S1-"),
    "saturated": (on_voxel([32767] + [3] * 13 + [-32768], [1]), "voxels", "warning", "int16, .*in 2 trials"),
    "empty": (
        on_hdf5(*map(betas, range(1, 6)), change=lambda b: b * (np.arange(7) < 5).astype(np.int16)),
        "voxels",
        "error",
        "are 0 in all trials.*of different spaces or orientations",
    ),
    "turned betas": (
        on_hdf5(betas(2), change=lambda b: b.transpose(0, 3, 2, 1)),
        "orientation",
        "error",
        r"session02.*\(8, 9, 7\) as the volumes say, but has \(7, 9, 8\), so its axes stand in the order",
    ),
    "a map's size": (
        on_map(STREAMS, change=lambda v: v[:-1]),
        "orientation",
        "error",
        r"streams.*\(6, 9, 8\), but most",
    ),
    "an affine": (
        on_map(STREAMS, change=lambda v: v, affine=np.diag([-1.8, 1.8, 1.8, 1])),
        "orientation",
        "warning",
        "streams.nii.gz: has axes LAS, voxels of 1.80 x 1.80 x 1.80 mm .* has axes RAS",
    ),
    "cortex": (
        on_map(STREAMS, change=lambda v: put(v, lambda v: (0, 0, 0), 0)),
        "orientation",
        "warning",
        "streams.*1 voxel cortex here but not in",
    ),
    **{
        f"{what} flipped in {axis}": (spoil, "orientation", "error", f"{key}.*{axis} axis flipped")
        for axis, (flip, place) in FLIP.items()
        for what, key, spoil in (
            ("streams", "streams.nii.gz", on_map(STREAMS, change=flip)),
            ("ncsnr", "ncsnr.nii.gz: fits the betas better", on_map(NCSNR, change=flip)),
            (
                "betas",
                "ncsnr.nii.gz: fits the betas better",
                on_hdf5(*map(betas, range(1, 6)), change=lambda b, i=place: np.flip(b, i)),
            ),
            (
                "all ROI maps",
                "ncsnr.nii.gz: is higher within the ROI maps' labels",
                lambda r, flip=flip: on_map(*all_maps(r), change=flip)(r),
            ),
        )
    },
    "negative ncsnr": (
        on_map(NCSNR, change=lambda v: put(v, lambda v: (3, 3, 3), -1)),
        "ceilings",
        "error",
        "1 negative value",
    ),
    "no ncsnr": (on_map(NCSNR, change=lambda v: 0 * v), "ceilings", "error", "is 0 or no number in all labelled"),
    "NaN in ncsnr": (
        on_map(NCSNR, change=lambda v: np.where(v == v.max(), np.nan, v)),
        "ceilings",
        "warning",
        "1 of 160 labelled voxels .* no finite ncsnr",
    ),
    "percent": (on_map(NCSNR, change=lambda v: 100 * v**2 / (v**2 + 1 / 3)), "ceilings", "error", "in percent would"),
    "other ncsnr": (on_map(NCSNR, change=lambda v: 1.6 * v), "ceilings", "warning", "does not fit ncsnr recomputed"),
    "ncsnr missing": (lambda r: (r / NCSNR).unlink(), "orientation", "error", "there is no .*ncsnr.nii.gz"),
    "a voxel twice": (on_voxel("copy", range(1, 6)), "duplicates", "error", "2 of 160 .* the same betas as another"),
    "a session twice": (
        lambda r: shutil.copy(r / betas(3), r / betas(4)),
        "duplicates",
        "error",
        "session04.hdf5: has the same betas as session 3",
    ),
}


@pytest.fixture
def source(mini_source, tmp_path):
    """A copy of the miniature with one subject."""
    return shutil.copytree(mini_source, tmp_path / "source", ignore=shutil.ignore_patterns("subj02"))


@pytest.mark.parametrize("spoil, check, level, words", SPOILED.values(), ids=SPOILED.keys())
def test_every_spoiling_is_found_and_named(source, spoil, check, level, words):
    spoil(source)
    report = examine(source)
    found = [f"{f.where}: {f.words}" for f in report.of(level) if f.check == check]
    assert any(pd.Series(found, dtype=str).str.contains(words)), f"not told: {words}\n{report}"
    assert report.ok == (not report.of("error")) and report.ok <= (level == "warning")


def test_the_miniature_is_in_order(mini_source):
    report = examine(mini_source)
    assert report.ok and report.of("ok")
    assert {finding.check for finding in report.findings} == {*NAMES, "duplicates"}
    assert {finding.check for finding in report.of("warning")} <= {"voxels", "ROI codes"}  # flat voxels, prf-eccrois
    assert str(report).splitlines()[-1].startswith(f"{mini_source} is in order: 9 checks, no error")
    assert all(line.split()[0] in ("OK", "WARNING", "ERROR") for line in str(report).splitlines()[:-1])


def test_records_that_agree_are_counted(source):
    record(source)
    record(source, betas(1))
    (files,) = [finding for finding in examine(source).findings if finding.check == "files"]
    n_volumes = len(list(source.rglob("*.nii.gz")))
    assert files.words == f"2 records of a fetch agree, {n_volumes} NIfTI files and 6 HDF5 files are whole"


def test_sums_are_not_compared_on_request(source):
    record(source, sha256="0" * 64)
    assert examine(source, hashes=False).ok and not examine(source).ok


def test_several_faults_are_all_reported(source):
    for name in ("cut NIfTI", "blank picture", "fewer trials", "negative ncsnr", "a voxel twice"):
        SPOILED[name][0](source)
    report = examine(source)
    for name in ("cut NIfTI", "blank picture", "fewer trials", "negative ncsnr", "a voxel twice"):
        _, check, level, words = SPOILED[name]
        found = pd.Series([f"{f.where}: {f.words}" for f in report.of(level) if f.check == check], dtype=str)
        assert found.str.contains(words).any(), report


def test_a_cause_that_stops_several_checks_is_told_once(source):
    (source / BEHAVIOUR).unlink()
    report = examine(source)
    errors, skipped = ([finding.words for finding in report.of(level)] for level in ("error", "skipped"))
    assert sum("behaviour of subj01 is missing" in text for text in errors) == 2  # stimulus order, trial counts
    assert skipped == ["for the reason that stands under 'trial counts'"]


def test_voxels_are_drawn_by_the_seed_or_all_taken(mini_source):
    maps = read_maps(all_series(mini_source)[0])
    labelled = np.argwhere(np.any([m.values > 0 for name, m in maps.items() if name != "ncsnr"], axis=0)).tolist()
    drawn = sample_voxels(maps, 40, seed=1)
    assert sample_voxels(maps, None, seed=1).tolist() == labelled
    assert len({tuple(xyz) for xyz in drawn}) == 40 and all(xyz in labelled for xyz in drawn.tolist())
    np.testing.assert_array_equal(drawn, sample_voxels(maps, 40, seed=1))
    assert (drawn != sample_voxels(maps, 40, seed=2)).any()
    words = [f.words for f in examine(mini_source, n_voxels=40).of("ok") if f.check == "duplicates"]
    assert words == ["no two of 40 voxels and 5 sessions are the same"] * 2


def test_other_folders(tmp_path):
    with pytest.raises(InputError, match=r"neither a prepared benchmark .* nor in NSD's layout .*, nor was it fetched"):
        examine(tmp_path)
    with pytest.raises(InputError, match=r"there is no folder .*nowhere to examine"):
        examine(tmp_path / "nowhere")
    (tmp_path / "demo.mat").write_bytes(b"1234")
    record(tmp_path, "demo.mat")
    report = examine(tmp_path)
    assert [finding.words for finding in report.findings] == [
        "1 record of a fetch agree, 0 NIfTI files and 0 HDF5 files are whole"
    ]


def test_measured_voxels_equal_a_plain_reading(source):
    on_voxel([32767] + [3] * 13 + [-32768], [1])(source)
    on_voxel(0, [2, 3])(source)
    series = all_series(source)[0]
    voxels = sample_voxels(read_maps(series), None, seed=0)
    measured = measure(series, voxels)
    table = pd.read_csv(source / BEHAVIOUR, sep="\t")
    stored = [h5py.File(source / betas(session))["betas"][:] for session in range(1, 6)]
    for (x, y, z), row in zip(voxels, measured.table.itertuples(), strict=True):
        own = [session[:, z, y, x].astype(float) for session in stored]
        assert row.flat == sum(len(set(values)) == 1 for values in own)
        assert row.zero == sum(set(values) == {0} for values in own)
        assert row.saturated == sum((abs(values + 0.5) == 32767.5).sum() for values in own)
        assert row.ncsnr == pytest.approx(plain_ncsnr(own, table), abs=1e-5)
    assert measured.degrees == 72 - 24


def plain_ncsnr(sessions, table):
    """By hand: z-score, group by picture, noise variance, and the rest of the variance of 1 as signal."""
    by_picture = {}
    for session, values in enumerate(sessions, start=1):
        shown = table.loc[table["SESSION"] == session, "73KID"]
        for picture, value in zip(shown, values, strict=True):
            if values.std() > 0:
                by_picture.setdefault(picture, []).append((value - values.mean()) / values.std())
    noise = np.mean([np.var(values, ddof=1) for values in by_picture.values() if len(values) > 1])
    return np.sqrt(max(1 - noise, 0) / noise)
