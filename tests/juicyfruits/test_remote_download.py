"""Fetching into a folder: nothing twice, nothing corrupt, nothing half; and what is said when it cannot be done."""

import hashlib
import json
import os
import shutil
from types import SimpleNamespace

import pytest
from hostile import Fault
from three_files import DATA, KEYS, NEW

from juicyfruits.errors import InputError
from juicyfruits.remote import (
    Corrupt,
    DiskFull,
    FetchError,
    RemoteChanged,
    Unreachable,
    download,
    open_source,
    read_records,
    stat_files,
)
from juicyfruits.remote.download import OVERLAP


def leftovers(root):
    """Every file below `root` that is neither a fetched one nor a record nor a lock."""
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return [n for n in names if n not in KEYS and not n.startswith(".fetched/") and not n.endswith(".lock")]


def test_files_come_whole_once_and_are_written_down(server, s3, tmp_path, capsys):
    records = download(s3, [*KEYS, KEYS[0]], tmp_path)
    assert [(record.key, record.size, record.proof) for record in records] == [(k, len(DATA), "md5") for k in KEYS]
    assert all((tmp_path / key).read_bytes() == DATA for key in KEYS) and not leftovers(tmp_path)
    written = json.loads((tmp_path / f".fetched/{KEYS[1]}.json").read_text())
    assert written["sha256"] == hashlib.sha256(DATA).hexdigest() and written["etag"] == hashlib.md5(DATA).hexdigest()
    assert written["url"] == f"{server.url}/b/{KEYS[1]}" and written["fetched_at"].endswith("+00:00")
    assert read_records(tmp_path) == {record.key: record for record in records}
    assert f"fetching from {s3.url}" in capsys.readouterr().err
    assert download(s3, KEYS, tmp_path) == records
    assert server.sent == {f"/b/{key}": len(DATA) for key in KEYS}


@pytest.mark.parametrize(("kind", "overlap"), [("s3", 0), ("http", OVERLAP)])
def test_a_fetch_that_broke_off_goes_on_where_it_was(request, server, tmp_path, kind, overlap):
    """Where no sum will tell, the last bytes of the part are compared."""
    source = request.getfixturevalue(kind)
    path = f"/b/{KEYS[0]}"
    server.faults[path] = [Fault(break_after=100_000), *(Fault(status=503) for _ in range(3))]
    with pytest.raises(Unreachable, match="3 tries"):
        download(source, KEYS[:1], tmp_path)
    [part] = leftovers(tmp_path)
    assert part.endswith(".part") and (tmp_path / part).read_bytes() == DATA[:100_000]
    download(source, KEYS[:1], tmp_path)
    assert server.gets[path][-1] == f"bytes={100_000 - overlap}-{len(DATA) - 1}"
    assert server.sent[path] == len(DATA) + overlap
    assert (tmp_path / KEYS[0]).read_bytes() == DATA and not leftovers(tmp_path)


@pytest.mark.parametrize("kind", ["s3", "http"])
@pytest.mark.parametrize("spoiled", [bytes(len(DATA) + 5), bytes(len(DATA)), b"!" * 9])
def test_a_spoiled_part_is_not_built_upon(request, server, tmp_path, spoiled, kind):
    source = request.getfixturevalue(kind)
    server.faults[f"/b/{KEYS[0]}"] = [Fault(break_after=100_000), *(Fault(status=503) for _ in range(3))]
    with pytest.raises(Unreachable):
        download(source, KEYS[:1], tmp_path)
    (tmp_path / leftovers(tmp_path)[0]).write_bytes(spoiled)
    download(source, KEYS[:1], tmp_path)
    assert (tmp_path / KEYS[0]).read_bytes() == DATA and not leftovers(tmp_path)


def test_damaged_bytes_are_fetched_once_more_and_never_kept(server, s3, tmp_path, capsys):
    path = f"/b/{KEYS[0]}"
    server.faults[path] = [Fault(corrupt=7)]
    download(s3, KEYS[:1], tmp_path)
    assert (tmp_path / KEYS[0]).read_bytes() == DATA and "came damaged" in capsys.readouterr().err
    server.faults[f"/b/{KEYS[1]}"] = [Fault(corrupt=7), Fault(corrupt=8)]
    bad = hashlib.md5(DATA[:8] + bytes([DATA[8] ^ 1]) + DATA[9:]).hexdigest()
    with pytest.raises(Corrupt, match=f"md5 is {bad}, not {hashlib.md5(DATA).hexdigest()}"):
        download(s3, KEYS[1:2], tmp_path)
    assert not (tmp_path / KEYS[1]).exists() and not leftovers(tmp_path)


def test_a_sum_over_parts_of_unknown_sizes_is_proved_by_coming_twice_the_same(server, s3, tmp_path):
    """The server overlooks partNumber, and its ETag is of no parts that the usual sizes would give."""
    path = "/b/odd.bin"
    server.put(path, DATA, etag=f"{'0' * 32}-1")
    assert download(s3, ["odd.bin"], tmp_path)[0].proof == "size"
    assert (tmp_path / "odd.bin").read_bytes() == DATA and server.sent[path] == 2 * len(DATA)
    server.faults[path] = [Fault(corrupt=5), Fault()]
    with pytest.raises(Corrupt, match="no usual size of parts"):
        download(s3, ["odd.bin"], tmp_path / "again")
    assert not (tmp_path / "again/odd.bin").exists()


