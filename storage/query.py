"""open_sweep(url): a store as one lazy xarray Dataset, what was measured beside what theory says.

Opening reads the spec and lists the commit marks; moments are read when values are asked for, and only the
chunks that the selection touches. See `storage.snapshot` for what counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from storage.layout import bin_edges, coordinates, draws_name, histogram_name, lengths
from storage.snapshot import Snapshot, Where
from storage.zarr_store import ZarrStore
from sweeps.errors import SpecError, unknown
from sweeps.intervals import deviation, interval, sem
from sweeps.moments import Moments
from sweeps.statistic import Outcome
from sweeps.stopping import tuned_to
from sweeps.sweep import Sweep

COLUMNS = {"mean": "", "ci_low": "_ci_low", "ci_high": "_ci_high", "draws": "_n", "theory": "_theory", "z": "_z"}


def open_sweep(url: str, confidence: float | None = None) -> xr.Dataset:
    """A store as a Dataset: lazy, and a snapshot; open a running sweep again to see more of it.

    For every outcome `o`, over the axes and its own dimensions: `o` (the mean), `o_std`, `o_sem`, `o_ci_low`,
    `o_ci_high`, `o_n`, `o_undefined`, `o_min`, `o_max`; `o_theory` where the statistic has one, computed for
    the selected points only; `o_z` of outcomes whose theory is exact somewhere, which is (mean - theory) / sem there
    and else NaN (`sweeps.intervals.deviation`); `o_histogram` (*axes, *dims, o_bin) where bins are declared. What too
    few draws cannot give is NaN. An interval holds its mean with probability `confidence`, each point by itself: Wilson
    for proportions, t for the others, or anytime-valid where the sweep asks for that; by default with the
    confidence of its `until`, else 0.95. Numeric axes ascend.

    A sweep with `until` also has `converged` (*axes), and one that keeps draws `o_draws` (*axes, *dims, draw).

    Raises:
        StoreError: no store there, or it is not ours.
        SpecError: confidence is not between 0 and 1.
    """
    if confidence is not None and not 0 < confidence < 1:
        raise SpecError(f"confidence must lie between 0 and 1, got {confidence!r}")
    snapshot = Snapshot(ZarrStore.open(url))
    sweep, variables = snapshot.sweep, {}
    confidence = confidence or (sweep.until.confidence if sweep.until else 0.95)
    theories, exact = snapshot.theory_names(), snapshot.exact_names()
    for outcome in sweep.definition.outcomes:
        variables |= _quantities(snapshot, outcome, confidence)
        if outcome.name in theories:
            variables[f"{outcome.name}_theory"] = _theory(snapshot, outcome)
        if outcome.name in theories & exact:
            variables[f"{outcome.name}_z"] = _z(snapshot, outcome)
        if outcome.bins is not None:
            variables[histogram_name(outcome.name)] = _histogram(snapshot, outcome, outcome.bins)
        if sweep.keep == "draws":
            variables[draws_name(outcome.name)] = _draws(snapshot, outcome)
    if sweep.until is not None:
        attributes = {"long_name": f"interval of {sweep.until.outcome} as narrow as asked for", "units": "1"}
        variables["converged"] = _variable(tuple(sweep.axes), sweep.shape, "bool", snapshot.narrow, **attributes)
    ds = xr.Dataset(variables, _coordinates(sweep), _attributes(snapshot, confidence))
    return _ascending(ds, sweep)


QUANTITIES: dict[str, tuple[str, str, Callable[[Moments, str, float, int], np.ndarray]]] = {
    "": ("{}", "float64", lambda m, *_: m.mean),
    "std": ("standard deviation of {}", "float64", lambda m, *_: np.sqrt(m.variance)),
    "sem": ("standard error of the mean of {}", "float64", lambda m, *_: sem(m)),
    "ci_low": ("{}, low end", "float64", lambda *how: interval(*how)[0]),
    "ci_high": ("{}, high end", "float64", lambda *how: interval(*how)[1]),
    "n": ("draws that define {}", "int64", lambda m, *_: m.n),
    "undefined": ("draws that leave undefined {}", "int64", lambda m, *_: m.undefined),
    "min": ("least {}", "float64", lambda m, *_: m.min),
    "max": ("greatest {}", "float64", lambda m, *_: m.max),
}
"""suffix -> (long_name, dtype, value from (moments, kind, confidence, anytime))"""


# --- the Dataset ---


@dataclass(eq=False)
class Lazy(BackendArray):
    """An array known by `read(where) -> values`, for xarray to index lazily."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Where], np.ndarray]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._outer)

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        where = tuple(np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True))
        out = np.zeros([len(w) for w in where], dtype=self.dtype)
        if out.size:
            out[...] = self.read(where)  # a copy: what is cached stays as it is
        return out[tuple(0 if np.ndim(k) == 0 and not isinstance(k, slice) else slice(None) for k in key)]


