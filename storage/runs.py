"""MLflow runs through its client: found again by their tags, and only ever given what they lack.

MLflow is imported late (it takes seconds). Its defaults are made quiet and impatient, where the environment
does not say otherwise: no telemetry, no progress bars, five seconds a request, and no retry (it could create a
run twice). What an outage says is told in one line, without the secrets of a tracking URI.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from storage.slices import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run as Found

DEFAULT_URI = "sqlite:///mlflow.db"
SQLITE = "sqlite:///"
PARENT = "mlflow.parentRunId"
KEY = "sweeps.key"
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "PGCONNECT_TIMEOUT": "5",
}
CHUNK = 1000  # the most that MLflow takes at once
LOCKED = 5.0  # seconds that another process may hold a database
MAX_REASON = 160  # characters
UNREACHABLE = "unreachable"
SECRET = re.compile(r"(?<=://)[^/\s'\"]*@")
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")  # variables that hold one
SQLALCHEMY = re.compile(
    r"\(\w+\.OperationalError\) (connection failed: )?(connection to server .*? failed: )?(FATAL: )?|\(Background on .*"
)
GONE = re.compile(  # aborted, reset, closed: it died while it was asked
    "connection (refused|aborted|reset)|closed the connection|(start|shutt)ing (up|down)", re.IGNORECASE
)
QUOTED = "quote what is special in a URI's user, password or path, such as / as %2F and @ as %40"
DATABASE = re.compile(r"(postgresql|mysql|mssql)(\+\w+)?://")


def resolve(uri: str | None) -> str:
    """The tracking URI: the one given, else MLFLOW_TRACKING_URI, else SQLite in the working directory."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    path = uri.removeprefix(SQLITE)
    if not uri.startswith(SQLITE) or not path or path.startswith((":memory:", "file:")):
        return uri
    return SQLITE + os.path.abspath(os.path.expanduser(path))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """MLflow and SQLAlchemy warn about each other; nothing a user of ours could act on."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it raises, with a traceback
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def database(uri: str) -> Path | None:
    """The file behind a resolved URI, where it is one of SQLite."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(f"{SQLITE}/") else None


def connect(uri: str) -> MlflowClient:
    """A client; a new SQLite database is set up by one process at a time."""
    path = database(uri)
    if path is not None:
        probe(path)
    elif DATABASE.match(uri):
        _call(uri)
    from mlflow import MlflowClient

    with _alone(path) if path is not None else contextlib.nullcontext():
        return MlflowClient(tracking_uri=uri)


def probe(path: Path) -> None:
    """Raise at once what MLflow would retry for minutes; nothing is written that SQLite would not write."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    if not path.is_file():
        raise OSError(f"{path} is not a file")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path} is not writable")
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=LOCKED, uri=True)) as found:
        found.execute("pragma user_version")


def _call(uri: str) -> None:
    """The same for a database server: MLflow would try for a hundred seconds."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    create_engine(uri, poolclass=NullPool).connect().close()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with open(f"{path}.lock", "a") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def experiment(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment, made if need be. With SQLite, artifacts go to `mlruns/NAME` beside the database."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        path, folder = database(uri), re.sub(r"[^\w.-]+", "_", name)
        place = (path.parent / "mlruns" / folder).as_uri() if path is not None else None
        try:
            kind = {"mlflow.experimentKind": "custom_model_development"}  # else the page asks the user for it
            return client.create_experiment(name, artifact_location=place, tags=kind)
        except MlflowException:
            found = client.get_experiment_by_name(name)  # somebody else was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise RuntimeError(f"experiment {name!r} is deleted; restore it or set track.experiment to another")
    return found.experiment_id


def find(client: MlflowClient, experiment_id: str, key: str) -> list[Run]:
    """The runs of a sweep, oldest first, in an order that everybody sees alike."""
    found, token = [], None
    while True:
        page = client.search_runs(
            [experiment_id],
            f"tags.`{KEY}` = '{key}'",
            page_token=token,
        )
        found += [Run(client, run) for run in page]
        token = page.token
        if not token:
            return sorted(found, key=lambda run: (run.start, run.id))


def create(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], start: int) -> Run:
    """A new run, running; its tags go with the same request, so that it is never there without them."""
    return Run(client, client.create_run(experiment_id, start_time=start, tags=dict(tags), run_name=name), new=True)


