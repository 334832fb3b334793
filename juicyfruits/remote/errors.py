"""What can go wrong between a store of files and this disk, one kind of error for each thing to do about it."""

from __future__ import annotations

from juicyfruits.errors import InputError


class FetchError(InputError):
    """A file could not be fetched; the message says which one, what was tried and what to do."""


class NotFound(FetchError):
    """The store answers, but has no such file."""


class Forbidden(FetchError):
    """The store answers, but does not give out this file."""


class Unreachable(FetchError):
    """The store does not answer, or not with the file: timeouts, refused connections, unknown hosts, its own errors."""


class DiskFull(FetchError):
    """There is too little space on this disk; what has come so far is kept."""


class RemoteChanged(FetchError):
    """The file in the store is no longer the one that was asked about or fetched before."""


class Corrupt(FetchError):
    """The bytes on this disk, or those that came, are not the file that the store describes."""
