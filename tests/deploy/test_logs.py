"""Logs as JSON: of a sweep in this process, and on Ray with its workers."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import faulty_spec, start

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_token", "mlflow_db")]
BLOCKS, BAD = 24, range(3, 24, 6)


def ran(spec: Path, *how: str, **environment: str) -> list[dict[str, Any]]:
    process = start("run", spec, *how, env={**os.environ, "SWEEPS_LOG_FORMAT": "json", **environment})
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (3, "")
    return [json.loads(line) for line in out.splitlines()]


def attempts(said: list[dict[str, Any]], word: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for line in said:
        if line["message"].startswith(word):
            found.setdefault(line["block"], []).append(line["attempt"])
    return found


def check(said: list[dict[str, Any]]) -> None:
    assert {line["sweep"] for line in said} == {"faulty"}
    assert said[0]["message"] == "started"
    assert said[0]["blocks"] == BLOCKS
    done = attempts(said, "block done")
    assert sorted([*done, *BAD]) == list(range(BLOCKS))
    (end,) = [line for line in said if line["message"] == "sweep done"]
    assert (end["level"], end["done"], end["failed"], end["missing"]) == ("error", 20, 4, 0)
    failed = [line for line in said if line["message"].startswith("block failed:")]
    assert len(failed) == 4
    assert all("no answer at value 3" in line["error"] for line in failed)
    assert "4 blocks failed, 20 are in results/faulty.zarr" in said[-1]["message"]


def test_a_sweep_in_this_process_is_told_line_by_line(tmp_path: Path) -> None:
    said = ran(faulty_spec(tmp_path / "spec.toml", bad=3), "--inline")
    check(said)
    assert attempts(said, "block failed:") == {block: [1] for block in BAD}


def test_a_sweep_on_ray_tells_every_attempt_as_its_workers_do(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sw", dir="/tmp") as folder:  # Ray's sockets need a short path
        said = ran(faulty_spec(tmp_path / "spec.toml", bad=3), RAY_TMPDIR=folder)
        logged = "".join(path.read_text() for path in Path(folder).rglob("session_2*/logs/worker-*.err"))
    check(said)
    raised = attempts(said, "block raised ArithmeticError")
    assert raised.keys() == set(BAD)
    assert all(tries == list(range(1, len(tries) + 1)) and len(tries) >= 3 for tries in raised.values())
    assert attempts(said, "block failed:") == {block: [tries[-1]] for block, tries in raised.items()}

    workers = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    assert {line["sweep"] for line in workers} == {"faulty"}
    assert attempts(workers, "block done") == attempts(said, "block done")
    failed = attempts(workers, "block raised ArithmeticError")
    assert {block: sorted(tries) for block, tries in failed.items()} == raised
