"""What an extraction will take, told before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from deepjuice.extraction.background import DEPTH
from deepjuice.extraction.inputs import Inputs, to_model
from deepjuice.extraction.inspection import MapRecord
from deepjuice.extraction.meter import Meter
from deepjuice.extraction.passes import autocast
from deepjuice.extraction.rehearsal import Rehearsal, rehearse
from deepjuice.memory import held_memory
from deepjuice.reduction.projection import pool_memory
from deepjuice.sizes import format_bytes
from deepjuice.tracing import n_rows, run_model
from juicyfruits.errors import InputError

SLACK = 1.05  # the C library keeps some of what is freed: measured peaks were up to 4.5 % above the sum of what is held


@dataclass(frozen=True)
class MemoryPlan:
    """Peak memory of a pass, on the host (resident memory of this process) and on the model's device, in bytes.

    On the CPU the two are one: everything is on the host, and `device` is `None`.

    Attributes:
        batch_size: inputs a forward pass.
        host: predicted peak of the process, what it holds already included.
        device: predicted peak of this process's tensors on a GPU.
    """

    batch_size: int
    host: int
    device: int | None

    @property
    def limiting(self) -> int:
        """The peak that a memory limit bounds: the device's where the model runs on one, else the host's."""
        return self.host if self.device is None else self.device

    def __str__(self) -> str:
        host = f"{format_bytes(self.host)} on the host"
        return host if self.device is None else f"{host}, {format_bytes(self.device)} on the device"


class Planner:
    """Predict the memory of passes of one model over given inputs, from a rehearsal with one and two of them.

    Args:
        model: on `device` already.
        inputs: what it will run over.
        device: where.
        forward, precision: as for `run_pass`.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> planner = Planner(net, Inputs.of(torch.randn(10, 4)), torch.device("cpu"))
    >>> planner.rehearsal.peak(10)  # the Linear's and the ReLU's outputs, 10 x 3 float32 each
    240
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        device: torch.device,
        forward: Callable[[nn.Module, Any], Any] = run_model,
        precision: str = "float32",
    ):
        self.device = device
        with autocast(device, precision):
            self.rehearsal: Rehearsal = rehearse(model, to_model(inputs.sample, model, device), forward)
        self.input_bytes = sum(t.nbytes for t in tree_leaves(inputs.sample)) // n_rows(inputs.sample)
        self.prefetched = getattr(inputs.batches, "num_workers", 0) * (
            getattr(inputs.batches, "prefetch_factor", 0) or 0
        )
        self.host_now, self.device_now = held_memory("cpu"), held_memory(device)

    def keeping(self, kept: int, batch_size: int, output_device: torch.device, until: str | None = None) -> MemoryPlan:
        """Predict a pass that keeps maps of `kept` bytes on `output_device` and stops after the call `until`."""
        at_home = output_device.type == "cpu"
        return self._plan(batch_size, on_host=kept * at_home, on_device=kept * (not at_home), until=until)

    def groups(
        self, groups: Sequence[Sequence[MapRecord]], n_rows: int, batch_size: int, output_device: torch.device
    ) -> pd.DataFrame:
        """Predict the passes that keep groups of maps: a row each with maps, bytes, the map it ends with, and peaks."""
        rows = []
        for number, group in enumerate(groups, 1):
            last = max(group, key=lambda record: self.rehearsal.moment[record.call_uid])
            kept = n_rows * sum(record.n_bytes for record in group)
            plan = self.keeping(kept, batch_size, output_device, last.call_uid)
            what = {"pass": number, "maps": len(group), "bytes": kept, "ends_with": last.uid}
            rows.append({**what, "peak_host": plan.host, "peak_device": plan.device})
        return pd.DataFrame(rows)

    def room(self, batch_size: int, limit: int) -> int:
        """Return the bytes that a pass may keep where the model runs without coming to hold more than `limit` there."""
        slack = SLACK if self.device.type == "cpu" else 1
        return max(1, int((limit - self.keeping(0, batch_size, self.device).limiting) / slack))

    def projecting(self, records: Iterable[MapRecord], width: int, method: str, batch_size: int) -> MemoryPlan:
        """Predict a pass that projects maps to `width` columns and hands the rows to a writer as they come."""
        records = list(records)
        rows = [4 * batch_size * min(record.n_features, width) for record in records]
        on_cpu = self.device.type == "cpu"
        kept, working = pool_memory((record.n_features for record in records), width, method, batch_size, on_cpu)
        flags = sum(record.n_features for record in records)  # a byte a feature, and one more where it is written
        reading = max(Meter.memory(record.n_features, batch_size, on_cpu) for record in records)
        in_queue = (DEPTH + 2) * max(rows)  # waiting, being made and being written
        collected = 0 if on_cpu else 2 * sum(rows)  # there, a batch's rows leave together
        on_device = kept + working + reading + collected + flags
        return self._plan(batch_size, on_host=in_queue + flags, on_device=on_device)

    def _plan(self, batch_size: int, on_host: int, on_device: int, until: str | None = None) -> MemoryPlan:
        host = self.host_now + (1 + self.prefetched) * batch_size * self.input_bytes + on_host
        device = self.rehearsal.peak(batch_size, until) + batch_size * self.input_bytes + on_device
        if self.device.type == "cpu":
            return MemoryPlan(batch_size, int(SLACK * (host + device)), None)
        return MemoryPlan(batch_size, int(SLACK * host), self.device_now + device)


def fit_batch(plan_of: Callable[[int], MemoryPlan], batch_size: int, limit: int) -> MemoryPlan:
    """Return the plan of the largest batch, halved from `batch_size`, that stays within `limit` bytes.

    Raises:
        InputError: when not even one input fits, naming what is needed.
    """
    plan = plan_of(batch_size)
    while plan.limiting > limit and plan.batch_size > 1:
        plan = plan_of(plan.batch_size // 2)
    if plan.limiting > limit:
        raise InputError(
            f"memory limit {format_bytes(limit)}: one input at a time needs {plan}, what the process holds before it "
            "begins included; raise the limit to at least that."
        )
    return plan
