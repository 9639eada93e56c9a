"""Objects one by one: put, got, listed and created, on a disk and on S3, whatever goes wrong on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError

from storage import objects, reasons, retries
from storage.objects import connect, create_only, folders, get, listing, put
from sweeps.errors import StoreError
from tests.proxy import Proxy

ROOT = Path(__file__).parents[2]
LOST = ["refuse", "reset", "cut", "lost", "half", "stall"]
KINDS = [*LOST, "slow", 429, 500, 503]
URL = "s3://bucket/a.zarr"
CONTENT = bytes(range(256)) * 40


def strike(s3: Proxy, kind: str | int, monkeypatch: pytest.MonkeyPatch, **where: Any) -> int:
    """Add a fault that strikes twice, or once where that takes time; how often it will."""
    slow = kind in ("slow", "stall")
    if slow:
        monkeypatch.setattr(retries, "TIMEOUT", 2.0)
    s3.fault(kind, 1 if slow else 2, seconds=2.5 if slow else 0.3, **where)
    return 1 if slow else 2


@pytest.fixture(params=["disk", "s3"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A place for objects."""
    if request.param == "disk":
        return connect(str(tmp_path / "objects"), create=True)
    request.getfixturevalue("s3")
    return connect(URL)


class TestContract:
    """The same on a disk and on S3."""

    def test_what_is_put_is_got_and_replaced(self, here: Any) -> None:
        put(here, "a/b", b"one")
        put(here, "a/b", CONTENT)
        assert get(here, "a/b") == CONTENT

    def test_what_is_not_there_is_said(self, here: Any) -> None:
        with pytest.raises(FileNotFoundError):
            get(here, "a/b")

    def test_a_prefix_is_listed_each_once(self, here: Any) -> None:
        for key in ("c/1", "c/2/3", "d"):
            put(here, key, b"x" * len(key))
        assert sorted(listing(here, "c/")) == [("c/1", 3), ("c/2/3", 5)]
        assert sorted(k for k, _ in listing(here)) == ["c/1", "c/2/3", "d"]
        assert list(listing(here, "nothing/")) == []
        assert folders(here) == ["c"]

    def test_only_the_first_creates(self, here: Any) -> None:
        assert create_only(here, "a/lock", b"mine")
        assert not create_only(here, "a/lock", b"another's")
        assert get(here, "a/lock") == b"mine"
        assert create_only(here, "a/lock", b"mine"), "a try of one's own whose answer was lost"

    def test_of_many_processes_one_creates(self, here: Any, tmp_path: Path) -> None:
        url = URL if "bucket" in repr(here) else str(tmp_path / "objects")
        raced = subprocess.run(
            [sys.executable, "-c", RACERS, url], cwd=ROOT, capture_output=True, text=True, timeout=100
        )
        assert raced.returncode == 0, raced.stderr
        won = [line.split() for line in raced.stdout.splitlines()]
        assert sorted(key for key, _ in won) == sorted(f"race/{i}" for i in range(40))
        assert {key: get(here, key).decode() for key, _ in won} == {key: who for key, who in won}


RACERS = """
import os, sys
from storage.objects import connect, create_only
wait, go = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.close(go)
        os.read(wait, 1)  # until the parent closes its end
        here, who = connect(sys.argv[1]), str(os.getpid())
        won = [f"race/{i}" for i in range(40) if create_only(here, f"race/{i}", who.encode())]
        os.write(1, "".join(f"{key} {who}\\n" for key in won).encode())
        os._exit(0)
os.close(go)
sys.exit(any(os.wait()[1] for _ in range(4)))
"""


# --- every fault at every operation ---

