"""The tour that `make demo` gives: three catalog sweeps on Ray actors, numbers beside theory, figures, MLflow runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from deploy.describe import print_results
from deploy.screen import duration, make_console, show
from deploy.session import run_sweep, store_url
from storage.figures import draw, save
from storage.query import open_sweep, select
from sweeps.sweep import Sweep


@dataclass(frozen=True)
class Stop:
    """A catalog sweep, and the part of its result that is printed."""

    sweep: str
    outcome: str
    selection: tuple[str, ...]


TOUR = (
    Stop("injectivity-phase", "injective", ("n=2,6", "alpha=3,4,5,6,7")),
    Stop("folding-init", "chi", ("width=256",)),
    Stop("angle-photos", "cosine", ("pair=4", "layer=1,8")),
)


def main() -> None:
    console, start = make_console(), time.monotonic()
    for stop in TOUR:
        console.rule(stop.sweep)
        sweep = Sweep.from_toml(stop.sweep)
        for _ in show(run_sweep(sweep), sweep.name, console):
            pass
        dataset = open_sweep(store_url(sweep))
        print_results(select(dataset, stop.selection), stop.outcome, 40, console)
        figure = Path("results") / f"{stop.sweep}.png"
        save(draw(dataset, stop.outcome), figure)
        console.print(f"figure: {figure}", highlight=False)
    console.rule(f"done in {duration(time.monotonic() - start)}")
    console.print(NEXT, highlight=False, markup=False, soft_wrap=True)


NEXT = """\
compare the runs:   .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db      then open http://127.0.0.1:5000
slice the results:  .venv/bin/python
                    >>> from storage import open_sweep
                    >>> ds = open_sweep("results/angle-photos.zarr")
                    >>> ds.cosine.sel(network="cnn", inputs="photo-raw").mean("pair").values
                    >>> ds.cosine_theory.sel(network="cnn", inputs="photo-raw").mean("pair").values"""


if __name__ == "__main__":
    main()
