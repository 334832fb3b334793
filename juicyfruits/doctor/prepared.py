"""Checks of a prepared benchmark folder, by blocks of neuroids: whole NSD subjects stay within 2 GB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from juicyfruits.arrays import blocks
from juicyfruits.benchmark import Benchmark
from juicyfruits.doctor.findings import Check, Problems, counted
from juicyfruits.doctor.voxels import differs
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import reading
from juicyfruits.ncsnr import compare_ncsnr, estimate_ncsnr
from juicyfruits.nsd import layout
from juicyfruits.pictures import open_rgb

FEW_STIMULI = 10  # in train or in test: their correlations are very unsure


def prepared_checks(folder: Path) -> Iterator[Check]:
    """Yield the checks of a benchmark folder; those of the pictures need nothing but stimuli.csv."""
    load = cache(lambda: Benchmark(folder))
    scanned = cache(lambda: scan(load()))
    yield Check("layout", folder.name, lambda: check_layout(load()))
    yield Check("files", "benchmark.json", lambda: check_digest(load()))
    yield Check("pictures", "stimuli.csv", partial(check_pictures, folder))
    yield Check("stimulus order", "stimuli.csv", lambda: check_stimuli(load()))
    yield Check("splits", "stimuli.csv", lambda: check_splits(load()))
    if (folder / "rdms.npz").exists():
        yield Check("duplicates", "rdms.npz", lambda: check_rdms(load()))
        return
    yield Check("neuroids", "neuroids.csv", lambda: check_neuroids(load()))
    yield Check("responses", "responses", lambda: check_responses(load(), scanned()))
    yield Check("ceilings", "neuroids.csv", lambda: check_ceilings(load(), scanned()))
    yield Check("duplicates", "responses", lambda: check_duplicates(scanned()))


def check_layout(benchmark: Benchmark) -> Problems:
    """Say what the folder holds; loading it has verified that tables, responses or RDMs, and pictures agree."""
    yield from ()  # a folder that does not agree is not loaded: the error says why
    return " ".join(repr(benchmark).replace("\n", ";").split())


def check_digest(benchmark: Benchmark) -> Problems:
    """Compare the files with the digest that was recorded when they were written."""
    recorded = benchmark.info.get("digest")
    if recorded is None:
        return "records no digest to compare the files with"
    if recorded != benchmark.digest:
        yield (
            "error",
            "benchmark.json",
            f"{benchmark.folder} has changed since it was prepared: its recorded digest is {recorded}, its files have "
            f"{benchmark.digest}; prepare it again, or delete benchmark.json if the change is meant",
        )
    return f"the files are those that were prepared (digest {recorded})"


def check_pictures(folder: Path) -> Problems:
    """Open every picture, and look for the same one under two stimulus ids."""
    path = folder / "stimuli.csv"
    with reading(path, "a CSV table with a header line"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not {"stimulus_id", "image_path"} <= set(table):
        raise InputError(
            f"{path} has no columns stimulus_id and image_path, only {first_names(table, 8)}; is the folder to be "
            "prepared first (`juicyfruits prepare`)?"
        )
    table = table[["stimulus_id", "image_path"]]
    seen: dict[str, list[str]] = {}
    for stimulus_id, image_path in tqdm(table.itertuples(index=False), "pictures", len(table), unit="picture"):
        try:
            picture = open_rgb(f"{folder.resolve()}/{image_path}")
        except (InputError, OSError) as error:
            yield "error", stimulus_id, str(error)
            continue
        key = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
        seen.setdefault(key, []).append(stimulus_id)
    same = [ids for ids in seen.values() if len(ids) > 1]
    if same:
        yield (
            "warning",
            "stimuli.csv",
            f"{counted(len(same), 'picture')} found under several stimulus ids, such as {first_names(same[0])}; join "
            "their repeats or leave one out, at least where one is train and one is test",
        )
    return f"{len(table):,} pictures can be read, no two the same"


def check_stimuli(benchmark: Benchmark) -> Problems:
    """Where stimuli carry NSD's ids: ascending, unique, and those of the stimulus_id, as preparation writes them."""
    table = benchmark.stimulus_data
    if "nsd_id" not in table.columns:
        return f"{counted(len(table), 'stimulus id')}, in the order of the responses"
    ids = pd.to_numeric(table["nsd_id"], errors="coerce")
    if ids.isna().any() or (ids % 1 != 0).any():
        yield "error", "stimuli.csv", "column nsd_id must hold whole numbers; prepare the benchmark again"
        return ""
    out_of_order = np.flatnonzero(np.diff(ids) <= 0) + 1
    if len(out_of_order):
        yield (
            "error",
            "stimuli.csv",
            f"nsd_id must ascend, each once, but does not in {counted(len(out_of_order), 'row')}, first row "
            f"{out_of_order[0] + 1}; responses may belong to other pictures: prepare the benchmark again",
        )
    wrong = table["stimulus_id"] != [layout.stimulus_id(int(nsd_id)) for nsd_id in ids]
    if wrong.any():
        names = first_names(table["stimulus_id"][wrong])
        words = f"{counted(int(wrong.sum()), 'stimulus id')} of another nsd_id: {names}; prepare the benchmark again"
        yield "error", "stimuli.csv", words
    return f"{len(ids):,} nsd ids ascend and fit their stimulus ids"


