"""Threads that wait for servers, and that nobody has to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from queue import SimpleQueue
from typing import TypeVar

from juicyfruits.remote.errors import FetchError

GRACE_S = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Another file failed, or the user pressed Ctrl-C."""


class Threads:
    """`n` threads that do what they are given, in that order, and end with the process.

    The threads of `concurrent.futures.ThreadPoolExecutor` are joined at exit, so that a silent server would keep the
    process alive after Ctrl-C.

    >>> threads = Threads(2)
    >>> [future.result() for future in threads.map(abs, [-1, 2])]
    [1, 2]
    >>> threads.close()
    """

    def __init__(self, n: int) -> None:
        self._n, self._tasks = n, SimpleQueue()
        for _ in range(n):
            threading.Thread(target=_work, args=(self._tasks,), daemon=True).start()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Future[Result]]:
        """Begin `function(item)` of each item."""
        tasks = [(Future(), function, item) for item in items]
        for task in tasks:
            self._tasks.put(task)
        return [future for future, _, _ in tasks]

    def close(self) -> None:
        """Let the threads end when they have done what they were given, without waiting for it."""
        for _ in range(self._n):
            self._tasks.put(None)


def in_threads(function: Callable[[Item, threading.Event], Result], items: list[Item], n: int) -> list[Result]:
    """Return `function(item, stop)` of each item; an error sets `stop`, and is raised when all threads have ended.

    After Ctrl-C they are given a second to end; those that wait for a server are left behind.
    """
    stop = threading.Event()

    def run(item: Item) -> Result:
        try:
            if stop.is_set():
                raise StoppedError
            return function(item, stop)
        except BaseException:
            stop.set()
            raise

    threads = Threads(min(n, len(items)))
    futures = threads.map(run, items)
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        wait(futures)
    finally:
        stop.set()
        threads.close()
        wait(futures, timeout=GRACE_S)
    failed = [error for future in futures if (error := future.exception()) and not isinstance(error, StoppedError)]
    if len(failed) > 1 and isinstance(failed[0], FetchError):
        raise type(failed[0])(f"{failed[0]} ({len(failed) - 1} more of {len(items)} files failed as well)")
    if failed:
        raise failed[0]
    return [future.result() for future in futures]


def _work(tasks: SimpleQueue) -> None:
    while task := tasks.get():
        future, function, item = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(item))
            except BaseException as error:
                future.set_exception(error)
        del task, future, function, item  # an idle thread keeps nothing alive
