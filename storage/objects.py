"""Where objects lie: a local directory, or any URL that obstore takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError

from sweeps.errors import StoreError


def connect(url: str, *, create: bool = False) -> Any:
    """The obstore store behind a URL or a local path.

    Raises:
        StoreError: the URL is not understood, carries a secret, or the directory cannot be made.
        FileNotFoundError: no such local directory, unless it is to be created.
    """
    if not is_local(url):
        return _remote(url)
    path = local_path(url)
    if create:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise StoreError(f"store.url {url!r} cannot be created: {error.strerror}") from None
    elif not os.path.isdir(path):
        raise FileNotFoundError(path)
    return obstore.store.LocalStore(prefix=path)


def _remote(url: str) -> Any:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        clean = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        raise StoreError(f"store.url {clean!r} was given with credentials or a query; put them in the environment")
    if parts.scheme == "memory":
        raise StoreError(f"store.url {url!r}: memory is not shared with workers; give a path or a bucket")
    try:
        return obstore.store.from_url(url)
    except Exception as error:
        raise StoreError(f"store.url {url!r} is not one that obstore takes: {first_line(error)}") from None


def listing(objects: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    """(key, size) of every object below a prefix."""
    for page in obstore.list(objects, prefix=prefix.rstrip("/") or None):
        for entry in page:
            yield entry["path"], entry["size"]


def create_only(objects: Any, key: str, data: bytes) -> bool:
    """Put an object where there is none; whether it was put."""
    try:
        obstore.put(objects, key, data, mode="create")
    except AlreadyExistsError:
        return False
    return True


def is_local(url: str) -> bool:
    return "://" not in url or url.lower().startswith("file://")


def local_path(url: str) -> str:
    """The absolute path of a local URL, `~` and `%20` understood."""
    path = url2pathname(urlsplit(url).path) if "://" in url else os.path.expanduser(url)
    return os.path.abspath(path)


def first_line(error: BaseException) -> str:
    """What went wrong, in one line; obstore's errors run to dozens."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
