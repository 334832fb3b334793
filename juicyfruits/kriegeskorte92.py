"""92 objects: dissimilarities of what human and monkey inferior temporal cortex (IT) answered to them.

Kriegeskorte et al. 2008, Neuron 60(6), 1126-1141. The files are those of the public repository rsagroup/rsatoolbox,
folder demos/92imageData. What they hold is taken from public readers: rsatoolbox's demos (`demo_rdm_vis`, the Python
and MATLAB versions of DEMO1) and its tests of `rdm_comparison_scatterplot`:

    92_brainRDMs.mat                              RDMs: struct (1, 4 subjects, 2 sessions), field RDM (92, 92)
    Kriegeskorte_Neuron2008_supplementalData.mat  RDMs_mIT_hIT_fig1: struct (1, 2) with name (mIT_674neurons,
                                                  hITvisStim_316vx) and RDM, the upper triangle as a vector
                                                  stimuli_92objs: struct (1, 92) with image (uint8, height, width, 3),
                                                  category (text), and human, face, animal, natural (0 or 1)
    92_modelRDMs.mat                              Models: struct (1, 8) with name (animacy, V1, HMAX, ...) and RDM

All matrices are 1 - Pearson r between response patterns, but for the categorical and some other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.io import loadmat
from scipy.spatial.distance import squareform

from juicyfruits.benchmark import Benchmark
from juicyfruits.datasets import DATASETS
from juicyfruits.errors import InputError, near_names
from juicyfruits.files import reading
from juicyfruits.pictures import open_rgb
from juicyfruits.prepared import as_bool
from juicyfruits.remote import Record, download, open_source
from juicyfruits.write import write_benchmark

FOLDER = "demos/92imageData"
BRAINS, OBJECTS, MODELS = "92_brainRDMs.mat", "Kriegeskorte_Neuron2008_supplementalData.mat", "92_modelRDMs.mat"
KEYS = tuple(f"{FOLDER}/{name}" for name in (BRAINS, OBJECTS, MODELS))
CATEGORIES = ("category", "human", "face", "animal", "natural")
N_OBJECTS, N_HUMANS, N_SESSIONS = 92, 4, 2


@dataclass(frozen=True)
class Objects92:
    """All that a source holds: `table` (a row an object), `pictures` (uint8), and float32 matrices (92, 92).

    `human` is (subject, session, 92, 92), `monkey` (92, 92), `models` by their names.
    """

    table: pd.DataFrame
    pictures: list[np.ndarray]
    human: np.ndarray
    monkey: np.ndarray
    models: dict[str, np.ndarray]


def fetch(url: str, out: str | Path, *, jobs: int = 4) -> list[Record]:
    """Fetch the three files (a few MB) into `out`, under the repository's own paths; see `juicyfruits.remote`."""
    return download(open_source(url), KEYS, out, jobs=jobs)


def prepare(
    source: str | Path, out: str | Path, *, sessions: bool = False, models: Sequence[str] = (), name: str | None = None
) -> Benchmark:
    """Write the benchmark of the 92 objects: RDMs only, so it serves representational similarity, not encoding.

    Regions are `IT` (subjects human1 to human4, each the mean of two sessions) and `IT_monkey` (subject monkey: one
    matrix of 674 neurons of two monkeys), apart so that the ceiling of `IT` is one across people.

    Args:
        source: what `fetch` brought; or a folder with `images`, `stimuli.csv` (file, category, human, face, animal,
            natural) and `rdms.npz` (hIT_subj_session (4, 2, 92, 92), mIT_674neurons, model_NAME). Both give the same.
        out: the benchmark folder to write.
        sessions: also write `IT_session1` and `IT_session2`, each with the four people.
        models: names of the release's model matrices to add, such as V1: region `model_V1`, subject model.
        name: the benchmark's name; the folder's by default.

    Raises `InputError` for a source that lacks something or holds other shapes.

    Example:
        >>> prepare("fetched/kriegeskorte92", "data/kriegeskorte92").rois  # doctest: +SKIP
        ['IT', 'IT_monkey']
    """
    objects = read_objects(Path(source))
    rdms = {"IT": _people(objects.human.mean(axis=1, dtype=np.float64)), "IT_monkey": {"monkey": objects.monkey}}
    if sessions:
        rdms |= {f"IT_session{i + 1}": _people(objects.human[:, i]) for i in range(N_SESSIONS)}
    for model in models:
        if model not in objects.models:
            raise InputError(f"{source} has no model matrix {model!r}; {near_names(model, objects.models)}")
        rdms[f"model_{model}"] = {"model": objects.models[model]}
    dataset = DATASETS["kriegeskorte92"]
    info = {"title": "92 objects, human and monkey IT", **dataset.info, **({"name": name} if name else {})}
    return write_benchmark(out, objects.table, objects.pictures, rdms=rdms, info=info)


def read_objects(source: Path) -> Objects92:
    """Read what `prepare` accepts as a source: the release's .mat files, or a folder of pictures, table and arrays."""
    for folder in (source / FOLDER, source):
        if (folder / BRAINS).is_file():
            return _read_release(folder)
    if (source / "rdms.npz").is_file():
        return _read_arrays(source)
    raise InputError(
        f"{source} holds neither {FOLDER}/{BRAINS} nor rdms.npz; fetch kriegeskorte92 first, or name another folder"
    )


