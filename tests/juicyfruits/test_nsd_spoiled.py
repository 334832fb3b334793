"""Every way a source in NSD's layout can be wrong, and what prepare_nsd says about it."""

import shutil

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from juicyfruits import InputError
from juicyfruits.nsd.prepare import prepare_nsd

BETAS = "func1pt8mm/betas_fithrf_GLMdenoise_RR"


def break_betas(source, change):
    path = source / f"nsddata_betas/ppdata/subj01/{BETAS}/betas_session02.hdf5"
    with h5py.File(path) as file:
        betas = file["betas"][:]
    with h5py.File(path, "w") as file:
        file["betas"] = change(betas)


def damage_voxels(source):
    """Change the first bytes of every voxel, in a file that has checksums."""
    path = source / f"nsddata_betas/ppdata/subj01/{BETAS}/betas_session02.hdf5"
    with h5py.File(path) as file:
        betas = file["betas"][:]
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("betas", data=betas, chunks=(len(betas), 1, 1, 1), fletcher32=True).id
        offsets = [stored.get_chunk_info(i).byte_offset for i in range(stored.get_num_chunks())]
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(b"damaged")


def edit_table(path, change):
    sep = "\t" if path.suffix == ".tsv" else ","
    table = pd.read_csv(path, sep=sep)
    change(table).to_csv(path, sep=sep, index=False)


def rewrite(path, name, content):
    with h5py.File(path, "w") as file:
        if content is None:
            file.create_group(name)
        else:
            file[name] = content


def break_pictures(source, change):
    path = source / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    with h5py.File(path) as file:
        pictures = file["imgBrick"][:]
    rewrite(path, "imgBrick", change(pictures))


def save_map(path, volume):
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.eye(4)), path)


DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
SESSION = f"nsddata_betas/ppdata/subj01/{BETAS}/betas_session01.hdf5"
NCSNR = f"nsddata_betas/ppdata/subj01/{BETAS}/ncsnr.nii.gz"
STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
BEHAVIOUR = "nsddata/ppdata/subj01/behav/responses.tsv"
ROI = "nsddata/ppdata/subj01/func1pt8mm/roi"
SPOILED = {
    "no betas at all": (lambda s: shutil.rmtree(s / "nsddata_betas"), "is it the root of the NSD release"),
    "no behaviour": (lambda s: (s / BEHAVIOUR).unlink(), "behaviour of subj01 is missing"),
    "no design": (lambda s: (s / "nsddata/experiments/nsd/nsd_expdesign.mat").unlink(), "design is missing"),
    "no ROI map": (lambda s: (s / ROI / "streams.nii.gz").unlink(), "streams.nii.gz"),
    "truncated ROI map": (
        lambda s: (s / ROI / "streams.nii.gz").write_bytes(b"\x1f\x8b no"),
        "cannot be read as a whole NIfTI",
    ),
    "no pictures": (lambda s: shutil.rmtree(s / "nsddata_stimuli"), "imgBrick is missing"),
    "truncated betas": (
        lambda s: (s / f"nsddata_betas/ppdata/subj01/{BETAS}/betas_session01.hdf5").write_bytes(b"\x89HDF"),
        "no whole HDF5",
    ),
    "a session in between": (
        lambda s: (s / f"nsddata_betas/ppdata/subj01/{BETAS}/betas_session02.hdf5").unlink(),
        "lacks session 2 of 5",
    ),
    "too few trials": (lambda s: break_betas(s, lambda b: b[:-1]), "trials, but responses.tsv has"),
    "another space": (lambda s: break_betas(s, lambda b: b.transpose(0, 3, 2, 1)), "must be of one space"),
    "int32 betas": (lambda s: break_betas(s, lambda b: b.astype(np.int32)), "must be int16"),
    "betas are a group": (lambda s: rewrite(s / SESSION, "betas", None), "/betas must be an array, but is a group"),
    "no trials": (lambda s: (s / BEHAVIOUR).write_text("SESSION\t73KID\n"), "responses.tsv has 0 in session 1"),
    "empty behaviour": (lambda s: (s / BEHAVIOUR).write_text(""), "responses.tsv cannot be read as a table"),
    "behaviour in text": (
        lambda s: edit_table(s / BEHAVIOUR, lambda t: t.assign(SESSION="one")),
        "'SESSION' must hold whole numbers, not 'one'",
    ),
    "a picture twice in stim_info": (
        lambda s: edit_table(s / STIM_INFO, lambda t: pd.concat([t, t.iloc[[3]]])),
        "nsd_stim_info_merged.csv has two rows of nsdId 3",
    ),
    "codes that are no numbers": (
        lambda s: save_map(s / ROI / "streams.nii.gz", np.full((7, 9, 8), np.nan)),
        "'streams' has codes that are no numbers",
    ),
    "empty stim_info": (lambda s: (s / STIM_INFO).write_text(""), "merged.csv cannot be read as a table"),
    "shared1000 in text": (
        lambda s: edit_table(s / STIM_INFO, lambda t: t.assign(shared1000="no")),
        "'shared1000' must hold whole numbers, not 'no'",
    ),
    "shared1000 as a count": (
        lambda s: edit_table(s / STIM_INFO, lambda t: t.assign(shared1000=3)),
        "'shared1000' must hold True/False or 1/0",
    ),
    "empty design": (lambda s: (s / DESIGN).write_bytes(b""), "expdesign.mat cannot be read as a MATLAB file"),
    "garbage design": (lambda s: (s / DESIGN).write_bytes(b"x" * 500), "expdesign.mat cannot be read as a MATLAB file"),
    "design beyond the pictures": (
        lambda s: savemat(s / DESIGN, {"masterordering": [[1, 99]], "subjectim": [[1, 2], [3, 4]]}),
        "must point into 2 pictures",
    ),
    "no t-values": (
        lambda s: (s / ROI).parent.joinpath("floc_wordtval.nii.gz").unlink(),
        "there is no .*floc_wordtval.nii.gz",
    ),
    "a session of zeros": (
        lambda s: break_betas(s, lambda b: 0 * b),
        "no voxel is left of subj01; masked: [0-9]+ ncsnr not above 0.2, [0-9]+ flat or without data in a session",
    ),
    "damaged betas": (damage_voxels, "betas_session02.hdf5 cannot be read as betas"),
    "ROI maps of two sizes": (lambda s: save_map(s / ROI / "streams.nii.gz", np.zeros((3, 3, 3))), "map 'streams' is"),
    "all of subj01 masked": (
        lambda s: save_map(s / NCSNR, 0 * np.asarray(nib.load(s / NCSNR).dataobj)),
        "no voxel is left of subj01; masked: [0-9]+ ncsnr not above 0.2; lower",
    ),
    **{
        f"{kind} pictures": (lambda s, c=change: break_pictures(s, c), "imgBrick must be uint8")
        for kind, change in {
            "flat": lambda b: b[:, 0, 0],
            "grey": lambda b: b[..., 0],
            "float": lambda b: b / 255,
            "channel-first": lambda b: b.transpose(0, 3, 1, 2),
        }.items()
    },
    "floats": (lambda s: break_betas(s, lambda b: b / 300), "must be int16"),
    "other pictures": (
        lambda s: edit_table(s / BEHAVIOUR, lambda t: t.assign(**{"73KID": t["73KID"][::-1].to_numpy()})),
        "name different pictures",
    ),
    "no shared pictures": (
        lambda s: edit_table(s / STIM_INFO, lambda t: t.assign(shared1000=False)),
        "none of the 0 pictures",
    ),
    "no column shared1000": (lambda s: edit_table(s / STIM_INFO, lambda t: t.drop(columns="shared1000")), "lacks the"),
}


@pytest.mark.parametrize("spoil, message", SPOILED.values(), ids=SPOILED.keys())
def test_spoiled_sources_are_told_and_nothing_is_left(source_copy, tmp_path, spoil, message):
    spoil(source_copy)
    with pytest.raises(InputError, match=message):
        prepare_nsd(source_copy, tmp_path / "data" / "out")
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())
