"""`o_z`: how many standard errors a mean lies from a theory that is exact there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import relu_sweeps_toys as toys

from storage.query import open_sweep
from sweeps import intervals, statistics
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.storage.test_query import filled


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    return filled(str(tmp_path_factory.mktemp("full") / "toy.zarr"), Sweep.of(toy_spec(points_per_block=2))).url


def test_z_is_standard_errors_from_theory_where_that_is_exact(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = open_sweep(full)
    assert [name for name in ds.data_vars if str(name).endswith("_z")] == ["level_z", "walk_z"]
    np.testing.assert_array_equal(ds.level_z, (ds.level - ds.level_theory) / ds.level_sem)
    assert ds.walk_z.dims == ds.walk.dims
    assert "standard errors above exact theory" in ds.walk_z.attrs["long_name"]

    def exact(points: Any) -> dict[str, Any]:
        return {"walk": (points.column("shift")[:, None] > 0) & (points["size"] == 8), "positive": True}

    monkeypatch.setattr(statistics, "get", lambda name: replace(toys.TOY, exact=exact))
    some = open_sweep(full)
    assert "level_z" not in some
    assert "positive_z" not in some, "it has no theory to be exact"
    known = ((ds["shift"] > 0) & (ds["size"] == 8)).broadcast_like(ds.walk).transpose(*ds.walk.dims)
    np.testing.assert_array_equal(some.walk_z.notnull(), known)
    np.testing.assert_array_equal(some.walk_z.sel(size=8, shift=[1, -1], step=2), ds.walk_z.sel(
        size=8, shift=[1, -1], step=2).where(ds["shift"] > 0))  # fmt: skip
    monkeypatch.setattr(statistics, "get", lambda name: replace(toys.TOY, theory=None))
    assert "level_z" not in open_sweep(full)


def test_only_the_selected_points_are_asked_for_exactness(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def exact(points: Any) -> dict[str, Any]:
        asked.append(len(points))
        return {"level": True}

    monkeypatch.setattr(statistics, "get", lambda name: replace(toys.TOY, exact=exact))
    ds = open_sweep(full)
    assert asked == [1]
    assert ds.level_z.sel(size=2, colour="red", shift=[0.5, -1]).shape == (2,)
    ds.level_z.sel(size=2, colour="red", shift=[0.5, -1]).load()
    assert asked == [1, 2]


@pytest.mark.parametrize(
    ("mean", "theory", "sem", "expected"),
    [
        (1.5, 1.0, 0.25, 2.0),
        (0.5, 1.0, 0.25, -2.0),
        (0.0, 0.0, 0.0, 0.0),
        (1 / 3, 0.3333333333333333 + 1e-16, 0.0, 0.0),
        (0.7, 0.7 + 2e-16, 1e-17, 0.0),
        (0.7, 0.7001, 1e-17, np.nan),
        (1.0, 0.999, 0.0, np.nan),
        (0.0, 1e-9, 0.0, np.nan),
        (1.0, 1.0, np.nan, np.nan),
        (np.nan, 1.0, np.nan, np.nan),
        (1.0, np.nan, 0.1, np.nan),
        (1e-30, 2e-30, 1e-30, -1.0),
    ],
)
def test_z_without_a_spread_is_0_or_unknown(mean: float, theory: float, sem: float, expected: float) -> None:
    found = intervals.deviation(*(np.array([v]) for v in (mean, theory, sem)))
    np.testing.assert_allclose(found, [expected], rtol=1e-12)
