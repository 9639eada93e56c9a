"""The password of a tracking server, or of its database, is told nowhere: notices, runs, artifacts, stores."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import runs
from storage.tracking import rebuild
from storage.zarr_store import ZarrStore
from sweeps.errors import SweepsError
from sweeps.events import SweepDone
from tests.notebook import content, follow, follow_while, notices, tracked
from tests.postgres import PostgreSQL
from tests.proxy import Proxy
from tests.storage.conftest import Team

pytestmark = [pytest.mark.usefixtures("notebook"), pytest.mark.timeout(600)]


@pytest.mark.usefixtures("brisk")
def test_a_database_without_a_server_is_used_without_telling_its_password(
    postgres: PostgreSQL, team: Team, experiment: str, check: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    uri = postgres.uri("mlflow")
    events = follow_while(tracked(uri, experiment), {4: postgres.kill, 7: postgres.start})
    lost, back = notices(events)
    shown = f"postgresql+psycopg://127.0.0.1:{postgres.port}/mlflow"
    assert lost.startswith(f"tracking server {shown} unreachable: connection refused")
    assert back == f"tracking server {shown} is back; its runs have caught up"
    check(uri, experiment)
    assert str(rebuild(ZarrStore.open("sweep.zarr"), uri)).startswith(f"{shown}: experiment")
    assert_nowhere(postgres.password, Path(), [*notices(events), *capfd.readouterr()], content(uri, experiment))
    tags = postgres.query(f"select value from tags where value like '%{postgres.password}%'", "mlflow")
    assert tags == []


@pytest.mark.parametrize(
    ("password", "name", "said"),
    [
        ("wrong-hunter", "mlflow", 'cannot be used: password authentication failed for user "sweeps"'),
        ("", "absent-hunter", 'cannot be used: database "absent-hunter" does not exist'),
        ("at@hunter", "mlflow", "unreachable: no host '***@127.0.0.1'"),
        ("sl/ash-hunter", "mlflow", 'cannot be used: password authentication failed for user "sweeps"'),
        ("hash#hunter", "mlflow", 'cannot be used: password authentication failed for user "sweeps"'),
        ("ask?hunter", "mlflow", 'cannot be used: password authentication failed for user "sweeps"'),
        ("quo%2Fted-hunter", "mlflow", 'cannot be used: password authentication failed for user "sweeps"'),
    ],
    ids=["password", "database", "at", "slash", "hash", "question", "quoted"],
)
def test_a_database_that_refuses_is_told_in_one_line_without_a_secret(
    team: Team, experiment: str, password: str, name: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = team.postgres.uri(name, password)
    told, *still = follow_quietly(uri, experiment)
    assert said in told
    with pytest.raises(SweepsError, match="tracking server") as error:
        rebuild(ZarrStore.open("sweep.zarr"), uri)
    for secret in filter(None, (password, "hunter" if password else "")):
        assert_nowhere(secret, Path("sweep.zarr"), [told, *still, str(error.value), *capfd.readouterr()])


@pytest.mark.parametrize("how", ["environment", "uri"])
def test_a_server_behind_a_password_is_used_without_telling_it(
    team: Team, experiment: str, check: Callable[..., None], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    secret = "pass-wo.rd"
    with Proxy(team.port, login=f"ada:{secret}") as between:
        uri = between.url
        if how == "uri":
            uri = uri.replace("://", f"://ada:{secret}@")
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secret)
        assert not follow_quietly(uri, experiment)
        found = content(uri, experiment)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", wrong := "wrong-hunter")
        [told] = follow_quietly(uri.replace(secret, wrong), experiment, url="other.zarr")
    assert f"tracking server {between.url} cannot be used: " in told
    assert "401" in told
    for word in (secret, wrong):
        assert_nowhere(word, Path(), [told], found)
    check(team.uri, experiment)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:hunter@host:5432/runs", "postgresql://host:5432/runs"),
        ("postgresql+psycopg2://me:hun@ter@host/runs", "postgresql+psycopg2://host/runs"),
        ("postgresql://me:hun/ter@host/runs", "postgresql://host/runs"),
        ("postgresql://me:hun?ter@host/runs", "postgresql://..."),
        ("postgresql://host/runs?user=me&password=hunter", "postgresql://host/runs"),
        ("postgresql://host/runs?user=me&password=hun@ter", "postgresql://..."),
        ("mysql+pymysql://me:hunter@host/runs?charset=utf8", "mysql+pymysql://host/runs"),
        ("postgresql://me:hun ter@host/runs", "postgresql://host/runs"),
        ("https://me:hunter@host/all", "https://host/all"),
        ("https://me:hun@ter@host/all", "https://host/all"),
        ("https://me:hunter@host/at@all", "https://..."),
        ("http://me:hun/ter@127.0.0.1:1", "http://..."),
        ("http://me:hun#ter@127.0.0.1:1", "http://..."),
        ("http://me:hun?ter@127.0.0.1:1", "http://..."),
        ("http://me:hun ter@127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://hun/ter@127.0.0.1:1", "http://..."),
        ("me:hun/ter@127.0.0.1:1", "..."),
        ("me:hunter@127.0.0.1:1", "..."),
        ("databricks://profile", "databricks://profile"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("/home/me@work/mlruns", "/home/me@work/mlruns"),
        ("file:///home/me@work/mlruns", "file:///home/me@work/mlruns"),
    ],
)
def test_uris_are_shown_and_errors_told_without_secrets(uri: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs.shown(uri) == shown
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token-of-mine")
    for text in (f"cannot parse {uri}", "no 'hunter' or 'hun@ter'", "Bearer token-of-mine was refused"):
        told = runs.reason(ValueError(text), uri)
        assert "token-of-mine" not in told
        assert not [secret for secret in re.findall(r"hun\W?ter", uri) if secret in told]


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        *((mark, "tracking server http://... cannot be used: quote what is special") for mark in "/#?"),
        (" ", "tracking server http://127.0.0.1:1 unreachable: connection refused"),
    ],
    ids=["slash", "hash", "question", "space"],
)
def test_a_password_that_is_not_quoted_is_told_nowhere(
    mark: str, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = f"http://ada:sek{mark}ret@127.0.0.1:1"
    told, *still = follow_quietly(uri, "sweeps")
    assert expected in told
    with pytest.raises(SweepsError, match=f"^{re.escape(expected)}") as error:
        rebuild(ZarrStore.open("sweep.zarr"), uri)
    said = [told, *still, str(error.value), *capfd.readouterr()]
    for secret in ("sek", "ret@"):
        assert_nowhere(secret, Path("sweep.zarr"), said)


def follow_quietly(uri: str, experiment: str, url: str = "sweep.zarr") -> list[str]:
    events = follow(tracked(uri, experiment), url)
    assert isinstance(events[-1], SweepDone)
    assert events[-1].done == 12
    return notices(events)


def assert_nowhere(secret: str, folder: Path, said: list[str], held: object = "") -> None:
    """Not in what was said, nor in what the runs hold, nor in any file of the store or the artifacts."""
    assert not [text for text in said if secret in text]
    assert secret not in repr(held)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret.encode() in path.read_bytes()]
