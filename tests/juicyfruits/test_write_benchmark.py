"""write_benchmark: whole, valid, or not at all."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from juicyfruits import Benchmark, InputError, write_benchmark


def written(folder, stimulus_id, images, **options):
    stimuli = pd.DataFrame({"stimulus_id": stimulus_id})
    return write_benchmark(folder, stimuli, images, rdms={"IT": {"m1": 1 - np.eye(6)}}, **options)


def test_images_are_named_by_their_stimuli(tmp_path):
    """cat/0.png and dog/0.png are two pictures."""
    images = []
    for i in range(6):
        (tmp_path / f"k{i}").mkdir()
        images.append(tmp_path / f"k{i}" / "0.png")
        Image.new("RGB", (4, 4), (i, i, i)).save(images[-1])
    b = written(tmp_path / "b", list("abcdef"), images, info={"n": np.int64(3), "x": np.ones(2), "title": "T"})
    assert [b.get_stimulus(i).getpixel((0, 0))[0] for i in range(6)] == list(range(6))
    assert [Path(path).name for path in b.image_paths] == [f"{name}.png" for name in "abcdef"]
    assert (b.info["n"], b.info["x"], b.info["title"]) == (3, [1.0, 1.0], "T")


GOOD = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "ids, image, info, message",
    [
        (["../../x", *"bcdef"], GOOD, {}, "'../../x' is no plain file name"),
        (["/", *"bcdef"], GOOD, {}, "'/' is no plain file name"),
        (["", *"bcdef"], GOOD, {}, "'' is no plain file name"),
        ([None, *"bcdef"], GOOD, {}, "'' is no plain file name"),
        (["b", *"bcdef"], GOOD, {}, "must be unique, but 1 occur twice: 'b'"),
        (list("abcdef"), GOOD / 255, {}, r"'a' must be uint8 .* but is float64 \(4, 4, 3\)"),
        (list("abcdef"), GOOD.transpose(2, 0, 1), {}, r"'a' must be uint8 .* but is uint8 \(3, 4, 4\)"),
        (list("abcdef"), "nowhere.png", {}, "nowhere.png cannot be read as a picture"),
        (list("abcdef"), __file__, {}, "cannot be read as a picture"),
        (list("abcdef"), GOOD, {"x": object()}, "info must hold what JSON can"),
        (list("abcdef"), GOOD, {"name": 3}, "'name' must be text"),
    ],
)
def test_what_is_not_written(tmp_path, ids, image, info, message):
    with pytest.raises(InputError, match=message):
        written(tmp_path / "data" / "b", ids, [image] * 6, info=info)
    with pytest.raises(InputError, match="lack the column 'stimulus_id'; they have 'id'"):
        write_benchmark(tmp_path / "b", pd.DataFrame({"id": ids}), [GOOD] * 6, rdms={"IT": {"m1": 1 - np.eye(6)}})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nothing_invalid_is_written(tmp_path):
    stimuli = pd.DataFrame({"stimulus_id": list("abcdef")})
    neuroids = pd.DataFrame({"neuroid_id": ["x"], "subject": ["s"], "roi_V1": [True]})
    images = [np.zeros((4, 4, 3), np.uint8)] * 6
    with pytest.raises(InputError, match=r"b/responses.npy: 1 neuroids have .* without any repeat"):
        write_benchmark(tmp_path / "b", stimuli, images, neuroids=neuroids, responses=np.array([[1.0] * 5 + [np.nan]]))
    for wrong, message in ((images[:1], "6 stimuli have only 1 images"), (images * 2, "have more images than that")):
        with pytest.raises(InputError, match=message):
            write_benchmark(tmp_path / "b", stimuli, wrong, neuroids=neuroids, responses=np.ones((1, 6)))
    with pytest.raises(InputError, match="give one of the two"):
        write_benchmark(tmp_path / "b", stimuli, images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("roi", ["V1/V2", "V1\nV2", "V1\x7f"])
def test_names_of_regions_that_no_file_can_have(tmp_path, roi):
    stimuli = pd.DataFrame({"stimulus_id": list("abcdef")})
    neuroids = pd.DataFrame({"neuroid_id": ["x"], "subject": ["s"], f"roi_{roi}": [True]})
    for content in ({"neuroids": neuroids, "responses": np.ones((1, 6))}, {"rdms": {roi: {"m1": 1 - np.eye(6)}}}):
        with pytest.raises(InputError, match=r"b: the ROI name 'V1.* must have neither / nor control characters"):
            write_benchmark(tmp_path / "b", stimuli, [GOOD] * 6, **content)
    assert list(tmp_path.iterdir()) == []


def test_only_a_benchmark_is_replaced(own_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    stimuli = pd.DataFrame({"stimulus_id": list("abcdef")})
    images = [np.zeros((4, 4, 3), np.uint8)] * 6
    for folder, message in ((tmp_path / "mine", "will not be replaced"), (tmp_path / "mine/thesis.txt", "is a file")):
        with pytest.raises(InputError, match=message):
            write_benchmark(folder, stimuli, images, rdms={"IT": {"m1": 1 - np.eye(6)}})
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    assert write_benchmark(own_folder, stimuli, images, rdms={"IT": {"m1": 1 - np.eye(6)}}).kind == "rdms"


def test_a_file_of_responses_is_moved_in(own_folder, tmp_path):
    """And back if anything is wrong: it may have taken hours to make."""
    b, file = Benchmark(own_folder), tmp_path / "scores.npy"
    values = np.load(own_folder / "responses.npy")
    np.save(file, values)
    neuroids = pd.read_csv(own_folder / "neuroids.csv")
    for images, table, message in (
        (b.image_paths[:5], neuroids, "6 stimuli have only 5 images"),
        (b.image_paths, neuroids[1:], r"b/responses.npy must be numbers .* \(3, 6\)"),
    ):
        with pytest.raises(InputError, match=message):
            write_benchmark(tmp_path / "b", b.stimulus_data, images, neuroids=table, responses=file)
        np.testing.assert_array_equal(np.load(file), values)
        assert not (tmp_path / "b").exists()
    stimuli = b.stimulus_data[["stimulus_id"]]
    moved = write_benchmark(tmp_path / "b", stimuli, b.image_paths, neuroids=neuroids, responses=file)
    np.testing.assert_array_equal(moved.responses, values)
    assert moved.digest == b.digest and not file.exists()
    with pytest.raises(InputError, match=r"scores\.npy is none"):
        write_benchmark(tmp_path / "b", stimuli, b.image_paths, neuroids=neuroids, responses=file)
