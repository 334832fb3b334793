"""Which maps to keep, and how they fit under a memory limit."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepjuice.extraction.inspection import Inspection, MapRecord
from deepjuice.sizes import format_bytes
from juicyfruits.errors import InputError, near_names

Names = str | Sequence[str] | None


def search_uids(records: Sequence[MapRecord], text: str) -> list[str]:
    """Return the uids of the maps whose uid, class or module path contains a text, in any case."""
    text = text.lower()
    return [r.uid for r in records if text in r.uid.lower() or text in r.path.lower()]


def choose(inspection: Inspection, keep: Names, skip: Names, remove_duplicates: bool) -> list[MapRecord]:
    """Return the records to keep, in the order in which calls begin.

    A name is a uid, a module's path (all its calls), or a part of uids. A uid that is asked for by name is kept even
    if it repeats another map.

    Raises:
        InputError: for a name that fits no map, with the reason if that output is no map, or when nothing is left.
    """
    records = inspection.records
    skipped = {uid for name in _listed(skip, "skip") for uid in _resolve(inspection, name)}
    if keep is None:
        chosen = inspection.distinct if remove_duplicates else records
    else:
        names = _listed(keep, "keep")
        kept = {uid for name in names for uid in _resolve(inspection, name)}
        chosen = [record for record in records if record.uid in kept]
        if remove_duplicates:
            first = first_of_equals(chosen)
            chosen = [record for record in chosen if record.uid not in first or record.uid in names]
    chosen = [record for record in chosen if record.uid not in skipped]
    if not chosen:
        raise InputError(f"keep and skip leave none of the {len(records)} feature maps; keep at least one.")
    return chosen


def first_of_equals(records: Sequence[MapRecord]) -> dict[str, str]:
    """Return uid -> uid of the first of these maps to complete with the same values, for those that repeat it."""
    firsts: dict[str, str] = {}
    equals = {}
    for record in sorted(records, key=lambda record: record.order):
        first = firsts.setdefault(record.alias_of or record.uid, record.uid)
        if first != record.uid:
            equals[record.uid] = first
    return equals


def group_by_memory(
    records: Sequence[MapRecord], n_rows: int, limit: int, exclude_oversize: bool = False
) -> tuple[list[list[MapRecord]], list[MapRecord]]:
    """Fill groups greedily, in order, each at most `limit` bytes; return them, and the maps that are too large.

    Raises:
        InputError: for a map that alone is larger than the limit unless those are excluded, or if all are.
    """
    groups: list[list[MapRecord]] = []
    oversize = []
    used = 0
    for record in records:
        size = record.n_bytes * n_rows
        if size > limit and exclude_oversize:
            oversize.append(record)
            continue
        if size > limit:
            raise InputError(
                f"memory limit {format_bytes(limit)}: feature map {record.uid} alone needs {format_bytes(size)} for "
                f"{n_rows} inputs; raise the limit to at least that, leave the map out with skip= or "
                "exclude_oversize=True, or project the maps instead of keeping them (deepjuice extract)."
            )
        if not groups or used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(record)
        used += size
    if not groups:
        raise InputError(
            f"memory limit {format_bytes(limit)}: each of the {len(oversize)} feature maps alone is larger; raise it."
        )
    return groups, oversize


def _listed(names: Names, setting: str) -> list[str]:
    names = [names] if isinstance(names, str) else list(names or ())
    for name in names:
        if not isinstance(name, str) or not name:
            raise InputError(f"{setting}: expected uids, module paths or parts of uids, got {name!r}; see get_uids().")
    return names


def _resolve(inspection: Inspection, name: str) -> list[str]:
    """Return the uids that a name means; a whole uid never stands for those that begin like it."""
    known = [record.uid for record in inspection.records]
    if name in known:
        return [name]
    if name in inspection.refused:
        raise InputError(f"feature map {name!r} cannot be kept: {inspection.refused[name]}.")
    found = [record.uid for record in inspection.records if record.path == name]
    if not found and not re.search(r"-\d+-\d+$", name):
        found = [uid for uid in known if name.lower() in uid.lower()]
    if not found:
        raise InputError(f"feature map {name!r} is not one of this model's {len(known)}: {near_names(name, known)}")
    return found
