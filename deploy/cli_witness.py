"""`sweeps witness`: draw one network of a store again, and show two inputs that it maps to one output."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from deploy.screen import make_console
from sweeps.errors import SpecError

if TYPE_CHECKING:
    from sweeps.sweep import Sweep
    from sweeps.witness import Witness

SHOWN = 24  # inputs printed; the rest with --json


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(witness)


def witness(
    store: Annotated[str, typer.Argument(metavar="STORE", help="path or URL of a store")],
    draw: Annotated[int, typer.Option(min=0, help="index of the draw at its point, from 0")],
    point: Annotated[list[str] | None, typer.Option("--point", "-p", help="a value an axis, such as n=4")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="both inputs to the last digit, as fractions")] = False,
) -> None:
    """Show two inputs with one output, which prove that a draw's network is not injective."""
    from storage.query import open_sweep, select
    from storage.zarr_store import ZarrStore

    sweep = ZarrStore.open(store).sweep
    if sweep.definition.witness is None:
        raise SpecError(f"statistic {sweep.statistic!r} has no witness; those of injectivity have")
    if draw >= sweep.draws:
        raise SpecError(f"--draw must be below draws = {sweep.draws}, the most at a point, got {draw}")
    chosen = select(open_sweep(store), point or [])
    several = [name for name in sweep.axes if chosen[name].size > 1]
    if several:
        values = ", ".join(str(v) for v in chosen[several[0]].values[:8])
        raise SpecError(f"--point must name one value of every axis; {several[0]!r} is left, such as {values}")
    here = {name: chosen[name].values.reshape(-1)[0].item() for name in sweep.axes}
    found = find(sweep, here, draw)
    where = ", ".join(f"{name} = {value}" for name, value in here.items())
    if as_json:
        typer.echo(json.dumps(_plain(here, draw, found)))
    elif found is None:
        typer.echo(f"draw {draw} at {where}: no two inputs with one output were found")
    else:
        _print(found, f"draw {draw} at {where}")


def find(sweep: Sweep, here: dict[str, Any], draw: int) -> Witness | None:
    """The witness of one draw at the point that has these values on the sweep's axes."""
    import numpy as np

    from sweeps.blocks import keys_of
    from sweeps.measure import numerics
    from sweeps.statistic import Networks, Points

    points = Points({**sweep.fixed, **here})
    networks = Networks(points, keys_of(sweep, points), np.array([draw], np.uint64))
    ask = sweep.definition.witness
    with numerics(sweep.precision):
        return ask(networks) if ask else None


def _plain(here: dict[str, Any], draw: int, found: Witness | None) -> dict[str, Any]:
    if found is None:
        return {"point": here, "draw": draw, "witness": None}
    first, second = found.exact or (found.first.tolist(), found.second.tolist())
    told = {
        "x": [str(v) if isinstance(v, Fraction) else v for v in first],
        "x'": [str(v) if isinstance(v, Fraction) else v for v in second],
        "distance": found.distance,
        "exact": found.exact is not None,
        "difference": found.difference,
        "why": found.why,
    }
    return {"point": here, "draw": draw, "witness": told}


def _print(found: Witness, title: str) -> None:
    console = make_console()
    console.print(f"{title}: not injective; {found.why}", highlight=False, markup=False, soft_wrap=True)
    inputs = Table("input", "x", "x'", box=None)
    for i, (a, b) in enumerate(zip(found.first[:SHOWN].tolist(), found.second[:SHOWN].tolist(), strict=True)):
        inputs.add_row(str(i), repr(a), repr(b))
    console.print(inputs)
    if len(found.first) > SHOWN:
        console.print(f"{len(found.first) - SHOWN} more inputs; --json gives all", highlight=False)
    equal = f"equal to within {found.difference:.3g} in float64"
    if found.exact:
        equal += ", and without rounding in the rational numbers these are rounded from"
    console.print(f"|x - x'| = {found.distance:.6g}; outputs {equal}", highlight=False, markup=False, soft_wrap=True)
