"""Write a benchmark folder whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from juicyfruits.benchmark import Benchmark
from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path, check_replaceable
from juicyfruits.prepared import RDM_FILE, ROI_PREFIX


def write_benchmark(
    folder: str | Path,
    stimuli: pd.DataFrame,
    images: Iterable[np.ndarray | str | Path],
    *,
    neuroids: pd.DataFrame | None = None,
    responses: np.ndarray | None = None,
    rdms: dict[str, dict[str, np.ndarray]] | None = None,
    info: dict | None = None,
) -> Benchmark:
    """Write a benchmark folder from tables and arrays, check it, and return it.

    Args:
        folder: where to; an earlier benchmark there is replaced, any other content is an `InputError`.
        stimuli: a row a stimulus with `stimulus_id`; `image_path` is filled in here.
        images: one a stimulus, in their order: (height, width, 3) uint8 arrays, saved as PNG, or files to copy.
        neuroids: a row a neuroid: `neuroid_id`, `subject`, one boolean `roi_NAME` a region, anything else.
        responses: (neuroid, stimulus) or (neuroid, stimulus, repetition), saved as float32; NaN is a missing repeat.
        rdms: instead of neuroids and responses, rdms[roi][subject] of (stimulus, stimulus).
        info: what else benchmark.json shall say (title, dataset, source, ...).

    Example:
        >>> import tempfile
        >>> table = pd.DataFrame({"stimulus_id": ["a", "b"]})
        >>> pictures = [np.zeros((8, 8, 3), np.uint8)] * 2
        >>> rdm = np.array([[0.0, 1.0], [1.0, 0.0]])
        >>> write_benchmark(tempfile.mkdtemp() + "/tiny", table, pictures, rdms={"IT": {"m1": rdm}}).rois
        ['IT']
    """
    folder = Path(folder)
    if (responses is None) == (rdms is None) or (responses is None) != (neuroids is None):
        raise InputError("a benchmark has either neuroids with responses, or rdms; give one of the two")
    check_replaceable(folder, "benchmark.json")
    with atomic_path(folder) as tmp:
        tmp.mkdir()
        paths = _write_images(tmp, list(stimuli["stimulus_id"].astype(str)), images)
        _to_csv(stimuli.assign(image_path=paths), tmp / "stimuli.csv")
        if rdms is not None:
            np.savez_compressed(tmp / RDM_FILE, **{f"{r}__{s}": m for r, by in rdms.items() for s, m in by.items()})
        else:
            _to_csv(neuroids, tmp / "neuroids.csv")
            np.save(tmp / "responses.npy", np.asarray(responses, dtype=np.float32))
        _write_info(tmp, folder.resolve().name, info or {})
    return Benchmark(folder)


def _write_images(folder: Path, stimulus_ids: list[str], images: Iterable[np.ndarray | str | Path]) -> list[str]:
    (folder / "images").mkdir()
    paths = []
    for stimulus_id, image in zip(stimulus_ids, images, strict=True):
        if isinstance(image, np.ndarray):
            paths.append(f"images/{stimulus_id}.png")
            Image.fromarray(image).save(folder / paths[-1], compress_level=1)
        else:
            paths.append(f"images/{Path(image).name}")
            shutil.copyfile(image, folder / paths[-1])
    return paths


def _write_info(folder: Path, name: str, info: dict) -> None:
    """Load what was written, so that nothing invalid is ever renamed into place, and describe it."""
    benchmark = Benchmark(folder)
    said = {"name": name, **info, "kind": benchmark.kind, "digest": benchmark.digest}
    (folder / "benchmark.json").write_text(json.dumps(said, indent=2) + "\n")


def _to_csv(table: pd.DataFrame, path: Path) -> None:
    flags = [name for name in table.columns if str(name).startswith(ROI_PREFIX)]
    table.assign(**{name: table[name].astype(int) for name in flags}).to_csv(path, index=False)
