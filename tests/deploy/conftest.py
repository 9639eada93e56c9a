"""The command line, in this process and as a process of its own."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from storage.notebook import Notebook
from tests.conftest import toy_spec

COMMAND = [sys.executable, "-m", "deploy.cli"]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of other things: the figures that a finished sweep logs take seconds."""
    monkeypatch.setattr(Notebook, "illustrate", lambda self, done: None)


def statuses(database: Path) -> list[str]:
    """Of the runs that an MLflow database holds."""
    with contextlib.closing(sqlite3.connect(database)) as found:
        return [row[0] for row in found.execute("select status from runs")]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def sweeps(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run a command here; what it said, and its exit status."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        return Said(int(end.value.code or 0), said.out, said.err)

    return call


def start(*arguments: object, prefix: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*prefix, *COMMAND, *map(str, arguments)], text=True, **{**pipes, **options})


def write_toml(path: Path, spec: dict[str, Any]) -> Path:
    """A spec as TOML: plain values, and tables one level deep."""

    def value(v: Any) -> str:
        if isinstance(v, dict):
            return "{ " + ", ".join(f"{k} = {value(x)}" for k, x in v.items()) + " }"
        if isinstance(v, list):
            return "[" + ", ".join(map(value, v)) + "]"
        return f'"{v}"' if isinstance(v, str) else str(v).lower() if isinstance(v, bool) else repr(v)

    path.write_text("".join(f"{k} = {value(v)}\n" for k, v in spec.items()))
    return path


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    """A toy spec file with some keys changed."""
    return lambda **changes: write_toml(tmp_path / "spec.toml", toy_spec(**changes))


def faulty_spec(path: Path, **fixed: Any) -> Path:
    spec = {"name": "faulty", "statistic": "faulty", "draws": 4, "draws_per_batch": 1}
    return write_toml(path, {**spec, "axes": {"value": {"range": [0, 5]}}, "fixed": fixed})