def check_splits(benchmark: Benchmark) -> Problems:
    """Say how many stimuli are train and test, and warn of few."""
    counts = {"train": int(benchmark.train.sum()), "test": int(benchmark.test.sum())}
    for split, count in counts.items():
        if count < FEW_STIMULI:
            words = f"only {count} {split} stimuli make very unsure scores; add stimuli, or change the column split"
            yield "warning", "stimuli.csv", words
    return f"{counts['train']:,} train and {counts['test']:,} test stimuli"


def check_neuroids(benchmark: Benchmark) -> Problems:
    """Count the ROIs' neuroids, and verify that no voxel of a subject is listed twice or under another's name."""
    table = benchmark.metadata
    columns = ["voxel_x", "voxel_y", "voxel_z"]
    if set(columns) <= set(table.columns) and table[columns].notna().all(axis=None):
        twice = table.duplicated(["subject", *columns], keep=False)
        if twice.any():
            yield (
                "error",
                "neuroids.csv",
                f"{counted(int(twice.sum()), 'neuroid')} share subject, voxel_x, voxel_y and voxel_z with another: "
                f"{first_names(table.index[twice])}; leave all but one out",
            )
        if benchmark.info.get("dataset") == "nsd":
            names = [
                layout.neuroid_id(subject, *map(int, xyz))
                for subject, *xyz in table[["subject", *columns]].itertuples(index=False)
            ]
            wrong = table.index != names
            if wrong.any():
                told = first_names(table.index[wrong])
                words = f"{counted(int(wrong.sum()), 'neuroid id')} of other voxel indices: {told}; prepare it again"
                yield "error", "neuroids.csv", words
    sizes = table[benchmark.rois].groupby(table["subject"], sort=False).sum()
    parts = [f"{roi} {' + '.join(f'{size:,}' for size in sizes[roi])}" for roi in benchmark.rois]
    return f"{len(table):,} of {', '.join(benchmark.subjects)}; {', '.join(parts)}"


def check_responses(benchmark: Benchmark, scanned: pd.DataFrame) -> Problems:
    """Look for neuroids that do not vary over the train or the test stimuli, and count missing repeats."""
    for split in ("train", "test"):
        flat = scanned.index[scanned[f"flat_{split}"]]
        if len(flat):
            yield (
                "error",
                "responses",
                f"{len(flat)} neuroids answer all {split} stimuli alike and have no score: {first_names(flat)}; leave "
                "them out",
            )
    n_repeats = benchmark.responses.shape[2]
    by_subject = scanned.groupby(benchmark.metadata["subject"])["missing"]
    for subject, values in by_subject:
        if values.nunique() > 1 and benchmark.info.get("dataset") == "nsd":
            usual = values.mode().iloc[0]
            odd = values.index[values != usual]
            yield (
                "error",
                "responses",
                f"{counted(len(odd), 'neuroid')} of {subject} with other missing repeats than most, of which "
                f"{usual:,.0f} are missing: {first_names(odd)}; trials lack for all voxels or none: prepare it again",
            )
    share = scanned["missing"].sum() / (len(scanned) * benchmark.responses.shape[1] * n_repeats)
    return f"up to {counted(n_repeats, 'repeat')}, {100 * share:.1f}% of them missing; every neuroid varies"


