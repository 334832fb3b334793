"""NSDBenchmark: the prepared NSD benchmark, found and announced."""

from __future__ import annotations

import warnings
from pathlib import Path

from juicyfruits.benchmark import Benchmark, data_folder
from juicyfruits.errors import InputError


class NSDBenchmark(Benchmark):
    """The prepared Natural Scenes Dataset, or its synthetic miniature where only that is there.

    Without a folder it looks under JUICYFRUITS_DATA (default `data`) for `nsd`, then for `nsd_mini` with a warning;
    an `InputError` says how to make one if there is neither.

    Example:
        >>> benchmark = NSDBenchmark()  # doctest: +SKIP
        Initializing DeepJuice Benchmarks (JuicyFruits)
        ...
    """

    def __init__(self, folder: str | Path | None = None):
        super().__init__(find_nsd() if folder is None else folder)
        print("Initializing DeepJuice Benchmarks (JuicyFruits)")
        print("Loading DeepJuice NSDBenchmark: ")
        print(f"  Image Set: {self.info.get('image_set', 'unknown')}")
        print(f"  Voxel Set: {self.info.get('voxel_set', self.rois)}")


def find_nsd() -> Path:
    """Return the folder of the prepared NSD benchmark, or of the miniature."""
    data = data_folder()
    if (data / "nsd").is_dir():
        return data / "nsd"
    if (data / "nsd_mini").is_dir():
        warnings.warn(
            f"no prepared NSD in {data}: loading nsd_mini, a synthetic miniature brain, not measured data",
            stacklevel=3,
        )
        return data / "nsd_mini"
    raise InputError(
        f"no prepared NSD benchmark in {data} (set JUICYFRUITS_DATA to look elsewhere); make the miniature with "
        f"`juicyfruits make-mini mini` and `juicyfruits prepare mini {data / 'nsd_mini'}`, or run `snakemake`"
    )
