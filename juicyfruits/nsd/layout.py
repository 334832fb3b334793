"""The public release of the Natural Scenes Dataset in one place: names, folders, shapes, dtypes, units, label tables.

All paths are relative to the root of the bucket. Sources, named in the docstrings:

- [paper] Allen et al. 2022, "A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence",
  Nature Neuroscience 25, https://doi.org/10.1038/s41593-021-00962-x
- [manual] the NSD Data Manual by its pages, https://cvnlab.slite.page/p/M3ZvPmfgU3/General-Information
- [authors] the code that wrote the release, https://github.com/cvnlab/nsddatapaper (folder `main`)
- [examples] the authors' scripts that read it, https://github.com/cvnlab/nsdexamples
- [DeepNSD] Conwell et al. 2024, "A large-scale examination of inductive biases shaping high-level visual
  representation in brains and machines", Nature Communications 15, https://doi.org/10.1038/s41467-024-53147-y, with
  its code and voxel tables, https://github.com/ColinConwell/DeepNSD

Traps that have caught readers:

- The 73,000 pictures count from 0 in nsd_stim_info_merged.csv and as rows of the file of stimuli, but from 1 in
  nsd_expdesign.mat, in responses.tsv and in the names of the released PNG files. Trials, sessions, runs and a
  subject's own 10,000 pictures count from 1 everywhere.
- nsd_stim_info_merged.csv and nsd_expdesign.mat hold the planned 40 sessions of all subjects. Four subjects did fewer:
  trials beyond 750 a session were never run, and what they would have shown was not seen. responses.tsv holds what was.
- HDF5 betas are (X, Y, Z, trial) in MATLAB and so (trial, Z, Y, X) in h5py; NIfTI volumes are (X, Y, Z). Both run from
  left to right, from behind to front and from below to above [examples, "example02_loaddata"].
- ROI codes may be stored as floating point numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

from juicyfruits.errors import InputError, near_names

BUCKET = "s3://natural-scenes-dataset"
"""The release: read without an account and free of charge, from region us-east-2 [manual, "How to get the data"]."""

N_SESSIONS = {
    "subj01": 40,
    "subj02": 40,
    "subj03": 32,
    "subj04": 30,
    "subj05": 40,
    "subj06": 32,
    "subj07": 40,
    "subj08": 30,
}
"""Sessions of the main experiment, all public since August 2023 [manual, "Technical notes", "General Information"]."""

COMPLETE_SUBJECTS = tuple(subject for subject, n in N_SESSIONS.items() if n == max(N_SESSIONS.values()))
"""Those who finished: they alone saw their 10,000 pictures three times each."""

N_TRIALS_SESSION = 750
"""Trials in every session, the blank ones left out: 12 runs of 63 and 62 in turn [manual, "Behavioral data"]."""

N_PICTURES = 73_000
PICTURE_SIZE = 425
"""Pictures and their height and width in pixels: square crops of COCO's [manual, "Experiments"]."""

PICTURE_DEGREES = 8.4
"""Width and height of a picture on the retina, in degrees of visual angle [paper]."""

IMAGE_SET_SIZES = {"shared1000": 1000, "shared515": 515}
"""`shared1000`: the pictures planned for all eight subjects, who saw 1000, 1000, 930, 907, 1000, 930, 1000 and 907 of
them. `shared515`: those of them that all eight saw three times. The order of trials is the same for all, so these are
the ones whose three trials lie in the first 30 sessions [manual, "Technical notes"]."""

BETA_SCALE = 300.0
"""Stored int16 betas are percent signal change times 300, so that +-109% fit [manual, "Functional data (NSD)"]."""

DEFAULT_SPACE = "func1pt8mm"
DEFAULT_BETAS = "betas_fithrf_GLMdenoise_RR"
BETA_VERSIONS = ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR")
"""Versions 1, 2 and 3 of the single-trial betas, in HDF5 of one form [manual, "Functional data (NSD)"]."""

SPACES = {"func1pt8mm": BETA_VERSIONS, "func1mm": BETA_VERSIONS[1:]}
"""Volume spaces and the versions of betas that there are in each [manual, "Functional data (NSD)"]. On the surfaces
(`nativesurface`, `fsaverage`) the files are of other forms, float32 percent signal change for `fsaverage`."""

