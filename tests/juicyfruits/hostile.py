"""A server of files that misbehaves on demand and counts what it sends, alone or in front of another server."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import requests

from juicyfruits.remote import Patience

FAST = Patience(tries=3, backoff=0.01, connect=2, read=5)


@dataclass
class Stored:
    """A file as the server holds it; without `etag` it says when the file was last changed."""

    data: bytes
    etag: str | None = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.etag == "":
            self.etag = hashlib.md5(self.data).hexdigest()


@dataclass
class Fault:
    """What goes wrong at one GET of one file.

    After `break_after` bytes the connection ends, or is reset; after `stall_after` bytes nothing comes for `stall_s`
    seconds; `corrupt` is the byte of the answer that is flipped; `truncate` sends an honest answer of so many bytes;
    `replace` puts another file there just before answering; `slow_s` waits first; `headers` are said in place of the
    right ones, or left out where None.
    """

    status: int | None = None
    break_after: int | None = None
    reset: bool = False
    stall_after: int | None = None
    stall_s: float = 5.0
    corrupt: int | None = None
    truncate: int | None = None
    replace: bytes | None = None
    ignore_range: bool = False
    slow_s: float = 0.0
    headers: dict[str, str | None] = field(default_factory=dict)


class Hostile:
    """The server: `files` by path (as in the URL, with the leading /), `faults` by path, one used up by each GET.

    Files that are not there come from `upstream`, the address of another server, if given. `statuses` holds what every
    request of a path is answered with. `sent` counts the bytes of bodies by path, `gets` lists the Range header (or
    None) of each GET by path.
    """

    def __init__(self, upstream: str | None = None) -> None:
        self.upstream = upstream
        self.files: dict[str, Stored] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.sent: Counter[str] = Counter()
        self.gets: dict[str, list[str | None]] = defaultdict(list)
        self.statuses: dict[str, int] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hostile = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def put(self, path: str, data: bytes, **stored: object) -> None:
        """Put a file at a path."""
        self.files[path] = Stored(data, **stored)

    def find(self, method: str, path: str, query: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, whole body and headers, without any range."""
        stored = self.files.get(unquote(path))
        if stored is None and self.upstream:
            answer = requests.request(method, f"{self.upstream}{path}?{query}", timeout=10)
            kept = ("etag", "last-modified", "x-amz-server-side-encryption", "content-length")
            return answer.status_code, answer.content, {k: v for k, v in answer.headers.items() if k.lower() in kept}
        if stored is None:
            return 404, b"", {}
        etag = {"ETag": f'"{stored.etag}"'} if stored.etag else {"Last-Modified": formatdate(0, usegmt=True)}
        return 200, stored.data, etag | stored.headers

    def __enter__(self) -> Hostile:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        hostile, url = self.server.hostile, urlsplit(self.path)
        path = unquote(url.path)
        wanted = self.headers.get("Range")
        if with_body:
            hostile.gets[path].append(wanted)
        fault = hostile.faults[path].pop(0) if with_body and hostile.faults[path] else Fault()
        time.sleep(fault.slow_s)
        if fault.replace is not None:
            hostile.put(path, fault.replace)
        status, body, headers = hostile.find(self.command, url.path, url.query)
        status = fault.status or hostile.statuses.get(path) or status
        if status == 200 and wanted and not fault.ignore_range:
            status, body, headers = _part(wanted, body, headers)
        body = b"" if status >= 400 else body if fault.truncate is None else body[: fault.truncate]
        self.send_response(status)
        if with_body or "Content-Length" not in headers:
            headers["Content-Length"] = str(len(body))
        for name, value in (headers | fault.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if with_body:
            self._send_body(path, body, fault)

    def _send_body(self, path: str, body: bytes, fault: Fault) -> None:
        if fault.corrupt is not None:
            body = body[: fault.corrupt] + bytes([body[fault.corrupt] ^ 1]) + body[fault.corrupt + 1 :]
        for cut in (fault.break_after, fault.stall_after):
            body = body if cut is None else body[:cut]
        self.server.hostile.sent[path] += len(body)  # before writing: the client may be done before this goes on
        self.wfile.write(body)
        if fault.stall_after is not None:
            time.sleep(fault.stall_s)
        if fault.break_after is not None or fault.stall_after is not None:
            self.close_connection = True
            if fault.reset:  # closing with a linger of 0 s sends RST instead of FIN
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()


def _part(wanted: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups()
    start, stop = int(first), min(int(last) + 1, len(body))
    if start >= len(body):
        return 416, b"", {"Content-Range": f"bytes */{len(body)}"}
    return 206, body[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}
