"""Blocks: tiles of points x one batch of draws. Whoever computes a block owns whole chunks of the store.

A tile never mixes values of a shape-fixing axis, so all its networks have one shape and share launches; those
axes vary slowest. Batches come outermost: an unfinished sweep has fewer draws everywhere rather than holes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweeps import randomness
from sweeps.errors import SpecError
from sweeps.statistic import Points
from sweeps.sweep import MAX_BLOCK_VALUES, MAX_POINTS_PER_BLOCK, Sweep

SECONDS_A_BLOCK = 2.0
MAX_BLOCKS = 10**7
MAX_TILES = 8192  # a tile grows beyond SECONDS_A_BLOCK rather than exceed this, so 10^6 points are thousands of blocks


@dataclass(frozen=True)
class Block:
    """`index` counts blocks of a plan; `tile` is the tile's place on the grid of tiles; `starts` and `stops` bound
    its points along every axis; its draws are `range(batch * draws_per_batch, (batch + 1) * draws_per_batch)`."""

    index: int
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
class Plan:
    """The blocks of a sweep, as a sequence made on demand: 10^6 points cost no memory."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    slowest: tuple[int, ...]  # positions of the axes, slowest first
    batches: int

    @cached_property
    def tiles(self) -> tuple[int, ...]:
        """Tiles along every axis."""
        return tuple(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))

    def __len__(self) -> int:
        return math.prod(self.tiles) * self.batches

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch, rest = divmod(index, math.prod(self.tiles))
        tile = [0] * len(self.shape)
        for axis in reversed(self.slowest):
            rest, tile[axis] = divmod(rest, self.tiles[axis])
        starts = tuple(i * t for i, t in zip(tile, self.tile, strict=True))
        stops = tuple(min(a + t, n) for a, t, n in zip(starts, self.tile, self.shape, strict=True))
        return Block(index, tuple(tile), starts, stops, batch)

    def __iter__(self) -> Iterator[Block]:
        return (self[i] for i in range(len(self)))

    def index_of(self, tile: tuple[int, ...], batch: int) -> int:
        """The index of the block at a place; the inverse of `plan[i]`."""
        index = batch
        for axis in self.slowest:
            index = index * self.tiles[axis] + tile[axis]
        return index

    def grid(self, blocks: np.ndarray) -> np.ndarray:
        """One value a block (blocks,), laid out by place: (batches, *tiles)."""
        by_speed = blocks.reshape(self.batches, *(self.tiles[axis] for axis in self.slowest))
        return by_speed.transpose(0, *(1 + self.slowest.index(axis) for axis in range(len(self.shape))))


def plan(sweep: Sweep) -> Plan:
    """Cut a sweep into blocks; a function of the spec alone."""
    statistic = sweep.definition
    names = list(sweep.axes)
    free = [i for i, name in enumerate(names) if name not in statistic.shape]
    bound = [i for i, name in enumerate(names) if name in statistic.shape]
    want = settled(sweep).points_per_block or 1
    tile = [1] * len(names)
    for axis in reversed(free):  # fill the fastest axes first
        tile[axis] = min(sweep.shape[axis], max(1, want))
        want //= tile[axis]
    cut = Plan(sweep.shape, tuple(tile), (*bound, *free), sweep.batches)
    if (blocks := math.prod(cut.tiles) * cut.batches) > MAX_BLOCKS:
        raise SpecError(
            f"draws_per_batch: {math.prod(cut.tiles)} tiles x {cut.batches} batches of {sweep.draws_per_batch} make "
            f"{blocks} blocks, over the limit of {MAX_BLOCKS}; give larger batches, or cut the grid"
        )
    return cut


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
    width = sum(math.prod(sweep.fixed[d.length] for d in o.dims) for o in statistic.outcomes)  # type: ignore[misc]
    most = min(MAX_POINTS_PER_BLOCK, sweep.size, MAX_BLOCK_VALUES // (width * sweep.draws_per_batch))
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
    statistic can gain a parameter without changing the numbers it gave before."""
    fields = sweep.definition.parameters.model_fields
    defaults = {k: f.default for k, f in fields.items() if not f.is_required()}
    keys = np.empty(len(points), dtype=np.uint64)
    for i in range(len(points)):
        values = {k: v for k, v in points.point(i).items() if k not in defaults or v != defaults[k]}
        keys[i] = randomness.key(sweep.seed, sweep.statistic, values)
    return keys
