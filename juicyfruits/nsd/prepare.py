"""From the release of NSD, fetched or copied, or anything in its layout, to a prepared benchmark.

Only the voxels of the chosen ROIs are read from the betas, block by block and streamed to disk, and only the chosen
pictures from the stimuli; a whole subject is never in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from juicyfruits.benchmark import Benchmark
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import check_replaceable, remove
from juicyfruits.ncsnr import compare_ncsnr
from juicyfruits.nsd import layout
from juicyfruits.nsd.design import Trials, choose_stimuli, read_trials
from juicyfruits.nsd.responses import Answers, Job, join_files, read_all
from juicyfruits.nsd.rois import named_rois
from juicyfruits.nsd.stimuli import find_images, read_images
from juicyfruits.nsd.voxels import COLUMNS, Voxels, choose_voxels, none_left, told
from juicyfruits.prepared import PARTS, ROI_PREFIX
from juicyfruits.versions import PREPARE
from juicyfruits.write import write_benchmark


def prepare_nsd(
    source: str | Path,
    out: str | Path,
    *,
    subjects: str | Sequence[str] | None = None,
    image_set: str = "shared1000",
    rois: str | Sequence[str] | None = None,
    ncsnr_threshold: float = 0.2,
    beta_version: str = layout.DEFAULT_BETAS,
    space: str = layout.DEFAULT_SPACE,
    repeats: str = "keep",
    jobs: int = 1,
    name: str | None = None,
) -> Benchmark:
    """Prepare a benchmark from a folder in the layout of the NSD release, and print what was left out.

    A response is the beta, z-scored over all trials of its session, (b - mean(b)) / std(b) with ddof = 0, before any
    selection of stimuli; repeats stand in the order of the trials. Kept are the voxels in any chosen ROI with
    ncsnr > threshold whose data vary in every session. Their ncsnr is recomputed from the repeats of all
    pictures (column `ncsnr_recomputed`) and compared with the shipped map (`juicyfruits.ncsnr.compare_ncsnr`); a
    mismatch is printed and stands, as all of the comparison, in `info["ncsnr_check"]`.

    Args:
        source: root of the release: holds nsddata, nsddata_betas and nsddata_stimuli.
        out: the benchmark folder to write; an earlier benchmark there is replaced.
        subjects: such as ["subj01", "subj05"]; all that have betas in `source` by default.
        image_set: "shared1000", "shared515", "unique" or "all", as `juicyfruits.nsd.design.choose_stimuli` tells;
            the last two are of one subject.
        rois: names or expressions that choose the voxels and become the ROI columns, such as "V1" or
            "faces=floc-faces & nsdgeneral" (`juicyfruits.nsd.rois.roi_mask`). By default the voxels are EVC and OTC,
            and the finer areas that are not empty become columns too.
        ncsnr_threshold: keep voxels above it; the ncsnr map is the beta version's own.
        beta_version: such as "betas_fithrf_GLMdenoise_RR".
        space: such as "func1pt8mm".
        repeats: "keep": (neuroid, stimulus, repetition), NaN where a repeat is missing; "mean": their average, taken in
            float64, with the columns `n_repeats_SUBJECT` in stimuli.csv.
        jobs: subjects read at the same time, each in a process of its own; the result is the same to the bit.
        name: the benchmark's name; by default the folder's.

    Returns the written `Benchmark`. Raises `InputError` for missing files, unknown or empty ROIs and subjects, trial
    counts that disagree between the design, the behaviour and the betas, and when no stimulus or voxel is left.
    Sources: Allen et al. 2022 and the NSD Data Manual, fact by fact in `juicyfruits.nsd.layout`.
    """
    source, out = Path(source), Path(out)
    check_replaceable(out, "benchmark.json", PARTS)
    subjects, rois = ([names] if isinstance(names, str) else names for names in (subjects, rois))
    _check_options(rois, repeats, jobs)
    subjects = choose_subjects(source, subjects, beta_version, space)
    trials = {subject: read_trials(source, subject, beta_version, space) for subject in subjects}
    stimuli = choose_stimuli(source, image_set, {subject: trials[subject].shown for subject in subjects})
    n_dropped = stimuli.attrs["dropped"]
    missing = tell_missing(trials)
    print(f"{len(stimuli)} stimuli of {image_set}; {n_dropped} dropped because not every subject has seen them")
    voxels = {s: choose_voxels(source, s, rois, ncsnr_threshold, beta_version, space) for s in subjects}
    counts = count_repeats(trials, stimuli)
    n_repeats = int(counts.max(axis=None))
    if repeats == "mean":
        stimuli = pd.concat([stimuli, counts.add_prefix("n_repeats_")], axis=1)
    nsd_ids = stimuli["nsd_id"].to_numpy()
    find_images(source, nsd_ids)  # what is wrong with them is told before the betas are read
    info = {
        "name": name or out.resolve().name,
        "title": title(source),
        "dataset": "nsd",
        "image_set": image_set,
        "voxel_set": list(rois or layout.VOXEL_SETS),
        "subjects": subjects,
        "beta_version": beta_version,
        "space": space,
        "ncsnr_threshold": ncsnr_threshold,
        "repeats": repeats,
        "dropped_stimuli": n_dropped,
        "missing_sessions": missing,
        "stage_version": PREPARE,
        "source": source.resolve().name,
    }
    with scratch_folder(out) as scratch:
        work = [Job(trials[s], voxels[s], nsd_ids, n_repeats, repeats == "mean", scratch / s) for s in subjects]
        neuroids = read_neuroids(work, jobs, rois, info)
        shape = (len(neuroids), len(stimuli), n_repeats if repeats == "keep" else 1)
        responses = join_files([job.path for job in work], shape, scratch / "responses.npy")
        return write_benchmark(
            out, stimuli, read_images(source, nsd_ids), neuroids=neuroids, responses=responses, info=info
        )


def _check_options(rois: Sequence[str] | None, repeats: str, jobs: int) -> None:
    """Tell wrong options before anything is read."""
    for roi in named_rois(rois or ()):
        if roi in (*COLUMNS, "ncsnr_recomputed"):
            raise InputError(f"no ROI can be called {roi!r}, as a column of the neuroids is; choose another name")
    if repeats not in ("keep", "mean"):
        raise InputError(f"repeats must be 'keep' or 'mean', but is {repeats!r}")
    if jobs < 1:
        raise InputError(f"jobs must be 1 or more, but is {jobs}")


def choose_subjects(source: Path, subjects: Sequence[str] | None, beta_version: str, space: str) -> list[str]:
    """Return the chosen subjects, or all with betas of this version and space; unknown ones are an `InputError`."""
    pattern = layout.betas_folder("subj*", beta_version, space)
    present = sorted(path.parts[-3] for path in source.glob(pattern))
    if not present:
        raise InputError(f"{source} holds no {pattern}; is it the root of the NSD release (or of `make-mini`)?")
    for subject in subjects or ():
        if subject not in present:
            raise InputError(f"no betas of subject {subject!r} in {source}; {near_names(subject, present)}")
    return list(dict.fromkeys(subjects or present))


def count_repeats(trials: dict[str, Trials], stimuli: pd.DataFrame) -> pd.DataFrame:
    """Return how often each subject (column) was shown each stimulus (row)."""
    shown = {subject: pd.Series(np.concatenate(found.shown)).value_counts() for subject, found in trials.items()}
    return pd.DataFrame({subject: counts[stimuli["nsd_id"]].to_numpy() for subject, counts in shown.items()})


def tell_missing(trials: dict[str, Trials]) -> dict[str, int]:
    """Return, and print, how many sessions' betas are not there, of the subjects that lack some."""
    missing = {subject: found.n_missing for subject, found in trials.items() if found.n_missing}
    for subject, n in missing.items():
        print(f"{subject}: the betas of its last {n} sessions are not there; what these showed counts as not seen")
    return missing


