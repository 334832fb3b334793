"""One line a stage: bars that move on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TextIO

from tqdm import tqdm

from snakemake_logger_plugin_deepjuice.stages import Stage

STEPS = 10  # a stage
OFTEN_S, SELDOM_S = 10.0, 1800.0  # plain lines come at most and at least so often


def room(stream: TextIO) -> int:
    """Return the number of lines of the terminal behind a stream; 0 where there is none, or one of unknown size."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 0
    return size.lines if size.columns > 0 else 0


class Bars:
    """A bar a stage on a terminal, below all that is printed meanwhile."""

    def __init__(self, stream: TextIO, stages: Iterable[Stage]):
        stages = list(stages)
        self._stream = stream
        width = max((len(stage.name) for stage in stages), default=0)
        self._bars = {
            stage.name: _Bar(desc=f"{stage.name:<{width}}", total=stage.total, position=place, file=stream)
            for place, stage in enumerate(stages)
        }

    def show(self, stage: Stage, now: float) -> None:
        """Move a bar to where its stage is."""
        bar = self._bars[stage.name]
        bar.n, bar.text = stage.fraction * stage.total, stage.text(now)
        bar.refresh()

    def writing(self) -> AbstractContextManager:
        """Make room for what others print within the block."""
        return tqdm.external_write_mode(file=self._stream)

    def close(self) -> None:
        """Take the bars away."""
        for bar in reversed(self._bars.values()):
            bar.close()


class Lines:
    """A plain line when a stage begins, has moved on by a good step, or ends; for files, schedulers' logs, pipes."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._told: dict[str, tuple[bool, int, float]] = {}  # whether settled, steps and time of the last line

    def show(self, stage: Stage, now: float) -> None:
        """Print a line if the stage has something new to tell."""
        if stage.began is None:
            return
        steps = int(stage.fraction * STEPS + 1e-9)
        if stage.name in self._told:
            settled, before, when = self._told[stage.name]
            moved = steps > before and now >= when + OFTEN_S
            ended = stage.settled and not settled
            if not ended and (settled or not (moved or now >= when + SELDOM_S)):
                return
        self._told[stage.name] = stage.settled, steps, now
        print(f"{stage.name}: {stage.text(now)}", file=self._stream, flush=True)

    def writing(self) -> AbstractContextManager:
        """Nothing needs to make room."""
        return nullcontext()

    def close(self) -> None:
        """Nothing stays open."""


class _Bar(tqdm):
    """A bar whose right side is a text of ours, since tqdm's own knows whole steps only."""

    def __init__(self, **options: Any):
        self.text = ""
        super().__init__(
            bar_format="{desc} {percentage:3.0f}%|{bar:20}| {text}", leave=False, dynamic_ncols=True, **options
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "text": self.text}
