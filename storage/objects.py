"""Where objects lie: a local directory, or any URL that obstore takes.

An object is put whole: written aside and renamed, or sent in one request, or in parts that become an object at their
end. It is there for good once `put` returns: a local file is synced to disk, so that a power loss never leaves a commit
mark without its chunks; a remote server has answered. What a remote store fails at is tried again (`storage.retries`).
Credentials and endpoint come from the environment.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from storage.reasons import NO_CREDENTIALS, first_line
from storage.retries import AgainError, Patience, aside, options, patiently
from storage.urls import is_local, kind, local_path, not_taken
from sweeps.errors import StoreError

PART = 32 * 2**20  # bytes; a larger object is sent in parts of this size
PAGE = 1000  # entries of a listing handed on at once
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
METADATA = "http://169.254.169.254"  # where a machine on AWS finds the credentials of its role


def connect(url: str, *, create: bool = False) -> Any:
    """The obstore store behind a URL or a local path.

    Raises:
        StoreError: the URL is refused (`storage.urls.check`), no credentials are there where they are needed, or the
            directory cannot be made.
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
    return LocalStore(prefix=path)


def _remote(url: str) -> Any:
    how = options()
    if kind(url) == "s3":
        how["client_options"]["allow_http"] = _unencrypted(url)
    try:
        store = obstore.store.from_url(url, **how)
    except Exception as error:
        raise not_taken(url, error) from None
    if isinstance(store, S3Store):
        _need_credentials(url)
    return store


def _unencrypted(url: str) -> bool:
    """Whether the endpoint is plain HTTP, which is for loopback, or for those who ask for it."""
    plain = [e for e in (os.environ.get(name, "") for name in ENDPOINTS) if e.lower().startswith("http://")]
    asked = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
    for endpoint in plain:
        host = urlsplit(endpoint).hostname or ""
        if not asked and host not in ("localhost", "::1") and not host.startswith("127."):
            raise StoreError(
                f"{url}: the endpoint at {host!r} is not encrypted; give https, or set AWS_ALLOW_HTTP=true"
            )
    return bool(plain)


def _need_credentials(url: str) -> None:
    """Refuse at once what would otherwise be asked, with patience, of a metadata service that is not there."""
    if any(os.environ.get(name) for name in CREDENTIALS):
        return
    service = urlsplit(os.environ.get("AWS_METADATA_ENDPOINT") or METADATA)
    try:
        socket.create_connection((service.hostname or "", service.port or 80), timeout=1.0).close()
    except OSError:
        raise StoreError(f"{url}: {NO_CREDENTIALS}") from None


def listing(objects: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    """(key, size) of every object below a prefix, each once.

    Raises:
        StoreError: the store cannot be read.
    """
    last, patience = None, Patience()
    while True:
        pages = obstore.list(objects, prefix=prefix.rstrip("/") or None, offset=last, chunk_size=PAGE)
        try:
            while page := aside(lambda pages=pages: next(pages, None)).result():
                for entry in page:
                    yield entry["path"], entry["size"]
                last, patience = page[-1]["path"], Patience()
            return
        except BaseError as error:
            with _told(objects, "read"):
                pause = patience.after(error)
            time.sleep(pause)


def folders(objects: Any) -> list[str]:
    """Names of the folders right below the top.

    Raises:
        StoreError: the store cannot be read.
    """
    with _told(objects, "read"):
        found = aside(lambda: patiently(lambda: obstore.list_with_delimiter(objects))).result()
    return [prefix.rstrip("/") for prefix in found["common_prefixes"]]


def get(objects: Any, key: str) -> bytes:
    """The content of an object.

    Raises:
        FileNotFoundError: no object there.
        StoreError: the store cannot be read.
    """
    with _told(objects, "read"):
        return aside(lambda: patiently(lambda: _get(objects, key))).result()


def put(objects: Any, key: str, content: Any) -> None:
    """Put an object in place of any that is there; it is whole and there for good when this returns.

    Raises:
        StoreError: the store cannot be written.
    """
    with _told(objects, "written"):
        aside(lambda: _put(objects, key, content)).result()


def create_only(objects: Any, key: str, content: bytes) -> bool:
    """Put an object where there is none. True: the key holds these bytes; False: somebody else's were first.

    One of several writers wins, in one process or in many, unless their bytes are equal: those cannot be told from
    a try of one's own whose answer was lost, so that each of them is told True. A writer that must be the only one
    puts a name of its own into the bytes.

    Raises:
        StoreError: the store cannot be written.
    """

    def attempt() -> bool:
        try:
            obstore.put(objects, key, content, mode="create", use_multipart=False)
        except AlreadyExistsError:
            try:
                return _get(objects, key) == content
            except FileNotFoundError:  # S3 refuses one of two that come at once, even if the other then fails
                raise AgainError(f"{key!r} was refused, and is not there") from None
        _settle(objects, key)
        return True

    with _told(objects, "written"):
        return aside(lambda: patiently(attempt)).result()


class Chunks(ObjectStore):
    """The objects as Zarr reads and writes them: put as by `put`, and failing with a StoreError."""

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        with _told(self.store, "written"):
            await asyncio.wrap_future(aside(lambda: _put(self.store, key, value.as_buffer_like())))

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        patience = Patience()
        with _told(self.store, "read"):
            while True:
                try:
                    return await super().get(key, prototype, byte_range)
                except BaseError as error:
                    await asyncio.sleep(patience.after(error))


def _get(objects: Any, key: str) -> bytes:
    return bytes(obstore.get(objects, key).bytes())


def _put(objects: Any, key: str, content: Any) -> None:
    patiently(lambda: obstore.put(objects, key, content, chunk_size=PART))
    _settle(objects, key)


def _settle(objects: Any, key: str) -> None:
    """Onto the disk with a local file. A journal keeps its order, so its folders need no call of their own."""
    if isinstance(objects, LocalStore):
        file = os.open(os.path.join(str(objects.prefix), key), os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


@contextmanager
def _told(objects: Any, done: str) -> Iterator[None]:
    """An error of obstore or of the system becomes a StoreError that names the place."""
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, FileNotFoundError) and done == "read" and "NoSuchBucket" not in str(error):
            raise
        raise StoreError(f"{place(objects)} cannot be {done}: {first_line(error)}") from None


def place(objects: Any) -> str:
    """The URL or path of a store, without a secret."""
    if isinstance(objects, LocalStore):
        return str(objects.prefix)
    if isinstance(objects, S3Store):
        return f"s3://{objects.config.get('bucket')}/{objects.prefix or ''}"
    return str(objects)
