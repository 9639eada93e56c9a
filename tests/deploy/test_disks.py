"""A disk that is full and a directory that is read-only: one line, exit 2, and a store that is resumed bit by bit."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.inline import Inline
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import StoreError
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.conftest import SpecMaker, toy_spec
from tests.deploy.conftest import COMMAND, faulty_spec, start, write_toml
from tests.deploy.test_processes import Gate, ledger, undisturbed, wait_for_blocks

PAGE = 4096


def mount(*arguments: str) -> None:
    ran = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {ran.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; see `resize`."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "none", str(place))
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def resize(disk: Path, size: int) -> None:
    mount("-o", f"remount,size={size}", str(disk))


def sweep_in(folder: Path, spec: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, *COMMAND, "run", str(spec), "--inline"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*#*")]


def test_a_disk_that_fills_at_any_write_tears_nothing(disk: Path, toy: SpecMaker, tmp_path: Path) -> None:
    """A page more at every try, so that every object is once the one that does not fit."""
    sweep = toy(draws=8)
    tries, url, end = 0, str(disk / "a.zarr"), "not begun"
    while end:
        tries += 1
        assert tries < 200, end
        resize(disk, PAGE * tries)
        end = goes_as_far_as_it_can(url, sweep)
        assert re.fullmatch(r"(.*a\.zarr cannot be (created|written): .*No space left on device.*)?", end)
        assert leftovers(disk) == []
    whole = ZarrStore.create(str(tmp_path / "whole.zarr"), sweep)
    list(run(whole, Inline("cpu")))
    assert ZarrStore.open(url).content_hash() == whole.content_hash()
    assert tries > 6 * len(plan(whole.sweep)), "each of the objects of a block was once too many"


def goes_as_far_as_it_can(url: str, sweep: Sweep) -> str:
    """What ended the sweep, if anything did; what is committed by then is right."""
    try:
        store = ZarrStore.create(url, sweep)
        list(run(store, Inline("cpu")))
    except StoreError as error:
        if os.path.exists(f"{url}/zarr.json"):
            store = ZarrStore.open(url)
            assert all(store.verify(plan(store.sweep)[i], "cpu") == [] for i in store.done().nonzero()[0])
        return str(error)
    return ""


def test_a_full_disk_ends_a_sweep_in_one_line_and_it_is_resumed(disk: Path, tmp_path: Path) -> None:
    """The store, the tracking database and the working directory are all on it, as on a laptop."""
    spec = write_toml(tmp_path / "toy.toml", toy_spec(draws=120))
    resize(disk, 2 * 2**20)
    first = sweep_in(disk, spec)
    assert first.returncode == 2, first.stderr
    [line] = first.stderr.splitlines()
    assert re.fullmatch(
        rf"error: {disk}/results/toy\.zarr cannot be written: .*No space left on device \(os error 28\); "
        "what is committed is whole: mend it and run again",
        line,
    )
    url = str(disk / "results" / "toy.zarr")
    before = ledger(url)
    assert 0 < len(before) < 60
    assert leftovers(disk) == []
    resize(disk, 16 * 2**20)
    again = sweep_in(disk, spec)
    assert again.returncode == 0, again.stderr
    assert f"{len(before)} done already" in again.stdout
    after = ledger(url)
    assert {k: after[k] for k in before} == before
    assert ZarrStore.open(url).content_hash() == undisturbed(spec)


# Root writes where it may not, unless it gives that power up.
BOUND = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.mark.usefixtures("mlflow_db")
def test_a_directory_that_turns_read_only_ends_a_sweep_in_one_line_and_it_is_resumed(tmp_path: Path) -> None:
    gate, url = Gate(tmp_path), "results/faulty.zarr"
    gate.open(3)
    process = start("run", spec := gate.spec, "--inline", prefix=BOUND)
    wait_for_blocks(url, 3)
    with read_only(tmp_path / url):
        gate.open()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
        [line] = err.splitlines()
        assert "results/faulty.zarr cannot be written: " in line
        assert line.endswith("Permission denied (os error 13); what is committed is whole: mend it and run again")
        before = ledger(url)
        again = sweep_in(tmp_path, spec, *BOUND)
        assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
        assert "Permission denied" in again.stderr
        assert ledger(url) == before
    assert sweep_in(tmp_path, spec, *BOUND).returncode == 0
    after = ledger(url)
    assert {k: after[k] for k in before} == before
    assert ZarrStore.open(url).content_hash() == undisturbed(spec)


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


def test_a_place_that_may_not_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    spec, closed = faulty_spec(tmp_path / "slow.toml"), tmp_path / "closed"
    (closed / "results").mkdir(parents=True)
    with read_only(closed):
        said = sweep_in(closed, spec, *BOUND)
    assert said.returncode == 2
    assert said.stderr == "error: store.url 'results/faulty.zarr' cannot be created: Permission denied\n"
