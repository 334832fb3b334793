"""Examine a folder of data, fetched or prepared, and say in words what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from juicyfruits.doctor.findings import Finding, Report, run_checks
from juicyfruits.doctor.prepared import prepared_checks
from juicyfruits.doctor.release import files_check, release_checks
from juicyfruits.errors import InputError
from juicyfruits.remote.records import FOLDER as RECORDS

__all__ = ["Finding", "Report", "examine"]

N_VOXELS = 500


def examine(
    folder: str | Path, *, hashes: bool = True, thorough: bool = False, n_voxels: int = N_VOXELS, seed: int = 0
) -> Report:
    """Run every check there is for a prepared benchmark or fetched data, and report what each found.

    Args:
        folder: holds stimuli.csv (a prepared benchmark), or nsddata, nsddata_betas, nsddata_stimuli (NSD's layout),
            or what was fetched of another data set, of which only the files are examined.
        hashes: compare the SHA-256 of fetched files with that recorded when they came; False compares sizes only.
        thorough: examine all labelled voxels and all 73,000 pictures of the release instead of a sample.
        n_voxels: how many labelled voxels of each subject are drawn otherwise.
        seed: which ones are drawn.

    The checks go on whatever is found; nothing is changed. Raises `InputError` only where there is no folder, or one
    that is none of these.

    Example:
        >>> report = examine("data/nsd_mini")  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP
        >>> report.ok  # doctest: +SKIP
        True
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} to examine; check the path")
    if (folder / "stimuli.csv").exists():
        checks = prepared_checks(folder)
    elif any(folder.glob("nsddata*")):
        checks = release_checks(folder, hashes=hashes, thorough=thorough, n_voxels=n_voxels, seed=seed)
    elif (folder / RECORDS).is_dir():
        checks = [files_check(folder, hashes)]
    else:
        raise InputError(
            f"{folder} is neither a prepared benchmark (there is no stimuli.csv), nor in NSD's layout (no nsddata, "
            "nsddata_betas or nsddata_stimuli), nor was it fetched (no .fetched); name such a folder, or "
            "prepare this one first"
        )
    return Report(str(folder), run_checks(checks))
