"""The stopping rule: what it decides, that nothing but the draws decides it, and how often it is right."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks import precision, proportions
from sweeps.intervals import interval
from sweeps.moments import Moments
from sweeps.stopping import GROWTH, Until, first_look, narrow, next_look, tuned_to

BATCH = 64


def until(halfwidth: float = 0.1, **changes) -> Until:
    return Until(outcome="level", halfwidth=halfwidth, **changes)


def moments(n: float, mean: float, deviation: float) -> Moments:
    """One point (1,) whose sample deviation is given."""
    values = (n, 0, mean, deviation**2 * (n - 1), mean - deviation, mean + deviation)
    return Moments(*(np.array([float(x)]) for x in values))


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"halfwidth": 0}, "halfwidth", "greater than 0"),
        ({"halfwidth": float("inf")}, "halfwidth", "finite"),
        ({"halfwidth": "0.1"}, "halfwidth", "valid number"),
        ({"confidence": 1}, "confidence", "less than 1"),
        ({"confidence": 0.0}, "confidence", "greater than 0"),
        ({"min_draws": 1}, "min_draws", "greater than or equal to 2"),
        ({"min_draws": 2.5}, "min_draws", "valid integer"),
        ({"guarantee": "never"}, "guarantee", "'fixed' or 'anytime'"),
        ({"half_width": 0.1}, "half_width", "not permitted"),
    ],
)
def test_a_mistake_names_the_field_and_what_would_be_right(changes: dict, field: str, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Until.model_validate({"outcome": "level", "halfwidth": 0.1} | changes)
    first = error.value.errors()[0]
    assert first["loc"] == (field,)
    assert message in first["msg"]


@pytest.mark.parametrize(
    ("min_draws", "draws_per_batch", "batches", "look"),
    [(256, 256, 9, 1), (257, 256, 9, 2), (2, 256, 9, 1), (1000, 256, 3, 3), (4096, 1, 2**40, 4096)],
)
def test_first_look(min_draws: int, draws_per_batch: int, batches: int, look: int) -> None:
    assert first_look(until(min_draws=min_draws), draws_per_batch, batches) == look


@pytest.mark.parametrize(
    ("n", "deviation", "looked", "look"),
    [
        pytest.param(400, 1, 10, 10, id="1.9660 / 20 = 0.0983: narrow"),
        pytest.param(380, 1, 10, 11, id="0.1009: 1.018 x 1.02, rounded up"),
        pytest.param(400, 1.2, 100, 142, id="0.1180: 1.391 x 1.02, rounded up"),
        pytest.param(400, 9, 10, 20, id="no more than twice"),
        pytest.param(400, 9, 60, 100, id="no more than there are"),
        pytest.param(400, 9, 100, 100, id="no more to come"),
        pytest.param(200, 0.1, 10, 14, id="narrow, but short of min_draws: 256 / 200 x 1.02"),
    ],
)
def test_next_look(n: int, deviation: float, looked: int, look: int) -> None:
    batches = 100 if looked <= 60 or deviation == 9 else 1000
    found = next_look(until(), "real", moments(n, 5, deviation), looked, n // looked, batches)
    assert found.dtype == np.int64
    assert found.tolist() == [look]


def test_the_widest_entry_decides_and_all_must_be_defined() -> None:
    draws = np.random.default_rng(0).standard_normal((4, 3, 512))
    draws[1, 2] *= 1.3  # half-width 0.11
    draws[2, 0] = np.nan
    draws[3, 1, 300:] = np.nan  # 300 draws: half-width 0.11, though 512 were drawn
    total = Moments.of(draws)
    assert narrow(until(), "real", total).tolist() == [True, False, False, False]
    found = next_look(until(), "real", total, 8, BATCH, 10**6)
    assert found[[0, 2]].tolist() == [8, 16]
    assert (found[[1, 3]] > 8).all()
    assert (found[[1, 3]] < 13).all()


def test_undefined_draws_are_expected_to_stay_as_frequent() -> None:
    few, all_ = moments(400, 0, 1.5), moments(800, 0, 1.5 * 2**0.5)
    looks = [next_look(until(), "real", m, 10, 80, 1000)[0] for m in (few, all_)]  # half of 800 draws; all of them
    assert looks[0] == looks[1] == 20


@pytest.mark.parametrize("guarantee", ["fixed", "anytime"])
@pytest.mark.parametrize("kind", ["real", "count"])
def test_equal_draws_count_as_nothing_seen_in_a_proportion(kind: str, guarantee: str) -> None:
    equal, zeros = Moments.of(np.full((1, 400), 0.1)), Moments.of(np.zeros((1, 400)))
    rule = until(guarantee=guarantee)
    _, high = interval(zeros, "proportion", 0.95, tuned_to(rule, kind))
    assert high > {"fixed": 0.009, "anytime": 0.013}[guarantee]
    assert narrow(until(high[0] / 2 * 1.001, guarantee=guarantee), kind, equal)[0]
    assert not narrow(until(high[0] / 2 * 0.999, guarantee=guarantee), kind, equal)[0]


def test_extreme_widths_give_no_warning() -> None:
    total = moments(400, 0, 1e150)
    assert next_look(until(1e-200), "real", total, 10, 40, 1000).tolist() == [20]
    assert next_look(until(1e-300, guarantee="anytime"), "proportion", moments(400, 0.5, 0.5), 1, 1, 9).tolist() == [2]
    assert next_look(until(1e300), "real", total, 10, 40, 1000).tolist() == [10]


def test_tuning_is_a_function_of_the_goal() -> None:
    assert tuned_to(until(), "proportion") == 0
    assert tuned_to(until(guarantee="anytime"), "real") == tuned_to(until(guarantee="anytime"), "count") == 1024
    assert tuned_to(until(0.001, guarantee="anytime"), "proportion") == int(1.959964**2 / 8**0.5 / 0.001**1.5)
    assert tuned_to(until(0.1, guarantee="anytime"), "proportion") == 1024
    assert tuned_to(until(1e-200, guarantee="anytime"), "proportion") == 2**40


goals = st.builds(
    until,
    halfwidth=st.floats(0.01, 1),
    confidence=st.sampled_from([0.5, 0.95, 0.999]),
    min_draws=st.integers(2, 300),
    guarantee=st.sampled_from(["fixed", "anytime"]),
)
kinds = st.sampled_from(["real", "proportion"])


def some_totals(kind: str, seed: int, points: int = 12, draws: int = 128) -> Moments:
    """Points (points, 2) of all sorts: wide, narrow, rare, equal, partly and wholly undefined."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((points, 2, draws)) * 10 ** rng.uniform(-3, 1, (points, 1, 1))
    x = x if kind == "real" else (x > rng.uniform(0, 3, (points, 1, 1))).astype(float)
    x[rng.random((points, 2, draws)) < rng.choice([0, 0, 0.5, 1], (points, 1, 1))] = np.nan
    return Moments.of(x)


