"""Blocks: tiles of points x one batch of draws. Whoever computes a block owns whole chunks of the store.

A tile never mixes values of a shape-fixing axis, so all its networks have one shape and share launches; those
axes vary slowest. Batches come outermost: an unfinished sweep has fewer draws everywhere rather than holes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from sweeps import randomness
from sweeps.axes import Value
from sweeps.errors import SpecError
from sweeps.inputs.files import content
from sweeps.statistic import Points
from sweeps.sweep import MAX_BLOCK_VALUES, MAX_POINTS_PER_BLOCK, Sweep

SECONDS_A_BLOCK = 2.0
MAX_BLOCKS = 10**7
MAX_TILES = 8192  # a tile grows beyond SECONDS_A_BLOCK rather than exceed this, so 10^6 points are thousands of blocks


@dataclass(frozen=True)
class Block:
    """`index` counts blocks of a plan; `tile` is the tile's place on the grid of tiles of its piece; `starts` and
    `stops` bound its points along every axis of the whole grid; its draws are
    `range(batch * draws_per_batch, (batch + 1) * draws_per_batch)`."""

    index: int
    piece: int
    tile: tuple[int, ...]
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    batch: int

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.starts, self.stops, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.starts, self.stops, strict=True))

    @property
    def points(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Piece:
    """A box of the grid that was laid out at once, cut into tiles of one size from its `origin` on."""

    origin: tuple[int, ...]
    shape: tuple[int, ...]
    tile: tuple[int, ...]

    @cached_property
    def tiles(self) -> tuple[int, ...]:
        """Tiles along every axis."""
        return tuple(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))

    @cached_property
    def count(self) -> int:
        return math.prod(self.tiles)


@dataclass(frozen=True)
class Plan:
    """The blocks of a sweep, as a sequence made on demand: 10^6 points cost no memory.

    The pieces are disjoint and fill the grid: one for a sweep as it was created, others for what extensions added.
    Tiles are numbered through all pieces; block `batch * tiles + tile` is that batch of that tile.
    """

    pieces: tuple[Piece, ...]
    slowest: tuple[int, ...]  # positions of the axes, slowest first
    batches: int

    @cached_property
    def tiles(self) -> int:
        """Tiles of all pieces."""
        return sum(piece.count for piece in self.pieces)

    @property
    def points(self) -> np.ndarray:
        """Points of every tile (tiles,)."""
        return np.concatenate([self._points(piece) for piece in self.pieces])

    def _points(self, piece: Piece) -> np.ndarray:
        found = np.ones(1, dtype=np.int64)
        for axis in self.slowest:
            begun = piece.tile[axis] * np.arange(piece.tiles[axis])
            found = np.multiply.outer(found, np.minimum(piece.tile[axis], piece.shape[axis] - begun)).ravel()
        return found

    @cached_property
    def _first(self) -> tuple[int, ...]:
        """The number of every piece's first tile."""
        return tuple(accumulate((p.count for p in self.pieces[:-1]), initial=0))

    def __len__(self) -> int:
        return self.tiles * self.batches

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch, number = divmod(index, self.tiles)
        which = bisect_right(self._first, number) - 1
        piece, rest = self.pieces[which], number - self._first[which]
        tile = [0] * len(piece.shape)
        for axis in reversed(self.slowest):
            rest, tile[axis] = divmod(rest, piece.tiles[axis])
        starts = tuple(o + i * t for o, i, t in zip(piece.origin, tile, piece.tile, strict=True))
        stops = tuple(
            min(a + t, o + n) for a, t, o, n in zip(starts, piece.tile, piece.origin, piece.shape, strict=True)
        )
        return Block(index, which, tuple(tile), starts, stops, batch)

    def __iter__(self) -> Iterator[Block]:
        return (self[i] for i in range(len(self)))

    def index_of(self, piece: int, tile: tuple[int, ...], batch: int) -> int:
        """The index of the block at a place; the inverse of `plan[i]`."""
        number = 0
        for axis in self.slowest:
            number = number * self.pieces[piece].tiles[axis] + tile[axis]
        return batch * self.tiles + self._first[piece] + number

    def grid(self, blocks: np.ndarray, piece: int) -> np.ndarray:
        """One value a block (blocks,), of one piece, laid out by place: (batches, *tiles)."""
        box, first = self.pieces[piece], self._first[piece]
        own = blocks.reshape(self.batches, self.tiles)[:, first : first + box.count]
        by_speed = own.reshape(self.batches, *(box.tiles[axis] for axis in self.slowest))
        return by_speed.transpose(0, *(1 + self.slowest.index(axis) for axis in range(len(box.shape))))

    def tiles_of(self, where: np.ndarray) -> np.ndarray:
        """The numbers (n,) of the tiles that hold the points at positions (n, axes) of the grid."""
        found = np.full(len(where), -1)
        for piece, first in zip(self.pieces, self._first, strict=True):
            place = where - np.array(piece.origin)
            inside = ((place >= 0) & (place < np.array(piece.shape))).all(axis=1)
            number = np.zeros(len(where), dtype=np.int64)
            for axis in self.slowest:
                number = number * piece.tiles[axis] + place[:, axis] // piece.tile[axis]
            found[inside] = first + number[inside]
        return found


