"""A remote file read like a local one: the same bytes, and hardly more of them than are needed."""

import io

import h5py
import numpy as np
import pytest
from hostile import FAST, Fault, Hostile

from juicyfruits.remote import RangeFile, RemoteChanged, open_source
from juicyfruits.remote.ranges import BLOCK, N_BLOCKS

DATA = np.random.default_rng(0).bytes(2_000_003)
IMAGES = np.random.default_rng(1).integers(0, 255, (60, 50, 50, 3), np.uint8)


@pytest.fixture
def server():
    with Hostile() as server:
        server.put("/x.bin", DATA)
        yield server


def remote(server, path="x.bin"):
    source = open_source(server.url, FAST)
    return RangeFile(source, source.stat(path))


def test_any_reading_gives_what_a_local_file_gives(server):
    rng = np.random.default_rng(2)
    with remote(server) as file:
        local = io.BytesIO(DATA)
        for _ in range(300):
            if rng.random() < 0.1:
                starts = rng.integers(0, len(DATA), 4)
                file.prefetch([(int(a), int(a + n)) for a, n in zip(starts, rng.integers(0, 300_000, 4), strict=True)])
            offset, size = int(rng.integers(0, len(DATA) + 10)), int(rng.integers(0, 200_000))
            assert file.seek(offset) == local.seek(offset)
            assert file.read(size) == local.read(size) and file.tell() == local.tell()
        assert file.seek(-5, io.SEEK_END) == len(DATA) - 5 and file.read() == DATA[-5:]
        assert file.seek(-3, io.SEEK_CUR) == len(DATA) - 3 and file.seek(9) == 9
        with pytest.raises(ValueError, match="byte -1"):
            file.seek(-1)


def test_blocks_are_kept_and_the_oldest_go_first(server, monkeypatch):
    monkeypatch.setattr("juicyfruits.remote.ranges.N_BLOCKS", 2)
    assert N_BLOCKS * BLOCK == 16 * 2**20
    with remote(server) as file:
        for block in (0, 1, 0, 2, 0, 1):
            file.seek(block * BLOCK + 7)
            assert file.read(3) == DATA[block * BLOCK + 7 :][:3]
    asked = [int(span.split("=")[1].split("-")[0]) // BLOCK for span in server.gets["/x.bin"]]
    assert asked == [0, 1, 2, 1]


def test_what_is_prefetched_travels_once_and_is_dropped_when_read(server):
    with remote(server) as file:
        file.prefetch([(100_000, 150_000), (140_000, 160_000), (1_500_000, 9_999_999), (5, 5)])
        fetched = server.sent["/x.bin"]
        assert fetched == 60_000 + len(DATA) - 1_500_000
        file.seek(100_000)
        assert file.read(10_000) + file.read(50_000) == DATA[100_000:160_000]
        assert server.sent["/x.bin"] == fetched
        file.seek(100_000)
        assert file.read(10) == DATA[100_000:100_010] and server.sent["/x.bin"] == fetched + BLOCK
        file.prefetch([(200_000, 300_000)])
        file.seek(190_000)
        assert file.read(110_000) == DATA[190_000:300_000]
        assert server.sent["/x.bin"] == fetched + 100_000 + 3 * BLOCK
        fetched += 100_000 + 2 * BLOCK
        file.prefetch([(1_500_000, 1_700_000)])
        file.prefetch([])
        fetched += 200_000
        file.seek(1_600_000)
        assert file.read(10) == DATA[1_600_000:1_600_010] and server.sent["/x.bin"] == fetched + 2 * BLOCK


@pytest.mark.parametrize("storage", [{}, {"chunks": (1, 50, 50, 3), "compression": "gzip"}])
def test_chosen_pictures_are_read_out_of_an_hdf5_file(server, tmp_path, storage):
    with h5py.File(tmp_path / "s.hdf5", "w") as made:
        made.create_dataset("other", data=np.zeros(1_000_000, np.uint8))
        made.create_dataset("imgBrick", data=IMAGES, **storage)
    server.put("/s.hdf5", (tmp_path / "s.hdf5").read_bytes())
    chosen, size = [3, 4, 17, 59], IMAGES[0].nbytes
    with remote(server, "s.hdf5") as file, h5py.File(file) as opened:
        bricks = opened["imgBrick"]
        before = server.sent["/s.hdf5"]
        if storage:
            infos = [bricks.id.get_chunk_info_by_coord((n, 0, 0, 0)) for n in chosen]
            spans = [(info.byte_offset, info.byte_offset + info.size) for info in infos]
        else:
            spans = [(bricks.id.get_offset() + n * size, bricks.id.get_offset() + (n + 1) * size) for n in chosen]
        file.prefetch(spans)
        assert all((bricks[n] == IMAGES[n]).all() for n in chosen)
        needed = sum(stop - start for start, stop in spans)
        assert needed <= server.sent["/s.hdf5"] - before <= needed + 2 * BLOCK
        assert before <= 8 * BLOCK


def test_another_version_is_told_also_through_h5py(server, tmp_path):
    with h5py.File(tmp_path / "s.hdf5", "w") as made:
        made["imgBrick"] = IMAGES
    data = (tmp_path / "s.hdf5").read_bytes()
    server.put("/s.hdf5", data)
    with remote(server, "s.hdf5") as file, h5py.File(file) as opened:
        server.faults["/s.hdf5"] = [Fault(replace=data + b"!")]
        with pytest.raises(RemoteChanged):
            opened["imgBrick"][40]
        with pytest.raises(RemoteChanged):
            file.prefetch([(0, 10), (50_000, 50_010)])
