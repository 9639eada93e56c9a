"""A figure of half-points against size and what they are extrapolated to.

Sizes n stand at n^-exponent, so that the fit of `scaling` is a straight line and infinity is at 0, on the left. A band
and a diamond show the fit to all sizes and its limit, dashes and an open diamond the one without the smallest size;
dotted lines are the reference values of the statistic.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from storage.axes import FAINT, MAX_LINES, colours_of, label_of, tidy, value_at
from storage.figures import values_of
from storage.finite_size import usable
from storage.marks import HALO, INK
from sweeps import statistics
from sweeps.errors import SpecError
from sweeps.statistic import Reference

ROOM = 0.06
"""Left and right of the points, as a share of the width."""


def draw_capacity(half: xr.Dataset, fitted: xr.Dataset) -> Figure:
    """A figure of `half_points` and their `scaling`.

    Raises:
        SpecError: nothing has a half-point, or there are too many curves.
    """
    size = str(fitted.attrs["size"])
    single = [d for d in half["half_point"].dims if d != size and half.sizes[d] == 1]
    half, fitted = half.sortby(size).squeeze(single), fitted.squeeze(single)
    hue = _hue(half["half_point"], size)
    scale = _scale(fitted)
    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    axes = figure.subplots()
    places = [{hue: i} for i in range(half.sizes[hue])] if hue else [{}]
    colours = colours_of(half["half_point"], hue, len(places))
    for at, colour in zip(places, colours, strict=True):
        _curve(axes, half.isel(at), fitted.isel(at), scale, colour)
    _name_axes(axes, half, size, scale)
    references = references_of(half)
    _heights(axes, half, fitted, references)
    _references(axes, half, references)
    _legend(figure, half, fitted, hue, colours)
    _entitle(figure, half, fitted, hue)
    return figure


def references_of(half: xr.Dataset) -> list[Reference]:
    """What theory knows of the axis, where it holds for some of the curves."""
    values = values_of(half["half_point"], json.loads(half.attrs.get("fixed", "{}")))
    known = statistics.get(half.attrs["statistic"]).references
    return [r for r in known if r.parameter == half.attrs["axis"] and r.holds(values)]


def _hue(array: xr.DataArray, size: str) -> str | None:
    """The one dimension that tells curves apart, if any."""
    if array.isnull().all():
        raise SpecError("nothing to draw: no curve has a half-point")
    dims = [str(d) for d in array.dims if d != size]
    if len(dims) > 1 or any(array.sizes[d] > MAX_LINES for d in dims):
        sizes = " x ".join(f"{array.sizes[d]} values of {d}" for d in dims)
        raise SpecError(f"{sizes} are too many curves for one figure; keep one axis of at most {MAX_LINES} values")
    return dims[0] if dims else None


def _scale(fitted: xr.Dataset) -> float:
    """The exponent of the axis of sizes: that of the only fit, if it has a limit, else 1."""
    found = fitted["exponent"].where(np.isfinite(fitted["limit"])).sel(without=0)
    return float(found) if found.size == 1 and np.isfinite(found) else 1.0


# --- painting ---


def _curve(axes: Axes, half: xr.Dataset, fitted: xr.Dataset, scale: float, colour: Any) -> None:
    size = str(fitted.attrs["size"])
    x, y = half[size].values.astype(np.float64) ** -scale, half["half_point"].values
    bars = np.nan_to_num(np.stack([y - half["ci_low"].values, half["ci_high"].values - y]), posinf=1e3)
    _band(axes, fitted.sel(without=0), np.linspace(0, x.max(), 201), scale, colour)
    for without, style, width in ((0, "-", 1.4), (1, "--", 1.1)):
        one = fitted.sel(without=without)
        if not np.isfinite(one["limit"]):
            continue
        line = np.linspace(0, np.sort(x[usable(half)])[-1 - without], 201)  # to the smallest size fitted
        axes.plot(line, _form(line, scale, *_parameters(one)), style, color=colour, linewidth=width, zorder=2)
        _limit(axes, one, -0.012 * without * x.max(), colour, filled=not without)
    axes.errorbar(x, y, bars, fmt="o", color=colour, markersize=4, capsize=3, linewidth=1.2, zorder=4)


def _parameters(fitted: xr.Dataset, suffix: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    limit, amplitude, exponent = (fitted[name + suffix].values for name in ("limit", "amplitude", "exponent"))
    return limit, amplitude, exponent


def _form(x: np.ndarray, scale: float, limit: np.ndarray, amplitude: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """limit - amplitude n^-exponent at x = n^-scale, infinity being x = 0."""
    return limit - amplitude * x ** (exponent / scale)


def _band(axes: Axes, fitted: xr.Dataset, x: np.ndarray, scale: float, colour: Any) -> None:
    """The interval of the fitted line at every size."""
    drawn = np.stack(_parameters(fitted, "_replicates"))
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0), None]
    if not drawn.size:
        return
    tail = (1 - fitted.attrs["confidence"]) / 2
    with np.errstate(invalid="ignore"):
        lines = _form(x, scale, *drawn)
    low, high = np.nanquantile(lines, [tail, 1 - tail], axis=0, method="inverted_cdf")
    axes.fill_between(
        x,
        np.nan_to_num(low, neginf=-1e3),
        np.nan_to_num(high, posinf=1e3),
        color=colour,
        alpha=0.18,
        linewidth=0,
        zorder=1,
    )


def _limit(axes: Axes, fitted: xr.Dataset, x: float, colour: Any, *, filled: bool) -> None:
    y = float(fitted["limit"])
    bars = [[min(y - float(fitted["limit_low"]), 1e3)], [min(float(fitted["limit_high"]) - y, 1e3)]]
    look: dict[str, Any] = {"fmt": "D", "markersize": 6, "capsize": 4, "linewidth": 1.4 if filled else 1.0, "zorder": 5}
    axes.errorbar([x], [y], bars, color=colour, markerfacecolor=colour if filled else "white", clip_on=True, **look)


def _name_axes(axes: Axes, half: xr.Dataset, size: str, scale: float) -> None:
    n = half[size].values
    x = n.astype(np.float64) ** -scale
    axes.set_xlim(-ROOM * x.max(), (1 + ROOM) * x.max())
    apart = [i for i in range(len(n)) if i in (0, len(n) - 1) or abs(x[i] - x[i - 1]) > 0.04 * x.max()]
    axes.set_xticks([0, *x[apart]], ["∞", *(f"{v:g}" for v in n[apart])])
    words = label_of(half[size].attrs, size)
    axes.set_xlabel(f"{textwrap.fill(words, 60)}, placed at {size}$^{{-{scale:.2g}}}$")
    axes.set_ylabel(textwrap.fill(label_of(half["half_point"].attrs, "half-point"), 45))
    tidy(axes)
    axes.tick_params(labelsize=8)


def _heights(axes: Axes, half: xr.Dataset, fitted: xr.Dataset, references: list[Reference]) -> None:
    """Room for points, limits and references; an interval of a limit may leave it."""
    values = np.concatenate([half["half_point"].values.ravel(), fitted["limit"].values.ravel()])
    values = values[np.isfinite(values)]
    reach = [r.value for r in references if abs(r.value - np.median(values)) < 3 * np.ptp(values) + 1e-9]
    low, high = min([*values, *reach]), max([*values, *reach])
    room = 0.12 * (high - low) or 0.5
    axes.set_ylim(low - room, high + 1.6 * room)


def _references(axes: Axes, half: xr.Dataset, references: list[Reference]) -> None:
    """Dotted lines, named at the right end, on the side that is away from the smallest size's half-point."""
    low, high = axes.get_ylim()
    values = half["half_point"].values.ravel()
    first = values[np.isfinite(values)][0]
    for reference in references:
        if not low <= reference.value <= high:
            continue
        axes.axhline(reference.value, color=INK, linestyle=":", linewidth=1.2, zorder=3, path_effects=HALO)
        above = not reference.value < first
        where: dict[str, Any] = {
            "xy": (0.99, reference.value),
            "xycoords": axes.get_yaxis_transform(),
            "xytext": (0, 3 if above else -3),
        }
        axes.annotate(
            f"{reference.value:.4f}  {reference.label}",
            **where,
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
            fontsize=8,
            color=INK,
            path_effects=HALO,
            zorder=6,
        )


