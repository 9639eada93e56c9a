"""The command line. A user's mistake is one line on standard error and exit status 2; failed blocks are exit 3."""

from __future__ import annotations

import json
import logging
import random
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deploy import cli_capacity, cli_export, cli_jobs, cli_needed, cli_operations, cli_witness
from deploy.arguments import fractions, larger, more_values
from deploy.exits import FAILED, INTERRUPTED, LISTED, SPENT
from deploy.said import say
from deploy.screen import make_console
from deploy.screen import show as show_events
from sweeps import catalog as catalog_folder
from sweeps import logs
from sweeps import statistics as registry
from sweeps.blocks import plan
from sweeps.errors import SpecError, SweepsError
from sweeps.events import BlockDone, Event, SweepDone
from sweeps.sweep import Sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cli_export.register(app)
cli_jobs.register(app)
cli_witness.register(app)
cli_capacity.register(app)
cli_needed.register(app)
cli_operations.register(app)
console = make_console()

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="a TOML file, or a name from `sweeps catalog`")]
StoreUrl = Annotated[str, typer.Argument(metavar="STORE", help="path or URL of a store")]
Select = Annotated[list[str] | None, typer.Option("--select", "-s", help="keep a value of an axis, such as width=256")]
InThisProcess = Annotated[bool, typer.Option("--inline", help="in this process, without Ray")]
Workers = Annotated[int | None, typer.Option(min=1, help="by default one per GPU, else per CPU core")]
Address = Annotated[str | None, typer.Option(help="a running Ray cluster, such as auto; default: a local one")]
MaxTime = Annotated[str | None, typer.Option(help="instead of the spec's: seconds, or such as '12 h'")]
MaxGpuHours = Annotated[float | None, typer.Option(help="instead of the spec's, over all runs")]
MaxDraws = Annotated[int | None, typer.Option(help="instead of the spec's, over all points and runs")]
OutcomeName = Annotated[str | None, typer.Option("--outcome", "-o", help="by default the first one")]


@app.callback()
def prepare(context: typer.Context) -> None:
    """Monte-Carlo sweeps over the geometry of random ReLU networks."""
    from deploy import settings

    if context.invoked_subcommand != "settings":  # which says where each of them comes from
        settings.into_environment()
        logs.set_up()


