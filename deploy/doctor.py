"""`sweeps doctor`: everything a sweep needs is tried, each thing by itself, and what is wrong comes with what mends it.

A check is a function from the patient to findings. One that raises is a fault that names what it raised; one that gets
no answer in time is a fault too, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as OverdueError
from dataclasses import dataclass
from importlib import import_module

from rich.console import Console

from storage.retries import aside
from sweeps.errors import in_one_line
from sweeps.logs import without_secrets

OK, WARNING, FAULT = "ok", "warning", "fault"
LIMIT = 60.0  # seconds of one check; the first import of torch or MLflow takes some of them
DEFAULT_STORE = "results"
COLOURS = {OK: "green", WARNING: "yellow", FAULT: "red"}


@dataclass(frozen=True)
class Finding:
    """What a check saw, in one line, and what to do about it if it is not ok."""

    check: str
    state: str
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Patient:
    """What is looked at: a store, and the dashboard of a cluster (None: as `sweeps submit` finds one)."""

    store: str = DEFAULT_STORE
    address: str | None = None


Check = Callable[[Patient], Iterator[Finding]]

CHECKS = {  # imported when it is their turn
    "versions": "deploy.checks:versions",
    "token": "deploy.checks:token",
    "files": "deploy.checks:open_files",
    "compiled": "deploy.checks:compiled_code",
    "disk": "deploy.checks_disk:disk",
    "gpu": "deploy.checks:gpus",
    "store": "deploy.checks_disk:store",
    "cluster": "deploy.checks_servers:cluster",
    "tracker": "deploy.checks_servers:tracker",
    "clock": "deploy.checks_servers:clock",
}


def examine(patient: Patient, names: list[str] | None = None) -> Iterator[Finding]:
    """The findings of all checks, or of those named."""
    for name in names or CHECKS:
        yield from _made(name, patient)


def _made(name: str, patient: Patient) -> list[Finding]:
    def make() -> list[Finding]:
        module, _, function = CHECKS[name].partition(":")
        return list(getattr(import_module(module), function)(patient))

    made = aside(make)
    try:
        return made.result(LIMIT)
    except OverdueError:
        if made.done():  # its own
            return [_failed(name, made.exception())]
        return [Finding(name, FAULT, f"no answer in {LIMIT:.0f} s", "see whether the host or disk behind it is up")]
    except Exception as error:
        return [_failed(name, error)]


def _failed(name: str, error: BaseException | None) -> Finding:
    text = in_one_line(error) if error else "unknown"
    return Finding(name, FAULT, f"the check itself failed: {text}", "report it, with this line")


def show(findings: Iterator[Finding], console: Console) -> bool:
    """Print findings as they come; whether one is a fault."""
    faulty = False
    for found in findings:
        faulty = faulty or found.state == FAULT
        state = f"{found.state:8}"
        if console.is_terminal:
            console.print(f"[{COLOURS[found.state]}]{state}[/] ", end="")
        else:
            console.print(f"{state} ", end="")
        _plain(console, f"{found.check:9} {found.text}")
        if found.mend:
            _plain(console, f"{'':19}-> {found.mend}")
    return faulty


def _plain(console: Console, text: str) -> None:
    console.print(" ".join(without_secrets(text).splitlines()), markup=False, highlight=False, soft_wrap=True)