def test_a_mirror_with_published_sums_is_held_to_them(server, http, tmp_path):
    server.put("/b/SHA256SUMS", f"{hashlib.sha256(DATA).hexdigest()}  ./{KEYS[0]}\n{'0' * 64} *{KEYS[1]}\n".encode())
    server.faults[f"/b/{KEYS[0]}"] = [Fault(corrupt=7)]
    assert [download(http, [key], tmp_path)[0].proof for key in (KEYS[0], KEYS[2])] == ["sha256", "size"]
    assert (tmp_path / KEYS[0]).read_bytes() == DATA
    with pytest.raises(Corrupt, match=f"sha256 is {hashlib.sha256(DATA).hexdigest()}, not 0000"):
        download(http, [KEYS[1]], tmp_path)
    assert server.gets["/b/SHA256SUMS"] == [None]


def test_a_local_copy_is_copied_and_held_to_its_sums(tmp_path):
    copy = tmp_path / "copy"
    (copy / "a").mkdir(parents=True)
    (copy / "a/x.bin").write_bytes(DATA)
    assert download(open_source(copy), ["a/x.bin"], tmp_path / "out")[0].proof == "sha256"
    (copy / "SHA256SUMS").write_text(f"{'0' * 64}  a/x.bin\n")
    with pytest.raises(Corrupt):
        download(open_source(copy.as_uri()), ["a/x.bin"], tmp_path / "out2")
    assert (tmp_path / "out/a/x.bin").read_bytes() == DATA and not (tmp_path / "out2/a/x.bin").exists()


@pytest.mark.parametrize("when", [Fault(replace=NEW), Fault(break_after=100_000)])
def test_a_file_changed_meanwhile_comes_as_the_new_one(server, http, tmp_path, capsys, when):
    """Also where no sum would tell."""
    server.faults[f"/b/{KEYS[0]}"] = [when, Fault(replace=NEW)]
    [record] = download(http, KEYS[:1], tmp_path)
    assert (tmp_path / KEYS[0]).read_bytes() == NEW and record.etag == hashlib.md5(NEW).hexdigest()
    assert not leftovers(tmp_path) and capsys.readouterr().err.count("starting again") == 1


def test_a_file_that_never_rests_is_given_up(server, s3, tmp_path):
    server.faults[f"/b/{KEYS[0]}"] = [Fault(replace=DATA + bytes([n])) for n in range(9)]
    with pytest.raises(RemoteChanged, match="changed 3 times"):
        download(s3, KEYS[:1], tmp_path)
    assert not (tmp_path / KEYS[0]).exists()


def test_a_part_of_an_older_version_is_thrown_away(server, http, tmp_path):
    """Also where no sum would tell."""
    path = f"/b/{KEYS[0]}"
    server.faults[path] = [Fault(break_after=100_000), *(Fault(status=503) for _ in range(3))]
    with pytest.raises(Unreachable):
        download(http, KEYS[:1], tmp_path)
    server.put(path, NEW)
    download(http, KEYS[:1], tmp_path)
    assert (tmp_path / KEYS[0]).read_bytes() == NEW and not leftovers(tmp_path)


@pytest.mark.parametrize("jobs", [0, -1])
def test_fewer_than_one_job_is_refused(s3, tmp_path, jobs):
    with pytest.raises(InputError, match="jobs of at least 1"):
        download(s3, KEYS, tmp_path, jobs=jobs)


def test_too_little_space_is_told_before_the_first_byte(server, s3, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * len(DATA) - 1))
    with pytest.raises(DiskFull, match="1,199,999 bytes of free space and the 3 files need 1,200,000"):
        download(s3, KEYS, tmp_path)
    assert not server.gets
    download(s3, KEYS[:2], tmp_path)
    download(s3, KEYS, tmp_path)


def test_a_folder_that_may_not_be_written_is_told(s3, tmp_path):
    (tmp_path / "nsddata").write_text("a file where a folder must be")
    with pytest.raises(FetchError, match="could not be written"):
        download(s3, KEYS[:1], tmp_path)


def test_one_failure_stops_the_others_and_keeps_their_parts(server, s3, tmp_path):
    names = [f"f{n}.bin" for n in range(6)]
    for name in names:
        server.put(f"/b/{name}", DATA)
        server.faults[f"/b/{name}"] = [Fault(stall_after=1000, stall_s=1.0)]
    server.faults["/b/f0.bin"] = [Fault(status=403, slow_s=0.5)]
    server.faults["/b/f1.bin"] = [Fault(status=403, slow_s=0.7)]
    with pytest.raises(FetchError, match=r"f0\.bin.*1 more of 6 files failed as well"):
        download(s3, names, tmp_path, jobs=3)
    assert not any((tmp_path / name).exists() for name in names)
    assert set(server.sent) == {"/b/f0.bin", "/b/f1.bin", "/b/f2.bin"}
    [part] = [name for name in leftovers(tmp_path) if name.startswith(".f2.bin.") and name.endswith(".part")]
    size = (tmp_path / part).stat().st_size
    download(s3, names, tmp_path)
    assert server.gets["/b/f2.bin"][-1] == f"bytes={size}-{len(DATA) - 1}" and size >= 1000


def test_sizes_are_known_without_fetching(server, s3):
    server.put("/b/empty", b"")
    assert [(file.key, file.size) for file in stat_files(s3, [KEYS[0], "empty"])] == [
        (KEYS[0], len(DATA)),
        ("empty", 0),
    ]
    assert not server.gets


def test_an_empty_file_is_a_file(server, s3, tmp_path):
    server.put("/b/empty", b"")
    [record] = download(s3, ["empty"], tmp_path)
    assert (record.size, record.proof) == (0, "md5") and os.path.getsize(tmp_path / "empty") == 0
