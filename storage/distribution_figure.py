"""A figure of how the draws of an outcome are distributed at the selected points: one outline a point.

The longest dimension gives the lines, the others the panels; the height is the share of draws in a bin over its width,
so that the area under a line is 1. Bins without an end take the least or the greatest draw as theirs.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from storage.axes import MAX_LINES, MAX_PANELS, colours_of, label_of, name_axes, thinned, tidy, value_at
from storage.distributions import histogram
from storage.figures import Plot, Roles, entitle, panel_grid
from storage.query import outcomes
from sweeps.errors import SpecError


def draw_histogram(ds: xr.Dataset, outcome: str | None = None) -> Figure:
    """A figure of the draws of one outcome (unless named, the statistic's first) of a Dataset from `open_sweep`.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: the selection is empty, or the store has neither draws nor a histogram.
    """
    name = outcomes(ds)[0] if outcome is None else outcome
    counts = histogram(ds, name)
    if not counts.size:
        raise SpecError(f"nothing to draw: the selection of {name!r} is empty; select fewer axes")
    plot, edges = _read(ds, name, counts)
    figure, panels = panel_grid(plot)
    for axes, at in zip(panels, plot.panels, strict=True):
        _outlines(axes, plot, at, edges)
    _words(figure, panels, plot, ds[name])
    entitle(figure, ds, plot)
    return figure


def _read(ds: xr.Dataset, outcome: str, counts: xr.DataArray) -> tuple[Plot, np.ndarray]:
    """Densities (*panels, lines, bin) and the edges of their bins (bins + 1,)."""
    dim, mean = str(counts.dims[-1]), ds[outcome]
    long = sorted((str(d) for d in mean.dims if mean.sizes[d] > 1), key=lambda d: -mean.sizes[d])
    roles = Roles(dim, hue=long[0] if long else None, panels=tuple(long[1:]))
    places, left = {d: thinned(mean.sizes[d], MAX_LINES) for d in long[:1]}, MAX_PANELS
    for d in reversed(roles.panels):
        places[d] = thinned(mean.sizes[d], max(1, left))
        left //= len(places[d])
    shown = {**places, **{d: 0 for d in mean.dims if d not in long}}
    part = ds[[outcome, f"{outcome}_min", f"{outcome}_max", f"{outcome}_undefined"]].isel(shown).load()
    read = counts.isel(shown).transpose(*roles.panels, *long[:1], dim).load()
    total = read.sum(dim)
    used = np.flatnonzero(read.values.reshape(-1, read.sizes[dim]).any(axis=0))
    if not used.size:
        raise SpecError(f"nothing to draw: {outcome!r} has no defined draws at these points")
    read = read.isel({dim: slice(used[0], used[-1] + 1)})
    edges = _finite(read, outcome, float(part[f"{outcome}_min"].min()), float(part[f"{outcome}_max"].max()))
    notes = [f"{len(p)} of {mean.sizes[d]} values of {d}" for d, p in places.items() if len(p) < mean.sizes[d]]
    notes += ["undefined draws are left out"] if part[f"{outcome}_undefined"].any() else []
    heights = (read / total / np.diff(edges)).rename(outcome)
    return Plot(heights, heights, heights, None, roles, (), (), {}, True, tuple(notes)), edges


def _finite(counts: xr.DataArray, outcome: str, least: float, greatest: float) -> np.ndarray:
    left, right = (counts[f"{outcome}_bin_{side}"].values for side in ("left", "right"))
    edges = np.append(left, right[-1:])
    low = min(least, edges[1]) if np.isinf(edges[0]) else edges[0]
    high = max(greatest, edges[-2]) if np.isinf(edges[-1]) else edges[-1]
    return np.array([low, *edges[1:-1], high])


def _outlines(axes: Axes, plot: Plot, at: dict[str, int], edges: np.ndarray) -> None:
    hue = plot.roles.hue
    colours = colours_of(plot.mean, hue, plot.mean.sizes[hue] if hue else 1)
    for i, colour in enumerate(colours):
        heights = plot.mean.isel(at | ({hue: i} if hue else {})).values
        axes.stairs(np.nan_to_num(heights), edges, color=colour, linewidth=1.4, zorder=2)
        if len(colours) <= 2:
            axes.stairs(np.nan_to_num(heights), edges, color=colour, alpha=0.18, fill=True, zorder=1)
    tidy(axes)


def _words(figure: Figure, panels: list[Axes], plot: Plot, mean: xr.DataArray) -> None:
    hue = plot.roles.hue
    name_axes(figure, panels, label_of(mean.attrs, mean.name), "share of draws over width of bin")
    if hue:
        colours = colours_of(plot.mean, hue, plot.mean.sizes[hue])
        names = [value_at(plot.mean, hue, i) for i in range(len(colours))]
        handles = [Line2D([], [], color=c, linewidth=2, label=n) for c, n in zip(colours, names, strict=True)]
        figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
