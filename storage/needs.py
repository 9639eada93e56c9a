"""How large a network must be for an error: from which width on P(outcome <= at_most) is at least `confidence`.

The Johnson-Lindenstrauss question, how many filters for distortion eps with probability 1 - delta, asked of draws. At
every width the draws have a quantile q of level `confidence`; the answer is where q comes down to `at_most` to stay. As
errors mostly fall like a power of the width, log q is interpolated linearly in log width between the two neighbours.

The interval. At n draws Wilson's interval of the probability p holds the level c iff the measured share lies within
h = z sqrt(c (1 - c) / n) of it, so that a width is certified (p >= c) iff the quantile of level c + h is at most
`at_most`, and excluded (p < c) iff that of level c - h is not. The upper end is from where on widths are certified, the
lower end the first that is not excluded, both interpolated alike. Fewer than z^2 c / (1 - c) draws certify nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtri

from storage.capacity import KEPT, check_numeric, per_place
from storage.distributions import reached
from storage.layout import draws_name, histogram_name
from storage.query import outcomes
from sweeps.errors import SpecError, unknown

ENDS = ("ci_low", "needed", "ci_high")


def needed(ds: xr.Dataset, outcome: str, at_most: float, confidence: float, along: str = "width") -> xr.Dataset:
    """The least value of the axis `along` from which on P(outcome <= at_most) >= confidence, at every other place.

    `ds` is of `open_sweep`, or a part of it; the outcome's draws or bins must be stored, and with bins `at_most` be one
    of their inner edges, and P that of the draws below it. Undefined draws count for nothing.

    The Dataset over the other dimensions has `needed`; `ci_low` and `ci_high`, of an interval that holds it with the
    confidence of `ds` (not the argument, which is the probability asked for), infinite where the axis does not reach
    far enough to say; `undefined` draws along the axis; and `reason`, why `needed` is NaN or `ci_high` infinite, else
    empty.

    Raises:
        UnknownNameError: no such outcome or axis.
        SpecError: a confidence not between 0 and 1, `at_most` not finite or inside a bin, an axis that is not numeric
            or has fewer than 2 values, or no draws nor bins stored.
    """
    _check(ds, outcome, at_most, confidence, along)
    ds = ds.sortby(along).transpose(..., along)
    at_most = _inner_edge(ds, outcome, at_most)
    z = float(ndtri((1 + ds.attrs["confidence"]) / 2))

    def levels(n: np.ndarray) -> np.ndarray:
        half = z * np.sqrt(confidence * (1 - confidence) / np.maximum(n, 1))
        return np.stack([confidence - half, np.full_like(half, confidence), confidence + half])

    dims, rest = ds[outcome].dims, tuple(str(d) for d in ds[outcome].dims if d != along)
    curves = xr.DataArray(reached(ds, outcome, levels), dims=("level", *dims)).transpose(*rest, "level", along).values
    x = ds[along].values.astype(np.float64)
    fewest = math.ceil(z * z * confidence / (1 - confidence))
    found = [_found(x, curves[at], at_most, along, confidence, fewest) for at in np.ndindex(curves.shape[:-2])]
    undefined = ds[f"{outcome}_undefined"].sum(along).transpose(*rest).variable
    return _dataset(ds, rest, found, undefined, outcome, at_most, confidence, along)


def _check(ds: xr.Dataset, outcome: str, at_most: float, confidence: float, along: str) -> None:
    if outcome not in outcomes(ds):
        raise unknown("outcome", outcome, outcomes(ds))
    if along not in ds[outcome].dims and along not in ds[outcome].coords:
        raise unknown("axis", along, [str(d) for d in ds[outcome].dims])
    check_numeric(ds[outcome], along)
    if ds[along].size < 2:
        raise SpecError(f"axis {along!r} has {ds[along].size} of the at least 2 values that an answer lies between")
    if not 0 < confidence < 1:
        raise SpecError(f"confidence must lie between 0 and 1, got {confidence:g}")
    if not math.isfinite(at_most):
        raise SpecError(f"at_most must be a finite number, got {at_most:g}")


def _inner_edge(ds: xr.Dataset, outcome: str, at_most: float) -> float:
    """`at_most` as it is with draws; with bins, the edge that it is up to rounding."""
    if draws_name(outcome) in ds or histogram_name(outcome) not in ds:
        return at_most
    edges = ds[f"{outcome}_bin_left"].values[1:]
    near = edges[np.argsort(np.abs(edges - at_most), kind="stable")]
    if len(near) and np.isclose(near[0], at_most, rtol=1e-5, atol=1e-12):
        return float(near[0])
    where = "inside one" if len(edges) and edges[0] < at_most < edges[-1] else "beyond the inner ones"
    raise SpecError(
        f"{outcome!r} is held in bins, and {at_most:g} lies {where}; inner edges nearest to it: "
        f'{", ".join(f"{v:g}" for v in np.sort(near[:2])) or "none"}; others need keep = "draws"'
    )


# --- one curve ---


def _found(
    x: np.ndarray, curves: np.ndarray, at_most: float, along: str, confidence: float, fewest: int
) -> dict[str, Any]:
    """The variables of one place; curves (3, points) are quantiles of the three levels, NaN without draws."""
    measured = ~np.isnan(curves[1])
    x, (low, middle, high) = x[measured], curves[:, measured]
    if len(x) < 2:
        return {"reason": f"{len(x)} values of {along} have draws that are defined"}
    ends = (_first(x, low, at_most), _stays(x, middle, at_most), _stays(x, high, at_most))
    found = dict(zip(ENDS, ends, strict=True))
    level = f"the {confidence:g} quantile"
    if np.isneginf(found["needed"]):
        reason = f"at {along} = {x[0]:g} already {level} is {middle[0]:.3g}; that much or less is needed"
    elif np.isposinf(found["needed"]):
        reason = f"at {along} = {x[-1]:g} {level} is still {middle[-1]:.3g}; more is needed"
    elif np.isposinf(high[-1]):
        reason = f"no end above: it takes at least {fewest} draws a point to be certain of {confidence:g}"
    elif np.isposinf(found["ci_high"]):
        reason = f"no end above: not certain at {along} = {x[-1]:g} yet; more draws, or more {along}"
    else:
        reason = ""
    return found | {"needed": found["needed"] if np.isfinite(found["needed"]) else np.nan, "reason": reason}


def _first(x: np.ndarray, curve: np.ndarray, at_most: float) -> float:
    """Where a curve first comes down to `at_most`; infinite where that is beyond the points."""
    fine = np.flatnonzero(curve <= at_most)
    return _between(x, curve, at_most, int(fine[0])) if len(fine) else np.inf


def _stays(x: np.ndarray, curve: np.ndarray, at_most: float) -> float:
    """Where it comes down to stay."""
    over = np.flatnonzero(curve > at_most)
    first = int(over[-1]) + 1 if len(over) else 0
    return _between(x, curve, at_most, first) if first < len(x) else np.inf


def _between(x: np.ndarray, curve: np.ndarray, at_most: float, i: int) -> float:
    """Between point i, the first that will do, and the one before it."""
    if i == 0:
        return -np.inf
    (left, right), (above, below) = x[i - 1 : i + 1], curve[i - 1 : i + 1]
    if not np.isfinite(above):
        return float(right)
    if not np.isfinite(below):
        return float(left)
    logs = below > 0 and at_most > 0
    a, b, c = np.log([above, below, at_most]) if logs else np.array([above, below, at_most])
    t = (a - c) / (a - b)
    return float(left * (right / left) ** t if left > 0 else left + t * (right - left))


def _dataset(
    ds: xr.Dataset,
    dims: tuple[str, ...],
    found: list[dict[str, Any]],
    undefined: xr.Variable,
    outcome: str,
    at_most: float,
    confidence: float,
    along: str,
) -> xr.Dataset:
    words, variable = per_place(ds, dims, found, along)
    interval = f"of the {100 * ds.attrs['confidence']:.6g}% interval"
    text = f"{words} from which on P({outcome} <= {at_most:g}) >= {confidence:g}"
    variables = {
        "needed": variable("needed", np.nan, text),
        "ci_low": variable("ci_low", np.nan, f"low end {interval}"),
        "ci_high": variable("ci_high", np.nan, f"high end {interval}"),
        "undefined": undefined,
        "reason": variable("reason", "", "why there is no answer, or no end above", ""),
    }
    kept = {k: v for k, v in ds[outcome].coords.items() if along not in v.dims and k != along}
    about = {k: ds.attrs[k] for k in KEPT if k in ds.attrs} | {"until": "converged" in ds}
    return xr.Dataset(
        variables, kept, {**about, "outcome": outcome, "axis": along, "at_most": at_most, "level": confidence}
    )
