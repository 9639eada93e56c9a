"""A sweep of a user's matrix: run, resumed where the file lies elsewhere now, and refused where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.zarr_store import ZarrStore
from tests.deploy.conftest import Said, write_toml

Run = Callable[..., Said]


def spec(folder: Path, matrix: str, draws: int = 8) -> Path:
    return write_toml(
        folder / f"user-{draws}.toml",
        {
            "name": "user",
            "statistic": "injectivity",
            "draws": draws,
            "draws_per_batch": 8,
            "axes": {"alpha": [3.0, 4.0]},
            "fixed": {"n": 2, "rows": "file", "matrix": matrix},
        },
    )


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    np.save(tmp_path / "weights.npy", np.random.default_rng(0).standard_normal((12, 2)))
    return tmp_path / "weights.npy"


def test_a_moved_file_goes_on_and_a_changed_one_does_not(sweeps: Run, matrix: Path, tmp_path: Path) -> None:
    assert sweeps("run", spec(tmp_path, "weights.npy"), "--inline", "--max-draws", 8).code == 4
    matrix.rename(tmp_path / "moved.npy")
    said = sweeps("resume", "results/user.zarr", "--inline")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert f"file '{matrix}' cannot be read" in said.err
    assert sweeps("run", spec(tmp_path, "moved.npy"), "--inline").code == 0
    assert sweeps("extend", "results/user.zarr", spec(tmp_path, "moved.npy", draws=16), "--inline").code == 0
    store = ZarrStore.open("results/user.zarr")
    assert len(store.done()) == len(store.plan)
    assert sweeps("verify", "results/user.zarr").code == 0
    np.save(tmp_path / "moved.npy", np.ones((12, 2)))
    said = sweeps("run", spec(tmp_path, "moved.npy", draws=16), "--inline")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "fixed.matrix is" in said.err
    said = sweeps("extend", "results/user.zarr", "--draws", 24, "--inline")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "has changed since" in said.err
