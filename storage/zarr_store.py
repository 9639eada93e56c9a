"""A sweep at rest: plain Zarr v3, on a local path or any URL that obstore takes.

A block is written chunk by chunk, then its commit mark; each object is put whole (written aside and renamed, or
put in one request), so a kill at any instant leaves a block committed or not, and nothing torn. A reader counts a
block only by its mark. Writing a block again writes the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import obstore
import zarr
from zarr.storage import MemoryStore, ObjectStore

from storage.layout import ATTRIBUTE, COMMIT, LAYOUT, ArrayLayout, Layout, histogram_name, layout
from storage.objects import connect, first_line, is_local, listing, local_path
from sweeps.blocks import Block, settled
from sweeps.errors import StoreError, SweepsError
from sweeps.events import Receipt
from sweeps.measure import Measured, measure
from sweeps.sweep import Sweep

STALE = 10.0  # seconds; a living writer renames its file at once
LEFTOVER = "#"  # obstore writes `name#1` beside `name` and renames it


class ZarrStore:
    """The store of one sweep; see `sweeps.run.Store` for what it promises. Picklable: it reopens where it lands."""

    def __init__(self, url: str, sweep: Sweep) -> None:
        self.url, self.sweep = url, sweep

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "sweep": self.sweep}

    def __repr__(self) -> str:
        return f"ZarrStore({self.url!r})"

    @classmethod
    def create(cls, url: str, sweep: Sweep, *, made_by: dict[str, str] | None = None) -> ZarrStore:
        """Create the whole store, empty; or open it, if it holds the same sweep already.

        `made_by` is added to the attributes (git commit, submission id).

        Raises:
            StoreError: the place cannot be written, holds something else, or another sweep (with the difference).
        """
        try:
            found = stored_sweep(url)
        except FileNotFoundError:
            template = layout(sweep)
            _refuse_foreign(url, template)
            _write_template(url, template, made_by or {})
            return cls(url, settled(sweep))
        if found.fingerprint != sweep.fingerprint:
            raise StoreError(f"{url} holds another sweep: {difference(found, sweep)}; give another store.url")
        return cls(url, found)._aligned()

    @classmethod
    def open(cls, url: str) -> ZarrStore:
        """Open an existing store with the sweep it was created for.

        Raises:
            StoreError: there is none, or it is not ours.
        """
        try:
            return cls(url, stored_sweep(url))._aligned()
        except FileNotFoundError:
            raise StoreError(f"{url}: no store there; create it with `sweeps run`") from None

    def _aligned(self) -> ZarrStore:
        """Refuse a store whose chunks are not our blocks: a block must own whole ones."""
        for array in self.layout.arrays:
            if array.values is None and (found := self._array(array.name).chunks) != array.chunks:
                raise StoreError(f"{self.url}: array {array.name!r} has chunks {found}, its blocks need {array.chunks}")
        return self

    @cached_property
    def layout(self) -> Layout:
        return layout(self.sweep)

    @cached_property
    def _objects(self) -> Any:
        return connect(self.url)

    @cached_property
    def group(self) -> zarr.Group:
        return zarr.open_group(ObjectStore(self._objects), mode="r+", use_consolidated=True)

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.group.attrs)[ATTRIBUTE]  # type: ignore[return-value]

    def done(self) -> np.ndarray:
        """Which blocks are committed, bool (blocks,): one listing of the marks."""
        cut, prefix = self.layout.plan, f"{COMMIT}/c/"
        done = np.zeros(len(cut), dtype=bool)
        for key, size in listing(self._objects, prefix):
            place = key.removeprefix(prefix).split("/")
            if size and all(i.isdecimal() for i in place):
                *tile, batch = map(int, place)
                done[cut.index_of(tuple(tile), batch)] = True
        return done

    def write(self, block: Block, measured: Measured, *, device: str, seconds: float) -> Receipt:
        """Store a block, then commit it.

        Raises:
            StoreError: the disk is full, the place is read-only or gone; what is committed stays whole.
        """
        try:
            return self._write(block, measured, device, seconds)
        except Exception as error:
            reason = f"{self.url} cannot be written: {first_line(error)}"
            raise StoreError(f"{reason}; what is committed is whole: mend it and run again") from None

    def _write(self, block: Block, measured: Measured, device: str, seconds: float) -> Receipt:
        start = time.perf_counter()
        if is_local(self.url) and not os.path.exists(os.path.join(local_path(self.url), "zarr.json")):
            raise FileNotFoundError("it was removed")  # or the directory would be made again, without its zarr.json
        digest = hashlib.sha256()
        for name, array in _arrays(measured):
            self._array(name)[(*block.slices, slice(block.batch, block.batch + 1))] = np.expand_dims(
                array, len(block.shape)
            )
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
        self._array(COMMIT)[(*block.tile, block.batch)] = json.dumps(dataclasses.asdict(receipt))
        return receipt

    def receipt(self, block: Block) -> Receipt | None:
        text = str(self._read(COMMIT, block, (*block.tile, block.batch)))
        return parse_receipt(text) if text else None

    def receipts_at(self, tiles: np.ndarray, batches: np.ndarray) -> list[Receipt]:
        """The ledger's lines of committed blocks at tiles (n, axes) and batches (n,); each mark is read once.

        Raises:
            StoreError: a mark is missing or cannot be read.
        """
        places, back = np.unique(np.column_stack([tiles, batches]), axis=0, return_inverse=True)
        try:
            texts = np.asarray(self._array(COMMIT).get_coordinate_selection(tuple(places.T))).ravel()
            found = [parse_receipt(str(text)) for text in texts]
        except Exception as error:
            raise StoreError(f"{self.url}: commit marks cannot be read: {first_line(error)}") from None
        return [found[i] for i in back.ravel()]

    def receipts(self) -> list[Receipt]:
        """The ledger: the receipts of all committed blocks, in the order of blocks."""
        blocks = [self.layout.plan[int(i)] for i in np.flatnonzero(self.done())]
        if not blocks:
            return []
        return self.receipts_at(np.array([b.tile for b in blocks]), np.array([b.batch for b in blocks]))

    def read(self, block: Block) -> dict[str, np.ndarray]:
        """What is stored of a block, an array (*tile, *dims, ...) an outcome and histogram."""
        where = (*block.slices, block.batch)
        names = [a.name for a in self.layout.arrays if a.values is None and a.name != COMMIT]
        return {name: np.asarray(self._read(name, block, where)) for name in names}

    def _read(self, name: str, block: Block, where: Any) -> Any:
        try:
            return self._array(name)[where]
        except Exception as error:
            mark = "/".join(map(str, (COMMIT, "c", *block.tile, block.batch)))
            raise StoreError(
                f"{self.url}: block {block.index} of {name!r} cannot be read: {first_line(error)}; "
                f"remove {mark} from the store and run again to measure it anew"
            ) from None

    def verify(self, block: Block, device: str) -> list[str]:
        """Measure a committed block again and compare bytes; the names of arrays that differ."""
        stored = self.read(block)
        fresh = dict(_arrays(measure(self.sweep, block, device)))
        return [name for name, array in stored.items() if array.tobytes() != fresh[name].tobytes()]

    def content_hash(self) -> str:
        """sha256 over what committed blocks hold, in block order, and the fingerprint: equal for equal results."""
        total = hashlib.sha256(self.sweep.fingerprint.encode())
        cut = self.layout.plan
        for index in np.flatnonzero(self.done()):
            total.update(int(index).to_bytes(8, "little"))
            for array in self.read(cut[int(index)]).values():
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

    def _array(self, name: str) -> Any:
        array = cast(zarr.Array, self.group[name])
        return array.with_config({"write_empty_chunks": True, "order": "C"})


def parse_receipt(text: str) -> Receipt:
    """The receipt that a commit mark holds."""
    return Receipt(**json.loads(text))


def stored_sweep(url: str) -> Sweep:
    """The sweep a store was created for.

    Raises:
        FileNotFoundError: no store there yet.
        StoreError: it cannot be read, is not ours, or is of another layout.
    """
    objects = connect(url)
    try:
        root = json.loads(bytes(obstore.get(objects, "zarr.json").bytes()))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StoreError(f"{url} cannot be read: {first_line(error)}") from None
    attributes = root.get("attributes") if isinstance(root, dict) else None
    ours = attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None
    if not isinstance(ours, dict) or not {"layout", "spec", "fingerprint"} <= ours.keys():
        raise StoreError(f"{url} holds a Zarr group that is not a sweep; give another store.url")
    if ours["layout"] != LAYOUT:
        raise StoreError(f"{url} has layout {ours['layout']}, this version reads layout {LAYOUT}")
    try:
        sweep = Sweep.of(ours["spec"])
    except SweepsError as error:
        raise StoreError(f"{url} holds a sweep that this version does not know: {error}") from None
    if sweep.fingerprint != ours["fingerprint"]:
        raise StoreError(f"{url}: the spec does not match its fingerprint; it was edited, or made by another version")
    return sweep


def difference(stored: Sweep, given: Sweep) -> str:
    """Where two sweeps differ, in words."""
    old, new = ({**s.identity(), **{f"fixed.{k}": v for k, v in s.fixed.items()}} for s in (stored, given))
    pairs = ((key, old.get(key), new.get(key)) for key in {**old, **new})
    return "; ".join(f"{key} is {_short(a)} there, {_short(b)} here" for key, a, b in pairs if a != b)


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:40]} ... {text[-16:]}"


def _arrays(measured: Measured) -> Iterator[tuple[str, np.ndarray]]:
    for name, moments in measured.moments.items():
        yield name, np.ascontiguousarray(moments.stack())
        if name in measured.histograms:
            yield histogram_name(name), np.ascontiguousarray(measured.histograms[name])


def _refuse_foreign(url: str, template: Layout) -> None:
    """A place that holds anything but the beginnings of this template is somebody else's."""
    try:
        objects = connect(url)
    except FileNotFoundError:
        return
    ours = {a.name for a in template.arrays} | {"zarr.json"}
    filled = {a.name for a in template.arrays if a.values is None}
    for key, _ in listing(objects):
        if key.partition("/")[0] not in ours:
            raise StoreError(f"store.url {url!r} is not empty and not a sweep: it holds {key!r}; give another place")
        if key.partition("/")[0] in filled and "/c/" in key:
            raise StoreError(f"store.url {url!r} holds blocks of a sweep without its zarr.json; give another place")


