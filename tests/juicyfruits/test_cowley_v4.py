"""Made-up sessions in the structure of the release; a real session where there is one."""

import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import serve
from test_ncsnr import plain_ncsnr

from juicyfruits import InputError, cowley_v4
from juicyfruits.cowley_v4 import FOLDER, SESSIONS, Session
from juicyfruits.remote import NotFound

REAL = Path(os.environ.get("DEEPJUICE_REAL_BRAINS", Path(__file__).parents[3] / "shared" / "data")) / "v4"
NAME, N_NEURONS, N_IMAGES, N_REPEATS = "990101", 5, 12, 4


@pytest.fixture(autouse=True)
def small_session(monkeypatch):
    session = Session(NAME, "WE", "test", N_NEURONS, 3, N_IMAGES, "12 normal")
    monkeypatch.setitem(SESSIONS, NAME, session)


def made_up(n_images=N_IMAGES):
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((N_NEURONS, n_images, 1))
    responses = (10 + signal + rng.standard_normal((N_NEURONS, n_images, N_REPEATS))).astype(np.float32)
    responses[:, ::3, -1] = np.nan  # pictures shown less often
    pictures = []
    for _ in range(n_images):
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (9, 8, 3), dtype=np.uint8)).save(data, format="JPEG")
        pictures.append(data.getvalue())
    return responses, pictures


def write_release(root, responses, pictures, *, raw=True, inside="images_990101/"):
    for name in ("images", "responses_raw", "responses_repeat_averaged"):
        (root / FOLDER / name).mkdir(parents=True)
    order = np.random.default_rng(1).permutation(len(pictures))  # archives keep no order
    with zipfile.ZipFile(root / FOLDER / "images" / f"images_{NAME}.zip", "w") as archive:
        archive.writestr("__MACOSX/._image0001.jpg", b"no picture")
        for i in order:
            archive.writestr(f"{inside}image{i + 1:04d}.jpg", pictures[i])
    if raw:
        np.save(root / FOLDER / "responses_raw" / f"responses_{NAME}.npy", responses)
    averages = np.zeros(responses.shape[:2]) if raw else np.nanmean(responses, axis=2)  # not to be used beside raw
    np.save(root / FOLDER / "responses_repeat_averaged" / f"responses_{NAME}.npy", averages)
    return root


def write_own(root, responses, pictures, *, raw=True):
    (root / NAME / "images").mkdir(parents=True)
    for i, picture in enumerate(pictures):
        (root / NAME / "images" / f"image{i + 1:04d}.jpg").write_bytes(picture)
    np.save(root / NAME / "responses.npy", np.nanmean(responses, axis=2))
    if raw:
        np.savez(root / NAME / "responses_raw.npz", responses=responses)
    return root


def test_single_repeats_are_kept_and_give_the_ceilings(tmp_path, capsys):
    responses, pictures = made_up()
    write_release(tmp_path / "web", responses, pictures)
    with serve(tmp_path / "web") as url:
        records = cowley_v4.fetch(url, tmp_path / "fetched", [int(NAME), NAME])
    assert [record.key.split("/")[1] for record in records] == ["images", "responses_raw"]
    assert "averages" not in capsys.readouterr().err
    benchmark = cowley_v4.prepare(tmp_path / "fetched", tmp_path / "out", NAME)
    np.testing.assert_array_equal(benchmark.responses, responses)
    np.testing.assert_allclose(benchmark.metadata["ncsnr"], [plain_ncsnr(neuron) for neuron in responses], rtol=1e-5)
    assert [Path(path).read_bytes() for path in benchmark.image_paths] == pictures
    assert list(benchmark.stimulus_data["stimulus_id"]) == [f"image{i:04d}" for i in range(1, N_IMAGES + 1)]
    assert benchmark.subjects == ["WE"] and benchmark.rois == ["V4"]
    assert benchmark.info["session"] == NAME and benchmark.info["licence"].startswith("GPL-3.0")