def check_ceilings(benchmark: Benchmark, scanned: pd.DataFrame) -> Problems:
    """Verify that there are ceilings, above the threshold of the preparation, and that the repeats say the same."""
    said = benchmark.metadata["ncsnr"].to_numpy(dtype=np.float64)
    unknown, known = int(np.isnan(said).sum()), said[~np.isnan(said)]
    if not known.size:
        return "no ncsnr and no repeats to estimate it from, so scores will have no ceilings"
    if unknown:
        words = f"{counted(unknown, 'neuroid')} without ncsnr have no ceiling; fill it in, or leave them out"
        yield "warning", "neuroids.csv", words
    if not (known > 0).any():
        yield "error", "neuroids.csv", "ncsnr is 0 in all neuroids, so no response is reliable; correct the column"
    threshold = benchmark.info.get("ncsnr_threshold")
    low = benchmark.metadata.index[said <= threshold] if threshold is not None else []
    if len(low):
        words = f"{counted(len(low), 'neuroid')} not above the ncsnr threshold {threshold:g}: {first_names(low)}"
        yield "error", "neuroids.csv", f"{words}; prepare the benchmark again"
    found = compare_ncsnr(said, scanned["ncsnr"].to_numpy(), max(1, int(scanned["degrees"].median())))
    if not found["matches"]:
        yield (
            "warning",
            "neuroids.csv",
            f"ncsnr does not fit these repeats ({differs(found)} neuroids); make sure that its rows are those of the "
            "responses, and its map is of the same betas",
        )
    ceiling = 1.0 if np.isinf(np.median(known)) else 1 - 1 / (1 + np.median(known) ** 2)
    told = f"median ncsnr {np.median(known):.3f}, so {100 * ceiling:.0f}% of one presentation's variance is signal"
    return f"{told}; from the repeats: {differs(found)}"


def check_duplicates(scanned: pd.DataFrame) -> Problems:
    """Look for neuroids with the same responses."""
    vary = scanned[~(scanned["flat_train"] & scanned["flat_test"])]
    same = vary[vary["digest"].duplicated(keep=False)].sort_values("digest", kind="stable")
    if len(same):
        yield (
            "error",
            "responses",
            f"{counted(len(same), 'neuroid')} have the same responses as another: {first_names(same.index)}; leave all "
            "but one out, or prepare the benchmark again",
        )
    return f"no two of {counted(len(scanned), 'neuroid')} have the same responses"


def check_rdms(benchmark: Benchmark) -> Problems:
    """Look for matrices that are the same, or do not vary; loading has verified that they are dissimilarities."""
    first: dict[str, str] = {}
    for roi, by_subject in benchmark.rdms.items():
        for subject, rdm in by_subject.items():
            key = f"{roi}__{subject}"
            if np.ptp(rdm[np.triu_indices(len(rdm), 1)]) == 0:
                yield "error", "rdms.npz", f"{key} has the same dissimilarity between all stimuli; leave it out"
                continue
            other = first.setdefault(hashlib.sha256(rdm.tobytes()).hexdigest(), key)
            if other != key:
                yield "error", "rdms.npz", f"{key} is the same matrix as {other}; leave one of them out"
    return f"{sum(map(len, benchmark.rdms.values()))} RDMs, no two the same"


def scan(benchmark: Benchmark) -> pd.DataFrame:
    """Read the responses once: a row a neuroid with what the checks need.

    flat_train, flat_test: whether its means do not vary; missing: number of missing repeats; ncsnr: from the repeats,
    NaN where there are none; degrees: sum of (repeats - 1); digest.
    """
    parts = []
    with tqdm(total=len(benchmark.responses), desc="responses", unit="neuroid") as bar:
        for _, block in blocks(benchmark.responses):
            means = np.nanmean(block, axis=2, dtype=np.float64).astype(np.float32)
            present = (~np.isnan(block)).sum(axis=2)
            part = {
                "flat_train": _constant(means[:, benchmark.train]),
                "flat_test": _constant(means[:, benchmark.test]),
                "missing": (block.shape[2] - present).sum(axis=1),
                "ncsnr": estimate_ncsnr(block),
                "degrees": (present - 1).sum(axis=1),
                "digest": [hashlib.sha256(row.tobytes()).hexdigest() for row in block],
            }
            parts.append(pd.DataFrame(part))
            bar.update(len(block))
    return pd.concat(parts).set_index(benchmark.metadata.index)


def _constant(means: np.ndarray) -> np.ndarray:
    return (means == means[:, :1]).all(axis=1)
