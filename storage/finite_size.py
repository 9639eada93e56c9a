"""Finite-size scaling: half-points at sizes n extrapolated to n -> infinity,

    half-point(n) = limit - amplitude n^-exponent,

the leading correction to a threshold (Barber, "Finite-size scaling", in Phase Transitions and Critical Phenomena 8,
1983), by least squares weighted with the variances that the half-points' bootstrap gives. At a given exponent the
fit is linear; the exponent is searched on a grid, log-even, and placed between its values by a parabola.

Two errors are told apart. The interval is statistical: the half-points are drawn again, as their bootstrap has them,
and fitted alike. That the form is true at the sizes at hand is not part of it: chi2 tests it, and the fit without
the smallest size says how far the answer moves. An exponent at the low end of the grid, where n^-exponent cannot be
told from a logarithm, has no limit: it is infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from storage.capacity import check_numeric
from sweeps.errors import SpecError, unknown

EXPONENTS = np.geomspace(0.05, 8, 400)
PARAMETERS = ("limit", "amplitude", "exponent")


@dataclass(frozen=True)
class Fit:
    """Fits of sets of half-points: every array is (sets,), NaN for a set that has an infinite half-point."""

    limit: np.ndarray
    amplitude: np.ndarray
    exponent: np.ndarray
    chi2: np.ndarray


def scaling(half: xr.Dataset, size: str = "n", exponent: float | None = None) -> xr.Dataset:
    """Fit half-points (of `half_points`) along a numeric dimension of sizes, for every combination of the others.

    The exponent is fitted unless it is given. The Dataset over the other dimensions and `without` has `limit`,
    `amplitude` and `exponent`, each with `_low` and `_high`, the interval of the confidence of `half`, and
    `_replicates` (*dims, without, replicate); `chi2` with its degrees of freedom `dof`; `sizes`, how many half-points
    were fitted; and `reason`, why there is no fit, else empty. `without` is how many of the smallest sizes were left
    out: 0, and 1 to see how far the limit moves. Half-points that are NaN or have an open interval are not fitted.

    Raises:
        UnknownNameError: no such dimension.
        SpecError: its values are not numbers above 0, or the exponent is not between 0.05 and 8.
    """
    _check(half, size, exponent)
    dims = tuple(str(d) for d in half["half_point"].dims if d != size)
    ordered = half.sortby(size).transpose(*dims, size, ...)
    shape = tuple(half.sizes[d] for d in dims)
    curves = [ordered.isel(dict(zip(dims, at, strict=True))) for at in np.ndindex(shape)]
    found = [_scaling(curve, size, exponent, without) for curve in curves for without in (0, 1)]
    variables = {}
    for name in found[0]:
        values = np.array([one[name] for one in found])
        own = ("replicate",) if values.ndim > 1 else ()
        variables[name] = ((*dims, "without", *own), values.reshape(*shape, 2, *values.shape[1:]))
    kept = {k: v for k, v in half["half_point"].coords.items() if size not in v.dims}
    about = {**half.attrs, "size": size, "given_exponent": "" if exponent is None else exponent}
    return xr.Dataset(variables, {**kept, "without": [0, 1]}, about)


def _check(half: xr.Dataset, size: str, exponent: float | None) -> None:
    if size not in half["half_point"].dims:
        raise unknown("axis of sizes", size, [str(d) for d in half["half_point"].dims])
    check_numeric(half["half_point"], size)
    if half[size].min() <= 0:
        raise SpecError(f"sizes must be above 0, {size!r} has {half[size].values.min():g}")
    if exponent is not None and not EXPONENTS[0] <= exponent <= EXPONENTS[-1]:
        raise SpecError(f"exponent must lie between {EXPONENTS[0]:g} and {EXPONENTS[-1]:g}, got {exponent:g}")


def usable(half: xr.Dataset) -> np.ndarray:
    """Whether a half-point is known with an interval of two ends, so that it has a weight."""
    width = (half["ci_high"] - half["ci_low"]).values
    return np.isfinite(width) & (width > 0)


def _scaling(half: xr.Dataset, size: str, exponent: float | None, without: int) -> dict[str, Any]:
    """The variables of one fit."""
    used = np.flatnonzero(usable(half))[without:]
    parameters = 3 if exponent is None else 2
    found: dict[str, Any] = {"sizes": len(used), "dof": max(0, len(used) - parameters), "reason": ""}
    n, values = half[size].values[used].astype(np.float64), half["half_point"].values[used]
    sets = np.concatenate([values[:, None], half["replicates"].values[used]], axis=1).T  # (1 + replicates, sizes)
    if len(used) < parameters:
        found["reason"] = f"{len(used)} of the at least {parameters} sizes that a fit needs have a half-point"
        made = Fit(*np.full((4, len(sets)), np.nan))
    else:
        drawn = sets[1:][np.isfinite(sets[1:]).all(axis=1)]
        made = fit(n, sets, np.std(drawn, axis=0), exponent)
    return found | {"chi2": made.chi2[0]} | _intervals(made, float(half.attrs["confidence"]))


def _intervals(made: Fit, confidence: float) -> dict[str, Any]:
    """Every parameter with its percentile interval; the first set is what was observed."""
    found: dict[str, Any] = {}
    for name in ("limit", "amplitude", "exponent"):
        value, replicates = getattr(made, name)[0], getattr(made, name)[1:]
        drawn = replicates[~np.isnan(replicates)]
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile(drawn, tails, method="inverted_cdf") if drawn.size else (np.nan, np.nan)
        found |= {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_replicates": replicates}
    return found


# --- the fit ---


def fit(n: np.ndarray, values: np.ndarray, deviation: np.ndarray, exponent: float | None = None) -> Fit:
    """Least-squares fits of sets of half-points (sets, sizes) at sizes n, weighted by `deviation` (sizes,)."""
    exponents = EXPONENTS if exponent is None else np.array([exponent])
    finite = np.asarray(np.isfinite(values).all(axis=1))
    weight = deviation**-2 / (deviation**-2).sum()
    y = np.where(finite[:, None], values, 0.0)
    mean = y @ weight
    off = (y - mean[:, None]) / deviation
    _, column = _column(n, exponents, weight, deviation)
    share = off @ (column / np.linalg.norm(column, axis=1, keepdims=True)).T  # (sets, exponents)
    explained = np.square(share, out=share)  # what an exponent takes off the sum of squares
    best = explained.argmax(axis=1)
    chosen = _refined(explained, best) if exponent is None else exponents[best]
    middle, column = _column(n, chosen, weight, deviation)
    amplitude = (column * off).sum(axis=1) / (column**2).sum(axis=1)
    least = ((off - amplitude[:, None] * column) ** 2).sum(axis=1)
    limit = mean - amplitude * middle
    if exponent is None:
        limit = np.where(best == 0, np.copysign(np.inf, amplitude), limit)
    return Fit(*(np.where(finite, a, np.nan) for a in (limit, amplitude, chosen, least)))


def _column(
    n: np.ndarray, exponents: np.ndarray, weight: np.ndarray, deviation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the amplitude multiplies, -n^-exponent: its mean (exponents,) and its weighted rest (exponents, sizes)."""
    power = -(n ** -exponents[:, None])
    mean = power @ weight
    return mean, (power - mean[:, None]) / deviation


def _refined(explained: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The exponents (sets,) at the tops of the parabolas through the most `explained` (sets, exponents) and beside."""
    inner = np.clip(best, 1, len(EXPONENTS) - 2)
    left, middle, right = (np.take_along_axis(explained, inner[:, None] + d, 1)[:, 0] for d in (-1, 0, 1))
    bend = 2 * middle - left - right
    shift = np.divide(right - left, 2 * bend, out=np.zeros_like(bend), where=(bend > 0) & (best == inner))
    return EXPONENTS[best] * (EXPONENTS[1] / EXPONENTS[0]) ** np.clip(shift, -1, 1)
