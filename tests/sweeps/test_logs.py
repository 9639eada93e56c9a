"""Log records: which sweep, block and attempt they are about, in both forms, and nothing secret in them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator

import pytest

from sweeps import logs

log = logging.getLogger("sweeps.test")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "_process", {})
    monkeypatch.delenv(logs.FORMAT, raising=False)
    monkeypatch.delenv(logs.FIELDS, raising=False)
    yield
    for room in logs.ROOMS:
        logging.getLogger(room).handlers.clear()
        logging.getLogger(room).setLevel(logging.NOTSET)


def test_people_get_warnings_with_what_they_are_about(capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logs.about(sweep="angles", submission_id="")
    with logs.context(block=3):
        with logs.context(attempt=2):
            log.warning("odd")
            log.info("nothing")
        log.warning("odd")
    log.warning("odd %s", 1)
    assert capfd.readouterr().err.splitlines() == [
        "warning: odd (sweep angles, block 3, attempt 2)",
        "warning: odd (sweep angles, block 3)",
        "warning: odd 1 (sweep angles)",
    ]


def test_json_is_an_object_a_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.FORMAT, "json")
    logs.set_up("stdout")
    logs.about(sweep="angles")
    with logs.context(block=3):
        log.info("two\nlines", extra={"fields": {"seconds": 0.5}})
    try:
        raise ArithmeticError("no\nroom")
    except ArithmeticError:
        log.exception("lost")
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert first.pop("time").endswith("+00:00")
    about = {"level": "info", "logger": "sweeps.test", "sweep": "angles", "block": 3, "seconds": 0.5}
    assert first == {**about, "message": "two\nlines"}
    assert (second["level"], second["exception"]) == ("error", "ArithmeticError: room")
    assert logs.message(json.dumps(first)) == "two\nlines"
    assert [logs.message(line) for line in ("plain", "3", "{}")] == ["plain", "3", "{}"]


def test_a_worker_logs_as_the_process_that_started_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.inherit()
    assert not logging.getLogger("sweeps").handlers, "nobody said how"
    monkeypatch.setenv(logs.FORMAT, "json")
    logs.about(sweep="angles", submission_id="sweep-1")
    told = logs.environment()
    logs.about()
    for name, text in told.items():
        monkeypatch.setenv(name, text)
    logs.inherit()
    log.info("up")
    said = json.loads(capfd.readouterr().err)
    assert (said["sweep"], said["submission_id"]) == ("angles", "sweep-1")


@pytest.mark.parametrize("form", ["plain", "json"])
def test_no_secret_is_logged(form: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "PGPASSWORD")
    for name in names:
        monkeypatch.setenv(name, f"hush-{name.lower()}")
    monkeypatch.setenv(logs.FORMAT, form)
    logs.set_up()
    texts = [os.environ[name] for name in names] + ["http://me:hush-5@host/a", "postgresql+psycopg://me:hush#6@h/b"]
    for text in texts:
        log.warning("cannot %s", text, extra={"fields": {"error": text}})
    said = capfd.readouterr().err
    assert len(said.splitlines()) == len(texts)
    assert "hush" not in said
    assert "http://host/a" in said
