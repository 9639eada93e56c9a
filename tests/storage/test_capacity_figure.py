"""The figure of half-points and their limit: that it holds the numbers, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import xarray as xr

from storage import scaling
from storage.capacity_figure import draw_capacity, in_words
from storage.figures import save
from sweeps.errors import SpecError
from tests.storage.test_capacity import SIZES, planted


@pytest.fixture
def half() -> xr.Dataset:
    found = planted(0.01, 1).squeeze("set", drop=True)
    found["half_point"].attrs = {"long_name": "expansion ratio m/n at which injective is 0.5", "units": "1"}
    return found


def bars(figure) -> list[tuple[float, float]]:
    """The middles of the error bars."""
    return [tuple(c[0].get_xydata()[0]) for c in figure.axes[0].containers]


def test_points_line_limit_and_references_are_where_they_should_be(half: xr.Dataset, tmp_path: Path) -> None:
    fitted = scaling(half)
    figure = draw_capacity(half, fitted)
    [axes] = figure.axes
    b = fitted.exponent.values[0]
    points = axes.containers[-1][0]
    np.testing.assert_allclose(points.get_xydata(), np.stack([SIZES**-b, half.half_point], axis=1))
    line = next(x for x in axes.lines if x.get_linestyle() == "-" and len(x.get_xdata()) > 99)
    x, y = line.get_data()
    np.testing.assert_allclose(y, fitted.limit.values[0] - fitted.amplitude.values[0] * x, rtol=1e-12)
    assert x.max() == pytest.approx(2.0**-b)
    limits = [c for c in bars(figure) if c[0] <= 0]
    np.testing.assert_allclose([y for _, y in limits], fitted.limit)
    dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose(dotted, [3.4028, 6.6980, 7.647694935435])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["∞", *map(str, SIZES)]
    assert in_words(fitted.sel(without=0)) in figure.get_suptitle()
    low, high = axes.get_ylim()
    assert low < 3.4028 < 7.6477 < high < 12
    save(figure, tmp_path / "a.png")


def test_a_given_exponent_is_the_scale(half: xr.Dataset) -> None:
    figure = draw_capacity(half, scaling(half, exponent=0.75))
    np.testing.assert_allclose(figure.axes[0].containers[-1][0].get_xdata(), SIZES**-0.75)
    assert "given exponent 0.75" in figure.get_suptitle()


def test_curves_have_a_colour_each_and_too_many_are_refused(half: xr.Dataset, tmp_path: Path) -> None:
    three = planted(0.01, 3)
    figure = draw_capacity(three, scaling(three))
    assert [t.get_text() for t in figure.legends[0].get_texts()][:3] == ["set = 0", "set = 1", "set = 2"]
    assert "without the smallest n" in [t.get_text() for t in figure.legends[0].get_texts()]
    save(figure, tmp_path / "a.svg")
    many = planted(0.01, 9)
    with pytest.raises(SpecError, match="9 values of set are too many curves"):
        draw_capacity(many, scaling(many))
    single = planted(0.01, 1)
    assert "limit" in draw_capacity(single, scaling(single)).get_suptitle()


def test_what_has_no_limit_is_drawn_without_one(half: xr.Dataset, tmp_path: Path) -> None:
    few = half.isel(n=slice(0, 2))
    figure = draw_capacity(few, scaling(few))
    assert "no limit: 2 of the at least 3 sizes" in figure.get_suptitle()
    assert len(figure.axes[0].containers) == 1
    save(figure, tmp_path / "a.png")
    open_ended = half.copy(deep=True)
    open_ended["ci_high"][5] = np.inf
    save(draw_capacity(open_ended, scaling(open_ended)), tmp_path / "b.png")
    nothing = half.assign(half_point=half.half_point * np.nan, ci_low=half.ci_low * np.nan)
    with pytest.raises(SpecError, match="no curve has a half-point"):
        draw_capacity(nothing, scaling(nothing))


def test_an_infinite_limit_is_said_so(half: xr.Dataset, tmp_path: Path) -> None:
    move = np.log(half.n) - half.half_point
    growing = half.assign({k: half[k] + move for k in ("half_point", "ci_low", "ci_high", "replicates")})
    fitted = scaling(growing)
    assert fitted.limit_high[0] == np.inf
    figure = draw_capacity(growing, fitted)
    assert "to ∞" in figure.get_suptitle()
    save(figure, tmp_path / "a.png")


def test_nothing_global_is_touched(half: xr.Dataset) -> None:
    before = dict(matplotlib.rcParams)
    draw_capacity(half, scaling(half))
    assert before == dict(matplotlib.rcParams)
