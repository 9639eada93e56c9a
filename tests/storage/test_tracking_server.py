"""MLflow beside the ledger, against a real server on loopback: there, gone and back, deaf, and never there."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from actors.inline import Inline
from storage import runs, tracking
from storage.tracking import rebuild, track
from storage.zarr_store import ZarrStore
from sweeps.errors import SweepsError
from sweeps.events import BlockDone, Event, SweepDone
from sweeps.run import run
from sweeps.sweep import TrackSettings
from tests.notebook import BY_SIZE, FIGURES, content, follow, notices, small
from tests.storage.conftest import Server

pytestmark = pytest.mark.usefixtures("notebook")


def test_a_real_server_holds_the_same(server: Server) -> None:
    assert not notices(follow(small(track={**BY_SIZE, "uri": server.uri})))
    before = content(server.uri)
    assert before["all"]["artifacts"] == ["environment.json", *FIGURES, "spec.json"]
    assert not notices(follow(small(track={**BY_SIZE, "uri": server.uri})))
    rebuild(ZarrStore.open("sweep.zarr"), server.uri)
    assert content(server.uri) == before
    rebuild(ZarrStore.open("sweep.zarr"), "sqlite:///mlflow.db")
    assert content() == before


def test_a_server_that_dies_is_caught_up_with(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    monkeypatch.setattr(tracking, "SHARE", 1e9)
    sweep = small(name="dying", seed=1, track={**BY_SIZE, "uri": server.uri, "experiment": "dying"})
    store = ZarrStore.create("sweep.zarr", sweep)
    events: list[Event] = []
    for event in track(run(store, Inline("cpu")), store, sweep.track):
        events.append(event)
        if isinstance(event, BlockDone) and event.receipt.block == 2:
            server.kill()
    assert isinstance(events[-1], SweepDone)
    assert events[-1].done == 12
    first, last = notices(events)  # when it is lost, and when it is still lost at the end
    assert f"tracking server {server.uri} unreachable" in first
    assert f"catch up with `sweeps track {os.path.abspath('sweep.zarr')}`" in first
    assert last == f"tracking server still unreachable; catch up with `sweeps track {os.path.abspath('sweep.zarr')}`"
    with pytest.raises(SweepsError, match="unreachable"):
        rebuild(store)
    server.start()
    rebuild(store)
    found = content(server.uri, "dying")
    rebuild(store, "sqlite:///mlflow.db")
    assert found == content(experiment="dying")


@pytest.mark.timeout(60)  # MLflow's own retries would take minutes
def test_a_server_that_never_answers_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        uri = f"http://me:secret@127.0.0.1:{deaf.getsockname()[1]}"
        events = follow(small(track={"uri": uri}))
    assert isinstance(events[-1], SweepDone)
    assert events[-1].missing == 0
    assert "unreachable: timed out" in notices(events)[0]
    assert not any("secret" in text for text in notices(events))


@pytest.mark.parametrize("uri", ["nonsense://x", "http://127.0.0.1:1", "sqlite:////proc/no/mlflow.db"])
def test_a_bad_uri_never_stops_a_sweep(uri: str) -> None:
    events = follow(small(track={"uri": uri}))
    assert isinstance(events[-1], SweepDone)
    assert events[-1].done == 12
    assert f"tracking server {uri}" in notices(events)[0]
    with pytest.raises(SweepsError, match="tracking server"):
        rebuild(ZarrStore.open("sweep.zarr"))


@pytest.mark.timeout(60)  # MLflow would try for 100 s
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkdir, "is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda path: Path(path).write_text("root:x:0:0\n"), "file is not a database"),
    ],
    ids=["directory", "pipe", "text"],
)
def test_what_is_no_database_holds_nothing_up(
    make: Callable[[str], Any], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("odd")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/odd")
    before = set(tmp_path.iterdir())
    events = follow(small())
    assert isinstance(events[-1], SweepDone)
    assert events[-1].done == 12
    [told] = notices(events)  # trying again at the end says nothing new
    assert f"tracking server sqlite:///{tmp_path}/odd cannot be used: " in told
    assert why in told
    assert {p.name for p in set(tmp_path.iterdir()) - before} == {"sweep.zarr"}, "no lock beside what is not ours"


def test_a_locked_database_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "LOCKED", 0.1)
    with closing(sqlite3.connect("mlflow.db")) as other:
        other.execute("begin exclusive")
        [told] = notices(follow(small()))
    assert f"tracking server sqlite:///{tmp_path}/mlflow.db cannot be used: database is locked" in told
    assert not notices(follow(small()))
    assert content()["all"]["status"] == "FINISHED"


def test_a_start_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.1)
    monkeypatch.setattr(tracking, "LAST", 0.5)
    forever = Flag()
    monkeypatch.setattr(runs, "connect", lambda uri: forever.wait())
    events = follow(small())
    assert isinstance(events[-1], SweepDone)
    assert events[-1].done == 12
    assert [type(e) for e in events].index(BlockDone) == 1, "measuring does not wait"
    [told] = notices(events)
    assert "unreachable: timed out; catch up with" in told
    forever.set()


def test_a_slow_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.1)
    quick = runs.connect
    monkeypatch.setattr(runs, "connect", lambda uri: (time.sleep(1.0), quick(uri))[1])
    assert not notices(follow(small()))
    assert {run_["status"] for run_ in content().values()} == {"FINISHED"}
    assert len(content()) == 3


POOL = "failed with exception {0}ConnectionPool(host='h', port=1): Max retries exceeded with url: /api?x=y (Caused by "
RESET = "unreachable: connection reset"
PSYCOPG = '(psycopg.OperationalError) connection failed: connection to server at "::1", port 5432 failed: '
BACKGROUND = "(Background on this error at: https://sqlalche.me/e/21/e3q8)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            POOL + "NameResolutionError(\"{0}Connection(host='h', port=1): Failed to resolve 'h.invalid' "
            '([Errno -2] Name or service not known)"))',
            "unreachable: no host 'h.invalid'",
        ),
        (POOL + 'NewConnectionError("x: [Errno 111] Connection refused"))', "unreachable: connection refused"),
        (POOL + "ConnectTimeoutError('x: Connection to h timed out. (connect timeout=5)'))", "unreachable: timed out"),
        ("x ('Connection aborted.', RemoteDisconnected('Remote end closed'))", "unreachable: connection aborted"),
        (POOL + "ResponseError('too many 503 error responses'))", "unreachable: it answers with status 503"),
        ("x ('Connection broken: ...', ConnectionResetError(104, 'Connection reset by peer'))", RESET),
        (PSYCOPG + "Connection refused Is the server running? " + BACKGROUND, "unreachable: connection refused"),
        (PSYCOPG + 'FATAL:  database "x" does not exist ' + BACKGROUND, 'cannot be used: database "x" does not exist'),
        (PSYCOPG + "FATAL:  the database system is starting up", "unreachable: starting up"),
        ("(psycopg.OperationalError) server closed the connection unexpectedly", "unreachable: closed the connection"),
        ("(psycopg.OperationalError) failed to resolve host 'db': [Errno -2] Name", "unreachable: no host 'db'"),
        ("no\n  such {0} at http://me:secret@host/", "cannot be used: no such {0} at http://host/"),
        ("", "cannot be used: OSError"),
    ],
    ids=[
        *("name", "refused", "timeout", "aborted", "status", "reset"),
        *("database-refused", "database-absent", "database-starting", "database-died", "database-name"),
        *("other", "empty"),
    ],
)
@pytest.mark.parametrize("scheme", ["HTTP", "HTTPS"])
def test_reasons_are_one_short_line(text: str, said: str, scheme: str) -> None:
    assert runs.reason(OSError(text.format(scheme))) == said.format(scheme)
    assert len(runs.reason(OSError("word " * 1000))) <= runs.MAX_REASON


def test_where_runs_go_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert runs.resolve(None) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team")
    assert runs.resolve(None) == "http://team"
    assert runs.resolve(TrackSettings.model_validate({"uri": "sqlite:///a.db"}).uri) == f"sqlite:///{tmp_path}/a.db"
