"""The one mechanism that watches a network run: events with uids, and the listeners that take part."""

from deepjuice.tracing.events import Event, Listener, tensors_in
from deepjuice.tracing.handles import attach, check_heard
from deepjuice.tracing.tracer import Tracer, evaluating, n_rows, run_model

__all__ = ["Event", "Listener", "Tracer", "attach", "check_heard", "evaluating", "n_rows", "run_model", "tensors_in"]
