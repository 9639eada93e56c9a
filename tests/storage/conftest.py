"""Servers as they are, on loopback: MLflow with its SQLite database, and S3 behind a proxy that fails on demand."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from storage import figures, retries, runs
from tests.storage.buckets import ALONE, CREDENTIALS, Moto
from tests.storage.proxy import Proxy


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with runs.quiet():
        runs.connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def real_figures() -> None:
    """Asks for the figures themselves; other tests log empty ones, which are quicker."""


@pytest.fixture
def notebook(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The default tracking database of the working directory, set up."""
    shutil.copy(database, tmp_path / "mlflow.db")
    if "real_figures" not in request.fixturenames:
        monkeypatch.setattr(figures, "draw", lambda ds, outcome: Figure())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A real `mlflow server` with workers of its own, on a port that stays the same over restarts."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        shutil.copy(database, folder / "server.db")
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        where += ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), *where]
        log = (self.folder / "server.log").open("a")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), database)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    server = Moto(tmp_path_factory.mktemp("moto"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before a new bucket named `bucket`; the environment points to it, and pauses are short."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    moto.ask("POST", "moto-api/reset")
    moto.ask("PUT", "bucket")
    for name, value in {"FIRST": 0.02, "LONGEST": 0.2, "PATIENCE": 100.0}.items():
        monkeypatch.setattr(retries, name, value)
    with Proxy(moto.port) as proxy:
        for name, text in {**CREDENTIALS, **ALONE, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, text)
        yield proxy
