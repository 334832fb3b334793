"""Fetches that are killed, that run side by side, and that fill a small disk."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hostile import FAST, Fault, Hostile

from juicyfruits.remote import DiskFull, download, open_source

pytestmark = pytest.mark.slow

DATA = np.random.default_rng(0).bytes(2_000_000)
NAMES = ["a/x.bin", "a/y.bin", "b/z.bin"]
FETCH = """
import sys
from juicyfruits.remote import download, open_source
print("ready", flush=True)
sys.stdin.readline()
download(open_source(sys.argv[1]), sys.argv[3:], sys.argv[2], jobs=2)
"""
PREFETCH = """
import sys
from juicyfruits.remote import RangeFile, open_source
source = open_source(sys.argv[1])
with RangeFile(source, source.stat(sys.argv[3])) as file:
    print("ready", flush=True)
    sys.stdin.readline()
    file.prefetch([(0, 10), (1_000_000, 1_000_010)])
"""


@pytest.fixture
def server():
    with Hostile() as server:
        for name in NAMES:
            server.put(f"/b/{name}", DATA)
        yield server


def start(server, root, names, script=FETCH):
    command = [sys.executable, "-c", script, f"s3://b?endpoint={server.url}", str(root), *names]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, **pipes)


def go(*fetches):
    """Let processes begin together, when all have started."""
    assert [fetch.stdout.readline() for fetch in fetches] == ["ready\n"] * len(fetches)
    for fetch in fetches:
        fetch.stdin.write("\n")
        fetch.stdin.flush()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_fetch_goes_on_at_the_byte_where_it_was(server, tmp_path, how):
    path = f"/b/{NAMES[0]}"
    server.faults[path] = [Fault(stall_after=1_200_000, stall_s=10)]
    fetch = start(server, tmp_path, NAMES[:1])
    go(fetch)
    wait_for(lambda: sum(part.stat().st_size for part in tmp_path.rglob("*.part")) == 1_200_000)
    fetch.send_signal(how)
    fetch.communicate(timeout=3)
    assert fetch.returncode != 0
    [part] = tmp_path.rglob("*.part")
    size = part.stat().st_size
    assert size == 1_200_000 and not (tmp_path / NAMES[0]).exists()
    download(open_source(f"s3://b?endpoint={server.url}", FAST), NAMES[:1], tmp_path)
    assert (tmp_path / NAMES[0]).read_bytes() == DATA
    assert server.gets[path][-1] == f"bytes={size}-{len(DATA) - 1}"
    assert server.sent[path] == len(DATA)


@pytest.mark.parametrize("script", [FETCH, PREFETCH])
def test_ctrl_c_does_not_wait_for_a_silent_server(server, tmp_path, script):
    server.faults[f"/b/{NAMES[0]}"] = [Fault(slow_s=30), Fault(slow_s=30)]
    process = start(server, tmp_path, NAMES[:1], script)
    go(process)
    wait_for(lambda: server.gets[f"/b/{NAMES[0]}"])
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=3)[1].rstrip().endswith("KeyboardInterrupt")


def test_two_fetches_at_once_fetch_every_byte_once(server, tmp_path):
    for name in NAMES:
        server.faults[f"/b/{name}"] = [Fault(slow_s=0.7)]
    both = [start(server, tmp_path, NAMES), start(server, tmp_path, NAMES[::-1])]
    go(*both)
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert server.sent == {f"/b/{name}": len(DATA) for name in NAMES}
    assert any("waiting for another process" in text for text in said)
    assert all((tmp_path / name).read_bytes() == DATA for name in NAMES) and not list(tmp_path.rglob("*.part"))


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_meanwhile_is_told_and_gone_on_with(server, small_disk, tmp_path):
    source = open_source(f"s3://b?endpoint={server.url}", FAST)
    ballast = small_disk / "ballast"
    server.faults[f"/b/{NAMES[0]}"] = [Fault(stall_after=500_000, stall_s=1.5)]
    fetch = start(server, small_disk, NAMES[:1])
    go(fetch)
    wait_for(lambda: list(small_disk.rglob("*.part")))
    ballast.write_bytes(bytes(2_000_000))
    assert "DiskFull" in fetch.communicate(timeout=60)[1] and fetch.returncode != 0
    [part] = small_disk.rglob("*.part")
    size = part.stat().st_size
    assert 500_000 <= size < len(DATA) and not (small_disk / NAMES[0]).exists()
    with pytest.raises(DiskFull, match=f"need {len(DATA) - size:,} more"):
        download(source, NAMES[:1], small_disk)
    ballast.unlink()
    download(source, NAMES[:1], small_disk)
    assert (small_disk / NAMES[0]).read_bytes() == DATA
    assert server.gets[f"/b/{NAMES[0]}"][-1] == f"bytes={size}-{len(DATA) - 1}"