def pick(m: Moments, index: np.ndarray) -> Moments:
    return Moments.unstack(m.stack()[index])


@settings(deadline=None)
@given(goals, kinds, st.integers(0, 2**32), st.integers(1, 50), st.integers(0, 60))
def test_looks_go_forward_within_bounds_and_stop_where_narrow(
    goal: Until, kind: str, seed: int, looked: int, more: int
) -> None:
    total, batches = some_totals(kind, seed), looked + more
    found, enough = next_look(goal, kind, total, looked, BATCH, batches), narrow(goal, kind, total)
    assert ((found >= looked) & (found <= min(batches, max(looked + 1, np.ceil(GROWTH * looked))))).all()
    np.testing.assert_array_equal(found == looked, enough | (looked == batches))
    low, high = interval(total, kind, goal.confidence, tuned_to(goal, kind))
    shown = ((high - low) / 2 <= goal.halfwidth).all(axis=1)
    assert (shown[enough]).all()
    np.testing.assert_array_equal(enough, shown & (total.n >= goal.min_draws).all(axis=1) & ~unseen(goal, kind, total))


def unseen(goal: Until, kind: str, total: Moments) -> np.ndarray:
    """Points (points,) with an entry of equal draws that a proportion never seen would not let stop."""
    zero = np.zeros_like(total.n)
    none = Moments(total.n, zero, zero, zero, zero, zero + 1)
    low, high = interval(none, "proportion", goal.confidence, tuned_to(goal, kind))
    return ((total.min == total.max) & ((high - low) / 2 > goal.halfwidth) & (kind != "proportion")).any(axis=1)


@settings(deadline=None)
@given(goals, kinds, st.integers(0, 2**32), st.integers(1, 50))
def test_a_tighter_goal_looks_no_earlier(goal: Until, kind: str, seed: int, looked: int) -> None:
    total, tighter = some_totals(kind, seed), goal.model_copy(update={"halfwidth": goal.halfwidth / 1.5})
    if tuned_to(goal, kind) == tuned_to(tighter, kind):
        a, b = (next_look(g, kind, total, looked, BATCH, 10**6) for g in (goal, tighter))
        assert (a <= b).all()
        assert not (narrow(tighter, kind, total) & ~narrow(goal, kind, total)).any()


