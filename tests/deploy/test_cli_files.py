"""A sweep of a user's matrix: run, resumed where the file lies elsewhere now, and refused where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.inputs import sets, user_images
from sweeps.statistics import _network
from sweeps.sweep import Sweep
from tests.deploy.conftest import Said, write_toml

pytestmark = pytest.mark.usefixtures("mlflow_db", "no_figures")
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


def of_images(folder: Path, widths: list[int]) -> Path:
    return write_toml(
        folder / "images.toml",
        {
            "name": "images",
            "statistic": "angle",
            "draws": 8,
            "draws_per_batch": 8,
            "axes": {"width": widths},
            "fixed": {"depth": 1, "inputs": "file", "path": "images.npy"},
        },
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((4, 1, 8, 8)))
    return tmp_path / "images.npy"


def forget() -> None:
    """What a new process does not know of images."""
    for held in (_network._of_inputs, _network._limit, sets._inputs, user_images.load):
        held.cache_clear()


@pytest.mark.parametrize("lost", ["gone", "changed"])
def test_a_store_is_read_without_the_images_that_its_theory_needs(
    sweeps: Run, images: Path, tmp_path: Path, lost: str
) -> None:
    assert sweeps("run", of_images(tmp_path, [4, 8]), "--inline").code == 0
    whole = open_sweep("results/images.zarr")
    assert np.isfinite(whole.cosine_theory).all()
    images.unlink() if lost == "gone" else np.save(images, np.ones((4, 1, 8, 8)))
    forget()
    ds = open_sweep("results/images.zarr")
    assert "cosine_theory" not in ds
    assert str(images) in ds.attrs["theory_note"]
    np.testing.assert_array_equal(ds.cosine, whole.cosine)
    said = sweeps("show", "results/images.zarr")
    assert (said.code, said.err) == (0, "")
    assert sweeps("resume", "results/images.zarr", "--inline").code == 0  # there is nothing to measure


def test_a_sweep_that_lacks_its_file_leaves_everything_as_it_was(sweeps: Run, images: Path, tmp_path: Path) -> None:
    toml = of_images(tmp_path, [4, 8])
    pinned = Sweep.from_toml(toml).fixed["path"]
    images.rename(tmp_path / "elsewhere.npy")
    toml.write_text(toml.read_text().replace("images.npy", pinned))
    said = sweeps("run", toml, "--inline")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert not Path("results/images.zarr").exists()
    (tmp_path / "elsewhere.npy").rename(images)
    assert sweeps("run", toml, "--inline").code == 0
    images.unlink()
    said = sweeps("extend", "results/images.zarr", "--axis", "width=16", "--inline")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert ZarrStore.open("results/images.zarr").sweep.axes["width"] == (4, 8)
