"""Names of a package that are loaded when they are first used, so that importing the package is quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """Return a package's `__getattr__` and the sorted names that it finds, from {module: names that live there}.

    >>> find, names = lazy_names("mathematics", {"math": ["pi", "tau"]})
    >>> find("pi") < 4, names
    (True, ['pi', 'tau'])
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name in home_of:
            return getattr(import_module(home_of[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find, sorted(home_of)
