"""Macaque V4: spike counts of single neurons to natural and synthetic pictures, a benchmark a recording session.

Cowley, Stan, Pillow & Smith 2023 (bioRxiv 2023.11.22.568315). The files are those of the public repository
cowleygroup/V4_compact_models, folder data_V4_responses:

    images/images_SESSION.zip                             JPEG, 112 x 112, image0001.jpg is column 0 of the responses
    responses_repeat_averaged/responses_SESSION.npy       (neuron, image), spike counts in 100 ms, mean over repeats
    responses_raw/responses_SESSION.npy                   (neuron, image, repeat), NaN after the last repeat; of few
                                                          sessions (201016 and 210325 are known)

Sources: `readme.txt` of that folder, whose table is `SESSIONS`; and the repository's own readers
(`class_images.py`: numbering, folders within archives; `class_neural_data_train.py`: which images are used).
"""

from __future__ import annotations

import difflib
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from juicyfruits.benchmark import Benchmark
from juicyfruits.datasets import DATASETS
from juicyfruits.errors import InputError, first_names, near_names
from juicyfruits.files import reading
from juicyfruits.prepared import train_rows
from juicyfruits.remote import Forbidden, NotFound, Record, Source, download, open_source
from juicyfruits.write import write_benchmark

FOLDER = "data_V4_responses"
MAX_PICTURE = 2**20  # bytes a JPEG of 112 x 112; without any compression it would have 37,632


@dataclass(frozen=True)
class Session:
    """A row of the release's table: monkey (WE, PE, RA), its use in the paper, and counts.

    `n_repeats` is about how often each image was shown; `n_images` how many the paper uses; `kinds` counts them.
    """

    name: str
    animal: str
    split: str
    n_neurons: int
    n_repeats: int
    n_images: int
    kinds: str


# session, animal, split, neurons, repeats an image, images, their kinds
_TABLE = """
190923 WE test  33 14 1200 1200 normal
190924 WE train 25 13  900 600 normal, 300 active learning
190925 WE train 36 14  900 600 normal, 300 active learning
190926 WE train 27 15  900 600 normal, 300 active learning
190927 WE train 31 11  900 600 normal, 300 active learning
190928 WE train 24 13  900 600 normal, 300 active learning
190929 WE train 33 15  900 600 normal, 300 active learning
201016 PE train 82  6  600 300 normal, 300 gaudy
201017 PE train 88  7  900 300 normal, 300 active learning, 300 gaudy
201018 PE train 80  5  600 600 normal
201019 PE train 82  4 1600 800 normal, 400 active learning, 400 gaudy
201020 PE train 87  4 1600 800 normal, 400 active learning, 400 gaudy
201021 PE train 88  7 1600 800 normal, 400 active learning, 400 gaudy
201022 PE train 79  5 2000 1000 normal, 500 active learning, 500 gaudy
201023 PE train 86  7 2000 1000 normal, 500 active learning, 500 gaudy
201024 PE train 85  7 2000 1000 normal, 500 active learning, 500 gaudy
201025 PE test  89 12 1200 1200 normal
210224 PE val   67  9  800 800 normal
210225 PE test  55  6 1200 1200 normal
210226 PE train 78  6 1600 600 normal, 1000 maximizing
210301 PE train 61  4 2000 650 maximizing, 1350 validation experiments
210302 PE train 70  5 2000 650 maximizing, 1350 validation experiments
210303 PE train 67  3 2049 2049 maximizing
210304 PE train 65  5 1968 1968 maximizing
210305 PE train 70 22  400 400 validation experiments
210308 PE train 70  4 2000 500 normal, 1500 validation experiments
210309 PE train 56  4 2000 600 normal, 1200 validation experiments, 200 artificial
210310 PE train 64  3 2000 1000 normal, 1000 gaudy
210312 PE train 81  4 2000 2000 maximizing
210315 PE train 65  2 2000 2000 maximizing
210316 PE train 62  3 2000 1000 normal, 1000 gaudy
210322 PE train 59  4 1200 600 normal, 600 Bashivan et al. 2019
210323 PE train 59  4 1200 600 normal, 600 gaudy
210324 PE train 54  4 1200 600 normal, 600 gaudy
210325 PE test  50  8  640 640 Bashivan et al. 2019
210326 PE train 60  4 1200 600 normal, 600 gaudy
210620 RA train 42  9 1600 1600 normal
210621 RA train 51 16 1200 1200 normal
211008 RA train 21 24 1200 1200 normal
211012 RA train 51 15 2000 1000 normal, 1000 gaudy
211013 RA train 52 15 2000 1000 normal, 1000 gaudy
211014 RA train 46 11 2000 1000 normal, 1000 gaudy
211015 RA train 49 18 2000 1000 normal, 1000 gaudy
211018 RA train 56 10 3000 1500 normal, 1500 gaudy
211022 RA test  42 20 1600 1600 normal
211025 RA train 54 16 2000 233 normal, 150 maximizing, 233 gaudy, 1384 artificial
211026 RA train 56 13 2000 660 normal, 840 validation experiments, 250 active learning, 250 gaudy
211027 RA train 56 18 2000 240 normal, 1260 validation experiments, 250 active learning, 250 gaudy
211028 RA train 55 14 2000 660 normal, 840 validation experiments, 250 active learning, 250 gaudy
211103 RA train 49 13 3000 750 normal, 750 maximizing, 750 active learning, 750 gaudy
"""


