"""What the MLflow runs of a sweep hold, as functions of its store alone: parameters, tags, metrics. No MLflow here.

A *slice* is the part of the grid that one run shows: one value of the axis `track.by` (a child run), or the
whole grid (the parent, where there are no children). Its metrics are, for every outcome `o`, the mean `o`, its
standard error `o_sem`, `o_theory` and `o_z`; an outcome's own dimensions go into the name (`walk.step_3`). They are
stepped along the remaining axes, whose numeric values are metrics too, so that a chart can have them as its
x axis. Where one point remains they are stepped along batches: the running estimate, with `draws` as x axis.
What is not finite is not logged.

Timestamps are the ledger's, so the same store gives the same metrics, whoever logs them and however often.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from storage.layout import lengths, stored_spec
from storage.objects import is_local, local_path
from storage.snapshot import Snapshot
from storage.zarr_store import ZarrStore
from sweeps.blocks import Plan
from sweeps.events import Receipt
from sweeps.intervals import deviation
from sweeps.statistic import Outcome
from sweeps.sweep import Sweep, Value

MAX_CHILDREN = 200
MAX_STEPS = 1000  # of a run
MAX_METRICS = 100_000  # of a sweep: MLflow's SQLite takes about 10^4 a second
MAX_ENTRIES = 16  # of an outcome's own dimensions
MAX_TEXT = 500  # of a parameter: MLflow cuts without a word, older servers at 500
MARKS = 50  # steps of the parent's progress
LEDGER_SAMPLE = 256  # receipts read at either end of the ledger for a run's start and end

SUFFIXES = ("", "_sem", "_theory", "_z")  # of an outcome's metrics, where `open_sweep` has them
Along = list[tuple[str, np.ndarray]]


class Entry(NamedTuple):
    """One value of a metric; `time` in milliseconds since 1970."""

    key: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class Slice:
    """The points at one value of an axis; all points where `axis` is None."""

    axis: str | None = None
    value: Value | None = None

    @property
    def name(self) -> str:
        return "all" if self.axis is None else f"{self.axis}={self.value}"


@dataclass(frozen=True)
class Curve:
    """What a finished slice holds; `steps` says which steps were kept, where not all were."""

    entries: list[Entry]
    start: int
    end: int
    steps: str


WHOLE = Slice()


def children(sweep: Sweep, by: str | None) -> tuple[Slice, ...]:
    """The slices with a run of their own: none without an axis, or if it has more than MAX_CHILDREN values."""
    if by is None or len(sweep.axes[by]) > MAX_CHILDREN:
        return ()
    return tuple(Slice(by, value) for value in sweep.axes[by])


def too_many(sweep: Sweep, by: str | None) -> str:
    """Why there are no children although an axis is named; empty where there is no such reason."""
    if by is None or len(sweep.axes[by]) <= MAX_CHILDREN:
        return ""
    count = f"track.by = {by!r} has {len(sweep.axes[by])} values"
    return f"{count}, over the limit of {MAX_CHILDREN} child runs; the metrics are in the parent run"


def complete(cut: Plan, sweep: Sweep, part: Slice, closed: np.ndarray) -> bool:
    """Whether a slice wants no more blocks; `closed` bool (blocks,) says which are committed or will not be wanted."""
    if part.axis is None:
        return bool(closed.all())
    axis, place = list(sweep.axes).index(part.axis), sweep.axes[part.axis].index(part.value)  # type: ignore[arg-type]
    for index, piece in enumerate(cut.pieces):
        inside = place - piece.origin[axis]
        if 0 <= inside < piece.shape[axis]:
            tiles = cut.grid(closed, index).take(inside // piece.tile[axis], axis=1 + axis)
            if not tiles.all():
                return False
    return True


# --- metrics ------------------------------------------------------------------------------------------------


def curve(store: ZarrStore, held: Snapshot, ds: xr.Dataset, part: Slice, runs: int) -> Curve:
    """The metrics of a complete slice; `held` and `ds` are of the store, `runs` is how many share MAX_METRICS."""
    sweep = store.sweep
    rest = {name: len(values) for name, values in sweep.axes.items() if name != part.axis}
    limit = max(1, min(MAX_STEPS, MAX_METRICS // (runs * _keys(sweep, ds, len(rest)))))
    if math.prod(rest.values()) == 1:
        return _along_batches(store, held, ds, part, limit)
    return _along_grid(store, held, ds, part, rest, limit)


def _keys(sweep: Sweep, ds: xr.Dataset, axes: int) -> int:
    return axes + sum(
        sum(f"{o.name}{suffix}" in ds for suffix in SUFFIXES) * min(MAX_ENTRIES, math.prod(lengths(sweep, o)))
        for o in sweep.definition.outcomes
    )


def _along_grid(
    store: ZarrStore, held: Snapshot, ds: xr.Dataset, part: Slice, rest: dict[str, int], limit: int
) -> Curve:
    """Steps are places on the remaining grid, numeric axes ascending, the last axis fastest."""
    sweep, counts = store.sweep, _thin(list(rest.values()), limit)
    picks = {name: _evenly(n, c) for (name, n), c in zip(rest.items(), counts, strict=True)}
    places = np.meshgrid(*picks.values(), indexing="ij")
    steps = np.ravel_multi_index(places, tuple(rest.values())).ravel()
    fixed = {} if part.axis is None else {part.axis: ds[part.axis].values.tolist().index(part.value)}
    sub = ds.isel({**fixed, **picks})
    along: Along = [
        (name, ds[name].values[place.ravel()].astype(float))
        for name, place in zip(rest, places, strict=True)
        if ds[name].dtype.kind in "ifb"
    ]
    for outcome in sweep.definition.outcomes:
        along += _columns(sweep, ds, outcome, {
            suffix: sub[f"{outcome.name}{suffix}"].values.reshape(len(steps), -1)
            for suffix in SUFFIXES if f"{outcome.name}{suffix}" in ds
        })  # fmt: skip
    at = {name: ds[name].values[place.ravel()].tolist() for name, place in zip(rest, places, strict=True)}
    tiles = _tiles(store, part, at, len(steps))
    last = held.done.reshape(store.plan.batches, -1)[:, tiles].sum(axis=0) - 1
    return _curve(store, along, steps, tiles, last, math.prod(rest.values()))


def _along_batches(store: ZarrStore, held: Snapshot, ds: xr.Dataset, part: Slice, limit: int) -> Curve:
    """Steps are batches: the estimate from the draws up to and with each."""
    sweep = store.sweep
    at = {name: [values[0]] for name, values in sweep.axes.items() if name != part.axis}
    here = {name: part.value if name == part.axis else at[name][0] for name in sweep.axes}
    index = [np.array([values.index(here[name])]) for name, values in sweep.axes.items()]  # type: ignore[arg-type]
    point = ds.isel({name: ds[name].values.tolist().index(value) for name, value in here.items()})
    counted = sum(1 for _ in held.running(sweep.definition.outcomes[0].name, (*index, *_whole(sweep, 0))))
    batches = _evenly(counted, limit)
    along: Along = [("draws", (batches + 1.0) * sweep.draws_per_batch)]
    for number, outcome in enumerate(sweep.definition.outcomes):
        running = list(held.running(outcome.name, (*index, *_whole(sweep, number))))
        kept = [running[batch] for batch in batches]
        columns = {
            "": np.stack([m.mean.ravel() for m in kept]),
            "_sem": np.stack([np.sqrt(m.variance / np.maximum(m.n, 1)).ravel() for m in kept]),
        }
        if f"{outcome.name}_theory" in ds:
            theory = point[f"{outcome.name}_theory"].values.reshape(1, -1)
            columns["_theory"] = np.broadcast_to(theory, columns[""].shape)
        if f"{outcome.name}_z" in ds:
            where = (*index, *_whole(sweep, number))
            exact = held.exact(outcome, where).reshape(1, -1)
            columns["_z"] = np.where(exact, deviation(columns[""], columns["_theory"], columns["_sem"]), np.nan)
        along += _columns(sweep, ds, outcome, columns)
    tiles = np.repeat(_tiles(store, part, at, 1), len(batches))
    return _curve(store, along, batches, tiles, batches, counted)


def _whole(sweep: Sweep, number: int) -> list[np.ndarray]:
    """Every position along an outcome's own dimensions."""
    return [np.arange(n) for n in lengths(sweep, sweep.definition.outcomes[number])]


