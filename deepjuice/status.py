"""The state of a results folder: what is done, what is not, what failed, and what is older than what it was made of.

Only headers and names are read, so that a thousand models take seconds; nothing is changed.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from juicyfruits.errors import InputError
from juicyfruits.run_lock import RUN

DONE, NONE, OTHER, UNREADABLE = "done", "none", "of other features", "unreadable"
YES, NO, OTHER_SCORES = "yes", "no", "with other scores"
IDENTITY = ("features_digest", "benchmark_digest", "config_digest", "stage_score")  # same: the scores are the same


@dataclass
class ModelStatus:
    """What there is of one model: `features` and `scores` are done, none, or a few words; `tables`: is it in them."""

    uid: str
    features: str
    scores: str
    tables: str
    n_bytes: int

    @property
    def finished(self) -> bool:
        """Whether nothing of it is missing or older than what it is made of."""
        return (self.features, self.scores, self.tables) == (DONE, DONE, YES)


@dataclass
class BenchmarkStatus:
    """The models of one benchmark, and when its tables were written, in seconds since the epoch, if they were."""

    name: str
    models: list[ModelStatus]
    tables_written: float | None
    n_bytes: int


@dataclass
class JobStatus:
    """A job that has not ended well since its log was begun: its log, and for how long that has been silent."""

    log: Path
    name: str
    silent_s: float


@dataclass
class FolderStatus:
    """The state of a results folder.

    Attributes:
        report: "none", "done", or that it is older than which tables.
        run: of a run that is on at this moment `pid`, `host` and `since`, otherwise None.
        jobs: those that run, or whose last attempt failed or was stopped.
    """

    path: Path
    benchmarks: list[BenchmarkStatus]
    report: str
    run: dict[str, Any] | None
    jobs: list[JobStatus] = field(default_factory=list)


def folder_status(path: str | Path) -> FolderStatus:
    """Read the state of the results folder `path`. Raises InputError where there is none."""
    path = Path(path)
    folders = sorted(f for f in _entries(path) if f.is_dir() and _is_benchmark(f))
    if not folders and not (path / "logs").is_dir():
        found = "a folder without any of these" if path.is_dir() else "no folder"
        raise InputError(
            f"{path}: expected a results folder of the workflow (with BENCHMARK/features, BENCHMARK/scores or logs), "
            f"found {found}; give the one that `results` names in your configuration."
        )
    benchmarks = [_benchmark_status(folder, path / "logs") for folder in folders]
    return FolderStatus(path, benchmarks, _report(path, benchmarks), _run(path), list(_jobs(path / "logs")))


def _benchmark_status(folder: Path, logs: Path) -> BenchmarkStatus:
    tabled, size = _tables(folder / "scores.nc"), 0
    # In this order, so that a whole store counts where an unfinished one lies beside it.
    found = sorted((f for f in _entries(folder / "features") if ".zarr" in f.suffixes), reverse=True)
    stores = {f.name.removesuffix(".partial").removesuffix(".zarr"): f for f in found}
    scores = {f.name.removesuffix(".nc"): f for f in _entries(folder / "scores") if f.suffix == ".nc"}
    parts = {f.name: f for f in _entries(folder / "scores" / "parts")}
    begun = {
        f.stem for stage in ("extract", "score") for f in _entries(logs / stage / folder.name) if f.suffix == ".log"
    }
    models = []
    for uid in tqdm(sorted({*stores, *scores, *parts, *begun, *tabled}), folder.name, leave=False, disable=None):
        features, digest, n_bytes = _features(stores.get(uid))
        score, identity, n_more = _scores(scores.get(uid), parts.get(uid), digest)
        in_tables = NO if uid not in tabled else YES if tabled[uid] == identity or identity is None else OTHER_SCORES
        models.append(ModelStatus(uid, features, score, in_tables, n_bytes + n_more))
        size += n_bytes + n_more
    tables = [f for f in _entries(folder) if f.is_file()]
    size += sum(map(_size, tables))
    return BenchmarkStatus(folder.name, models, _written(folder / "scores.nc"), size)


def _features(store: Path | None) -> tuple[str, str | None, int]:
    """Return the state of a feature store, its digest if it is whole, and its size in bytes, by its header."""
    if store is None:
        return NONE, None, 0
    try:
        attributes = json.loads((store / "zarr.json").read_text())["attributes"]
        header, digest = attributes["header"], attributes["digest"]
        stored = [m for m in header["maps"] if m["alias_of"] is None]
        columns = sum(min(math.prod(m["shape"]), header["reduction"]["width"]) for m in stored)
        row_bytes = columns * {"float32": 4, "float16": 2}[header["dtype"]]
        n_rows = int(header["n_stimuli"])
        if store.suffix == ".zarr":
            return DONE, digest, n_rows * row_bytes
        progress = store / "progress.json"
        rows = json.loads(progress.read_text())["rows_done"] if progress.exists() else 0
        return f"{rows} of {n_rows} rows", None, rows * row_bytes
    except (OSError, ValueError, KeyError, TypeError):
        return UNREADABLE, None, 0


def _scores(path: Path | None, parts: Path | None, digest: str | None) -> tuple[str, tuple | None, int]:
    """Return the state of a score file, what its scores depend on, and its size in bytes."""
    if path is None:
        files = [f for f in _entries(parts) if f.suffix == ".nc"] if parts else []
        size = sum(map(_size, files))
        whole = files[0].stem.split("-of-")[-1] if files else ""
        return (f"{len(files)} of {whole} parts" if files else NONE), None, size
    try:
        with h5py.File(path) as file:
            identity = _identity(file.attrs)
    except (OSError, KeyError):
        return UNREADABLE, None, _size(path)
    state = OTHER if digest is not None and identity[0] != digest else DONE
    return state, identity, _size(path)


def _tables(path: Path) -> dict[str, tuple]:
    """Return the models in a benchmark's tables, each with what its scores depend on."""
    try:
        with h5py.File(path) as file:
            models, attrs = file["model"].asstr()[:], file["model_attrs"].asstr()[:]
            return {uid: _identity(json.loads(text)) for uid, text in zip(models, attrs, strict=True)}
    except (OSError, KeyError, ValueError):
        return {}


