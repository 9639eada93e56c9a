"""`sweeps capacity`: tables, a figure, and mistakes in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage import half_points, open_sweep, scaling
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.run import perform
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.deploy.conftest import Said, write_toml

Run = Callable[..., Said]
POSITIVE = ("--outcome", "positive", "--axis", "shift")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """P(mean of `size` normals > -shift): the half-point is 0 at every size."""
    axes = {"size": [1, 2, 4, 8], "shift": {"linspace": [-1, 1, 9]}, "colour": ["red", "blue"]}
    url = str(tmp_path_factory.mktemp("store") / "a.zarr")
    made = ZarrStore.create(url, Sweep.of(toy_spec(axes=axes, draws=200, draws_per_batch=200)))
    cut = plan(made.sweep)
    for i in range(len(cut)):
        perform(cut[i], made, "cpu")
    return url


def numbers(out: str, first: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [first])


def test_half_points_and_their_limit_are_printed_beside_theory(sweeps: Run, store: str, tmp_path: Path) -> None:
    said = sweeps("capacity", store, *POSITIVE, "--size", "size", "-s", "colour=red", "--exponent", 1, "--out", "a.png")
    assert (said.code, said.err) == (0, "")
    half = half_points(open_sweep(store).sel(colour="red"), "positive", "shift")
    fitted = scaling(half, "size", 1.0)
    assert "added to every normal at which positive is 0.5, 95% intervals" in said.out
    assert f"{half.half_point.values[0]:.5g}" in said.out
    assert f"{half.ci_high.values[3]:.5g}" in said.out
    assert f"{fitted.limit.values[0]:.5g}" in said.out
    assert "fitted: limit - amplitude size^-exponent" in said.out
    assert "smallest size" in said.out
    assert said.out.splitlines()[-1] == "wrote a.png"
    assert numbers(said.out, "1")[1] == "one"  # the reference of the toy
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sweeps("capacity", store, *POSITIVE, "--size", "size", "-s", "colour=red", "--exponent", 1).out in said.out


def test_without_sizes_there_are_half_points_only(sweeps: Run, store: str) -> None:
    said = sweeps("capacity", store, *POSITIVE)
    assert said.code == 0
    assert said.out.count(" red ") == said.out.count(" blue ") == 4
    assert "fitted" not in said.out
    one = sweeps("capacity", store, *POSITIVE, "-s", "size=4", "-s", "colour=red")
    assert len(one.out.splitlines()) == 3


def test_too_few_sizes_say_so(sweeps: Run, store: str) -> None:
    said = sweeps("capacity", store, *POSITIVE, "--size", "size", "-s", "size=2,4")
    assert said.code == 0
    assert "2 of the at least 3 sizes that a fit needs have a half-point" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "unknown outcome 'injective'; known: level, positive, root, walk"),
        (("-o", "positve"), "unknown outcome 'positve'; did you mean 'positive'?"),
        (
            ("-o", "level"),
            "outcome 'level' is a real one, and only a proportion crosses a level; proportions: positive",
        ),
        (("-o", "positive"), "unknown axis 'alpha'; known: colour, shift, size"),
        (("-o", "positive", "--axis", "colour"), "axis 'colour' is not numeric, its values are red, blue"),
        (
            ("-o", "positive", "--axis", "colour", "-s", "colour=red"),
            "axis 'colour' is not numeric, its values are red",
        ),
        ((*POSITIVE, "--level", "1"), "level must lie between 0 and 1, got 1"),
        ((*POSITIVE, "--level", "nan"), "level must lie between 0 and 1, got nan"),
        ((*POSITIVE, "-s", "shift=0"), "axis 'shift' has 1 of the at least 2 values"),
        ((*POSITIVE, "-s", "shfit=0"), "unknown axis 'shfit'; did you mean 'shift'?"),
        (
            (*POSITIVE, "-s", "shift=0.75,1", "--level", "0.1"),
            "'positive' has no half-point along 'shift': size = 1, colour = red: above 0.1 at every shift: at least 0.",
        ),
        ((*POSITIVE, "--size", "n"), "unknown axis of sizes 'n'; known: colour, size"),
        ((*POSITIVE, "--size", "colour"), "axis 'colour' is not numeric"),
        ((*POSITIVE, "--size", "size", "--exponent", "-1"), "exponent must lie between 0.05 and 8, got -1"),
        ((*POSITIVE, "--out", "a.png"), "there is no axis to extrapolate along"),
        ((*POSITIVE, "--size", "size", "--out", "a.jpeg"), "a figure is written as .png, .svg, .pdf; got 'a.jpeg'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(sweeps: Run, store: str, tmp_path: Path, arguments, message: str) -> None:
    said = sweeps("capacity", store, *arguments)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert said.err.startswith(f"error: {message}")
    assert not list(tmp_path.glob("*.png"))


def test_no_store_is_one_line(sweeps: Run) -> None:
    assert "none.zarr: no store there" in sweeps("capacity", "none.zarr").err


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_it_says_whether_a_sweep_is_finished(sweeps: Run, tmp_path: Path) -> None:
    spec = {
        "name": "some",
        "statistic": "injectivity",
        "draws": 64,
        "draws_per_batch": 32,
        "axes": {"n": [2, 3], "alpha": [2.0, 3.0, 4.0, 5.0]},
        "points_per_block": 1,
    }
    path = write_toml(tmp_path / "some.toml", spec)
    assert sweeps("run", path, "--inline", "--max-draws", 300).code == 4
    assert "95% intervals; unfinished: 9 of 16 blocks" in sweeps("capacity", "results/some.zarr").out
    assert sweeps("run", path, "--inline", "--max-draws", 600).code == 0
    assert "95% intervals\n" in sweeps("capacity", "results/some.zarr").out
    until = {**spec, "name": "until", "until": {"outcome": "injective", "halfwidth": 0.3, "min_draws": 32}}
    assert sweeps("run", write_toml(tmp_path / "until.toml", until), "--inline").code == 0
    assert "95% intervals\n" in sweeps("capacity", "results/until.zarr").out
