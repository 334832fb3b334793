"""The published benchmarks by name: where their prepared folders lie, and what is printed as they are loaded."""

from __future__ import annotations

import warnings
from pathlib import Path

from juicyfruits.benchmark import Benchmark, data_folder
from juicyfruits.errors import InputError, first_names


class PublishedBenchmark(Benchmark):
    """A benchmark that is found by the name of its class, and that prints what it is.

    Without a folder it looks under JUICYFRUITS_DATA (default `data`) for the folder `dataset`, then for the only
    `dataset_...`, then, with a warning, for the synthetic miniature `dataset_mini`. An `InputError` says what to do if
    there is none of them, or more than one to choose from.
    """

    dataset: str

    def __init__(self, folder: str | Path | None = None):
        super().__init__(find_prepared(self.dataset) if folder is None else folder)
        print("Initializing DeepJuice Benchmarks (JuicyFruits)")
        print(f"Loading DeepJuice {type(self).__name__}: ")
        print(f"  Image Set: {self.info.get('image_set', f'{len(self.stimulus_data)} images')}")
        print(f"  Voxel Set: {self.info.get('voxel_set', self.rois)}")


class NSDBenchmark(PublishedBenchmark):
    """The prepared Natural Scenes Dataset (Allen et al. 2022, doi:10.1038/s41593-021-00962-x), or its miniature.

    Example:
        >>> benchmark = NSDBenchmark()  # doctest: +SKIP
        Initializing DeepJuice Benchmarks (JuicyFruits)
        Loading DeepJuice NSDBenchmark:
          Image Set: shared1000
          Voxel Set: ['EVC', 'OTC']
    """

    dataset = "nsd"


class Kriegeskorte92Benchmark(PublishedBenchmark):
    """RDMs of 92 objects in human and monkey IT (Kriegeskorte et al. 2008, doi:10.1016/j.neuron.2008.10.043)."""

    dataset = "kriegeskorte92"


class CowleyV4Benchmark(PublishedBenchmark):
    """Responses of macaque V4 neurons, a benchmark a session (Cowley et al. 2023, doi:10.1101/2023.11.22.568315)."""

    dataset = "cowley_v4"


def find_prepared(dataset: str) -> Path:
    """Return the folder of a prepared public data set, or of its miniature."""
    data = data_folder()
    if (data / dataset).is_dir():
        return data / dataset
    mini = data / f"{dataset}_mini"
    found = sorted(path.parent for path in data.glob(f"{dataset}_*/stimuli.csv") if path.parent != mini)
    if len(found) > 1:
        raise InputError(
            f"{data} holds {len(found)} benchmarks of {dataset}: {first_names((path.name for path in found), 8)}; "
            "name the folder of one"
        )
    if found:
        return found[0]
    if mini.is_dir():
        warnings.warn(
            f"no prepared {dataset} in {data}: loading {mini.name}, a synthetic miniature brain, not measured data",
            stacklevel=3,
        )
        return mini
    remedy = f"make it with `juicyfruits fetch {dataset}` and `juicyfruits prepare`, or run `snakemake`"
    if dataset == "nsd":
        remedy += f"; the miniature with `juicyfruits make-mini mini` and `juicyfruits prepare nsd mini {mini}`"
    raise InputError(f"no prepared {dataset} in {data} (set JUICYFRUITS_DATA to look elsewhere); {remedy}")
