"""A Dataset as a NetCDF-4 file, slab by slab; what `xarray.open_dataset` reads is what `open_sweep` shows.

Truth values are bytes with the attribute `dtype = "bool"`, as xarray writes and reads them.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import xarray as xr

from storage.sink import patient
from storage.slabs import chunk, slabs


def write(ds: xr.Dataset, path: Path) -> None:
    """Write a Dataset, of any size: a slab at a time (`storage.slabs`), compressed by gzip with shuffled bytes."""
    import h5netcdf

    with patient(path) as sink, h5netcdf.File(sink, "w") as file:
        file.dimensions = {str(d): n for d, n in ds.sizes.items()}
        file.attrs.update(ds.attrs)
        for name in map(str, ds.variables):
            _create(file, name, ds)
        for names, where in slabs(ds):
            for name in names:
                _put(file[name], ds[name].variable, where)
                sink.check()


def aside(ds: xr.Dataset, name: Hashable) -> dict[str, str]:
    """The CF attribute that names the coordinates of a variable that are not its dimensions."""
    if name not in ds.data_vars:
        return {}
    own = (str(c) for c, v in ds[name].coords.items() if c not in ds.dims and set(v.dims) <= set(ds[name].dims))
    text = " ".join(sorted(own))
    return {"coordinates": text} if text else {}


def _create(file, name: str, ds: xr.Dataset) -> None:
    import h5py

    variable = ds[name].variable
    kind, options = variable.dtype.kind, {}
    if variable.ndim and kind in "fi":
        options = {"chunks": chunk(variable.shape), "compression": "gzip", "shuffle": True}
    if kind == "f":
        options["fillvalue"] = np.nan
    dtype = {"b": np.dtype("i1"), "U": h5py.string_dtype()}.get(kind, variable.dtype)
    made = file.create_variable(name, tuple(map(str, variable.dims)), dtype, **options)
    made.attrs.update(variable.attrs)
    made.attrs.update({"dtype": "bool"} if kind == "b" else {})
    made.attrs.update(aside(ds, name))


def _put(made, variable: xr.Variable, where) -> None:
    values = variable.isel(where).values
    at = tuple(where.values()) or ...
    made[at] = values.astype({"b": "i1", "U": object}.get(values.dtype.kind, values.dtype))
