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
    """A catalog sweep, or `only` some values of one of its axes, and the part of its result that is printed."""

    sweep: str
    outcome: str
    selection: tuple[str, ...]
    only: tuple[str, tuple[int, ...]] | None = None

    def taken(self) -> Sweep:
        whole = Sweep.from_toml(self.sweep)
        if self.only is None:
            return whole
        axes = {**whole.axes, self.only[0]: self.only[1]}
        return Sweep.of({**whole.model_dump(mode="json"), "name": f"{self.sweep}-demo", "axes": axes})


TOUR = (
    Stop("injectivity-phase", "injective", ("n=2,6", "alpha=3,4,5,6,7"), only=("n", (2, 3, 4, 5, 6))),
    Stop("folding-init", "chi", ("width=256",)),
    Stop("angle-photos", "cosine", ("pair=4", "layer=1,8")),
)


def main() -> None:
    console, start = make_console(), time.monotonic()
    for stop in TOUR:
        console.rule(stop.sweep)
        sweep = stop.taken()
        for _ in show(run_sweep(sweep), sweep.name, console):
            pass
        dataset = open_sweep(store_url(sweep))
        print_results(select(dataset, stop.selection), stop.outcome, 40, console)
        figure = Path("results") / f"{sweep.name}.png"
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
