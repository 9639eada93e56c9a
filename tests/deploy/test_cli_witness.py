"""`sweeps witness`: draws of a store made again, and two inputs with one output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from actors.inline import Inline
from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.blocks import keys_of
from sweeps.run import run
from sweeps.statistic import Networks, Points
from sweeps.statistics import _layer
from sweeps.sweep import Sweep
from tests.deploy.conftest import Said

Run = Callable[..., Said]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    spec = {
        "name": "layers",
        "statistic": "injectivity",
        "draws": 12,
        "draws_per_batch": 12,
        "keep": "draws",
        "axes": {"n": [2, 3], "alpha": [3.5, 4.0], "rows": ["gaussian", "rademacher"], "domain": ["space", "orthant"]},
    }
    made = ZarrStore.create(str(tmp_path_factory.mktemp("store") / "layers.zarr"), Sweep.of(spec))
    list(run(made, Inline("cpu")))
    return made.url


def layer(store: str, here: dict, draw: int) -> np.ndarray:
    sweep = ZarrStore.open(store).sweep
    points = Points({**sweep.fixed, **here})
    return _layer.draw(Networks(points, keys_of(sweep, points), np.array([draw], np.uint64)))[0]


def outputs(W: np.ndarray, x: list[Fraction]) -> list[Fraction]:
    return [max(Fraction(0), sum((Fraction(v) * x[j] for j, v in enumerate(row)), Fraction(0))) for row in W.tolist()]


def test_every_draw_that_is_not_injective_has_one(sweeps: Run, store: str) -> None:
    results = open_sweep(store)
    draws = ZarrStore.open(store)
    for here in [
        {"n": 2, "alpha": 3.5, "rows": "gaussian", "domain": "space"},
        {"n": 3, "alpha": 4.0, "rows": "gaussian", "domain": "orthant"},
        {"n": 3, "alpha": 4.0, "rows": "rademacher", "domain": "space"},
        {"n": 2, "alpha": 3.5, "rows": "rademacher", "domain": "orthant"},
    ]:
        point = [text for name, value in here.items() for text in ("--point", f"{name}={value}")]
        found = 0
        for draw in range(draws.sweep.draws):
            said = sweeps("witness", store, "--draw", draw, "--json", *point)
            assert (said.code, said.err) == (0, "")
            told = json.loads(said.out)
            assert told["point"] == here
            if (pair := told["witness"]) is None:
                continue
            found += 1
            first, second = ([Fraction(v) for v in pair[name]] for name in ("x", "x'"))
            W = layer(store, here, draw)
            assert pair["exact"]
            assert first != second
            assert outputs(W, first) == outputs(W, second)
            assert here["domain"] == "space" or min(*first, *second) >= 0
        assert found == 12 - round(12 * float(results["injective"].sel(here)))


def test_it_is_told_in_words(sweeps: Run, store: str) -> None:
    point = ["-p", "n=2", "-p", "alpha=3.5", "-p", "rows=gaussian", "-p", "domain=space"]
    said = [sweeps("witness", store, "--draw", d, *point) for d in range(12)]
    no = [s.out for s in said if "no two inputs with one output were found" in s.out]
    yes = [s.out for s in said if re.search("not injective; [01] of 7 neurons are active between them", s.out)]
    assert len(no) + len(yes) == 12
    assert no
    assert "|x - x'| = " in yes[0]
    assert "and without rounding" in yes[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--draw", 12], "--draw must be below draws = 12"),
        (["--draw", 0], "--point must name one value of every axis; 'n' is left"),
        (["--draw", 0, "-p", "n=7"], "has no value 7"),
        (["--draw", 0, "-p", "m=7"], "unknown axis 'm'"),
    ],
)
def test_mistakes_are_one_line(sweeps: Run, store: str, arguments: list, words: str) -> None:
    said = sweeps("witness", store, *arguments)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert words in said.err


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_a_statistic_without_witnesses(sweeps: Run, spec: Callable[..., Path]) -> None:
    assert sweeps("run", spec(), "--inline").code == 0
    said = sweeps("witness", "results/toy.zarr", "--draw", 0)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "statistic 'toy' has no witness" in said.err
