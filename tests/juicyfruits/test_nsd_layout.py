"""The facts of the release agree with one another and with figures that were published elsewhere."""

from collections import Counter

import numpy as np
import pytest

from juicyfruits.nsd import layout
from juicyfruits.nsd.terms import AGREEMENT_URL, TERMS, TERMS_URL

LABELS = [label for table in layout.ROI_MAPS.values() for label in table.values()]
N_LABELS = {  # of the authors' script that wrote the volumes, analysis_surfaceroistovolume.m
    "nsdgeneral": 1,
    "streams": 7,
    "prf-visualrois": 7,
    "prf-eccrois": 5,
    "floc-faces": 5,
    "floc-bodies": 4,
    "floc-places": 3,
    "floc-words": 5,
}


def test_every_label_names_one_area():
    names = [*LABELS, *layout.ROI_GROUPS, *layout.VOXEL_SETS]
    assert [name for name, n in Counter(names).items() if n > 1] == []


def test_codes_count_from_one_to_the_number_of_labels():
    assert {name: list(table) for name, table in layout.ROI_MAPS.items()} == {
        name: list(range(1, n + 1)) for name, n in N_LABELS.items()
    }


@pytest.mark.parametrize(
    "names", [*layout.ROI_GROUPS.values(), layout.OTC_STREAMS, layout.OTC_AREAS], ids=lambda names: names[0]
)
def test_areas_are_made_of_known_labels(names):
    assert set(names) <= set(LABELS)


def test_otc_areas_are_the_columns_of_the_published_table():
    columns = "FFA-1,FFA-2,OFA,EBA,FBA-1,FBA-2,OPA,PPA,VWFA-1,VWFA-2,OWFA"  # voxel_metadata_OTC.csv
    assert sorted(layout.OTC_AREAS) == sorted(columns.split(","))


def test_trials_and_subjects_are_those_of_the_manual():
    trials = [n * layout.N_TRIALS_SESSION for n in layout.N_SESSIONS.values()]
    assert trials == [30_000, 30_000, 24_000, 22_500, 30_000, 24_000, 30_000, 22_500] and sum(trials) == 213_000
    assert layout.COMPLETE_SUBJECTS == ("subj01", "subj02", "subj05", "subj07")
    assert 8 * 9_000 + layout.IMAGE_SET_SIZES["shared1000"] == layout.N_PICTURES


def test_sizes_are_those_of_the_files():
    assert round(layout.N_PICTURES * layout.PICTURE_SIZE**2 * 3 / 1e9, 1) == 39.6
    session = np.prod(layout.VOLUME_SHAPES["func1pt8mm"]["subj01"]) * (2 * layout.N_TRIALS_SESSION + 65.4)
    assert round(session / 2**20, 1) == 1043.8  # MiB of subj01's files; h5py gives 65.4 bytes of index a chunk


def test_both_spaces_hold_the_same_head():
    assert set(layout.VOLUME_SHAPES) == set(layout.SPACES)
    for subject in layout.N_SESSIONS:
        coarse, fine = (np.array(layout.VOLUME_SHAPES[space][subject]) for space in ("func1pt8mm", "func1mm"))
        assert (np.abs(1.8 * coarse - fine) <= 2).all()


def test_beta_versions_of_the_spaces():
    assert layout.SPACES["func1pt8mm"] == layout.BETA_VERSIONS and layout.DEFAULT_BETAS in layout.SPACES["func1mm"]
    assert "betas_assumehrf" not in layout.SPACES["func1mm"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            layout.betas_session("subj03", 7, "betas_fithrf", "func1mm"),
            "nsddata_betas/ppdata/subj03/func1mm/betas_fithrf/betas_session07.hdf5",
        ),
        (
            layout.ncsnr_map("subj08"),
            "nsddata_betas/ppdata/subj08/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz",
        ),
        (layout.roi_map("subj02", "prf-eccrois"), "nsddata/ppdata/subj02/func1pt8mm/roi/prf-eccrois.nii.gz"),
        (layout.floc_tvalues("subj02", "floc-faces"), "nsddata/ppdata/subj02/func1pt8mm/floc_facestval.nii.gz"),
        (layout.responses_tsv("subj05"), "nsddata/ppdata/subj05/behav/responses.tsv"),
    ],
)
def test_paths_are_the_release_own(path, expected):
    assert path == expected


def test_the_terms_are_short_and_lead_to_the_full_text():
    assert len(TERMS.splitlines()) <= 12 and max(map(len, TERMS.splitlines())) <= 120
    for needed in (TERMS_URL, AGREEMENT_URL, "10.1038/s41593-021-00962-x", "IIS-1822683", "cocodataset.org"):
        assert needed in TERMS