def _variable(dims: tuple[str, ...], shape: tuple[int, ...], dtype: str, read: Any, **attributes: Any) -> xr.Variable:
    array = Lazy(shape, np.dtype(dtype), read)
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), attributes)


def _quantities(snapshot: Snapshot, outcome: Outcome, confidence: float) -> dict[str, xr.Variable]:
    found = {}
    for suffix, (text, dtype, _) in QUANTITIES.items():
        attributes = {
            "long_name": text.format(outcome.long_name),
            "units": "1" if dtype == "int64" else outcome.units,
        }
        if not suffix:
            attributes["kind"] = outcome.kind
        if suffix.startswith("ci"):
            way = "anytime" if _anytime(snapshot, outcome) else "Wilson" if outcome.kind == "proportion" else "t"
            attributes["long_name"] += f" of the {100 * confidence:.6g}% {way} interval of the mean"
        read = partial(_derive, snapshot, outcome, suffix, confidence)
        name = f"{outcome.name}_{suffix}".removesuffix("_")
        found[name] = _variable(*_frame(snapshot.sweep, outcome), dtype, read, **attributes)
    return found


def _derive(snapshot: Snapshot, outcome: Outcome, suffix: str, confidence: float, where: Where) -> np.ndarray:
    moments = snapshot.moments(outcome.name, where)
    return QUANTITIES[suffix][2](moments, outcome.kind, confidence, _anytime(snapshot, outcome))


def _anytime(snapshot: Snapshot, outcome: Outcome) -> int:
    """The draws that an outcome's anytime-valid interval is tuned to; 0 where the sweep asks for none."""
    until = snapshot.sweep.until
    return tuned_to(until, outcome.kind) if until else 0


def _theory(snapshot: Snapshot, outcome: Outcome) -> xr.Variable:
    note = snapshot.sweep.definition.theory_note
    attributes = {"long_name": f"{outcome.long_name}, theory", "units": outcome.units, "theory_note": note}
    read = partial(snapshot.theory, outcome)
    return _variable(*_frame(snapshot.sweep, outcome), "float64", read, **attributes)


def _z(snapshot: Snapshot, outcome: Outcome) -> xr.Variable:
    attributes = {
        "long_name": f"{outcome.long_name}, standard errors above exact theory",
        "units": "1",
        "comment": "(mean - theory) / sem; NaN where theory is no exact mean, or where draws that are all equal differ "
        "from it; 0 where they are equal to it",
    }
    return _variable(*_frame(snapshot.sweep, outcome), "float64", partial(_deviation, snapshot, outcome), **attributes)


def _deviation(snapshot: Snapshot, outcome: Outcome, where: Where) -> np.ndarray:
    moments = snapshot.moments(outcome.name, where)
    z = deviation(moments.mean, snapshot.theory(outcome, where), sem(moments))
    return np.where(snapshot.exact(outcome, where), z, np.nan)


def _histogram(snapshot: Snapshot, outcome: Outcome, bins: tuple[float, ...]) -> xr.Variable:
    dims, shape = _frame(snapshot.sweep, outcome)
    read = partial(snapshot.counts, outcome.name)
    attributes = {"long_name": f"draws by {outcome.long_name}", "units": "1"}
    return _variable((*dims, f"{outcome.name}_bin"), (*shape, len(bins) - 1), "int64", read, **attributes)


def _draws(snapshot: Snapshot, outcome: Outcome) -> xr.Variable:
    dims, shape = _frame(snapshot.sweep, outcome)
    read = partial(snapshot.draws, outcome.name)
    attributes = {"long_name": f"draws of {outcome.long_name}", "units": outcome.units}
    return _variable((*dims, "draw"), (*shape, snapshot.sweep.draws), "float64", read, **attributes)


def _frame(sweep: Sweep, outcome: Outcome) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(dims, shape) of an outcome's variables."""
    return (*sweep.axes, *(d.name for d in outcome.dims)), (*sweep.shape, *lengths(sweep, outcome))


def _coordinates(sweep: Sweep) -> dict[str, xr.Variable]:
    arrays = (a for a in coordinates(sweep) if a.name != "moment")
    edges = (a for o in sweep.definition.outcomes if o.bins is not None for a in bin_edges(o, o.bins))
    return {a.name: xr.Variable(a.dims, a.values, dict(a.attributes)) for a in (*arrays, *edges)}


