"""A plain reading of a folder in NSD's layout, trial by trial; it shares no code with juicyfruits."""

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import loadmat

BETAS = "func1pt8mm/betas_fithrf_GLMdenoise_RR"
FLOC = {"faces": "faces", "bodies": "bodies", "places": "places", "words": "word"}
AREAS = {1: "V1", 2: "V1", 3: "V2", 4: "V2", 5: "V3", 6: "V3", 7: "hV4"}
OTC_CODES = {"faces": (1, 2, 3), "bodies": (1, 2, 3), "places": (1, 2), "words": (1, 2, 3)}  # no mTL, aTL, mfs, RSC


def load(path):
    return nib.load(path).get_fdata()


def plain_maps(source, subject):
    """Every ROI map, and the t-values as "faces", "bodies", "places", "words"."""
    folder = source / f"nsddata/ppdata/{subject}/func1pt8mm"
    names = ["nsdgeneral", "streams", "prf-visualrois", *(f"floc-{kind}" for kind in FLOC)]
    maps = {name: load(folder / f"roi/{name}.nii.gz") for name in names}
    return maps | {kind: load(folder / f"floc_{contrast}tval.nii.gz") for kind, contrast in FLOC.items()}


def plain_regions(maps, at):
    """Which regions a voxel is in, from its codes."""
    codes = {name: volume[at] for name, volume in maps.items()}
    regions = set()
    if codes["prf-visualrois"] in AREAS:
        regions |= {"EVC", AREAS[codes["prf-visualrois"]]}
    strong = any(codes[f"floc-{kind}"] in OTC_CODES[kind] and codes[kind] >= 1 for kind in FLOC)
    if (codes["nsdgeneral"] == 1 and codes["streams"] in (2, 3, 5, 6)) or strong:
        regions.add("OTC")
    regions |= {"FFA"} if codes["floc-faces"] in (2, 3) else set()
    regions |= {"PPA"} if codes["floc-places"] == 2 else set()
    return regions


def plain_shown(source, subject):
    """The 0-based nsd ids of every trial of the design."""
    design = loadmat(source / "nsddata/experiments/nsd/nsd_expdesign.mat")
    own = design["subjectim"][int(subject[-1]) - 1]
    return [int(own[int(place) - 1]) - 1 for place in design["masterordering"][0]]


def plain_subject(source, subject, threshold=0.2):
    """Every trial of every voxel, z-scored over its session, gathered by picture: {(x, y, z): {nsd_id: [values]}}.

    And how many voxels were flat in a session, and how many were not above the threshold.
    """
    maps, shown = plain_maps(source, subject), plain_shown(source, subject)
    ncsnr = load(source / f"nsddata_betas/ppdata/{subject}/{BETAS}/ncsnr.nii.gz")
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
                by_picture.setdefault(shown[trial], []).append((value - np.mean(values)) / np.std(values))
                trial += 1
        result[at] = by_picture
    return result, flat, low


def plain_ncsnr(by_picture):
    """As the code that wrote the release: variance of z-scored betas over repeats, averaged, and the rest of 1."""
    noise = np.mean([np.var(values, ddof=1) for values in by_picture.values() if len(values) > 1])
    return np.sqrt(max(1 - noise, 0) / noise)


def plain_counts(source, subject):
    """How often each picture was shown, from responses.tsv: {nsd_id: count}."""
    behaviour = pd.read_csv(source / f"nsddata/ppdata/{subject}/behav/responses.tsv", sep="\t")
    counts = {}
    for nsd_id in behaviour["73KID"] - 1:
        counts[nsd_id] = counts.get(nsd_id, 0) + 1
    return counts
