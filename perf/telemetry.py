"""What it costs to take what maps' values are like: extraction with it and with the rows' moments alone, in one run.

Both are `extract_features` over generated PNGs, projected to the width of 1,000 pictures; in turn, several times, each
in a process of its own: seconds by the clock and on the CPU (which other work on the machine changes less), and peak
memory.

usage: python perf/telemetry.py [--networks alexnet vit_b_16] [--pictures 64] [--rounds 3] [--device cpu] [--out FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from extraction import WIDTH, eps_of, make_pictures

from deepjuice.extraction import extract_features, stage
from deepjuice.extraction.moments import row_moments
from deepjuice.extraction.telemetry import N_CODES
from deepjuice.model_zoo import get_deepjuice_model
from deepjuice.sizes import counted


class Cost(NamedTuple):
    """Seconds by the clock and on the CPU, and peak memory in GB: resident, on a GPU of tensors."""

    wall: float
    cpu: float
    peak: float


class MomentsAlone:
    """In the place of a `Meter`: means, mean squares and mean magnitudes of the rows, and nothing else."""

    def __init__(self, device: torch.device):
        self.codes = torch.zeros(N_CODES, dtype=torch.int64, device=device)

    def __call__(self, flat: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the moments."""
        return row_moments(flat), self.codes


def extract(name: str, paths: list[Path], device: str, telemetry: bool) -> Cost:
    """Extract once, in this process."""
    if not telemetry:
        stage.Meter = MomentsAlone
    model, preprocess = get_deepjuice_model(f"torchvision_{name}_random")
    options = {"model_uid": name, "stimulus_digest": "generated", "eps": eps_of(WIDTH, len(paths)), "device": device}
    times = []
    for _ in range(2):  # the first one warms up
        with tempfile.TemporaryDirectory() as folder:
            out, start, on_cpu = Path(folder) / "store.zarr", time.perf_counter(), time.process_time()
            extract_features(model, preprocess, paths, out, num_workers=0, progress=False, **options)
            times.append((time.perf_counter() - start, time.process_time() - on_cpu))
    if device != "cpu":
        return Cost(*times[-1], torch.cuda.max_memory_allocated() / 1e9)
    # ru_maxrss of a started process begins at the size of the one that started it
    return Cost(*times[-1], int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9)


def measured(*args: object) -> Cost:
    """Extract in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(extract, *args).result()


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["alexnet", "vit_b_16"])
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    place = torch.cuda.get_device_name() if args.device != "cpu" else counted(torch.get_num_threads(), "CPU thread")
    head = f"{args.pictures} PNGs in one batch, projected to {WIDTH}; {place}, torch {torch.__version__}"
    lines = [
        f"{head}; least of {args.rounds}",
        "",
        f"{'':12}{'moments alone':>32}{'with telemetry':>32}   CPU time  wall time",
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = make_pictures(Path(folder))[: args.pictures]
        for name in args.networks:
            found: dict[bool, list[Cost]] = {False: [], True: []}
            for _ in range(args.rounds):
                for telemetry in found:
                    found[telemetry].append(measured(name, paths, args.device, telemetry))
            alone, all_of_it = (Cost(*map(min, zip(*costs, strict=True))) for costs in found.values())
            shown = "".join(f"{c.wall:9.2f} s {c.cpu:7.2f} s CPU {c.peak:5.2f} GB" for c in (alone, all_of_it))
            lines.append(f"{name:12}{shown}   {all_of_it.cpu / alone.cpu:6.2f} x  {all_of_it.wall / alone.wall:6.2f} x")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
