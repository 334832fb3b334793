"""NSD's pictures: from the release's one file of 39.6 GB, or from the few of them that were fetched by byte ranges."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from juicyfruits.errors import InputError, first_names
from juicyfruits.files import digest
from juicyfruits.nsd import layout
from juicyfruits.nsd.chosen import Held, Rows, begin_chosen, examine_chosen, is_brick, open_chosen
from juicyfruits.nsd.files import open_hdf5
from juicyfruits.remote.checksums import file_blocks, verify
from juicyfruits.remote.download import alone, check_space, disk_errors
from juicyfruits.remote.errors import Corrupt, FetchError, RemoteChanged
from juicyfruits.remote.ranges import RangeFile
from juicyfruits.remote.records import Record, read_record, write_record
from juicyfruits.remote.sources import RemoteFile, Source

AT_ONCE = 8  # pictures whose byte ranges are asked for together: what a kill may lose


def read_images(root: Path, nsd_ids: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield pictures by their 0-based nsd ids, uint8 (height, width, 3), one read at a time; see `find_images`.

    Those that were fetched are verified one by one; `InputError` names the first that is damaged.
    """
    path, rows = find_images(root, nsd_ids)
    rows = tqdm(rows, desc="pictures", unit="picture")
    if path == root / layout.CHOSEN_STIMULI:
        with open_chosen(path) as chosen:
            yield from map(chosen.read, rows)
    else:
        with open_hdf5(path, "imgBrick") as brick:
            yield from map(brick.__getitem__, rows)


def find_images(root: Path, nsd_ids: Sequence[int]) -> tuple[Path, list[int]]:
    """Return the file that holds these pictures, and their rows in its `/imgBrick`.

    It is the whole file of the release, or what `fetch_images` made of it. Raises `InputError` when neither is there,
    when it is damaged, and when pictures are not in it.
    """
    path, what = root / layout.STIMULI, "is too short"
    if (root / layout.CHOSEN_STIMULI).exists() and not path.exists():
        path, what = root / layout.CHOSEN_STIMULI, "was fetched for other pictures"
        with open_chosen(path) as chosen:
            row_of = {int(nsd_id): row for row, nsd_id in enumerate(chosen.ids)}
    else:
        with open_hdf5(path, "imgBrick") as brick:
            if not is_brick(brick):
                raise InputError(f"{path}: {_not_a_brick(brick)}; fetch it again")
            row_of = {row: row for row in range(len(brick))}
    missing = [nsd_id for nsd_id in nsd_ids if int(nsd_id) not in row_of]
    if missing:
        raise InputError(
            f"{path} {what}: of its {len(row_of)} pictures none has the nsd id {first_names(missing)}; fetch again for "
            "this image set and these subjects"
        )
    return path, [row_of[int(nsd_id)] for nsd_id in nsd_ids]


def fetch_images(source: Source, root: Path, nsd_ids: Sequence[int]) -> Record:
    """Fetch pictures by the byte ranges that hold them into `root`, beside those that are there, and return the record.

    They come to `layout.CHOSEN_STIMULI`: `/imgBrick`, uint8 (picture, height, width, 3), `/nsd_id`, int64, 0-based
    and ascending, and `/digest`, uint64, the `picture_digest` of each. Every range is asked for of one version of the
    remote file (its ETag). Resumed, after any break and for whatever pictures, at those that are not there yet or are
    damaged; renamed into place when all are. Raises `FetchError`, and `RemoteChanged` when the pictures that are there
    came from another version of the file.
    """
    path = root / layout.CHOSEN_STIMULI
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path, threading.Event()):
            return _fetch(source, root, path, np.asarray(nsd_ids, dtype=np.int64))


def image_bytes(source: Source, nsd_ids: Sequence[int]) -> int:
    """Return how many bytes these pictures take, from the header of the remote file."""
    remote = source.stat(layout.STIMULI)
    with _open_release(source, remote, np.asarray(nsd_ids)) as (_, brick):
        return len(nsd_ids) * int(np.prod(brick.shape[1:]))


