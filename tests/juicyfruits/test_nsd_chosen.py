"""NSD's pictures on this disk and in the store, damaged in every place: none is taken for another, none comes twice."""

import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from hostile import Fault, Hostile

from juicyfruits import InputError
from juicyfruits.nsd import layout
from juicyfruits.nsd.chosen import Rows
from juicyfruits.nsd.stimuli import fetch_images, image_bytes, read_images
from juicyfruits.remote import Corrupt, DiskFull, open_source, read_records

STIMULI = f"/{layout.STIMULI}"
PICTURES = np.random.default_rng(0).integers(1, 256, (40, 50, 40, 3), dtype=np.uint8)
ONE = PICTURES[0].size
HEADER = 65_536  # the block with the header


def stored(path, **storage):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=PICTURES, **storage)
    return path


@pytest.fixture
def server(tmp_path):
    with Hostile() as hostile:
        hostile.put(STIMULI, stored(tmp_path / "release.hdf5").read_bytes())
        yield hostile


@pytest.fixture
def source(server):
    return open_source(server.url)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


def replace(name, change=None):
    """Return what changes one dataset of a file, or leaves it out."""

    def spoil(path):
        with h5py.File(path, "r+") as file:
            values, etag = file[name][:], file["nsd_id"].attrs["etag"]
            del file[name]
            if change:
                file[name] = change(values)
            if change and name == "nsd_id":
                file[name].attrs["etag"] = etag

    return spoil


def without_etag(path):
    with h5py.File(path, "r+") as file:
        del file["nsd_id"].attrs["etag"]


def no_row(row):
    def spoil(pictures):
        pictures[row] = 0
        return pictures

    return spoil


UNREADABLE = {
    "no pictures": replace("imgBrick"),
    "no ids": replace("nsd_id"),
    "no digests": replace("digest"),
    "text for ids": replace("nsd_id", lambda ids: [str(nsd_id) for nsd_id in ids]),
    "a picture less": replace("imgBrick", lambda pictures: pictures[:-1]),
    "one id twice": replace("nsd_id", lambda ids: ids[[0, 0, 2]]),
    "ids reversed": replace("nsd_id", lambda ids: ids[::-1]),
    "no ETag": without_etag,
    "garbage": lambda path: path.write_bytes(b"garbage" * 999),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:5000]),
}
ONE_DAMAGED = {
    "a row of zeros": replace("imgBrick", no_row(1)),
    "another id": replace("nsd_id", lambda ids: ids + np.array([0, 1, 0])),
    "another digest": replace("digest", lambda digests: digests + np.uint64([0, 1, 0])),
}


@pytest.mark.parametrize("damage", [*UNREADABLE, *ONE_DAMAGED])
def test_damaged_pictures_are_never_read_nor_kept(server, source, root, capsys, damage):
    fetch_images(source, root, [3, 5, 9])
    path, sha256 = root / layout.CHOSEN_STIMULI, read_records(root)[layout.CHOSEN_STIMULI].sha256
    (UNREADABLE | ONE_DAMAGED)[damage](path)
    with pytest.raises(InputError, match=r"nsd_stimuli_chosen\.hdf5.*fetch"):
        list(read_images(root, [3, 5, 9]))
    sent = server.sent[STIMULI]
    capsys.readouterr()
    assert fetch_images(source, root, [3, 5, 9]).sha256 == sha256
    assert server.sent[STIMULI] - sent == HEADER + ONE * (1 if damage in ONE_DAMAGED else 3)
    assert capsys.readouterr().err.count("fetched again") == 1
    np.testing.assert_array_equal(list(read_images(root, [9, 5, 3])), PICTURES[[9, 5, 3]])


def test_more_pictures_beside_damaged_ones_copy_no_damage(source, root):
    fetch_images(source, root, [3, 5, 9])
    replace("imgBrick", no_row(1))(root / layout.CHOSEN_STIMULI)
    fetch_images(source, root, [7])
    np.testing.assert_array_equal(list(read_images(root, [3, 7, 9])), PICTURES[[3, 7, 9]])
    with pytest.raises(InputError, match="of its 3 pictures none has the nsd id '5'"):
        list(read_images(root, [5]))


def stopped(monkeypatch, source, root, nsd_ids, after):
    """Fetch, but stop short before a picture; return what is left behind."""
    real, calls = Rows.write, []

    def write(*place):
        calls.append(place)
        if len(calls) > after:
            raise KeyboardInterrupt
        real(*place)

    with monkeypatch.context() as patched:
        patched.setattr(Rows, "write", write)
        with pytest.raises(KeyboardInterrupt):
            fetch_images(source, root, nsd_ids)
    [part] = (root / layout.CHOSEN_STIMULI).parent.glob(".*.part")
    return part


@pytest.mark.parametrize("damage", [*UNREADABLE, *ONE_DAMAGED])
def test_a_damaged_part_is_gone_on_with_where_it_is_whole(server, source, root, capsys, monkeypatch, damage):
    part = stopped(monkeypatch, source, root, [3, 5, 9], after=2)
    (UNREADABLE | ONE_DAMAGED)[damage](part)
    sent = server.sent[STIMULI]
    capsys.readouterr()
    fetch_images(source, root, [3, 5, 9])
    assert server.sent[STIMULI] - sent == HEADER + ONE * (2 if damage in ONE_DAMAGED else 3)
    assert capsys.readouterr().err.count("fetched again") == 1
    np.testing.assert_array_equal(list(read_images(root, [3, 5, 9])), PICTURES[[3, 5, 9]])
    assert not part.exists()


