"""One thread that works beside the forward pass, in order, and never far behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

DEPTH = 8  # jobs that may wait


class Background:
    """Run jobs one after another in a thread; at most `depth` of them wait, so that memory stays bounded.

    Use it as a context manager. A job's error is raised by a later `run` or when the block ends, and the jobs behind
    it are dropped; if the block itself ends with an error, so are all that still wait.

    >>> done = []
    >>> with Background() as background:
    ...     for number in range(3):
    ...         background.run(done.append, number)
    >>> done
    [0, 1, 2]
    """

    def __init__(self, depth: int = DEPTH):
        self.depth = depth
        self._waiting: deque[Future] = deque()

    def __enter__(self) -> Background:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._failed = False
        return self

    def run(self, job: Callable, *args: Any) -> None:
        """Queue one job; waits while the queue is full."""
        while self._waiting and (len(self._waiting) >= self.depth or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._do, job, *args))

    def _do(self, job: Callable, *args: Any) -> None:
        if self._failed:
            return
        try:
            job(*args)
        except BaseException:
            self._failed = True
            raise

    def __exit__(self, kind: type | None, *exc: object) -> None:
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
