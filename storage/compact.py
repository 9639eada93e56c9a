"""A copy of a sweep for publication: one plain Zarr v3 group that `xarray.open_zarr` reads as `open_sweep` shows it.

Batches are merged, every variable is one sharded array, metadata is consolidated, and the root's attributes say what
the numbers are, with a hash of their content (`storage.content`). The same store gives the same bytes. Shards are
slabs (`storage.slabs`), written and hashed one at a time, so memory does not grow with the sweep; the root comes
last, so that what is not whole does not open.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import obstore
import xarray as xr
import zarr
from xarray.core import indexing
from zarr.storage import ObjectStore

from storage import metadata
from storage.content import hash_of, manifest
from storage.netcdf import aside
from storage.objects import connect, first_line, is_local, listing, local_path
from storage.provenance import described, history, standing
from storage.query import Lazy
from storage.slabs import chunk, slab, slabs
from storage.snapshot import Where
from storage.zarr_store import ZarrStore
from sweeps.errors import RefusedError, StoreError, SweepsError

ROOT = metadata.FILE


@dataclass(frozen=True)
class Amount:
    """What lies in a place."""

    objects: int
    bytes: int

    @classmethod
    def of(cls, url: str) -> Amount:
        sizes = [size for _, size in listing(connect(url))]
        return cls(len(sizes), sum(sizes))


@dataclass(frozen=True)
class Compacted:
    """A copy that was made: its hash, its status, and what it took before and after."""

    content_hash: str
    status: str
    before: Amount
    after: Amount


def compact(url: str, out: str, *, partial: bool = False) -> Compacted:
    """Write a copy of a store to an empty place, local or remote.

    Raises:
        RefusedError: the sweep is unfinished, unless `partial`; or there is something at `out` already.
        StoreError: the store cannot be read, or the copy not be written; nothing is left of it then.
    """
    store = ZarrStore.open(url)
    measured, wanted, finished = standing(store)
    if not (finished or partial):
        raise RefusedError(
            f"{url} is unfinished, {measured} of {wanted} blocks are measured; finish it with `sweeps resume`, "
            "or give --partial to copy what there is"
        )
    status = "complete" if finished else "partial"
    ds = described(store).assign_attrs(status=status, **history(store))
    objects = _empty_place(url, out)
    try:
        found = _write(ds, objects)
    except BaseException as error:
        _remove(objects, out)
        if isinstance(error, SweepsError) or not isinstance(error, Exception):
            raise
        raise StoreError(f"{out!r} cannot be written: {first_line(error)}") from None
    return Compacted(found, status, Amount.of(url), Amount.of(out))


def is_copy(url: str) -> bool:
    """Whether a place holds a copy that `compact` made."""
    try:
        document = json.loads(bytes(obstore.get(connect(url), ROOT).bytes()))
        return "content_hash" in document["attributes"]
    except Exception:
        return False  # whoever opens it as a store says what is wrong


def check(url: str) -> list[str]:
    """Hash a copy again: what is not as it says of itself, a line each; nothing where all is as it was.

    Raises:
        StoreError: it cannot be opened.
    """
    try:
        ds = xr.open_zarr(ObjectStore(connect(url), read_only=True))
        said = json.loads(ds.attrs["manifest"])
    except Exception as error:
        raise StoreError(f"{url} cannot be read: {first_line(error)}") from None
    lines = [] if hash_of(said) == ds.attrs["content_hash"] else ["content_hash is not that of the manifest"]
    for name in sorted({*said, *map(str, ds.variables)}):
        if (found := _state(ds, name, said.get(name))) != "as it was":
            lines.append(f"{name} {found}")
    return lines


def _state(ds: xr.Dataset, name: str, said: str | None) -> str:
    if said is None or name not in ds.variables:
        return "is not in the manifest" if said is None else "is missing"
    try:
        found = manifest(ds[[name]])[name]
    except Exception as error:
        return f"cannot be read: {first_line(error)}"
    return "as it was" if found == said else f"differs: its digest is {found[:16]}..., the copy says {said[:16]}..."


# --- writing ---


def _empty_place(url: str, out: str) -> Any:
    if f"{_place(out)}/".startswith(f"{_place(url)}/"):
        raise RefusedError(f"{out!r} lies inside the store; give another place")
    objects = connect(out, create=True)
    there = os.listdir(local_path(out)) if is_local(out) else (key for key, _ in listing(objects))
    for key in there:
        raise RefusedError(f"{out!r} is not empty, it holds {key!r}; give another place")
    return objects


def _place(url: str) -> str:
    return local_path(url) if is_local(url) else url.rstrip("/")


def _remove(objects: Any, out: str) -> None:
    if is_local(out):
        shutil.rmtree(local_path(out), ignore_errors=True)
    else:
        for key, _ in listing(objects):
            obstore.delete(objects, key)


def _write(ds: xr.Dataset, objects: Any) -> str:
    """Write all of a copy, its root last; its content hash, of what was written."""
    root = _put_metadata(ds, objects)
    store = ObjectStore(objects)
    arrays = {name: cast(zarr.Array, zarr.open_array(store, path=name, mode="r+")) for name in map(str, ds.variables)}
    for names, where in slabs(ds):
        for name in names:
            values = ds[name].variable.isel(where).values
            arrays[name][tuple(where.values()) or ...] = values.astype(object) if values.dtype.kind == "U" else values
    digests = manifest(_reopened(ds, arrays))
    found = hash_of(digests)
    root["attributes"] = {**ds.attrs, "content_hash": found, "manifest": json.dumps(digests, sort_keys=True)}
    obstore.put(objects, ROOT, json.dumps(root, indent=2).encode())
    return found


def _put_metadata(ds: xr.Dataset, objects: Any) -> dict[str, Any]:
    """Put the metadata of every array; that of the root is returned, with theirs consolidated in it."""
    root, members = metadata.made(lambda group: [_create(group, name, ds) for name in map(str, ds.variables)])
    for key, content in members.items():
        obstore.put(objects, key, content)
    return root


def _create(group: zarr.Group, name: str, ds: xr.Dataset) -> None:
    variable = ds[name].variable
    chunks, shards = chunk(variable.shape), slab(variable.dims, variable.shape)
    group.create_array(
        name,
        shape=variable.shape,
        chunks=chunks,
        shards=shards if shards != chunks else None,
        dtype=str if variable.dtype.kind == "U" else variable.dtype,
        fill_value={"f": np.nan, "U": "", "b": False}.get(variable.dtype.kind, 0),
        dimension_names=list(map(str, variable.dims)),
        attributes={**variable.attrs, **aside(ds, name)},
    )


def _reopened(ds: xr.Dataset, arrays: dict[str, zarr.Array]) -> xr.Dataset:
    """The Dataset as it lies in the arrays of its copy, to be read in runs."""
    return xr.Dataset({name: _lazy(ds[name].variable, array) for name, array in arrays.items()})


def _lazy(like: xr.Variable, array: zarr.Array) -> xr.Variable:
    def read(where: Where) -> np.ndarray:
        return np.asarray(array[tuple(slice(int(w[0]), int(w[-1]) + 1) for w in where)])

    return xr.Variable(like.dims, indexing.LazilyIndexedArray(Lazy(like.shape, like.dtype, read)))