@settings(deadline=None)
@given(goals, kinds, st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_a_point_is_decided_by_itself(goal: Until, kind: str, seed: int, shuffle) -> None:
    total, looked = some_totals(kind, seed), np.arange(1, 13)
    together = next_look(goal, kind, total, looked, BATCH, 40)
    order = list(range(12))
    shuffle.shuffle(order)
    np.testing.assert_array_equal(next_look(goal, kind, pick(total, order), looked[order], BATCH, 40), together[order])
    for i in range(12):
        assert next_look(goal, kind, pick(total, [i]), i + 1, BATCH, 40).tolist() == [together[i]]


def replay(goal: Until, batches: list[Moments], point: int) -> list[int]:
    """The looks at a point, each from scratch."""
    looks = [first_look(goal, BATCH, len(batches))]
    while True:
        total = reduce(Moments.merge, (pick(m, [point]) for m in batches[: looks[-1]]))
        there = int(next_look(goal, "real", total, looks[-1], BATCH, len(batches))[0])
        if there == looks[-1]:
            return looks
        looks.append(there)


def test_a_run_ends_narrow_or_at_the_last_batch_and_more_batches_only_continue_it() -> None:
    draws = np.random.default_rng(5).standard_normal((6, 40, BATCH)) * np.array([0.2, 0.7, 1, 1.2, 2, 9])[:, None, None]
    batches = [Moments.of(draws[:, i]) for i in range(40)]
    goal = until(0.15)
    for point in range(6):
        looks = replay(goal, batches, point)
        assert looks == sorted(set(looks))
        total = reduce(Moments.merge, (pick(m, [point]) for m in batches[: looks[-1]]))
        assert narrow(goal, "real", total)[0] or looks[-1] == 40
        short = replay(goal, batches[:17], point)
        assert short == [x for x in looks if x < 17] + [17] * (looks[-1] >= 17)
    assert [len(replay(goal, batches, p)) for p in (0, 5)] == [1, 5]


@pytest.mark.parametrize("guarantee", ["fixed", "anytime"])
@pytest.mark.parametrize("p", [0.5, 0.03, 0.002])
def test_the_exact_chances_agree_with_drawing(p: float, guarantee: str) -> None:
    """Two ways to the same numbers: chances carried from look to look, and the simulation of docs/precision.md."""
    law = precision.bernoulli(p)
    found = precision.simulate(law, 1024, 0.95, 2000, seed=7)[f'"{guarantee}"']
    exact = proportions.exactly(until(law.halfwidth(1024, 0.95), guarantee=guarantee), p, batches=4 * precision.MOST)
    assert abs(found.coverage - exact.coverage) < 4 * (exact.coverage * (1 - exact.coverage) / 2000) ** 0.5 + 1e-3
    assert found.cost * 1024 == pytest.approx(exact.draws, rel=0.05)
    assert found.looks == pytest.approx(exact.looks, rel=0.05)


@pytest.mark.parametrize("halfwidth", [0.1, 0.03])
def test_for_proportions_fixed_loses_little_and_anytime_nothing(halfwidth: float) -> None:
    for p in np.geomspace(2 * halfwidth, 0.5, 12):
        assert proportions.exactly(until(halfwidth), p).coverage > 0.93
    for p in np.geomspace(halfwidth / 100, 0.5, 12):
        assert proportions.exactly(until(halfwidth, guarantee="anytime"), p).coverage > 0.95


PAGE = (Path(__file__).parents[2] / "docs" / "precision.md").read_text().partition("Nominal 99%")[0]
NUMBER = r"([\d.]+)"


def documented(law: str, draws: int) -> list[tuple[float, float, float]]:
    """(coverage, cost, looks) of each rule, as docs/precision.md has it for 95%."""
    row = re.search(rf"^\| {re.escape(law)} \| {draws} \|.*$", PAGE, re.MULTILINE)
    assert row
    cells = re.findall(rf"{NUMBER} ± {NUMBER} · {NUMBER} · {NUMBER}", row[0])
    return [(float(held) / 100, float(cost), float(looks)) for held, _, cost, looks in cells]


LEAST = {"Poisson 0.1": 0.93, "lognormal 1": 0.915, "lognormal 1.5": 0.87}  # where draws are skewed


@pytest.mark.parametrize("law", precision.LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("draws", [512, 2560])
def test_coverage_is_what_the_docs_say(law: precision.Law, draws: int) -> None:
    size, known = 1500, 4000
    found = precision.simulate(law, draws, 0.95, size, seed=1)
    for result, (held, cost, looks) in zip(found.values(), documented(law.name, draws), strict=True):
        p = (result.coverage * size + held * known) / (size + known)
        assert abs(result.coverage - held) < 4 * (p * (1 - p) * (1 / size + 1 / known)) ** 0.5 + 5e-4
        assert result.cost == pytest.approx(cost, rel=0.1)
        assert result.looks == pytest.approx(looks, rel=0.1)
    for rule, least in (('"fixed"', LEAST.get(law.name, 0.94)), ('"anytime"', 0.95)):
        assert found[rule].coverage > least - 4 * (least * (1 - least) / size) ** 0.5


def test_looking_from_the_first_draws_on_under_covers() -> None:
    """The naive rule fails where ours holds, so the tests above could fail."""
    found = precision.simulate(precision.lognormal(1.5), 512, 0.95, 1500, seed=1)
    assert found["every 16 draws"].coverage < 0.75
    assert found['"fixed"'].coverage > 0.85
