"""Fetching from a release of NSD exactly what a benchmark needs, through whatever happens on the way."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile import Fault, Hostile

from juicyfruits import InputError
from juicyfruits.nsd import layout
from juicyfruits.nsd.fetch import fetch_nsd, list_nsd
from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.nsd.stimuli import byte_ranges, fetch_images, read_images
from juicyfruits.remote import Corrupt, DiskFull, RemoteChanged, open_source, read_records

BOTH = ["subj01", "subj02"]
STIMULI = f"/{layout.STIMULI}"


@pytest.fixture
def server(mini_source):
    """The miniature behind an HTTP server that counts and misbehaves."""
    with Hostile() as hostile:
        for path in mini_source.rglob("*"):
            if path.is_file():
                hostile.put(f"/{path.relative_to(mini_source)}", path.read_bytes())
        yield hostile


@pytest.fixture(scope="module")
def pictures(mini_source):
    with h5py.File(mini_source / layout.STIMULI) as file:
        return file["imgBrick"][:]


def whole(root):
    """Names of the files in a folder, hidden ones apart."""
    found = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {name for name in found if "/." not in f"/{name}"}


def test_what_is_needed_comes_and_nothing_else(server, mini_source, tmp_path):
    records = fetch_nsd(server.url, tmp_path, subjects=["subj02"], rois=["V1", "FFA & nsdgeneral"], accept_terms=True)
    folder = "nsddata/ppdata/subj02/func1pt8mm/roi"
    betas = f"nsddata_betas/ppdata/subj02/func1pt8mm/{layout.DEFAULT_BETAS}"
    expected = {
        *(layout.EXPDESIGN, layout.STIM_INFO, layout.CHOSEN_STIMULI, layout.responses_tsv("subj02")),
        *(f"{folder}/{name}.nii.gz" for name in ("prf-visualrois", "floc-faces", "nsdgeneral")),
        *(f"{betas}/betas_session{n:02d}.hdf5" for n in range(1, 6)),
        f"{betas}/ncsnr.nii.gz",
    }
    assert whole(tmp_path) == expected == {record.key for record in records}
    for name in expected - {layout.CHOSEN_STIMULI}:
        assert (tmp_path / name).read_bytes() == (mini_source / name).read_bytes()
        assert server.sent[f"/{name}"] == (mini_source / name).stat().st_size
    before = server.sent.copy()
    assert fetch_nsd(server.url, tmp_path, subjects=["subj02"], rois=["V1", "FFA & nsdgeneral"]) == records
    assert server.sent == before


def test_a_fetched_folder_gives_the_same_benchmark_as_the_release(server, mini_source, tmp_path):
    fetch_nsd(server.url, tmp_path / "raw", subjects=BOTH, accept_terms=True)
    fetched, released = (
        prepare_nsd(root, tmp_path / name) for root, name in ((tmp_path / "raw", "a"), (mini_source, "b"))
    )
    assert fetched.digest == released.digest
    assert fetched.responses.tobytes() == released.responses.tobytes()


def test_a_list_says_what_would_come_and_leaves_nothing(server, tmp_path):
    listed = dict(list_nsd(server.url, subjects=BOTH))
    assert server.sent[STIMULI] == 65_536  # the block with the header
    records = fetch_nsd(server.url, tmp_path, subjects=BOTH, accept_terms=True)
    sizes = {record.key: record.size for record in records if record.key != layout.CHOSEN_STIMULI}
    assert listed == sizes | {f"{layout.STIMULI}: 20 of its pictures": 20 * 48 * 48 * 3}


@pytest.mark.parametrize("subjects", ["subj01", ["subj01", "subj01"]])
def test_one_subject_may_be_a_text_and_is_fetched_once(server, subjects):
    assert list_nsd(server.url, subjects=subjects) == list_nsd(server.url, subjects=["subj01"])


def test_a_damaged_release_is_told_before_anything_is_listed(server):
    server.put(STIMULI, b"garbage")
    with pytest.raises(Corrupt, match=r"nsd_stimuli\.hdf5 is not NSD's file of pictures"):
        list_nsd(server.url, subjects="subj01")


def test_terms_are_shown_and_accepted_once(server, tmp_path, capsys):
    with pytest.raises(InputError, match="must be accepted once"):
        fetch_nsd(server.url, tmp_path, subjects=BOTH)
    assert "Data Access Agreement" in capsys.readouterr().out
    assert not server.sent and not list(tmp_path.iterdir())
    fetch_nsd(server.url, tmp_path, subjects=["subj01"], rois=["V1"], accept_terms=True)
    capsys.readouterr()
    fetch_nsd(server.url, tmp_path, subjects=["subj01"], rois=["V2"])
    assert "Agreement" not in capsys.readouterr().out


def test_only_the_chosen_pictures_travel_each_once(server, pictures, tmp_path):
    one = int(np.prod(pictures.shape[1:]))
    source = open_source(server.url)
    fetch_images(source, tmp_path, [5, 2, 9])
    first = server.sent[STIMULI]
    assert first < 3 * one + 70_000
    fetch_images(source, tmp_path, [2, 7])
    assert server.sent[STIMULI] - first < one + 70_000
    with h5py.File(tmp_path / layout.CHOSEN_STIMULI) as file:
        assert file["nsd_id"][:].tolist() == [2, 5, 7, 9]
        np.testing.assert_array_equal(file["imgBrick"][:], pictures[[2, 5, 7, 9]])
    np.testing.assert_array_equal(list(read_images(tmp_path, [9, 2])), pictures[[9, 2]])
    with pytest.raises(InputError, match=r"of its 4 pictures none has the nsd id '3'.*fetch again"):
        list(read_images(tmp_path, [2, 3]))


@pytest.mark.parametrize(
    "storage",
    [{}, {"chunks": (1, 5, 4, 3)}, {"chunks": (3, 16, 12, 1), "compression": "gzip"}],
    ids=["contiguous", "chunked", "compressed"],
)
def test_ranges_hold_the_pictures_however_they_are_stored(tmp_path, storage):
    brick = np.random.default_rng(0).integers(0, 256, (7, 16, 12, 3), dtype=np.uint8)
    path = tmp_path / "source" / layout.STIMULI
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=brick, **storage)
    with h5py.File(path) as file:
        ranges = byte_ranges(file["imgBrick"], 4)
        assert all(0 < start < stop <= path.stat().st_size for start, stop in ranges)
        if not storage:
            [(start, stop)] = ranges
            assert path.read_bytes()[start:stop] == brick[4].tobytes()
    fetch_images(open_source(tmp_path / "source"), tmp_path, [4, 6])
    np.testing.assert_array_equal(list(read_images(tmp_path, [4, 6])), brick[[4, 6]])


def test_broken_and_damaged_transfers_end_whole(server, mini_source, tmp_path):
    betas = [f"/{layout.betas_session('subj01', n)}" for n in range(1, 6)]
    for path, fault in zip(
        betas,
        (
            Fault(break_after=20_000),
            Fault(break_after=100, reset=True),
            Fault(break_after=0),
            Fault(status=503),
            Fault(replace=(mini_source / layout.betas_session("subj02", 5)).read_bytes()),
        ),
        strict=True,
    ):
        server.faults[path] = [fault]
    server.faults[STIMULI] = [Fault(break_after=1000), Fault(break_after=10)]
    fetch_nsd(server.url, tmp_path, subjects=["subj01"], accept_terms=True)
    for path in betas[:-1]:
        assert (tmp_path / path[1:]).read_bytes() == (mini_source / path[1:]).read_bytes()
    assert (tmp_path / betas[-1][1:]).read_bytes() == server.files[betas[-1]].data
    np.testing.assert_array_equal(
        list(read_images(tmp_path, _ids(tmp_path))), list(read_images(mini_source, _ids(tmp_path)))
    )


def _ids(root):
    with h5py.File(root / layout.CHOSEN_STIMULI) as file:
        return file["nsd_id"][:]


def test_pictures_of_two_versions_are_never_mixed(server, pictures, tmp_path):
    source = open_source(server.url)
    changed = bytearray(server.files[STIMULI].data)
    changed[-1] ^= 1
    server.faults[STIMULI] = [Fault(), Fault(replace=bytes(changed))]
    with pytest.raises(RemoteChanged):
        fetch_images(source, tmp_path, range(12))
    fetch_images(source, tmp_path, range(12))
    assert read_records(tmp_path)[layout.CHOSEN_STIMULI].etag == server.files[STIMULI].etag
    server.put(STIMULI, bytes(changed) + b"x")
    with pytest.raises(RemoteChanged, match="has changed since pictures were fetched from it"):
        fetch_images(source, tmp_path, range(13))
    np.testing.assert_array_equal(list(read_images(tmp_path, range(12))), pictures[:12])


def test_a_disk_without_space_is_told_and_nothing_lost(server, pictures, tmp_path, monkeypatch):
    real, calls = os.pwrite, []

    def full(*place):
        calls.append(place)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*place)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFull, match="No space left"):
        fetch_images(open_source(server.url), tmp_path, range(12))
    monkeypatch.undo()
    fetch_images(open_source(server.url), tmp_path, range(12))
    np.testing.assert_array_equal(list(read_images(tmp_path, range(12))), pictures[:12])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": ["subj09"]}, "unknown subject 'subj09'"),
        ({"space": "func2mm"}, "unknown space 'func2mm'"),
        ({"beta_version": "betas_fit"}, "no betas 'betas_fit' in func1pt8mm; did you mean"),
        ({"rois": ["V9"]}, "V9"),
        ({"image_set": "shared10"}, "unknown image set"),
        ({"image_set": "unique"}, "leaves 2 pictures to train"),
        ({"subjects": ["subj03"]}, "subj03/behav/responses.tsv.*; or choose other subjects, or another image set"),
        ({"subjects": []}, "no subject was chosen; name one or more of subj01, subj02"),
    ],
)
def test_a_choice_that_cannot_be_is_told_before_anything_large_comes(server, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        fetch_nsd(server.url, tmp_path, accept_terms=True, **{"subjects": ["subj01"], **options})
    assert not any(path.endswith("hdf5") for path in server.sent)


def test_the_command_lists_and_fetches(server, tmp_path, capsys):
    from juicyfruits.cli import main

    words = ["fetch", "nsd", str(tmp_path / "raw"), "--from", server.url, "--subjects", "subj01", "--rois", "V1"]
    assert main([*words, "--dry-run"]) == 0
    assert "bytes in all; nothing was fetched" in capsys.readouterr().out and not (tmp_path / "raw").exists()
    assert main(words) == 2
    assert "--accept-terms" in capsys.readouterr().err
    receipt = tmp_path / "receipt.json"
    assert main([*words, "--accept-terms", "--receipt", str(receipt)]) == 0
    assert f"are whole in {tmp_path / 'raw'}" in capsys.readouterr().out
    assert layout.CHOSEN_STIMULI in receipt.read_text()
    assert Path(tmp_path / "raw" / layout.CHOSEN_STIMULI).exists()
