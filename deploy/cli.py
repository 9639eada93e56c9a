"""The command line. A user's mistake is one line on standard error and exit status 2; failed blocks are exit 3."""

from __future__ import annotations

import json
import random
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deploy import cli_jobs, describe
from deploy.screen import make_console
from deploy.screen import show as show_events
from sweeps import catalog as catalog_folder
from sweeps import statistics as registry
from sweeps.errors import SweepsError
from sweeps.events import BlockDone, SweepDone
from sweeps.sweep import Sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Monte-Carlo sweeps over the geometry of random ReLU networks.",
)
cli_jobs.register(app)
console = make_console()
FAILED, INTERRUPTED = 3, 130
LISTED = 20  # failed blocks named at the end

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="a TOML file, or a name from `sweeps catalog`")]
StoreUrl = Annotated[str, typer.Argument(metavar="STORE", help="path or URL of a store")]
Select = Annotated[list[str] | None, typer.Option("--select", "-s", help="keep a value of an axis, such as width=256")]
OutcomeName = Annotated[str | None, typer.Option("--outcome", "-o", help="by default the first one")]


@app.command()
def validate(spec: Spec) -> None:
    """Check a spec and say what it would do."""
    from storage.layout import layout

    sweep = Sweep.from_toml(spec)
    blocks = len(layout(sweep).plan)
    typer.echo(f"{sweep.name}: {sweep.statistic}, {sweep.size} points x {sweep.draws} draws in {blocks} blocks")
    typer.echo(f"fingerprint {sweep.fingerprint}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    typer.echo(json.dumps(describe.spec_schema(), indent=2))


@app.command("statistics")
def list_statistics() -> None:
    """List what can be measured."""
    console.print(describe.statistics_table())


@app.command("describe")
def describe_statistic(name: Annotated[str, typer.Argument(metavar="NAME", help="a statistic")]) -> None:
    """Show a statistic: parameters with ranges and units, outcomes, theory, source."""
    describe.print_statistic(registry.get(name), console)


@app.command()
def catalog(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="print this one's TOML")] = None,
) -> None:
    """List the ready sweeps, or print one to copy and change."""
    if name is not None:
        typer.echo(catalog_folder.text(name), nl=False)
        return
    table = Table("name", "statistic", "points", "draws", box=None)
    for known in catalog_folder.names():
        sweep = Sweep.from_toml(known)
        table.add_row(known, sweep.statistic, str(sweep.size), str(sweep.draws))
    console.print(table)


@app.command()
def estimate(spec: Spec, workers: Annotated[int, typer.Option(min=1, help="how many will share the work")] = 2) -> None:
    """Count points, blocks and bytes, and time a short pilot at the cheapest and dearest points."""
    from deploy.estimate import estimate as make

    describe.print_estimate(make(Sweep.from_toml(spec)), workers, console)


@app.command()
def run(
    spec: Spec,
    inline: Annotated[bool, typer.Option("--inline", help="in this process, without Ray")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="by default one per GPU, else per CPU core")] = None,
    address: Annotated[
        str | None, typer.Option(help="a running Ray cluster, such as auto; default: a local one")
    ] = None,
) -> None:
    """Run a sweep, or resume it: exactly the missing blocks are measured."""
    from deploy.session import Where, run_sweep, store_url

    sweep = Sweep.from_toml(spec)
    measured, end, url = 0, None, store_url(sweep)
    try:
        for event in show_events(run_sweep(sweep, Where(inline, address, workers)), sweep.name, console):
            measured += isinstance(event, BlockDone)
            end = event if isinstance(event, SweepDone) else end
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; {measured} blocks were measured and are safe in {url}", err=True)
        typer.echo(f"resume with: sweeps run {shlex.quote(spec)}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _report(end, url, spec)


def _report(end: SweepDone | None, url: str, spec: str) -> None:
    if end is not None and end.failed:
        for failure in end.failed[:LISTED]:
            typer.echo(f"block {failure.block} failed {failure.attempts} times: {failure.error}", err=True)
        more = f" ({len(end.failed) - LISTED} of them not listed)" if len(end.failed) > LISTED else ""
        again = f"try them again with: sweeps run {shlex.quote(spec)}"
        typer.echo(f"{len(end.failed)} blocks failed{more}, {end.done} are in {url}; {again}", err=True)
        raise typer.Exit(FAILED)
    there = shlex.quote(url)
    typer.echo(f"done: {url}\nlook at it with: sweeps show {there}   or: sweeps plot {there}")


@app.command()
def verify(
    store: StoreUrl,
    blocks: Annotated[int, typer.Option(min=1, help="how many committed blocks to measure again")] = 8,
    seed: Annotated[int | None, typer.Option(help="choose the same blocks again")] = None,
) -> None:
    """Measure random committed blocks again and compare bytes with what is stored."""
    from deploy.verify import verify as check
    from storage.zarr_store import ZarrStore

    chosen = seed if seed is not None else random.SystemRandom().randrange(2**31)
    outcome = check(ZarrStore.open(store), blocks, chosen)
    for line in outcome.lines:
        typer.echo(line, err=True)
    typer.echo(
        f"{outcome.equal} of {outcome.tried} blocks are equal to the byte (seed {chosen})"
        + (
            f"; {outcome.elsewhere} were measured on another kind of device and not compared"
            if outcome.elsewhere
            else ""
        )
    )
    if outcome.equal < outcome.tried:
        raise typer.Exit(FAILED)


@app.command()
def gc(store: StoreUrl) -> None:
    """Remove what killed writers left behind. Do not run it while the sweep runs."""
    from storage.zarr_store import ZarrStore

    removed = ZarrStore.open(store).gc()
    for path in removed:
        typer.echo(f"removed {path}")
    typer.echo(f"{len(removed)} leftovers removed")


@app.command()
def show(
    store: StoreUrl,
    select: Select = None,
    outcome: OutcomeName = None,
    rows: Annotated[int, typer.Option(min=1, help="at most this many")] = 40,
) -> None:
    """Print estimates with their intervals, beside theory."""
    from storage.query import open_sweep
    from storage.query import select as choose

    describe.print_results(choose(open_sweep(store), select or []), outcome, rows, console)


@app.command()
def plot(
    store: StoreUrl,
    select: Select = None,
    outcome: OutcomeName = None,
    out: Annotated[
        Path | None, typer.Option(help="a .png, .svg or .pdf; by default named after store and outcome")
    ] = None,
) -> None:
    """Draw an outcome with confidence bands and theory."""
    from storage.figures import draw, save
    from storage.query import open_sweep
    from storage.query import select as choose

    dataset = choose(open_sweep(store), select or [])
    name = outcome or describe.first_outcome(dataset)
    path = out or Path(f"{Path(store.rstrip('/')).name.removesuffix('.zarr')}-{name}.png")
    save(draw(dataset, outcome), path)
    typer.echo(f"wrote {path}")


@app.command()
def track(store: StoreUrl, uri: Annotated[str | None, typer.Option(help="tracking server")] = None) -> None:
    """Rebuild the MLflow runs of a store from the store alone."""
    from storage.tracking import rebuild
    from storage.zarr_store import ZarrStore

    typer.echo(rebuild(ZarrStore.open(store), uri))


def main(arguments: list[str] | None = None) -> None:
    """The console script."""
    try:
        app(args=arguments, prog_name="sweeps", standalone_mode=True)
    except SweepsError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