def _read_release(folder: Path) -> Objects92:
    brains = _variable(folder / BRAINS, "RDMs")
    if brains.shape != (N_HUMANS, N_SESSIONS):
        raise InputError(
            f"{folder / BRAINS}: RDMs must be a struct of {N_HUMANS} subjects x {N_SESSIONS} sessions, but is "
            f"{brains.shape}; fetch it again"
        )
    human = [[_matrix(folder / BRAINS, "RDMs", _field(folder / BRAINS, s, "RDM")) for s in row] for row in brains]
    areas = _by_name(folder / OBJECTS, "RDMs_mIT_hIT_fig1")
    monkey = next((rdm for name, rdm in areas.items() if name.startswith("mIT")), None)
    if monkey is None:
        raise InputError(f"{folder / OBJECTS}: RDMs_mIT_hIT_fig1 has no mIT among {', '.join(areas)}; fetch it again")
    objects = _variable(folder / OBJECTS, "stimuli_92objs")
    rows = [{name: _field(folder / OBJECTS, each, name) for name in CATEGORIES} for each in objects]
    pictures = [np.asarray(_field(folder / OBJECTS, each, "image")) for each in objects]
    models = _by_name(folder / MODELS, "Models") if (folder / MODELS).is_file() else {}
    return Objects92(_table(folder / OBJECTS, pd.DataFrame(rows)), pictures, np.array(human), monkey, models)


def _read_arrays(folder: Path) -> Objects92:
    table, path = folder / "stimuli.csv", folder / "rdms.npz"
    with reading(table, "a CSV table"):
        rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    missing = [name for name in ("file", *CATEGORIES) if name not in rows.columns]
    if missing:
        raise InputError(f"{table} lacks the column {missing[0]!r}; it has {', '.join(rows.columns)}")
    with reading(path, "an .npz archive of arrays"):
        arrays = dict(np.load(path))
    absent = [key for key in ("hIT_subj_session", "mIT_674neurons") if key not in arrays]
    if absent:
        raise InputError(f"{path} lacks {absent[0]!r}; it has {', '.join(arrays)}")
    human = _numbers(path, "hIT_subj_session", arrays["hIT_subj_session"])
    if human.shape != (N_HUMANS, N_SESSIONS, N_OBJECTS, N_OBJECTS):
        raise InputError(f"{path}: hIT_subj_session must be (4, 2, 92, 92), but is {human.shape}; replace the file")
    pictures = [np.asarray(open_rgb(folder / "images" / file)) for file in rows["file"]]
    models = {key.removeprefix("model_"): _matrix(path, key, arrays[key]) for key in arrays if key.startswith("model_")}
    monkey = _matrix(path, "mIT_674neurons", arrays["mIT_674neurons"])
    return Objects92(_table(table, rows), pictures, human, monkey, models)


def _table(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Name the objects stim_01 to stim_92, and keep their categories."""
    if len(rows) != N_OBJECTS:
        raise InputError(f"{path} has {len(rows)} objects, but the matrices have {N_OBJECTS}; fetch or copy it again")
    flags = {name: as_bool(path, rows[name]).astype(int) for name in CATEGORIES[1:]}
    names = [f"stim_{number:02d}" for number in range(1, N_OBJECTS + 1)]
    return pd.DataFrame({"stimulus_id": names, "category": rows["category"], **flags})


def _people(rdms: np.ndarray) -> dict[str, np.ndarray]:
    return {f"human{number}": rdm.astype(np.float32) for number, rdm in enumerate(rdms, 1)}


def _matrix(path: Path, what: str, values: Any) -> np.ndarray:
    """Return a matrix as float32 (92, 92), from a square or from the upper triangle, row by row, as MATLAB's pdist."""
    values = np.squeeze(_numbers(path, what, values))
    if values.shape == (N_OBJECTS * (N_OBJECTS - 1) // 2,):
        values = squareform(values)
    if values.shape != (N_OBJECTS, N_OBJECTS):
        raise InputError(
            f"{path}: {what} must hold matrices of 92 x 92 objects, but has one of {values.shape}; fetch it again"
        )
    return values


def _numbers(path: Path, what: str, values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: {what} must hold matrices of real numbers, but has {values.dtype}; fetch it again")
    return values.astype(np.float32, order="C")


def _variable(path: Path, name: str) -> np.ndarray:
    """Return a struct array without its axes of length 1, but with one axis at least."""
    with reading(path, "a MATLAB file"):
        content = loadmat(path, squeeze_me=True)
    if name not in content:
        known = ", ".join(key for key in content if not key.startswith("__"))
        raise InputError(f"{path} lacks the variable {name!r}; it has {known}; fetch it again")
    values = np.atleast_1d(content[name])
    if values.dtype.names is None:
        raise InputError(f"{path}: the variable {name!r} must be a struct, but is {values.dtype}; fetch it again")
    return values


def _by_name(path: Path, variable: str) -> dict[str, np.ndarray]:
    structs = _variable(path, variable)
    return {str(_field(path, each, "name")): _matrix(path, variable, _field(path, each, "RDM")) for each in structs}


def _field(path: Path, struct: np.void, name: str) -> Any:
    if name not in struct.dtype.names:
        raise InputError(f"{path}: a struct lacks the field {name!r}; fetch it again")
    return struct[name]
