"""What is found out by a few inputs before maps are projected, whether they then are or the plan is only told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn

from deepjuice.devices import get_device
from deepjuice.extraction.inputs import Inputs, to_model
from deepjuice.extraction.inspection import Inspection, inspect_maps
from deepjuice.extraction.plan import MemoryPlan, Planner, fit_batch
from deepjuice.loaders import Preprocess, get_data_loader
from deepjuice.reduction import jl_width


@dataclass(frozen=True)
class FirstLook:
    """A model on its device, the inputs it will run over, and what the first of them showed.

    Attributes:
        model, inputs, device, precision: of the passes to come.
        inspection: which maps there are.
        width: columns that they will be projected to.
    """

    model: nn.Module
    inputs: Inputs
    device: torch.device
    precision: str
    inspection: Inspection
    width: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        preprocess: Preprocess,
        image_paths: Sequence[str | Path],
        eps: float,
        precision: str,
        device: str | torch.device,
        batch_size: int,
        num_workers: int | None,
    ) -> FirstLook:
        """Move the model to the device and run it over a few pictures; arguments as for `extract_features`."""
        device = get_device(device)
        model = model.to(device)
        inputs = Inputs.of(get_data_loader(image_paths, preprocess, batch_size, num_workers))
        inspection = inspect_maps(model, to_model(inputs.sample, model, device))
        return cls(model, inputs, device, precision, inspection, jl_width(inputs.n_inputs, eps))

    @cached_property
    def planner(self) -> Planner:
        """Rehearsed when first asked for: what need not run needs no plan."""
        return Planner(self.model, self.inputs, self.device, precision=self.precision)

    def fit(self, method: str, limit: int) -> MemoryPlan:
        """Return the plan of the one pass that projects all maps by `method` within `limit` bytes (`fit_batch`)."""
        plan_of = partial(self.planner.projecting, self.inspection.distinct, self.width, method)
        return fit_batch(plan_of, min(self.inputs.batch_size, self.inputs.n_inputs), limit)
