"""MLflow as it is: a SQLite database, and a server on loopback."""

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

from storage import figures, runs


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

    def __init__(self, folder: Path, backend: str) -> None:
        self.folder, self.backend, self.port = folder, backend, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), *where]
        secret = {**os.environ, "MLFLOW_BACKEND_STORE_URI": self.backend}  # arguments are for all to see
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, env=secret, stdout=log, stderr=log, start_new_session=True)
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
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, f"sqlite:///{shutil.copy(database, folder / 'server.db')}")
    server.start()
    yield server
    server.kill()
