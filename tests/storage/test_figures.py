"""Figures: what becomes what, that they hold the numbers, and that nothing global is touched."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from actors.inline import Inline
from storage.axes import MAX_PANELS, geometric, scale_axis
from storage.figures import draw, roles, save
from storage.query import open_sweep
from storage.side_by_side import side_by_side
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import SpecError, UnknownNameError
from sweeps.run import perform, run
from sweeps.sweep import Sweep
from tests.conftest import toy_spec


def opened(url: Path, blocks: int | None = None, **changes: object) -> xr.Dataset:
    sweep = Sweep.of(toy_spec(**changes))
    store, cut = ZarrStore.create(str(url), sweep), plan(sweep)
    for i in range(len(cut) if blocks is None else blocks):
        perform(cut[i], store, "cpu")
    return open_sweep(str(url))


@pytest.fixture
def toy_ds(tmp_path: Path) -> xr.Dataset:
    return opened(tmp_path / "toy.zarr")


def shaped(**sizes: int | list) -> xr.DataArray:
    coords = {k: np.arange(1, v + 1) if isinstance(v, int) else np.array(v) for k, v in sizes.items()}
    return xr.DataArray(np.zeros([len(v) for v in coords.values()]), coords)


@pytest.mark.parametrize(
    ("sizes", "x", "y", "hue", "panels"),
    [
        ({"width": 5}, "width", None, None, ()),
        ({"width": 3, "layer": 10}, "layer", None, "width", ()),
        ({"name": ["a", "b", "c"], "width": 2}, "width", None, "name", ()),
        ({"name": ["a", "b", "c"]}, "name", None, None, ()),
        ({"width": 3, "alpha": 5, "layer": 8}, "alpha", None, "layer", ("width",)),
        ({"width": 30, "alpha": 20}, "alpha", "width", None, ()),
        ({"width": 30, "depth": 20, "name": ["a", "b"]}, "width", "depth", None, ("name",)),
        ({"width": 1, "depth": 1}, "width", None, None, ()),
    ],
)
def test_length_and_kind_decide(sizes: dict, x: str, y: str | None, hue: str | None, panels: tuple) -> None:
    found = roles(shaped(**sizes), frozenset({"alpha"}))
    assert (found.x, found.y, found.hue, found.panels) == (x, y, hue, panels)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 4, 8], True), ([1, 2, 3, 4], False), ([-1, 1, 10], False), ([0.1, 1, 10], True), ([16, 64, 256], True)],
)
def test_geometric_values_get_a_log_axis(values: list, expected: bool) -> None:
    assert geometric(shaped(width=values), "width") is expected


def test_logarithmic_axes_are_for_lines_above_0(toy_ds: xr.Dataset) -> None:
    part = toy_ds.sel(shift=[0.5, 1.0])
    figure = draw(part.isel(colour=0), "level", log_x=True, log_y=True)
    assert {(a.get_xscale(), a.get_yscale()) for a in figure.axes} == {("log", "log")}
    low, high = figure.axes[0].get_ylim()
    assert 0 < low < part.level.isel(colour=0).min() < part.level.isel(colour=0).max() < high
    with pytest.raises(SpecError, match="takes values above 0, and 'level' goes down to -"):
        draw(toy_ds, "level", log_y=True)
    with pytest.raises(SpecError, match="takes values above 0, and 'shift' goes down to -1"):
        draw(toy_ds, "positive", log_x=True)
    with pytest.raises(SpecError, match="takes numbers, and 'colour' has names"):
        draw(part.isel(size=0, shift=0), "level", log_x=True)


def test_labels_of_ticks_do_not_touch() -> None:
    widths = shaped(width=[2**i for i in range(4, 13)])
    for columns, ticks in ((1, 9), (2, 5)):
        axes = Figure(figsize=(6.4 if columns == 1 else 7.0, 4)).subplots(1, columns, squeeze=False)[0, 0]
        scale_axis(axes, "x", widths, "width", log=True)
        assert len(axes.get_xticks()) == ticks


def test_lines_hold_the_numbers_theory_and_reference(toy_ds: xr.Dataset) -> None:
    figure = draw(toy_ds.sel(size=2), "level")
    [axes] = figure.axes
    lines = {line.get_linestyle(): line for line in axes.lines}
    solid = [line for line in axes.lines if line.get_linestyle() == "-"]
    np.testing.assert_array_equal([line.get_ydata() for line in solid], toy_ds.level.sel(size=2).values.T)
    np.testing.assert_array_equal(lines["--"].get_ydata(), toy_ds["shift"])
    assert list(lines[":"].get_xdata()) == [1, 1]
    assert [t.get_text() for t in axes.texts] == ["one"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("added to every normal", "mean of the first normals")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "colour = red", "colour = blue", "95% interval", "theory",
    ]  # fmt: skip
    assert "toy: level" in figure.get_suptitle()
    assert "size = 2" in figure.get_suptitle()


def test_numbers_are_drawn_in_their_own_order_however_they_were_selected(toy_ds: xr.Dataset) -> None:
    chosen = toy_ds.isel(shift=[3, 0, 2], size=[1, 0], colour=[1, 0])
    figure = draw(chosen, "level")
    right = toy_ds.level.isel(shift=[0, 2, 3])
    assert [axes.get_title() for axes in figure.axes] == ["colour = blue", "colour = red"]
    for axes, colour in zip(figure.axes, ("blue", "red"), strict=True):
        lines = [line for line in axes.lines if line.get_linestyle() == "-"]
        for line, size in zip(lines, (2, 8), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [-1, 0, 0.5])
            np.testing.assert_array_equal(line.get_ydata(), right.sel(size=size, colour=colour))


def test_the_first_outcome_is_drawn_unless_named(toy_ds: xr.Dataset) -> None:
    assert "toy: level" in draw(toy_ds).get_suptitle()
    with pytest.raises(UnknownNameError, match="unknown outcome 'wolk'; did you mean 'walk'"):
        draw(toy_ds, "wolk")
    with pytest.raises(SpecError, match="selection of 'level' is empty"):
        draw(toy_ds.isel(shift=[]))


def test_small_multiples_share_their_axes(toy_ds: xr.Dataset) -> None:
    figure = draw(toy_ds, "walk")
    assert [a.get_title() for a in figure.axes] == [
        f"size = {s}, colour = {c}" for s in (2, 8) for c in ("red", "blue")
    ]
    assert len({a.get_ylim() for a in figure.axes}) == 1
    assert figure.get_supxlabel() == "added to every normal"


def test_long_names_over_a_panel_get_a_line_each(toy_ds: xr.Dataset) -> None:
    figure = draw(toy_ds.assign_coords(colour=["as red as a cherry is", "blue as the sea"]), "walk")
    assert [a.get_title() for a in figure.axes] == [
        f"size = {s}{between}colour = {c}"
        for s in (2, 8)
        for c, between in (("as red as a cherry is", ",\n"), ("blue as the sea", ", "))
    ]


def test_two_long_axes_make_a_heat_map(tmp_path: Path) -> None:
    ds = opened(
        tmp_path / "heat.zarr", blocks=20, axes={"shift": {"linspace": [-1, 1, 12]}, "size": {"range": [1, 10]}}
    )
    figure = draw(ds, "level")
    mesh = figure.axes[0].collections[0]
    np.testing.assert_array_equal(mesh.get_array(), ds.level.transpose("size", "shift"))
    assert "dashed: theory" in figure.get_suptitle().replace("\n", " ")


def test_too_many_panels_are_thinned_and_said_so(tmp_path: Path) -> None:
    axes = {"size": {"range": [1, 16]}, "shift": {"linspace": [-1, 1, 17]}, "colour": ["red", "blue"]}
    ds = opened(tmp_path / "many.zarr", blocks=0, axes=axes, fixed={"steps": 9})
    figure = draw(ds, "walk")
    assert len([a for a in figure.axes if a.get_title()]) == MAX_PANELS
    assert "6 of 9 values of step" in figure.get_suptitle().replace("\n", " ")


def test_every_selection_draws_and_saves(toy_ds: xr.Dataset, tmp_path: Path) -> None:
    parts = [
        toy_ds.isel(size=0, shift=0),
        toy_ds.isel(size=0, shift=0, colour=0),
        toy_ds.isel(size=[0], shift=[0], colour=[0]),
        toy_ds.isel(shift=0),
    ]
    for part in parts:
        for outcome in ("positive", "root"):
            save(draw(part, outcome), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_unfinished_and_empty_stores_draw(tmp_path: Path) -> None:
    half = draw(opened(tmp_path / "half.zarr", blocks=3))
    assert "unfinished: 3 of 12 blocks" in half.get_suptitle()
    empty = draw(opened(tmp_path / "empty.zarr", blocks=0))
    assert "no draws yet" in [t.get_text() for t in empty.axes[0].texts]
    save(empty, tmp_path / "empty.svg")
    dots = opened(tmp_path / "dots.zarr", blocks=0, axes={"size": {"range": [1, 9]}, "shift": {"linspace": [0, 1, 12]}})
    save(draw(dots, "positive"), tmp_path / "dots.png")


def test_nothing_global_is_touched(toy_ds: xr.Dataset) -> None:
    before = dict(matplotlib.rcParams)
    draw(toy_ds, "walk")
    assert before == dict(matplotlib.rcParams)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_figure_of_a_sweep_with_until_says_how_many_draws_its_points_took(toy) -> None:
    def titled(halfwidth: float) -> tuple[xr.Dataset, str]:
        until = {"outcome": "level", "halfwidth": halfwidth, "min_draws": 8}
        store = ZarrStore.create(f"{halfwidth}.zarr", toy(draws=64, draws_per_batch=4, until=until))
        list(run(store, Inline("cpu")))
        ds = open_sweep(store.url).sel(size=8, colour="red")
        return ds, draw(ds, "level").get_suptitle().replace("\n", " ")

    ds, title = titled(0.3)
    few, many = int(ds.level_n.min()), int(ds.level_n.max())
    assert few < many < 64
    assert f"{few} to {many} draws a point" in title
    assert "unfinished" not in title
    assert "as narrow" not in title
    assert "64 draws a point · as narrow as asked for at 0 of 5 points" in titled(0.01)[1]


def test_outcomes_side_by_side_are_a_panel_each(toy_ds: xr.Dataset) -> None:
    part = toy_ds.sel(colour="red")
    both = side_by_side(part, ["level", "root"])
    for suffix in ("", "_ci_low", "_n"):
        for name in ("level", "root"):
            found = both[f"level and root{suffix}"].sel(outcome=name, drop=True)
            xr.testing.assert_equal(found, part[name + suffix])
    assert both["level and root_theory"].sel(outcome="root").isnull().all()  # it has none
    figure = draw(both)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["outcome = level", "outcome = root"]
    shown = [line.get_ydata() for line in panels[1].lines if len(line.get_ydata()) == 5]
    assert np.array_equal(shown[0], part["root"].isel(size=0).values, equal_nan=True)


def test_limits_are_drawn_where_they_hold(tmp_path: Path) -> None:
    """Those of Gaussian rows on all of R^n: in a panel of its own, and not where inputs are the orthant."""
    sweep = Sweep.of(
        {
            "name": "laws",
            "statistic": "injectivity",
            "draws": 4,
            "draws_per_batch": 4,
            "axes": {"alpha": [3.0, 5.0, 7.0, 9.0], "domain": ["space", "orthant"], "rows": ["gaussian", "sparse"]},
            "fixed": {"n": 2},
        }
    )
    store = ZarrStore.create(str(tmp_path / "laws.zarr"), sweep)
    for block in plan(sweep):
        perform(block, store, "cpu")
    ds = open_sweep(str(tmp_path / "laws.zarr"))
    for outcome in ("injective", "min_active_ratio"):
        panels = draw(ds.transpose("alpha", "rows", "domain", ...), outcome).axes
        [orthant] = [axes for axes in panels if axes.get_title() == "domain = orthant"]
        [space] = [axes for axes in panels if axes.get_title() == "domain = space"]
        dotted, curves = (
            [sum(known(line) for line in axes.lines) for axes in (space, orthant)]
            for known in (lambda line: line.get_linestyle() == ":", lambda line: len(line.get_xdata()) > 100)
        )
        assert dotted == [3, 0]
        assert curves == [2 if outcome == "min_active_ratio" else 0, 0]
    assert not [line for line in draw(ds.sel(rows="sparse"), "injective").axes[0].lines if line.get_linestyle() == ":"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["level", "walk"], "must have the same dims"),
        (["level", "positive"], "must have the same kind, got 'real' of 'level' and 'proportion' of 'positive'"),
        (["level", "level"], "given twice"),
        (["level", "rot"], "did you mean 'root'"),
    ],
)
def test_outcomes_that_do_not_go_together(toy_ds: xr.Dataset, names: list[str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        side_by_side(toy_ds, names)


def test_limits_are_curves_within_what_is_measured(toy_ds: xr.Dataset) -> None:
    figure = draw(toy_ds.sel(colour="red"), "root")
    [curve] = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 100]
    x, y = (np.asarray(v) for v in curve.get_data())
    assert x.min() == -1
    assert np.array_equal(y, np.abs(x))
    assert figure.axes[0].get_ylim()[1] < 2
    assert "absolute" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert not [line for line in draw(toy_ds, "positive").axes[0].lines if len(line.get_xdata()) > 100]
