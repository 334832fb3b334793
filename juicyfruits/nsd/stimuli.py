"""NSD's pictures: from the release's one file of 39.6 GB, or from the few of them that were fetched by byte ranges."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from juicyfruits.errors import InputError, first_names
from juicyfruits.files import digest
from juicyfruits.nsd import layout
from juicyfruits.nsd.files import open_hdf5
from juicyfruits.remote.checksums import file_blocks, verify
from juicyfruits.remote.download import alone, disk_errors
from juicyfruits.remote.errors import RemoteChanged
from juicyfruits.remote.ranges import RangeFile
from juicyfruits.remote.records import Record, read_record, write_record
from juicyfruits.remote.sources import RemoteFile, Source

AT_ONCE = 32  # pictures whose byte ranges are asked for together


def read_images(root: Path, nsd_ids: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield pictures by their 0-based nsd ids, uint8 (height, width, 3), one read at a time; see `find_images`."""
    path, rows = find_images(root, nsd_ids)
    with open_hdf5(path, "imgBrick") as brick:
        for row in tqdm(rows, desc="pictures", unit="picture"):
            yield brick[row]


def find_images(root: Path, nsd_ids: Sequence[int]) -> tuple[Path, list[int]]:
    """Return the file that holds these pictures, and their rows in its `/imgBrick`.

    It is the whole file of the release, or what `fetch_images` made of it. Raises `InputError` when neither is there,
    when it is damaged, and when pictures are not in it.
    """
    whole, chosen = root / layout.STIMULI, root / layout.CHOSEN_STIMULI
    if chosen.exists() and not whole.exists():
        with open_hdf5(chosen, "nsd_id") as ids:
            row_of = {int(nsd_id): row for row, nsd_id in enumerate(ids[:])}
        path, what = chosen, "was fetched for other pictures"
    else:
        path, what, row_of = whole, "is too short", None
    with open_hdf5(path, "imgBrick") as brick:
        _check_brick(path, brick)
        row_of = row_of if row_of is not None else {row: row for row in range(len(brick))}
    missing = [nsd_id for nsd_id in nsd_ids if int(nsd_id) not in row_of]
    if missing:
        raise InputError(
            f"{path} {what}: of its {len(row_of)} pictures none has the nsd id {first_names(missing)}; fetch again for "
            "this image set and these subjects"
        )
    return path, [row_of[int(nsd_id)] for nsd_id in nsd_ids]


def fetch_images(source: Source, root: Path, nsd_ids: Sequence[int]) -> Record:
    """Fetch pictures by the byte ranges that hold them into `root`, beside those that are there, and return the record.

    They come to `layout.CHOSEN_STIMULI`: `/imgBrick`, uint8 (picture, height, width, 3), and `/nsd_id`, int64, 0-based
    and ascending. Every range is asked for of one version of the remote file (its ETag). Resumed, after any
    break, at the pictures that are not there yet; renamed into place when all are. Raises `FetchError`, and
    `RemoteChanged` when the pictures that are there came from another version of the file.
    """
    path = root / layout.CHOSEN_STIMULI
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path, threading.Event()):
            return _fetch(source, root, path, np.asarray(nsd_ids, dtype=np.int64))


def image_bytes(source: Source) -> int:
    """Return how many bytes one picture takes, from the header of the remote file."""
    remote = source.stat(layout.STIMULI)
    with RangeFile(source, remote) as file, h5py.File(file, "r") as release:
        return int(np.prod(release["imgBrick"].shape[1:]))


