"""Walking arrays of any size in bounded memory: boxes of a bounded number of values, in row-major order.

A box takes whole rows of the last dimensions, a run along one, and one place along those before it, so that boxes
read one after the other give the values in row-major order. Slabs are made of whole chunks: who writes a slab owns
what it writes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product

import xarray as xr

CHUNK = 2**17  # values: 1 MiB of float64
SLAB = 2**19  # values, or one chunk: 4 MiB; merging the moments behind them takes about 40 times as much
DRAWS_SLAB = 2**23  # values of draws, or one chunk: 64 MiB

Box = tuple[slice, ...]


def box(shape: Sequence[int], most: int) -> tuple[int, ...]:
    """The shape of a box of at most `most` values, at least one, the last dimensions filled first."""
    found, left = [1] * len(shape), max(1, most)
    for axis in reversed(range(len(shape))):
        found[axis] = max(1, min(shape[axis], left))
        left //= found[axis]
    return tuple(found)


def boxes(shape: Sequence[int], size: Sequence[int]) -> Iterator[Box]:
    """Boxes of one size that fill a shape, cut at its ends, the last dimension fastest."""
    return product(*(_cuts(n, step) for n, step in zip(shape, size, strict=True)))


def chunk(shape: Sequence[int]) -> tuple[int, ...]:
    """The chunk of an array that is written to be read elsewhere."""
    return box(shape, CHUNK)


def slab(dims: Sequence[Hashable], shape: Sequence[int]) -> tuple[int, ...]:
    """What is read and written of an array at once: whole chunks."""
    wanted = box(shape, DRAWS_SLAB if "draw" in dims else SLAB)
    return tuple(-(-n // c) * c for n, c in zip(wanted, chunk(shape), strict=True))


def slabs(ds: xr.Dataset) -> Iterator[tuple[list[str], Mapping[Hashable, slice]]]:
    """(names, where) for every slab of a Dataset. Variables of the same dimensions go together, as what is behind
    the quantities of an outcome is read once for all of them."""
    groups: dict[tuple[Hashable, ...], list[str]] = {}
    for name, variable in ds.variables.items():
        groups.setdefault(variable.dims, []).append(str(name))
    for dims, names in groups.items():
        shape = [ds.sizes[d] for d in dims]
        for where in boxes(shape, slab(dims, shape)):
            yield names, dict(zip(dims, where, strict=True))


def _cuts(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
