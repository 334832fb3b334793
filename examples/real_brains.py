"""Turn two public data sets into benchmark folders: macaque V4 neurons, and human and monkey IT dissimilarities.

usage: python examples/real_brains.py SOURCE OUT

SOURCE holds `v4/201025` and `v4/210325` (images/image0001.jpg ..., responses.npy or responses_raw.npz; Cowley, Stan,
Pillow & Smith 2023, from the public repository cowleygroup/V4_compact_models, folder data_V4_responses) and `k92`
(images/stim_01.png ..., stimuli.csv, rdms.npz; Kriegeskorte et al. 2008, Neuron 60(6), from the demos of the public
repository rsatoolbox, folder demos/92imageData). What is absent is left out, and said. OUT receives `v4_201025`,
`v4_210325` and `k92`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from juicyfruits import Benchmark, write_benchmark

V4_SOURCE = "Cowley, Stan, Pillow & Smith 2023, cowleygroup/V4_compact_models"
K92_SOURCE = "Kriegeskorte, Mur, Ruff, Kiani et al. 2008, Neuron 60(6), 1126-1141"


def v4_session(source: Path, out: Path) -> Benchmark:
    """Write one V4 session; single repeats where the session has them, so that noise ceilings can be had."""
    raw = source / "responses_raw.npz"
    responses = np.load(raw)["responses"] if raw.exists() else np.load(source / "responses.npy")
    n_neurons, n_images = responses.shape[:2]
    names = [f"image{number:04d}" for number in range(1, n_images + 1)]
    neuroids = pd.DataFrame({"neuroid_id": [f"{source.name}-{n:02d}" for n in range(n_neurons)]})
    return write_benchmark(
        out,
        pd.DataFrame({"stimulus_id": names}),
        [source / "images" / f"{name}.jpg" for name in names],
        neuroids=neuroids.assign(subject=source.name, roi_V4=True),
        responses=responses,
        info={"title": f"Macaque V4, session {source.name}", "source": V4_SOURCE},
    )


def k92(source: Path, out: Path) -> Benchmark:
    """Write the 92 objects with the RDMs of human IT (each subject and their mean), monkey IT and a V1 model."""
    matrices = np.load(source / "rdms.npz")
    human = matrices["hIT_subj_session"].mean(axis=1)  # over the two sessions of each subject
    rdms = {
        "IT": {**{f"human{number}": rdm for number, rdm in enumerate(human, 1)}, "human_mean": human.mean(axis=0)},
        "V1model": {"model": matrices["model_V1"]},
    }
    rdms["IT"]["monkey"] = matrices["mIT_674neurons"]
    stimuli = pd.read_csv(source / "stimuli.csv")
    stimuli["stimulus_id"] = [Path(file).stem for file in stimuli["file"]]
    return write_benchmark(
        out,
        stimuli,
        [source / "images" / file for file in stimuli["file"]],
        rdms=rdms,
        info={"title": "92 objects, human and monkey IT", "source": K92_SOURCE},
    )


def main(source: str, out: str) -> None:
    """Write every benchmark whose source is there."""
    for folder, name, make in (
        ("v4/201025", "v4_201025", v4_session),
        ("v4/210325", "v4_210325", v4_session),
        ("k92", "k92", k92),
    ):
        if (Path(source) / folder).is_dir():
            print(make(Path(source) / folder, Path(out) / name))
        else:
            print(f"{Path(source) / folder} is not there; {name} is left out", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
