"""Prepare a simulated subject of NSD's full size, in a process of its own: wall time and peak resident memory.

40 sessions of 750 trials, 10,000 pictures shown three times, a volume of 81 x 104 x 83 in which about 15,000 voxels are
`nsdgeneral`. The files are of the release's form, with room for every voxel in chunks of one voxel over all trials, but
only those voxels hold data; the pictures are noise of the release's size. Image set "all", repeats kept.

It takes 16 GB of disk for a while, and removing the scattered files may take minutes.

usage: python perf/nsd_prepare.py [--sessions 40] [--voxels 15000] [--out FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from datetime import date
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import savemat

from juicyfruits.nsd import layout
from juicyfruits.nsd.prepare import prepare_nsd

SUBJECT = "subj01"
SHAPE = layout.VOLUME_SHAPES[layout.DEFAULT_SPACE][SUBJECT]
PIXELS, N_LATENT = layout.PICTURE_SIZE, 20
LIMIT = 2.0  # GB


def make_subject(root: Path, n_sessions: int, n_voxels: int) -> None:
    """Write the release's files of one subject, of random signals of known ncsnr."""
    rng = np.random.default_rng(0)
    n_trials = n_sessions * layout.N_TRIALS_SESSION
    n_pictures = n_trials // 3
    order = rng.permutation(np.repeat(np.arange(n_pictures), 3))
    write_tables(root, order, n_pictures)
    with h5py.File(parent(root / layout.STIMULI), "w") as file:
        brick = file.create_dataset("imgBrick", (n_pictures, PIXELS, PIXELS, 3), np.uint8)
        for row in range(n_pictures):
            brick[row] = np.frombuffer(rng.bytes(PIXELS * PIXELS * 3), np.uint8).reshape(PIXELS, PIXELS, 3)
    voxels = ball(n_voxels)
    ncsnr = rng.uniform(0.25, 1.0, len(voxels)).astype(np.float32)
    save_volume(root / layout.roi_map(SUBJECT, "nsdgeneral"), voxels, np.ones(len(voxels), np.int16))
    save_volume(root / layout.ncsnr_map(SUBJECT), voxels, ncsnr)
    weights, latent = rng.standard_normal((len(voxels), N_LATENT)), rng.standard_normal((N_LATENT, n_pictures))
    for session, trials in enumerate(np.split(order, n_sessions), start=1):
        signal = (weights @ latent[:, trials]) / np.linalg.norm(weights, axis=1)[:, None]
        betas = 1 + signal + rng.standard_normal(signal.shape) / ncsnr[:, None]
        write_betas(root / layout.betas_session(SUBJECT, session), voxels, np.round(300 * betas).astype("<i2"))


def write_tables(root: Path, order: np.ndarray, n_pictures: int) -> None:
    """Write design, table of stimuli and behaviour; the nsd ids are 0 to n_pictures - 1."""
    ids = np.arange(n_pictures)
    savemat(parent(root / layout.EXPDESIGN), {"masterordering": order[None] + 1.0, "subjectim": ids[None] + 1.0})
    info = pd.DataFrame({"nsdId": ids, "cocoId": ids, "shared1000": ids < n_pictures // 10})
    info.to_csv(parent(root / layout.STIM_INFO))
    session = np.arange(len(order)) // layout.N_TRIALS_SESSION + 1
    behaviour = pd.DataFrame({"SESSION": session, "73KID": order + 1})
    behaviour.to_csv(parent(root / layout.responses_tsv(SUBJECT)), sep="\t", index=False)


def write_betas(path: Path, voxels: np.ndarray, betas: np.ndarray) -> None:
    """Write a session's int16 (voxel, trial) into a file that has room, and an index, for the whole volume."""
    with h5py.File(parent(path), "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((betas.shape[1], 1, 1, 1))
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((betas.shape[1], *SHAPE[::-1]))
        dataset = h5py.h5d.create(file.id, b"betas", h5py.h5t.STD_I16LE, space, plist)
        for (x, y, z), series in zip(voxels.tolist(), betas, strict=True):
            dataset.write_direct_chunk((0, z, y, x), series.tobytes())


def ball(n_voxels: int) -> np.ndarray:
    """Return voxels (voxel, 3) about the middle of the volume, in pairs along x with two left out between them."""
    grid = np.indices(SHAPE).reshape(3, -1).T
    distance = np.linalg.norm(grid - np.array(SHAPE) / 2, axis=1)
    order = np.argsort(np.where(grid[:, 0] % 4 < 2, distance, np.inf), kind="stable")
    return grid[np.sort(order[:n_voxels])]


def save_volume(path: Path, voxels: np.ndarray, values: np.ndarray) -> None:
    """Write a volume that is 0 elsewhere."""
    volume = np.zeros(SHAPE, values.dtype)
    volume[tuple(voxels.T)] = values
    nib.save(nib.Nifti1Image(volume, np.eye(4)), parent(path))


def parent(path: Path) -> Path:
    """Make the folder of a path and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def prepare(source: Path, out: Path) -> dict[str, object]:
    """Prepare, and return what was measured."""
    start = time.perf_counter()
    benchmark = prepare_nsd(source, out, image_set="all", rois=["nsdgeneral"])
    seconds = time.perf_counter() - start
    # ru_maxrss of a started process begins at the size of the one that started it
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9
    return {"seconds": seconds, "peak": peak, "shape": benchmark.responses.shape, **benchmark.info["ncsnr_check"]}


def report(found: dict, n_sessions: int) -> str:
    """Return what was measured as lines of text."""
    check, met = found[SUBJECT], "met" if found["peak"] < LIMIT else "MISSED"
    return f"""perf/nsd_prepare.py on {date.today()}, {multiprocessing.cpu_count()} CPU cores of an AMD EPYC; no GPU

responses {found["shape"]}, float32, of {n_sessions} sessions and a volume of {SHAPE}; pictures of {PIXELS} x {PIXELS}
wall time    {found["seconds"]:8.0f} s
peak memory  {found["peak"]:8.2f} GB, goal {LIMIT:.0f} GB: {met}
ncsnr, recomputed against true: r {check["correlation"]:.3f} (by attenuation alone {check["reliability"]:.3f}), median \
difference {check["median_difference"]:+.4f}
"""


def main() -> None:
    """Print and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--voxels", type=int, default=15_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "nsd_prepare.txt")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_subject(folder / "release", args.sessions, args.voxels)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(prepare, (folder / "release", folder / "nsd"))
        text = report(found, args.sessions)
        print(text, flush=True)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)


if __name__ == "__main__":
    main()