def _session(line: str) -> Session:
    name, animal, split, neurons, repeats, images, kinds = line.split(maxsplit=6)
    return Session(name, animal, split, int(neurons), int(repeats), int(images), kinds)


SESSIONS: dict[str, Session] = {s.name: s for s in map(_session, _TABLE.strip().splitlines())}

# How many images the files hold where the repository's readers take them to hold another number than the table says.
# Of the 1,200 of WE's train sessions they leave out 601 to 900 (synthesized); of 201017 they take 600.
_WE_TRAIN = ("190924", "190925", "190926", "190927", "190928", "190929")
STORED: dict[str, tuple[int, ...]] = {**dict.fromkeys(_WE_TRAIN, (1200,)), "201017": (600, 900)}
LEFT_OUT = range(601, 901)


def find_session(name: str | int) -> Session:
    """Return a session by its name; an unknown one is an `InputError` with the names that look like it.

    >>> find_session(201025).n_neurons
    89
    """
    name = str(name)
    if name not in SESSIONS:
        close = difflib.get_close_matches(name, SESSIONS, cutoff=0.8)  # dates: all look somewhat alike
        known = near_names(name, close) if close else f"known are {', '.join(SESSIONS)}"
        raise InputError(f"cowley_v4 has no session {name!r}; {known}")
    return SESSIONS[name]


def keys(source: Source, sessions: Iterable[str | int]) -> list[str]:
    """Return the files of these sessions: pictures, and the single repeats, or the averages where those are not given.

    Asks the source which it has, and says on stderr of which sessions it has averages only.
    """
    found = []
    for session in [find_session(name) for name in dict.fromkeys(map(str, sessions))]:
        raw = f"{FOLDER}/responses_raw/responses_{session.name}.npy"
        try:
            source.stat(raw)
        except (NotFound, Forbidden):  # of a missing file S3 says either
            print(f"cowley_v4: {source.url} has no single repeats of {session.name}; averages instead", file=sys.stderr)
            raw = f"{FOLDER}/responses_repeat_averaged/responses_{session.name}.npy"
        found += [f"{FOLDER}/images/images_{session.name}.zip", raw]
    if not found:
        raise InputError(f"no session of cowley_v4 is named; choose from {', '.join(SESSIONS)}")
    return found


def fetch(url: str, out: str | Path, sessions: Iterable[str | int], *, jobs: int = 4) -> list[Record]:
    """Fetch what `keys` names into `out`, under the repository's own paths; see `juicyfruits.remote`."""
    source = open_source(url)
    return download(source, keys(source, sessions), out, jobs=jobs)


def prepare(source: str | Path, out: str | Path, session: str | int, *, name: str | None = None) -> Benchmark:
    """Write the benchmark of one session: region V4, the monkey as subject.

    Single repeats are kept where they are there, and give the neurons' ncsnr. Averages have none; the table's number
    of repeats then stands in the column `n_repeats` of stimuli.csv. Neurons without data for some picture, or that
    answer all train or all test pictures alike, are left out and counted in benchmark.json (`left_out`).

    Args:
        source: what `fetch` brought; or a folder with SESSION/images/image0001.jpg ..., and SESSION/responses_raw.npz
            (key responses) or SESSION/responses.npy.
        out: the benchmark folder to write.
        session: its name, such as 201025.
        name: the benchmark's name; the folder's by default.

    Raises `InputError` for an unknown session, for arrays of other counts than `SESSIONS` and `STORED` say or with
    values that no spike count has, and for missing or unreadable pictures.
    """
    chosen, source = find_session(session), Path(source)
    responses, columns = _read_responses(_responses_file(source, chosen), chosen)
    stimuli = pd.DataFrame({"stimulus_id": [f"image{column + 1:04d}" for column in columns]})
    if responses.shape[2] == 1:
        stimuli["n_repeats"] = chosen.n_repeats
    whole, varying = _usable(responses, train_rows(stimuli))
    kept = np.flatnonzero(whole & varying)
    if not len(kept):
        raise InputError(f"{source}: no neuron of session {chosen.name} has data for every picture and varies")
    neuroids = pd.DataFrame({"neuroid_id": [f"{chosen.name}-{number:02d}" for number in kept]})
    left_out = {"without_data": int((~whole).sum()), "flat": int((whole & ~varying).sum())}
    with _pictures(source, chosen, columns + 1) as pictures:
        return write_benchmark(
            out,
            stimuli,
            pictures,
            neuroids=neuroids.assign(subject=chosen.animal, roi_V4=True),
            responses=responses[kept],
            info={**_info(chosen), "left_out": left_out, **({"name": name} if name else {})},
        )