def test_without_single_repeats_averages_are_taken_and_said(tmp_path, capsys):
    responses, pictures = made_up()
    write_release(tmp_path / "web", responses, pictures, raw=False)
    with serve(tmp_path / "web") as url:
        records = cowley_v4.fetch(url, tmp_path / "fetched", [NAME])
    assert [record.key.split("/")[1] for record in records] == ["images", "responses_repeat_averaged"]
    assert f"no single repeats of {NAME}; averages instead" in capsys.readouterr().err
    benchmark = cowley_v4.prepare(tmp_path / "fetched", tmp_path / "out", NAME)
    np.testing.assert_array_equal(benchmark.responses[:, :, 0], np.nanmean(responses, axis=2))
    np.testing.assert_array_equal(benchmark.repeats(), np.full((N_NEURONS, N_IMAGES), 3))
    assert benchmark.metadata["ncsnr"].isna().all()


@pytest.mark.parametrize("raw", [True, False])
def test_both_layouts_give_the_same_benchmark(raw, tmp_path):
    release = write_release(tmp_path / "a", *made_up(), raw=raw)
    own = write_own(tmp_path / "b", *made_up(), raw=raw)
    benchmarks = [cowley_v4.prepare(root, root / "out", NAME) for root in (release, own)]
    assert benchmarks[0].digest == benchmarks[1].digest and benchmarks[0].info == benchmarks[1].info


def test_neurons_without_data_and_flat_ones_are_left_out_and_counted(tmp_path):
    responses, pictures = made_up()
    responses[0] = np.where(np.isnan(responses[0]), np.nan, 2)
    responses[1, 7] = np.nan
    responses[3, 1::2] = np.where(np.isnan(responses[3, 1::2]), np.nan, 2)  # the test pictures alone
    benchmark = cowley_v4.prepare(write_release(tmp_path / "web", responses, pictures), tmp_path / "out", NAME)
    assert list(benchmark.metadata.index) == [f"{NAME}-02", f"{NAME}-04"]
    np.testing.assert_array_equal(benchmark.responses, responses[[2, 4]])
    assert benchmark.info["left_out"] == {"without_data": 1, "flat": 2}
    benchmark.check_varies()
    np.save(tmp_path / "web" / FOLDER / "responses_raw" / f"responses_{NAME}.npy", np.full_like(responses, np.nan))
    with pytest.raises(InputError, match="no neuron of session 990101 has data"):
        cowley_v4.prepare(tmp_path / "web", tmp_path / "none", NAME)


def test_images_that_the_paper_leaves_out_are_left_out(tmp_path, monkeypatch):
    responses, pictures = made_up(N_IMAGES + 3)
    monkeypatch.setitem(cowley_v4.STORED, NAME, (N_IMAGES + 3,))
    monkeypatch.setattr(cowley_v4, "LEFT_OUT", range(6, 9))
    benchmark = cowley_v4.prepare(write_release(tmp_path / "web", responses, pictures), tmp_path / "out", NAME)
    kept = [*range(5), *range(8, 15)]
    np.testing.assert_array_equal(benchmark.responses, responses[:, kept])
    assert [Path(path).read_bytes() for path in benchmark.image_paths] == [pictures[i] for i in kept]
    assert list(benchmark.stimulus_data["stimulus_id"]) == [f"image{i + 1:04d}" for i in kept]


def test_names_within_an_archive_lead_nowhere(tmp_path, monkeypatch):
    source = write_release(tmp_path / "web", *made_up(), inside="../../../")
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a" / "b" / "c"))
    before = set(tmp_path.rglob("*"))
    cowley_v4.prepare(source, tmp_path / "out", NAME)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")} == before


def shorten(path, n_bytes=200):
    path.write_bytes(path.read_bytes()[:n_bytes])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def without_a_picture(path):
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(N_IMAGES - 1):
            archive.writestr(f"image{i + 1:04d}.jpg", b"")


def no_jpeg(path):
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(N_IMAGES):
            archive.writestr(f"image{i + 1:04d}.jpg", b"text")


