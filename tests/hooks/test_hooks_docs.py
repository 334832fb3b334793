"""The guide to hooks says what comes out."""

import doctest
import random
from pathlib import Path

import numpy as np
import torch

DOCS = Path(__file__).parents[2] / "docs"


def test_the_guide_to_hooks_says_what_comes_out():
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        found = doctest.testfile(str(DOCS / "hooks.md"), module_relative=False)
    finally:
        torch.set_rng_state(state[0])
        random.setstate(state[1])
        np.random.set_state(state[2])
    assert found.attempted > 10 and found.failed == 0
