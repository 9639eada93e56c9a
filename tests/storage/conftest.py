"""Servers as they are, on loopback: MLflow with SQLite or PostgreSQL, and S3 behind a proxy that fails on demand."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from deploy.servers import binaries
from storage import figures, retries, tracking
from storage.tracking import rebuild
from storage.zarr_store import ZarrStore
from tests.notebook import content
from tests.postgres import PostgreSQL
from tests.proxy import Proxy
from tests.storage.buckets import ALONE, CREDENTIALS, Moto


@pytest.fixture
def real_figures() -> None:
    """Asks for the figures themselves; other tests log empty ones, which are quicker."""


@pytest.fixture
def notebook(mlflow_db: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The default tracking database of the working directory."""
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
        secret = {"MLFLOW_BACKEND_STORE_URI": self.backend}  # arguments are for all to see
        settings = {**os.environ, **secret, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, env=settings, stdout=log, stderr=log, start_new_session=True)
        for _ in range(3000):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "server.log").read_text())

    @property
    def is_up(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        if self.is_up:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder, f"sqlite:///{shutil.copy(database, folder / 'server.db')}")
    server.start()
    yield server
    server.kill()


class Team(Server):
    """What a team has: an `mlflow server` on PostgreSQL, either of which may go away."""

    def __init__(self, folder: Path, postgres: PostgreSQL) -> None:
        self.postgres = postgres
        super().__init__(folder, postgres.uri("mlflow"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    programs = binaries()
    if programs is None:
        absent = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(absent, pytrace=False)
        pytest.skip(absent)
    server = PostgreSQL(programs, free_port())
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def team_server(tmp_path_factory: pytest.TempPathFactory, postgres: PostgreSQL) -> Iterator[Team]:
    postgres.create("mlflow")
    team = Team(tmp_path_factory.mktemp("team"), postgres)
    team.start()
    yield team
    team.kill()


@pytest.fixture
def team(team_server: Team, monkeypatch: pytest.MonkeyPatch) -> Team:
    """Both are up, whatever a test before did to them, and waited for: a busy machine is not an outage."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    if not team_server.postgres.is_up:
        team_server.postgres.start()
    if not team_server.is_up:
        team_server.start()
    return team_server


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


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    """One of its own for every test: the database is shared."""
    return re.sub(r"[^\w-]+", "-", request.node.name.removeprefix("test_")).strip("-")


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published at every block, and a lost server is tried again at every event."""
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    monkeypatch.setattr(tracking, "SHARE", 1e9)
    monkeypatch.setattr(tracking, "AGAIN", 0.0)


@pytest.fixture
def check(database: Path) -> Callable[..., None]:
    """Whether the runs on a server are those that the store alone gives, each once."""

    def equal(uri: str, experiment: str, url: str = "sweep.zarr") -> None:
        shutil.copy(database, "fresh.db")
        rebuild(ZarrStore.open(url), "sqlite:///fresh.db")
        found = content(uri, experiment)
        assert found == content("sqlite:///fresh.db", experiment)
        assert {r["status"] for r in found.values()} == {"FINISHED"}
        for name, run_ in found.items():
            for key, steps in run_["metrics"].items():
                assert len({s for s, _, _ in steps}) == len(steps), f"{name}: {key} has a step twice"

    return equal