def _write_template(url: str, template: Layout, made_by: dict[str, str]) -> None:
    """Arrays first, the group's own metadata last: a half-made store has no root and is simply made again."""
    objects = connect(url, create=True)
    contents: dict[str, Any] = {}
    memory = MemoryStore(contents)
    group = zarr.create_group(memory, zarr_format=3)
    for array in template.arrays:
        made = _create(group, array)
        if array.values is not None:
            made[:] = array.values.astype(object) if array.dtype == "str" else array.values
    attributes = dict(template.attributes)
    attributes[ATTRIBUTE] = {**attributes[ATTRIBUTE], "made_by": made_by}
    group.attrs.update(attributes)
    with warnings.catch_warnings():  # consolidated metadata is an extension of Zarr v3; readers may ignore it
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(memory)
    try:
        for key in sorted(contents, key=lambda k: k == "zarr.json"):
            obstore.put(objects, key, contents[key].to_bytes())
    except Exception as error:
        raise StoreError(f"store.url {url!r} cannot be written: {first_line(error)}") from None


def _create(group: zarr.Group, array: ArrayLayout) -> zarr.Array:
    return group.create_array(
        array.name,
        shape=array.shape,
        chunks=array.chunks,
        dtype=str if array.dtype == "str" else array.dtype,
        fill_value=array.fill,
        dimension_names=array.dims,
        attributes=dict(array.attributes),
        config={"write_empty_chunks": True},
    )
