"""Adaptive sweeps, budgets, resuming and extending, as a user meets them on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import session
from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from tests.conftest import toy_spec
from tests.deploy.conftest import Said, faulty_spec, write_toml
from tests.deploy.test_cli import tree

Run = Callable[..., Said]
UNTIL = {"outcome": "level", "halfwidth": 0.4, "min_draws": 8}
STORE = {"store": {"url": "a.zarr"}}


@pytest.fixture(autouse=True)
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracking has tests of its own, and a database takes seconds to make."""
    monkeypatch.setattr(session, "track", lambda events, store, settings: events)


def one_line(said: Said) -> str:
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1), said
    return said.err


# --- budgets ---


def test_a_budget_ends_a_run_with_4_and_a_larger_one_goes_on(sweeps: Run, spec, tmp_path: Path) -> None:
    path = spec(**STORE, budget={"max_draws": 100})
    first = sweeps("run", path, "--inline")
    assert first.code == 4
    assert "ended by budget.max_draws = 100; 2 blocks are in a.zarr, 10 are still to be measured\n" in first.out
    assert first.out.endswith(f"go on with: sweeps run {path} --max-draws MORE\n")
    assert sweeps("run", path, "--inline").out.count("2 blocks are in a.zarr") == 1, "spent over all runs"
    assert "4 blocks are in a.zarr, 8 are" in sweeps("run", path, "--inline", "--max-draws", 160).out
    again = sweeps("resume", "a.zarr", "--inline")
    assert again.code == 4
    assert again.out.endswith("go on with: sweeps resume a.zarr --max-draws MORE\n")
    assert "6 blocks are in a.zarr, 6 are" in sweeps("resume", "a.zarr", "--inline", "--max-draws", 240).out
    assert sweeps("run", spec(**STORE, budget={"max_draws": 480}), "--inline").code == 0
    assert sweeps("run", spec(store={"url": "b.zarr"}), "--inline").code == 0
    assert ZarrStore.open("a.zarr").content_hash() == ZarrStore.open("b.zarr").content_hash()


def test_time_is_of_each_run_and_needs_no_more_of_it(sweeps: Run, spec) -> None:
    said = sweeps("run", spec(**STORE), "--inline", "--max-time", "1e-9")
    assert said.code == 4
    assert "ended by budget.max_time = 1e-09 s; 0 blocks are in a.zarr, 12 are still to be measured" in said.out
    assert said.out.endswith("spec.toml\n")
    assert sweeps("resume", "a.zarr", "--inline", "--max-time", "2 h").code == 0


def test_failed_blocks_matter_more_than_a_budget(sweeps: Run, tmp_path: Path) -> None:
    said = sweeps("run", faulty_spec(tmp_path / "f.toml", bad=1), "--inline", "--max-draws", 3)
    assert said.code == 3
    counts = "1 blocks failed, 2 are in results/faulty.zarr, 21 were not tried: ended by budget.max_draws = 3"
    assert f"{counts}; try them again with: sweeps run {tmp_path}/f.toml --max-draws MORE" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-time", "soon"), "--max-time takes seconds, or a text such as '90 min', '12 h' or '3 d', got 'soon'"),
        (("--max-time", "5 weeks"), "--max-time takes seconds, or a text such as"),
        (("--max-time", "0"), "--max-time should be greater than 0, got 0.0"),
        (("--max-time", "nan"), "--max-time should be a finite number, got nan"),
        (("--max-draws", "0"), "--max-draws should be greater than or equal to 1, got 0"),
        (("--max-gpu-hours", "-1"), "--max-gpu-hours should be greater than 0, got -1.0"),
    ],
)
@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_limit_that_is_none_is_one_line(sweeps: Run, spec, tmp_path: Path, command: str, options, message) -> None:
    path = spec(**STORE)
    if command == "resume":
        sweeps("run", path, "--inline", "--max-draws", 1)
    before = tree(tmp_path)
    assert one_line(sweeps(command, path if command == "run" else "a.zarr", *options)).startswith(f"error: {message}")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            {"max_time": "soon"},
            "budget.max_time: takes seconds, or a text such as '90 min', '12 h' or '3 d', got 'soon'",
        ),
        ({"max_time": True}, "budget.max_time: takes seconds, or a text such as '90 min', '12 h' or '3 d', got True"),
        ({"max_draws": 1.5}, "budget.max_draws: should be a valid integer, got 1.5"),
        ({"max_drawz": 1}, "budget: unknown key 'max_drawz'; did you mean 'max_draws'?"),
        ({"max_gpu_hours": 0}, "budget.max_gpu_hours: should be greater than 0, got 0"),
    ],
)
def test_a_budget_that_is_none_is_one_line(sweeps: Run, spec, budget: dict, message: str) -> None:
    assert message in one_line(sweeps("run", spec(budget=budget)))


