"""Quantiles and histograms of the draws of an outcome, at every point of a Dataset from `open_sweep` or of a copy.

From the draws themselves where the sweep kept them (`keep = "draws"`): quantiles interpolate linearly between the
two nearest draws (type 7 of Hyndman and Fan, "Sample quantiles in statistical packages", American Statistician 50,
1996). Else from the histogram of an outcome that declares bins, as if the draws of a bin were spread evenly over
it; the outer ends are the least and the greatest draw, so that quantiles 0 and 1 are exact. Undefined draws are left
out.

Nothing is read before values are asked for, and then for the selected points only: `DRAWS_SLAB` draws at a time
(64 MiB), or those of one point if it has more. Sorting takes twice as much again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import xarray as xr
from xarray.core import indexing

from storage.layout import draws_name, histogram_name
from storage.query import Lazy, outcomes
from storage.slabs import DRAWS_SLAB, Box, box, boxes, slab
from storage.snapshot import Where
from sweeps import moments
from sweeps.errors import SpecError, unknown

BINS = 40
Read = Callable[[Where], np.ndarray]
Shares = Callable[[np.ndarray], np.ndarray]


def quantiles(ds: xr.Dataset, outcome: str, q: Sequence[float]) -> xr.DataArray:
    """Quantiles (quantile, *axes, *dims) of an outcome's draws; lazy. NaN where no draw is defined. The attribute
    `method` says what they were made from.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: not between 0 and 1, or the store has neither draws nor a histogram of the outcome.
    """
    wanted = np.asarray(q, dtype=np.float64).reshape(-1)
    if wrong := [float(v) for v in wanted if not 0 <= v <= 1]:
        raise SpecError(f"quantiles lie between 0 and 1, got {wrong[0]:g}")
    mean = _mean(ds, outcome)
    if draws_name(outcome) in ds:
        draws = ds[draws_name(outcome)].transpose(..., "draw")
        read, method = partial(_of_draws, draws, wanted), "linear between the two nearest draws"
    elif histogram_name(outcome) in ds:
        read, method = partial(_of_counts, ds, outcome, wanted), "linear inside the bins of the histogram"
    else:
        raise _nothing_stored(f"quantiles of {outcome!r}")
    attributes = {"long_name": f"quantiles of {mean.attrs['long_name']}", "units": mean.attrs["units"]}
    found = _lazy(("quantile", *mean.dims), (len(wanted), *mean.shape), "float64", read)
    return xr.DataArray(
        found, {**mean.coords, "quantile": wanted}, attrs={**attributes, "method": method}, name=outcome
    )


def reached(ds: xr.Dataset, outcome: str, shares: Shares) -> np.ndarray:
    """What shares of the defined draws of every point do not exceed: (shares, *axes, *dims), read at once.

    `shares` gives them (shares, *points) for the numbers of draws (*points,). Of draws it is the least that at least
    such a share does not exceed, of bins it is linear inside them; -inf for shares of 0 or less, inf for those above
    1, NaN without draws.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: the store has neither draws nor a histogram of the outcome.
    """
    mean, kept = _mean(ds, outcome), draws_name(outcome) in ds
    if not kept and histogram_name(outcome) not in ds:
        raise _nothing_stored(f"distribution of {outcome!r}")
    array, last = ds[draws_name(outcome)] if kept else ds[histogram_name(outcome)], "draw" if kept else f"{outcome}_bin"
    array = array.transpose(*mean.dims, last)
    least, greatest = (ds[f"{outcome}_{end}"].transpose(*mean.dims) for end in ("min", "max"))
    where, pages = tuple(map(np.arange, mean.shape)), []
    for at in _walk(where, array.sizes[last]):
        values = _part(array, where, at)
        n = np.sum(~np.isnan(values) if kept else values, axis=-1)
        wanted = shares(n)
        inside = np.clip(wanted, 0, 1)
        if kept:
            found = _least_not_exceeded(values, n, inside)
        else:
            low, high = (_part(a, where, at) for a in (least, greatest))
            found = _inside_bins(values, low, high, _edges(array, outcome), inside[..., None])
        found = np.where(wanted <= 0, -np.inf, np.where(wanted > 1, np.inf, found))
        pages.append((at, np.where(n > 0, found, np.nan)))
    out = np.full((len(shares(np.zeros(0))), *mean.shape), np.nan)
    for at, found in pages:
        out[(slice(None), *at)] = found
    return out


def _least_not_exceeded(values: np.ndarray, n: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(shares, *points) of draws (*points, draws), n (*points,) of them defined."""
    ordered = np.sort(values, axis=-1)  # NaN goes last
    rank = np.ceil(shares * n - 1e-9).astype(np.int64)  # 0.95 of 100 draws are 95, whatever their product is
    return np.stack([_take(ordered, np.clip(k - 1, 0, values.shape[-1] - 1)) for k in rank])


