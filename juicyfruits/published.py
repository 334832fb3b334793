"""The published benchmarks by name: where their prepared folders lie, and what is printed as they are loaded."""

from __future__ import annotations

import warnings
from pathlib import Path

from juicyfruits.benchmark import Benchmark, data_folder
from juicyfruits.errors import InputError, first_names
from juicyfruits.prepared import read_info


class PublishedBenchmark(Benchmark):
    """A benchmark that is found by the name of its class, and that prints what it is.

    Without a folder it looks under JUICYFRUITS_DATA (default `data`) for the folder `dataset`, then for the only
    benchmark that was prepared of this data set, then, with a warning, for a miniature, `NAME_mini`. An `InputError`
    says what to do if there is none of them, or more than one to choose from, and refuses a folder of another data set.
    """

    dataset: str

    def __init__(self, folder: str | Path | None = None):
        super().__init__(find_prepared(self.dataset) if folder is None else folder)
        if self.info.get("dataset", self.dataset) != self.dataset:
            raise InputError(
                f"{self.folder} is a benchmark of {self.info['dataset']}, not of {self.dataset}; open it as "
                "`juicyfruits.Benchmark`"
            )
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
    folders = sorted(path.parent for path in data.glob("*/benchmark.json") if not path.parent.name.startswith("."))
    made = [folder for folder in folders if read_info(folder).get("dataset") == dataset]
    found = [folder for folder in made if not folder.name.endswith("_mini")]
    if len(found) > 1:
        raise InputError(
            f"{data} holds {len(found)} benchmarks of {dataset}: {first_names((path.name for path in found), 8)}; "
            "name the folder of one"
        )
    if not found and made:
        warnings.warn(
            f"no prepared {dataset} in {data}: loading {made[0].name}, a synthetic miniature brain, not measured data",
            stacklevel=3,
        )
    if made:
        return (found or made)[0]
    remedy = f"`juicyfruits fetch {dataset}` and `juicyfruits prepare {dataset}` make it, as docs/ tell"
    if dataset == "nsd":
        remedy += "; `snakemake` makes the miniature"
    raise InputError(f"no prepared {dataset} in {data} (set JUICYFRUITS_DATA to look elsewhere); {remedy}")
