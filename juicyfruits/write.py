"""Write a benchmark folder whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from juicyfruits.benchmark import Benchmark
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import atomic_path, check_replaceable
from juicyfruits.picture_file import split_address, write_pictures
from juicyfruits.pictures import open_rgb
from juicyfruits.prepared import PARTS, RDM_FILE, ROI_PREFIX, read_info

MAX_PICTURE_FILES = 3000
PICTURE_FILE = "images.hdf5"


def write_benchmark(
    folder: str | Path,
    stimuli: pd.DataFrame,
    images: Iterable[np.ndarray | str | Path],
    *,
    neuroids: pd.DataFrame | None = None,
    responses: np.ndarray | Path | None = None,
    rdms: dict[str, dict[str, np.ndarray]] | None = None,
    info: dict | None = None,
) -> Benchmark:
    """Write a benchmark folder from tables and arrays, check it, and return it.

    Args:
        folder: where to; an earlier benchmark there is replaced, any other content is an `InputError`.
        stimuli: a row a stimulus with `stimulus_id`; `image_path` is filled in here.
        images: one a stimulus, in their order: (height, width, 3) uint8 arrays, saved as PNG, or files to copy; in
            the folder they are named by their stimulus_id, which must therefore be a plain file name. More than
            `MAX_PICTURE_FILES` must be of one size, and become one `images.hdf5` (`juicyfruits.picture_file`).
        neuroids: a row a neuroid: `neuroid_id`, `subject`, one boolean `roi_NAME` a region, anything else.
        responses: (neuroid, stimulus) or (neuroid, stimulus, repetition), saved as float32; NaN is a missing repeat.
            Or the path of such a .npy file, which is moved into the folder, and back should anything be wrong.
        rdms: instead of neuroids and responses, rdms[roi][subject] of (stimulus, stimulus).
        info: what else benchmark.json shall say (title, dataset, source, ...).

    Example:
        >>> import tempfile
        >>> table = pd.DataFrame({"stimulus_id": list("abcdef")})
        >>> pictures = [np.zeros((8, 8, 3), np.uint8)] * 6
        >>> rdm = 1 - np.eye(6)
        >>> write_benchmark(tempfile.mkdtemp() + "/tiny", table, pictures, rdms={"IT": {"m1": rdm}}).rois
        ['IT']
    """
    folder = Path(folder)
    if (responses is None) == (rdms is None) or (responses is None) != (neuroids is None):
        raise InputError("a benchmark has either neuroids with responses, or rdms; give one of the two")
    check_replaceable(folder, "benchmark.json", PARTS)
    ids = _check_ids(stimuli)
    with atomic_path(folder) as tmp, ExitStack() as stack:
        tmp.mkdir()
        paths = _write_images(tmp, ids, images)
        _to_csv(stimuli.assign(image_path=paths), tmp / "stimuli.csv")
        if rdms is not None:
            np.savez_compressed(tmp / RDM_FILE, **{f"{r}__{s}": m for r, by in rdms.items() for s, m in by.items()})
        else:
            _to_csv(neuroids, tmp / "neuroids.csv")
            stack.enter_context(_place(responses, tmp / "responses.npy"))
        try:
            _write_info(tmp, folder.resolve().name, info or {})
        except InputError as error:  # nobody will find the temporary folder
            raise InputError(str(error).replace(str(tmp), str(folder))) from error
    return Benchmark(folder)


def save_benchmark(benchmark: Benchmark, folder: str | Path) -> Benchmark:
    """Write a benchmark, wherever it came from, to a folder of its own, whose name it takes."""
    content: dict = {"rdms": benchmark.rdms}
    if benchmark.kind == "responses":
        columns = {roi: f"{ROI_PREFIX}{roi}" for roi in benchmark.rois}
        neuroids = benchmark.metadata.rename(columns=columns).reset_index()
        content = {"neuroids": neuroids, "responses": benchmark.responses}
    info = {key: said for key, said in benchmark.info.items() if key not in ("name", "digest")}
    return write_benchmark(folder, benchmark.stimulus_data, benchmark.image_paths, info=info, **content)


@contextmanager
def _place(responses: np.ndarray | Path, path: Path) -> Iterator[None]:
    """Save the responses at `path`, or move their file there and, should the block fail, back again."""
    if not isinstance(responses, Path):
        np.save(path, np.asarray(responses, dtype=np.float32))
        yield
        return
    if not responses.is_file() or responses.suffix != ".npy":
        raise InputError(f"responses must be an array or an existing .npy file, but {responses} is none; save it there")
    shutil.move(responses, path)
    try:
        yield
    except BaseException:
        shutil.move(path, responses)
        raise


def _check_ids(stimuli: pd.DataFrame) -> list[str]:
    """Return the stimulus ids as text; as pictures are named by them, they must be plain and unique file names."""
    if "stimulus_id" not in stimuli.columns:
        raise InputError(f"stimuli lack the column 'stimulus_id'; they have {first_names(stimuli.columns, 8)}")
    ids = ["" if pd.isna(name) else str(name) for name in stimuli["stimulus_id"]]
    odd = [name for name in ids if name in ("", ".", "..") or set(name) & set("/\\\0")]
    if odd:
        raise InputError(f"stimulus_id {odd[0]!r} is no plain file name; leave out slashes, and leave none empty")
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"stimulus_id must be unique, but {len(twice)} occur twice: {first_names(twice)}")
    return ids


def _write_images(folder: Path, stimulus_ids: list[str], images: Iterable[np.ndarray | str | Path]) -> list[str]:
    """Write the pictures as files, or very many into one, and return their paths within the folder."""
    pairs = _pairs(stimulus_ids, images)
    if len(stimulus_ids) > MAX_PICTURE_FILES:
        pictures = ((stimulus_id, _as_array(stimulus_id, image)) for stimulus_id, image in pairs)
        write_pictures(folder / PICTURE_FILE, len(stimulus_ids), pictures)
        return [f"{PICTURE_FILE}#{row}" for row in range(len(stimulus_ids))]
    (folder / "images").mkdir()
    return [_write_image(folder, stimulus_id, image) for stimulus_id, image in pairs]


def _pairs(
    stimulus_ids: list[str], images: Iterable[np.ndarray | str | Path]
) -> Iterator[tuple[str, np.ndarray | str | Path]]:
    images = iter(images)
    for row, stimulus_id in enumerate(stimulus_ids):
        image = next(images, None)
        if image is None:
            raise InputError(f"{len(stimulus_ids)} stimuli have only {row} images; give one a stimulus")
        yield stimulus_id, image
    if next(images, None) is not None:
        raise InputError(f"{len(stimulus_ids)} stimuli have more images than that; give one a stimulus")


def _write_image(folder: Path, stimulus_id: str, image: np.ndarray | str | Path) -> str:
    is_file = isinstance(image, (str, Path)) and not split_address(image)
    path = f"images/{stimulus_id}{Path(image).suffix if is_file else '.png'}"
    picture = _as_array(stimulus_id, image)
    if is_file:
        shutil.copyfile(image, folder / path)
    else:
        Image.fromarray(picture).save(folder / path, compress_level=1)
    return path


def _as_array(stimulus_id: str, image: np.ndarray | str | Path) -> np.ndarray:
    if isinstance(image, (str, Path)):
        return np.asarray(open_rgb(image))
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"image of stimulus {stimulus_id!r} must be uint8 (height, width, 3) with values 0 to 255, or a file, but "
            f"is {image.dtype} {image.shape}; convert it"
        )
    return image


def _write_info(folder: Path, name: str, info: dict) -> None:
    """Load what was written, so that nothing invalid is ever renamed into place, and describe it."""
    benchmark = Benchmark(folder)
    said = {"name": name, **info, "kind": benchmark.kind, "digest": benchmark.digest}
    try:
        text = json.dumps(said, indent=2, default=lambda value: value.tolist())  # NumPy's scalars and arrays
    except (TypeError, AttributeError) as error:
        raise InputError(f"info must hold what JSON can, texts, numbers and lists, but {error}; convert it") from None
    (folder / "benchmark.json").write_text(text + "\n", encoding="utf-8")
    read_info(folder)


def _to_csv(table: pd.DataFrame, path: Path) -> None:
    flags = [name for name in table.columns if str(name).startswith(ROI_PREFIX)]
    table.assign(**{name: table[name].astype(int) for name in flags}).to_csv(path, index=False)