# --- until ---


def test_an_adaptive_sweep_is_estimated_run_and_shown(sweeps: Run, spec) -> None:
    path = spec(**STORE, until=UNTIL, draws=64)
    said = sweeps("estimate", path)
    assert said.code == 0, said.err
    assert "20 points, at most 32 blocks, 1,280 draws" in said.out
    assert "\nat most " in said.out
    assert sweeps("run", path, "--inline").code == 0
    n = open_sweep("a.zarr").level_n
    assert len(set(n.values.ravel().tolist())) > 1
    assert sweeps("show", "a.zarr", "-s", "size=2", "-s", "colour=red").code == 0


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ({**UNTIL, "outcome": "lvl"}, "until.outcome: unknown outcome 'lvl'; did you mean 'level'?"),
        ({**UNTIL, "halfwidth": 0}, "until.halfwidth: should be greater than 0, got 0"),
        ({**UNTIL, "half_width": 1}, "until: unknown key 'half_width'; did you mean 'halfwidth'?"),
        ({**UNTIL, "confidence": 95}, "until.confidence: should be less than 1, got 95"),
        ({**UNTIL, "guarantee": "any"}, "until.guarantee: should be 'fixed' or 'anytime', got 'any'"),
        (
            {**UNTIL, "min_draws": 48},
            "until.min_draws must be at most draws = 24, the most that a point may get, got 48",
        ),
        ({"outcome": "level"}, "until.halfwidth is missing"),
    ],
)
def test_a_rule_that_is_none_is_one_line(sweeps: Run, spec, until: dict, message: str) -> None:
    said = one_line(sweeps("run", spec(until=until)))
    assert message in said.replace("until.halfwidth: is", "until.halfwidth is")


# --- extend ---


def test_a_store_is_extended_by_options_and_by_a_spec_and_equals_one_larger_run(sweeps: Run, spec) -> None:
    assert sweeps("run", spec(**STORE), "--inline").code == 0
    said = sweeps("extend", "a.zarr", "--draws", 32, "--axis", "shift=0.25,0.75", "--axis", "size=4", "--inline")
    assert said.code == 0, said.err
    assert "12 done already" in said.out
    assert said.out.endswith("done: a.zarr\nlook at it with: sweeps show a.zarr   or: sweeps plot a.zarr\n")
    axes = {"size": [2, 4, 8], "shift": {"linspace": [-1, 1, 9]}, "colour": ["red", "blue"]}
    larger = spec(axes=axes, draws=32, **STORE)
    assert sweeps("extend", "a.zarr", larger, "--inline").code == 0
    assert "blocks are done already" in sweeps("run", larger, "--inline").out, "the larger spec is what the store holds"
    assert sweeps("run", spec(axes=axes, draws=32, store={"url": "b.zarr"}), "--inline").code == 0
    extended, whole = open_sweep("a.zarr").load(), open_sweep("b.zarr").load()
    extended.attrs = whole.attrs = {}
    assert extended.identical(whole)
    assert sweeps("verify", "a.zarr", "--blocks", 99).code == 0


