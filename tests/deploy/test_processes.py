"""A sweep as a process of its own: interrupted, terminated, killed; on a terminal and in a log."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.inline import Inline
from storage.zarr_store import ZarrStore
from sweeps.events import Receipt
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.deploy.conftest import faulty_spec, start, write_toml

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_token", "mlflow_db")]
BLOCKS = 24


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    return faulty_spec(tmp_path / "slow.toml", seconds=0.1)


class Gate:
    """A sweep of which so many blocks are measured, and the next ones wait; `spec` is its file."""

    def __init__(self, folder: Path) -> None:
        self.marker = folder / "gate"
        spec = {"name": "faulty", "statistic": "faulty", "draws": 1, "draws_per_batch": 1}
        axes = {"value": {"range": [0, BLOCKS - 1]}}
        fixed = {"how": "gate", "marker": str(self.marker)}
        self.spec = write_toml(folder / "gated.toml", {**spec, "axes": axes, "fixed": fixed})

    def open(self, blocks: int = BLOCKS) -> None:
        aside = self.marker.with_suffix(".new")
        aside.write_text(str(blocks))
        aside.rename(self.marker)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def wait_for_blocks(url: str, number: int, seconds: float = 120) -> None:
    end, store = time.monotonic() + seconds, None
    while time.monotonic() < end:
        if store is None and os.path.exists(f"{url}/zarr.json"):
            store = ZarrStore.open(url)
        if store is not None and store.done().sum() >= number:
            return
        time.sleep(0.1)
    raise TimeoutError(f"{url} did not reach {number} blocks")


def done_already(out: str) -> int:
    found = re.search(r"(\d+) done already", out)
    return int(found[1]) if found else 0


def ledger(url: str) -> dict[int, Receipt]:
    return {r.block: r for r in ZarrStore.open(url).receipts()}


def undisturbed(spec: Path) -> str:
    store = ZarrStore.create("undisturbed.zarr", Sweep.from_toml(str(spec)))
    list(run(store, Inline("cpu")))
    return store.content_hash()


INTERRUPTS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("numbers", "how"),
    [([signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ()), (INTERRUPTS, ("--inline",))],
    ids=["on Ray", "inline"],
)
def test_a_sweep_ended_again_and_again_loses_nothing_and_says_how_to_resume(
    gate: Gate, numbers: list[signal.Signals], how: tuple[str, ...]
) -> None:
    url, before = "results/faulty.zarr", dict[int, Receipt]()
    for number in numbers:
        gate.open(there := len(before) + 3)
        process = start("run", gate.spec, *how)
        wait_for_blocks(url, there)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        if number == signal.SIGKILL:
            gate.open(there + 1)
            time.sleep(1.0)  # its workers may finish what they hold
        else:
            assert process.returncode == 130, (out, err)
            assert f"resume with: sweeps run {gate.spec}" in err
            assert "Traceback" not in err
        assert done_already(out) == len(before)
        now = ledger(url)
        assert there <= len(now) < BLOCKS
        assert {k: now[k] for k in before} == before, "no committed block is measured twice"
        before = now
    gate.open()
    again = start("run", gate.spec, *how)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, (out, err)
    assert done_already(out) == len(before) or (number == signal.SIGKILL and done_already(out) > len(before))
    after = ledger(url)
    assert len(after) == BLOCKS
    assert {k: after[k] for k in before} == before, "no committed block is measured twice"
    assert ZarrStore.open(url).content_hash() == undisturbed(gate.spec)


def test_a_reader_that_leaves_does_not_stop_the_sweep(slow: Path) -> None:
    process = start("run", slow, "--inline")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert ZarrStore.open("results/faulty.zarr").done().all(), err
    assert "Traceback" not in err


@pytest.mark.parametrize(("how", "message"), [
    (("--workers", "99"), "workers must be between 1 and the cluster's"),
    (("--address", "127.0.0.1:9"), "no Ray cluster at '127.0.0.1:9': nobody listens there"),
    (("--address", "nonsense"), "no Ray cluster at 'nonsense': give host:port, ray://host:port, or auto"),
])  # fmt: skip
def test_a_cluster_that_is_not_there_is_refused_in_one_line(slow: Path, how: tuple, message: str) -> None:
    process = start("run", slow, *how)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def on_a_terminal(*arguments: object) -> tuple[subprocess.Popen[str], Iterator[str]]:
    """A command on a terminal of its own, and all that it has shown so far, again and again until it ends."""
    leader, follower = pty.openpty()
    process = start(*arguments, stdout=follower, stderr=follower, env=os.environ | {"TERM": "xterm", "COLUMNS": "120"})
    os.close(follower)

    def shown() -> Iterator[str]:
        text = b""
        with open(leader, "rb", buffering=0) as screen, contextlib.suppress(OSError):
            while piece := screen.read(65536):
                text += piece
                yield text.decode(errors="replace")
        process.communicate(timeout=60)

    return process, shown()


def test_a_terminal_gets_a_bar_with_rate_and_time_left(slow: Path) -> None:
    process, screens = on_a_terminal("run", slow, "--inline")
    *_, shown = screens
    assert process.returncode == 0, shown
    assert "/24" in shown
    assert "/s" in shown
    assert "left" in shown


@pytest.mark.parametrize("how", [("--inline",), ("--workers", "1")], ids=" ".join)
def test_a_bar_grows_within_a_block_that_takes_long_and_can_be_interrupted(tmp_path: Path, how: tuple) -> None:
    spec = faulty_spec(tmp_path / "long.toml", seconds=120)
    process, screens = on_a_terminal("run", spec, *how)
    shown = next(screen for screen in screens if "left" in screen)
    assert f"0/{BLOCKS}" in shown
    assert ledger("results/faulty.zarr") == {}
    process.send_signal(signal.SIGINT)
    *_, shown = screens
    assert process.returncode == 130, shown
    assert "0 blocks were measured and are safe" in shown
    assert "resume with: sweeps run" in shown
    assert "Traceback" not in shown
