"""From one address to the store of files behind it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from juicyfruits.errors import InputError
from juicyfruits.remote.http import HttpSource, Patience, S3Source
from juicyfruits.remote.sources import LocalSource, Source


def open_source(url: str | Path, patience: Patience | None = None) -> Source:
    """Open the store behind an address, without asking it anything yet.

    - `s3://BUCKET[/PREFIX][?endpoint=http://HOST:PORT]`: a bucket that anybody may read. Without `endpoint`, the
      variables AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL count unless AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true
      (AWS SDKs and tools reference guide, "Service-specific endpoints"), and then Amazon's own address.
    - `http://HOST/PATH`, `https://HOST/PATH`: a mirror; a file SHA256SUMS at its root is used where there is one.
    - `file:///PATH` or a plain path: a folder on this machine.

    >>> open_source("s3://natural-scenes-dataset/nsddata").url
    'https://natural-scenes-dataset.s3.amazonaws.com/nsddata'
    >>> open_source("s3://bucket?endpoint=http://localhost:9000").url
    'http://localhost:9000/bucket'
    """
    parts = urlsplit(str(url))
    if parts.scheme == "s3":
        return S3Source(_s3_address(parts), patience)
    if parts.scheme in ("http", "https"):
        if not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise InputError(
                f"the source {parts.hostname or url!r} must read http(s)://HOST/PATH and nothing else; put a user and "
                "a password, if it needs them, into ~/.netrc"
            )
        return HttpSource(str(url), patience)
    if parts.scheme == "file":
        return LocalSource(unquote(parts.path))
    if "://" in str(url):
        raise InputError(f"the source {url!r} is of an unknown kind; give s3://, http(s)://, file:// or a folder")
    return LocalSource(Path(url).expanduser())


def _s3_address(parts: SplitResult) -> str:
    options = parse_qs(parts.query)
    if not parts.netloc or set(options) - {"endpoint"} or parts.fragment:
        raise InputError(
            f"the source {parts.geturl()!r} must read s3://BUCKET[/PREFIX][?endpoint=http://HOST:PORT]; correct it"
        )
    prefix = quote(parts.path.strip("/"))
    endpoint = options.get("endpoint", [_configured_endpoint()])[0]
    if not endpoint and "." not in parts.netloc:
        return f"https://{parts.netloc}.s3.amazonaws.com/{prefix}"
    # A dot in a bucket's name is not covered by Amazon's certificate, so such buckets go into the path.
    endpoint = (endpoint or "https://s3.amazonaws.com").rstrip("/")
    return f"{endpoint}/{parts.netloc}/{prefix}"


def _configured_endpoint() -> str:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return ""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
