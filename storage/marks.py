"""What is known beforehand, drawn into panels: values of a parameter to mark, and limits of an outcome as curves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from sweeps.statistic import Curve, Reference

HALO: list[Any] = [withStroke(linewidth=2.5, foreground="white", alpha=0.6)]
INK = "#333333"
STYLES = ("-", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)))


Values = Sequence[Mapping[str, Collection[Any]]]
"""The values that parameters have in each panel."""


def references(
    panels: Sequence[Axes], values: Values, known: Sequence[Reference], x: str | None, y: str | None
) -> None:
    """Lines at reference values inside the range shown, in the panels where they hold; named in the first of them.
    `x` and `y` are numeric parameters."""
    for reference in known:
        there = [axes for axes, here in zip(panels, values, strict=True) if reference.holds(here)]
        for name, along in ((x, "x"), (y, "y")):
            if name == reference.parameter:
                for i, axes in enumerate(there):
                    _reference(axes, along, reference, named=i == 0)


def curves(
    panels: Sequence[Axes], values: Values, known: Sequence[Curve], lowest: float, highest: float | None = None
) -> None:
    """Limits along x, from `lowest` to `highest`, by default the end of the axis, and behind the measurements, which
    decide what is shown of them."""
    for axes, here in zip(panels, values, strict=True):
        across, upright = axes.get_xlim(), axes.get_ylim()
        space = np.geomspace if axes.get_xscale() == "log" else np.linspace
        x = space(lowest, across[1] if highest is None else highest, 241)
        for curve, style in zip(known, STYLES, strict=False):
            if curve.holds(here):
                axes.plot(x, curve.values(x), color=INK, linewidth=1.1, linestyle=style, zorder=1.5)
        axes.set(xlim=across, ylim=upright)


def handles(known: Sequence[Curve]) -> list[Line2D]:
    """The curves' entries in a legend."""
    return [
        Line2D([], [], color=INK, linewidth=1.1, linestyle=style, label=curve.label)
        for curve, style in zip(known, STYLES, strict=False)
    ]


def _reference(axes: Axes, along: str, reference: Reference, *, named: bool) -> None:
    low, high = axes.get_xlim() if along == "x" else axes.get_ylim()
    if not low <= reference.value <= high:
        return
    line = axes.axvline if along == "x" else axes.axhline
    line(reference.value, color=INK, linestyle=":", linewidth=1.2, zorder=4, path_effects=HALO)
    if named and along == "x":
        low_end = _busy_above(axes, reference.value)
        where = {"xy": (reference.value, 0.02 if low_end else 0.98), "xycoords": axes.get_xaxis_transform()}
        text = axes.annotate(
            reference.label, **where, xytext=(-3, 0), textcoords="offset points", rotation=90, ha="right"
        )
        text.set_verticalalignment("bottom" if low_end else "top")
    elif named:
        where = {"xy": (0.98, reference.value), "xycoords": axes.get_yaxis_transform(), "xytext": (0, 3)}
        text = axes.annotate(reference.label, **where, textcoords="offset points", va="bottom", ha="right")
    else:
        return
    text.set(fontsize=8, color=INK, path_effects=HALO, zorder=5)


def _busy_above(axes: Axes, x: float) -> bool:
    """Whether the curves near x are in the upper half, so that a label had better stand below."""
    lines = [np.asarray(line.get_data(), dtype=float) for line in axes.lines if len(line.get_xdata()) > 2]  # type: ignore[arg-type]
    near = [c[1, np.abs(c[0] - x).argmin()] for c in lines]
    return bool(near) and bool(np.nanmedian(near) > np.mean(axes.get_ylim()))
