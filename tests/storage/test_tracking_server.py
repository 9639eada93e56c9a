"""MLflow beside the ledger, against a real server on loopback: there, gone and back, deaf, and never there."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

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
    assert "unreachable" in last
    with pytest.raises(SweepsError, match="unreachable"):
        rebuild(store)
    server.start()
    rebuild(store)
    found = content(server.uri, "dying")
    rebuild(store, "sqlite:///mlflow.db")
    assert found == content(experiment="dying")


def test_a_server_that_never_answers_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        start = time.monotonic()
        uri = f"http://me:secret@127.0.0.1:{deaf.getsockname()[1]}"
        events = follow(small(track={"uri": uri}))
    assert time.monotonic() - start < 15
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


def test_where_runs_go_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert runs.resolve(None) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team")
    assert runs.resolve(None) == "http://team"
    assert runs.resolve(TrackSettings.model_validate({"uri": "sqlite:///a.db"}).uri) == f"sqlite:///{tmp_path}/a.db"
