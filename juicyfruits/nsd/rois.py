"""From ROI volumes to masks: labels, areas in parts, the voxel sets EVC and OTC, and expressions of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from juicyfruits.errors import InputError, near_names
from juicyfruits.nsd import layout

ReadMap = Callable[[str], np.ndarray]
"""Gives the volume (X, Y, Z) of an ROI map by its name, such as "streams"."""


def _otc() -> str:
    strong = [
        f"({' | '.join(area for area in layout.OTC_AREAS if area in layout.ROI_MAPS[name].values())}) & {tvalues}"
        for tvalues, name in layout.FLOC_TVALUES.items()
    ]
    return " | ".join([f"nsdgeneral & ({' | '.join(layout.OTC_STREAMS)})", *strong])


DEFINITIONS: dict[str, str] = {
    "EVC": "prf-visualrois",
    "OTC": _otc(),
    **{area: " | ".join(parts) for area, parts in layout.ROI_GROUPS.items()},
}
"""Names that stand for an expression: the voxel sets of [DeepNSD] in `juicyfruits.nsd.layout`, and areas in parts."""

TOKEN = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9+.-]*|[&|!()])")

MAX_LENGTH = 400  # characters: brackets nest no deeper than Python's stack
Tree = tuple
"""("name", NAME), ("!", tree), ("&", tree, tree) or ("|", tree, tree)."""


def known_rois() -> list[str]:
    """Every name that an expression may hold: voxel sets and areas, whole maps, and the single labels of the maps."""
    labels = [label for table in layout.ROI_MAPS.values() for label in table.values()]
    return list(dict.fromkeys([*DEFINITIONS, *layout.ROI_MAPS, *layout.FLOC_TVALUES, *labels]))


def named_rois(rois: Sequence[str]) -> dict[str, str]:
    """Return name -> expression of ROIs such as "V1" or "faces=floc-faces & ventral", after checking all of them.

    Without a name of its own, an expression is its own name. Raises `InputError` for an expression that cannot be read,
    an unknown name in it, and for two ROIs of one name.

    >>> named_rois(["V1", "faces = FFA | OFA"])
    {'V1': 'V1', 'faces': 'FFA | OFA'}
    """
    named: dict[str, str] = {}
    for roi in rois:
        name, _, expression = (part.strip() for part in (roi if "=" in roi else f"{roi}={roi}").partition("="))
        parse(expression)
        if not name:
            raise InputError(f"ROI {roi!r} has no name before '='; write NAME=EXPRESSION, or the expression alone")
        if named.get(name, expression) != expression:
            raise InputError(f"two ROIs are called {name!r}, {named[name]!r} and {expression!r}; give one another name")
        named[name] = expression
    return named


def roi_mask(expression: str, read_map: ReadMap) -> np.ndarray:
    """Return the boolean mask (X, Y, Z) of an ROI expression, such as "nsdgeneral & (ventral | FFA) & !V1".

        a & b   in both                  a | b   in either
        !a      in cortex (where nsdgeneral's code is not below 0), but not in a
        MAP     any label of that map (code above 0), such as nsdgeneral, streams, floc-faces
        LABEL   one label of a map, such as V1v, FFA-1, ventral
        floc-faces-tval, and so on: where the t-value of the contrast behind that floc map is at least 1
        V1, V2, V3, FFA, FBA, VWFA: their parts
        EVC     prf-visualrois
        OTC     nsdgeneral within the streams midventral, midlateral, ventral and lateral, or one of the floc areas
                OFA, FFA, EBA, FBA, OPA, PPA, OWFA and VWFA with a t-value of at least 1

    `!` binds closest, then `&`, then `|`; parentheses group. Raises `InputError` for an expression that cannot be read,
    and for unknown names. Source of EVC and OTC: [DeepNSD] in `juicyfruits.nsd.layout`.

    >>> maps = {"streams": [-1, 0, 5, 6], "floc-faces": [-1, 2, 2, 0], "nsdgeneral": [-1, 0, 1, 1]}
    >>> maps = {name: np.array(codes, ndmin=3) for name, codes in maps.items()}
    >>> roi_mask("FFA & ventral", maps.get).astype(int)
    array([[[0, 0, 1, 0]]])
    >>> roi_mask("!ventral", maps.get).astype(int)
    array([[[0, 1, 0, 1]]])
    """
    return _evaluate(parse(expression), read_map)


def needed_maps(rois: Sequence[str] | None) -> set[str]:
    """Return the names of the ROI maps that expressions read; None stands for the defaults: all voxel sets and areas.

    >>> sorted(needed_maps(["early = V1 | V2", "FFA & nsdgeneral"]))
    ['floc-faces', 'nsdgeneral', 'prf-visualrois']
    """
    expressions = named_rois(rois or [*layout.VOXEL_SETS, *layout.FINER_ROIS]).values()
    return {name for expression in expressions for name in _maps(parse(expression))}


def parse(expression: str) -> Tree:
    """Return an expression as a tree, in which only whole maps and single labels are left as names."""
    if len(expression) > MAX_LENGTH:
        raise InputError(
            f"ROI expression {expression[:40]!r}... has more than {MAX_LENGTH} characters; name areas in parts"
        )
    tokens = _Tokens(expression)
    tree = _either(tokens)
    if tokens.ahead is not None:
        raise tokens.error("an operator (&, |)")
    return tree


class _Tokens:
    """The tokens of an expression, one ahead; None after the last."""

    def __init__(self, expression: str):
        self.expression, self.place, self.ahead = expression, 0, None
        self.take()

    def take(self) -> str | None:
        """Return the token ahead and step on."""
        token, match = self.ahead, TOKEN.match(self.expression, self.place)
        if match is None and self.expression[self.place :].strip():
            odd = self.expression[self.place :].strip()[0]
            raise InputError(
                f"ROI expression {self.expression!r} has {odd!r}, which has no meaning there; use names, &, |, ! and ()"
            )
        self.ahead, self.place = (match[1], match.end()) if match else (None, self.place)
        return token

    def error(self, expected: str) -> InputError:
        """Say what should have come instead of the token ahead."""
        came = "ends" if self.ahead is None else f"has {self.ahead!r}"
        return InputError(f"ROI expression {self.expression!r} {came} where {expected} is expected; correct it")


def _either(tokens: _Tokens) -> Tree:
    tree = _both(tokens)
    while tokens.ahead == "|":
        tree = (tokens.take(), tree, _both(tokens))
    return tree


def _both(tokens: _Tokens) -> Tree:
    tree = _one(tokens)
    while tokens.ahead == "&":
        tree = (tokens.take(), tree, _one(tokens))
    return tree


def _one(tokens: _Tokens) -> Tree:
    if tokens.ahead == "!":
        return (tokens.take(), _one(tokens))
    if tokens.ahead == "(":
        tokens.take()
        tree = _either(tokens)
        if tokens.ahead != ")":
            raise tokens.error("')'")
        tokens.take()
        return tree
    if tokens.ahead is None or tokens.ahead in "&|)":
        raise tokens.error("a name")
    name = tokens.take()
    if name not in known_rois():
        raise InputError(f"unknown ROI {name!r}; {near_names(name, known_rois())}")
    return parse(DEFINITIONS[name]) if name in DEFINITIONS else ("name", name)


def _evaluate(tree: Tree, read_map: ReadMap) -> np.ndarray:
    operator, *parts = tree
    if operator == "name":
        map_name, code = _place(parts[0])
        volume = read_map(map_name)
        if map_name in layout.FLOC_TVALUES:
            return volume >= layout.OTC_MIN_TVALUE
        return volume > 0 if code is None else volume == code
    masks = [_evaluate(part, read_map) for part in parts]
    if operator == "!":
        return (read_map("nsdgeneral") >= 0) & ~masks[0]
    return masks[0] & masks[1] if operator == "&" else masks[0] | masks[1]


def _maps(tree: Tree) -> Iterator[str]:
    operator, *parts = tree
    if operator == "name":
        yield _place(parts[0])[0]
        return
    if operator == "!":
        yield "nsdgeneral"
    for part in parts:
        yield from _maps(part)


def _place(name: str) -> tuple[str, int | None]:
    """Return the map of a name, and the code in it; None for a whole map."""
    if name in layout.ROI_MAPS or name in layout.FLOC_TVALUES:
        return name, None
    found = ((map_name, code) for map_name, table in layout.ROI_MAPS.items() for code in table if table[code] == name)
    return next(found)
