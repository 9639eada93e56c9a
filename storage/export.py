"""A sweep, or a part of it, as one file for other programs: NetCDF, Parquet or CSV, by the ending of its name.

The file is written aside and renamed when it is whole. Memory does not grow with the sweep: a slab is read and
written at a time (`storage.slabs`), about 300 MB in all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storage import netcdf, tables
from storage.objects import first_line, is_local, local_path
from storage.provenance import described, narrowed
from storage.query import select
from storage.zarr_store import ZarrStore
from sweeps.errors import RefusedError, SpecError, StoreError, SweepsError

WRITERS: dict[str, Any] = {".nc": netcdf.write, ".parquet": tables.write_parquet, ".csv": tables.write_csv}


def export(
    url: str,
    path: str | Path,
    *,
    selection: Iterable[str] = (),
    outcome: str | None = None,
    draws: bool = False,
    force: bool = False,
) -> Path:
    """Write what `open_sweep` shows of a store to a file; NetCDF as it is, Parquet and CSV as a long table.

    `selection` holds texts `axis=value`, as `storage.query.select` takes them. Draws are left out unless asked for;
    a table then has a row a draw.

    Raises:
        SpecError: another ending, a wrong name, or draws that the store does not hold.
        RefusedError: the file is there already, and `force` is not given.
        StoreError: the store cannot be read, or the file not be written.
    """
    target = _checked(str(path), force)
    ds = narrowed(select(described(ZarrStore.open(url)), selection), outcome, draws)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        WRITERS[target.suffix.lower()](ds, aside)
        os.replace(aside, target)
    except SweepsError:
        raise
    except Exception as error:
        raise StoreError(f"{str(path)!r} cannot be written: {first_line(error)}") from None
    finally:
        aside.unlink(missing_ok=True)
    return target


def _checked(path: str, force: bool) -> Path:
    """Where the file goes; refused before anything is read."""
    if not is_local(path):
        raise SpecError(f"a file is written to a local path, got {path!r}; `sweeps compact` writes to object stores")
    target = Path(local_path(path))
    if target.suffix.lower() not in WRITERS:
        raise SpecError(f"a file is written as {', '.join(WRITERS)}; got {path!r}")
    if target.is_dir() or not target.parent.is_dir():
        why = "it is a directory" if target.is_dir() else "there is no such directory"
        raise SpecError(f"{path!r} cannot be written: {why}")
    if target.exists() and not force:
        raise RefusedError(f"{path!r} is there already; give --force to write over it")
    return target
