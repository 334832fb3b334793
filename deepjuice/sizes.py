"""Sizes in bytes and counts, read and printed; light, since the workflow reads them at every start."""

from __future__ import annotations

import re
from collections.abc import Iterable

from juicyfruits.errors import InputError

UNITS = ("B", "KB", "MB", "GB", "TB")


def parse_bytes(size: str | int | float) -> int:
    """Turn `'16GB'`, `'500 MB'` or a number of bytes into bytes (1 KB = 1024 B).

    >>> parse_bytes("1.5KB"), parse_bytes(10)
    (1536, 10)
    """
    if isinstance(size, (int, float)) and not isinstance(size, bool) and 0 < size < float("inf"):
        return int(size)
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)I?B?\s*", str(size).upper())
    if not match or float(match[1]) == 0:
        raise InputError(f"memory limit {size!r}: expected a positive size such as '8GB' or '500MB'.")
    return int(float(match[1]) * 1024 ** UNITS.index(f"{match[2]}B"))


def format_bytes(n_bytes: float, digits: int = 2) -> str:
    """Write a number of bytes in its natural unit (1 KB = 1024 B).

    >>> format_bytes(1536), format_bytes(700)
    ('1.50 KB', '700.00 B')
    """
    power = 0
    while n_bytes >= 1024 and power < len(UNITS) - 1:
        n_bytes /= 1024
        power += 1
    return f"{n_bytes:.{digits}f} {UNITS[power]}"


def printed_total(sizes: Iterable[float], times: int = 1) -> str:
    """Add sizes as they are printed: each rounded to two decimals of its own unit, times `times`, then summed.

    Reports show a column of rounded sizes and their total; this total is the sum of the column.
    """
    return format_bytes(times * sum(_read_printed(format_bytes(size)) for size in sizes))


def _read_printed(printed: str) -> float:
    """Read what `format_bytes` wrote, in bytes, without rounding to whole bytes."""
    number, unit = printed.split()
    return float(number) * 1024 ** UNITS.index(unit)


def counted(count: int, what: str) -> str:
    """Say how many there are of something.

    >>> counted(1, "model"), counted(0, "model")
    ('1 model', '0 models')
    """
    return f"{count} {what}{'s' * (count != 1)}"
