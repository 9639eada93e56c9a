"""The command `capacity`: half-points of a proportion, and what they are extrapolated to, beside theory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.screen import make_console
from sweeps.errors import SpecError

if TYPE_CHECKING:
    from xarray import Dataset

SIZE = "n"

Store = Annotated[str, typer.Argument(metavar="STORE", help="path or URL of a store")]
Select = Annotated[list[str] | None, typer.Option("--select", "-s", help="keep a value of an axis, such as n=3,4,5")]
OutcomeName = Annotated[str, typer.Option("--outcome", "-o", help="a proportion")]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(capacity)


def capacity(
    store: Store,
    outcome: OutcomeName = "injective",
    axis: Annotated[str, typer.Option(help="along which the proportion crosses the level")] = "alpha",
    size: Annotated[
        str | None, typer.Option(help=f"the axis to extrapolate along; by default {SIZE}, if there is one")
    ] = None,
    level: Annotated[float, typer.Option(help="of the proportion, between 0 and 1")] = 0.5,
    exponent: Annotated[float | None, typer.Option(help="of the approach to the limit; by default fitted")] = None,
    select: Select = None,
    out: Annotated[Path | None, typer.Option(help="also draw it: a .png, .svg or .pdf")] = None,
) -> None:
    """Print where a proportion crosses one half, and extrapolate that to infinite size, beside theory."""
    from storage.capacity import half_points
    from storage.finite_size import scaling
    from storage.query import open_sweep
    from storage.query import select as choose

    half = half_points(choose(open_sweep(store), select or []), outcome, axis, level)
    if half["half_point"].isnull().all():
        raise SpecError(f"{outcome!r} has no half-point along {axis!r}: {_why(half)}")
    if size is None and SIZE not in half["half_point"].dims:
        if out is not None or exponent is not None:
            raise SpecError("there is no axis to extrapolate along, nor so to draw; name one with --size")
        _print_half_points(half)
        return
    fitted = scaling(half, size or SIZE, exponent)
    _print_half_points(half)
    _print_fits(fitted)
    _print_references(half)
    if out is not None:
        from storage.capacity_figure import draw_capacity
        from storage.figures import save

        save(draw_capacity(half, fitted), out)
        typer.echo(f"wrote {out}")


def _why(half: Dataset) -> str:
    """Why the first curve has no half-point."""
    place, first = next(rows_of(half, ["reason"]))
    where = ", ".join(f"{k} = {v}" for k, v in place.items())
    return f"{where}: {first['reason']}" if where else first["reason"]


def rows_of(ds: Dataset, names: list[str]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(place, values) of every place along the dimensions of some variables."""
    array = ds[names[0]]
    columns = {name: ds[name].values.ravel().tolist() for name in names}
    scalars = {str(k): v.item() for k, v in array.coords.items() if v.ndim == 0}
    for i, at in enumerate(_places(array.shape)):
        place = {str(d): array[d].values[k].item() for d, k in zip(array.dims, at, strict=True) if d in array.coords}
        yield scalars | place, {name: column[i] for name, column in columns.items()}


def _places(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    from numpy import ndindex

    return iter(ndindex(shape))


def _print_half_points(half: Dataset) -> None:
    from deploy.describe import results_table

    names = ["half_point", "ci_low", "ci_high"]
    names += ["theory"] if half["theory"].notnull().any() else []
    names += ["undefined", "if_true", "if_false"] if half["undefined"].any() else []
    names += ["reason"] if (half["reason"] != "").any() else []
    about = half.attrs
    console = make_console()
    console.print(
        f"{half['half_point'].attrs['long_name']}, {100 * about['confidence']:g}% intervals{unfinished(about)}",
        highlight=False,
        markup=False,
    )
    console.print(results_table([place | values for place, values in rows_of(half, names)]))


def unfinished(about: dict[str, Any]) -> str:
    """Words for a sweep that is not finished."""
    done, blocks = about["committed_blocks"], about["blocks"]  # with `until` the plan is an upper bound
    return "" if done == blocks or about["until"] else f"; unfinished: {done} of {blocks} blocks"


def _print_fits(fitted: Dataset) -> None:
    from deploy.describe import results_table

    size, console = str(fitted.attrs["size"]), make_console()
    if fitted["limit"].isnull().all():
        for reason in dict.fromkeys(fitted["reason"].isel(without=0).values.ravel().tolist()):
            console.print(f"\nno limit: {reason}", highlight=False, markup=False)
        return
    names = ["limit", "limit_low", "limit_high", "exponent", "exponent_low", "exponent_high", "chi2", "dof"]
    names += ["reason"] if (fitted["reason"] != "").any() else []
    rows = [place | values for place, values in rows_of(fitted, names)]
    for row in rows:
        row["without"] = f"smallest {size}" if row["without"] else "none"
    console.print(f"\nfitted: limit - amplitude {size}^-exponent", highlight=False)
    console.print(results_table(rows))


def _print_references(half: Dataset) -> None:
    """What theory knows of the axis."""
    from deploy.describe import results_table
    from storage.capacity_figure import references_of

    if known := references_of(half):
        console = make_console()
        console.print()
        console.print(results_table([{"theory": r.value, "what it is": r.label} for r in known]))
