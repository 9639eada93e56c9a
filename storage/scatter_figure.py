"""A figure of the mean of one outcome against that of another, a marker at every selected point of the grid.

The longest dimension of names gives the colours; where there are names along none, a numeric one with few values does,
first of all one along which x stays the same, as the cosine of two inputs does along width or layer. The others along
which x stays the same, and other names, give the panels; the rest are what the cloud consists of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from storage import marks
from storage.axes import (
    FAINT,
    MAX_LINES,
    MAX_PANELS,
    colours_of,
    is_numeric,
    label_of,
    make_log,
    name_axes,
    require_above_0,
    say_empty,
    thinned,
    tidy,
    value_at,
)
from storage.figures import Plot, Roles, entitle, panel_grid, values_of
from storage.query import outcomes
from sweeps import statistics
from sweeps.errors import SpecError, unknown

MAX_MARKERS = 4000  # of a colour in a panel
LOOKED_AT = 8  # values along a dimension, to see whether x changes along it
NEGLIGIBLE = 0.005  # half an interval, as a share of the range shown


@dataclass(frozen=True)
class Scatter:
    """What is drawn: `plot` holds y, `x` its partner; all arrays have the dims (*panels, hue, *cloud)."""

    plot: Plot
    x: xr.DataArray
    x_low: xr.DataArray
    x_high: xr.DataArray


def draw_against(ds: xr.Dataset, outcome: str, against: str, *, log_x: bool = False, log_y: bool = False) -> Figure:
    """A figure of the mean of `outcome` (y) against that of `against` (x) over a Dataset from `open_sweep`, or a part.

    Intervals are drawn where they are long enough to be seen, theory as open markers, and curves that the statistic
    knows of y along x.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: the two are one, x has a dimension that y has not, the selection is empty, or a logarithmic axis is
            asked for where values are not above 0.
    """
    _check(ds, outcome, against)
    scatter = _read(ds, outcome, against)
    plot = scatter.plot
    shown = [a.values for a in (plot.mean, plot.theory) if a is not None]
    require_above_0(against, *([scatter.x.values] if log_x else []))
    require_above_0(outcome, *(shown if log_y else []))
    figure, panels = panel_grid(plot)
    colours = colours_of(plot.mean, plot.roles.hue, plot.mean.sizes[plot.roles.hue] if plot.roles.hue else 1)
    for axes, at in zip(panels, plot.panels, strict=True):
        for i, colour in enumerate(colours):
            _markers(axes, scatter, at | ({plot.roles.hue: i} if plot.roles.hue else {}), colour)
        tidy(axes)
        if not (plot.mean.isel(at).notnull() & scatter.x.isel(at).notnull()).any():
            say_empty(axes, plot.drawn)
    for along, wanted, values in (("x", log_x, [scatter.x.values]), ("y", log_y, shown)):
        if wanted:
            make_log(panels, along, *values)
    name_axes(figure, panels, *(label_of(a.attrs, a.name) for a in (scatter.x, plot.mean)))
    if scatter.x.notnull().any():
        marks.curves(panels, plot.values, plot.curves, float(scatter.x.min()), float(scatter.x.max()))
    _legend(figure, scatter, colours, float(ds.attrs["confidence"]))
    entitle(figure, ds, plot, f"{outcome} against {against}")
    return figure


def _check(ds: xr.Dataset, outcome: str, against: str) -> None:
    for name in (outcome, against):
        if name not in outcomes(ds):
            raise unknown("outcome", name, outcomes(ds))
    if outcome == against:
        raise SpecError(f"outcome {outcome!r} is to be drawn against itself; name another")
    if extra := [str(d) for d in ds[against].dims if d not in ds[outcome].dims]:
        raise SpecError(
            f"outcome {against!r} goes along {', '.join(extra)}, and {outcome!r} does not; select one value, or draw "
            f"{against!r} against {outcome!r}"
        )
    if not ds[outcome].size:
        raise SpecError(f"nothing to draw: the selection of {outcome!r} is empty; select fewer axes")


# --- what is shown ---


def _read(ds: xr.Dataset, outcome: str, against: str) -> Scatter:
    hue, panels, cloud = _roles(ds[outcome], ds[against])
    places = _places(ds[outcome], hue, panels, cloud)
    notes = tuple(f"{len(p)} of {ds.sizes[d]} values of {d}" for d, p in places.items() if len(p) < ds.sizes[d])
    order = (*panels, *([hue] if hue else []), *cloud)
    names = [name + end for name in (outcome, against) for end in ("", "_ci_low", "_ci_high", "_theory")]
    shown = ds[[n for n in names if n in ds]].isel(places).load()
    shown = shown.squeeze([d for d in shown.dims if d not in order])
    like = shown[outcome].transpose(*order)
    y, y_low, y_high = (shown[outcome + end].transpose(*order) for end in ("", "_ci_low", "_ci_high"))
    x, x_low, x_high = (shown[against + e].broadcast_like(like).transpose(*order) for e in ("", "_ci_low", "_ci_high"))
    theory = shown.get(f"{outcome}_theory")
    theory = theory.transpose(*order) if theory is not None and theory.notnull().any() else None
    fixed, statistic = json.loads(ds.attrs["fixed"]), statistics.get(ds.attrs["statistic"])
    here = values_of(like, fixed)
    curves = tuple(c for c in statistic.curves if (c.outcome, c.parameter) == (outcome, against) and c.holds(here))
    roles, drawn = Roles(against, hue=hue, panels=panels), bool(ds.attrs["committed_blocks"])
    plot = Plot(y, y_low, y_high, theory, roles, (), curves, fixed, drawn, notes)
    return Scatter(plot, x, x_low, x_high)


def _roles(y: xr.DataArray, x: xr.DataArray) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """(hue, panels, cloud): what the dimensions of y with more than one value become."""
    long = sorted((str(d) for d in y.dims if y.sizes[d] > 1), key=lambda d: -y.sizes[d])
    names = [d for d in long if not is_numeric(y, d)]
    sample = x.isel({d: thinned(n, LOOKED_AT) for d, n in x.sizes.items()}).load()
    still = [d for d in long if d not in names and not _changes(sample, d)]
    moving = [d for d in long if d not in names + still]
    few = [d for d in (*still, *(reversed(moving) if len(moving) > 1 else ())) if y.sizes[d] <= MAX_LINES]
    hue = next(iter([*names, *few]), None)
    panels = tuple(d for d in (*names, *still) if d != hue)
    return hue, panels, tuple(d for d in moving if d != hue)


def _changes(x: xr.DataArray, dim: str) -> bool:
    if dim not in x.dims:
        return False
    values = x.values
    spread = np.fmax.reduce(values, axis=x.dims.index(dim)) - np.fmin.reduce(values, axis=x.dims.index(dim))
    scale = float(np.fmax.reduce(np.abs(values), axis=None))
    return bool(np.any(spread > 1e-9 * scale))


def _places(y: xr.DataArray, hue: str | None, panels: Sequence[str], cloud: Sequence[str]) -> dict[str, np.ndarray]:
    """Positions shown along every dimension: evenly spaced where there are too many."""
    places, left = ({hue: thinned(y.sizes[hue], MAX_LINES)} if hue else {}), MAX_PANELS
    for d in sorted(panels, key=lambda d: y.sizes[d]):
        places[d] = thinned(y.sizes[d], max(1, left))
        left //= len(places[d])
    left = MAX_MARKERS
    for d in sorted(cloud, key=lambda d: y.sizes[d]):
        places[d] = thinned(y.sizes[d], max(1, left))
        left //= len(places[d])
    return places


# --- painting ---


def _markers(axes: Axes, scatter: Scatter, here: dict[str, int], colour: Any) -> None:
    plot = scatter.plot
    x, y = (a.isel(here).values.ravel() for a in (scatter.x, plot.mean))
    size = 4.0 if x.size <= 60 else 2.5
    bars: dict[str, Any] = {
        "xerr": _bars(scatter.x, scatter.x_low, scatter.x_high, here),
        "yerr": _bars(plot.mean, plot.low, plot.high, here),
    }
    axes.errorbar(x, y, **bars, fmt="o", color=colour, markersize=size, linewidth=1, markeredgewidth=0, zorder=2)
    if plot.theory is not None:
        theory = plot.theory.isel(here).values.ravel()
        axes.plot(x, theory, "o", color=colour, markersize=size + 2, fillstyle="none", markeredgewidth=0.8, zorder=3)


def _bars(mean: xr.DataArray, low: xr.DataArray, high: xr.DataArray, here: dict[str, int]) -> np.ndarray | None:
    """Lengths (2, markers) below and above, or None where none can be seen."""
    values = mean.values[np.isfinite(mean.values)]
    bars = np.stack([(mean - low).isel(here).values.ravel(), (high - mean).isel(here).values.ravel()])
    bars = np.where(np.isfinite(bars), np.maximum(bars, 0), 0)
    return bars if values.size and bars.max() > NEGLIGIBLE * (np.ptp(values) or 1e-9) else None


def _legend(figure: Figure, scatter: Scatter, colours: Sequence[Any], confidence: float) -> None:
    plot, handles = scatter.plot, list[Any]()
    if plot.roles.hue:
        names = [value_at(plot.mean, plot.roles.hue, i) for i in range(len(colours))]
        look: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 5}
        handles += [Line2D([], [], color=c, label=n, **look) for c, n in zip(colours, names, strict=True)]
    alone = plot.roles.hue is None
    handles.append(Line2D([], [], color=colours[0] if alone else FAINT, label=f"mean, {100 * confidence:g}% interval"))
    if plot.theory is not None:
        how: dict[str, Any] = {"marker": "o", "linestyle": "", "fillstyle": "none", "markersize": 6}
        handles.append(Line2D([], [], color=colours[0] if alone else FAINT, label="theory", **how))
    handles += marks.handles(plot.curves)
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
