"""ROI expressions against sets of voxels, taken code by code."""

import numpy as np
import pytest

from juicyfruits import InputError
from juicyfruits.nsd import layout
from juicyfruits.nsd.rois import DEFINITIONS, known_rois, named_rois, needed_maps, roi_mask

SHAPE = (4, 5, 6)
EVERYTHING = set(np.ndindex(SHAPE))


@pytest.fixture(scope="module")
def maps():
    """Codes from -1 up that differ from map to map, but for the cortex; and t-values."""
    rng = np.random.default_rng(0)
    outside = rng.random(SHAPE) < 0.2
    codes = {name: rng.integers(0, len(table) + 1, SHAPE) for name, table in layout.ROI_MAPS.items()}
    codes = {name: np.where(outside, -1, volume).astype(np.float64) for name, volume in codes.items()}
    tvalues = {name: np.where(outside, np.nan, rng.normal(1, 2, SHAPE)) for name in layout.FLOC_TVALUES}
    return codes | tvalues


def voxels(mask):
    return {tuple(at) for at in np.argwhere(mask).tolist()}


def where(maps, name, *codes):
    return {at for at in EVERYTHING if maps[name][at] in codes}


def floc(maps, kind, *codes):
    return {at for at in where(maps, f"floc-{kind}", *codes) if maps[f"floc-{kind}-tval"][at] >= 1}


EXPECTED = {
    "V1": lambda m: where(m, "prf-visualrois", 1, 2),
    "FFA-1": lambda m: where(m, "floc-faces", 2),
    "mTL-faces": lambda m: where(m, "floc-faces", 4),
    "ecc4+": lambda m: where(m, "prf-eccrois", 5),
    "prf-eccrois": lambda m: where(m, "prf-eccrois", 1, 2, 3, 4, 5),
    "nsdgeneral & ventral": lambda m: where(m, "nsdgeneral", 1) & where(m, "streams", 5),
    "V1|V2 & lateral": lambda m: (
        where(m, "prf-visualrois", 1, 2) | (where(m, "prf-visualrois", 3, 4) & where(m, "streams", 6))
    ),
    "(V1 | V2)&lateral": lambda m: where(m, "prf-visualrois", 1, 2, 3, 4) & where(m, "streams", 6),
    "!FFA & streams": lambda m: where(m, "streams", 1, 2, 3, 4, 5, 6, 7) - where(m, "floc-faces", 2, 3),
    "!(V1 | FFA)": lambda m: (
        EVERYTHING - where(m, "nsdgeneral", -1) - where(m, "prf-visualrois", 1, 2) - where(m, "floc-faces", 2, 3)
    ),
    "!!PPA": lambda m: where(m, "floc-places", 2),
    "floc-words-tval": lambda m: {at for at in EVERYTHING if m["floc-words-tval"][at] >= 1},
    "EVC": lambda m: where(m, "prf-visualrois", 1, 2, 3, 4, 5, 6, 7),
    "OTC": lambda m: (
        (where(m, "nsdgeneral", 1) & where(m, "streams", 2, 3, 5, 6))
        | floc(m, "faces", 1, 2, 3)
        | floc(m, "bodies", 1, 2, 3)
        | floc(m, "places", 1, 2)
        | floc(m, "words", 1, 2, 3)
    ),
}


@pytest.mark.parametrize("expression", EXPECTED)
def test_expressions_equal_sets_of_voxels(maps, expression):
    expected = EXPECTED[expression](maps)
    assert voxels(roi_mask(expression, maps.__getitem__)) == expected and 0 < len(expected) < len(EVERYTHING)


@pytest.mark.parametrize("expression", [*EXPECTED, *DEFINITIONS])
def test_needed_maps_are_those_that_are_read(maps, expression):
    read = set()

    def read_map(name):
        read.add(name)
        return maps[name]

    roi_mask(expression, read_map)
    assert needed_maps([f"x = {expression}"]) == read


def test_the_defaults_need_all_maps_but_eccentricity():
    assert needed_maps(None) == {*layout.ROI_MAPS, *layout.FLOC_TVALUES} - {"prf-eccrois"}


def test_every_known_name_can_be_read(maps):
    for name in known_rois():
        assert roi_mask(name, maps.__getitem__).shape == SHAPE


def test_names():
    assert named_rois(["V1 & ventral", " early=V1 | V2", "V1 & ventral"]) == {
        "V1 & ventral": "V1 & ventral",
        "early": "V1 | V2",
    }


@pytest.mark.parametrize(
    "roi, message",
    [
        ("FFB", "unknown ROI 'FFB'; did you mean .*'FFA'"),
        ("x=V1 | vental", "unknown ROI 'vental'; did you mean .*'ventral'"),
        ("V1 &", "'V1 &' ends where a name is expected"),
        ("", "'' ends where a name is expected"),
        ("V1 V2", "'V1 V2' has 'V2' where an operator"),
        ("(V1 | V2", r"'\(V1 \| V2' ends where '\)' is expected"),
        ("V1)", r"'V1\)' has '\)' where an operator"),
        ("& V1", "'& V1' has '&' where a name"),
        ("V1 ! V2", "'V1 ! V2' has '!' where an operator"),
        ("V1 + V2", r"has '\+', which has no meaning"),
        ("=V1", "'=V1' has no name before '='"),
        ("a=b=V1", "has '=', which has no meaning"),
        ("(" * 3000 + "V1" + ")" * 3000, "has more than 400 characters"),
    ],
)
def test_what_cannot_be_read_is_told(roi, message):
    with pytest.raises(InputError, match=message):
        named_rois([roi])


def test_two_rois_of_one_name_are_told():
    with pytest.raises(InputError, match="two ROIs are called 'early', 'V1' and 'V2'"):
        named_rois(["early=V1", "early=V2"])