def histogram(ds: xr.Dataset, outcome: str, bins: int | Sequence[float] | None = None) -> xr.DataArray:
    """Counts (*axes, *dims, <outcome>_bin) of an outcome's defined draws, the edges of the bins beside them; lazy.

    `bins` are edges, or how many even ones go from the least draw to the greatest (whole numbers wide for counts);
    unless given, those that the outcome declares, else about `BINS`. Bins are closed on the left, the last on both
    sides; the end bins take what lies outside.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: the bins are none, or the store has not what they need; or no draws yet to take the range from.
    """
    mean, stored = _mean(ds, outcome), ds.get(histogram_name(outcome))
    draws = ds.get(draws_name(outcome))
    if stored is None and draws is None:
        raise _nothing_stored(f"histogram of {outcome!r}")
    if stored is not None and bins is None:
        return stored
    bins = BINS if bins is None else bins
    edges = _even(ds, outcome, int(bins)) if isinstance(bins, int | np.integer) else _checked(bins)
    if draws is not None:
        read = partial(_counted, draws.transpose(..., "draw"), edges)
    else:
        assert stored is not None
        read = partial(_merged, stored, _starts(_edges(stored, outcome), edges, outcome))
    dim = f"{outcome}_bin"
    found = _lazy((*mean.dims, dim), (*mean.shape, len(edges) - 1), "int64", read)
    sides = {f"{dim}_left": (dim, edges[:-1]), f"{dim}_right": (dim, edges[1:])}
    attributes = {"long_name": f"draws by {mean.attrs['long_name']}", "units": "1"}
    return xr.DataArray(found, {**mean.coords, **sides}, attrs=attributes, name=histogram_name(outcome))


def _mean(ds: xr.Dataset, outcome: str) -> xr.DataArray:
    if outcome not in outcomes(ds):
        raise unknown("outcome", outcome, outcomes(ds))
    return ds[outcome]


def _nothing_stored(what: str) -> SpecError:
    return SpecError(f'{what}: the store holds neither draws nor bins of it; run the sweep with keep = "draws"')


def _lazy(dims: tuple, shape: tuple[int, ...], dtype: str, read: Read) -> xr.Variable:
    return xr.Variable(dims, indexing.LazilyIndexedArray(Lazy(shape, np.dtype(dtype), read)))


def _part(array: xr.DataArray, where: Where, at: Box) -> np.ndarray:
    """The values at a box of the positions `where` along the first dimensions."""
    return array.isel({d: w[s] for d, w, s in zip(array.dims, where, at, strict=False)}).values