@app.command()
def validate(spec: Spec) -> None:
    """Check a spec and say what it would do."""
    from storage import urls
    from storage.layout import arrays

    sweep = Sweep.from_toml(spec)
    if sweep.store is not None:
        urls.check(sweep.store.url)
    cut = plan(sweep)
    arrays(sweep, cut, cut.pieces[0])  # names that clash
    blocks = len(cut)
    typer.echo(f"{sweep.name}: {sweep.statistic}, {sweep.size} points x {sweep.draws} draws in {blocks} blocks")
    typer.echo(f"fingerprint {sweep.fingerprint}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from deploy import describe

    typer.echo(json.dumps(describe.spec_schema(), indent=2))


@app.command("statistics")
def list_statistics() -> None:
    """List what can be measured."""
    from deploy import describe

    console.print(describe.statistics_table())


@app.command("describe")
def describe_statistic(name: Annotated[str, typer.Argument(metavar="NAME", help="a statistic")]) -> None:
    """Show a statistic: parameters with ranges and units, outcomes, theory, source."""
    from deploy import describe

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
    from deploy import describe
    from deploy.estimate import estimate as make

    describe.print_estimate(make(Sweep.from_toml(spec)), workers, console)


@app.command()
def run(
    spec: Spec,
    inline: InThisProcess = False,
    workers: Workers = None,
    address: Address = None,
    max_time: MaxTime = None,
    max_gpu_hours: MaxGpuHours = None,
    max_draws: MaxDraws = None,
) -> None:
    """Run a sweep, or resume it: exactly the missing blocks are measured."""
    from deploy.session import Where, run_sweep, store_url

    sweep = Sweep.from_toml(spec)
    sweep = sweep.model_copy(update={"budget": larger(sweep.budget, max_time, max_gpu_hours, max_draws)})
    events = run_sweep(sweep, Where(inline, address, workers))
    follow(events, sweep.name, store_url(sweep), f"sweeps run {shlex.quote(spec)}")


@app.command()
def resume(
    store: StoreUrl,
    inline: InThisProcess = False,
    workers: Workers = None,
    address: Address = None,
    max_time: MaxTime = None,
    max_gpu_hours: MaxGpuHours = None,
    max_draws: MaxDraws = None,
) -> None:
    """Measure what a store lacks, by what it says of its sweep."""
    from deploy.session import Where, run_store
    from storage.zarr_store import ZarrStore

    held = ZarrStore.open(store)
    budget = larger(held.sweep.budget, max_time, max_gpu_hours, max_draws)
    follow(run_store(held, Where(inline, address, workers), budget), held.sweep.name, store, again(store))


@app.command()
def extend(
    store: StoreUrl,
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]", help="the larger sweep, as a whole")] = None,
    draws: Annotated[int | None, typer.Option(help="at every point; with `until`, the most of them")] = None,
    halfwidth: Annotated[float | None, typer.Option(help="of a sweep with `until`; tighter than before")] = None,
    axis: Annotated[
        list[str] | None, typer.Option(help="more values, such as width=48,96 or 'rho={ linspace = [0, 1, 11] }'")
    ] = None,
    inline: InThisProcess = False,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Give a store more draws, a tighter halfwidth or more values on an axis, and measure what that adds."""
    from deploy import session
    from sweeps.extension import grown

    if (spec is None) == (draws is None and halfwidth is None and not axis):
        raise SpecError("say what to add: either a larger SPEC, or some of --draws, --halfwidth and --axis")
    larger_one = Sweep.from_toml(spec) if spec else None
    axes = more_values(axis or [])
    held = session.extend(store, lambda now: larger_one or grown(now, draws, halfwidth, axes))
    where = session.Where(inline, address, workers)
    asked = larger_one or held.sweep
    events = session.run_store(held, where, asked.budget, asked.track, device=asked.device)
    follow(events, held.sweep.name, store, again(store))


def follow(events: Iterator[Event], name: str, url: str, resume_with: str) -> None:
    """Show a sweep to its end, and say how it ended, in words and by exit status."""
    measured, end = 0, None
    logs.set_up("stdout")
    logs.about(sweep=name)
    try:
        for event in show_events(events, name, console):
            measured += isinstance(event, BlockDone)
            end = event if isinstance(event, SweepDone) else end
    except KeyboardInterrupt:
        say(f"\nstopped; {measured} blocks were measured and are safe in {url}", err=True)
        say(f"resume with: {resume_with}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if end is not None and end.failed:
        for failure in end.failed[:LISTED]:
            text = f"block {failure.block} failed {failure.attempts} times: {failure.error}"
            say(text, err=True, level=logging.ERROR, block=failure.block, attempt=failure.attempts)
        more = f" ({len(end.failed) - LISTED} of them not listed)" if len(end.failed) > LISTED else ""
        counts = f"{len(end.failed)} blocks failed{more}, {end.done} are in {url}"
        also = f", {end.missing} were not tried: ended by {end.ended}" if end.ended else ""
        say(f"{counts}{also}; try them again with: {resume_with}{_more_budget(end.ended)}", err=True)
        raise typer.Exit(FAILED)
    if end is not None and end.ended:
        say(f"ended by {end.ended}; {end.done} blocks are in {url}, {end.missing} are still to be measured")
        say(f"go on with: {resume_with}{_more_budget(end.ended)}")
        raise typer.Exit(SPENT)
    there = shlex.quote(url)
    say(f"done: {url}\nlook at it with: sweeps show {there}   or: sweeps plot {there}")


def _more_budget(ended: str) -> str:
    """The option that lets a sweep go on that a part of its budget ended; time is of each run."""
    limit = ended.partition(" ")[0].removeprefix("budget.")
    return f" --{limit.replace('_', '-')} MORE" if limit not in ("", "max_time") else ""


def again(store: str) -> str:
    return f"sweeps resume {shlex.quote(store)}"


@app.command()
def verify(
    store: StoreUrl,
    blocks: Annotated[int, typer.Option(min=1, help="how many committed blocks to measure again")] = 8,
    seed: Annotated[int | None, typer.Option(help="choose the same blocks again")] = None,
) -> None:
    """Measure random committed blocks again and compare bytes with what is stored; hash a copy by `compact` again."""
    from deploy.verify import verify as check
    from storage.compact import is_copy
    from storage.zarr_store import ZarrStore

    if is_copy(store):
        cli_export.verify_copy(store)
        return
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
    quantiles: Annotated[str | None, typer.Option(help="of the draws, such as 0.05,0.5,0.95")] = None,
) -> None:
    """Print estimates with their intervals, beside theory."""
    from deploy import describe
    from storage.query import open_sweep
    from storage.query import select as choose

    wanted = fractions("--quantiles", quantiles) if quantiles is not None else []
    describe.print_results(choose(open_sweep(store), select or []), outcome, rows, console, wanted)


@app.command()
def plot(
    store: StoreUrl,
    select: Select = None,
    outcome: Annotated[
        list[str] | None, typer.Option("--outcome", "-o", help="by default the first one; several get a panel each")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="a .png, .svg or .pdf; by default named after store and outcome")
    ] = None,
    histogram: Annotated[bool, typer.Option("--histogram", help="how the draws are distributed instead")] = False,
    against: Annotated[str | None, typer.Option(help="another outcome, to be x: a marker a point")] = None,
    log_x: Annotated[bool, typer.Option("--log-x", help="logarithmic also where values are not geometric")] = False,
    log_y: Annotated[bool, typer.Option("--log-y", help="logarithmic")] = False,
) -> None:
    """Draw an outcome with confidence bands and theory, against another outcome, or the distribution of its draws."""
    from deploy import describe
    from storage.distribution_figure import draw_histogram
    from storage.figures import draw, save
    from storage.query import open_sweep
    from storage.query import select as choose
    from storage.scatter_figure import draw_against
    from storage.side_by_side import side_by_side

    names, log = outcome or [], {"log_x": log_x, "log_y": log_y}
    for option, given in (("--histogram", histogram), ("--against", against is not None)):
        if given and len(names) > 1:
            raise SpecError(f"{option} is of one outcome, got {', '.join(names)}")
    if histogram and (against is not None or log_x or log_y):
        raise SpecError("--histogram goes without --against, --log-x and --log-y")
    dataset = choose(open_sweep(store), select or [])
    names = names or [describe.first_outcome(dataset)]
    if histogram:
        figure, ending = draw_histogram(dataset, names[0]), "-histogram"
    elif against is not None:
        figure, ending = draw_against(dataset, names[0], against, **log), f"-against-{against}"
    else:
        shown = side_by_side(dataset, names) if len(names) > 1 else dataset
        figure, ending = draw(shown, " and ".join(names), **log), ""
    path = out or Path(f"{Path(store.rstrip('/')).name.removesuffix('.zarr')}-{'-'.join(names)}{ending}.png")
    save(figure, path)
    typer.echo(f"wrote {path}")


@app.command()
def track(store: StoreUrl, uri: Annotated[str | None, typer.Option(help="tracking server")] = None) -> None:
    """Rebuild the MLflow runs of a store from the store alone."""
    from storage.tracking import rebuild
    from storage.zarr_store import ZarrStore

    typer.echo(rebuild(ZarrStore.open(store), uri))


@app.command()
def chaos(
    spec: Spec,
    kills: Annotated[int, typer.Option(min=1, help="how many disturbances")] = 20,
    seed: Annotated[int, typer.Option(help="of their times and kinds")] = 0,
    raylets: Annotated[int, typer.Option(min=1, help="of one worker each")] = 2,
    keep: Annotated[
        Path | None, typer.Option(help="a new folder for stores and logs; default: a temporary one")
    ] = None,
) -> None:
    """Run a sweep while killing workers, raylets, driver and MLflow server, and compare with an undisturbed run."""
    from deploy.chaos import chaos as disturb

    sweep = Sweep.from_toml(spec)
    with ExitStack() as stack:
        if keep is None:
            keep = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        elif keep.exists():
            raise SpecError(f"--keep {str(keep)!r} exists already; give a new folder")
        keep.mkdir(parents=True, exist_ok=True)
        verdict = disturb(sweep, kills, seed, keep.absolute(), typer.echo, raylets)
    typer.echo(verdict)
    if not verdict.clean:
        raise typer.Exit(FAILED)


def main(arguments: list[str] | None = None) -> None:
    """The console script."""
    try:
        app(args=arguments, prog_name="sweeps", standalone_mode=True)
    except SweepsError as error:
        say(f"error: {error}", err=True, level=logging.ERROR)
        sys.exit(2)
    except KeyboardInterrupt:
        say("interrupted", err=True)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