def test_a_part_that_says_that_all_came_is_not_believed(source, root, monkeypatch):
    part = stopped(monkeypatch, source, root, [3, 5, 9], after=0)
    with h5py.File(part, "r+") as file:
        file["digest"][:] = 1
    fetch_images(source, root, [3, 5, 9])
    np.testing.assert_array_equal(list(read_images(root, [3, 5, 9])), PICTURES[[3, 5, 9]])


def test_what_came_for_one_choice_serves_the_next(server, source, root, monkeypatch):
    stopped(monkeypatch, source, root, range(0, 20, 2), after=6)
    sent = server.sent[STIMULI]
    stopped(monkeypatch, source, root, range(1, 11, 2), after=6 + 3)  # six are taken over
    fetch_images(source, root, range(1, 11, 2))
    fetch_images(source, root, range(0, 20, 2))
    # What was on its way in the group of eight comes again: two pictures of the second fetch.
    assert server.sent[STIMULI] - sent == 3 * HEADER + (5 + 2 + 4) * ONE
    np.testing.assert_array_equal(list(read_images(root, [*range(11), 18])), PICTURES[[*range(11), 18]])


def unwritten(path, **storage):
    with h5py.File(path, "w") as file:
        brick = file.create_dataset("imgBrick", PICTURES.shape, np.uint8, **storage)
        if storage:
            brick[:3] = PICTURES[:3]


def group(path):
    with h5py.File(path, "w") as file:
        file.create_group("imgBrick")


def other(name, values):
    def spoil(path):
        with h5py.File(path, "w") as file:
            file[name] = values

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message", "in_header"),
    [
        (lambda path: unwritten(path), "no bytes of picture 2", False),
        (lambda path: unwritten(path, chunks=(1, 25, 20, 3)), "no bytes of picture 5", False),
        (group, "is not there or a group", True),
        (other("pictures", PICTURES), "is not there or a group", True),
        (other("imgBrick", PICTURES.astype(float)), r"but is float64 \(40, 50", True),
        (other("imgBrick", "none"), "but is object", True),
        (lambda path: path.write_bytes(b"garbage" * 99), "signature not found", True),
        (lambda path: path.write_bytes(b""), "signature not found", True),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "truncated", True),
    ],
    ids=["never written", "chunks missing", "group", "no imgBrick", "floats", "scalar", "garbage", "empty", "short"],
)
def test_a_damaged_release_is_blamed_by_its_address(tmp_path, root, spoil, message, in_header):
    path = stored(tmp_path / "source" / layout.STIMULI)
    spoil(path)
    source = open_source(tmp_path / "source")
    for call in [lambda: fetch_images(source, root, [2, 5])] + [lambda: image_bytes(source, [2, 5])] * in_header:
        with pytest.raises(Corrupt, match=rf"^file://.*nsd_stimuli\.hdf5 .*{message}.*take another source"):
            call()
    assert not (root / layout.CHOSEN_STIMULI).exists()


def test_pictures_that_the_release_has_not_are_told(source, root):
    for call in (lambda: fetch_images(source, root, [2, 40]), lambda: image_bytes(source, [2, 40])):
        with pytest.raises(InputError, match="has 40 pictures, but number 40 is needed"):
            call()


def test_too_little_space_is_told_before_any_picture_comes(server, source, root, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=3 * ONE - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        DiskFull, match=f"{3 * ONE - 1:,} bytes of free space and fetching 3 pictures needs {3 * ONE:,}"
    ):
        fetch_images(source, root, [3, 5, 9])
    assert server.sent[STIMULI] == HEADER
    fetch_images(source, root, [3, 5])


FETCH = "from juicyfruits.nsd.stimuli import *; from juicyfruits.remote import open_source; import sys; \
fetch_images(open_source(sys.argv[1]), Path(sys.argv[2]), range(12))"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_at_a_server_that_stalls_it_goes_on_after_what_came(server, source, root, number):
    server.faults[STIMULI] = [Fault()] * 2 + [Fault(stall_after=10, stall_s=30)]
    process = subprocess.Popen([sys.executable, "-c", FETCH, server.url, str(root)], stderr=subprocess.DEVNULL)
    for _ in range(600):
        if len(server.gets[STIMULI]) >= 3:
            break
        time.sleep(0.05)
    process.send_signal(number)
    process.wait(timeout=10)
    assert not (root / layout.CHOSEN_STIMULI).exists()
    server.faults[STIMULI].clear()
    sent = server.sent[STIMULI]
    fetch_images(source, root, range(12))
    assert server.sent[STIMULI] - sent == HEADER + 4 * ONE
    np.testing.assert_array_equal(list(read_images(root, range(12))), PICTURES[:12])
    assert not list((root / layout.CHOSEN_STIMULI).parent.glob(".*.part"))
