"""The public release of the Natural Scenes Dataset: names, folders, dtypes and label tables, in one place.

All paths are relative to the root of the bucket `natural-scenes-dataset`. Sources, named in the docstrings:

- [paper] Allen et al. 2022, "A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence",
  Nature Neuroscience 25, https://doi.org/10.1038/s41593-021-00962-x
- [manual] the NSD Data Manual, https://cvnlab.slite.page/p/M3ZvPmfgU3/General-Information
- [DeepNSD] Conwell et al. 2024, "A large-scale examination of inductive biases shaping high-level visual
  representation in brains and machines", Nature Communications 15, https://doi.org/10.1038/s41467-024-53147-y
"""

from __future__ import annotations

BETA_SCALE = 300.0
"""Stored int16 betas are percent signal change times 300 [manual, "NSD betas"]."""

DEFAULT_SPACE = "func1pt8mm"
DEFAULT_BETAS = "betas_fithrf_GLMdenoise_RR"
BETA_VERSIONS = ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR")
"""Versions 1, 2 and 3 of the single-trial betas [manual, "NSD betas"]; each comes with its own ncsnr map."""

STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
"""Pictures: `/imgBrick`, uint8, (73000, 425, 425, 3) as h5py sees it [manual, "Experiments"]."""

STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
"""One row a picture: `nsdId` (0-based), `cocoId`, `shared1000`, `subjectN` (0/1) and `subjectN_rep0`, `_rep1`, `_rep2`:
the trial number (1-based) of each showing, 0 for never [manual, "Experiments"]."""

EXPDESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
"""`masterordering` (1 x trials, 1-based into the subject's own pictures), `subjectim` (subjects x pictures, 1-based
ids of the 73,000), `sharedix` (1 x 1000, 1-based ids of the 73,000) [manual, "Experiments"]."""

TRUTH = "truth.npz"
"""Not of the release: what `juicyfruits make-mini` writes beside its layout, by which a synthetic brain is known."""

STREAMS = {
    1: "early",
    2: "midventral",
    3: "midlateral",
    4: "midparietal",
    5: "ventral",
    6: "lateral",
    7: "parietal",
}
PRF_VISUALROIS = {1: "V1v", 2: "V1d", 3: "V2v", 4: "V2d", 5: "V3v", 6: "V3d", 7: "hV4"}
FLOC_FACES = {1: "OFA", 2: "FFA-1", 3: "FFA-2", 4: "mTL-faces", 5: "aTL-faces"}
FLOC_BODIES = {1: "EBA", 2: "FBA-1", 3: "FBA-2", 4: "mTL-bodies"}
FLOC_PLACES = {1: "OPA", 2: "PPA", 3: "RSC"}
FLOC_WORDS = {1: "OWFA", 2: "VWFA-1", 3: "VWFA-2", 4: "mfs-words", 5: "mTL-words"}

ROI_MAPS: dict[str, dict[int, str]] = {
    "nsdgeneral": {1: "nsdgeneral"},
    "streams": STREAMS,
    "prf-visualrois": PRF_VISUALROIS,
    "floc-faces": FLOC_FACES,
    "floc-bodies": FLOC_BODIES,
    "floc-places": FLOC_PLACES,
    "floc-words": FLOC_WORDS,
}
"""Labels of every ROI map [manual, "ROIs" and the `.ctab` files under nsddata/freesurfer/subjNN/label].

In every volume -1 is outside cortex, 0 is cortex without a label, and only codes above 0 are labels."""

ROI_GROUPS: dict[str, tuple[str, ...]] = {
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "FFA": ("FFA-1", "FFA-2"),
    "FBA": ("FBA-1", "FBA-2"),
    "VWFA": ("VWFA-1", "VWFA-2"),
}
"""Areas that the maps hold in parts."""

VOXEL_SETS = ("EVC", "OTC")
"""The two voxel sets of [DeepNSD]; `juicyfruits.nsd.rois` builds them."""

FINER_ROIS = (
    *("V1", "V2", "V3", "hV4"),
    *("midventral", "midlateral", "ventral", "lateral"),
    *("OFA", "FFA", "EBA", "FBA", "OPA", "PPA", "RSC", "OWFA", "VWFA"),
)
"""Areas that a prepared benchmark lists by default beside the voxel sets, where a subject has them."""

OTC_STREAMS = ("midventral", "midlateral", "ventral", "lateral")
"""The streams within `nsdgeneral` that count as OTC: all but early, midparietal and parietal [DeepNSD]."""

FLOC_MAPS = ("floc-faces", "floc-bodies", "floc-places", "floc-words")


def subject_number(subject: str) -> int:
    """Return the number in a subject's name.

    >>> subject_number("subj07")
    7
    """
    return int(subject.removeprefix("subj"))


def responses_tsv(subject: str) -> str:
    """Path of a subject's behaviour: a row a trial, `SESSION` and `73KID`, both 1-based [manual, "Behavioral data"]."""
    return f"nsddata/ppdata/{subject}/behav/responses.tsv"


def roi_map(subject: str, name: str, space: str = DEFAULT_SPACE) -> str:
    """Path of one ROI volume, (X, Y, Z) integer codes [manual, "ROIs"].

    >>> roi_map("subj01", "streams")
    'nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz'
    """
    return f"nsddata/ppdata/{subject}/{space}/roi/{name}.nii.gz"


def betas_folder(subject: str, betas: str = DEFAULT_BETAS, space: str = DEFAULT_SPACE) -> str:
    """Folder of one subject's betas of one version in one space [manual, "NSD betas"]."""
    return f"nsddata_betas/ppdata/{subject}/{space}/{betas}"


def betas_session(subject: str, session: int, betas: str = DEFAULT_BETAS, space: str = DEFAULT_SPACE) -> str:
    """Path of one session's betas: `/betas`, int16, (trial, Z, Y, X) as h5py sees it [manual, "NSD betas"].

    The axes are the reverse of the NIfTI volumes' (X, Y, Z); chunks hold single voxels over all trials.
    """
    return f"{betas_folder(subject, betas, space)}/betas_session{session:02d}.hdf5"


def ncsnr_map(subject: str, betas: str = DEFAULT_BETAS, space: str = DEFAULT_SPACE) -> str:
    """Path of the ncsnr volume, (X, Y, Z) float, that belongs to one beta version [manual, "NSD betas"]."""
    return f"{betas_folder(subject, betas, space)}/ncsnr.nii.gz"


def neuroid_id(subject: str, x: int, y: int, z: int) -> str:
    """Name a voxel by its subject and its 0-based indices in the NIfTI volume (X, Y, Z).

    >>> neuroid_id("subj01", 12, 21, 47)
    'S1-12-21-47'
    """
    return f"S{subject_number(subject)}-{x}-{y}-{z}"


def stimulus_id(nsd_id: int) -> str:
    """Name a picture by its 0-based place among the 73,000.

    >>> stimulus_id(2950)
    'nsd-02950'
    """
    return f"nsd-{nsd_id:05d}"
