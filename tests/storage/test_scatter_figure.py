"""A figure of one outcome against another: that it holds the numbers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from storage.figures import save
from storage.scatter_figure import MAX_MARKERS, _roles, draw_against
from sweeps.errors import SpecError, UnknownNameError
from tests.storage.test_figures import opened, shaped


@pytest.fixture(scope="module")
def toy_ds(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    return opened(tmp_path_factory.mktemp("toy") / "toy.zarr")


def test_markers_hold_means_intervals_and_theory(toy_ds: xr.Dataset) -> None:
    part = toy_ds.sel(size=8, step=2)
    figure = draw_against(part, "walk", "level")
    [axes] = figure.axes
    for i, colour in enumerate(("red", "blue")):
        here, bars = part.sel(colour=colour), axes.containers[i]
        np.testing.assert_array_equal(bars[0].get_xdata(), here.level)
        np.testing.assert_array_equal(bars[0].get_ydata(), here.walk)
        across, upright = bars[2]
        for drawn, name, axis in ((across, "level", 0), (upright, "walk", 1)):
            ends = np.array([segment[:, axis] for segment in drawn.get_segments()])
            np.testing.assert_allclose(ends, np.stack([here[f"{name}_ci_low"], here[f"{name}_ci_high"]], axis=1))
    open_markers = [line for line in axes.lines if line.get_fillstyle() == "none"]
    np.testing.assert_array_equal(open_markers[0].get_ydata(), part.walk_theory.sel(colour="red"))
    np.testing.assert_array_equal(open_markers[0].get_xdata(), part.level.sel(colour="red"))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("mean of the first normals", "walk of the means")
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["colour = red", "colour = blue", "mean, 95% interval", "theory", "twice"]
    assert figure.get_suptitle().startswith("toy: walk against level\nsize = 8")


def test_a_curve_of_one_outcome_along_another_is_drawn_where_it_holds(toy_ds: xr.Dataset) -> None:
    def curves(part: xr.Dataset) -> list[list]:
        panels = draw_against(part, "walk", "level").axes
        return [[line for line in axes.lines if len(line.get_xdata()) > 100] for axes in panels]

    part = toy_ds.sel(size=8, colour="red")
    [[line]] = curves(part)  # of all steps, a colour each
    x, y = (np.asarray(v) for v in line.get_data())
    np.testing.assert_array_equal(y, 2 * x)
    assert (x.min(), x.max()) == pytest.approx((float(part.level.min()), float(part.level.max())))
    assert curves(part.sel(step=1)) == curves(toy_ds.sel(size=8, colour="blue")) == [[]]


def test_what_hides_is_not_drawn(toy_ds: xr.Dataset) -> None:
    part = toy_ds.sel(size=8, colour="red", step=2).load()
    for end in ("low", "high"):
        part[f"level_ci_{end}"] = part.level + (1e-4 if end == "high" else -1e-4)
    [axes] = draw_against(part, "walk", "level").axes
    assert len(axes.containers[0][2]) == 1


@pytest.mark.parametrize(
    ("sizes", "varies", "expected"),
    [
        ({"network": ["a", "b"], "inputs": ["a", "b", "c"], "pair": 9}, "pair", ("inputs", ("network",), ("pair",))),
        ({"width": 3, "rho": 9, "layer": 4}, "rho", ("layer", ("width",), ("rho",))),
        ({"width": 3, "rho": 9}, "width rho", ("width", (), ("rho",))),
        ({"rho": 9}, "rho", (None, (), ("rho",))),
        ({"rho": 3}, "rho", (None, (), ("rho",))),
        ({"rho": 9, "layer": 40}, "rho", (None, ("layer",), ("rho",))),
    ],
)
def test_names_and_what_x_does_not_change_along_tell_points_apart(sizes: dict, varies: str, expected: tuple) -> None:
    y = shaped(**sizes)
    x = sum((xr.DataArray(np.arange(y.sizes[d]), dims=d) for d in varies.split()), start=xr.zeros_like(y))
    assert _roles(y, x) == expected


def test_x_without_a_dimension_of_y_stands_for_all_of_it(toy_ds: xr.Dataset) -> None:
    figure = draw_against(toy_ds.sel(size=8), "walk", "level")
    assert [axes.get_title() for axes in figure.axes] == ["step = 1", "step = 2", "step = 3"]
    for axes, step in zip(figure.axes, (1, 2, 3), strict=True):
        np.testing.assert_array_equal(axes.containers[1][0].get_xdata(), toy_ds.level.sel(size=8, colour="blue"))
        np.testing.assert_array_equal(
            axes.containers[1][0].get_ydata(), toy_ds.walk.sel(size=8, colour="blue", step=step)
        )


def test_a_single_point_an_empty_store_and_many_points_draw(toy_ds: xr.Dataset, tmp_path: Path) -> None:
    save(draw_against(toy_ds.isel(size=0, shift=0, colour=0, step=0), "root", "level"), tmp_path / "a.png")
    empty = opened(tmp_path / "empty.zarr", blocks=0)
    assert "no draws yet" in [t.get_text() for t in draw_against(empty.sel(size=8), "root", "level").axes[0].texts]
    axes = {"shift": {"linspace": [-1, 1, MAX_MARKERS + 1]}}
    many = opened(tmp_path / "many.zarr", axes=axes, draws=2, draws_per_batch=2, fixed={"steps": 1})
    figure = draw_against(many, "walk", "level")
    assert len(figure.axes[0].containers[0][0].get_xdata()) == MAX_MARKERS
    assert f"{MAX_MARKERS} of {MAX_MARKERS + 1} values of shift" in figure.get_suptitle().replace("\n", " ")


def test_logarithmic_axes(toy_ds: xr.Dataset) -> None:
    part = toy_ds.sel(colour="red", shift=[0.5, 1.0])
    [axes, *_] = draw_against(part, "root", "level", log_x=True, log_y=True).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    with pytest.raises(SpecError, match="takes values above 0, and 'level' goes down to -"):
        draw_against(toy_ds, "root", "level", log_x=True)


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (("walk", "lvel"), UnknownNameError, "unknown outcome 'lvel'; did you mean 'level'"),
        (("wak", "level"), UnknownNameError, "unknown outcome 'wak'; did you mean 'walk'"),
        (("walk", "walk"), SpecError, "outcome 'walk' is to be drawn against itself; name another"),
        (
            ("level", "walk"),
            SpecError,
            "'walk' goes along step, and 'level' does not; select one value",
        ),
    ],
)
def test_outcomes_that_do_not_go_together(toy_ds: xr.Dataset, names: tuple, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        draw_against(toy_ds, *names)
    with pytest.raises(SpecError, match="the selection of 'walk' is empty"):
        draw_against(toy_ds.isel(shift=[]), "walk", "level")
