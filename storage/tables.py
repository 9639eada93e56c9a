"""A Dataset as one long table, in Parquet or CSV, written slab by slab.

A row an outcome, a point, and a place along the outcome's own dimensions:

    axes..., dims..., outcome, mean, std, sem, ci_low, ci_high, draws, undefined, min, max, theory, z[, converged]

Empty are the dimensions that an outcome has not, and theory and z where it has none; what too few draws cannot give is
NaN in Parquet and empty in CSV. With draws, a row a defined draw instead: axes..., dims..., outcome, draw, value. A
column whose name an axis or a dimension has already is called `outcome_<name>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from storage.layout import draws_name
from storage.query import outcomes
from storage.slabs import SLAB, box, boxes
from sweeps import statistics

QUANTITIES = {
    "mean": "",
    "std": "_std",
    "sem": "_sem",
    "ci_low": "_ci_low",
    "ci_high": "_ci_high",
    "draws": "_n",
    "undefined": "_undefined",
    "min": "_min",
    "max": "_max",
    "theory": "_theory",
    "z": "_z",
}
ROWS = SLAB // 4  # of a page

Page = Mapping[str, np.ndarray | None]  # columns of one length, None where a page leaves one empty


def write_parquet(ds: xr.Dataset, path: Path) -> None:
    """Write the table, a row group a page; the Dataset's attributes are metadata of the schema, as text."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = LongTable(ds)
    types = {"i": pa.int64(), "f": pa.float64(), "b": pa.bool_(), "U": pa.string()}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in ds.attrs.items()}
    texts["PANDAS_ATTRS"] = json.dumps(ds.attrs)  # what pandas shows as `attrs`
    schema = pa.schema([(name, types[kind]) for name, kind in table.columns.items()], texts)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for page in table.pages():
            length = _length(page)
            arrays = [pa.nulls(length, f.type) if page[f.name] is None else pa.array(page[f.name]) for f in schema]
            writer.write_table(pa.table(arrays, schema))


def write_csv(ds: xr.Dataset, path: Path) -> None:
    """Write the table after a line `# key: value` an attribute. Numbers read back to the bit (Python's `repr`), text
    is quoted."""
    table = LongTable(ds)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for key, value in ds.attrs.items():
            file.write(f"# {key}: {' '.join(str(value).splitlines())}\n")
        file.write(",".join(map(_quoted, table.columns)) + "\n")
        for page in table.pages():
            empty = [""] * _length(page)
            columns = [empty if (column := page[name]) is None else _texts(column) for name in table.columns]
            file.writelines(",".join(row) + "\n" for row in zip(*columns, strict=True))


def _length(page: Page) -> int:
    return next(len(column) for column in page.values() if column is not None)


def _texts(column: np.ndarray) -> list[str]:
    values = column.tolist()
    if column.dtype.kind == "f":
        return ["" if v != v else repr(v) for v in values]
    if column.dtype.kind == "b":
        return ["true" if v else "false" for v in values]
    return list(map(_quoted if column.dtype.kind == "U" else str, values))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@dataclass(frozen=True)
class LongTable:
    """The table of a Dataset of `storage.provenance.described`, or of a part: of its draws, where it has them."""

    ds: xr.Dataset

    @cached_property
    def draws(self) -> bool:
        return any(draws_name(o) in self.ds for o in outcomes(self.ds))

    @cached_property
    def axes(self) -> list[str]:
        return list(json.loads(self.ds.attrs["spec"])["axes"])

    def dims(self, outcome: str) -> list[str]:
        """An outcome's own dimensions, those at one value of which it was selected among them."""
        return [d.name for d in statistics.get(self.ds.attrs["statistic"]).outcome(outcome).dims]

    @cached_property
    def labels(self) -> list[str]:
        """Columns that say where a row belongs."""
        return list(dict.fromkeys([*self.axes, *(d for o in outcomes(self.ds) for d in self.dims(o))]))

    @cached_property
    def columns(self) -> dict[str, str]:
        """{name: kind} of the columns, `i`nteger, `f`loat, `b`oolean or `U`, text."""
        own = {"outcome": "U"}
        if self.draws:
            own |= {"draw": "i", "value": "f"}
        else:
            own |= {name: "i" if name in ("draws", "undefined") else "f" for name in QUANTITIES}
            own |= {"converged": "b"} if "converged" in self.ds else {}
        return {d: self.ds[d].dtype.kind for d in self.labels} | {self._named(k): v for k, v in own.items()}

    def _named(self, column: str) -> str:
        return f"outcome_{column}" if column in self.labels else column

    def pages(self) -> Iterator[Page]:
        """The table in order, at most ROWS rows at a time; with draws, at most ROWS draws are looked at."""
        for outcome in outcomes(self.ds):
            array = self.ds[draws_name(outcome) if self.draws else outcome]
            for at in boxes(array.shape, box(array.shape, ROWS)):
                where = dict(zip(map(str, array.dims), at, strict=True))
                yield self._draws(outcome, where) if self.draws else self._moments(outcome, where)

    def _page(self, outcome: str, where: Mapping[str, slice], own: Page) -> Page:
        labels = {d: self._label(d, outcome, where) for d in self.labels}
        found = {"outcome": _filled(outcome, where), **own}
        return labels | {self._named(k): v for k, v in found.items()}

    def _moments(self, outcome: str, where: Mapping[str, slice]) -> Page:
        names = {k: f"{outcome}{suffix}" for k, suffix in QUANTITIES.items()}
        found = {k: self.ds[v].isel(where).values.ravel() if v in self.ds else None for k, v in names.items()}
        if "converged" in self.ds:
            points = self.ds["converged"]
            values = points.isel({d: s for d, s in where.items() if d in points.dims}).values
            found["converged"] = _spread(values, list(map(str, points.dims)), where)
        return self._page(outcome, where, found)

    def _draws(self, outcome: str, where: Mapping[str, slice]) -> Page:
        numbers = np.arange(where["draw"].start, where["draw"].stop)
        values = self.ds[draws_name(outcome)].isel(where).values.ravel()
        page = self._page(outcome, where, {"draw": _spread(numbers, ["draw"], where), "value": values})
        return {k: None if column is None else column[~np.isnan(values)] for k, column in page.items()}

    def _label(self, dim: str, outcome: str, where: Mapping[str, slice]) -> np.ndarray | None:
        if dim in where:
            return _spread(self.ds[dim].values[where[dim]], [dim], where)
        one_value = dim in self.axes or dim in self.dims(outcome)
        return _filled(self.ds[dim].item(), where) if one_value else None


def _spread(values: np.ndarray, dims: list[str], where: Mapping[str, slice]) -> np.ndarray:
    """Values along some dimensions of a page, which come in its order, a value a row."""
    shape = _shape(where)
    shaped = values.reshape([n if d in dims else 1 for d, n in zip(where, shape, strict=True)])
    return np.broadcast_to(shaped, shape).ravel()


def _filled(value: Any, where: Mapping[str, slice]) -> np.ndarray:
    return np.full(int(np.prod(_shape(where))), value)


def _shape(where: Mapping[str, slice]) -> list[int]:
    return [at.stop - at.start for at in where.values()]