def read_neuroids(work: list[Job], n_processes: int, rois: Sequence[str] | None, info: dict) -> pd.DataFrame:
    """Write every subject's responses to its job's file, and return the table of usable voxels of all subjects.

    What was left out, and how the recomputed ncsnr compares, is printed and entered in `info`.
    """
    found = {job.trials.subject: (job.voxels, a) for job, a in zip(work, read_all(work, n_processes), strict=True)}
    info["masked_voxels"] = {s: tell_masked(s, voxels, answers) for s, (voxels, answers) in found.items()}
    tables = {s: keep_usable(voxels, answers) for s, (voxels, answers) in found.items()}
    info["ncsnr_check"] = {s: check_ncsnr(s, tables[s], answers) for s, (_, answers) in found.items()}
    return merge_tables(list(tables.values()), rois)


def keep_usable(voxels: Voxels, answers: Answers) -> pd.DataFrame:
    """Return the table of a subject's usable voxels with their recomputed ncsnr."""
    return voxels.table[answers.usable].assign(ncsnr_recomputed=answers.ncsnr.astype(np.float32))


def tell_masked(subject: str, voxels: Voxels, answers: Answers) -> dict[str, int]:
    """Return, and print, how many voxels of a subject were left out for which reason; all is an `InputError`."""
    masked = {**voxels.masked, "flat or without data in a session": int((~answers.usable).sum())}
    if not answers.usable.any():
        raise none_left(subject, masked)
    print(f"{subject}: {answers.usable.sum()} voxels kept; masked: {told(masked)}")
    return masked


def check_ncsnr(subject: str, table: pd.DataFrame, answers: Answers) -> dict:
    """Compare a subject's shipped and recomputed ncsnr, and print a warning if they do not match."""
    found = compare_ncsnr(table["ncsnr"].to_numpy(), answers.ncsnr, answers.degrees)
    if not found["matches"]:
        correlation = "undefined" if found["correlation"] is None else f"{found['correlation']:.2f}"
        print(
            f"warning: {subject}: the shipped ncsnr map does not match the repeats (correlation {correlation}, median "
            f"difference {found['median_difference']:+.2f}); is it of another beta version or of other "
            "sessions, or are its axes, or the betas', in another order?"
        )
    return found


def merge_tables(tables: Sequence[pd.DataFrame], rois: Sequence[str] | None) -> pd.DataFrame:
    """Join the subjects' voxel tables; drop ROI columns without any voxel, unless they were named: an `InputError`."""
    table = pd.concat(tables, ignore_index=True)
    columns = [name for name in table.columns if name.startswith(ROI_PREFIX)]
    empty = [name for name in columns if not table[name].any()]
    if rois and empty:
        raise InputError(f"ROI {empty[0].removeprefix(ROI_PREFIX)!r} has no voxel left in any subject; leave it out")
    return table.drop(columns=empty)


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, on the same disk, and remove it afterwards.

    It is called as `atomic_path` calls its own, so that the next one to write `out` removes what a killed process left,
    but with zeros before the number, so that both may be there.
    """
    folder = out.absolute().with_name(f".{out.absolute().name}.{os.getpid():010d}.tmp")
    remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def title(source: Path) -> str:
    """Name the data set in a folder of NSD's layout: real, or the miniature, which brings its own truth along."""
    synthetic = (source / layout.TRUTH).exists()
    return "Synthetic miniature brain, in NSD's layout" if synthetic else "Natural Scenes Dataset"
