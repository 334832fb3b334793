"""What `Benchmark.subset` is asked for: names and masks, checked against the benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from juicyfruits.errors import InputError, first_names, near_names
from juicyfruits.prepared import REPEATS, check_split

if TYPE_CHECKING:
    from juicyfruits.benchmark import Benchmark


def known(benchmark: Benchmark, what: str, names: str | Iterable[str] | None, all_names: list[str]) -> list[str]:
    """Return the named ones, each once, or all for None; an unknown name, or none at all, is an `InputError`."""
    try:
        names = all_names if names is None else [names] if isinstance(names, str) else list(dict.fromkeys(names))
    except TypeError:  # no list, or a list of lists
        raise InputError(f"{what} must be chosen by a name or a list of names, but {names!r} came; list them") from None
    known_names = set(all_names)
    for name in names:
        if name not in known_names:
            raise InputError(f"no {what} {name!r} in benchmark {benchmark.name!r}; {near_names(name, all_names)}")
    if not names:
        raise InputError(f"no {what} chosen from benchmark {benchmark.name!r}; known are {first_names(all_names, 20)}")
    return names


def neuroids(benchmark: Benchmark, subjects: list[str], ncsnr: float | None) -> np.ndarray:
    """Mark the neuroids of these subjects whose ncsnr is above the threshold: bool (neuroid,)."""
    rows = benchmark.metadata["subject"].isin(subjects).to_numpy()
    if ncsnr is not None:
        benchmark.need_responses()
        if not isinstance(ncsnr, Real):
            raise InputError(f"ncsnr must be a number, but is {ncsnr!r}; give the threshold, such as 0.2")
        rows = rows & (benchmark.metadata["ncsnr"] > ncsnr).to_numpy()
        if not rows.any():
            raise InputError(
                f"no neuroid of {', '.join(subjects)} has an ncsnr above {ncsnr:g}; the largest is "
                f"{benchmark.metadata['ncsnr'].max():g}, so lower the threshold"
            )
    return rows


def rois(
    benchmark: Benchmark, names: str | Iterable[str] | None, subjects: list[str], neuroids: np.ndarray
) -> list[str]:
    """Return the named ROIs, or all, that have some of these neuroids (or RDMs of these subjects)."""
    if benchmark.kind == "rdms":
        present = [roi for roi in benchmark.rois if set(subjects) & set(benchmark.rdms[roi])]
    else:
        present = [roi for roi in benchmark.rois if benchmark.metadata[roi].to_numpy()[neuroids].any()]
    chosen = present if names is None else known(benchmark, "ROI", names, benchmark.rois)
    for roi in chosen:
        if roi not in present:
            raise InputError(
                f"ROI {roi!r} has no neuroids in {', '.join(subjects)}, or none above the ncsnr threshold; choose "
                "other ROIs or subjects, or lower the threshold"
            )
    return known(benchmark, "ROI", chosen, benchmark.rois)


def stimuli(benchmark: Benchmark, chosen: Iterable[str] | np.ndarray | None) -> np.ndarray:
    """Mark the chosen stimuli, given as ids or as a mask: bool (stimulus,)."""
    ids = list(benchmark.stimulus_data["stimulus_id"])
    if chosen is None:
        return np.ones(len(ids), bool)
    chosen = list(chosen) if isinstance(chosen, Iterable) and not isinstance(chosen, str) else chosen
    if isinstance(chosen, list) and chosen and all(isinstance(flag, (bool, np.bool_)) for flag in chosen):
        if len(chosen) != len(ids):
            raise InputError(f"a mask of stimuli must have the shape ({len(ids)},), but has ({len(chosen)},)")
        return np.array(chosen)
    return np.isin(ids, known(benchmark, "stimulus", chosen, ids))


def stimulus_table(benchmark: Benchmark, rows: np.ndarray, subjects: list[str]) -> pd.DataFrame:
    """Return the table of these stimuli (a mask), each with the split it had, without the repeats of other subjects."""
    others = [f"{REPEATS}_{subject}" for subject in benchmark.subjects if subject not in subjects]
    table = benchmark.stimulus_data.drop(columns=others, errors="ignore")
    if rows.all():
        return table
    table = table.assign(split=np.where(benchmark.train, "train", "test"))[rows].reset_index(drop=True)
    check_split(f"{benchmark.name}, {len(table)} chosen stimuli", table)
    return table


def stimulus_row(benchmark: Benchmark, index: int | str) -> int:
    """Return the row number of a stimulus, given as that or by its id."""
    ids = list(benchmark.stimulus_data["stimulus_id"])
    if isinstance(index, str):
        return ids.index(known(benchmark, "stimulus", index, ids)[0])
    if not isinstance(index, Integral):
        raise InputError(f"a stimulus must be given by its row number or its stimulus_id, but {index!r} is neither")
    if not -len(ids) <= index < len(ids):
        raise InputError(f"no stimulus {index} in benchmark {benchmark.name!r}; it has {len(ids)}: 0 to {len(ids) - 1}")
    return index
