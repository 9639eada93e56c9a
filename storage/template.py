"""What a store says of itself: made whole and empty before the first block, read back, and extended.

The root says which sweep the store was created for, `extension-<n>` which larger one it holds since; each is put
in one piece, and only where there is none, so that of two extensions at once one comes second. Everything else is
made from that: what a killed extension left unmade is made by whoever measures next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import zarr

from storage import layout, metadata
from storage.layout import ATTRIBUTE, LAYOUT, ArrayLayout
from storage.objects import connect, create_only, folders, get, listing, place, put
from storage.reasons import first_line
from sweeps.blocks import Piece, Plan
from sweeps.errors import NoStoreError, StoreError, SweepsError
from sweeps.extension import extended, extended_plan
from sweeps.sweep import Sweep

ROOT = metadata.FILE
EXTENSION = re.compile(r"extension-(\d+)")


@dataclass(frozen=True)
class Held:
    """The sweep a store holds after its last extension, its plan, and the attributes that say so."""

    sweep: Sweep
    cut: Plan
    attributes: dict[str, Any]
    extensions: int


def held(url: str) -> Held:
    """What a store holds.

    Raises:
        NoStoreError: no store there yet.
        StoreError: it cannot be read, is not ours, or is of another layout.
    """
    try:
        objects = connect(url)
        root = _ours(url, _get(objects, ROOT))
        number, latest = _latest(objects)
        attributes = _ours(url, latest) if number else root
    except FileNotFoundError:
        raise NoStoreError(f"{url}: no store there; create it with `sweeps run`") from None
    return _held(url, attributes, number)


def _held(url: str, attributes: dict[str, Any], number: int) -> Held:
    if attributes["layout"] != LAYOUT:
        raise StoreError(f"{url} has layout {attributes['layout']}, this version reads layout {LAYOUT}")
    try:
        sweep = Sweep.of(attributes["spec"])
    except SweepsError as error:
        raise StoreError(f"{url} holds a sweep that this version does not know: {error}") from None
    if sweep.fingerprint != attributes["fingerprint"]:
        raise StoreError(f"{url}: the spec does not match its fingerprint; it was edited, or made by another version")
    return Held(sweep, layout.stored_plan(sweep, attributes["pieces"]), attributes, number)


def create(url: str, sweep: Sweep, cut: Plan, made_by: Mapping[str, str]) -> None:
    """Make a new store, empty, unless somebody makes one meanwhile. The root comes last: a half-made store has none
    and is simply made again.

    Raises:
        StoreError: the place holds something else, or cannot be written.
    """
    arrays = layout.arrays(sweep, cut, cut.pieces[0])
    _refuse_foreign(url, arrays)
    objects = connect(url, create=True)
    found = _put_piece(objects, 0, arrays)
    create_only(objects, ROOT, _written(_consolidated(_document(sweep, cut, made_by), [found])))


def extend(url: str, change: Callable[[Sweep], Sweep], made_by: Mapping[str, str]) -> Held:
    """Record that a store holds a larger sweep from now on; see `ZarrStore.extend`."""
    while True:
        now = held(url)
        larger = extended(now.sweep, change(now.sweep))
        if larger.fingerprint == now.sweep.fingerprint:
            return now
        cut = extended_plan(now.cut, now.sweep, larger)
        if create_only(connect(url), _record(now.extensions + 1), _written(_document(larger, cut, made_by))):
            return mend(url)


def mend(url: str) -> Held:
    """Make the pieces that are not there yet, and arrays as long as their batches; all is well if others do too.
    What was extended meanwhile is mended again, by us too: ours may have undone theirs."""
    while True:
        now = held(url)
        _mend(connect(url), now)
        if held(url).extensions == now.extensions:
            return now


def _mend(objects: Any, now: Held) -> None:
    found = [_mended(objects, i, piece, now.sweep, now.cut) for i, piece in enumerate(now.cut.pieces)]
    root = _get(objects, ROOT)
    fresh = _consolidated(root, found)
    if fresh != root:
        put(objects, ROOT, _written(fresh))


def _mended(objects: Any, index: int, piece: Piece, sweep: Sweep, cut: Plan) -> dict[str, Any]:
    """The metadata of a piece, which is there by now and as long as it should be."""
    found = _find(objects, f"{layout.piece_name(index)}/{ROOT}")
    if found is None:
        return _put_piece(objects, index, layout.arrays(sweep, cut, piece))
    return _lengthened(objects, index, len(piece.shape), cut.batches, found)


def _lengthened(objects: Any, index: int, axis: int, batches: int, found: dict[str, Any]) -> dict[str, Any]:
    """Readers other than ours go by the metadata of the arrays; it only ever grows."""
    folder, arrays = layout.piece_name(index), found["consolidated_metadata"]["metadata"]
    batched = [name for name, array in arrays.items() if "batch" in array["dimension_names"][axis : axis + 1]]
    short = [name for name in batched if arrays[name]["shape"][axis] < batches]
    for name in short:
        arrays[name]["shape"][axis] = batches
        put(objects, f"{folder}/{name}/{ROOT}", _written(arrays[name]))
    if short:
        put(objects, f"{folder}/{ROOT}", _written(found))
    return found


def _put_piece(objects: Any, index: int, arrays: tuple[ArrayLayout, ...]) -> dict[str, Any]:
    """Make a piece, empty, and give its metadata. The group's own comes last."""
    found, members = metadata.made(lambda group: [_create(group, array) for array in arrays])
    for key, content in (*members.items(), (ROOT, _written(found))):
        put(objects, f"{layout.piece_name(index)}/{key}", content)
    return found


