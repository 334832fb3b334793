"""What an extraction will take, told before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from deepjuice.extraction.inspection import MapRecord
from deepjuice.memory import format_bytes
from juicyfruits.errors import InputError

# Held at once around the largest map: a module's input, its output, a padded or normalised copy, and the projection's
# working copy. Measured on AlexNet and EfficientNet-Lite0, where peaks stayed below it.
LIVE_MAPS = 4


@dataclass(frozen=True)
class ExtractionPlan:
    """Peak bytes of a projecting extraction on the model's device, beyond what the process holds already.

    Attributes:
        batch_size: inputs a forward pass, halved from the one asked for until the plan fits.
        fixed: bytes that do not depend on it: weights and projections.
        per_input: bytes of every input in a batch: live maps and the projected rows of all maps.
    """

    batch_size: int
    fixed: int
    per_input: int

    @property
    def peak(self) -> int:
        """Predicted peak in bytes."""
        return self.fixed + self.batch_size * self.per_input


def plan_extraction(
    model: nn.Module, records: Sequence[MapRecord], width: int, batch_size: int, memory_limit: int
) -> ExtractionPlan:
    """Choose the largest batch, at most `batch_size`, whose predicted peak stays within `memory_limit` bytes.

    Args:
        model: for the size of its weights.
        records: the distinct maps to project.
        width: columns that wider maps are projected to.
        batch_size: inputs a batch, if there is room.
        memory_limit: in bytes.

    Raises:
        InputError: when not even one input fits, naming what is needed.
    """
    weights = sum(p.numel() * p.element_size() for p in [*model.parameters(), *model.buffers()])
    widths = {record.n_features for record in records if record.n_features > width}
    projections = sum(int(4 * width * math.sqrt(d)) for d in widths)
    largest = max(records, key=lambda record: record.n_features)
    per_input = LIVE_MAPS * largest.n_bytes + sum(4 * min(record.n_features, width) for record in records)
    plan = ExtractionPlan(batch_size, weights + projections, per_input)
    while plan.peak > memory_limit and plan.batch_size > 1:
        plan = ExtractionPlan(plan.batch_size // 2, plan.fixed, plan.per_input)
    if plan.peak > memory_limit:
        raise InputError(
            f"memory limit {format_bytes(memory_limit)}: one picture at a time needs {format_bytes(plan.peak)} "
            f"(weights and projections {format_bytes(plan.fixed)}; the largest map, {largest.uid}, "
            f"{format_bytes(largest.n_bytes)}); raise the limit to at least that."
        )
    return plan
