"""The content hash of a Dataset: equal for equal results, however they were computed, cut, stored or compressed.

    content hash = sha256 of the manifest, one line a variable, sorted by name: its digest, two blanks, its name
    digest       = sha256 of a header line, then the values in row-major order
    header line  = JSON [name, dims, dtype, shape]
    values       = little endian, any NaN as the one with bits 0x7ff8000000000000; text as one JSON string a line

Every dimension that has a coordinate is taken in ascending order of it, so that the order in which values were
added to an axis does not matter. Attributes are not covered. Memory: one slab (`storage.slabs`) at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping

import numpy as np
import xarray as xr

from storage.slabs import slabs

Order = Mapping[Hashable, np.ndarray]


def content_hash(ds: xr.Dataset) -> str:
    """The content hash of `open_sweep(url)`, or of a copy that holds the same variables: 64 hexadecimal digits."""
    return hash_of(manifest(ds))


def hash_of(manifest: Mapping[str, str]) -> str:
    """The content hash of {variable: digest}."""
    lines = (f"{manifest[name]}  {name}\n" for name in sorted(manifest))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def manifest(ds: xr.Dataset) -> dict[str, str]:
    """{variable: digest}, coordinates included."""
    order = _order(ds)
    found = {name: hashlib.sha256(_header(name, ds[name].variable)) for name in map(str, ds.variables)}
    for names, where in slabs(ds):
        for name in names:
            found[name].update(_bytes(_ordered(ds[name].variable, where, order)))
    return {name: digest.hexdigest() for name, digest in found.items()}


def _order(ds: xr.Dataset) -> Order:
    """Positions that make coordinates ascend, for the dimensions where they do not."""
    found = {}
    for dim in ds.dims:
        values = ds[dim].values.tolist() if dim in ds.coords else []
        order = sorted(range(len(values)), key=values.__getitem__)
        if order != list(range(len(values))):
            found[dim] = np.array(order)
    return found


def _ordered(
    variable: xr.Variable, where: Mapping[Hashable, slice], order: Mapping[Hashable, np.ndarray]
) -> np.ndarray:
    """A slab of the ordered variable. Slices alone are read: stores are slow at anything else."""
    cut = [d for d in where if d in order and where[d].stop - where[d].start < variable.sizes[d]]
    if cut:
        dim, here = cut[0], order[cut[0]][where[cut[0]]]
        rest = {d: o for d, o in order.items() if d != dim}
        rows = [_ordered(variable, {**where, dim: slice(i, i + 1)}, rest) for i in map(int, here)]
        return np.concatenate(rows, axis=list(where).index(dim))
    values = variable.isel(where).values
    for axis, dim in enumerate(where):
        values = values.take(order[dim], axis=axis) if dim in order else values
    return values


def _header(name: str, variable: xr.Variable) -> bytes:
    dtype = "str" if _is_text(variable.dtype) else variable.dtype.name
    return (json.dumps([name, list(variable.dims), dtype, list(variable.shape)]) + "\n").encode()


def _bytes(values: np.ndarray) -> bytes:
    if _is_text(values.dtype):
        return "".join(json.dumps(text) + "\n" for text in values.ravel().tolist()).encode()
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values)
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()


def _is_text(dtype: np.dtype) -> bool:
    return dtype.kind in "OUT"
