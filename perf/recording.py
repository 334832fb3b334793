"""What the scripts here share: a table that is shown, and kept, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def record(lines: Iterable[str], out: Path) -> None:
    """Print lines as they come, and write them to a file, so that what was measured stays if the rest does not come."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as file:
        for line in lines:
            print(line, flush=True)
            print(line, file=file, flush=True)
