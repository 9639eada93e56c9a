"""What `sweeps chaos` disturbs: a Ray cluster of several raylets, a driver process and an MLflow server, all real."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, Self

import psutil

from deploy.flaky_store import FlakyStore
from deploy.heads import ensure_token, free_port
from deploy.loopback import on_loopback
from storage.slices import public
from storage.tracking import rebuild
from sweeps.budget import Budget
from sweeps.errors import SweepsError
from sweeps.sweep import TrackSettings

START = 90.0  # seconds that a server may take to start
ANSWER = 1.0


class Process:
    """A process of ours in a group of its own, its output in a log."""

    def __init__(self, command: list[str], log: Path, **environment: str) -> None:
        with log.open("a") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, start_new_session=True, env=os.environ | environment
            )

    def wait(self, seconds: float | None) -> int | None:
        """Its exit status, or None if it goes on after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Server:
    """An MLflow server on SQLite; `until_answering` before its first `kill`, which would leave half a database."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self._process = Process(command, self.folder / "server.log", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")

    def until_answering(self) -> None:
        """Raises SweepsError where it does not answer in time."""
        end = time.monotonic() + START
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=ANSWER):
                return
            time.sleep(0.2)
        raise SweepsError(f"the MLflow server does not start; see {self.folder / 'server.log'}")

    def kill(self) -> None:
        self._process.kill()


class World:
    """Started and ended as a context."""

    def __init__(self, folder: Path, raylets: int, seed: int) -> None:
        self.folder, self.raylets, self.dice = folder, raylets, random.Random(seed)

    def __enter__(self) -> Self:
        from ray.cluster_utils import Cluster

        ensure_token(os.environ)
        self.drivers: list[Process] = []
        with contextlib.ExitStack() as started:
            self.server = Server(self.folder)
            started.callback(self._kill)
            started.enter_context(on_loopback())  # so are the raylets that are started anew, and the drivers
            self.cluster = Cluster()
            started.callback(self.cluster.shutdown)
            self.cluster.add_node(num_cpus=0, include_dashboard=False)  # the head
            self.nodes: list[Any] = [self.cluster.add_node(num_cpus=1) for _ in range(self.raylets)]
            self.server.until_answering()
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def _kill(self) -> None:
        for process in (*self.drivers, self.server):
            process.kill()

    def driver(self, store: FlakyStore) -> Process:
        """A driver that runs the store's sweep to its end."""
        command = [sys.executable, "-m", "deploy.chaos_world", store.url, self.cluster.address, self.server.uri]
        started = Process(command, self.folder / "driver.log")
        self.drivers = [started]
        return started

    def last_word(self) -> str:
        """The last line of the drivers' log."""
        lines = (self.folder / "driver.log").read_text().strip().splitlines() or ["nothing"]
        return lines[-1].removeprefix("error: ")

    def disturb(self, kind: str, driver: Process, store: FlakyStore) -> bool:
        """Do it, and what a supervisor would do about it; whether there was anything to disturb."""
        match kind:
            case "worker":
                return self._kill_worker()
            case "raylet":
                place = self.dice.randrange(len(self.nodes))
                self.cluster.remove_node(self.nodes[place], allow_graceful=False)
                self.nodes[place] = self.cluster.add_node(num_cpus=1)
            case "driver":
                driver.kill()
            case "server":
                self.server.kill()
                self.server.start()
            case "write":
                store.order_failure(self.dice.choice(["chunk", "mark"]))
        return True

    def _kill_worker(self) -> bool:
        raylets = [node.all_processes["raylet"][0].process.pid for node in self.nodes]
        workers = [p for pid in raylets for p in psutil.Process(pid).children() if _is_worker(p)]
        if not workers:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            self.dice.choice(workers).kill()
        return True

    def published_twice(self, store: FlakyStore) -> int:
        """As `published_twice`, on our server; what an outage left out is caught up with first, by `rebuild`."""
        self.server.until_answering()
        rebuild(store, self.server.uri)
        return published_twice(store, self.server.uri)


def published_twice(store: FlakyStore, tracking_uri: str) -> int:
    """MLflow runs and metric values of a finished sweep that are there more than once."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name(store.sweep.track.experiment)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.`sweeps.store` = '{public(store.url)}'")
    assert runs
    there = Counter[tuple[object, ...]]((run.data.tags["sweeps.slice"],) for run in runs)
    for run in runs:
        for key in run.data.metrics:
            there.update((run.info.run_id, key, m.step) for m in client.get_metric_history(run.info.run_id, key))
    return there.total() - len(there)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[0].startswith("ray::Worker")
    except (psutil.Error, IndexError):
        return False


def _drive(url: str, address: str, tracking_uri: str) -> int:
    """The driver's process: exit status 0 when all is measured, 3 where blocks failed, 2 where the store did."""
    from deploy.session import Where, run_store
    from sweeps.events import SweepDone

    store, end = FlakyStore.open(url), None
    tracking = store.sweep.track.model_copy(update={"uri": tracking_uri})
    unlimited = Budget.model_validate({})
    for event in run_store(store, Where(address=address), unlimited, TrackSettings.model_validate(tracking)):
        print(time.strftime("%X"), event, flush=True)
        end = event
    return 0 if isinstance(end, SweepDone) and not end.failed and not end.missing else 3


if __name__ == "__main__":
    try:
        sys.exit(_drive(*sys.argv[1:]))
    except SweepsError as error:
        print(f"error: {error}", flush=True)
        sys.exit(2)
