"""Addresses, what a store says of a file, and reading through every kind of trouble."""

import hashlib
import os
import socket

import pytest
from hostile import FAST, Fault, Hostile

from juicyfruits.errors import InputError
from juicyfruits.remote import (
    Corrupt,
    FetchError,
    Forbidden,
    NotFound,
    Patience,
    RemoteChanged,
    Unreachable,
    open_source,
)

IMPATIENT = Patience(tries=3, backoff=0.01, connect=2, read=0.4)
DATA = bytes(i * i % 251 for i in range(300_000))


@pytest.fixture
def server():
    with Hostile() as server:
        server.put("/bucket/a +b/x.bin", DATA)
        yield server


@pytest.fixture
def s3(server):
    return open_source(f"s3://bucket/a +b?endpoint={server.url}", FAST)


@pytest.fixture
def http(server):
    return open_source(f"{server.url}/bucket/a%20%2Bb", FAST)


def read(source, key="x.bin", *span) -> bytes:
    return b"".join(source.read(source.stat(key), *span))


@pytest.mark.parametrize(
    ("url", "environment", "address"),
    [
        ("s3://nsd/a b", {}, "https://nsd.s3.amazonaws.com/a%20b"),
        ("s3://dotted.name", {}, "https://s3.amazonaws.com/dotted.name"),
        ("s3://nsd", {"AWS_ENDPOINT_URL": "http://x:1/"}, "http://x:1/nsd"),
        ("s3://nsd", {"AWS_ENDPOINT_URL": "http://x:1", "AWS_ENDPOINT_URL_S3": "http://y:2"}, "http://y:2/nsd"),
        ("s3://nsd?endpoint=http://z:3", {"AWS_ENDPOINT_URL_S3": "http://y:2"}, "http://z:3/nsd"),
        (
            "s3://nsd",
            {"AWS_ENDPOINT_URL": "http://x:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"},
            "https://nsd.s3.amazonaws.com",
        ),
        ("https://host/nsd/", {}, "https://host/nsd"),
    ],
)
def test_an_address_leads_to_its_store(monkeypatch, url, environment, address):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert open_source(url).url == address


@pytest.mark.parametrize(
    "url", ["gs://x/y", "s3:///key", "s3://b?region=x", "https://h/p?token=1", "https://me:pass@h/p", "http://"]
)
def test_an_address_of_another_kind_is_refused_without_telling_a_password(url):
    with pytest.raises(InputError) as caught:
        open_source(url)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("kind", ["s3", "http", "file", "folder"])
def test_every_kind_of_source_tells_size_and_gives_any_range(request, kind, tmp_path):
    (tmp_path / "x.bin").write_bytes(DATA)
    here = {"file": tmp_path.as_uri(), "folder": tmp_path}
    source = open_source(here[kind]) if kind in here else request.getfixturevalue(kind)
    assert source.stat("x.bin").size == len(DATA)
    assert source.read_bytes("x.bin") == DATA
    assert read(source, "x.bin", 100_000, 250_001) == DATA[100_000:250_001]
    with pytest.raises(NotFound, match=r"y\.bin"):
        source.stat("y.bin")
    for bad in ("", "/etc/passwd", "a/../b", "a//b"):
        with pytest.raises(InputError, match="relative"):
            source.stat(bad)


def test_the_version_is_the_etag_or_else_the_time_of_the_last_change(server, http):
    assert http.stat("x.bin").etag == hashlib.md5(DATA).hexdigest()
    server.put("/bucket/a +b/old.bin", DATA, etag=None)
    assert http.stat("old.bin").etag == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert read(http, "old.bin", 5, 9) == DATA[5:9]


def test_a_server_that_tells_no_version_is_not_trusted(server, http):
    server.put("/bucket/a +b/anon.bin", DATA, etag=None, headers={"Last-Modified": ""})
    with pytest.raises(FetchError, match="without its version"):
        http.stat("anon.bin")


def test_bytes_are_those_of_the_store_also_where_it_says_they_are_compressed(server, s3):
    server.put("/bucket/a +b/x.nii.gz", DATA, headers={"Content-Encoding": "gzip"})
    assert s3.read_bytes("x.nii.gz") == DATA


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (403, Forbidden, "may not be listed"),
        (404, NotFound, "does not exist.*choose other files"),
        (410, NotFound, "does not exist"),
        (503, Unreachable, "3 tries within .* 503"),
        (418, FetchError, "418"),
    ],
)
def test_what_the_server_answers_is_told_apart(server, s3, status, kind, says):
    server.statuses["/bucket/a +b/x.bin"] = status
    with pytest.raises(FetchError, match=says) as caught:
        s3.stat("x.bin")
    assert type(caught.value) is kind and "/bucket/a%20%2Bb/x.bin" in str(caught.value)


def test_a_server_that_is_not_there_is_unreachable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address, says in ((f"http://127.0.0.1:{port}", "refused"), ("http://no-such-host.invalid", "3 tries")):
        with pytest.raises(Unreachable, match=says):
            open_source(address, FAST).stat("x.bin")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(break_after=70_000),
        Fault(break_after=70_000, reset=True),
        Fault(status=503),
        Fault(status=429),
        Fault(break_after=0),
    ],
)
def test_after_a_break_reading_goes_on_where_it_broke(server, s3, fault):
    path = "/bucket/a +b/x.bin"
    server.faults[path] = [fault]
    assert read(s3) == DATA
    got = fault.break_after or 0
    assert server.gets[path] == [None, f"bytes={got}-{len(DATA) - 1}" if got else None]
    assert server.sent[path] == len(DATA)