def _identity(attrs: Any) -> tuple:
    return tuple(str(np.squeeze(attrs.get(name))) for name in IDENTITY)  # numbers come as arrays of one from HDF5


def _report(path: Path, benchmarks: Iterable[BenchmarkStatus]) -> str:
    written = _written(path / "report.html")
    if written is None:
        return NONE
    newer = [b.name for b in benchmarks if b.tables_written and b.tables_written > written]
    return f"older than the tables of {', '.join(newer)}" if newer else DONE


def _run(path: Path) -> dict[str, Any] | None:
    """Return who holds the lock of the folder, if a run of the workflow does."""
    try:
        with open(path / RUN) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return json.loads(file.read())
    except (OSError, ValueError):
        pass
    return None


def _jobs(logs: Path) -> Iterator[JobStatus]:
    """Yield the jobs whose log is not followed by the record of time and memory, which only a job that ended has."""
    for folder, _, names in sorted(os.walk(logs)):
        for name in sorted(names):
            log = Path(folder, name)
            if log.suffix != ".log" or log.relative_to(logs).parts[0] == "slurm":
                continue
            begun, ended = _written(log), _written(log.with_suffix(".tsv"))
            if begun is not None and (ended is None or ended < begun):
                stage, *about = log.relative_to(logs).with_suffix("").parts
                name = stage if about == [stage] else f"{stage} {'/'.join(about)}"
                yield JobStatus(log, name, max(0.0, time.time() - begun))


def _is_benchmark(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("features", "scores", "scores.nc"))


def _entries(folder: Path) -> list[Path]:
    """Return what is in a folder, hidden entries apart; of a missing one nothing."""
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return []


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 of one that is gone, or a link to nothing."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