def plan(sweep: Sweep) -> Plan:
    """Cut a sweep into blocks; a function of the spec alone."""
    cut = Plan((piece(sweep, (0,) * len(sweep.axes)),), slowest(sweep), sweep.batches)
    check_size(cut, sweep)
    return cut


def slowest(sweep: Sweep) -> tuple[int, ...]:
    """Positions of the axes, slowest first: those that fix shapes, then the others."""
    shape, names = sweep.definition.shape, list(sweep.axes)
    return tuple(sorted(range(len(names)), key=lambda axis: names[axis] not in shape))


def piece(sweep: Sweep, origin: tuple[int, ...]) -> Piece:
    """The grid of a sweep as one piece of a larger one that begins at `origin`; tiles are of its points per block,
    and hold one value of every shape-fixing axis."""
    want = settled(sweep).points_per_block or 1
    tile = [1] * len(origin)
    for axis in reversed([i for i, name in enumerate(sweep.axes) if name not in sweep.definition.shape]):
        tile[axis] = min(sweep.shape[axis], max(1, want))  # fill the fastest axes first
        want //= tile[axis]
    return Piece(origin, sweep.shape, tuple(tile))


def check_size(cut: Plan, sweep: Sweep) -> None:
    """Refuse a plan of too many blocks, or of too large ones, with what to change."""
    a_point = sweep.draws_per_batch * sweep.numbers_a_draw
    points = max(math.prod(piece.tile) for piece in cut.pieces)
    if points * a_point > MAX_BLOCK_VALUES:
        raise SpecError(
            f"points_per_block = {sweep.points_per_block} makes blocks of {points} points x {a_point} numbers, over "
            f"the limit of {MAX_BLOCK_VALUES}; at most {MAX_BLOCK_VALUES // a_point} here"
        )
    if len(cut) > MAX_BLOCKS:
        raise SpecError(
            f"draws_per_batch: {cut.tiles} tiles x {cut.batches} batches of {sweep.draws_per_batch} make "
            f"{len(cut)} blocks, over the limit of {MAX_BLOCKS}; give larger batches, or cut the grid"
        )


def settled(sweep: Sweep) -> Sweep:
    """The sweep with the size of its tiles said. A store keeps this one, so that no later cost model moves a chunk."""
    if sweep.points_per_block is not None:
        return sweep
    return sweep.model_copy(update={"points_per_block": _points_a_tile(sweep)})


def _points_a_tile(sweep: Sweep) -> int:
    """Points that make a block of seconds at the dearest corner, within the limits on tiles and memory."""
    statistic = sweep.definition
    shapes = math.prod(len(values) for name, values in sweep.axes.items() if name in statistic.shape)
    seconds = max(statistic.cost(p) for p in corners(sweep)) * sweep.draws_per_batch
    wanted = max(1, int(SECONDS_A_BLOCK / max(seconds, 1e-9)))
    least = -(-(sweep.size // max(1, shapes)) // max(1, MAX_TILES // max(1, shapes)))
    most = min(MAX_POINTS_PER_BLOCK, sweep.size, MAX_BLOCK_VALUES // (sweep.numbers_a_draw * sweep.draws_per_batch))
    return max(1, min(max(wanted, least), most))


def corners(sweep: Sweep) -> Iterator:
    """Parameters at the ends of every axis: where cost is least and greatest, if it is monotone."""
    ends = [(0,) if n == 1 else (0, n - 1) for n in sweep.shape]
    strings = {i: range(len(v)) for i, v in enumerate(sweep.axes.values()) if isinstance(v[0], str)}
    for index in np.ndindex(*(len(strings.get(i, e)) for i, e in enumerate(ends))):
        yield sweep.parameters_at(tuple(strings.get(i, ends[i])[j] for i, j in enumerate(index)))


def points_of(sweep: Sweep, block: Block) -> Points:
    """The points of a block, in the row-major order of the axes."""
    statistic = sweep.definition
    grids = np.indices(block.shape).reshape(len(block.shape), -1)
    shared, varying = dict(sweep.fixed), {}
    for (name, values), start, rows in zip(sweep.axes.items(), block.starts, grids, strict=True):
        if name in statistic.shape:
            shared[name] = values[start]
        else:
            varying[name] = np.asarray(values[start : start + rows.max() + 1])[rows]
    return Points(shared, varying, block.points)


def keys_of(sweep: Sweep, points: Points) -> np.ndarray:
    """Stream keys (points,) uint64. Parameters at their defaults are left out of a point's values, so that a
    statistic can gain a parameter without changing the numbers it gave before; a user's file counts by its content."""
    fields = sweep.definition.parameters.model_fields
    defaults = {k: f.default for k, f in fields.items() if not f.is_required()}

    def text(name: str, value: Value) -> str:
        return "" if name in defaults and value == defaults[name] else randomness.entry(name, content(value))

    columns = []
    for name in sorted({*points.shared, *points.varying}):
        if name in points.varying:
            values = points.varying[name].tolist()
            texts = {value: text(name, value) for value in set(values)}
            columns.append([texts[value] for value in values])
        else:
            columns.append([text(name, points.shared[name])] * len(points))
    return randomness.keys(sweep.seed, sweep.statistic, (filter(None, row) for row in zip(*columns, strict=True)))
