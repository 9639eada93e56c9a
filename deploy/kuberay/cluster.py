"""Print a standing Ray cluster, of the same settings as `sweeps submit --kuberay`:
`python -m deploy.kuberay.cluster --set kuberay.image=... | kubectl apply -f -`.
"""

from __future__ import annotations

from typing import Annotated, cast

import typer

from deploy.kuberay import manifests
from deploy.kuberay.settings import Kuberay
from deploy.settings import resolve
from sweeps.errors import SweepsError

NAME = "sweeps"


def main(
    settings: Annotated[list[str] | None, typer.Option("--set", help="such as kuberay.max_workers=8")] = None,
) -> None:
    """Print a standing Ray cluster as YAML."""
    try:
        held = cast(Kuberay, resolve("kuberay", more=settings or []))
    except SweepsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(manifests.text(manifests.cluster(held, NAME)), nl=False)


if __name__ == "__main__":
    typer.run(main)
