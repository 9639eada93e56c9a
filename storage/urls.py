"""What a store's URL says by itself: local or remote, and whether all that it says would be understood."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

import obstore

from storage.reasons import first_line, without_secret
from sweeps.errors import StoreError


def check(url: str) -> None:
    """Refuse a URL that cannot work, without looking where it leads.

    Raises:
        StoreError: it cannot be parsed, is of a kind that nobody knows, carries a secret, or has parts that would
            be lost.
    """
    if is_local(url):
        local_path(url)
    else:
        kind(url)


def is_local(url: str) -> bool:
    return "://" not in url or url.lower().startswith("file://")


def local_path(url: str) -> str:
    """The absolute path of a local URL, `~` and `%20` understood. Raises as `check`."""
    path = _path_of(url) if "://" in url else os.path.expanduser(url)
    return os.path.abspath(_plain(path))


def kind(url: str) -> str:
    """What obstore calls the kind of a remote URL: s3, gcs, ... Raises as `check`."""
    parts, clean = _split(url), without_secret(url)
    if "@" in parts.netloc or "?" in url:
        clean = re.split("[?#]", clean)[0]
        raise StoreError(f"store.url {clean!r} was given with credentials or a query; put them in the environment")
    if "#" in url:
        raise StoreError(f"store.url {clean!r} has a '#', which no bucket's URL may; write %23, or another name")
    try:
        found = obstore.parse_scheme(url)
    except Exception as error:
        raise not_taken(url, error) from None
    if found == "memory":
        raise StoreError(f"store.url {url!r}: memory is not shared with workers; give a path or a bucket")
    return found


def not_taken(url: str, error: Exception) -> StoreError:
    return StoreError(f"store.url {url!r} is not one that obstore takes: {first_line(error)}")


def _path_of(url: str) -> str:
    parts, said = _split(url), f"store.url {without_secret(url)!r}"
    for mark, code in (("#", "%23"), ("?", "%3F")):
        if mark in url:
            raise StoreError(f"{said} has a {mark!r}, which ends the path of a URL; write {code}, or the path alone")
    host = parts.netloc.rpartition("@")[2]
    if parts.netloc.lower() not in ("", "localhost"):
        raise StoreError(f"{said} names a host, {host!r}; write file:///PATH from the root on, or the path alone")
    if not parts.path:
        raise StoreError(f"{said} has no path; write file:///PATH from the root on, or the path alone")
    return url2pathname(parts.path)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(_plain(url))
    except ValueError as error:
        raise StoreError(f"store.url {without_secret(url)!r} is no URL: {error}; write s3://BUCKET/PATH") from None


def _plain(text: str) -> str:
    """Text without control characters, some of which no path may hold, and some of which a URL would lose."""
    if found := re.search(r"[\x00-\x1f\x7f]", text):
        raise StoreError(f"store.url {without_secret(text)!r} has a control character, {found[0]!r}; leave it out")
    return text
