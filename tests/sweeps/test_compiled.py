"""Where machine code is kept on disk, and that nothing needs it to be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.compiled import own_folder
from tests.deploy.test_disks import BOUND, read_only

ROOT = Path(__file__).parents[2]
NAME = f"relu-sweeps-{os.geteuid()}"
MEASURE = """
import numpy as np
from sweeps import statistics
from sweeps.moments import Moments
for name in ("angle", "folding", "injectivity"):
    statistics.get(name)
print(Moments.of(np.array([1.0, 3.0])).mean)
"""


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The package and a home, neither of which can be written."""
    shutil.copytree(ROOT / "sweeps", tmp_path / "closed" / "sweeps", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "closed"


def measured(closed: Path, temporary: Path) -> str:
    left = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    places = {"PYTHONPATH": str(closed), "HOME": str(closed), "TMPDIR": str(temporary)}
    with read_only(closed):
        ran = subprocess.run(
            [*BOUND, sys.executable, "-c", MEASURE], cwd=closed, env=left | places, capture_output=True, text=True
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_where_nothing_else_can_be_written_it_is_kept_in_a_folder_of_ours(closed: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir(mode=0o777)
    assert measured(closed, tmp_path / "tmp") == "2.0\n"
    folder = tmp_path / "tmp" / NAME
    assert folder.stat().st_mode & 0o777 == 0o700
    [kept] = folder.rglob("moments._reduce-*.nbc")
    before = kept.stat().st_mtime_ns
    assert measured(closed, tmp_path / "tmp") == "2.0\n"
    assert kept.stat().st_mtime_ns == before, "it was not compiled again"


def test_where_there_is_no_folder_of_ours_it_is_compiled_and_not_kept(closed: Path, tmp_path: Path) -> None:
    for name in ("tmp", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "tmp" / NAME).symlink_to(tmp_path / "elsewhere")
    assert measured(closed, tmp_path / "tmp") == "2.0\n"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def _another_users(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root makes folders of others")
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)


def _open_to_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


TAKEN: dict[str, Callable[[Path], None]] = {
    "a link": lambda path: path.symlink_to(path.parent),
    "a file": Path.touch,
    "open to others": _open_to_others,
    "another user's": _another_users,
}


@pytest.mark.parametrize("how", TAKEN)
def test_a_folder_that_others_can_write_is_none_of_ours(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    TAKEN[how](tmp_path / NAME)
    assert own_folder.__wrapped__() is None


def test_a_folder_of_ours_is_made_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert own_folder.__wrapped__() == own_folder.__wrapped__() == str(tmp_path / NAME)


def test_without_a_temporary_directory_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert own_folder.__wrapped__() is None
