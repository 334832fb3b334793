"""Pictures in one HDF5 file: the same as in files of their own, whoever reads them, and errors that name the file."""

import multiprocessing
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import h5py
import numpy as np
import pandas as pd
import pytest
from folders import edit

from juicyfruits import Benchmark, InputError, write_benchmark
from juicyfruits.pictures import open_rgb

N = 12
PICTURES = np.random.default_rng(0).integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The same benchmark twice, with its pictures as files and as rows."""
    write = partial(
        write_benchmark,
        stimuli=pd.DataFrame({"stimulus_id": [f"s{i}" for i in range(N)]}),
        rdms={"IT": {"m1": 1 - np.eye(N)}},
    )
    files = write(tmp_path / "files", images=PICTURES)
    monkeypatch.setattr("juicyfruits.write.MAX_PICTURE_FILES", N - 1)
    return files, write(tmp_path / "rows", images=iter(PICTURES)), write


def test_rows_are_the_pictures(written, tmp_path):
    files, rows, write = written
    assert rows.image_paths[7] == f"{rows.folder}/images.hdf5#7" and not (rows.folder / "images").exists()
    with h5py.File(rows.folder / "images.hdf5") as store:
        np.testing.assert_array_equal(store["images"], PICTURES)
    for benchmark in (files, rows, write(tmp_path / "again", images=files.image_paths)):
        np.testing.assert_array_equal([np.asarray(benchmark.get_stimulus(f"s{i}")) for i in range(N)], PICTURES)


def test_rows_become_files_again(written, tmp_path, monkeypatch):
    files, rows, write = written
    monkeypatch.undo()
    assert write(tmp_path / "again", images=rows.image_paths).stimulus_digest == files.stimulus_digest


def read_all(paths):
    return np.stack([np.asarray(open_rgb(path)) for path in paths])


@pytest.mark.parametrize("method", ["fork", "spawn", "threads"])
def test_many_read_at_once(written, method):
    """Also where the parent has read the file before it forks."""
    paths = written[1].image_paths
    np.testing.assert_array_equal(read_all(paths), PICTURES)
    jobs = [paths[i:] + paths[:i] for i in range(4)]
    if method == "threads":
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(read_all, jobs))
    else:
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.map(read_all, jobs)
    for i, got in enumerate(found):
        np.testing.assert_array_equal(got, np.roll(PICTURES, -i, axis=0))


def test_the_digest_follows_pictures_and_order(written, tmp_path):
    rows = written[1]
    copy = shutil.copytree(rows.folder, tmp_path / "copy")
    with h5py.File(copy / "images.hdf5", "w") as store:  # laid out otherwise, and with a picture that is not used
        store.create_dataset("images", data=np.concatenate([PICTURES, PICTURES[:1]]), chunks=(1, 6, 5, 3))
    assert Benchmark(copy).digest == rows.digest
    table = pd.read_csv(copy / "stimuli.csv")
    table.assign(image_path=table["image_path"].to_numpy()[::-1]).to_csv(copy / "stimuli.csv", index=False)
    assert Benchmark(copy).stimulus_digest != rows.stimulus_digest
    table.to_csv(copy / "stimuli.csv", index=False)
    with h5py.File(copy / "images.hdf5", "a") as store:
        store["images"][3, 0, 0, 0] ^= 1
    assert Benchmark(copy).stimulus_digest != rows.stimulus_digest


def rewrite(**datasets):
    def spoil(file):
        with h5py.File(file, "w") as store:
            for name, values in datasets.items():
                store[name] = values

    return spoil


def cut(file):
    file.write_bytes(file.read_bytes()[:-50])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda file: file.unlink(), r"names 12 pictures that are not in .*'images.hdf5#0'"),
        (lambda file: file.write_text("x"), "images.hdf5 cannot be read as an HDF5 file of pictures"),
        (cut, "images.hdf5 cannot be read as an HDF5 file of pictures"),
        (rewrite(), "must hold /images, uint8 .* but has nothing"),
        (rewrite(pictures=PICTURES), "must hold /images, uint8 .* but has pictures"),
        (rewrite(**{"images/a": PICTURES}), "must hold /images, uint8 .* but has images"),
        (rewrite(images=PICTURES / 255), r"must hold /images, uint8 .* but has float64 \(12, 6, 5, 3\)"),
        (rewrite(images=PICTURES[..., 0]), r"must hold /images, uint8 .* but has uint8 \(12, 6, 5\)"),
        (rewrite(images=PICTURES[:5]), r"stimuli.csv names row 11 of .*images.hdf5, which has 5: 0 to 4"),
    ],
)
def test_spoiled_files_are_named(written, spoil, message):
    folder = written[1].folder
    spoil(folder / "images.hdf5")
    with pytest.raises(InputError, match=message) as error:
        Benchmark(folder)
    assert "\n" not in str(error.value)


def test_a_row_that_is_not_there(written):
    with pytest.raises(InputError, match=r"images.hdf5 holds 12 pictures, rows 0 to 11, but not row 12"):
        open_rgb(f"{written[1].folder}/images.hdf5#12")


def test_a_row_of_too_many_digits(written):
    edit(written[1].folder, "stimuli.csv", lambda t: t.assign(image_path="images.hdf5#" + "9" * 5000))
    with pytest.raises(InputError, match="names 12 pictures that are not in"):
        Benchmark(written[1].folder)
    with pytest.raises(InputError, match="cannot be read as a picture"):
        open_rgb("images.hdf5#" + "9" * 5000)


def test_one_file_needs_one_size(written, tmp_path):
    images = [*PICTURES[:-1], PICTURES[-1].transpose(1, 0, 2)]
    with pytest.raises(InputError, match=r"'s11' is 5 x 6, but the first is 6 x 5; 12 pictures become one file"):
        written[2](tmp_path / "odd", images=images)
    assert not (tmp_path / "odd").exists()
