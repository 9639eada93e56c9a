"""The command `needed`: from which width on an outcome is small enough with the probability wanted."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.cli_capacity import Store, rows_of, unfinished
from deploy.screen import make_console

Outcome = Annotated[str, typer.Option("--outcome", "-o", help="an error, whose draws or bins are stored")]
AtMost = Annotated[float, typer.Option("--at-most", help="how large it may be")]
Confidence = Annotated[float, typer.Option(help="the probability, between 0 and 1, with which it may not be larger")]
Along = Annotated[str, typer.Option(help="a numeric axis")]
Select = Annotated[list[str] | None, typer.Option("--select", "-s", help="keep a value of an axis, such as layer=1")]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("needed")(print_needed)


def print_needed(
    store: Store,
    outcome: Outcome,
    at_most: AtMost,
    confidence: Confidence = 0.95,
    along: Along = "width",
    select: Select = None,
) -> None:
    """Print from which width on an outcome stays at most so large with a probability, such as an error."""
    from deploy.describe import results_table
    from storage.needs import needed
    from storage.query import open_sweep
    from storage.query import select as choose

    found = needed(choose(open_sweep(store), select or []), outcome, at_most, confidence, along)
    names = ["needed", "ci_low", "ci_high"]
    names += ["undefined"] if found["undefined"].any() else []
    names += ["reason"] if (found["reason"] != "").any() else []
    words, interval = found["needed"].attrs["long_name"], f"{100 * found.attrs['confidence']:g}% intervals"
    console = make_console()
    console.print(f"{words}, {interval}{unfinished(found.attrs)}", highlight=False, markup=False)
    console.print(results_table([place | values for place, values in rows_of(found, names)]))
