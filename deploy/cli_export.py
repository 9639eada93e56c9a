"""Commands that make copies of a store for others: `export` to one file, `compact` to a group for publication."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.exits import FAILED
from deploy.screen import size

Store = Annotated[str, typer.Argument(metavar="STORE", help="path or URL of a store")]
Select = Annotated[list[str] | None, typer.Option("--select", "-s", help="keep a value of an axis, such as width=256")]
OutcomeName = Annotated[str | None, typer.Option("--outcome", "-o", help="by default all of them")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(export)
    app.command()(compact)


def export(
    store: Store,
    out: Annotated[str, typer.Argument(metavar="OUT", help="a .nc, .parquet or .csv")],
    select: Select = None,
    outcome: OutcomeName = None,
    draws: Annotated[bool, typer.Option("--draws", help="the draws too; a table gets a row a draw instead")] = False,
    force: Annotated[bool, typer.Option("--force", help="write over an existing file")] = False,
) -> None:
    """Write a store, or a part of it, to a NetCDF, Parquet or CSV file."""
    from storage.export import export as write

    path = write(store, out, selection=select or [], outcome=outcome, draws=draws, force=force)
    typer.echo(f"wrote {out}, {size(path.stat().st_size)}")


def compact(
    store: Store,
    out: Annotated[str, typer.Argument(metavar="OUT", help="an empty place: a path or a URL")],
    partial: Annotated[bool, typer.Option("--partial", help="also of an unfinished sweep")] = False,
) -> None:
    """Write a merged copy of a store for publication, with a hash of its content; `sweeps verify OUT` checks it."""
    from storage.compact import compact as write

    made = write(store, out, partial=partial)
    before, after = (f"{amount.objects:,} objects, {size(amount.bytes)}" for amount in (made.before, made.after))
    typer.echo(f"wrote {out}, {made.status}: {before} became {after}\ncontent hash {made.content_hash}")


def verify_copy(url: str) -> None:
    """Hash a copy that `compact` made again, and say what differs."""
    from storage.compact import check

    lines = check(url)
    for line in lines:
        typer.echo(line, err=True)
    typer.echo(f"{url} is {'not what' if lines else 'what'} its content hash says")
    if lines:
        raise typer.Exit(FAILED)