def _info(session: Session) -> dict:
    about = {"session": session.name, "split_in_paper": session.split, "image_set": session.kinds}
    return {"title": f"Macaque V4, session {session.name}", **DATASETS["cowley_v4"].info, **about}


def _responses_file(source: Path, session: Session) -> Path:
    candidates = (
        source / FOLDER / "responses_raw" / f"responses_{session.name}.npy",
        source / FOLDER / "responses_repeat_averaged" / f"responses_{session.name}.npy",
        source / session.name / "responses_raw.npz",
        source / session.name / "responses.npy",
    )
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{source} has no responses of session {session.name}, neither {candidates[1].relative_to(source)} nor "
            f"{candidates[3].relative_to(source)}; fetch that session, or name another folder"
        )
    return found


def _read_responses(path: Path, session: Session) -> tuple[np.ndarray, np.ndarray]:
    """Return responses float32 (neuron, image, repeat) of the images that the paper uses, and their columns."""
    with reading(path, "an array of responses"):
        content = np.load(path)
        values = np.asarray(content["responses"] if path.suffix == ".npz" else content)
    if values.dtype.kind not in "fiu" or (values < 0).any():
        raise InputError(f"{path} must hold spike counts, real numbers from 0, but has others; fetch it again")
    shape, values = values.shape, values[:, :, None] if values.ndim == 2 else values
    expected = STORED.get(session.name, (session.n_images,))
    if values.ndim != 3 or shape[0] != session.n_neurons or shape[1] not in expected or not shape[-1]:
        raise InputError(
            f"{path}: session {session.name} has {session.n_neurons} neurons and {' or '.join(map(str, expected))} "
            f"images, but the array is {shape}; fetch it again"
        )
    columns = np.arange(shape[1])
    if shape[1] > session.n_images:
        columns = columns[~np.isin(columns + 1, LEFT_OUT)]
    return values[:, columns].astype(np.float32, copy=False), columns


def _usable(responses: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every neuron, whether it has data for all pictures, and whether it varies in train and in test."""
    counts = (~np.isnan(responses)).sum(axis=2)
    means = np.nansum(responses, axis=2, dtype=np.float64) / np.maximum(counts, 1)
    varying = [np.ptp(means[:, rows], axis=1) > 0 for rows in (train, ~train)]
    return (counts > 0).all(axis=1), varying[0] & varying[1]


@contextmanager
def _pictures(source: Path, session: Session, numbers: np.ndarray) -> Iterator[list[Path]]:
    """Yield the JPEG files of these numbers; those of an archive are unpacked for as long as the block lasts."""
    own, archive = source / session.name / "images", source / FOLDER / "images" / f"images_{session.name}.zip"
    if own.is_dir():
        yield _chosen(own, _numbered(map(str, own.iterdir())), numbers)
        return
    with tempfile.TemporaryDirectory() as tmp:
        with reading(archive, "an archive of pictures"):
            found = _unpack(archive, Path(tmp))
        try:
            yield _chosen(archive, found, numbers)
        except InputError as error:  # nobody will find the unpacked picture
            raise InputError(str(error).replace(f"{tmp}/", f"{archive}: ")) from error


def _chosen(place: Path, found: dict[int, str], numbers: np.ndarray) -> list[Path]:
    missing = [f"image{number:04d}.jpg" for number in numbers if number not in found]
    if missing:
        raise InputError(
            f"{place} lacks {len(missing)} of {len(numbers)} pictures: {first_names(missing)}; fetch it again"
        )
    return [Path(found[number]) for number in numbers]


def _unpack(archive: Path, folder: Path) -> dict[int, str]:
    """Write the pictures into `folder` by their numbers, so that names within the archive cannot lead elsewhere."""
    with zipfile.ZipFile(archive) as content:
        for number, member in _numbered(content.namelist()).items():
            with content.open(member) as packed:  # which checks the CRC at the end
                picture = packed.read(MAX_PICTURE + 1)
            if len(picture) > MAX_PICTURE:
                raise InputError(f"{archive}: {member!r} is larger than any JPEG of 112 x 112; fetch it again")
            (folder / f"image{number:04d}.jpg").write_bytes(picture)
    return _numbered(map(str, folder.iterdir()))


def _numbered(names: Iterable[str]) -> dict[int, str]:
    """Return names[number] of the files imageNNNN.jpg, in whatever folder they are; the first of two counts."""
    found: dict[int, str] = {}
    for name in names:
        match = re.fullmatch(r"image(\d+)\.jpe?g", PurePosixPath(name).name)
        if match:
            found.setdefault(int(match[1]), name)
    return found