class Run:
    """One MLflow run and what is known to be in it."""

    def __init__(self, client: MlflowClient, run: Found, *, new: bool = False) -> None:
        self.client, self.id, self.start = client, run.info.run_id, run.info.start_time
        self.status, self.ended = run.info.status, run.info.end_time
        self.tags, self.parameters = dict(run.data.tags), dict(run.data.params)
        self._old = set() if new else set(run.data.metrics)
        self._steps: dict[str, set[int]] = {}

    def add(self, parameters: Mapping[str, str], entries: Sequence[Entry]) -> None:
        """Log what the run lacks: a parameter by its name, a metric by its name and step."""
        from mlflow.entities import Metric, Param

        params = [Param(k, v) for k, v in parameters.items() if k not in self.parameters]
        for i in range(0, len(params), 100):
            self.client.log_batch(self.id, params=params[i : i + 100])
        self.parameters |= parameters
        fresh = [e for e in entries if e.step not in self._known(e.key)]
        for i in range(0, len(fresh), CHUNK):
            chunk = fresh[i : i + CHUNK]
            self.client.log_batch(self.id, metrics=[Metric(e.key, e.value, e.time, e.step) for e in chunk])
            for e in chunk:
                self._known(e.key).add(e.step)

    def _known(self, key: str) -> set[int]:
        if key not in self._steps:
            history = self.client.get_metric_history(self.id, key) if key in self._old else []
            self._steps[key] = {m.step for m in history}
        return self._steps[key]

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set the tags that differ."""
        from mlflow.entities import RunTag

        different = {k: v for k, v in tags.items() if self.tags.get(k) != v}
        if different:
            self.client.log_batch(self.id, tags=[RunTag(k, v) for k, v in different.items()])
            self.tags |= different

    def resume(self) -> None:
        """Set it running, if somebody has closed it."""
        if self.client.get_run(self.id).info.status != "RUNNING":
            self.client.update_run(self.id, status="RUNNING")
        self.status = "RUNNING"

    def end(self, status: str, end: int) -> None:
        if (self.status, self.ended) != (status, end):
            self.client.set_terminated(self.id, status, end)
            self.status, self.ended = status, end

    def delete(self) -> None:
        """Out of sight; MLflow keeps it as deleted."""
        self.client.delete_run(self.id)

    def text(self, path: str, data: Any) -> None:
        self.client.log_text(self.id, json.dumps(data, indent=2) + "\n", path)

    def figure(self, path: str, figure: Figure) -> None:
        self.client.log_figure(self.id, figure, path)


def shown(uri: str) -> str:
    """A tracking URI without user, password, query and fragment; its scheme alone where it is unclear what they are."""
    scheme, mark, rest = uri.partition("://")
    if _unclear(uri):
        return f"{scheme}{mark}..." if mark else "..."
    place = rest if rest.startswith("/") else rest.rpartition("@")[2]
    return f"{scheme}://{re.sub('[?#].*', '', place)}" if mark else uri


def _unclear(uri: str) -> bool:
    """Whether it is anyone's guess where a password ends: it is not quoted, or an @ belongs to a path or a query."""
    _, mark, rest = uri.partition("://")
    if not mark:  # a name, a path, or a user and a password without a scheme
        return bool(re.match(r"\w[^/]*:.*@", uri))
    user = "" if rest.startswith("/") else rest.rpartition("@")[0]  # a path of this machine has none
    return bool(re.search("[?#]" if DATABASE.match(uri) else "[?#/]", user))


def _secrets(uri: str) -> list[str]:
    """What an error could repeat: passwords, whole or, where one was not quoted, in pieces; the longest first."""
    password = uri.partition("://")[2].rpartition("@")[0].partition(":")[2]
    query = uri.partition("?")[2]
    pieces = [*re.split("[@/?#:]", password), *(v.partition("=")[2] for v in query.split("&"))]
    found = {password, query, *(p for p in pieces if len(p) > 2), *(os.environ.get(name, "") for name in SECRETS)}
    return sorted({*found, *map(unquote, found), *map(quote, found)} - {""}, key=len, reverse=True)


def reason(error: Exception, uri: str = "") -> str:
    """An error of MLflow or below in one short line, without secrets."""
    if _unclear(uri) and not DATABASE.match(uri):  # the error would name pieces of the password
        return f"cannot be used: {QUOTED}"
    text = str(error)
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    text = " ".join(text.split()) or type(error).__name__
    text = SQLALCHEMY.sub("", text).strip()
    name = re.search(r"[Ff]ailed to resolve (?:host )?'([^']+)'", text)
    innermost = re.search(r"HTTPS?ConnectionPool.*\[Errno -?\d+\] ([^'\")]+)", text)
    status = re.search(r"too many (\d+) error responses", text)
    if name:
        why = f"{UNREACHABLE}: no host {name[1]!r}"
    elif innermost:
        why = f"{UNREACHABLE}: {innermost[1].lower()}"
    elif status:  # its database is away, or a proxy has no server behind it
        why = f"{UNREACHABLE}: it answers with status {status[1]}"
    elif gone := GONE.search(text):
        why = f"{UNREACHABLE}: {gone[0].lower()}"
    elif re.search(r"timed? ?out", text, re.IGNORECASE):
        why = f"{UNREACHABLE}: timed out"
    else:
        why = f"cannot be used: {SECRET.sub('', text)}"
    return why if len(why) <= MAX_REASON else f"{why[: MAX_REASON - 4]} ..."