def test_tries_count_only_without_progress(server, s3):
    path = "/bucket/a +b/x.bin"
    server.faults[path] = [Fault(break_after=10_000) for _ in range(7)]
    assert read(s3) == DATA
    server.faults[path] = [Fault(break_after=10_000), *(Fault(break_after=0) for _ in range(9))]
    with pytest.raises(Unreachable, match="3 tries"):
        read(s3)


def test_a_stall_is_a_break_after_some_patience(server):
    source, path = open_source(f"{server.url}/bucket/a%20%2Bb", IMPATIENT), "/bucket/a +b/x.bin"
    server.faults[path] = [Fault(stall_after=70_000)]
    assert read(source) == DATA and server.gets[path] == [None, f"bytes=70000-{len(DATA) - 1}"]
    server.faults[path] = [Fault(stall_after=0) for _ in range(3)]
    with pytest.raises(Unreachable, match="no answer in time"):
        read(source)


def test_a_server_that_overlooks_ranges_serves_whole_files_but_no_parts(server, http):
    path = "/bucket/a +b/x.bin"
    server.faults[path] = [Fault(break_after=70_000), Fault(ignore_range=True)]
    assert read(http) == DATA
    server.faults[path] = [Fault(ignore_range=True)]
    with pytest.raises(FetchError, match="as a whole, though a part"):
        read(http, "x.bin", 10, 20)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(replace=DATA[::-1])],
        [Fault(break_after=70_000), Fault(replace=DATA[::-1])],
        [Fault(break_after=70_000), Fault(replace=b"short")],
    ],
)
def test_bytes_of_two_versions_are_never_mixed(server, http, faults):
    server.faults["/bucket/a +b/x.bin"] = faults
    with pytest.raises(RemoteChanged, match=r"x\.bin was changed"):
        read(http)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Content-Encoding": "gzip"}, "compressed"),
        ({"ETag": None}, "without its version"),
        ({"Content-Range": None}, "Content-Range None"),
        ({"Content-Range": "bytes 11-19/300000"}, "from byte 10 with Content-Range"),
        ({"Content-Range": "bytes 10-9/300000"}, "from byte 10 with Content-Range"),
        ({"Content-Range": f"bytes 10-19/{'9' * 5000}"}, "from byte 10 with Content-Range"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(server, http, headers, says):
    server.faults["/bucket/a +b/x.bin"] = [Fault(headers=headers)]
    with pytest.raises(FetchError, match=says) as caught:
        read(http, "x.bin", 10, 20)
    assert type(caught.value) is FetchError


@pytest.mark.parametrize(
    ("span", "fault", "size"),
    [
        ((), Fault(truncate=50_000), "50,000"),
        ((10, 20), Fault(headers={"Content-Range": "bytes 10-19/300001"}), "300,001"),
    ],
)
def test_an_answer_of_another_size_is_no_other_version(server, http, span, fault, size):
    """It may pass."""
    server.faults["/bucket/a +b/x.bin"] = [fault]
    assert read(http, "x.bin", *span) == DATA[slice(*span or (None,))]
    server.faults["/bucket/a +b/x.bin"] = [fault] * 3
    with pytest.raises(Unreachable, match=f"3 tries.*one of {size} bytes, though this version .* has 300,000"):
        read(http, "x.bin", *span)


def test_no_more_is_taken_than_a_range_is_said_to_hold(server, http):
    path = "/bucket/a +b/x.bin"
    server.faults[path] = [Fault(headers={"Content-Range": "bytes 20000-20999/300000"}, corrupt=1000)]
    assert read(http, "x.bin", 20_000, 50_000) == DATA[20_000:50_000]
    assert server.gets[path] == ["bytes=20000-49999", "bytes=21000-49999"]


@pytest.mark.parametrize("size", ["9" * 5000, "²", "-1"])
def test_a_size_that_is_none_is_refused(server, http, size):
    server.put("/bucket/a +b/x.bin", DATA, headers={"Content-Length": size})
    with pytest.raises(FetchError, match="without its size"):
        http.stat("x.bin")


def test_a_redirect_to_no_address_is_told(server, http):
    server.put("/bucket/a +b/x.bin", DATA, headers={"Location": "http://[::bad/y"})
    server.statuses["/bucket/a +b/x.bin"] = 302
    with pytest.raises(FetchError, match="cannot be asked for"):
        http.stat("x.bin")


@pytest.mark.parametrize("other", [DATA[::-1], DATA[:-1]])
def test_a_local_file_that_changes_meanwhile_is_noticed(tmp_path, other):
    (tmp_path / "x.bin").write_bytes(DATA)
    source = open_source(tmp_path)
    file = source.stat("x.bin")
    (tmp_path / "x.bin").write_bytes(other)
    os.utime(tmp_path / "x.bin", ns=(0, 0))
    with pytest.raises(RemoteChanged):
        list(source.read(file))


def test_a_small_file_is_verified_and_fetched_once_more(server, s3):
    path = "/bucket/a +b/x.bin"
    server.faults[path] = [Fault(corrupt=5)]
    assert s3.read_bytes("x.bin") == DATA
    server.faults[path] = [Fault(corrupt=5), Fault(corrupt=6)]
    with pytest.raises(Corrupt, match="damaged twice: its md5 is"):
        s3.read_bytes("x.bin")
