"""The guide to influence profiles says what comes out."""

import doctest
from pathlib import Path

import torch

DOCS = Path(__file__).parents[2] / "docs"


def test_the_guide_to_influence_profiles_says_what_comes_out():
    with torch.random.fork_rng():
        found = doctest.testfile(str(DOCS / "influence.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 10 and found.failed == 0
