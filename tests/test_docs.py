"""The guides that are doctests run as they stand."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", ["geometry.md", "uncertainty.md"])
def test_the_guide_says_what_comes_out(name):
    if name == "geometry.md":
        pytest.importorskip("rsatoolbox")
    found = doctest.testfile(str(DOCS / name), module_relative=False)
    assert found.attempted > 10 and found.failed == 0