def _consolidated(root: dict[str, Any], pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """The root's metadata with that of its pieces, where readers such as xarray look for it."""
    members: dict[str, Any] = {}
    for index, piece in enumerate(pieces):
        folder, arrays = layout.piece_name(index), piece["consolidated_metadata"]["metadata"]
        members[folder] = metadata.consolidated(piece, {})
        members |= {f"{folder}/{name}": array for name, array in arrays.items()}
    return metadata.consolidated(root, members)


def _create(group: zarr.Group, array: ArrayLayout) -> None:
    created = group.create_array(
        array.name,
        shape=array.shape,
        chunks=array.chunks,
        dtype=str if array.dtype == "str" else array.dtype,
        fill_value=array.fill,
        dimension_names=array.dims,
        attributes=dict(array.attributes),
        config={"write_empty_chunks": True},
    )
    if array.values is not None:
        created[:] = array.values.astype(object) if array.dtype == "str" else array.values


def _written(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode()


def _document(sweep: Sweep, cut: Plan, made_by: Mapping[str, str]) -> dict[str, Any]:
    """A group's metadata that says which sweep the store holds."""
    attributes = layout.attributes(sweep, cut)
    attributes[ATTRIBUTE] = {**attributes[ATTRIBUTE], "made_by": dict(made_by)}
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def _ours(url: str, document: Any) -> dict[str, Any]:
    attributes = document.get("attributes") if isinstance(document, dict) else None
    ours = attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None
    if not isinstance(ours, dict) or not {"layout", "spec", "fingerprint", "pieces"} <= ours.keys():
        raise StoreError(f"{url} holds a Zarr group that is not a sweep; give another store.url")
    return ours


def _record(number: int) -> str:
    return f"extension-{number}/{ROOT}"


def _extensions(objects: Any) -> list[int]:
    return [int(match[1]) for name in folders(objects) if (match := EXTENSION.fullmatch(name))]


def _latest(objects: Any) -> tuple[int, Any]:
    """The last extension there is: (number, document), or (0, None)."""
    for number in sorted(_extensions(objects), reverse=True):
        if (document := _find(objects, _record(number))) is not None:
            return number, document  # else its writer was killed before it was there
    return 0, None


def _get(objects: Any, key: str) -> Any:
    content = get(objects, key)
    try:
        return json.loads(content)
    except ValueError as error:
        raise StoreError(f"{place(objects)}: {key} is damaged: {first_line(error)}; put back a copy of it") from None


def _find(objects: Any, key: str) -> Any:
    try:
        return _get(objects, key)
    except FileNotFoundError:
        return None


def _refuse_foreign(url: str, arrays: tuple[ArrayLayout, ...]) -> None:
    """A place that holds anything but the beginnings of this store is somebody else's."""
    try:
        objects = connect(url)
    except FileNotFoundError:
        return
    folder = layout.piece_name(0)
    filled = tuple(f"{folder}/{a.name}/c/" for a in arrays if a.values is None)
    for key, _ in listing(objects):
        if key != ROOT and not key.startswith(f"{folder}/"):
            raise StoreError(f"store.url {url!r} is not empty and not a sweep: it holds {key!r}; give another place")
        if key.startswith(filled):
            raise StoreError(f"store.url {url!r} holds blocks of a sweep without its zarr.json; give another place")