def byte_ranges(brick: h5py.Dataset, row: int) -> list[tuple[int, int]]:
    """Return the (start, stop) in the file of the bytes that hold one picture, for contiguous and chunked storage."""
    size = int(np.prod(brick.shape[1:]))
    if brick.chunks is None:
        start = brick.id.get_offset() + row * size
        return [(start, start + size)]
    corners = np.ndindex(
        *(-(-length // chunk) for length, chunk in zip(brick.shape[1:], brick.chunks[1:], strict=True))
    )
    found = []
    for corner in corners:
        place = (row // brick.chunks[0] * brick.chunks[0], *(np.array(corner) * brick.chunks[1:]))
        chunk = brick.id.get_chunk_info_by_coord(tuple(int(at) for at in place))
        if chunk.byte_offset is not None:
            found.append((chunk.byte_offset, chunk.byte_offset + chunk.size))
    return found


def _fetch(source: Source, root: Path, path: Path, nsd_ids: np.ndarray) -> Record:
    remote = source.stat(layout.STIMULI)
    there, record = _ids_there(path, remote), read_record(root, layout.CHOSEN_STIMULI)
    wanted = np.union1d(there, nsd_ids)
    if len(wanted) == len(there) and record:
        return record
    part = path.with_name(f".{path.name}.{digest(remote.etag, wanted)}.part")
    for other in path.parent.glob(f".{path.name}.*.part"):
        if other != part:
            other.unlink()
    with RangeFile(source, remote) as file, h5py.File(file, "r") as release:
        if "imgBrick" not in release:
            raise InputError(f"{remote.url} has no /imgBrick; is it NSD's file of stimuli?")
        brick = release["imgBrick"]
        _check_brick(remote.url, brick)
        if wanted.max() >= len(brick):
            raise InputError(f"{remote.url} has {len(brick)} pictures, but number {wanted.max()} is needed")
        _fill(part, wanted, brick, file, remote.etag, path if len(there) else None)
    os.replace(part, path)
    size = path.stat().st_size
    local = RemoteFile(layout.CHOSEN_STIMULI, remote.url, size, remote.etag)
    return write_record(root, local, verify(file_blocks(path), size, None))


def _check_brick(path: Path | str, brick: h5py.Dataset) -> None:
    if brick.dtype != np.uint8 or brick.ndim != 4 or brick.shape[3] != 3:
        raise InputError(
            f"{path}: /imgBrick must be uint8 (picture, height, width, 3), but is {brick.dtype} {brick.shape}; fetch "
            "it again"
        )


def _ids_there(path: Path, remote: RemoteFile) -> np.ndarray:
    """Return the nsd ids of pictures fetched before, of this version of the remote file."""
    if not path.exists():
        return np.empty(0, np.int64)
    with open_hdf5(path, "nsd_id") as ids:
        etag = ids.attrs["etag"]
        if etag != remote.etag:
            raise RemoteChanged(
                f"{remote.url} has changed since pictures were fetched from it (ETag {etag} then, {remote.etag} now); "
                f"delete {path} to take all pictures from the new file"
            )
        return ids[:]


def _fill(
    part: Path, wanted: np.ndarray, brick: h5py.Dataset, file: RangeFile, etag: str, earlier: Path | None
) -> None:
    """Write the wanted pictures that `part` lacks into it, from an earlier file where it has them."""
    if not part.exists():
        _allocate(part, wanted, brick.shape[1:], etag)
    with _Rows(part) as rows:
        if earlier is not None:
            with h5py.File(earlier, "r") as old:
                for row, at in enumerate(np.searchsorted(wanted, old["nsd_id"][:])):
                    if not rows.done[at]:
                        rows.write(at, old["imgBrick"][row])
        left = np.flatnonzero(~rows.done)
        with tqdm(total=len(wanted), initial=len(wanted) - len(left), desc="fetching pictures", unit="picture") as bar:
            for start in range(0, len(left), AT_ONCE):
                group = left[start : start + AT_ONCE]
                file.prefetch([span for at in group for span in byte_ranges(brick, int(wanted[at]))])
                for at in group:
                    rows.write(at, brick[int(wanted[at])])
                    bar.update()


def _allocate(part: Path, nsd_ids: np.ndarray, picture: tuple[int, ...], etag: str) -> None:
    """Create the file with room for all pictures, so that filling it changes no metadata: a kill leaves it readable."""
    unfinished = part.with_suffix(".new")
    with h5py.File(unfinished, "w") as file:
        layout_of = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout_of.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout_of.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((len(nsd_ids), *picture))
        h5py.h5d.create(file.id, b"imgBrick", h5py.h5t.STD_U8LE, space, layout_of)
        file["nsd_id"] = nsd_ids
        file["nsd_id"].attrs["etag"] = etag
        file["fetched"] = np.zeros(len(nsd_ids), np.uint8)
    os.replace(unfinished, part)


class _Rows:
    """Pictures of an allocated file, written straight into their places; `done` says which of them are there."""

    def __init__(self, path: Path):
        with h5py.File(path, "r") as file:
            brick, flags = file["imgBrick"], file["fetched"]
            self.size, self.start = int(np.prod(brick.shape[1:])), brick.id.get_offset()
            self.flags, self.done = flags.id.get_offset(), flags[:].astype(bool)
        self.path = path

    def __enter__(self) -> _Rows:
        self.handle = os.open(self.path, os.O_RDWR)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.handle)

    def write(self, row: int, picture: np.ndarray) -> None:
        """Write one picture, and only then its flag."""
        _write_at(self.handle, np.ascontiguousarray(picture).tobytes(), self.start + int(row) * self.size)
        _write_at(self.handle, b"\x01", self.flags + int(row))
        self.done[row] = True


def _write_at(handle: int, data: bytes, place: int) -> None:
    while data:
        n = os.pwrite(handle, data, place)
        data, place = data[n:], place + n
