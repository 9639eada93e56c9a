"""What figures share: scales and ticks of axes, their names, colours, and how values are written."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from sweeps.errors import SpecError

MAX_LINES = 8
MAX_PANELS = 12
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
FAINT = "#888888"
CHARACTERS = 8  # of tick labels to an inch of a figure, with room left for what stands beside the panels


def thinned(size: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))


def is_numeric(array: xr.DataArray, name: str) -> bool:
    return name not in array.coords or array[name].dtype.kind in "iuf"


def numeric_or_none(array: xr.DataArray, name: str) -> str | None:
    return name if is_numeric(array, name) else None


def geometric(array: xr.DataArray, name: str) -> bool:
    """Whether the values of a dimension are more nearly a geometric than an arithmetic progression."""
    values = np.asarray(array[name].values) if name in array.coords else np.zeros(0)
    if values.dtype.kind not in "iuf" or len(values) < 3 or values.min() <= 0 or values.max() < 4 * values.min():
        return False
    steps, ratios = np.diff(np.sort(values)), np.diff(np.log(np.sort(values)))
    return bool(ratios.max() / ratios.min() < steps.max() / steps.min())


def positions(array: xr.DataArray, name: str) -> np.ndarray:
    """Where the values of a dimension stand: at themselves, or at 0, 1, ... if they are names."""
    if is_numeric(array, name) and name in array.coords:
        return np.asarray(array[name].values, dtype=np.float64)
    return np.arange(array.sizes[name], dtype=np.float64)


def edges_of(at: np.ndarray, log: bool) -> np.ndarray:
    """Cell borders around positions: midpoints, on the scale of the axis."""
    at = np.log(at) if log else at
    if len(at) == 1:
        edges = np.array([at[0] - 0.5, at[0] + 0.5])
    else:
        middle = (at[1:] + at[:-1]) / 2
        edges = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.exp(edges) if log else edges


def scale_axis(axes: Axes, along: str, array: xr.DataArray, name: str, log: bool) -> None:
    """Scale and ticks of an axis of a panel."""
    axis = axes.xaxis if along == "x" else axes.yaxis
    at = positions(array, name)
    if not is_numeric(array, name):
        axis.set_ticks(at, [str(v) for v in array[name].values])
        axes.margins(x=0.15 if along == "x" else None, y=None if along == "x" else 0.15)
        return
    if log:
        axes.set(**{f"{along}scale": "log"})
    if log and at.min() >= 1e-3 and at.max() <= 1e5:
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    whole = name not in array.coords or array[name].dtype.kind in "iu"
    steps = np.abs(np.diff(np.log(at) if log else at))
    if (whole or log) and steps.size and steps.min() > steps.sum() / 16:  # a tick a value, where they have room
        every = _crowded(axes, at) if along == "x" else 1
        axis.set_major_locator(FixedLocator(at[::every].tolist()))
        axis.set_minor_locator(NullLocator())


def _crowded(axes: Axes, at: np.ndarray) -> int:
    """Every how many-th value along x has room for its label in a panel."""
    grid, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    assert grid is not None
    assert figure is not None
    room = CHARACTERS * figure.get_figwidth() / grid.get_gridspec().ncols
    return max(1, int(np.ceil(len(at) * (max(len(f"{v:g}") for v in at) + 1) / room)))


def require_above_0(name: str, *shown: np.ndarray) -> None:
    """Refuse a logarithmic axis for what has no place on it."""
    least = min((float(np.nanmin(a)) for a in shown if np.isfinite(a).any()), default=1.0)
    if least <= 0:
        raise SpecError(f"a logarithmic axis takes values above 0, and {name!r} goes down to {least:.6g}")


def make_log(panels: Sequence[Axes], along: str, *shown: np.ndarray) -> None:
    """A logarithmic axis as long as the values above 0 that are `shown` take; an interval may leave it downwards."""
    values = np.concatenate([np.ravel(a) for a in shown])
    values = values[np.isfinite(values) & (values > 0)]
    for axes in panels:
        axes.set(**{f"{along}scale": "log"})
    if values.size:
        room = max((values.max() / values.min()) ** 0.05, 1.05)
        panels[0].set(**{f"{along}lim": (values.min() / room, values.max() * room)})


def tidy(axes: Axes) -> None:
    """The grid and frame that all panels of lines and points have."""
    axes.grid(color="#eeeeee", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def say_empty(axes: Axes, drawn: bool) -> None:
    """Why a panel shows nothing: draws are undefined, or there are none."""
    where = {"transform": axes.transAxes, "ha": "center", "backgroundcolor": "white"}
    axes.text(0.5, 0.5, "undefined" if drawn else "no draws yet", color=FAINT, **where)


def name_axes(figure: Figure, panels: Sequence[Axes], x_label: str, y_label: str) -> None:
    """Names beside the axes of one panel, or of all panels together."""
    if len(panels) == 1:
        panels[0].set_xlabel(textwrap.fill(x_label, 60))
        panels[0].set_ylabel(textwrap.fill(y_label, 45))
    else:
        figure.supxlabel(textwrap.fill(x_label, 80), fontsize=10)
        figure.supylabel(textwrap.fill(y_label, 45), fontsize=10)


def label_along(array: xr.DataArray, name: str) -> str:
    return label_of(array[name].attrs if name in array.coords else {}, name)


def label_of(attributes: dict[str, Any], name: Any) -> str:
    units = attributes.get("units", "1")
    words = str(attributes.get("long_name", name)).partition(";")[0]  # the rest explains
    return words + (f" [{units}]" if units not in ("1", "") else "")


def value_at(array: xr.DataArray, name: str, index: int) -> str:
    value = array[name].values[index] if name in array.coords else index
    return f"{name} = {value:.6g}" if isinstance(value, float) else f"{name} = {value}"


def colours_of(array: xr.DataArray, hue: str | None, count: int) -> list[Any]:
    """Distinct colours for names, a ramp for numbers; both told apart by colour-blind readers."""
    if hue is None or not is_numeric(array, hue) or count <= 2:
        return list(OKABE_ITO[:count])
    return [matplotlib.colormaps["viridis"](v) for v in np.linspace(0, 0.85, count)]
