"""Seconds a profile takes, beside deep-data-profiler's of the same picture, network and threshold, in one run.

Both profilers are made beforehand; then they take turns, and the least of the rounds counts. Both begin with a forward
pass, below which neither can be: it is timed, too, and a second ratio is of what comes after it. Profiles of several
pictures at once are timed as well, which deep-data-profiler has not. Their equality is a matter of tests/influence.

usage: python perf/influence.py [--networks vgg16 resnet18] [--rounds 3] [--device cpu] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import torch
import torchvision
from recording import record

from deepjuice.influence import ChannelProfiler, ElementProfiler, TorchProfiler

with warnings.catch_warnings():
    import deep_data_profiler as ddp

PAIRS = {"channel": (ChannelProfiler, ddp.ChannelProfiler), "element": (ElementProfiler, ddp.ElementProfiler)}
THRESHOLDS = (0.1, 0.3)
GOALS = {"channel": 10, "element": 5}
N_PICTURES = 8


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that one call takes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compared(name: str, kind: str, threshold: float, rounds: int, device: torch.device) -> str:
    """Time both profilers on one network, and return a line of the table."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval().to(device)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    ours, theirs = (profiler(model, device=str(device)) for profiler in PAIRS[kind])
    times: dict[str, list[float]] = {"ours": [], "theirs": [], "forward": []}
    failed = ""
    for _ in range(rounds + 1):
        with torch.no_grad():
            times["forward"].append(seconds(lambda: model(x), device))
        times["ours"].append(seconds(lambda: ours.create_profile(x, threshold=threshold), device))
        try:
            times["theirs"].append(seconds(lambda: theirs.create_profile(x, threshold=threshold), device))
        except (TypeError, IndexError) as error:  # its known defects
            failed = type(error).__name__
    least = {key: min(values[1:] or [float("nan")]) for key, values in times.items()}
    beyond = {key: least[key] - least["forward"] for key in ("theirs", "ours")}
    ratios = f"{least['theirs'] / least['ours']:6.1f} x {beyond['theirs'] / beyond['ours']:9.1f} x"
    return (
        f"{name:<10} {kind:<8} {threshold:<5} {least['theirs']:9.3f} s {least['ours']:9.3f} s {least['forward']:9.3f} s"
        f"  {f'raises {failed}' if failed else ratios}"
    )


def together(name: str, kind: str, device: torch.device) -> str:
    """Time profiles of several pictures at once."""
    torch.manual_seed(0)
    profiler = TorchProfiler(getattr(torchvision.models, name)(weights=None).eval().to(device))
    x = torch.randn(N_PICTURES, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)

    def run() -> None:
        profiler.create_profiles(x, channels=kind == "channel")

    run()
    return (
        f"{name:<10} {kind:<8} {0.1:<5} {N_PICTURES} pictures at once: {N_PICTURES / seconds(run, device):.1f} a second"
    )


def table(networks: list[str], rounds: int, device: torch.device) -> Iterator[str]:
    """Yield the lines of the report."""
    where = (
        torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} CPU cores ({platform.machine()})"
    )
    yield f"perf/influence.py on {date.today()}, {where}; torch {torch.__version__}; least of {rounds}; 224 px"
    yield "                          deep-data-               forward          without the"
    yield "network    neurons  thr.    profiler        ours      pass   ratio  forward pass"
    for name in networks:
        for kind in PAIRS:
            for threshold in THRESHOLDS:
                yield compared(name, kind, threshold, rounds, device)
            yield together(name, kind, device)
    yield "Goals for vgg16 at 0.1: " + ", ".join(f"{kind} at least {goal} x" for kind, goal in GOALS.items())


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["vgg16", "resnet18"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "influence.txt")
    args = parser.parse_args()
    record(table(args.networks, args.rounds, torch.device(args.device)), args.out)


if __name__ == "__main__":
    main()
