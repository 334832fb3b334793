"""Hooks on every module of a network, turned into one stream of events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from deepjuice.tracing.events import Call, Event, Listener
from deepjuice.tracing.handles import attach, check_heard
from juicyfruits.errors import InputError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model into eval mode without gradients, and give every module its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


class _PassDone(BaseException):
    """Ends a forward pass after its last needed call; no model's `except Exception` can swallow it."""


def run_model(model: nn.Module, x: Any) -> Any:
    """Call a model on one batch: a tensor as its argument, a dictionary (tokenised text) as its keywords."""
    return model(**x) if isinstance(x, Mapping) else model(x)


def n_rows(x: Any) -> int:
    """Return the number of inputs of a batch: the length of the tensor, or of a dictionary's first one.

    >>> n_rows({"input_ids": torch.zeros(3, 7)})
    3
    """
    return len(next(iter(x.values())) if isinstance(x, Mapping) else x)


class Tracer:
    """Tell a listener of every call of every module, batch after batch, under uids that stay the same.

    A call gets its uid when it begins and becomes an event when it completes, so that leaves come before the
    containers that end in them. The first pass fixes the sequence of calls; a later pass that departs from it is
    refused with both names. Use it as a context manager: the hooks are gone when the block ends, however it ends.

    Args:
        model: any module; it is not changed, nor put into another mode.
        listener: called with each `Event`.
        forward: how a batch is put through the model; by default `run_model`.
        stop_after: uids of calls; a pass ends as soon as all of them have completed, and returns `None`.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> seen = []
    >>> with Tracer(net, lambda event: seen.append(event.call.uid)) as tracer:
    ...     _ = tracer(torch.ones(2, 4))
    >>> seen, [call.uid for call in tracer.calls]
    (['Linear-1-1', 'ReLU-1-2', 'Sequential-0-1'], ['Sequential-0-1', 'Linear-1-1', 'ReLU-1-2'])
    """

    def __init__(
        self,
        model: nn.Module,
        listener: Listener,
        forward: Callable[[nn.Module, Any], Any] = run_model,
        stop_after: Collection[str] = (),
    ):
        self.model = model
        self.listener = listener
        self.forward = forward
        self.stop_after = frozenset(stop_after)
        self.calls: list[Call] = []  # in the order in which they begin, as the first pass had them
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._open: list[Call] = []
        self._complete = False

    def __enter__(self) -> Tracer:
        for path, module in self.model.named_modules():
            check_heard(path, module)
        for path, module in self.model.named_modules():
            self._handles.append(attach(module, "begin", self._begin, path))
            self._handles.append(attach(module, "end", self._end, path))
        return self

    def __exit__(self, *exc: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def __call__(self, x: Any, start_row: int = 0) -> Any:
        """Run one forward pass over a batch; `start_row` is the place of its first input in the whole set."""
        if not self._complete:
            self.calls.clear()  # of a first pass that failed, and is now tried again
        self._rows = slice(start_row, start_row + n_rows(x))
        self._begun = 0
        self._open = []
        self._waiting = set(self.stop_after)
        self._per_depth: Counter[int] = Counter()
        self._per_path: Counter[str] = Counter()
        try:
            output = self.forward(self.model, x)
        except _PassDone:
            self._complete = True
            return None
        if self._complete and self._begun != len(self.calls):
            raise InputError(
                f"rows {self._rows.start}-{self._rows.stop - 1}: expected {len(self.calls)} module calls as in the "
                f"first batch, got {self._begun}; the next would have been {self.calls[self._begun].uid}. "
                "A model whose layers depend on its input cannot be compared layer by layer."
            )
        self._complete = True
        return output

    @property
    def innermost(self) -> Call | None:
        """The call that has begun and within which no other is; None between passes."""
        return self._open[-1] if self._open else None

    def _begin(self, path: str, module: nn.Module, _inputs: tuple) -> None:
        depth = len(path.split(".")) if path else 0
        self._per_depth[depth] += 1
        name = type(module).__name__
        call = Call(f"{name}-{depth}-{self._per_depth[depth]}", path, self._per_path[path], depth, name)
        self._per_path[path] += 1
        if self._complete:
            self._check_repeats(call)
        else:
            self.calls.append(call)
        self._begun += 1
        self._open.append(call)

    def _end(self, path: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        call = self._open.pop()
        while call.path != path:  # calls that raised, and whose error the model caught, never complete
            call = self._open.pop()
        self.listener(Event(call, module, inputs, output, self._rows))
        if call.uid in self._waiting:
            self._waiting.discard(call.uid)
            if not self._waiting:
                raise _PassDone

    def _check_repeats(self, call: Call) -> None:
        expected = self.calls[self._begun] if self._begun < len(self.calls) else None
        if call != expected:
            known = f"{expected.uid} ({expected.path})" if expected else "the end of the network"
            raise InputError(
                f"rows {self._rows.start}-{self._rows.stop - 1}: call {self._begun + 1} was expected to be {known} as "
                f"in the first batch, got {call.uid} ({call.path}). A model whose layers depend on its input "
                "cannot be compared layer by layer."
            )