def _attributes(snapshot: Snapshot, confidence: float) -> dict[str, Any]:
    sweep = snapshot.sweep
    return {
        "title": sweep.name,
        "statistic": sweep.statistic,
        "source": sweep.definition.source,
        "theory_note": f"left out: {snapshot.without_theory}"
        if snapshot.without_theory
        else sweep.definition.theory_note,
        "fingerprint": sweep.fingerprint,
        "draws": sweep.draws,
        "committed_blocks": int(snapshot.done.sum()),
        "blocks": len(snapshot.plan),
        "confidence": confidence,
        "fixed": json.dumps(sweep.fixed),
    }


def _ascending(ds: xr.Dataset, sweep: Sweep) -> xr.Dataset:
    orders = {}
    for name, values in sweep.axes.items():
        array = np.asarray(values)
        if array.dtype.kind in "if" and np.any(np.diff(array) < 0):
            orders[name] = np.argsort(array)
    return ds.isel(orders) if orders else ds


# --- slicing for the command line ---


def select(ds: xr.Dataset, wanted: Iterable[str]) -> xr.Dataset:
    """The part of a sweep that `axis=value` texts name; `axis=value,value` keeps several values. Lazy.

    Numbers match to 9 digits, truth values are written true and false.

    Raises:
        UnknownNameError: no such axis, or no such name along it.
        SpecError: a text is not of that form, an axis comes twice, or a number is not on its axis.
    """
    positions: dict[str, Any] = {}
    axes = [str(d) for d in ds.dims if d in ds.coords]
    for text in wanted:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value:
            raise SpecError(f"a selection reads axis=value, got {text!r}; axes: {', '.join(axes)}")
        if name not in axes:
            raise unknown("axis", name, axes)
        if name in positions:
            raise SpecError(f"axis {name!r} is selected twice; give all its values at once: {name}=a,b")
        positions[name] = _positions(ds[name], value)
    return ds.isel(positions)


def _positions(axis: xr.DataArray, text: str) -> int | list[int]:
    known = axis.values
    if text in known.astype(str):  # a name may hold a comma
        return int(np.flatnonzero(known.astype(str) == text)[0])
    found = [_position(str(axis.name), known, part.strip()) for part in text.split(",")]
    return list(dict.fromkeys(found)) if len(found) > 1 else found[0]


def _position(name: str, known: np.ndarray, text: str) -> int:
    if known.dtype.kind not in "if":
        names = [str(v).lower() if known.dtype.kind == "b" else str(v) for v in known]
        if text not in names:
            raise unknown(f"value of axis {name!r}", text, names)
        return names.index(text)
    try:
        value = float(text)
    except ValueError:
        raise SpecError(f"axis {name!r} takes numbers, got {text!r}; nearest known: {_some(known)}") from None
    near = np.argsort(np.abs(known - value), kind="stable")
    if len(near) and np.isclose(known[near[0]], value, rtol=1e-9, atol=1e-300):
        return int(near[0])
    raise SpecError(f"axis {name!r} has no value {text}; nearest known: {_some(np.sort(known[near[:4]]))}")


def _some(values: np.ndarray) -> str:
    shown = ", ".join(f"{v:.10g}" for v in values[:8])
    return shown + (f", ... {values[-1]:.10g}" if len(values) > 8 else "")


def table(ds: xr.Dataset, select: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The numbers as rows, outcome by outcome: axes and dims, `outcome`, then `COLUMNS`; plain Python values.

    `select` maps axes to values, as `ds.sel` takes it. An outcome has a row for every point and every place
    along its own dims, and no key for the dims of others; `theory` and `z` are None where there is none.
    """
    chosen = ds.sel(dict(select or {}))
    return [row for name in outcomes(ds) for row in _rows(chosen, name)]


def outcomes(ds: xr.Dataset) -> list[str]:
    """Names of the outcomes in a Dataset of `open_sweep`, in the statistic's order."""
    return [str(name) for name, variable in ds.data_vars.items() if "kind" in variable.attrs]


def _rows(ds: xr.Dataset, outcome: str) -> list[dict[str, Any]]:
    names = [outcome + suffix for suffix in COLUMNS.values()]
    columns = [ds[n].values.ravel().tolist() if n in ds else [None] * ds[outcome].size for n in names]
    dims = ds[outcome].dims
    scalars = {str(k): v.item() for k, v in ds[outcome].coords.items() if v.ndim == 0}
    places = np.ndindex(*ds[outcome].shape)
    coordinates = {str(d): ds[d].values.tolist() for d in dims}
    return [
        scalars
        | {d: v[i] for (d, v), i in zip(coordinates.items(), place, strict=True)}
        | {"outcome": outcome}
        | dict(zip(COLUMNS, values, strict=True))
        for place, *values in zip(places, *columns, strict=True)
    ]
