"""Figures of a sweep: draw(open_sweep(url)) -> Figure. Lines with intervals and theory, or heat maps.

Which dimension becomes what is decided by length and kind. x is the longest numeric dimension (before all,
one with a reference value to mark). Of the others, one too long for lines turns the panels into heat maps, else
the longest gives the lines; what is left gives the panels. No pyplot, no global state.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from storage import marks
from storage.axes import (
    FAINT,
    MAX_LINES,
    MAX_PANELS,
    colours_of,
    edges_of,
    geometric,
    is_numeric,
    label_along,
    label_of,
    make_log,
    name_axes,
    numeric_or_none,
    positions,
    require_above_0,
    say_empty,
    scale_axis,
    thinned,
    tidy,
    value_at,
)
from storage.marks import HALO, INK
from storage.query import outcomes
from sweeps import statistics
from sweeps.errors import SpecError, unknown
from sweeps.statistic import Curve, Reference

FORMATS = (".png", ".svg", ".pdf")
MAX_LINE_POINTS, MAX_CELLS = 2000, 400  # along x; along a side of a heat map
TITLE = 36  # characters over the narrowest panel
OUTCOMES = "outcome"  # the dimension of storage.side_by_side: panels, unless nothing else gives the lines


@dataclass(frozen=True)
class Roles:
    """What every dimension becomes; `y` makes heat maps, `hue` lines, `panels` small multiples."""

    x: str
    y: str | None = None
    hue: str | None = None
    panels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plot:
    """One outcome, read and cut to what is shown; all arrays have the dims (*panels, hue or y, x).

    `notes` say what a reader could not see: values left out, what grey and dashes mean.
    """

    mean: xr.DataArray
    low: xr.DataArray
    high: xr.DataArray
    theory: xr.DataArray | None
    roles: Roles
    references: tuple[Reference, ...]
    curves: tuple[Curve, ...]
    fixed: Mapping[str, Any]
    drawn: bool
    notes: tuple[str, ...]

    @property
    def panels(self) -> list[dict[str, int]]:
        """Positions along the panel dims, a panel each."""
        sizes = [self.mean.sizes[d] for d in self.roles.panels]
        return [dict(zip(self.roles.panels, i, strict=True)) for i in np.ndindex(*sizes)]

    @property
    def values(self) -> list[Mapping[str, Sequence[Any]]]:
        """The values that parameters have in each panel."""
        return [values_of(self.mean.isel(at), self.fixed) for at in self.panels]


def draw(ds: xr.Dataset, outcome: str | None = None, *, log_x: bool = False, log_y: bool = False) -> Figure:
    """A figure of one outcome (unless named, the statistic's first) of a Dataset from `open_sweep`, or a part.

    Along values that are nearly geometric, such as widths 16, 64, 256, x is logarithmic anyway.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: the selection is empty; or a logarithmic axis is asked for where values are not above 0, x has names,
            or there is a heat map.
    """
    known = outcomes(ds)
    outcome = known[0] if outcome is None else outcome
    if outcome not in known:
        raise unknown("outcome", outcome, known)
    plot = _read(ds, outcome)
    figure, grid = panel_grid(plot)
    if plot.roles.y is None:
        _lines(figure, grid, plot, float(ds.attrs["confidence"]), log_x, log_y)
    elif log_x or log_y:
        few = f"select at most {MAX_LINES} values of {plot.roles.y}"
        raise SpecError(f"a logarithmic axis is for lines, and this is a heat map; {few}")
    else:
        _heat_maps(figure, grid, plot)
    entitle(figure, ds, plot)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure; the ending of `path` gives the format.

    Raises:
        SpecError: another ending, or a place that cannot be written.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise SpecError(f"a figure is written as {', '.join(FORMATS)}; got {str(path)!r}")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise SpecError(f"figure {str(path)!r} cannot be written: {error.strerror}") from None


# --- what is shown ---


def roles(mean: xr.DataArray, referenced: frozenset[str] = frozenset()) -> Roles:
    """Assign the dimensions of an outcome; one of length 1 has a role only if all are so."""
    long = [str(d) for d in mean.dims if mean.sizes[d] > 1] or [str(d) for d in mean.dims[:1]]

    def rank(name: str) -> tuple[bool, bool, int]:
        counted = mean[name].attrs.get("units") == "index" if name in mean.coords else False  # replicates, in no order
        return is_numeric(mean, name) and not counted, name in referenced and mean.sizes[name] > 3, mean.sizes[name]

    x = max(long, key=rank)
    rest = sorted((d for d in long if d != x), key=lambda d: (d == OUTCOMES, -mean.sizes[d]))
    if rest and mean.sizes[rest[0]] > MAX_LINES:
        return Roles(x, y=rest[0], panels=tuple(rest[1:]))
    return Roles(x, hue=rest[0] if rest else None, panels=tuple(rest[1:]))


def _read(ds: xr.Dataset, outcome: str) -> Plot:
    if not ds[outcome].size:
        raise SpecError(f"nothing to draw: the selection of {outcome!r} is empty; select fewer axes")
    ds = _ascending(ds, outcome)
    statistic = statistics.get(ds.attrs["statistic"])
    if not ds[outcome].dims:
        ds = ds.expand_dims(next((str(c) for c in ds[outcome].coords), "point"))
    chosen = roles(ds[outcome], frozenset(r.parameter for r in statistic.references))
    shown = ds[[n for n in ds if str(n) in (outcome, *(f"{outcome}_{s}" for s in ("ci_low", "ci_high", "theory")))]]
    places = _shown(ds[outcome], chosen)
    cut = tuple(f"{len(p)} of {ds.sizes[d]} values of {d}" for d, p in places.items() if len(p) < ds.sizes[d])
    order = (*chosen.panels, *(d for d in (chosen.hue, chosen.y, chosen.x) if d))
    shown = shown.isel(places).squeeze([d for d in shown.dims if d not in order]).transpose(*order, ...).load()
    theory = shown.get(f"{outcome}_theory")
    theory = theory if theory is not None and theory.notnull().any() else None
    low, high = shown[f"{outcome}_ci_low"], shown[f"{outcome}_ci_high"]
    notes = cut + (_heat_notes(shown[outcome], theory) if chosen.y else ())
    fixed, drawn = json.loads(ds.attrs["fixed"]), bool(ds.attrs["committed_blocks"])
    here = values_of(shown[outcome], fixed)
    curves = tuple(c for c in statistic.curves if (c.outcome, c.parameter) == (outcome, chosen.x) and c.holds(here))
    return Plot(shown[outcome], low, high, theory, chosen, statistic.references, curves, fixed, drawn, notes)


def values_of(array: xr.DataArray, fixed: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """The values that parameters have in an outcome or a part of it."""
    return {
        **{k: [v] for k, v in fixed.items()},
        **{str(k): v.values.ravel().tolist() for k, v in array.coords.items()},
    }


def _ascending(ds: xr.Dataset, outcome: str) -> xr.Dataset:
    """Numbers in their own order: a selection has them in the order in which they were asked for."""
    numeric = [d for d in ds[outcome].dims if d in ds.indexes and is_numeric(ds[outcome], str(d))]
    return ds.sortby([d for d in numeric if not ds.indexes[d].is_monotonic_increasing])


def _heat_notes(mean: xr.DataArray, theory: xr.DataArray | None) -> tuple[str, ...]:
    dashes = () if theory is None else ("dashed: theory, at the ticks of the colour bar",)
    return (*dashes, *(("grey: no draws yet, or undefined",) if mean.isnull().any() else ()))


def _shown(mean: xr.DataArray, chosen: Roles) -> dict[str, np.ndarray]:
    """Positions shown along every dimension with a role: evenly spaced where there are too many."""
    limits = {chosen.x: MAX_CELLS if chosen.y else MAX_LINE_POINTS}
    if chosen.y:
        limits[chosen.y] = MAX_CELLS
    left = MAX_PANELS
    for name in sorted(chosen.panels, key=lambda d: mean.sizes[d]):
        limits[name] = max(1, left)
        left //= min(limits[name], mean.sizes[name])
    return {d: thinned(mean.sizes[d], most) for d, most in limits.items()}


# --- painting ---


def panel_grid(plot: Plot) -> tuple[Figure, list[Axes]]:
    """The figure and its panels, filled row by row; the last panel dim but one starts a new row."""
    count = len(plot.panels)
    columns = plot.mean.sizes[plot.roles.panels[-1]] if len(plot.roles.panels) > 1 else count
    columns = columns if columns <= 4 else int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    width, height = (6.4, 4.4) if count == 1 else (2.9 * columns + 1.2, 2.5 * rows + 1.2)
    figure = Figure(figsize=(max(width, 5.6), height), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for empty in panels[count:]:
        empty.set_axis_off()
    for axes, at in zip(panels, plot.panels, strict=False):
        if at:
            names = [value_at(plot.mean, d, i) for d, i in at.items()]
            one_line = len(", ".join(names)) <= TITLE
            axes.set_title((", " if one_line else ",\n").join(names), fontsize=9, color=INK)
    for i in range(count):  # shared axes hide inner tick labels, also above an empty panel
        panels[i].tick_params(labelbottom=i + columns >= count, labelsize=8)
    return figure, panels[:count]


def _lines(figure: Figure, panels: Sequence[Axes], plot: Plot, confidence: float, log_x: bool, log_y: bool) -> None:
    hue = plot.roles.hue
    x = positions(plot.mean, plot.roles.x)
    numeric = is_numeric(plot.mean, plot.roles.x) and len(x) > 1
    shown = [a.values for a in (plot.mean, plot.theory) if a is not None]
    if log_x and not is_numeric(plot.mean, plot.roles.x):
        raise SpecError(f"a logarithmic axis takes numbers, and {plot.roles.x!r} has names")
    require_above_0(plot.roles.x, *([x] if log_x else []))
    require_above_0(str(plot.mean.name), *(shown if log_y else []))
    count = plot.mean.sizes[hue] if hue else 1
    colours = colours_of(plot.mean, hue, count)
    common = plot.theory is not None and (count == 1 or _same_along(plot.theory, hue))
    for axes, at in zip(panels, plot.panels, strict=True):
        for i, colour in enumerate(colours):
            here = at | ({hue: i} if hue else {})
            mean, low, high = (a.isel(here).values for a in (plot.mean, plot.low, plot.high))
            _line(axes, x, mean, low, high, colour, numeric=numeric)
            if plot.theory is not None and not (common and i):
                line = INK if common else colour
                _theory_line(axes, x, plot.theory.isel(here).values, line, numeric=numeric)
        tidy(axes)
        scale_axis(axes, "x", plot.mean, plot.roles.x, log_x or geometric(plot.mean, plot.roles.x))
        if not plot.mean.notnull().any():
            say_empty(axes, plot.drawn)
    if log_y:
        make_log(panels, "y", *shown)
    name_axes(figure, panels, label_along(plot.mean, plot.roles.x), label_of(plot.mean.attrs, plot.mean.name))
    marks.curves(panels, plot.values, plot.curves, float(x.min()))
    marks.references(panels, plot.values, plot.references, numeric_or_none(plot.mean, plot.roles.x), None)
    _legend(figure, plot, colours, confidence, INK if common else FAINT)


def _legend(figure: Figure, plot: Plot, colours: Sequence[Any], confidence: float, theory: str) -> None:
    """What colours, bands and dashes mean, outside on the right."""
    hue, handles = plot.roles.hue, list[Any]()
    if hue:
        names = [value_at(plot.mean, hue, i) for i in range(len(colours))]
        handles += [Line2D([], [], color=c, linewidth=2, label=n) for c, n in zip(colours, names, strict=True)]
    handles.append(Patch(facecolor=FAINT, alpha=0.35, label=f"{100 * confidence:g}% interval"))
    if plot.theory is not None:
        handles.append(Line2D([], [], color=theory, linestyle="--", linewidth=1.3, label="theory"))
    handles += marks.handles(plot.curves)
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)


def _line(axes: Axes, x: Any, mean: Any, low: Any, high: Any, colour: str, *, numeric: bool) -> None:
    """Mean with its interval: a band along numbers, bars at names or single points."""
    if numeric:
        marker = "o" if len(x) <= 25 or np.isnan(mean).any() else None
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
        axes.plot(x, mean, color=colour, linewidth=1.4, marker=marker, markersize=3, zorder=2)
        return
    bars = np.maximum(np.stack([mean - low, high - mean]), 0)
    axes.errorbar(x, mean, bars, fmt="o", color=colour, markersize=4, capsize=3, linewidth=1.2, zorder=2)


def _theory_line(axes: Axes, x: Any, theory: Any, colour: Any, *, numeric: bool) -> None:
    if numeric:
        axes.plot(x, theory, "--", color=colour, linewidth=1.3, zorder=3)
    else:
        axes.plot(x, theory, "_", color=colour, markersize=22, markeredgewidth=1.3, zorder=3)


def _heat_maps(figure: Figure, panels: Sequence[Axes], plot: Plot) -> None:
    x, y = plot.roles.x, str(plot.roles.y)
    edges = [edges_of(positions(plot.mean, d), geometric(plot.mean, d)) for d in (x, y)]
    known = plot.mean if plot.theory is None or plot.mean.notnull().any() else plot.theory
    values = known.values[np.isfinite(known.values)]
    scale = Normalize(values.min(), values.max()) if values.size else Normalize(0, 1)
    levels = MaxNLocator(7).tick_values(float(scale.vmin or 0), float(scale.vmax or 0))
    image = None
    for axes, at in zip(panels, plot.panels, strict=True):
        axes.set_facecolor("#dddddd")  # no draws yet
        cells = plot.mean.isel(at).transpose(y, x).values
        image = axes.pcolormesh(*edges, cells, norm=scale, cmap="viridis", rasterized=True)
        scale_axis(axes, "x", plot.mean, x, geometric(plot.mean, x))
        scale_axis(axes, "y", plot.mean, y, geometric(plot.mean, y))
        if plot.theory is not None:
            _contours(axes, plot, plot.theory.isel(at).transpose(y, x).values, levels)
    label = label_of(plot.mean.attrs, plot.mean.name)
    if image is not None:
        bar = figure.colorbar(image, ax=list(panels), label=textwrap.fill(label, 45), aspect=30, ticks=levels)
        bar.ax.tick_params(labelsize=8)
    name_axes(figure, panels, label_along(plot.mean, x), label_along(plot.mean, y))
    marks.references(panels, plot.values, plot.references, *(numeric_or_none(plot.mean, d) for d in (x, y)))


def _contours(axes: Axes, plot: Plot, theory: np.ndarray, levels: Sequence[float]) -> None:
    """Level lines of theory, where there is enough of it to have levels."""
    finite = theory[np.isfinite(theory)]
    if min(theory.shape) < 2 or not finite.size or finite.min() == finite.max():
        return
    inside = [v for v in levels if finite.min() < v < finite.max()]
    if inside:
        at = [positions(plot.mean, d) for d in (plot.roles.x, str(plot.roles.y))]
        lines = axes.contour(*at, theory, levels=inside, colors=INK, linestyles="--", linewidths=1.1)
        lines.set_path_effects(HALO)


def _same_along(array: xr.DataArray, dim: str | None) -> bool:
    return dim is None or bool(np.allclose(array, array.isel({dim: [0]}), rtol=1e-6, atol=1e-12, equal_nan=True))


def entitle(figure: Figure, ds: xr.Dataset, plot: Plot, what: str | None = None) -> None:
    scalars = (f"{k} = {v.item()}" for k, v in plot.mean.coords.items() if v.ndim == 0)
    small = " · ".join([*scalars, *_amount(ds, str(plot.mean.name)), *plot.notes])
    wrapped = textwrap.fill(small, int(13 * figure.get_figwidth()))
    figure.suptitle(f"{ds.attrs['title']}: {what or plot.mean.name}\n{wrapped}", fontsize=10)


def _amount(ds: xr.Dataset, outcome: str) -> list[str]:
    """How many draws there are, and whether more would come."""
    if "converged" in ds:
        draws = (ds[f"{outcome}_n"] + ds[f"{outcome}_undefined"]).values
        few, many = int(draws.min()), int(draws.max())
        narrow, points = int(ds["converged"].sum()), ds["converged"].size
        wide = [] if narrow == points else [f"as narrow as asked for at {narrow} of {points} points"]
        return [f"{few} to {many} draws a point" if few < many else f"{few} draws a point", *wide]
    blocks, total = ds.attrs["committed_blocks"], ds.attrs["blocks"]
    left = [] if blocks == total else [f"unfinished: {blocks} of {total} blocks"]
    return [f"{ds.attrs['draws']} draws a point", *left]
