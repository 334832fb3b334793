"""A whole session with Mask R-CNN, as a text of examples."""

import doctest
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_session_runs_as_it_stands():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testfile(str(Path(__file__).with_name("seed_004.txt")), module_relative=False, optionflags=flags)
    assert found.attempted > 40 and found.failed == 0