VOLUME_SHAPES = {
    "func1pt8mm": {
        "subj01": (81, 104, 83),
        "subj02": (82, 106, 84),
        "subj03": (81, 106, 82),
        "subj04": (85, 99, 80),
        "subj05": (79, 97, 78),
        "subj06": (85, 113, 83),
        "subj07": (78, 95, 81),
        "subj08": (80, 103, 78),
    },
    "func1mm": {
        "subj01": (145, 186, 148),
        "subj02": (146, 190, 150),
        "subj03": (145, 190, 146),
        "subj04": (152, 177, 143),
        "subj05": (141, 173, 139),
        "subj06": (152, 202, 148),
        "subj07": (139, 170, 145),
        "subj08": (143, 184, 139),
    },
}
"""Voxels (X, Y, Z) of every volume of a subject in a space [manual, "Technical notes"]."""

STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
"""Pictures: `/imgBrick`, uint8, (73000, 425, 425, 3) as h5py sees it, 39.6 GB; row = 0-based nsd id [examples,
"example02_loaddata"]. Readers found it contiguous and not compressed, so that a picture is one range of bytes."""

CHOSEN_STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli_chosen.hdf5"
"""Not of the release: the pictures that were fetched from `STIMULI` by ranges of bytes. `/imgBrick` as there,
`/nsd_id`, int64 (picture,), 0-based and ascending, and `/digest`, uint64 (picture,), a sum of each."""

STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
"""One row a picture: a first column without a name, `cocoId`, `cocoSplit`, `cropBox` (text: the fractions cut off at
top, bottom, left and right), `loss`, `nsdId` (0-based), `flagged`, `BOLD5000`, `shared1000` (True or False), `subjectN`
(0 or 1: planned) and `subjectN_rep0`, `_rep1`, `_rep2`: the planned trial (1 to 30,000), 0 for never [manual,
"Experiments"]."""

EXPDESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
"""`masterordering` (1 x 30000, 1-based into the subject's own pictures), `subjectim` (8 x 10000, 1-based ids of the
73,000; the first 1000 columns are `sharedix`), `sharedix` (1 x 1000, 1-based ids, ascending), and `stimpattern` and
`basiccnt`. Their integer types differ and may be unsigned [manual, "Experiments"]."""

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
PRF_ECCROIS = {1: "ecc0pt5", 2: "ecc1", 3: "ecc2", 4: "ecc4", 5: "ecc4+"}
"""Bands of eccentricity up to 0.5, 1, 2 and 4 degrees and beyond, over the extent of `PRF_VISUALROIS`."""

FLOC_FACES = {1: "OFA", 2: "FFA-1", 3: "FFA-2", 4: "mTL-faces", 5: "aTL-faces"}
FLOC_BODIES = {1: "EBA", 2: "FBA-1", 3: "FBA-2", 4: "mTL-bodies"}
FLOC_PLACES = {1: "OPA", 2: "PPA", 3: "RSC"}
FLOC_WORDS = {1: "OWFA", 2: "VWFA-1", 3: "VWFA-2", 4: "mfs-words", 5: "mTL-words"}

ROI_MAPS: dict[str, dict[int, str]] = {
    "nsdgeneral": {1: "nsdgeneral"},
    "streams": STREAMS,
    "prf-visualrois": PRF_VISUALROIS,
    "prf-eccrois": PRF_ECCROIS,
    "floc-faces": FLOC_FACES,
    "floc-bodies": FLOC_BODIES,
    "floc-places": FLOC_PLACES,
    "floc-words": FLOC_WORDS,
}
"""Labels of every ROI map, no name in two of them [manual, "ROIs"; codes in the `.ctab` files under
nsddata/freesurfer/subjNN/label].

In every volume -1 is outside cortex, 0 is cortex without a label, and only codes above 0 are labels [authors,
`analysis_surfaceroistovolume.m`]. A subject may lack a label: not everyone has every area."""

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

OTC_AREAS = ("OFA", "FFA-1", "FFA-2", "EBA", "FBA-1", "FBA-2", "OPA", "PPA", "OWFA", "VWFA-1", "VWFA-2")
OTC_MIN_TVALUE = 1.0
"""The floc areas that count as OTC wherever they lie, by voxels with a t-value (`floc_tvalues`) of at least this; RSC,
mfs-words and the mTL and aTL areas do not [DeepNSD, `nsd_parser.py` and the columns of `voxel_metadata_OTC.csv`]."""

FLOC_MAPS = ("floc-faces", "floc-bodies", "floc-places", "floc-words")
FLOC_TVALUES = {f"{name}-tval": name for name in FLOC_MAPS}
"""Names by which `roi_map` knows the volumes of t-values, and the maps of areas they belong to."""


def check_subjects(subjects: Iterable[str]) -> None:
    """Raise `InputError` for a name that is none of the eight subjects'."""
    for subject in subjects:
        if subject not in N_SESSIONS:
            raise InputError(f"unknown subject {subject!r}; {near_names(subject, N_SESSIONS)}")


