"""`sweeps doctor` on servers: a cluster, MLflow and clocks that are away, silent, another's or wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from deploy import checks_servers, heads
from deploy.doctor import FAULT, OK, WARNING, Finding
from tests.deploy.test_doctor import _nothing_known, one  # noqa: F401
from tests.proxy import Proxy
from tests.storage.conftest import Server, server  # noqa: F401


@contextmanager
def answering(text: str = "hello", status: int = 200, ahead: float = 0.0) -> Iterator[str]:
    """A server on loopback that says one thing to everybody, at a time of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, *_: Any) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """Somebody who accepts and never says a word."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}"


def test_no_cluster_is_fine_and_one_that_does_not_answer_is_not() -> None:
    assert one("cluster").state == OK
    away = f"http://127.0.0.1:{heads.free_port()}"
    assert "nobody listens there" in one("cluster", address=away).text
    with answering("<html>") as odd:
        assert one("cluster", address=odd).state == FAULT


def test_a_silent_dashboard_is_a_fault_in_time(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy import dashboard

    monkeypatch.setattr(dashboard, "ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    quiet = one("cluster", address=silent)
    assert (quiet.state, quiet.text.split(":")[0]) == (FAULT, "no answer from the Ray dashboard at http")


def test_a_tracking_server_is_asked_as_a_sweep_asks_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setattr(checks_servers, "SECONDS", 60.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert one("tracker") == Finding("tracker", OK, f"{server.uri} answers")
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", lambda name: "99.1")
        older = one("tracker")
    assert (older.state, older.mend) == (WARNING, "install the same MLflow on both")
    with Proxy(server.port, login="ada:right-one") as between:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", between.url)
        for name, text in {"USERNAME": "ada", "PASSWORD": "wrong-one"}.items():
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", text)
        refused = one("tracker")
        assert (refused.state, "MLFLOW_TRACKING_USERNAME" in refused.mend) == (FAULT, True), refused
        assert "wrong-one" not in refused.text + refused.mend
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "right-one")
        assert one("tracker").state == OK


@pytest.mark.timeout(120)
def test_a_tracking_server_that_is_away_silent_or_another_is_a_fault(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = f"http://me:hush-hush@127.0.0.1:{heads.free_port()}"
    with answering("<html>hello</html>") as odd:
        for uri, why in ((away, "unreachable"), (silent, "unreachable: timed out"), (odd, "cannot be used")):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            broken = one("tracker")
            assert broken.state == FAULT
            assert why in broken.text
            assert "hush-hush" not in broken.text


def test_a_tracking_database_that_cannot_be_written_is_a_fault(
    mlflow_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = mlflow_db.read_bytes()
    assert one("tracker") == Finding("tracker", OK, f"sqlite:///{mlflow_db} answers")
    assert mlflow_db.read_bytes() == before
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/text")
    (tmp_path / "text").write_text("root:x:0:0\n")
    assert "file is not a database" in one("tracker").text


@pytest.mark.parametrize(
    ("ahead", "state", "said"),
    [
        (0.0, OK, "agrees with the tracking server"),
        (40.0, WARNING, "s behind the tracking server"),
        (-1000.0, FAULT, "s ahead of the tracking server; S3 refuses requests from 900 s on"),
    ],
)
def test_a_clock_that_is_wrong_is_told(ahead: float, state: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(ahead=ahead) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        finding = one("clock")
    assert (finding.state, finding.mend) == (state, checks_servers.SYNC if ahead else "")
    assert said in finding.text


def test_a_clock_is_compared_with_dashboard_and_store_too(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    with answering(status=401) as dashboard, answering(ahead=99) as bucket:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
        assert one("clock", address=dashboard).text == "agrees with the Ray dashboard"
        assert "behind the object store" in one("clock", address=dashboard, store="s3://bucket/a.zarr").text