def _walk(where: Where, row: int) -> list[Box]:
    """Boxes of a selection that hold at most DRAWS_SLAB numbers, of which there are `row` at every position."""
    shape = [len(w) for w in where]
    return list(boxes(shape, box(shape, DRAWS_SLAB // max(1, row))))


# --- quantiles ---


def _of_draws(draws: xr.DataArray, wanted: np.ndarray, where: Where) -> np.ndarray:
    chosen, *points = where
    out = np.empty([len(w) for w in where])
    for at in _walk(tuple(points), draws.sizes["draw"]):
        out[(slice(None), *at)] = _between_draws(_part(draws, tuple(points), at), wanted[chosen])
    return out


def _between_draws(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(quantiles, *shape) of values (*shape, draws); NaN is no draw."""
    ordered = np.sort(values, axis=-1)  # NaN goes last
    last = np.maximum((~np.isnan(ordered)).sum(axis=-1) - 1, 0)
    out = np.empty((len(wanted), *last.shape))
    for i, q in enumerate(wanted):
        place = q * last
        low = np.floor(place).astype(np.int64)
        a, b = (_take(ordered, k) for k in (low, np.minimum(low + 1, last)))
        out[i] = _between(a, b, place - low)
    return out


def _between(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """From a at t = 0 to b at t = 1, monotone in t; equal ends, infinite ones too, give themselves."""
    step = np.subtract(b, a, out=np.zeros_like(a), where=a != b)
    return np.where(t < 0.5, a + step * t, b - step * (1 - t))


def _take(array: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.take_along_axis(array, place[..., None], axis=-1)[..., 0]


def _of_counts(ds: xr.Dataset, outcome: str, wanted: np.ndarray, where: Where) -> np.ndarray:
    chosen, *points = where
    mean, dim = ds[outcome], f"{outcome}_bin"
    counts = ds[histogram_name(outcome)].transpose(*mean.dims, dim)
    least, greatest = (ds[f"{outcome}_{name}"].transpose(*mean.dims) for name in ("min", "max"))
    edges, out = _edges(counts, outcome), np.empty([len(w) for w in where])
    for at in _walk(tuple(points), counts.sizes[dim]):
        n, low, high = (_part(a, tuple(points), at) for a in (counts, least, greatest))
        out[(slice(None), *at)] = _inside_bins(n, low, high, edges, wanted[chosen])
    return out


def _inside_bins(
    counts: np.ndarray, least: np.ndarray, greatest: np.ndarray, edges: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """(quantiles, *shape) of counts (*shape, bins) of draws between `least` and `greatest` (*shape)."""
    ends = np.clip(edges, least[..., None], greatest[..., None])
    ends[..., 0], ends[..., -1] = least, greatest
    total = np.concatenate([np.zeros((*counts.shape[:-1], 1)), np.cumsum(counts, axis=-1)], axis=-1)
    out = np.empty((len(wanted), *least.shape))
    for i, q in enumerate(wanted):
        target = q * total[..., -1:]
        below = np.where(target > 0, total[..., 1:] < target, total[..., 1:] <= 0).sum(axis=-1)
        k = np.minimum(below, counts.shape[-1] - 1)
        n = np.maximum(_take(counts, k), 1)
        out[i] = _between(_take(ends, k), _take(ends, k + 1), (target[..., 0] - _take(total, k)) / n)
    return out


# --- histograms ---


def _edges(counts: xr.DataArray, outcome: str) -> np.ndarray:
    """The edges (bins + 1,) of a stored histogram."""
    left, right = (counts[f"{outcome}_bin_{side}"].values for side in ("left", "right"))
    return np.append(left, right[-1:])


def _checked(bins: Sequence[float]) -> np.ndarray:
    edges = np.asarray(bins, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise SpecError(f"bins are edges that ascend, at least two, or how many bins; got {bins!r}")
    return edges


def _even(ds: xr.Dataset, outcome: str, count: int) -> np.ndarray:
    """Edges of `count` even bins over all draws; of at most as many bins that hold equally many whole numbers."""
    if count < 1:
        raise SpecError(f"bins must be at least 1, got {count}")
    if draws_name(outcome) not in ds:
        raise SpecError(
            f'the store holds {outcome!r} in bins of its own and no draws; leave bins out, or run with keep = "draws"'
        )
    low, high = _reach(ds, outcome)
    if ds[outcome].attrs["kind"] == "count":
        width = math.ceil((high - low + 1) / count)
        return low - 0.5 + width * np.arange(math.ceil((high - low + 1) / width) + 1.0)
    return np.linspace(low, high, count + 1) if high > low else np.array([low - 0.5, low + 0.5])


def _reach(ds: xr.Dataset, outcome: str) -> tuple[float, float]:
    """The least and the greatest draw of all points."""
    low, high, shape = math.inf, -math.inf, ds[outcome].shape
    for at in boxes(shape, slab(ds[outcome].dims, shape)):
        where = dict(zip(ds[outcome].dims, at, strict=True))
        low = np.fmin(low, np.fmin.reduce(ds[f"{outcome}_min"].isel(where).values, axis=None))
        high = np.fmax(high, np.fmax.reduce(ds[f"{outcome}_max"].isel(where).values, axis=None))
    if not math.isfinite(high - low):
        raise SpecError(f"{outcome!r} has no range to cut into bins, its draws go from {low:g} to {high:g}; give edges")
    return float(low), float(high)


def _counted(draws: xr.DataArray, edges: np.ndarray, where: Where) -> np.ndarray:
    *points, chosen = where
    out = np.empty([len(w) for w in where], dtype=np.int64)
    for at in _walk(tuple(points), draws.sizes["draw"]):
        out[at] = moments.histogram(_part(draws, tuple(points), at), tuple(edges))[..., chosen]
    return out


def _starts(stored: np.ndarray, edges: np.ndarray, outcome: str) -> np.ndarray:
    """At which stored bin every wanted one begins; the first takes all that lies below."""
    if strange := [float(v) for v in edges if v not in stored]:
        raise SpecError(
            f"{outcome!r} is held in bins of its own, of which {strange[0]:g} is no edge; "
            f'choose among its edges, or run with keep = "draws"'
        )
    return np.append(0, np.searchsorted(stored, edges[1:-1]))


def _merged(stored: xr.DataArray, starts: np.ndarray, where: Where) -> np.ndarray:
    *points, chosen = where
    out = np.empty([len(w) for w in where], dtype=np.int64)
    for at in _walk(tuple(points), stored.shape[-1]):
        out[at] = np.add.reduceat(_part(stored, tuple(points), at), starts, axis=-1)[..., chosen]
    return out
