"""The one way in which extraction runs a model over its inputs, batch after batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from deepjuice.extraction.inputs import Batch, Inputs, take, to_model
from deepjuice.tracing import Tracer, evaluating, n_rows, run_model
from deepjuice.tracing.events import Listener
from juicyfruits.errors import InputError

log = logging.getLogger(__name__)

PRECISIONS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def autocast(device: torch.device, precision: str):
    """Return the context in which a pass computes in `float32` (as the model is), `float16` or `bfloat16`."""
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r}: expected one of {', '.join(map(repr, PRECISIONS))}.")
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def run_pass(
    model: nn.Module,
    inputs: Inputs,
    listener: Listener,
    device: torch.device,
    *,
    after_batch: Callable[[slice], None] = lambda rows: None,
    forward: Callable[[nn.Module, Any], Any] = run_model,
    stop_after: Collection[str] = (),
    precision: str = "float32",
    start_row: int = 0,
) -> None:
    """Run a model over all inputs, in eval mode and without gradients.

    Where the device has no memory for a batch, the batch is halved until it fits, and so are those that follow: the
    listener then hears several events with smaller `rows` a batch, and may hear the same rows again.

    Args:
        model: on `device` already.
        inputs: the batches.
        listener: told of every call; what it keeps it must address by `event.rows`.
        device: where the model is.
        after_batch: called with the rows of every batch of the inputs when all of it has gone through.
        forward, stop_after: as for `Tracer`.
        precision: `'float32'`, `'float16'` or `'bfloat16'`; the last two by autocast, which leaves the weights alone.
        start_row: place of the first input in the whole set.

    Raises:
        InputError: when not even one input fits.
    """
    most: int | None = None  # inputs that go through at once, as far as is known
    row = start_row
    with evaluating(model), Tracer(model, listener, forward, stop_after) as tracer, autocast(device, precision):
        for batch in inputs:
            size, done = n_rows(batch), 0
            while done < size:
                part = take(batch, slice(done, min(size, done + (most or size))))
                if _fits(tracer, part, device, row + done):
                    done += n_rows(part)
                    continue
                if n_rows(part) == 1:
                    raise InputError(f"{device}: out of memory with a single input; choose another device.")
                most = n_rows(part) // 2
                log.warning("%s: out of memory with %d inputs at once; going on with %d", device, n_rows(part), most)
            row += size
            after_batch(slice(row - size, row))


def _fits(tracer: Tracer, x: Batch, device: torch.device, row: int) -> bool:
    """Run a part of a batch; `False` if memory ran out. What the failed pass held is free again on return."""
    try:
        tracer(to_model(x, tracer.model, device), start_row=row)
        return True
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return False


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text