OPERATIONS: dict[str, tuple[str, Callable[[Any], Any], Any]] = {
    "put": ("PUT", lambda o: put(o, "new", CONTENT), None),
    "create": ("PUT", lambda o: create_only(o, "new", CONTENT), True),
    "get": ("GET", lambda o: get(o, "old"), CONTENT),
    "list": ("GET", lambda o: sorted(listing(o)), [("old", len(CONTENT))]),
    "folders": ("GET", folders, []),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_outlived(s3: Proxy, kind: str | int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, operation, expected = OPERATIONS[name]
    put(connect(URL), "old", CONTENT)
    s3.clear()
    times = strike(s3, kind, monkeypatch, method=method)
    here = connect(URL)
    assert operation(here) == expected
    assert [r.fault for r in s3.struck()] == [kind] * times
    s3.clear()
    assert get(here, "old") == CONTENT
    if method == "PUT":
        assert get(here, "new") == CONTENT


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("name", ["put", "create"])
def test_a_put_that_fails_for_good_is_whole_or_absent(
    s3: Proxy, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short:
        short.setattr(retries, "PATIENCE", 0.0)
        strike(s3, kind, short, method="PUT")
        with pytest.raises(StoreError) as error:
            OPERATIONS[name][1](connect(URL))
    assert str(error.value).startswith(f"s3://bucket/a.zarr cannot be written: {s3.url} cannot be reached: ")
    assert "\n" not in str(error.value)
    assert len(s3.struck()) == 1
    s3.clear()
    here = connect(URL)
    there = {key: get(here, key) for key, _ in listing(here)}
    assert there == ({"new": CONTENT} if kind in ("lost", "stall", "half") else {})


@pytest.mark.parametrize(("method", "path"), [("POST", "uploads"), ("PUT", "partNumber=2"), ("POST", "uploadId=")])
@pytest.mark.parametrize("kind", ["refuse", "cut", "lost", "half", 503])
def test_an_object_in_parts_outlives_a_fault_at_each(
    s3: Proxy, kind: str | int, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART", 5 * 2**20)  # the least that S3 takes
    large = os.urandom(11 * 2**20)
    here = connect(URL)
    s3.fault(kind, 2, method=method, path=path)
    put(here, "large", large)
    assert [r.fault for r in s3.struck()] == [kind] * 2
    assert get(here, "large") == large


@pytest.mark.parametrize("kind", ["reset", "half", 503])
def test_a_listing_goes_on_where_it_was_cut(s3: Proxy, kind: str | int) -> None:
    here = connect(URL)
    keys = [f"c/{i:04}" for i in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: obstore.put(here, key, b"x"), keys))
    s3.clear()
    s3.fault(kind, 1, method="GET", path="(continuation-token|start-after)=")
    assert [key for key, _ in listing(here, "c/")] == keys
    assert len(s3.struck()) == 1
    assert len(s3.seen) == 3, "two pages, and the second one again"


def test_a_conflict_of_two_creators_is_tried_again(s3: Proxy) -> None:
    s3.fault(409, 2, method="PUT")
    assert create_only(connect(URL), "lock", b"mine")
    assert len(s3.struck()) == 2


def test_what_cannot_get_better_is_not_tried_again(s3: Proxy) -> None:
    here = connect(URL)
    for status in (400, 403, 404):
        s3.clear()
        s3.fault(status, 100)
        for operation in OPERATIONS.values():
            with pytest.raises((StoreError, FileNotFoundError)):
                operation[1](here)
        assert len(s3.seen) == len(OPERATIONS), status


def test_patience_grows_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: pauses.append(seconds))
    pauses: list[float] = []
    lost = GenericError("Generic S3 error: ... - HTTP error: error sending request")

    def fail() -> None:
        now[0] += 10.0
        raise lost

    with pytest.raises(GenericError) as caught:
        retries.patiently(fail)
    assert caught.value is lost
    assert len(pauses) == retries.PATIENCE / 10 - 1
    assert all(a < 2 * retries.LONGEST for a in pauses)
    assert pauses[0] <= 2 * retries.FIRST
    assert max(pauses) <= retries.LONGEST <= 2 * min(pauses[-5:])


# --- on a disk ---


def test_a_local_object_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = connect(str(tmp_path / "a"), create=True)
    synced: list[tuple[int, int]] = []
    original = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append((os.fstat(fd).st_ino, os.fstat(fd).st_size)), original(fd))
    )
    for i, write in enumerate((put, create_only)):
        write(here, f"c/{i}", CONTENT)
        found = os.stat(tmp_path / "a" / "c" / str(i))
        assert synced[-1] == (found.st_ino, len(CONTENT))
    assert len(synced) == 2