def test_a_tighter_halfwidth_is_an_extension(sweeps: Run, spec) -> None:
    assert sweeps("run", spec(**STORE, until=UNTIL, draws=64), "--inline").code == 0
    before = open_sweep("a.zarr").level_n.load()
    assert sweeps("extend", "a.zarr", "--halfwidth", 0.2, "--inline").code == 0
    assert (
        sweeps("run", spec(store={"url": "b.zarr"}, until=UNTIL | {"halfwidth": 0.2}, draws=64), "--inline").code == 0
    )
    a, b = open_sweep("a.zarr").load(), open_sweep("b.zarr").load()
    a.attrs = b.attrs = {}
    assert a.identical(b)
    assert (a.level_n >= before).all()
    assert (a.level_n > before).any()


REFUSED: list[tuple[tuple[Any, ...], str]] = [
    ((), "say what to add: either a larger SPEC, or some of --draws, --halfwidth and --axis"),
    (("--draws", 16), "draws: the store has 24, an extension cannot go back to 16"),
    (("--draws", 25), "draws must be a whole number of batches of draws_per_batch = 8, got 25; the nearest is 24"),
    (("--halfwidth", 0.5), "until.halfwidth: the store has 0.4, an extension cannot go back to 0.5"),
    (("--halfwidth", -1), "until.halfwidth: should be greater than 0, got -1"),
    (("--axis", "shfit=3"), "unknown axis 'shfit'; did you mean 'shift'? known: colour, shift, size"),
    (("--axis", "shift=11"), "axes.shift[0] should be less than or equal to 10, got 11"),
    (("--axis", "shift=wide"), "axes.shift[0] should be a valid number, got 'wide'"),
    (("--axis", "shift"), "--axis reads name=values, such as width=48,96, got 'shift'"),
    (("--axis", "shift=[1"), "--axis shift: '[1' is not TOML"),
    (("--axis", "size=4", "--axis", "size=16"), "--axis size is given twice; give all its values at once: size=a,b"),
    (("larger.toml",), "draws_per_batch is 8 there, 4 here"),
    (("larger.toml", "--draws", 32), "say what to add: either a larger SPEC, or some of"),
    (("lost.toml",), "axes.size lacks 8, which the store holds; an extension only adds values"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=str)
def test_what_cannot_extend_is_one_line_exit_2_and_nothing_written(
    sweeps: Run, spec, tmp_path: Path, arguments: tuple, message: str
) -> None:
    sweeps("run", spec(**STORE, until=UNTIL, budget={"max_draws": 1}), "--inline")
    write_toml(tmp_path / "larger.toml", toy_spec(until=UNTIL, draws_per_batch=4))
    axes = {"size": [2], "shift": {"linspace": [-1, 1, 5]}, "colour": ["red", "blue"]}
    write_toml(tmp_path / "lost.toml", toy_spec(until=UNTIL, axes=axes))
    before = tree(tmp_path)
    assert message in one_line(sweeps("extend", "a.zarr", *arguments))
    assert tree(tmp_path) == before


def test_the_old_spec_of_an_extended_store_is_refused_with_the_difference(sweeps: Run, spec, tmp_path: Path) -> None:
    path = spec(**STORE)
    sweeps("run", path, "--inline", "--max-draws", 1)
    sweeps("extend", "a.zarr", "--draws", 32, "--axis", "size=4", "--inline")
    before = tree(tmp_path)
    said = one_line(sweeps("run", path, "--inline"))
    assert "a.zarr holds another sweep: draws is 32 there, 24 here; axes.size is [2, 4, 8] there, [2, 8] here" in said
    assert "give another store.url, or see `sweeps extend`" in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize("arguments", [("resume", "none.zarr"), ("extend", "none.zarr", "--draws", 8)])
def test_no_store_is_one_line(sweeps: Run, tmp_path: Path, arguments: tuple) -> None:
    assert "none.zarr: no store there; create it with `sweeps run`" in one_line(sweeps(*arguments))
    assert tree(tmp_path) == {}