def _columns(sweep: Sweep, ds: xr.Dataset, outcome: Outcome, values: dict[str, np.ndarray]) -> Along:
    """(key, column) of the entries of an outcome that are kept; `values` are (steps, entries) by suffix."""
    own = lengths(sweep, outcome)
    kept = _evenly(math.prod(own), MAX_ENTRIES)
    places = np.stack(np.unravel_index(kept, own), axis=1) if own else np.empty((1, 0), int)
    names = [".".join(f"{d.name}_{ds[d.name].values[i]}" for d, i in zip(outcome.dims, p, strict=True)) for p in places]
    return [
        (f"{outcome.name}{suffix}.{name}".removesuffix("."), array[:, entry])
        for entry, name in zip(kept, names, strict=True)
        for suffix, array in values.items()
    ]


def _curve(
    store: ZarrStore, along: Along, steps: np.ndarray, tiles: np.ndarray, batch: np.ndarray, whole: int
) -> Curve:
    last, first = store.receipts_of(batch * store.plan.tiles + tiles), store.receipts_of(tiles)
    times = [r.finished // 10**6 for r in last]
    entries = [
        Entry(key, float(value), time, int(step))
        for key, values in along
        for value, time, step in zip(values, times, steps, strict=True)
        if math.isfinite(value)
    ]
    kept = "" if len(steps) == whole else f"{len(steps)} of {whole}, evenly spaced"
    return Curve(entries, min(map(_began, first)), max(times), kept)


# --- ledger -------------------------------------------------------------------------------------------------


def progress(store: ZarrStore, done: np.ndarray) -> list[Entry]:
    """How far the sweep got: at most MARKS blocks, evenly spaced in the plan, each when it was committed."""
    blocks = len(store.plan)
    marks = [i for i in _evenly(blocks + 1, MARKS + 1)[1:] - 1 if done[i]]
    return [
        Entry("progress", (i + 1) / blocks, receipt.finished // 10**6, int(i) + 1)
        for i, receipt in zip(marks, store.receipts_of(np.array(marks, dtype=np.int64)), strict=True)
    ]


def span(store: ZarrStore, done: np.ndarray) -> tuple[int, int] | None:
    """When measuring began and ended, in milliseconds, by the first and last committed blocks."""
    committed = [int(i) for i in np.flatnonzero(done)]
    if not committed:
        return None
    first, last = (
        store.receipts_of(np.array(some)) for some in (committed[:LEDGER_SAMPLE], committed[-LEDGER_SAMPLE:])
    )
    return min(map(_began, first)), max(r.finished // 10**6 for r in last)


def _began(receipt: Receipt) -> int:
    return (receipt.finished - round(1e9 * (receipt.seconds + receipt.writing))) // 10**6


def _tiles(store: ZarrStore, part: Slice, at: dict[str, list], count: int) -> np.ndarray:
    """Numbers (count,) of the tiles of the points of a slice whose other axes have the values `at`."""
    columns = []
    for name, values in store.sweep.axes.items():
        place = {value: i for i, value in enumerate(values)}
        here = [part.value] * count if name == part.axis else at[name]
        columns.append(np.array([place[v] for v in here]))  # type: ignore[index]
    return store.plan.tiles_of(np.stack(columns, axis=1))


# --- words --------------------------------------------------------------------------------------------------


def parameters(sweep: Sweep, part: Slice) -> dict[str, str]:
    """The same keys for every run of a sweep; an axis that is not cut is described."""
    own = {
        "statistic": sweep.statistic,
        "seed": sweep.seed,
        "draws": sweep.draws,
        "draws_per_batch": sweep.draws_per_batch,
        "precision": sweep.precision,
    }
    axes = {k: part.value if k == part.axis else _in_words(v) for k, v in sweep.axes.items()}
    named = {**sweep.fixed, **axes}
    own = {f"sweep_{k}" if k in named else k: v for k, v in own.items()}
    return {k: _short(str(v)) for k, v in {**own, **named}.items()}


def tags(store: ZarrStore, part: Slice) -> dict[str, str]:
    """What tells a run apart and finds it again; counts and commit are the parent's own."""
    return {
        "sweeps.fingerprint": store.sweep.fingerprint,
        "sweeps.store": public(store.url),
        "sweeps.statistic": store.sweep.statistic,
        "sweeps.slice": part.name,
    }


def spec(store: ZarrStore) -> dict[str, Any]:
    """The spec as plain data, with the store it is in and without secrets."""
    return {**stored_spec(store.sweep), "store": {"url": public(store.url)}}


def environment(store: ZarrStore) -> dict[str, Any]:
    """What made the store: versions, git commit, and the rule of randomness."""
    found = store.attributes
    return {key: found[key] for key in ("versions", "made_by", "rule", "layout") if key in found}


def note(store: ZarrStore) -> str:
    """A description of the sweep for the run's page, in Markdown."""
    definition, sweep = store.sweep.definition, store.sweep
    axes = "".join(f"- `{name}`: {_in_words(values)}\n" for name, values in sweep.axes.items())
    outcomes = "".join(f"- `{o.name}`: {o.long_name}\n" for o in definition.outcomes)
    return (
        f"**{sweep.statistic}**: {definition.summary} ({definition.source})\n\n{axes}\n"
        f"Measured:\n\n{outcomes}\n"
        f"The numbers are in `{public(store.url)}`; these runs are rebuilt from it by `sweeps track`.\n"
    )


def public(url: str) -> str:
    """Where a store is, absolute and without secrets."""
    return local_path(url) if is_local(url) else re.sub(r"[?#].*", "", re.sub(r"(?<=://)[^/?#]*@", "", url))


def _in_words(values: Sequence[Value]) -> str:
    if len(values) == 1:
        return str(values[0])
    if isinstance(values[0], str | bool):
        return _short(", ".join(map(str, values)))
    return f"{len(values)} values from {values[0]} to {values[-1]}"


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 40]} ... ({len(text)} characters)"


def _evenly(n: int, most: int) -> np.ndarray:
    """At most `most` positions out of `n`, evenly spaced, the ends included."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int))


def _thin(counts: list[int], limit: int) -> list[int]:
    """Counts along the axes with a product of at most `limit`, the longest halved first."""
    while math.prod(counts) > limit:
        longest = max(range(len(counts)), key=lambda i: counts[i])
        others = math.prod(counts) // counts[longest]
        counts[longest] = max(limit // others, (counts[longest] + 1) // 2)
    return counts
