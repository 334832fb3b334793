"""Our numbers beside a peer's: what was compared, how far apart the two are, and whether that is too far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

MODULES = {"scikit-learn": "sklearn", "scipy": "scipy", "himalaya": "himalaya", "rsatoolbox": "rsatoolbox"}
"""What each peer is imported as."""


class Quantity(NamedTuple):
    """What is compared, and the largest absolute difference that rounding may make."""

    name: str
    tolerance: float


@dataclass(frozen=True)
class Difference:
    """One quantity of ours against one peer.

    Attributes:
        quantity: what was compared.
        peer: the peer, with its version.
        cases: how many numbers.
        largest: the largest absolute difference; infinite where one of the two has NaN and the other has not.
        tolerance: the most that is accepted.
        skipped: why nothing was compared; empty if something was.
    """

    quantity: str
    peer: str
    cases: int
    largest: float
    tolerance: float
    skipped: str = ""

    @property
    def differs(self) -> bool:
        """Whether the difference exceeds its tolerance."""
        return not self.skipped and not self.largest <= self.tolerance


def find_differences(
    ours: Mapping[Quantity, np.ndarray], peer: str, ask: Callable[[], Mapping[Quantity, np.ndarray]]
) -> list[Difference]:
    """Ask a peer for its numbers and compare ours with them; a peer that cannot be imported gives a line that says so.

    Args:
        ours: our numbers; quantities that the peer does not know are not compared.
        peer: its name, one of `MODULES`.
        ask: imports the peer and returns its numbers, in the shapes of ours.

    >>> r = Quantity("r", 1e-9)
    >>> [found] = find_differences({r: np.ones(3)}, "scipy", lambda: {r: np.ones(3)})
    >>> found.cases, found.largest, found.differs
    (3, 0.0, False)
    """
    try:
        import_module(MODULES[peer])
    except ImportError as error:
        return [Difference("all", peer, 0, np.nan, np.nan, f"cannot be imported ({error})")]
    name = f"{peer} {version(peer)}"
    theirs = ask()
    return [
        Difference(quantity.name, name, values.size, largest_difference(ours[quantity], values), quantity.tolerance)
        for quantity, values in theirs.items()
    ]


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return max |ours - theirs|; NaN in both places agrees, NaN in one of them, or another shape, is infinitely far.

    >>> largest_difference(np.array([1.0, np.nan]), np.array([1.5, np.nan]))
    0.5
    >>> largest_difference(np.array([np.nan]), np.array([0.0]))
    inf
    """
    if ours.shape != theirs.shape:
        return np.inf
    apart = np.where(np.isnan(ours) & np.isnan(theirs), 0.0, np.abs(ours - theirs))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0))


def largest_of_each(differences: list[Difference]) -> list[Difference]:
    """Return one line a quantity and peer: of all layers' the one with the largest difference, and the sum of cases."""
    groups: dict[tuple[str, str], list[Difference]] = {}
    for found in differences:
        groups.setdefault((found.quantity, found.peer), []).append(found)
    return [
        Difference(
            *(quantity, peer, sum(found.cases for found in group)),
            *(max(found.largest for found in group), group[0].tolerance, group[0].skipped),
        )
        for (quantity, peer), group in groups.items()
    ]


def format_table(differences: list[Difference]) -> str:
    """Return an aligned table, a line a difference.

    >>> print(format_table([Difference("r", "scipy 1.17", 20, 2e-16, 1e-9)]))
    quantity  peer        cases  largest difference  tolerance
    r         scipy 1.17     20               2e-16      1e-09  ok
    """
    rows = [("quantity", "peer", "cases", "largest difference", "tolerance", "")]
    for found in differences:
        numbers = (str(found.cases), f"{found.largest:.0e}", f"{found.tolerance:.0e}")
        verdict = f"skipped: {found.skipped}" if found.skipped else "DIFFERS" if found.differs else "ok"
        rows.append((found.quantity, found.peer, *(("0", "-", "-") if found.skipped else numbers), verdict))
    quantity, peer, cases, largest, tolerance, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    form = f"{{:{quantity}}}  {{:{peer}}}  {{:>{cases}}}  {{:>{largest}}}  {{:>{tolerance}}}  {{}}"
    return "\n".join(form.format(*row).rstrip() for row in rows)
