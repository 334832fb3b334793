"""Predicted memory against closed forms on nets whose tensors can be counted, and against what real runs hold."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from deepjuice.extraction.inputs import Inputs
from deepjuice.extraction.inspection import inspect_maps
from deepjuice.extraction.plan import SLACK, MemoryPlan, Planner, fit_batch
from deepjuice.extraction.rehearsal import rehearse
from juicyfruits.errors import InputError

CPU = torch.device("cpu")
F = 4  # bytes a float32


def test_a_chain_holds_one_input_and_one_output_at_a_time():
    """The root's argument stays for the whole pass; of what is made inside, two neighbours live at once."""
    net = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 400), nn.Linear(400, 30), nn.Linear(30, 5))
    foretold = rehearse(net, torch.randn(4, 10))
    for n in (1, 2, 64, 1000):
        assert foretold.peak(n) == F * n * (100 + 400)  # 400 + 30 is less
    assert foretold.peak(64, until="Linear-1-1") == F * 64 * 100
    assert foretold.peak(64, until="Linear-1-4") == foretold.peak(64)


def test_a_residual_is_held_until_it_is_added():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.wide, self.down = nn.Linear(8, 50), nn.Linear(50, 90), nn.Linear(90, 50)

        def forward(self, x):
            x = self.up(x)
            return x + self.down(self.wide(x))

    assert rehearse(Residual(), torch.randn(2, 8)).peak(10) == F * 10 * (50 + 90 + 50)


def test_maps_that_do_not_lie_row_after_row_are_copied_by_the_listener():
    class Turn(nn.Module):
        def forward(self, x):
            return x.transpose(1, 2)

    net = nn.Sequential(nn.Linear(6, 6), Turn())
    sample = torch.randn(2, 5, 6)
    assert rehearse(net, sample, flatten=False).peak(3) == F * 3 * 30
    assert rehearse(net, sample).peak(3) == F * 3 * 60


def test_what_does_not_grow_with_the_batch_is_fixed():
    class Table(nn.Module):
        def forward(self, x):
            return x @ torch.ones(7, 1000)

    foretold = rehearse(Table(), torch.randn(2, 7))
    assert foretold.peak(1) == F * (7 * 1000 + 1000) and foretold.peak(10) == F * (7 * 1000 + 10 * 1000)


def test_a_single_input_is_taken_to_grow_with_the_batch():
    assert rehearse(nn.Linear(5, 7), torch.randn(1, 5)).peak(6) == F * 6 * 7


def test_other_operations_for_another_batch_fall_back_to_the_larger_run():
    class Fickle(nn.Module):
        def forward(self, x):
            return x + 1 if len(x) == 1 else (x + 1) * 2

    assert rehearse(Fickle(), torch.randn(2, 100)).peak(10) == F * 10 * 200


def test_the_batch_is_halved_until_it_fits():
    def plan_of(n):
        return MemoryPlan(n, 1000 + 10 * n, None)

    assert fit_batch(plan_of, 64, 1640).batch_size == 64
    assert fit_batch(plan_of, 64, 1639).batch_size == 32
    assert fit_batch(plan_of, 60, 1010).batch_size == 1
    with pytest.raises(InputError, match=r"memory limit 1009.00 B: one input at a time needs 1010.00 B on the host"):
        fit_batch(plan_of, 64, 1009)


def test_a_plan_adds_up():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 500), nn.Linear(500, 2))
    inputs = Inputs.of(torch.randn(20, 3, 8, 8))
    planner = Planner(net, inputs, CPU)
    planner.host_now = 1_000_000  # instead of what this process happens to hold
    records = inspect_maps(net, inputs.sample).distinct
    kept, n = 12_345, 16
    picture = F * 3 * 64
    keeping = planner.keeping(kept, n, CPU)
    assert keeping.device is None
    assert keeping.host == int(SLACK * (1_000_000 + kept + 2 * n * picture + F * n * (500 + 2)))
    projecting = planner.projecting(records, 100, "signed_sums", n)
    signs, sums, queue = F * (192 + 500), 3 * F * n * 100, 10 * F * n * 100
    reading, flags = 3 * F * n * 500, 2 * (192 + 500 + 2)  # blocks that hold the widest map whole; a byte a feature
    taken = signs + sums + queue + reading + flags
    assert projecting.host == int(SLACK * (1_000_000 + 2 * n * picture + F * n * (500 + 2) + taken))


PROBE = r"""
import json, logging, re, sys, tempfile
import numpy as np, torch
from PIL import Image
from pathlib import Path
from deepjuice.extraction import first_look, stage
from deepjuice.model_zoo import get_deepjuice_model
name, batch_size = sys.argv[1], int(sys.argv[2])
folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
paths = [folder / f"{i}.png" for i in range(batch_size + 4)]
for path in paths:
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
plans = []
fit = first_look.fit_batch
first_look.fit_batch = lambda *args: plans.append(fit(*args)) or plans[0]
model, preprocess = get_deepjuice_model(name)
stage.extract_features(model, preprocess, paths, folder / "x.zarr", model_uid=name, stimulus_digest="s", device="cpu",
                       batch_size=batch_size, memory_limit=sys.argv[3], progress=False)
# ru_maxrss would start at the size of the process that started this one
peak = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps([plans[0].batch_size, plans[0].host, peak]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak resident memory is read from Linux's /proc")
@pytest.mark.parametrize(
    "name", ["torchvision_alexnet_random", "torchvision_resnet18_random", "torchvision_vit_b_32_random"]
)
def test_real_runs_hold_what_was_predicted_within_ten_percent_and_stay_below_the_limit(name, tmp_path):
    def measure(limit):
        run = [sys.executable, "-c", PROBE, name, "64", limit]
        return json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)

    batch_size, predicted, peak = measure("20GB")
    assert batch_size == 64 and abs(peak / predicted - 1) < 0.1
    limit = int(0.97 * peak)
    batch_size, predicted, peak = measure(str(limit))
    assert batch_size < 64 and predicted <= limit and peak <= limit