def byte_ranges(brick: h5py.Dataset, row: int) -> list[tuple[int, int]]:
    """Return the (start, stop) in the file of the bytes that hold one picture, for contiguous and chunked storage.

    Raises `InputError` where the file has no bytes of it: HDF5 would read them as zeros.
    """
    size = int(np.prod(brick.shape[1:]))
    if brick.chunks is None:
        places = [(brick.id.get_offset(), row * size, size)]
    else:
        counts = (-(-length // chunk) for length, chunk in zip(brick.shape[1:], brick.chunks[1:], strict=True))
        corners = [(row // brick.chunks[0], *corner) for corner in np.ndindex(*counts)]
        chunks = [brick.id.get_chunk_info_by_coord(tuple(np.multiply(at, brick.chunks).tolist())) for at in corners]
        places = [(chunk.byte_offset, 0, chunk.size) for chunk in chunks]
    if any(offset is None for offset, _, _ in places):
        raise InputError(f"/imgBrick has no bytes of picture {row}, which was never written; take a whole copy")
    return [(offset + skip, offset + skip + n_bytes) for offset, skip, n_bytes in places]


def _fetch(source: Source, root: Path, path: Path, nsd_ids: np.ndarray) -> Record:
    remote = source.stat(layout.STIMULI)
    there, record = examine_chosen(path), read_record(root, layout.CHOSEN_STIMULI)
    if there.etag not in (None, remote.etag):
        raise RemoteChanged(
            f"{remote.url} has changed since pictures were fetched from it (ETag {there.etag} then, {remote.etag} "
            f"now); delete {path} to take all pictures from the new file"
        )
    if record and there.good.all() and np.isin(nsd_ids, there.ids).all():
        return record
    part = path.with_name(f".{path.name}.{digest(remote.etag)}.part")
    for other in path.parent.glob(f".{path.name}.*.part"):
        if other != part:
            other.unlink()
    _fill(part, [there, examine_chosen(part)], source, remote, nsd_ids)
    os.replace(part, path)
    size = path.stat().st_size
    local = RemoteFile(layout.CHOSEN_STIMULI, remote.url, size, remote.etag)
    return write_record(root, local, verify(file_blocks(path), size, None))


def _fill(part: Path, earlier: list[Held], source: Source, remote: RemoteFile, nsd_ids: np.ndarray) -> None:
    """Bring into `part` the pictures asked for and all that are whole in the earlier files, the last of them `part`."""
    here = np.union1d(*(held.whole for held in earlier))
    wanted = np.union1d(here, nsd_ids)
    with _open_release(source, remote, wanted) as (file, brick):
        picture, begun = brick.shape[1:], earlier[-1]
        in_place = begun.shape == (len(wanted), *picture) and np.array_equal(begun.ids, wanted)
        left = np.setdiff1d(wanted, begun.whole if in_place else here)
        needed = (len(left) if in_place else len(wanted)) * int(np.prod(picture))
        check_space(part.parent, needed, f"fetching {len(left):,} pictures needs")
        if not in_place:
            begin_chosen(part, wanted, picture, remote.etag, earlier)
        count = {"total": len(wanted), "initial": len(wanted) - len(left)}
        with Rows(part) as rows, tqdm(**count, desc="fetching pictures", unit="picture") as bar:
            for nsd_id, image in _remote_images(file, brick, left, remote.url):
                rows.write(int(np.searchsorted(wanted, nsd_id)), image)
                bar.update()


@contextmanager
def _open_release(source: Source, remote: RemoteFile, nsd_ids: np.ndarray) -> Iterator[tuple[RangeFile, h5py.Dataset]]:
    """Yield the remote file and its pictures, having verified that it has those with these ids."""
    with RangeFile(source, remote) as file, ExitStack() as stack:
        with _remote_errors(remote.url):
            release = stack.enter_context(h5py.File(file, "r"))
            brick = release.get("imgBrick")
            if not is_brick(brick):
                raise InputError(_not_a_brick(brick))
        if nsd_ids.max(initial=-1) >= len(brick):
            raise InputError(f"{remote.url} has {len(brick)} pictures, but number {nsd_ids.max()} is needed")
        yield file, brick


def _remote_images(
    file: RangeFile, brick: h5py.Dataset, nsd_ids: np.ndarray, url: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ids and pictures, of which a few at a time come side by side."""
    for start in range(0, len(nsd_ids), AT_ONCE):
        group = [int(nsd_id) for nsd_id in nsd_ids[start : start + AT_ONCE]]
        with _remote_errors(url):
            file.prefetch([span for nsd_id in group for span in byte_ranges(brick, nsd_id)])
        for nsd_id in group:
            with _remote_errors(url):
                image = brick[nsd_id]
            yield nsd_id, image


@contextmanager
def _remote_errors(url: str) -> Iterator[None]:
    """Blame the remote file for whatever h5py raises on reading it, which on garbage is an error of any type."""
    try:
        yield
    except FetchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise Corrupt(f"{url} is not NSD's file of pictures, or not whole ({reason}); take another source") from error


def _not_a_brick(brick: object) -> str:
    came = f"is {brick.dtype} {brick.shape}" if isinstance(brick, h5py.Dataset) else "is not there or a group"
    return f"/imgBrick must be uint8 (picture, height, width, 3), but {came}"
