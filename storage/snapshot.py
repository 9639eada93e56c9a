"""What a store holds at one moment: moments and counts merged over batches, and the theory of its points.

Only the chunks that a selection touches are read, and they count only where a commit mark was found when the
snapshot was taken: a chunk without a mark does not exist, and values never change under a reader. Batches are
merged in batch order, in float64.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from threading import Lock
from typing import Any, cast

import numpy as np
import zarr

from storage.layout import histogram_name, lengths
from storage.objects import Chunks, connect
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import StoreError
from sweeps.moments import FIELDS, Moments
from sweeps.statistic import Outcome, Points
from sweeps.sweep import Sweep

CACHE_BYTES = 2**28
NOTHING = np.array([{"n": 0.0, "undefined": 0.0, "m2": 0.0}.get(f, np.nan) for f in FIELDS])

Where = tuple[np.ndarray, ...]  # positions along every dimension of a variable


class Snapshot:
    """The blocks of a store committed at one moment, and the theory of its points; read on demand. Picklable.

    `done` (batches, *tiles) holds the marks. What was read last is kept, up to CACHE_BYTES, so that the
    quantities of one selection read the store once.
    """

    def __init__(self, url: str, sweep: Sweep, done: np.ndarray) -> None:
        self.url, self.sweep, self.done = url, sweep, done
        self.cut = plan(sweep)
        self._cache, self._lock = OrderedDict[Hashable, Any](), Lock()

    @classmethod
    def of(cls, store: ZarrStore, done: np.ndarray | None = None) -> Snapshot:
        """What is committed now; or, with `done` bool (blocks,), what was known to be."""
        return cls(store.url, store.sweep, plan(store.sweep).grid(store.done() if done is None else done))

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self.url, self.sweep, self.done)

    @cached_property
    def _group(self) -> zarr.Group:
        store = Chunks(connect(self.url), read_only=True)
        return zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True)

    def moments(self, outcome: str, where: Where) -> Moments:
        """Moments over all committed draws, at the positions `where` along (*axes, *dims)."""
        return self._cached((outcome, *(w.tobytes() for w in where)), lambda: self._merged(outcome, where))

    def running(self, outcome: str, where: Where) -> Iterator[Moments]:
        """Moments over the committed draws up to and with each batch, in order; batches without any are skipped."""
        return (Moments.unstack(total.copy()) for total in islice(self._merge(outcome, where), 1, None))

    def counts(self, outcome: str, where: Where) -> np.ndarray:
        """Histogram int64 over all committed draws, at the positions `where` along (*axes, *dims, bin)."""
        total = np.zeros([len(w) for w in where], dtype=np.int64)
        for box, array, committed in self._batches(histogram_name(outcome), where):
            total[box] += np.where(committed, array, 0)
        return total

    def _merged(self, outcome: str, where: Where) -> Moments:
        *_, total = self._merge(outcome, where)
        return Moments.unstack(total)

    def _merge(self, outcome: str, where: Where) -> Iterator[np.ndarray]:
        """Stacked moments of nothing, then after each batch; one array, that the next batch goes into."""
        total = np.tile(NOTHING, (*(len(w) for w in where), 1))
        yield total
        for box, array, committed in self._batches(outcome, (*where, np.arange(len(FIELDS)))):
            batch = Moments.unstack(np.where(committed, array, NOTHING))
            total[box] = Moments.unstack(total[box]).merge(batch).stack()
            yield total

    def _batches(self, name: str, where: Where) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
        """Batch by batch, in order: (place in the selection, what is stored there, whether it is committed).

        The place is the least box that holds the committed tiles of the selection; empty batches are skipped.
        """
        if not all(map(len, where)):
            return
        axes = len(self.sweep.shape)
        tiles = [w // t for w, t in zip(where, self.cut.tile, strict=False)]
        for batch, done in enumerate(self.done):
            box = _box(done, tiles)
            if box is None:
                continue
            inside = [w[b] for w, b in zip(where, box, strict=False)]
            at = (*map(_slice, inside), slice(batch, batch + 1), *map(_slice, where[axes:]))
            array = np.squeeze(np.asarray(cast(Any, self._group[name]).oindex[at]), axis=axes)
            committed = done[np.ix_(*(t[b] for t, b in zip(tiles, box, strict=True)))]
            committed = committed.reshape(*committed.shape, *[1] * (array.ndim - axes))
            self._check(name, batch, array, committed)
            yield np.ix_(*box), array, committed

    def _check(self, name: str, batch: int, array: np.ndarray, committed: np.ndarray) -> None:
        """A committed chunk that is not there reads as its fill value, which no written number equals."""
        absent = array < 0 if array.dtype.kind == "i" else np.isnan(array[..., :1])
        if np.any(absent & committed):
            raise StoreError(f"{self.url}: {name} lacks a committed chunk of batch {batch}; it was removed")

    def theory_names(self) -> frozenset[str]:
        """Outcomes that the statistic's theory speaks of; asks it about the first point."""
        first = tuple(np.zeros(1, dtype=np.intp) for _ in self.sweep.shape)
        return frozenset(self._theories(first))

    def theory(self, outcome: Outcome, where: Where) -> np.ndarray:
        """What theory predicts, at the positions `where` along (*axes, *dims)."""
        axes = len(self.sweep.shape)
        here = where[:axes]
        found = self._cached((None, *(w.tobytes() for w in here)), lambda: self._theories(here))
        whole = (*(len(w) for w in here), *lengths(self.sweep, outcome))
        values = np.broadcast_to(found.get(outcome.name, np.float64(np.nan)), whole)
        return values[(..., *np.ix_(*where[axes:]))] if where[axes:] else values

    def _theories(self, where: Where) -> dict[str, np.ndarray]:
        """{outcome: (*axes selected, *dims)}, asked for in runs that share the shape-fixing parameters."""
        statistic, axes = self.sweep.definition, self.sweep.axes
        if statistic.theory is None or not all(map(len, where)):
            return {}
        found: dict[str, np.ndarray] = {}
        bound = [i for i, name in enumerate(axes) if name in statistic.shape]
        for corner in np.ndindex(*(len(where[i]) for i in bound)):
            place = _pinned(len(where), bound, corner)
            here = [w[p] for w, p in zip(where, place, strict=True)]
            for name, values in statistic.theory(points_at(self.sweep, tuple(here))).items():
                values = np.asarray(values, dtype=np.float64)
                own = values.shape[1:]
                out = found.setdefault(name, np.full((*(len(w) for w in where), *own), np.nan))
                out[tuple(place)] = values.reshape(*(len(w) for w in here), *own)
        return found

    def _cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        value = make()
        with self._lock:
            self._cache[key] = value
            while len(self._cache) > 1 and sum(map(_bytes, self._cache.values())) > CACHE_BYTES:
                self._cache.popitem(last=False)
            if _bytes(value) > CACHE_BYTES:
                self._cache.clear()
        return value


