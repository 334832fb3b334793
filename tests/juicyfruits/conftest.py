"""A tiny miniature brain and its prepared benchmark, made once; and a hand-made folder to spoil."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hostile import FAST, Hostile
from three_files import DATA, KEYS
from tiny_brain import TINY

from juicyfruits import write_benchmark
from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.remote import open_source
from juicyfruits.synthetic.mini import make_mini


@pytest.fixture(scope="session")
def mini_source(tmp_path_factory) -> Path:
    return make_mini(tmp_path_factory.mktemp("source") / "mini", seed=3, **TINY)


@pytest.fixture(scope="session")
def mini_folder(mini_source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data") / "nsd_mini"
    prepare_nsd(mini_source, out)
    return out


@pytest.fixture
def source_copy(mini_source, tmp_path) -> Path:
    return Path(shutil.copytree(mini_source, tmp_path / "source"))


@pytest.fixture
def own_folder(tmp_path) -> Path:
    """A bring-your-own folder: 4 neurons of 2 monkeys, 6 pictures, 3 repeats, one repeat missing."""
    rng = np.random.default_rng(0)
    responses = rng.standard_normal((4, 6, 3)).astype(np.float32)
    responses[1, 2, 2] = np.nan
    neuroids = pd.DataFrame(
        {
            "neuroid_id": ["a", "b", "c", "d"],
            "subject": ["m1", "m1", "m2", "m2"],
            "roi_V4": [True, True, True, False],
            "roi_IT": [False, False, False, True],
        }
    )
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i}" for i in range(6)]})
    images = [rng.integers(0, 255, (8, 8, 3), dtype=np.uint8) for _ in range(6)]
    write_benchmark(tmp_path / "own", stimuli, images, neuroids=neuroids, responses=responses)
    return tmp_path / "own"


@pytest.fixture
def server():
    """Three files behind a server that misbehaves on demand; modules about other files have a server of their own."""
    with Hostile() as server:
        for key in KEYS:
            server.put(f"/b/{key}", DATA)
        yield server


@pytest.fixture
def s3(server):
    return open_source(f"s3://b?endpoint={server.url}", FAST)


@pytest.fixture
def http(server):
    return open_source(f"{server.url}/b", FAST)
