"""Stores of files that speak HTTP: mirrors, and S3 as anybody may read it, which is HTTP with telling ETags."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import requests
from urllib3.exceptions import HTTPError

from juicyfruits.remote.checksums import MIB, Checksum, etag_checksum
from juicyfruits.remote.errors import FetchError, Forbidden, NotFound, RemoteChanged, Unreachable
from juicyfruits.remote.sources import RemoteFile, Source, checked_key

PASSING_STATUSES = {408, 425, 429, 500, 502, 503, 504}
NUMBER = "[0-9]{1,18}"


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to try.

    `tries` without a single byte of progress are made, `backoff` seconds apart, doubled each time; `connect` seconds
    to be let in, `read` seconds for each next block of bytes.
    """

    tries: int = 6
    backoff: float = 0.5
    connect: float = 10.0
    read: float = 60.0


class HttpSource(Source):
    """Files below one http(s) address.

    Every answer is compared with the version that was asked about (ETag, or else Last-Modified: RFC 9110, section 8.8),
    so that bytes of two versions are never mixed. Proxies and ~/.netrc are honoured as requests does.
    """

    forbidden_hint = "ask its owner for access, or take another source"
    stores_codings = False

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        super().__init__(url.rstrip("/"))
        self.patience = patience or Patience()
        self._local = threading.local()

    def stat(self, key: str) -> RemoteFile:
        """Ask for the headers of the file (HEAD)."""
        url = f"{self.url}/{quote(checked_key(key))}"
        headers = self._head(url)
        size, etag = _length(headers), _validator(headers)
        if size is None or not etag:
            raise FetchError(
                f"{url} comes without its {'size' if size is None else 'version (ETag or Last-Modified)'}, so that a "
                "broken or changed file could not be told; take another source, or fetch by hand and give the folder"
            )
        return RemoteFile(key, url, size, etag)

    def read(self, file: RemoteFile, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes as they come, going on by Range requests (RFC 9110, section 14) after each break."""
        stop = file.size if stop is None else stop
        tries = _Tries(file.url, self.patience)
        while start < stop:
            try:
                for block in self._one_answer(file, start, stop):
                    start += len(block)
                    tries.progressed()
                    yield block
                if start < stop:
                    raise _PassingError(f"the connection ended {stop - start:,} bytes early")
            except _PassingError as error:
                tries.failed(error)

    def _head(self, url: str, **params: str) -> requests.structures.CaseInsensitiveDict:
        tries = _Tries(url, self.patience)
        while True:
            try:
                with self._send("HEAD", url, params=params) as response:
                    return response.headers
            except _PassingError as error:
                tries.failed(error)

    def _one_answer(self, file: RemoteFile, start: int, stop: int) -> Iterator[bytes]:
        """Yield at most `stop - start` bytes from one request, pinned to the version of `file`."""
        whole = start == 0 and stop == file.size
        headers = {} if whole else {"Range": f"bytes={start}-{stop - 1}"}
        with self._send("GET", file.url, headers=headers) as response:
            first, last = self._span(response, file, start, stop)
            skip, left = start - first, min(stop, last) - start
            while left and (block := _next_block(response)):
                skipped = min(skip, len(block))
                skip -= skipped
                block = block[skipped : skipped + left]
                left -= len(block)
                if block:
                    yield block

    def _span(self, response: requests.Response, file: RemoteFile, start: int, stop: int) -> tuple[int, int]:
        """Return which bytes of the file the answer brings, having made sure that it is this version of the file."""
        headers = response.headers
        version, coding = _validator(headers), headers.get("Content-Encoding") or "identity"
        if version and version != file.etag:
            raise RemoteChanged(
                f"{file.url} was changed since it was asked about, from ETag {file.etag!r} to {version!r}; try again"
            )
        first, last, size = 0, file.size, _length(headers)
        if response.status_code == 206:
            span = re.fullmatch(rf"bytes ({NUMBER})-({NUMBER})/({NUMBER}|\*)", headers.get("Content-Range", ""))
            first, last = (int(span[1]), int(span[2]) + 1) if span else (0, 0)
            size = int(span[3]) if span and span[3] != "*" else None
        wrong = ""
        if not version:
            wrong = "without its version (ETag or Last-Modified)"
        elif coding != "identity" and not self.stores_codings:
            wrong = f"compressed (Content-Encoding {coding!r}), though asked not to be"
        elif response.status_code == 206 and not first == start < last:
            wrong = f"from byte {start:,} with Content-Range {headers.get('Content-Range')!r}"
        elif first < start and stop < file.size:
            wrong = "as a whole, though a part is needed"
        if wrong:
            raise FetchError(f"{file.url} came {wrong}; this server cannot be relied on, take another source")
        if size not in (None, file.size):
            raise _PassingError(f"it came as one of {size:,} bytes, though this version {version!r} has {file.size:,}")
        return first, last

    def _send(self, method: str, url: str, **options: dict) -> requests.Response:
        """Make one request; what may pass is told as `_PassingError`, what will not as the fitting `FetchError`."""
        timeout = (self.patience.connect, self.patience.read)
        try:
            response = self._session().request(
                method, url, stream=True, allow_redirects=True, timeout=timeout, **options
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _PassingError(_root_reason(error)) from error
        except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: a redirect to no address
            raise FetchError(f"{url} cannot be asked for ({error}); check the address of the source") from error
        status = response.status_code
        if status in (200, 206):
            return response
        response.close()
        if status in PASSING_STATUSES:
            raise _PassingError(f"the server answered {status} {response.reason}")
        if status in (404, 410):
            raise NotFound(
                f"{url} does not exist (the server answered {status}); check the address of the source, or choose "
                "other files"
            )
        if status in (401, 403):
            raise Forbidden(f"{url} is not given out (the server answered {status}); {self.forbidden_hint}")
        if status in (412, 416):
            raise RemoteChanged(f"{url} was changed since it was asked about (the server answered {status}); try again")
        raise FetchError(f"{url} was answered with {status} {response.reason}; check the address of the source")

    def _session(self) -> requests.Session:
        # requests does not promise that a session may be shared by threads.
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            # Sizes, ranges and sums are those of the bytes in the store, not of a compressed copy.
            self._local.session.headers["Accept-Encoding"] = "identity"
        return self._local.session


class S3Source(HttpSource):
    """A public bucket, read without credentials, whose ETags say what the bytes are (see `etag_checksum`)."""

    forbidden_hint = (
        "S3 says so of files that are not public, and also of missing ones in a bucket that may not be listed: "
        "check the bucket and the key"
    )
    stores_codings = True  # a coding is metadata of the upload, and the bytes are those stored, which the ETag proves

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return the sum in the ETag, with the size of the parts that the store tells where it does."""
        try:
            headers = self._head(file.url, partNumber="1")
        except FetchError:  # partNumber is a nicety that not every S3-like store knows
            return etag_checksum(file.etag, file.size, None)
        if headers.get("x-amz-server-side-encryption", "").startswith("aws:kms"):
            return None  # the ETag is then no MD5 (Amazon S3 API reference, "Object")
        part_size = _length(headers) or 0
        known = 0 < part_size < file.size  # a store that overlooks partNumber tells of the whole
        return etag_checksum(file.etag, file.size, part_size if known else None)


class _PassingError(Exception):
    """Something that may be over at the next try."""


class _Tries:
    """Counts failures without progress, waits between them, and gives up with `Unreachable`."""

    def __init__(self, url: str, patience: Patience) -> None:
        self._url, self._patience = url, patience
        self.progressed()

    def progressed(self) -> None:
        self._failures, self._began = 0, time.monotonic()

    def failed(self, error: _PassingError) -> None:
        self._failures += 1
        if self._failures >= self._patience.tries:
            seconds = time.monotonic() - self._began
            raise Unreachable(
                f"{self._url} could not be read: {self._failures} tries within {seconds:.0f} s, at last: {error}; "
                "check the network and the address, then run it again, or take another source"
            ) from error
        time.sleep(self._patience.backoff * 2 ** (self._failures - 1))


def _next_block(response: requests.Response) -> bytes:
    try:
        # read1 gives what has come: read would drop the bytes that came before a break.
        return response.raw.read1(MIB, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _PassingError(_root_reason(error)) from error


def _length(headers: requests.structures.CaseInsensitiveDict) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if re.fullmatch(NUMBER, length) else None


def _validator(headers: requests.structures.CaseInsensitiveDict) -> str:
    return headers.get("ETag", "").removeprefix("W/").strip('"') or headers.get("Last-Modified", "")


def _root_reason(error: BaseException) -> str:
    """Return what lies at the bottom of an error of many wrappings, such as `Connection refused`."""
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
