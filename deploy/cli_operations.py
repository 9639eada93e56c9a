"""Commands for whoever keeps it running: settings, doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deploy.exits import FAILED

if TYPE_CHECKING:
    from rich.table import Table

Store = Annotated[
    str | None, typer.Argument(metavar="[STORE]", help="path or URL of a store, there or not; default: results/")
]
Address = Annotated[str | None, typer.Option(help="the dashboard's; default: as for `sweeps submit`")]


def register(app: typer.Typer) -> None:
    app.command("settings")(show_settings)
    app.command()(doctor)


def show_settings() -> None:
    """Print every setting, its value and where that comes from; secrets are masked."""
    from deploy.screen import make_console

    console = make_console()
    for table in (_settings(), _variables()):
        console.print(table)
        console.print()
    typer.echo("an option of the command line (--set slurm.partition=gpu) counts before all of these")


def doctor(store: Store = None, address: Address = None) -> None:
    """Try all that a sweep needs, and say what is wrong and how to mend it; exit status 3 where something is."""
    from deploy import doctor as surgery
    from deploy.screen import make_console

    found = surgery.examine(surgery.Patient(store or surgery.DEFAULT_STORE, address))
    if surgery.show(found, make_console()):
        raise typer.Exit(FAILED)


def _settings() -> Table:
    from rich.table import Table

    from deploy import settings
    from deploy.variables import NOT_GIVEN, masked

    table = Table("setting", "value", "from", "or set", box=None)
    for name in settings.names():
        held = {setting.name: setting for setting in settings.found(name)}
        for field in settings.section(name).model_fields:
            setting, known = held.get(field), settings.variable(name, field)
            given = setting is not None and setting.value is not None
            value = str(setting.value) if setting is not None and given else NOT_GIVEN
            value = masked(value) if settings.section(name).others_call(field) else value
            table.add_row(f"{name}.{field}", _literal(value), setting.source if setting and given else "", known)
    return table


def _variables() -> Table:
    from rich.table import Table

    from deploy.variables import KNOWN

    table = Table("environment", "value", "what it is", box=None)
    for variable in KNOWN:
        table.add_row(variable.name, _literal(variable.shown), variable.what)
    return table


def _literal(text: str) -> str:
    from rich.markup import escape

    return escape(text)