def points_at(sweep: Sweep, where: Where) -> Points:
    """The points at the positions `where` along the axes, row-major; one along each shape-fixing axis."""
    statistic = sweep.definition
    grids = np.meshgrid(*where, indexing="ij")
    shared, varying = dict(sweep.fixed), {}
    for (name, values), grid in zip(sweep.axes.items(), grids, strict=True):
        if name in statistic.shape:
            shared[name] = values[int(grid.flat[0])]
        else:
            varying[name] = np.asarray(values)[grid.ravel()]
    return Points(shared, varying, grids[0].size)


def _pinned(axes: int, bound: Sequence[int], corner: Sequence[int]) -> list[slice]:
    """An index of as many axes: one place along those that are bound, everything along the others."""
    place = [slice(None)] * axes
    for axis, i in zip(bound, corner, strict=True):
        place[axis] = slice(i, i + 1)
    return place


def _box(done: np.ndarray, tiles: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """Positions, along every axis, of the least box of a selection that holds what is done, or None."""
    used = [np.unique(t) for t in tiles]
    here = done[np.ix_(*used)]
    if not here.any():
        return None
    others = [tuple(b for b in range(here.ndim) if b != a) for a in range(here.ndim)]
    alive = [u[here.any(axis=o)] for u, o in zip(used, others, strict=True)]
    return [np.flatnonzero(np.isin(t, a)) for t, a in zip(tiles, alive, strict=True)]


def _slice(positions: np.ndarray) -> Any:
    """The same positions as a slice where they are a run: Zarr reads it faster."""
    run = np.all(np.diff(positions) == 1)
    return slice(int(positions[0]), int(positions[-1]) + 1) if run else positions


def _bytes(value: Moments | dict[str, np.ndarray]) -> int:
    arrays = value.values() if isinstance(value, dict) else vars(value).values()
    return sum(a.nbytes for a in arrays)
