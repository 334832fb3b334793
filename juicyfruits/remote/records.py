"""What is known of the files that were fetched into a folder, one small JSON file each, in ROOT/.fetched."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path
from juicyfruits.remote.checksums import Verdict
from juicyfruits.remote.sources import RemoteFile

FOLDER = ".fetched"


@dataclass(frozen=True)
class Record:
    """A file as it was when it had come whole: `size` in bytes, `sha256` in hex, `fetched_at` in UTC (ISO 8601).

    `url` and `etag` say which version of which remote file it is, and `proof` by what it was verified: "sha256",
    "md5", "md5 of parts", or only "size" where the source publishes no sum.
    """

    key: str
    url: str
    size: int
    etag: str
    sha256: str
    proof: str
    fetched_at: str


def read_records(root: str | Path) -> dict[str, Record]:
    """Read what is known of all files that were fetched into `root`, by key; nothing was fetched: nothing.

    >>> import tempfile
    >>> read_records(tempfile.mkdtemp())
    {}
    """
    records = [_read(path) for path in sorted((Path(root) / FOLDER).rglob("*.json"))]
    return {record.key: record for record in records}


def read_record(root: Path, key: str) -> Record | None:
    """Read what is known of one file, if anything is."""
    path = _record_path(root, key)
    return _read(path) if path.exists() else None


def write_record(root: Path, file: RemoteFile, verdict: Verdict) -> Record:
    """Write down that `file` lies whole below `root`, with what reading it gave."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = Record(file.key, file.url, file.size, file.etag, verdict.sha256, verdict.proof, now)
    with atomic_path(_record_path(root, file.key)) as path:
        path.write_text(json.dumps(asdict(record), indent=1) + "\n")
    return record


def _record_path(root: Path, key: str) -> Path:
    return root / FOLDER / f"{key}.json"


def _read(path: Path) -> Record:
    try:
        record = Record(**json.loads(path.read_text()))
        wrong = [field.name for field in fields(record) if type(getattr(record, field.name)).__name__ != field.type]
        if wrong:
            raise TypeError(f"{wrong[0]} is {getattr(record, wrong[0])!r}")
    except Exception as error:  # on garbage, parsers raise errors of any type
        raise InputError(
            f"{path} cannot be read as the record of a fetched file ({type(error).__name__}: {error}); delete it to "
            "have the file verified anew"
        ) from error
    return record
