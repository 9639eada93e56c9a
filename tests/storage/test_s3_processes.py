"""A sweep on S3 as processes of their own: killed, on Ray, during an outage; the environment tells them where it is."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.zarr_store import ZarrStore
from sweeps.errors import StoreError
from sweeps.events import Receipt
from sweeps.sweep import Sweep
from tests.conftest import measured_at_once
from tests.deploy.conftest import start, write_toml
from tests.proxy import Proxy
from tests.storage.test_objects import URL

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("notebook")]
BLOCKS = 12


@pytest.fixture
def slow(tmp_path: Path, s3: Proxy) -> Path:
    """Twelve blocks of a quarter of a second each."""
    spec = {"name": "faulty", "statistic": "faulty", "draws": 2, "draws_per_batch": 1, "store": {"url": URL}}
    axes = {"value": {"range": [0, 5]}}
    return write_toml(tmp_path / "slow.toml", {**spec, "axes": axes, "fixed": {"seconds": 0.25}})


def wait_for_blocks(number: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if ZarrStore.open(URL).done().sum() >= number:
                return
        except StoreError:  # not there yet
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{URL} did not reach {number} blocks")


def ledger() -> dict[int, Receipt]:
    return {r.block: r for r in ZarrStore.open(URL).receipts()}


def undisturbed(spec: Path) -> str:
    store = ZarrStore.create("undisturbed.zarr", Sweep.from_toml(str(spec)))
    measured_at_once(store)
    return store.content_hash()


@pytest.mark.parametrize("how", [("--inline",), ("--workers", "2")], ids=["inline", "two actors"])
def test_a_killed_driver_is_resumed_and_loses_nothing(slow: Path, s3: Proxy, how: tuple[str, ...]) -> None:
    for kind in ("reset", "lost", "half", 503):
        s3.fault(kind, 20, chance=0.05)
    process = start("run", slow, *how)
    wait_for_blocks(3)
    process.kill()
    process.communicate(timeout=60)
    time.sleep(1.0)  # its workers may finish what they hold
    before = ledger()
    assert len(before) >= 3
    again = start("run", slow, *how)
    out, err = again.communicate(timeout=250)
    assert again.returncode == 0, (out, err)
    assert len({r.fault for r in s3.struck()}) >= 2
    s3.clear()
    after = ledger()
    assert len(after) == BLOCKS
    assert {k: after[k] for k in before} == before, "no committed block is measured twice"
    assert ZarrStore.open(URL).content_hash() == undisturbed(slow)


IMPATIENT = """
import sys
from storage import retries
retries.PATIENCE = 1.0
from deploy.cli import main
main(sys.argv[1:])
"""


def test_an_outage_ends_a_sweep_with_2_and_one_line_and_it_is_resumed(slow: Path, s3: Proxy) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", IMPATIENT, "run", str(slow), "--inline"], **pipes)
    wait_for_blocks(3)
    s3.down()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert [line for line in err.splitlines() if line] == [
        f"error: {URL} cannot be written: {s3.url} cannot be reached: connection refused; check AWS_ENDPOINT_URL and "
        "the network; what is committed is whole: mend it and run again"
    ]
    s3.up()
    before = ledger()
    assert 3 <= len(before) < BLOCKS
    again = start("run", slow, "--inline")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, (out, err)
    assert f"{len(before)} done already" in out
    assert ZarrStore.open(URL).content_hash() == undisturbed(slow)


@pytest.mark.parametrize("stage", ["list-type=2", "/level/c/"], ids=["listing", "writing"])
def test_a_sweep_whose_store_does_not_answer_can_be_stopped(slow: Path, s3: Proxy, stage: str) -> None:
    s3.fault("stall", float("inf"), path=stage, seconds=600)
    process = start("run", slow, "--inline")
    end = time.monotonic() + 120
    while not s3.struck() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=150)  # all tries together take 240 s
    assert process.returncode == 130, err
    assert f"resume with: sweeps run {slow}" in err
    assert "Traceback" not in err