def test_a_sync_that_fails_is_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = connect(str(tmp_path / "a"), create=True)

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for write in (put, create_only):
        with pytest.raises(StoreError, match=r"a cannot be written: \[Errno 5\] Input/output error"):
            write(here, write.__name__, CONTENT)


# --- what is said ---


def test_a_secret_in_the_endpoint_is_not_repeated(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE", 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:s3cr3t@127.0.0.1:1")
    for name, (_, operation, _) in OPERATIONS.items():
        with pytest.raises(StoreError) as error:
            operation(connect(URL))
        done = "written" if name in ("put", "create") else "read"
        assert str(error.value) == (
            f"s3://bucket/a.zarr cannot be {done}: http://127.0.0.1:1 cannot be reached: connection refused; "
            "check AWS_ENDPOINT_URL and the network"
        )


def test_a_bucket_that_is_not_there_is_named(s3: Proxy) -> None:
    for _, operation, _ in OPERATIONS.values():
        with pytest.raises(StoreError, match=rf"s3://other/a cannot be .*: {s3.url} has no such bucket; create it"):
            operation(connect("s3://other/a"))


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "forbidden by {} (403 Forbidden, AccessDenied); check the access key and its rights"),
        (403, "InvalidAccessKeyId", "forbidden by {} (403 Forbidden, InvalidAccessKeyId); check the access key"),
        (301, "PermanentRedirect", "{} points to another region; set AWS_REGION to the bucket's"),
        (400, "InvalidRequest", "{} answered 400 Bad Request, InvalidRequest"),
    ],
)
def test_what_the_server_answers_is_said_with_what_to_do(s3: Proxy, status: int, code: str, said: str) -> None:
    for _, operation, _ in OPERATIONS.values():
        s3.clear()
        s3.fault(status, 1, code=code)
        with pytest.raises(StoreError) as error:
            operation(connect(URL))
        assert said.format(s3.url) in str(error.value)
        assert "\n" not in str(error.value)
        assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize("gone", [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], ["AWS_SECRET_ACCESS_KEY"]])
@pytest.mark.timeout(60)  # nobody waits for a metadata service that is not there
def test_an_environment_without_credentials_is_refused(
    s3: Proxy, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PATIENCE", 240.0)
    for name in gone:
        monkeypatch.delenv(name)
    with pytest.raises(StoreError, match="no credentials in the environment; set AWS_ACCESS_KEY_ID and"):
        get(connect(URL), "zarr.json")
    assert s3.seen == []


def test_plain_http_is_for_loopback_or_asked_for(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000")
    with pytest.raises(StoreError, match=r"'minio\.example' is not encrypted; give https, or set AWS_ALLOW_HTTP=true"):
        connect(URL)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    connect(URL)


CAUSE = "Generic S3 error: Error performing GET https://h:9/b/k in 5s - HTTP error: error sending request\n\n{}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CAUSE.format('ConnectError("dns error", Custom {'), "https://h:9 cannot be reached: no such host"),
        (CAUSE.format("kind: Timeout,"), "https://h:9 cannot be reached: no answer in time"),
        (CAUSE.format("invalid peer certificate: UnknownIssuer"), "https://h:9 cannot be reached: its certificate is"),
        (CAUSE.format("kind: ConnectionReset"), "https://h:9 cannot be reached: connection lost"),
        ("Generic LocalFileSystem error: Unable to copy: No space left on device (os error 28)\n\nDebug", "Unable to"),
        ("Generic S3 error: PUT http://169.254.169.254/latest/api/token\nx", "no credentials in the environment"),
        ("see http://me:s3cr3t@h/x", "see http://h/x"),
        ("", "OSError"),
        ("word " * 1000, "word word"),
    ],
)
def test_reasons_are_one_short_line(text: str, said: str) -> None:
    reason = reasons.first_line(OSError(text))
    assert reason.startswith(said)
    assert len(reason) <= reasons.MAX_REASON
    assert "\n" not in reason
