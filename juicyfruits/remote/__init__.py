"""Files from afar, whole or in ranges: S3, HTTP mirrors and local copies behind one address, and nothing corrupt."""

from juicyfruits.remote.download import download, stat_files
from juicyfruits.remote.errors import Corrupt, DiskFull, FetchError, Forbidden, NotFound, RemoteChanged, Unreachable
from juicyfruits.remote.http import Patience
from juicyfruits.remote.ranges import RangeFile
from juicyfruits.remote.records import Record, read_records
from juicyfruits.remote.sources import RemoteFile, Source
from juicyfruits.remote.urls import open_source

__all__ = [
    "Corrupt",
    "DiskFull",
    "FetchError",
    "Forbidden",
    "NotFound",
    "Patience",
    "RangeFile",
    "Record",
    "RemoteChanged",
    "RemoteFile",
    "Source",
    "Unreachable",
    "download",
    "open_source",
    "read_records",
    "stat_files",
]
