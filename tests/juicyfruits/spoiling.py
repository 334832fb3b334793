"""Ways to spoil a folder in NSD's layout, each a function of its root."""

import hashlib
import json

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import loadmat, savemat

from juicyfruits.nsd import layout

NCSNR = layout.ncsnr_map("subj01")
STREAMS, GENERAL = layout.roi_map("subj01", "streams"), layout.roi_map("subj01", "nsdgeneral")
BEHAVIOUR = layout.responses_tsv("subj01")


def betas(session):
    return layout.betas_session("subj01", session)


def on_map(*keys, change, affine=None):
    """Spoil volumes: `change` gets and gives the values."""

    def spoil(root):
        for key in keys:
            image = nib.load(root / key)
            values = change(np.asarray(image.dataobj))
            nib.save(nib.Nifti1Image(values, image.affine if affine is None else affine), root / key)

    return spoil


def on_hdf5(*keys, change, name="betas"):
    def spoil(root):
        for key in keys:
            with h5py.File(root / key) as file:
                values = change(file[name][:])
            with h5py.File(root / key, "w") as file:
                file[name] = values

    return spoil


def on_table(key, change):
    def spoil(root):
        sep = "\t" if key.endswith("tsv") else ","
        change(pd.read_csv(root / key, sep=sep)).to_csv(root / key, sep=sep, index=False)

    return spoil


def labelled_voxel(root, n=0):
    """The z, y, x of the n-th labelled voxel with signal in all sessions, in C order."""
    flat = set(np.load(root / layout.TRUTH)["subj01_flat"])
    voxels = np.argwhere(np.asarray(nib.load(root / NCSNR).dataobj) > 0)
    kept = [xyz for xyz in voxels if layout.neuroid_id("subj01", *xyz) not in flat]
    return tuple(kept[n][::-1])


def on_voxel(value, sessions):
    """Spoil the betas of one labelled voxel: by a number, or the place of the voxel whose betas it shall have."""

    def spoil(root):
        place = (slice(None), *labelled_voxel(root))
        for session in sessions:
            with h5py.File(root / betas(session), "r+") as file:
                other = file["betas"][(slice(None), *labelled_voxel(root, 5))]
                file["betas"][place] = other if value == "copy" else value

    return spoil


def record(root, key=STREAMS, **changes):
    path = root / key
    said = {"key": key, "url": "http://mirror/" + key, "size": path.stat().st_size, "etag": "x", "fetched_at": ""}
    said |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | changes
    target = root / ".fetched" / f"{key}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(said))


def record_and_lose(root):
    record(root)
    (root / STREAMS).unlink()


def garble_record(root):
    record(root)
    (root / ".fetched" / f"{STREAMS}.json").write_text("{")


def cut(key, keep):
    return lambda root: (root / key).write_bytes((root / key).read_bytes()[:keep])


def change_pictures(change):
    return on_hdf5(layout.STIMULI, change=change, name="imgBrick")


def same_picture(brick):
    brick[7] = brick[3]
    return brick


def blank_picture(brick):
    brick[5] = 0
    return brick


def chosen_out_of_order(root):
    with h5py.File(root / layout.STIMULI) as file, h5py.File(root / layout.CHOSEN_STIMULI, "w") as chosen:
        chosen["imgBrick"], chosen["nsd_id"] = file["imgBrick"][:3], [4, 2, 9]
    (root / layout.STIMULI).unlink()


def put(values, where, value):
    values = values.astype(np.float32)
    values[where(values)] = value
    return values


def swap_showings(table):
    """Exchange the first showings of two pictures of subject 1."""
    rows = table.index[table["subject1_rep0"] > 0][:2]
    table.loc[rows, "subject1_rep0"] = table.loc[rows[::-1], "subject1_rep0"].to_numpy()
    return table


def real_design(root):
    """A design of the real size: then the release's sessions and volumes are expected."""
    design = loadmat(root / layout.EXPDESIGN)
    order = np.resize(design["masterordering"], 30_000)[None]
    tables = {"sharedix": design["sharedix"], "masterordering": order, "subjectim": np.ones((8, 10_000))}
    savemat(root / layout.EXPDESIGN, tables)
    (root / layout.TRUTH).unlink()


def all_maps(root):
    return [path.relative_to(root).as_posix() for path in (root / STREAMS).parent.glob("*.nii.gz")]