def check_betas(beta_version: str, space: str) -> None:
    """Raise `InputError` for an unknown space, and for a version of betas that there is not in it."""
    if space not in SPACES:
        raise InputError(f"unknown space {space!r}; {near_names(space, SPACES)}")
    if beta_version not in SPACES[space]:
        raise InputError(f"no betas {beta_version!r} in {space}; {near_names(beta_version, SPACES[space])}")


def subject_number(subject: str) -> int:
    """Return the number in a subject's name.

    >>> subject_number("subj07")
    7
    """
    return int(subject.removeprefix("subj"))


def responses_tsv(subject: str) -> str:
    """Path of a subject's behaviour, a row a trial that was run, separated by tabs [manual, "Behavioral data"].

    Columns: SUBJECT, SESSION, RUN, TRIAL (within its run), 73KID, 10KID (all 1-based), TIME (days), ISOLD, ISCORRECT,
    RT (ms), CHANGEMIND, MEMORYRECENT, MEMORYFIRST, ISOLDCURRENT, ISCORRECTCURRENT, TOTAL1, TOTAL2, BUTTON, MISSINGDATA.
    """
    return f"nsddata/ppdata/{subject}/behav/responses.tsv"


def roi_map(subject: str, name: str, space: str = DEFAULT_SPACE) -> str:
    """Path of one ROI volume of both hemispheres, (X, Y, Z) whole codes [manual, "ROIs"], or one of `FLOC_TVALUES`.

    >>> roi_map("subj01", "streams")
    'nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz'
    """
    if name in FLOC_TVALUES:
        return floc_tvalues(subject, FLOC_TVALUES[name], space)
    return f"nsddata/ppdata/{subject}/{space}/roi/{name}.nii.gz"


def floc_tvalues(subject: str, name: str, space: str = DEFAULT_SPACE) -> str:
    """Path of the t-values, (X, Y, Z) float, by which the areas of a floc map were drawn [DeepNSD, `nsd_parser.py`].

    >>> floc_tvalues("subj01", "floc-words")
    'nsddata/ppdata/subj01/func1pt8mm/floc_wordtval.nii.gz'
    """
    contrast = {"floc-words": "word"}.get(name, name.removeprefix("floc-"))
    return f"nsddata/ppdata/{subject}/{space}/floc_{contrast}tval.nii.gz"


def betas_folder(subject: str, betas: str = DEFAULT_BETAS, space: str = DEFAULT_SPACE) -> str:
    """Folder of one subject's betas of one version in one space [manual, "Functional data (NSD)"]."""
    return f"nsddata_betas/ppdata/{subject}/{space}/{betas}"


def betas_session(subject: str, session: int, betas: str = DEFAULT_BETAS, space: str = DEFAULT_SPACE) -> str:
    """Path of one session's betas: `/betas`, int16, (trial, Z, Y, X) as h5py sees it [authors, `export.m`].

    Trials are in the order shown. Chunks hold single voxels over all trials, not compressed; voxels outside the brain
    or without data in the session are 0 in all of them. Files of `func1pt8mm` take 0.94 to 1.25 GB, subj01's 1.09 GB.
    """
    return f"{betas_folder(subject, betas, space)}/betas_session{session:02d}.hdf5"


def ncsnr_map(subject: str, betas: str = DEFAULT_BETAS, space: str = DEFAULT_SPACE) -> str:
    """Path of the ncsnr volume, (X, Y, Z) float, that belongs to one beta version in one space; NaN without data.

    With the betas z-scored within each session (unbiased SD), over the pictures that the subject saw three times:

        noise variance = mean over pictures of the unbiased variance over the three trials
        ncsnr          = sqrt(max(1 - noise variance, 0) / noise variance)

    Pictures without data in one of the three trials are left out. `ncsnr_split1.nii.gz` and `_split2` beside it are of
    every other such picture by its 10KID, from the first and from the second [authors, `export_noiseceiling.m`].
    """
    return f"{betas_folder(subject, betas, space)}/ncsnr.nii.gz"


def neuroid_id(subject: str, x: int, y: int, z: int) -> str:
    """Name a voxel by its subject and its 0-based indices in the NIfTI volume (X, Y, Z).

    >>> neuroid_id("subj01", 12, 21, 47)
    'S1-12-21-47'
    """
    return f"S{subject_number(subject)}-{x}-{y}-{z}"


def stimulus_id(nsd_id: int) -> str:
    """Name a picture by its 0-based place among the 73,000; the release's PNG of this one is called nsd02951.

    >>> stimulus_id(2950)
    'nsd-02950'
    """
    return f"nsd-{nsd_id:05d}"