def swollen(path):
    """A picture of 2 MB, which its archive packs into 2 kB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image0001.jpg", bytes(2**21))


def other_shape(*shape):
    return lambda path: np.save(path, np.zeros(shape))


def other_values(change):
    return lambda path: np.save(path, change(np.load(path)))


@pytest.mark.parametrize(
    ("part", "spoil", "message"),
    [
        ("images/images_990101.zip", shorten, "images_990101.zip cannot be read as an archive of pictures"),
        ("images/images_990101.zip", flip, "images_990101.zip cannot be read as an archive of pictures"),
        ("images/images_990101.zip", Path.unlink, "images_990101.zip cannot be read as an archive of pictures"),
        ("images/images_990101.zip", without_a_picture, "zip lacks 1 of 12 pictures: 'image0012.jpg'"),
        ("images/images_990101.zip", no_jpeg, "images_990101.zip: image0001.jpg cannot be read as a picture"),
        ("images/images_990101.zip", swollen, "zip: 'image0001.jpg' is larger than any JPEG of 112 x 112"),
        ("responses_raw/responses_990101.npy", other_values(np.negative), "990101.npy must hold spike counts, real"),
        (
            "responses_raw/responses_990101.npy",
            other_values(lambda a: a * 1j),
            "990101.npy must hold spike counts, real",
        ),
        ("responses_raw/responses_990101.npy", other_values(lambda a: a.astype(str)), "must hold spike counts, real"),
        ("responses_raw/responses_990101.npy", shorten, "responses_990101.npy cannot be read as an array"),
        ("responses_raw/responses_990101.npy", other_shape(5, 11, 4), r"12 images, but the array is \(5, 11, 4\)"),
        ("responses_raw/responses_990101.npy", other_shape(6, 12, 4), r"has 5 neurons .* is \(6, 12, 4\)"),
        ("responses_raw/responses_990101.npy", other_shape(5, 12, 0), r"\(5, 12, 0\)"),
        ("responses_raw/responses_990101.npy", other_shape(5), r"array is \(5,\)"),
    ],
)
def test_a_spoiled_file_is_named(part, spoil, message, tmp_path):
    source = write_release(tmp_path / "web", *made_up())
    spoil(source / FOLDER / part)
    with pytest.raises(InputError, match=message):
        cowley_v4.prepare(source, tmp_path / "out", NAME)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no session '201225'; did you mean .*'201025'"):
        cowley_v4.prepare(tmp_path, tmp_path / "out", 201225)
    with pytest.raises(InputError, match=r"no session '999'; known are 190923, 190924, .*211103"):
        cowley_v4.prepare(tmp_path, tmp_path / "out", 999)
    with pytest.raises(InputError, match="no responses of session 990101, neither data_V4"):
        cowley_v4.prepare(tmp_path, tmp_path / "out", NAME)
    with serve(tmp_path) as url:
        with pytest.raises(NotFound, match="990101"):
            cowley_v4.fetch(url, tmp_path / "fetched", [NAME])
        with pytest.raises(InputError, match="no session of cowley_v4 is named; choose from 190923"):
            cowley_v4.fetch(url, tmp_path / "fetched", [])


def test_the_table_agrees_with_what_its_sources_count():
    sessions = [session for name, session in SESSIONS.items() if name != NAME]
    for session in sessions:
        assert sum(int(kind.split()[0]) for kind in session.kinds.split(", ")) == session.n_images
    assert sum(session.split == "train" for session in sessions) == 44  # Cowley et al.
    tested = [SESSIONS[name] for name in ("190923", "201025", "210225", "211022")]
    assert sum(session.n_neurons for session in tested) == 219  # likewise
    assert {session.animal for session in tested} == {"WE", "PE", "RA"}


@pytest.mark.skipif(not (REAL / "210325").is_dir(), reason=f"no recordings in {REAL}")
def test_a_real_session_is_read_whole(tmp_path):
    benchmark = cowley_v4.prepare(REAL, tmp_path / "out", 210325)
    raw = np.load(REAL / "210325" / "responses_raw.npz")["responses"]
    np.testing.assert_array_equal(benchmark.responses, raw)
    np.testing.assert_allclose(benchmark.response_data, np.load(REAL / "210325" / "responses.npy"), atol=1e-6)
    np.testing.assert_allclose(benchmark.metadata["ncsnr"], [plain_ncsnr(neuron) for neuron in raw], rtol=1e-5)
    assert benchmark.info["left_out"] == {"without_data": 0, "flat": 0}