def _legend(figure: Figure, half: xr.Dataset, fitted: xr.Dataset, hue: str | None, colours: list[Any]) -> None:
    size = fitted.attrs["size"]
    smallest = (
        f"the smallest {size}" if hue or not usable(half).any() else f"{size} = {half[size].values[usable(half)][0]:g}"
    )
    handles: list[Any] = []
    if hue:
        names = [value_at(half["half_point"], hue, i) for i in range(len(colours))]
        handles += [Line2D([], [], color=c, linewidth=2, label=n) for c, n in zip(colours, names, strict=True)]
    look: dict[str, Any] = {"color": FAINT if hue else colours[0]}
    handles += [
        Line2D([], [], marker="o", linestyle="", markersize=4, label="half-points", **look),
        Line2D([], [], marker="D", markersize=5, label="fit and limit", **look),
        Line2D(
            [],
            [],
            marker="D",
            markersize=5,
            linestyle="--",
            markerfacecolor="white",
            label=f"without {smallest}",
            **look,
        ),
        Patch(alpha=0.35, label=f"{100 * half.attrs['confidence']:g}% interval", **look),
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)


def _entitle(figure: Figure, half: xr.Dataset, fitted: xr.Dataset, hue: str | None) -> None:
    lines = [f"{half.attrs['title']}: half-points of {half.attrs['outcome']}"]
    if hue is None:
        lines += [in_words(fitted.sel(without=0))]
    figure.suptitle("\n".join(lines), fontsize=10)


def in_words(fitted: xr.Dataset) -> str:
    """One fit: its limit with interval, exponent and chi2, or why there is none."""
    if fitted["reason"].item():
        return f"no limit: {fitted['reason'].item()}"
    limit, low, high = (float(fitted[f"limit{end}"]) for end in ("", "_low", "_high"))
    how = "given" if fitted.attrs["given_exponent"] != "" else "fitted"
    return (
        f"limit {limit:.2f}, {100 * fitted.attrs['confidence']:g}% interval {low:.2f} to {high:.2f} · "
        f"{how} exponent {float(fitted['exponent']):.2f} · "
        f"chi2 {float(fitted['chi2']):.1f} for {int(fitted['dof'])} dof"
    ).replace("inf", "∞")
