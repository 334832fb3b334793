"""Files that are there already: adopted or kept by proof alone, and what is said of damage, changes and links."""

import hashlib
import json
import os
from dataclasses import asdict

import pytest
from hostile import FAST
from three_files import DATA, KEYS, NEW

from juicyfruits.errors import InputError
from juicyfruits.remote import Corrupt, FetchError, RemoteChanged, download, open_source, read_records


def test_a_file_here_that_is_not_the_remote_one_is_told_and_left_alone(server, s3, http, tmp_path):
    here = tmp_path / KEYS[0]
    here.parent.mkdir(parents=True)
    here.write_bytes(DATA[:-1] + b"?")
    with pytest.raises(Corrupt, match="is there, but is not"):
        download(s3, KEYS[:1], tmp_path)
    here.write_bytes(DATA)
    [adopted] = download(s3, KEYS[:1], tmp_path)
    assert adopted.proof == "md5" and server.sent[f"/b/{KEYS[0]}"] == 0
    here.write_bytes(DATA[:-1])
    with pytest.raises(Corrupt, match="399,999 bytes and had 400,000"):
        download(s3, KEYS[:1], tmp_path)
    here.write_bytes(DATA)
    server.put(f"/b/{KEYS[0]}", NEW)
    with pytest.raises(RemoteChanged, match=f"{hashlib.md5(DATA).hexdigest()}.*{hashlib.md5(NEW).hexdigest()}.*delete"):
        download(s3, KEYS[:1], tmp_path)
    assert here.read_bytes() == DATA
    here.unlink()
    download(s3, KEYS[:1], tmp_path)
    assert here.read_bytes() == NEW


def test_the_same_file_from_another_source_is_verified_not_fetched(server, s3, tmp_path):
    download(s3, KEYS[:1], tmp_path)
    server.put(f"/mirror/{KEYS[0]}", DATA, etag="other")
    server.put("/mirror/SHA256SUMS", f"{hashlib.sha256(DATA).hexdigest()}  {KEYS[0]}\n".encode())
    [record] = download(open_source(f"{server.url}/mirror", FAST), KEYS[:1], tmp_path)
    assert (record.etag, record.proof) == ("other", "sha256") and server.sent[f"/mirror/{KEYS[0]}"] == 0


@pytest.mark.parametrize("sums", [True, False])
def test_a_local_copy_that_is_only_touched_is_the_same_file(tmp_path, sums):
    here, out = tmp_path / "copy/x.bin", tmp_path / "out"
    here.parent.mkdir()
    here.write_bytes(DATA)
    if sums:
        (tmp_path / "copy/SHA256SUMS").write_text(f"{hashlib.sha256(DATA).hexdigest()}  x.bin\n")
    download(open_source(here.parent), ["x.bin"], out)
    os.utime(here, ns=(0, 5))
    [record] = download(open_source(here.parent), ["x.bin"], out)
    assert record.etag == "mtime 5" and read_records(out) == {"x.bin": record}
    here.write_bytes(DATA[::-1])
    (tmp_path / "copy/SHA256SUMS").unlink(missing_ok=True)
    with pytest.raises(RemoteChanged, match="was changed at"):
        download(open_source(here.parent), ["x.bin"], out)


@pytest.mark.parametrize("kind", ["http", "local"])
def test_what_nothing_proves_is_not_adopted(request, tmp_path, kind):
    """A file of the right size without a record."""
    here, copy = tmp_path / "out" / KEYS[0], tmp_path / "copy" / KEYS[0]
    for path, data in ((here, DATA[:-1] + b"?"), (copy, DATA)):
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    source = open_source(tmp_path / "copy") if kind == "local" else request.getfixturevalue("http")
    with pytest.raises(Corrupt, match="no sum is known" if kind == "http" else "its sha256 is"):
        download(source, KEYS[:1], tmp_path / "out")
    assert not read_records(tmp_path / "out")


def test_a_source_without_sums_takes_no_proof_away(server, s3, tmp_path):
    """Neither does it overlook that the file here was damaged since."""
    records = download(s3, KEYS[:1], tmp_path)
    server.put(f"/mirror/{KEYS[0]}", DATA)
    mirror = open_source(f"{server.url}/mirror", FAST)
    assert download(mirror, KEYS[:1], tmp_path) == records
    (tmp_path / KEYS[0]).write_bytes(DATA[:-1] + b"?")
    with pytest.raises(Corrupt, match="was damaged or changed here"):
        download(mirror, KEYS[:1], tmp_path)
    assert list(read_records(tmp_path).values()) == records


def test_the_best_proof_stays(server, s3, http, tmp_path):
    server.put("/mirror/" + KEYS[0], DATA)
    server.put("/mirror/SHA256SUMS", f"{hashlib.sha256(DATA).hexdigest()}  {KEYS[0]}\n".encode())
    download(open_source(f"{server.url}/mirror", FAST), KEYS[:1], tmp_path)
    [record] = download(s3, KEYS[:1], tmp_path)
    assert (record.url, record.proof) == (f"{s3.url}/{KEYS[0]}", "sha256")


@pytest.mark.parametrize("spoiled", [{"size": "x"}, {"size": None}, {"etag": 3}, {"more": 1}, "{", "[]"])
def test_a_spoiled_record_is_named(s3, tmp_path, spoiled):
    [record] = download(s3, KEYS[:1], tmp_path)
    text = spoiled if isinstance(spoiled, str) else json.dumps(asdict(record) | spoiled)
    (tmp_path / f".fetched/{KEYS[0]}.json").write_text(text)
    with pytest.raises(InputError, match=f"{KEYS[0]}.json cannot be read as the record.*delete it"):
        download(s3, KEYS[:1], tmp_path)


def test_a_link_to_what_is_not_there_is_not_replaced(s3, tmp_path):
    here = tmp_path / KEYS[0]
    here.parent.mkdir(parents=True)
    here.symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(FetchError, match=r"is a link to .*elsewhere\.bin, which is not there"):
        download(s3, KEYS[:1], tmp_path)
    assert here.is_symlink()
    (tmp_path / "elsewhere.bin").write_bytes(DATA)
    assert download(s3, KEYS[:1], tmp_path)[0].proof == "md5" and here.is_symlink()
