"""Parts of a scoring, each a range of one model's layers: which layers, the files, and which of them make a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from deepjuice import versions
from deepjuice.results.storage import with_texts
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import atomic_path, reading

OWN_ATTRIBUTES = ("part", "wall_time_score_s")
"""What parts of one scoring may differ in; all other attributes say what was scored, by what and how."""


@dataclass(frozen=True)
class Part:
    """One of several nearly equal, contiguous ranges of a model's layers in the order of the computation.

    Raises InputError unless 1 <= number <= of.

    >>> [Part(number, 3).layers(7) for number in (1, 2, 3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise InputError(f"part {self}: expected K/N with 1 <= K <= N, such as 2/8.")

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return the part that a text such as `2/8` names; InputError for any other text."""
        match = re.fullmatch("([0-9]+)/([0-9]+)", text)
        if not match:
            raise InputError(f"part {text!r}: expected K/N with whole numbers 1 <= K <= N, such as 2/8.")
        return cls(int(match[1]), int(match[2]))

    def layers(self, n_layers: int) -> slice:
        """Return its range of `n_layers` layers; some are empty where there are more parts than layers."""
        return slice((self.number - 1) * n_layers // self.of, self.number * n_layers // self.of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def write_part(ds: xr.Dataset, path: str | Path) -> Path:
    """Write what `score_part` returned as NetCDF4, whole or not at all; return the path."""
    # Not compressed: it lives until its model is joined, and resamples hardly shrink.
    with atomic_path(path) as tmp:
        ds.to_netcdf(tmp, engine="h5netcdf", format="NETCDF4")
    return Path(path)


@contextmanager
def open_parts(paths: Iterable[str | Path]) -> Iterator[list[xr.Dataset]]:
    """Open the files of all parts of one scoring, given in any order; arrays are read when used, inside the block.

    Yields them in the order of their layers, for `join_parts`. Raises InputError, naming the file, if one is missing,
    is no part or no readable NetCDF4, if one differs from the first in what was scored, by what or how, if they are
    of an earlier version of scoring, and if a part is there twice or not at all.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise InputError("No parts to join; score them first, with deepjuice score --part.")
    with ExitStack() as stack:
        parts = [_open(path, stack) for path in paths]
        numbers = [_number(path, part) for path, part in zip(paths, parts, strict=True)]
        _check_alike(paths, numbers, parts)
        _check_whole(paths, numbers)
        yield [parts[place] for place in sorted(range(len(parts)), key=lambda place: numbers[place].number)]


def _open(path: Path, stack: ExitStack) -> xr.Dataset:
    if not path.is_file():
        raise InputError(f"No part at {path}; deepjuice score --part writes one.")
    with reading(path, "NetCDF4"):
        ds = with_texts(stack.enter_context(xr.open_dataset(path, engine="h5netcdf", cache=False)))
    if "part" not in ds.attrs:
        raise InputError(f"{path} is no part of a scoring; join takes the files that deepjuice score --part writes.")
    return ds


def _number(path: Path, part: xr.Dataset) -> Part:
    try:
        return Part.parse(str(part.attrs["part"]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _check_alike(paths: Sequence[Path], numbers: Sequence[Part], parts: Sequence[xr.Dataset]) -> None:
    expected = parts[0].attrs
    names = dict.fromkeys(["model_uid", *sorted({name for part in parts for name in part.attrs})])
    for path, number, part in zip(paths, numbers, parts, strict=True):
        for name in names:
            found = part.attrs.get(name)
            if name not in OWN_ATTRIBUTES and found != expected.get(name):
                raise InputError(
                    f"{path}: {name} is {found}, but {expected.get(name)} in {paths[0]}; join parts that were scored "
                    "from one store and benchmark with the same settings, versions and device."
                )
        if number.of != numbers[0].of:
            raise InputError(f"{path}: part {number}, but {numbers[0]} in {paths[0]}; join parts of one division.")
    if expected.get("stage_score") != versions.SCORE:
        raise InputError(
            f"{paths[0]}: expected a part by version {versions.SCORE} of scoring, got one by version "
            f"{expected.get('stage_score')}; score the parts again."
        )


def _check_whole(paths: Sequence[Path], numbers: Sequence[Part]) -> None:
    found: dict[Part, Path] = {}
    for path, number in zip(paths, numbers, strict=True):
        if number in found:
            raise InputError(f"{path}: part {number} was already read from {found[number]}; give every part once.")
        found[number] = path
    missing = [number for number in (Part(k + 1, numbers[0].of) for k in range(numbers[0].of)) if number not in found]
    if missing:
        raise InputError(
            f"{paths[0]} is part {numbers[0]} of a scoring whose parts {first_names(missing)} are missing; score these "
            "too, and give the files of all parts."
        )
