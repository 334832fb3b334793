"""Extractions that are killed: nothing looks complete, what was committed is kept, the end is the same to the bit."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from deepjuice.extraction import FeatureStore
from juicyfruits.errors import InputError

pytestmark = pytest.mark.slow
N, BATCH, N_KILLS = 40, 3, 5  # kills of each of two extractions

CHILD = """
import sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from deepjuice.extraction import extract_features
import deepjuice.extraction.stage, zarr
torch.set_num_threads(1)
pictures, out, seen = map(Path, sys.argv[1:4])

class Slow:
    def __call__(self, picture):
        with open(seen, "ab") as file:
            file.write(bytes([picture.getpixel((0, 0))[0]]))
        time.sleep(0.02)
        return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255).permute(2, 0, 1)

    def __repr__(self):
        return "Slow"

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5))
print("ready", flush=True)
extract_features(net, Slow(), sorted(pictures.iterdir()), out, model_uid="tiny", stimulus_digest="s", eps=0.9,
                 device="cpu", batch_size=int(sys.argv[4]), num_workers=0, progress=False)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(N):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[0, 0, 0] = number  # by which it is recognised
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def extract(pictures, out, seen, kill_after=None) -> tuple[bool, float]:
    """Run an extraction in a process of its own; return whether it came to its end, and the seconds it had."""
    seen.write_bytes(b"")
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, pictures, out, seen, str(BATCH)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    start = time.perf_counter()
    try:
        process.wait(timeout=120 if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode == 0, time.perf_counter() - start


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ten_kills_at_random_moments_change_nothing(pictures, tmp_path):
    """Every run goes on from what the one before committed beside the output, which a workflow engine would clear."""
    whole, seen = tmp_path / "whole.zarr", tmp_path / "seen"
    done, seconds = extract(pictures, whole, seen)
    assert done and len(seen.read_bytes()) == 4 + N  # a look at four, then all
    with ThreadPoolExecutor(2) as two:  # most of the time goes into starting Python
        wholes = two.map(lambda seed: disturb(pictures, tmp_path / str(seed), files(whole), seconds, seed), range(2))
        assert all(wholes)


def disturb(pictures, folder, expected, seconds, seed) -> int:
    """Kill extractions N_KILLS times at moments within `seconds`, finish the last one; return how many came whole."""
    moments, kills, wholes = random.Random(seed), 0, 0
    seen, out = folder / "seen", folder / "stores" / "x.zarr"
    out.parent.mkdir(parents=True)
    while kills < N_KILLS or not out.exists():
        rows_done = rows_committed(out)
        done, _ = extract(pictures, out, seen, moments.uniform(0, seconds) if kills < N_KILLS else None)
        assert list(seen.read_bytes()[4:5]) in ([], [rows_done])  # what was committed is not loaded again
        kills += not done
        if out.exists():  # also when the kill came after the last rename
            assert files(out) == expected
            assert not done or {path.name for path in out.parent.iterdir()} == {"x.zarr"}
            wholes += 1
            if kills < N_KILLS:
                shutil.rmtree(out)
            continue
        with pytest.raises(InputError, match="expected a finished store"):
            FeatureStore(out)
    return wholes


def rows_committed(out) -> int:
    progress = out.with_name("x.zarr.partial") / "progress.json"
    return json.loads(progress.read_text())["rows_done"] if progress.exists() else 0
