"""What the command line prints: statistics, estimates, results. Tables for people; `open_sweep` is for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import xarray as xr
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.estimate import Estimate
from deploy.screen import duration, size
from storage.distributions import quantiles
from storage.query import outcomes, table
from storage.slabs import box, boxes
from sweeps import statistics
from sweeps.errors import unknown
from sweeps.statistic import Statistic
from sweeps.sweep import Sweep


def spec_schema() -> dict[str, Any]:
    """JSON Schema of a spec file: what `Sweep.of` takes, with the names of statistics and the forms of an axis."""
    schema = Sweep.model_json_schema()
    three = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
    whole = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}
    forms = {"linspace": three, "logspace": three, "range": whole}
    schema["properties"]["axes"]["additionalProperties"] = {
        "oneOf": [
            {"type": "array", "items": {"type": ["number", "integer", "string", "boolean"]}, "minItems": 1},
            *(
                {"type": "object", "properties": {k: v}, "required": [k], "additionalProperties": False}
                for k, v in forms.items()
            ),
        ]
    }
    schema["properties"]["statistic"]["enum"] = list(statistics.names())
    batches = {"type": "integer", "minimum": 1, "description": "instead of draws: a number of batches"}
    schema["properties"]["batches"] = batches
    schema["required"] = [k for k in schema["required"] if k != "draws"]
    schema["oneOf"] = [{"required": ["draws"]}, {"required": ["batches"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def statistics_table() -> Table:
    rows = Table("statistic", "measures", "outcomes", box=None)
    for name in statistics.names():
        statistic = statistics.get(name)
        rows.add_row(name, escape(statistic.summary), ", ".join(o.name for o in statistic.outcomes))
    return rows


def print_statistic(statistic: Statistic, console: Console) -> None:
    """Parameters with ranges and units, outcomes with kinds and dims, theory, references, source."""
    console.print(f"{statistic.name}: {statistic.summary}", highlight=False, markup=False)
    parameters = Table("parameter", "type", "range", "default", "unit", "meaning", box=None)
    for name, field in statistic.parameters.model_fields.items():
        default = "required" if field.is_required() else repr(field.default)
        parameters.add_row(
            name, type_of(field), range_of(field), default, unit_of(field), escape(field.description or "")
        )
    console.print(parameters)
    outcomes = Table("outcome", "kind", "unit", "dims", "meaning", box=None)
    for o in statistic.outcomes:
        dims = ", ".join(f"{d.name} (as long as {d.length})" for d in o.dims)
        outcomes.add_row(o.name, o.kind, o.units, dims, escape(o.long_name))
    console.print(outcomes)
    for label, text in (("theory", statistic.theory_note), ("source", statistic.source)):
        if text:
            console.print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)
    for r in statistic.references:
        console.print(
            f"  {r.parameter} = {r.value:g}: {r.label} ({r.source})",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def type_of(field: FieldInfo) -> str:
    choices = getattr(field.annotation, "__args__", None)
    if choices:
        return " | ".join(str(c) for c in choices)
    return getattr(field.annotation, "__name__", str(field.annotation))


def range_of(field: FieldInfo) -> str:
    bounds = {k: getattr(m, k) for m in field.metadata for k in ("ge", "gt", "le", "lt") if hasattr(m, k)}
    low = f"[{bounds['ge']:g}" if "ge" in bounds else f"({bounds['gt']:g}" if "gt" in bounds else ""
    high = f"{bounds['le']:g}]" if "le" in bounds else f"{bounds['lt']:g})" if "lt" in bounds else ""
    return escape(f"{low or '(-inf'}, {high or 'inf)'}") if low or high else ""


def unit_of(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    return str(extra.get("unit", "1")) if isinstance(extra, dict) else "1"


def print_estimate(made: Estimate, workers: int, console: Console) -> None:
    most = "at most " if made.at_most else ""
    console.print(f"{made.points:,} points, {most}{made.blocks:,} blocks, {made.draws:,} draws", highlight=False)
    console.print(f"{size(made.bytes)} before compression, in {made.objects:,} objects", highlight=False)
    for pilot in made.pilots:
        values = ", ".join(f"{k}={v}" for k, v in pilot.parameters.model_dump().items())
        console.print(
            f"pilot: {pilot.seconds * 1e3:.3g} ms a draw ({pilot.draws} draws) at {values}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    shared, alone = duration(made.seconds(workers)), duration(made.core_seconds)
    console.print(f"{most or 'about '}{shared} on {workers} workers ({alone} on one)", highlight=False)


def first_outcome(dataset: xr.Dataset) -> str:
    return outcomes(dataset)[0]


def print_results(
    dataset: xr.Dataset, outcome: str | None, rows: int, console: Console, wanted: Sequence[float] = ()
) -> None:
    """A row a point: estimate, interval, number of draws, theory, z where that is exact, the quantiles wanted; of the
    first outcome unless one is named.

    Raises:
        UnknownNameError: no such outcome.
        SpecError: the store has nothing to take quantiles from.
    """
    known = outcomes(dataset)
    name = outcome or known[0]
    if name not in known:
        raise unknown("outcome", name, known)
    keep = [v for v in dataset.data_vars if v == name or str(v).startswith(f"{name}_")]
    found = [row for row in table(dataset[keep]) if row.pop("outcome") == name]
    if all(row["z"] is None or math.isnan(row["z"]) for row in found):
        found = [{k: v for k, v in row.items() if k != "z"} for row in found]
    shown, method = found[:rows], ""
    if wanted:
        array = quantiles(dataset, name, wanted)
        shown, method = list(_joined(shown, array)), f"; quantiles: {array.attrs['method']}"
    confidence = f"{100 * dataset.attrs['confidence']:g}% intervals"
    console.print(f"{dataset[name].attrs['long_name']}, {confidence}{method}", highlight=False)
    console.print(results_table(shown))
    if len(found) > rows:
        console.print(f"{len(found) - rows} more rows; narrow them with --select, or give --rows", highlight=False)
    if outcome is None and len(known) > 1:
        console.print(f"other outcomes, for --outcome: {', '.join(known[1:])}", highlight=False)


def _joined(rows: list[dict[str, Any]], array: xr.DataArray) -> Iterator[dict[str, Any]]:
    """Rows, which are the first points in order, with their quantiles; no other point's are computed."""
    names, points = [f"q{q:g}" for q in array["quantile"].values], array.shape[1:]
    left = iter(rows)
    for at in boxes(points, box(points, len(rows))):
        part = array.isel(dict(zip(array.dims[1:], at, strict=True))).values
        for values in part.reshape(len(names), -1).T.tolist():
            row = next(left, None)
            if row is None:
                return
            yield row | dict(zip(names, values, strict=True))


def results_table(rows: list[dict[str, Any]]) -> Table:
    shown = Table(*(rows[0] if rows else ()), box=None)
    for row in rows:
        shown.add_row(*(_cell(v) for v in row.values()))
    return shown


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
