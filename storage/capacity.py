"""Half-points: where along an axis a measured proportion crosses a level, such as one half.

A curve is a proportion measured at x_1 < ... < x_k: y_i successes in n_i draws. The estimate is the place where its
isotonic regression (Ayer, Brunk, Ewing, Reid, Silverman, "An empirical distribution function for sampling with
incomplete information", Annals of Mathematical Statistics 26, 1955) crosses the level, linear between the two points
beside the crossing. It assumes that the curve rises, or falls, and nothing of its form: the usual two-parameter
probit fit is off by 15 of its standard errors on the exact law of injectivity at n = 2 (docs/capacity.md).

With s_c = sum_{i <= c} (y_i - level n_i), the regression is below the level up to the first minimum of s and not below
it after; beside it are max_j mean(j..c) and min_j mean(c+1..j), means weighted by draws. So a thousand bootstrap
replicates take a few cumulated sums.

The interval is that of the percentiles of a parametric bootstrap: counts are drawn from the isotonic regression and
estimated alike. A replicate that does not cross lies beyond the measured points, at infinity, and where there
are too many of them so does an end of the interval.

A layer of m = 7 rows in R^2 has the ratio 3.5 whether alpha was 3.4 or 3.6: a curve is taken along the values that
the networks have (`realised` of the statistic), and points of equal value are one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import isotonic_regression
from scipy.special import gammaincinv, xlogy

from storage.query import outcomes
from sweeps import statistics
from sweeps.errors import SpecError, unknown

REPLICATES = 2000
KEPT = ("title", "statistic", "fingerprint", "confidence", "fixed", "committed_blocks", "blocks", "until")
"""Attributes of a Dataset of `open_sweep` that one of half-points has too."""
STRANGE = 1e-6
"""A curve whose regression fits it as badly as this share of monotone curves at most is not monotone."""


@dataclass(frozen=True)
class Curve:
    """A proportion along x ascending (points,): `successes` of `draws` draws, rising; `undefined` ones besides."""

    x: np.ndarray
    successes: np.ndarray
    draws: np.ndarray
    undefined: np.ndarray


def half_points(
    ds: xr.Dataset,
    outcome: str = "injective",
    axis: str = "alpha",
    level: float = 0.5,
    coordinate: xr.DataArray | None = None,
) -> xr.Dataset:
    """Where a proportion crosses `level` along a numeric axis, for every combination of the other dimensions.

    `ds` is of `open_sweep`, or a part of it. `coordinate`, an array over the axis and any other dimensions, is what
    to measure along; by default the values that the networks have, where the statistic tells, else the axis itself.

    The Dataset over the other dimensions has `half_point`; `ci_low` and `ci_high`, an interval of the confidence of
    `ds`, infinite where the curve leaves it open; `theory`, of the closed form where the points beside the crossing
    have one; `undefined` draws, which count for nothing, and `if_true` and `if_false`, the half-points if all of
    them were the one or the other; `replicates` (*dims, replicate) of the bootstrap; and `reason`, why a half-point is
    NaN, else empty. The bootstrap's randomness is a function of the sweep's fingerprint and the curve: the same store
    gives the same answer, whatever else is selected.

    Raises:
        UnknownNameError: no such outcome or axis.
        SpecError: not a proportion, not numeric, an axis of fewer than 2 values, a level not between 0 and 1.
    """
    _check(ds, outcome, axis, level)
    names = [outcome, f"{outcome}_n", f"{outcome}_undefined", f"{outcome}_theory"]
    read = ds[[n for n in names if n in ds]].load().assign_attrs(until="converged" in ds)
    dims = tuple(str(d) for d in ds[outcome].dims if d != axis)
    read = read.assign(_x=_along(read, outcome, axis, coordinate)).transpose(*dims, axis)
    shape = tuple(read.sizes[d] for d in dims)
    found = [_half_point(read.isel(dict(zip(dims, at, strict=True))), outcome, axis, level) for at in np.ndindex(shape)]
    return _dataset(read, dims, found, outcome, axis, level)


# --- a Dataset to curves and back ---


def _check(ds: xr.Dataset, outcome: str, axis: str, level: float) -> None:
    if outcome not in outcomes(ds):
        raise unknown("outcome", outcome, outcomes(ds))
    if ds[outcome].attrs["kind"] != "proportion":
        proportions = [o for o in outcomes(ds) if ds[o].attrs["kind"] == "proportion"]
        raise SpecError(
            f"outcome {outcome!r} is a {ds[outcome].attrs['kind']} one, and only a proportion crosses a level; "
            f"proportions: {', '.join(proportions) or 'none'}"
        )
    if axis not in ds[outcome].dims and axis not in ds[outcome].coords:
        raise unknown("axis", axis, [str(d) for d in ds[outcome].dims])
    check_numeric(ds[outcome], axis)
    if ds[axis].size < 2:
        raise SpecError(f"axis {axis!r} has {ds[axis].size} of the at least 2 values that a crossing lies between")
    if not 0 < level < 1:
        raise SpecError(f"level must lie between 0 and 1, got {level:g}")


def check_numeric(array: xr.DataArray, axis: str) -> None:
    """Refuse an axis of names or truth values."""
    if array[axis].dtype.kind not in "iuf":
        raise SpecError(
            f"axis {axis!r} is not numeric, its values are {', '.join(map(str, array[axis].values.ravel()[:4]))}"
        )


def _along(ds: xr.Dataset, outcome: str, axis: str, coordinate: xr.DataArray | None) -> xr.DataArray:
    along = (_realised(ds, axis) if coordinate is None else coordinate).broadcast_like(ds[outcome])
    if along.sizes != ds[outcome].sizes or along.isnull().any():
        raise SpecError(f"coordinate must have one number at every point of {outcome!r}, dims {dict(ds.sizes)}")
    return along


def _realised(ds: xr.Dataset, axis: str) -> xr.DataArray:
    """The values along an axis that the networks have, over the dimensions that are parameters."""
    definition = statistics.get(ds.attrs["statistic"])
    if axis not in definition.realised:
        return ds[axis].astype(np.float64)
    parameters = definition.parameters.model_fields
    fixed = json.loads(ds.attrs["fixed"]) | {k: v.item() for k, v in ds.coords.items() if v.ndim == 0}
    dims = [str(d) for d in ds.dims if d in parameters]
    values = np.empty([ds.sizes[d] for d in dims])
    for at in np.ndindex(values.shape):
        point = fixed | {d: ds[d].values[i].item() for d, i in zip(dims, at, strict=True)}
        checked = definition.parameters(**{k: v for k, v in point.items() if k in parameters})
        values[at] = definition.realised[axis](checked)
    return xr.DataArray(values, {d: ds[d] for d in dims}, dims)


def _half_point(ds: xr.Dataset, outcome: str, axis: str, level: float) -> dict[str, Any]:
    """The variables of one curve."""
    curve, rising = _rising(_curve(ds, outcome))
    sign = 1 if rising else -1
    found = {"undefined": int(curve.undefined.sum()), "theory": _of_theory(ds, outcome, level)}
    if reason := _unfit(curve, axis, level):
        return found | {"reason": reason, "replicates": np.full(REPLICATES, np.nan)}
    random = np.random.default_rng(_seed(ds, outcome, axis, level))
    replicates = sign * _bootstrap(curve, level, random)
    tail = (1 - float(ds.attrs["confidence"])) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], method="inverted_cdf")
    whole = curve.draws + curve.undefined
    true, false, [middle] = (
        sign * crossing(curve.x, successes[None], draws, level)
        for successes, draws in (
            (curve.successes + curve.undefined, whole),
            (curve.successes, whole),
            (curve.successes, curve.draws),
        )
    )
    ends = {"ci_low": min(low, middle), "ci_high": max(high, middle), "if_true": true[0], "if_false": false[0]}
    return found | ends | {"half_point": middle, "replicates": replicates}


def _curve(ds: xr.Dataset, outcome: str) -> Curve:
    """The points that have draws, those of equal x as one."""
    n = ds[f"{outcome}_n"].values
    undefined = ds[f"{outcome}_undefined"].values
    measured = n + undefined > 0
    successes = np.rint(np.nan_to_num(ds[outcome].values) * n)
    x, place = np.unique(ds["_x"].values[measured], return_inverse=True)
    columns = (np.bincount(place, values[measured], len(x)) for values in (successes, n, undefined))
    return Curve(x, *columns)


def _rising(curve: Curve) -> tuple[Curve, bool]:
    """The curve, or its mirror image about 0 if it falls; the regression is for curves that rise."""
    total = max(1.0, curve.draws.sum())
    at = curve.x - (curve.x * curve.draws).sum() / total
    if (at * (curve.successes - curve.draws * curve.successes.sum() / total)).sum() >= 0:
        return curve, True
    return Curve(-curve.x[::-1], curve.successes[::-1], curve.draws[::-1], curve.undefined[::-1]), False


def _unfit(curve: Curve, axis: str, level: float) -> str:
    """Why a curve has no half-point; empty if it has one."""
    defined = curve.draws > 0
    if defined.sum() < 2:
        return f"{defined.sum()} points along {axis} have draws that are defined"
    if not _is_monotone(curve):
        return f"neither rises nor falls steadily along {axis}"
    share = _isotonic(curve)[defined]
    [where] = crossing(curve.x, curve.successes[None], curve.draws, level)
    if np.isposinf(where):
        return f"below {level:g} at every {axis}: at most {share.max():.3g}"
    if np.isneginf(where):
        return f"above {level:g} at every {axis}: at least {share.min():.3g}"
    return ""


def _of_theory(ds: xr.Dataset, outcome: str, level: float) -> float:
    """The crossing of the closed form, if it is known at the points beside it."""
    if f"{outcome}_theory" not in ds:
        return np.nan
    x, first = np.unique(ds["_x"].values, return_index=True)
    p = ds[f"{outcome}_theory"].values[first] - level
    for i in np.flatnonzero(p[:-1] * p[1:] <= 0):
        if p[i] != p[i + 1]:
            return float(x[i] - p[i] * (x[i + 1] - x[i]) / (p[i + 1] - p[i]))
    return np.nan


def _seed(ds: xr.Dataset, outcome: str, axis: str, level: float) -> list[int]:
    """Words that only this curve of this sweep has."""
    place = sorted((str(k), v.item()) for k, v in ds[outcome].coords.items() if v.ndim == 0 and k != axis)
    text = json.dumps([ds.attrs["fingerprint"], outcome, axis, level, place])
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4").tolist()


def per_place(
    ds: xr.Dataset, dims: tuple[str, ...], found: list[dict[str, Any]], axis: str
) -> tuple[str, Callable[..., xr.Variable]]:
    """An axis in words, and variable(name, empty, long_name, units=the axis') of what was found at every place."""
    axis_units = ds[axis].attrs.get("units", "1")

    def variable(name: str, empty: Any, text: str, units: str = axis_units) -> xr.Variable:
        values = np.array([one.get(name, empty) for one in found]).reshape([ds.sizes[d] for d in dims])
        return xr.Variable(dims, values, {"long_name": text, "units": units})

    return str(ds[axis].attrs.get("long_name", axis)).partition(";")[0], variable


def _dataset(
    ds: xr.Dataset, dims: tuple[str, ...], found: list[dict[str, Any]], outcome: str, axis: str, level: float
) -> xr.Dataset:
    words, variable = per_place(ds, dims, found, axis)
    interval = f"of the {100 * ds.attrs['confidence']:.6g}% bootstrap interval"
    variables = {
        "half_point": variable("half_point", np.nan, f"{words} at which {outcome} is {level:g}"),
        "ci_low": variable("ci_low", np.nan, f"low end {interval}"),
        "ci_high": variable("ci_high", np.nan, f"high end {interval}"),
        "theory": variable("theory", np.nan, "half-point of theory"),
        "undefined": variable("undefined", 0, f"draws that leave undefined {outcome}", "1"),
        "if_true": variable("if_true", np.nan, "half-point if undefined draws were all true"),
        "if_false": variable("if_false", np.nan, "half-point if undefined draws were all false"),
        "reason": variable("reason", "", "why there is no half-point", ""),
    }
    half = variables["half_point"]
    replicates = np.array([one["replicates"] for one in found]).reshape(*half.shape, REPLICATES)
    variables["replicates"] = xr.Variable((*dims, "replicate"), replicates, {"units": half.attrs["units"]})
    kept = {k: v for k, v in ds[outcome].coords.items() if axis not in v.dims and k != axis}
    about: Mapping[str, Any] = {k: ds.attrs[k] for k in KEPT if k in ds.attrs}
    asked = {"outcome": outcome, "axis": axis, "level": level}
    return xr.Dataset(variables, kept, {**about, **asked})


# --- one curve ---


def crossing(x: np.ndarray, successes: np.ndarray, draws: np.ndarray, level: float) -> np.ndarray:
    """Where the isotonic regressions of `successes` (curves, points) in `draws` (points,) reach a level along x.

    Infinite, with the sign of the side on which it would lie, where a regression does not cross (curves,).
    """
    x, successes, draws = x[draws > 0], successes[:, draws > 0], draws[draws > 0]
    points = np.arange(len(x) + 1)
    total = np.concatenate([[0.0], np.cumsum(draws)])
    sums = np.concatenate([np.zeros((len(successes), 1)), np.cumsum(successes, axis=1)], axis=1)
    cut = (sums - level * total).argmin(axis=1)[:, None]  # points from here on are not below
    with np.errstate(invalid="ignore"):
        mean = (sums - np.take_along_axis(sums, cut, 1)) / (total - total[cut])
    below = np.where(points < cut, mean, -np.inf).max(axis=1)
    above = np.where(points > cut, mean, np.inf).min(axis=1)
    return _between(x, cut[:, 0], below, above, level)


def _between(x: np.ndarray, cut: np.ndarray, below: np.ndarray, above: np.ndarray, level: float) -> np.ndarray:
    right = np.clip(cut, 1, len(x) - 1)
    with np.errstate(invalid="ignore"):
        found = x[right - 1] + (level - below) / (above - below) * (x[right] - x[right - 1])
    found = np.where(cut == 0, np.where(above == level, x[0], -np.inf), found)
    return np.where(cut == len(x), np.inf, found)


def _bootstrap(curve: Curve, level: float, random: np.random.Generator) -> np.ndarray:
    """Crossings (REPLICATES,) of counts drawn from the isotonic regression."""
    n = curve.draws.astype(np.int64)
    drawn = random.binomial(n, np.clip(_isotonic(curve), 0, 1), (REPLICATES, len(n)))
    return crossing(curve.x, drawn.astype(np.float64), curve.draws, level)


def _isotonic(curve: Curve) -> np.ndarray:
    """The isotonic regression of the proportions (points,); 0 where there are no draws."""
    defined, fitted = curve.draws > 0, np.zeros(len(curve.x))
    n = curve.draws[defined]
    fitted[defined] = isotonic_regression(curve.successes[defined] / n, weights=n).x
    return fitted


def _is_monotone(curve: Curve) -> bool:
    """Whether the deviance of the isotonic regression is such as chance gives: it is at most chi2 of points - 1."""
    y, n, p = curve.successes, curve.draws, _isotonic(curve)
    deviance = 2 * (xlogy(y, y) - xlogy(y, n * p) + xlogy(n - y, n - y) - xlogy(n - y, n * (1 - p))).sum()
    return bool(deviance <= 2 * gammaincinv(((n > 0).sum() - 1) / 2, 1 - STRANGE))
