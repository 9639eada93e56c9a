"""A sweep at rest: plain Zarr v3, on a local path or any URL that obstore takes.

A block is written chunk by chunk, then its commit mark; each object is put whole (written aside and renamed, or
put in one request), so a kill at any instant leaves a block committed or not, and nothing torn. A reader counts a
block only by its mark. Writing a block again writes the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import zarr

from storage import layout, template
from storage.layout import COMMIT
from storage.objects import Chunks, connect, is_local, listing, local_path
from storage.reasons import first_line
from sweeps.blocks import Block, Plan, plan, settled
from sweeps.errors import StoreError
from sweeps.events import Receipt
from sweeps.extension import difference
from sweeps.measure import Measured, measure
from sweeps.moments import FIELDS, Moments
from sweeps.sweep import Sweep

STALE = 10.0  # seconds; a living writer renames its file at once
READ_BYTES = 2**26  # of the batches of a tile that are read at once
LEFTOVER = "#"  # obstore writes `name#1` beside `name` and renames it


class ZarrStore:
    """The store of one sweep; see `sweeps.run.Store` for what it promises. Picklable: it reopens where it lands."""

    def __init__(self, url: str, sweep: Sweep, cut: Plan) -> None:
        self.url, self.sweep, self.plan = url, sweep, cut
        self._groups: dict[int, zarr.Group] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """With an absolute path: a worker's working directory is not ours."""
        url = local_path(self.url) if is_local(self.url) else self.url
        return type(self), (url, self.sweep, self.plan)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @classmethod
    def create(cls, url: str, sweep: Sweep, *, made_by: dict[str, str] | None = None) -> Self:
        """Create the whole store, empty; or open it, if it holds the same sweep already.

        `made_by` is added to the attributes (git commit, submission id).

        Raises:
            StoreError: the place cannot be written, holds something else, or another sweep (with the difference).
        """
        try:
            found = cls.open(url)
        except FileNotFoundError:
            whole = settled(sweep)
            template.create(url, whole, plan(whole), made_by or {})
            found = cls.open(url)
        if found.sweep.fingerprint != sweep.fingerprint:
            apart = difference(found.sweep, sweep)
            raise StoreError(f"{url} holds another sweep: {apart}; give another store.url, or see `sweeps extend`")
        found.sweep = found.sweep.model_copy(update={"fixed": sweep.fixed})  # where a user's files lie now
        return found

    @classmethod
    def open(cls, url: str) -> Self:
        """Open an existing store with the sweep it holds.

        Raises:
            NoStoreError: there is none.
            StoreError: it is not ours, or cannot be read.
        """
        held = template.held(url)
        return cls(url, held.sweep, held.cut)._aligned()

    @classmethod
    def extend(cls, url: str, change: Callable[[Sweep], Sweep], *, made_by: dict[str, str] | None = None) -> Self:
        """Make the sweep of a store larger: `change` gives the larger one, of which nothing is measured yet.

        Whoever extends at the same time goes first or second: the second change is made to the first one's result.

        Raises:
            RefusedError, SpecError: what `change` asks for is no extension.
            StoreError: the store cannot be read or written.
        """
        cls.open(url)  # what is damaged is told before anything is recorded
        held = template.extend(url, change, made_by or {})
        return cls(url, held.sweep, held.cut)._aligned()

    def prepare(self) -> None:
        """Make what a killed extension left unmade; before measuring."""
        template.mend(self.url)

    def _aligned(self) -> Self:
        """Refuse a store whose chunks are not our blocks: a block must own whole ones."""
        for index, piece in enumerate(self.plan.pieces):
            for array in layout.arrays(self.sweep, self.plan, piece):
                if array.values is None and (found := self._chunks(index, array.name)) not in (None, array.chunks):
                    name = f"{layout.piece_name(index)}/{array.name}"
                    raise StoreError(f"{self.url}: array {name!r} has chunks {found}, its blocks need {array.chunks}")
        return self

    def _chunks(self, piece: int, name: str) -> tuple[int, ...] | None:
        try:
            return self._stored(piece, name).chunks
        except FileNotFoundError:
            return None  # an extension that was killed before it made this piece; `prepare` makes it

    @cached_property
    def _objects(self) -> Any:
        return connect(self.url)

    def group(self, piece: int) -> zarr.Group:
        """The Zarr group of a piece.

        Raises:
            FileNotFoundError: it is not made yet, or was removed.
            StoreError: its metadata is damaged.
        """
        if piece not in self._groups:
            path = layout.piece_name(piece)
            try:
                self._groups[piece] = zarr.open_group(
                    Chunks(self._objects), path=path, mode="r+", zarr_format=3, use_consolidated=True
                )
            except (FileNotFoundError, StoreError):
                raise
            except Exception as error:
                raise self._lost_piece(piece, first_line(error)) from None
        return self._groups[piece]

    def _stored(self, piece: int, name: str) -> zarr.Array:
        """An array as the metadata of its piece has it. Raises as `group`."""
        try:
            return cast(zarr.Array, self.group(piece)[name])
        except KeyError:
            raise self._lost_piece(piece, f"it lacks the array {name!r}") from None

    def _lost_piece(self, piece: int, why: str) -> StoreError:
        if self._is_gone:
            return StoreError(f"{self.url} cannot be read: it was removed")
        return StoreError(
            f"{self.url}: {layout.piece_name(piece)}/zarr.json cannot be read: {why}; "
            "remove what is left of it, and `sweeps resume` makes it anew"
        )

    @property
    def attributes(self) -> dict[str, Any]:
        """What the store says of the sweep it holds, as `storage.layout.attributes`."""
        return template.held(self.url).attributes

    def done(self) -> np.ndarray:
        """Which blocks are committed, bool (blocks,): one listing of the marks of every piece."""
        done = np.zeros(len(self.plan), dtype=bool)
        for piece in range(len(self.plan.pieces)):
            prefix = f"{layout.piece_name(piece)}/{COMMIT}/c/"
            for key, size in listing(self._objects, prefix):
                place = key.removeprefix(prefix).split("/")
                if size and all(i.isdecimal() for i in place):
                    *tile, batch = map(int, place)
                    if batch < self.plan.batches:  # others may have extended it since this was opened
                        done[self.plan.index_of(piece, tuple(tile), batch)] = True
        return done

    def write(self, block: Block, measured: Measured, *, device: str, seconds: float) -> Receipt:
        """Store a block, then commit it.

        Raises:
            StoreError: the disk is full, the place is read-only or gone; what is committed stays whole.
        """
        try:
            return self._write(block, measured, device, seconds)
        except Exception as error:
            if self._is_gone or not isinstance(error, StoreError):
                why = "it was removed" if self._is_gone else first_line(error)
                error = StoreError(f"{self.url} cannot be written: {why}")
            raise StoreError(f"{error}; what is committed is whole: mend it and run again") from None

    @property
    def _is_gone(self) -> bool:
        return is_local(self.url) and not os.path.exists(os.path.join(local_path(self.url), "zarr.json"))

    def _write(self, block: Block, measured: Measured, device: str, seconds: float) -> Receipt:
        start = time.perf_counter()
        if self._is_gone:
            raise FileNotFoundError  # or the directory would be made again, without its zarr.json
        digest, where = hashlib.sha256(), self._place(block)
        for name, array in _arrays(measured):
            self.array(block.piece, name)[where] = np.expand_dims(array, len(block.shape))
            digest.update(array.tobytes())
        receipt = Receipt(
            block=block.index,
            digest=int.from_bytes(digest.digest()[:8], "little") >> 1,
            finished=time.time_ns(),
            seconds=seconds,
            device=device,
            writing=time.perf_counter() - start,
            worker=f"{os.uname().nodename}:{os.getpid()}",
        )
        self.array(block.piece, COMMIT)[(*block.tile, block.batch)] = _mark(receipt)
        return receipt

    def _place(self, block: Block) -> tuple[slice, ...]:
        """Where a block lies in the arrays of its piece."""
        origin = self.plan.pieces[block.piece].origin
        own = (slice(s.start - o, s.stop - o) for s, o in zip(block.slices, origin, strict=True))
        return (*own, slice(block.batch, block.batch + 1))

    def receipt(self, block: Block) -> Receipt | None:
        text = str(self._read(COMMIT, block, (*block.tile, block.batch)))
        return parse_receipt(text, block.index) if text else None

    def receipts_of(self, blocks: np.ndarray) -> list[Receipt]:
        """The ledger's lines of committed blocks (n,); each mark is read once.

        Raises:
            StoreError: a mark is missing or cannot be read.
        """
        different, back = np.unique(np.asarray(blocks, dtype=np.int64), return_inverse=True)
        found: dict[int, Receipt] = {}
        cut = [self.plan[int(i)] for i in different]
        try:
            for piece in {b.piece for b in cut}:
                here = [b for b in cut if b.piece == piece]
                places = np.array([(*b.tile, b.batch) for b in here])
                texts = self.array(piece, COMMIT).get_coordinate_selection(tuple(places.T))
                for b, text in zip(here, np.asarray(texts).ravel(), strict=True):
                    found[b.index] = parse_receipt(str(text), b.index)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"{self.url}: commit marks cannot be read: {first_line(error)}") from None
        return [found[int(different[i])] for i in back.ravel()]

    def receipts(self) -> list[Receipt]:
        """The ledger: the receipts of all committed blocks, in the order of blocks."""
        return self.receipts_of(np.flatnonzero(self.done()))

    def read(self, block: Block) -> dict[str, np.ndarray]:
        """What is stored of a block, an array (*tile, *dims, ...) an outcome, histogram and run of draws."""
        where, piece = self._place(block), self.plan.pieces[block.piece]
        arrays = layout.arrays(self.sweep, self.plan, piece)
        names = [a.name for a in arrays if a.values is None and a.name != COMMIT]
        return {name: np.squeeze(self._read(name, block, where), axis=len(block.shape)) for name in names}

    def moments(self, tile: int, batches: range, outcome: str) -> Iterator[Moments]:
        """What is stored of an outcome of a tile, batch by batch: moments (points, *dims)."""
        first = self.plan[batches.start * self.plan.tiles + tile]
        own = layout.lengths(self.sweep, self.sweep.definition.outcome(outcome))
        size = 8 * first.points * math.prod(own) * len(FIELDS)
        for start in range(batches.start, batches.stop, step := max(1, READ_BYTES // size)):
            where = (*self._place(first)[:-1], slice(start, min(start + step, batches.stop)))
            stacked = np.moveaxis(self._read(outcome, first, where), len(first.shape), 0)
            for batch, array in enumerate(stacked, start):
                if np.isnan(array[..., FIELDS.index("n")]).any():
                    raise self.lost(outcome, self.plan[batch * self.plan.tiles + tile], "it was removed")
                yield Moments.unstack(array.reshape(first.points, *own, len(FIELDS)))

    def _read(self, name: str, block: Block, where: Any) -> Any:
        try:
            return np.asarray(self.array(block.piece, name)[where])
        except StoreError:
            raise
        except Exception as error:
            raise self.lost(name, block, first_line(error)) from None

    def unread(self, name: str, blocks: Iterable[Block], error: Exception) -> StoreError:
        """What is wrong where reading several blocks of an array failed: the first that cannot be read by itself."""
        try:
            for block in blocks:
                self._read(name, block, self._place(block))
        except StoreError as found:
            return found
        return StoreError(f"{self.url}: {name!r} cannot be read: {first_line(error)}")

    def lost(self, name: str, block: Block, why: str) -> StoreError:
        """That a committed block's chunk cannot be read, and what to do."""
        mark = "/".join(map(str, (layout.piece_name(block.piece), COMMIT, "c", *block.tile, block.batch)))
        return StoreError(
            f"{self.url}: block {block.index} of {name!r} cannot be read: {why}; "
            f"remove {mark} from the store and run again to measure it anew"
        )

    def verify(self, block: Block, device: str) -> list[str]:
        """Measure a committed block again and compare bytes; the names of arrays that differ."""
        stored = self.read(block)
        fresh = dict(_arrays(measure(self.sweep, block, device)))
        return [name for name, array in stored.items() if array.tobytes() != fresh[name].tobytes()]

    def content_hash(self) -> str:
        """sha256 over what committed blocks hold, in block order, and the fingerprint: equal for equal results."""
        total = hashlib.sha256(self.sweep.fingerprint.encode())
        for index in np.flatnonzero(self.done()):
            total.update(int(index).to_bytes(8, "little"))
            for array in self.read(self.plan[int(index)]).values():
                total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    def gc(self) -> list[str]:
        """Remove what killed writers left: files written aside and never renamed. Returns their paths."""
        if not is_local(self.url):
            return []  # object stores put whole objects; nothing is written aside
        root = Path(local_path(self.url))
        removed = []
        for path in sorted(p for p in root.rglob(f"*{LEFTOVER}*") if p.is_file()):
            left_behind = time.time() - path.stat().st_mtime > STALE
            if left_behind and path.name.rpartition(LEFTOVER)[2].isdigit():
                path.unlink(missing_ok=True)
                removed.append(str(path.relative_to(root)))
        return removed

    def array(self, piece: int, name: str) -> Any:
        """An array of a piece, as long along its batches as the plan says: what is on disk may lag behind.

        Raises:
            StoreError: the metadata of the piece is damaged or not there.
        """
        try:
            array = self._stored(piece, name)
        except FileNotFoundError:
            raise self._lost_piece(piece, "it is not there") from None
        axis = len(self.plan.pieces[piece].shape)
        if len(array.shape) > axis and array.shape[axis] != self.plan.batches:
            shape = (*array.shape[:axis], self.plan.batches, *array.shape[axis + 1 :])
            metadata = array.metadata.update_shape(shape)
            array = zarr.Array(zarr.AsyncArray(metadata=cast(Any, metadata), store_path=array.store_path))
        return array.with_config({"write_empty_chunks": True, "order": "C"})


def _mark(receipt: Receipt) -> str:
    """A receipt as a commit mark holds it: its block is where it lies."""
    return json.dumps({k: v for k, v in dataclasses.asdict(receipt).items() if k != "block"})


def parse_receipt(text: str, block: int) -> Receipt:
    """The receipt that the commit mark of a block holds."""
    return Receipt(block=block, **json.loads(text))


def _arrays(measured: Measured) -> Iterator[tuple[str, np.ndarray]]:
    for name, moments in measured.moments.items():
        yield name, np.ascontiguousarray(moments.stack())
        if name in measured.histograms:
            yield layout.histogram_name(name), np.ascontiguousarray(measured.histograms[name])
        if name in measured.draws:
            yield layout.draws_name(name), np.ascontiguousarray(measured.draws[name])
