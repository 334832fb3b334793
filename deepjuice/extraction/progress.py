"""Bars that nest, and lines that do not tear them."""

from __future__ import annotations

from collections.abc import Iterable

from tqdm.auto import tqdm


def progress_bar(
    description: str, shown: bool, total: int | None = None, iterable: Iterable | None = None, **options
) -> tqdm:
    """Return a bar that stays when it is the outermost one, and makes room when it ends inside another."""
    bar = tqdm(iterable, description, total=total, disable=not shown, **options)
    if shown:
        bar.leave = bar.pos == 0  # said aloud, since in notebooks leave=None would hide the outermost bar too
    return bar


def say(text: str, shown: bool = True) -> None:
    """Print a line above the bars that are running."""
    if shown:
        tqdm.write(text)
