"""What a store holds at one moment: moments, counts and draws over batches, and the theory of its points.

Only the chunks that a selection touches are read, and they count only where a commit mark was found when the
snapshot was taken: a chunk without a mark does not exist, and values never change under a reader. Batches are
merged in batch order, in float64. With `until`, a point counts the batches up to its own stop, which its rule
gives from those very batches; what its tile got beyond that does not count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice, product
from threading import Lock
from typing import Any

import numpy as np

from storage.layout import draws_name, histogram_name, lengths
from storage.zarr_store import ZarrStore
from sweeps.agenda import Looks
from sweeps.blocks import Block
from sweeps.errors import LostFileError, StoreError
from sweeps.moments import FIELDS, Moments
from sweeps.statistic import Outcome, Points
from sweeps.sweep import Sweep

CACHE_BYTES = 2**28
NEVER = -1
NOTHING = np.array([{"n": 0.0, "undefined": 0.0, "m2": 0.0}.get(f, np.nan) for f in FIELDS])

Where = tuple[np.ndarray, ...]  # positions along every dimension of a variable
Read = tuple[Any, np.ndarray, np.ndarray]  # place in the selection, what is stored there, which of it counts


class Snapshot:
    """The blocks of a store committed at one moment, and the theory of its points; read on demand. Picklable.

    `done` bool (blocks,) holds the marks. What was read last is kept, up to CACHE_BYTES, so that the quantities of
    one selection read the store once.
    """

    def __init__(self, store: ZarrStore, done: np.ndarray | None = None) -> None:
        """What is committed now; or, with `done`, what was known to be."""
        self.store, self.sweep, self.plan = store, store.sweep, store.plan
        self.done = store.done() if done is None else done
        self._marks = [self.plan.grid(self.done, i) for i in range(len(self.plan.pieces))]
        self.without_theory = ""  # or why
        self._cache, self._lock = OrderedDict[Hashable, Any](), Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self.store, self.done)

    def moments(self, outcome: str, where: Where) -> Moments:
        """Moments over all draws that count, at the positions `where` along (*axes, *dims)."""
        return self._cached((outcome, *(w.tobytes() for w in where)), lambda: self._merged(outcome, where))

    def running(self, outcome: str, where: Where) -> Iterator[Moments]:
        """Moments over the draws up to and with each batch, in order; batches without any are skipped."""
        return (Moments.unstack(total.copy()) for total in islice(self._merge(outcome, where), 1, None))

    def counts(self, outcome: str, where: Where) -> np.ndarray:
        """Histogram int64 over all draws that count, at the positions `where` along (*axes, *dims, bin)."""
        total = np.zeros([len(w) for w in where], dtype=np.int64)
        for batch, counted in self._counted(where):
            for box, array, here in self._read(histogram_name(outcome), batch, where, counted):
                total[box] += np.where(here, array, 0)
        return total

    def draws(self, outcome: str, where: Where) -> np.ndarray:
        """Draws at the positions `where` along (*axes, *dims, draw); NaN where there is none that counts."""
        *points, wanted = where
        out, size = np.full([len(w) for w in where], np.nan), self.sweep.draws_per_batch
        for batch, counted in self._counted(where):
            here = np.flatnonzero(wanted // size == batch)
            if len(here) == 0:
                continue
            inside = (*points, wanted[here] - batch * size)
            for box, array, mask in self._read(draws_name(outcome), batch, inside, counted):
                found = out[..., here]
                found[box] = np.where(mask, array, np.nan)
                out[..., here] = found
        return out

    def narrow(self, where: Where) -> np.ndarray:
        """Which points (*axes) have stopped with an interval as narrow as `until` asks for."""
        return self._stops(where)[1]

    def _merged(self, outcome: str, where: Where) -> Moments:
        *_, total = self._merge(outcome, where)
        return Moments.unstack(total)

    def _merge(self, outcome: str, where: Where) -> Iterator[np.ndarray]:
        """Stacked moments of nothing, then after each batch; one array, that the next batch goes into."""
        total = np.tile(NOTHING, (*(len(w) for w in where), 1))
        yield total
        for batch, counted in self._counted(where):
            self._add(total, outcome, batch, where, counted)
            yield total

    def _add(self, total: np.ndarray, outcome: str, batch: int, where: Where, counted: np.ndarray) -> None:
        for box, array, here in self._read(outcome, batch, (*where, np.arange(len(FIELDS))), counted):
            new = Moments.unstack(np.where(here, array, NOTHING))
            total[box] = Moments.unstack(total[box]).merge(new).stack()

    # --- which batches count ---

    def _counted(self, where: Where) -> Iterator[tuple[int, np.ndarray]]:
        """Batch by batch, in order: which of the selected points count it, bool (*axes selected); none: left out."""
        here = where[: len(self.sweep.shape)]
        stops = None if self.sweep.until is None else self._stops(here)[0]
        for batch, committed in self._committed(here):
            counted = committed if stops is None else committed & (batch < stops)
            if counted.any():
                yield batch, counted

    def _committed(self, here: Where) -> Iterator[tuple[int, np.ndarray]]:
        if not all(map(len, here)):
            return
        inside = list(self._inside(here))
        for batch in map(int, np.flatnonzero(self.done.reshape(self.plan.batches, -1).any(axis=1))):
            out = np.zeros([len(w) for w in here], dtype=bool)
            for piece, rows in inside:
                box = self.plan.pieces[piece]
                tiles = [(w[r] - o) // t for w, r, o, t in zip(here, rows, box.origin, box.tile, strict=True)]
                out[np.ix_(*rows)] = self._marks[piece][batch][np.ix_(*tiles)]
            if out.any():
                yield batch, out

    def _inside(self, here: Where) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The pieces that a selection touches, and which of the selected positions lie in them."""
        for index, piece in enumerate(self.plan.pieces):
            rows = [
                np.flatnonzero((w >= o) & (w < o + n)) for w, o, n in zip(here, piece.origin, piece.shape, strict=True)
            ]
            if all(map(len, rows)):
                yield index, rows

    def _stops(self, here: Where) -> tuple[np.ndarray, np.ndarray]:
        """How many batches count at each selected point, and whether its interval is narrow by then: (*axes)."""
        return self._cached(("stops", *(w.tobytes() for w in here)), lambda: self._replay(here))

    def _replay(self, here: Where) -> tuple[np.ndarray, np.ndarray]:
        """What the agenda decided, from what is stored; a point that lacks a batch is not judged beyond it."""
        assert self.sweep.until is not None
        name, shape = self.sweep.until.outcome, [len(w) for w in here]
        own = lengths(self.sweep, self.sweep.definition.outcome(name))
        where, looks = (*here, *map(np.arange, own)), Looks(self.sweep, int(np.prod(shape)))
        total, stops = np.tile(NOTHING, (*shape, *own, 1)), np.zeros(looks.open.shape, dtype=np.int64)
        for number, (batch, committed) in enumerate(self._committed(here)):
            counting = looks.open & (stops == number) & committed.ravel() & (batch == number)
            looks.at[~counting] = NEVER
            if not counting.any():
                break
            self._add(total, name, batch, where, counting.reshape(shape))
            stops += counting
            looks.see(number + 1, Moments.unstack(total.reshape(-1, *own, len(FIELDS))))
        narrow = looks.narrow(Moments.unstack(total.reshape(-1, *own, len(FIELDS)))) & ~looks.open
        return stops.reshape(shape), narrow.reshape(shape)

    # --- reading ---

    def _read(self, name: str, batch: int, where: Where, counted: np.ndarray) -> Iterator[Read]:
        """One batch at `where` along (*axes, *others), piece by piece: the least box that holds what counts."""
        axes = counted.ndim
        for piece, rows in self._inside(where[:axes]):
            mask = counted[np.ix_(*rows)]
            if not mask.any():
                continue
            alive = [np.flatnonzero(mask.any(axis=tuple(b for b in range(axes) if b != a))) for a in range(axes)]
            box, origin = [r[a] for r, a in zip(rows, alive, strict=True)], self.plan.pieces[piece].origin
            inside = [w[b] - o for w, b, o in zip(where, box, origin, strict=False)]
            at = (*map(_slice, inside), slice(batch, batch + 1), *map(_slice, where[axes:]))
            stored = self.store.array(piece, name)
            try:
                array = np.squeeze(np.asarray(stored.oindex[at]), axis=axes)
            except StoreError:
                raise
            except Exception as error:
                raise self.store.unread(name, self._blocks(piece, batch, inside), error) from None
            here = mask[np.ix_(*alive)]
            here = here.reshape(*here.shape, *[1] * (array.ndim - axes))
            absent = _absent(stored.fill_value, array) & here
            if absent.any():
                first = [i[at] for i, at in zip(inside, np.argwhere(absent)[0], strict=False)]
                raise self.store.lost(name, next(self._blocks(piece, batch, first)), "it was removed")
            yield np.ix_(*box), array, here

    def _blocks(self, piece: int, batch: int, inside: Sequence[np.ndarray]) -> Iterator[Block]:
        """The blocks of a batch that the positions `inside` a piece touch."""
        tiles = [np.unique(i // t) for i, t in zip(inside, self.plan.pieces[piece].tile, strict=True)]
        for tile in product(*tiles):
            yield self.plan[self.plan.index_of(piece, tuple(map(int, tile)), batch)]

    # --- theory ---

    def theory_names(self) -> frozenset[str]:
        """Outcomes that the statistic's theory speaks of; asks it about the first point."""
        return frozenset(self._known("theory", self._first))

    def exact_names(self) -> frozenset[str]:
        """Outcomes that it is said to be exact for, somewhere or not; asks likewise."""
        return frozenset(self._known("exact", self._first))

    def theory(self, outcome: Outcome, where: Where) -> np.ndarray:
        """What theory predicts, at the positions `where` along (*axes, *dims)."""
        return self._of_outcome("theory", outcome, where, np.nan)

    def exact(self, outcome: Outcome, where: Where) -> np.ndarray:
        """Whether that is the mean of a draw, no limit or approximation; bool, alike."""
        return self._of_outcome("exact", outcome, where, 0.0) > 0

    @property
    def _first(self) -> Where:
        return tuple(np.zeros(1, dtype=np.intp) for _ in self.sweep.shape)

    def _of_outcome(self, what: str, outcome: Outcome, where: Where, absent: float) -> np.ndarray:
        axes = len(self.sweep.shape)
        here = where[:axes]
        found = self._cached((what, *(w.tobytes() for w in here)), lambda: self._known(what, here))
        whole = (*(len(w) for w in here), *lengths(self.sweep, outcome))
        values = np.broadcast_to(found.get(outcome.name, np.float64(absent)), whole)
        return values[(..., *np.ix_(*where[axes:]))] if where[axes:] else values

    def _known(self, what: str, where: Where) -> dict[str, np.ndarray]:
        """{outcome: float64 (*axes selected, *dims)} of the statistic's `theory` or `exact`, asked for in runs that
        share the shape-fixing parameters."""
        statistic, axes = self.sweep.definition, self.sweep.axes
        ask = getattr(statistic, what)
        if ask is None or statistic.theory is None or not all(map(len, where)):
            return {}
        found: dict[str, np.ndarray] = {}
        bound = [i for i, name in enumerate(axes) if name in statistic.shape]
        for corner in np.ndindex(*(len(where[i]) for i in bound)):
            place = _pinned(len(where), bound, corner)
            here = [w[p] for w, p in zip(where, place, strict=True)]
            points = points_at(self.sweep, tuple(here))
            try:
                known = ask(points)
            except LostFileError as error:  # a user's; what was measured is there without it
                self.without_theory = str(error)
                return {}
            for name, values in known.items():
                own = lengths(self.sweep, statistic.outcome(name))
                values = np.broadcast_to(np.asarray(values, dtype=np.float64), (len(points), *own))
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


def _absent(fill: Any, array: np.ndarray) -> np.ndarray:
    """Where an array (*points, *dims, moments, bins or draws) is nothing but its fill value, which no block is: so
    reads a committed chunk that is not there."""
    same = np.isnan(array) if np.isnan(fill) else np.equal(array, fill)
    return np.all(same, axis=-1, keepdims=True)


def _slice(positions: np.ndarray) -> Any:
    """The same positions as a slice where they are a run: Zarr reads it faster."""
    run = np.all(np.diff(positions) == 1)
    return slice(int(positions[0]), int(positions[-1]) + 1) if run else positions


def _bytes(value: Moments | dict[str, np.ndarray] | tuple[np.ndarray, ...]) -> int:
    arrays = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else vars(value).values()
    return sum(a.nbytes for a in arrays)
