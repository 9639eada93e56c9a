"""Larger sweeps and their plans: pieces fill the grid exactly, and what was there stays where it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from sweeps import statistics
from sweeps.blocks import Plan, plan, settled
from sweeps.errors import RefusedError, SpecError, SweepsError
from sweeps.extension import difference, extended, extended_plan, grown
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.strategies import FLIPPED, growing


@pytest.fixture(autouse=True, scope="module")
def _flipped() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "get", lambda name: FLIPPED)
        yield


def grow(specs: list[dict]) -> Iterator[tuple[Sweep, Plan]]:
    """A sweep and its plan, then what every extension makes of them."""
    sweep = settled(Sweep.of(specs[0]))
    cut = plan(sweep)
    yield sweep, cut
    for spec in specs[1:]:
        larger = extended(sweep, Sweep.of(spec))
        sweep, cut = larger, extended_plan(cut, sweep, larger)
        yield sweep, cut


@given(growing())
def test_pieces_and_blocks_partition_the_grid_exactly(specs: list[dict]) -> None:
    for sweep, cut in grow(specs):
        covered = np.zeros((*sweep.shape, sweep.batches), dtype=int)
        for i, block in enumerate(cut):
            covered[(*block.slices, block.batch)] += 1
            assert i == block.index == cut.index_of(block.piece, block.tile, block.batch)
            piece = cut.pieces[block.piece]
            inside = [s - o for s, o in zip(block.starts, piece.origin, strict=True)]
            assert inside == [i * t for i, t in zip(block.tile, piece.tile, strict=True)]
            for name, n in zip(sweep.axes, block.shape, strict=True):
                assert n == 1 or name not in sweep.definition.shape, "a tile has one shape"
        assert (covered == 1).all()
        assert cut.points.tolist() == [cut[tile].points for tile in range(cut.tiles)]


@given(growing())
def test_what_was_there_stays_where_it_was(specs: list[dict]) -> None:
    steps = list(grow(specs))
    for (sweep, cut), (larger, more) in itertools.pairwise(steps):
        assert more.pieces[: len(cut.pieces)] == cut.pieces
        for name, values in sweep.axes.items():
            assert larger.axes[name][: len(values)] == values
            assert set(larger.axes[name]) == set(values) | set(larger.axes[name][len(values) :])
        places = {(b.piece, b.tile, b.starts, b.stops, b.batch) for b in cut}
        assert places <= {(b.piece, b.tile, b.starts, b.stops, b.batch) for b in more}


@given(growing())
def test_places_and_numbers_are_each_others_inverse(specs: list[dict]) -> None:
    *_, (sweep, cut) = grow(specs)
    where = np.indices(sweep.shape).reshape(len(sweep.shape), -1).T
    expected = [next(t for t in range(cut.tiles) if _holds(cut, t, place)) for place in where]
    assert cut.tiles_of(where).tolist() == expected
    numbers = np.arange(len(cut))
    for index in range(len(cut.pieces)):
        laid_out = cut.grid(numbers, index)
        assert laid_out.shape == (cut.batches, *cut.pieces[index].tiles)
        for place in np.ndindex(*laid_out.shape):
            assert laid_out[place] == cut.index_of(index, place[1:], place[0])


def _holds(cut: Plan, tile: int, place: np.ndarray) -> bool:
    return all(s.start <= p < s.stop for s, p in zip(cut[tile].slices, place, strict=True))


@given(growing())
def test_adding_is_the_same_as_giving_the_whole(specs: list[dict]) -> None:
    sweep = settled(Sweep.of(specs[0]))
    for spec in specs[1:]:
        wanted = Sweep.of(spec)
        more = {k: [v for v in wanted.axes[k] if v not in old] for k, old in sweep.axes.items()}
        added = grown(sweep, draws=wanted.draws, axes={k: v for k, v in more.items() if v})
        assert extended(sweep, added) == extended(sweep, wanted) == added
        again = grown(added, draws=added.draws, axes=added.axes)
        assert again.fingerprint == added.fingerprint, "what is there already adds nothing"
        sweep = added


def test_axis_forms_and_mixtures_of_old_and_new_values_are_taken() -> None:
    sweep = Sweep.of(toy_spec(axes={"shift": [0.0, 1.0]}))
    assert grown(sweep, axes={"shift": {"linspace": [0, 1, 5]}}).axes["shift"] == (0.0, 1.0, 0.25, 0.5, 0.75)
    assert grown(sweep, axes={"shift": [1, -1]}).axes["shift"] == (0.0, 1.0, -1.0)


def test_new_values_get_tiles_of_a_size_of_their_own() -> None:
    sweep = Sweep.of(toy_spec(axes={"shift": [0.0]}, points_per_block=1))
    larger = grown(sweep, axes={"shift": {"linspace": [0, 1, 5001]}})
    assert [piece.tile for piece in extended_plan(plan(sweep), sweep, larger).pieces] == [(1,), (5000,)]


def test_too_many_blocks_are_refused_when_a_sweep_is_extended() -> None:
    sweep = Sweep.of(toy_spec())
    with pytest.raises(SpecError, match=r"draws_per_batch: .* blocks, over the limit of 10000000"):
        extended_plan(plan(sweep), sweep, grown(sweep, draws=2**30))


# --- refusals ---

UNTIL = {"outcome": "level", "halfwidth": 0.1, "min_draws": 8}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"draws": 16}, "draws: the store has 24, an extension cannot go back to 16"),
        ({}, {"seed": 4}, "an extension only adds draws, values and precision: seed is 3 there, 4 here"),
        ({}, {"draws_per_batch": 12}, "draws_per_batch is 8 there, 12 here"),
        ({}, {"precision": "tf32"}, "precision is 'float32' there, 'tf32' here"),
        ({}, {"keep": "draws"}, "keep is 'moments' there, 'draws' here"),
        ({"keep": "draws"}, {"keep": "moments"}, "keep is 'draws' there, 'moments' here"),
        ({}, {"fixed": {"steps": 4}}, "fixed.steps is 3 there, 4 here"),
        ({}, {"fixed": {"steps": 3, "flip": True}}, "fixed.flip is False there, True here"),
        (
            {"axes": {"size": [2], "shift": [0.0]}},
            {"axes": {"shift": [0.0], "size": [2]}},
            "order of axes is ['size', 'shift'] there, ['shift', 'size'] here",
        ),
        (
            {"axes": {"size": [2]}},
            {"axes": {"size": [2], "shift": [0.0]}},
            "order of axes is ['size'] there, ['size', 'shift'] here; "
            "fixed.shift is 0.0 there, absent here; axes.shift is absent there, [0.0] here",
        ),
        (
            {"axes": {"size": [2, 4]}},
            {"axes": {"size": [2, 8]}},
            "axes.size lacks 4, which the store holds; an extension only adds values",
        ),
        ({}, {"until": UNTIL}, "until.outcome is absent there, 'level' here; "),
        ({"until": UNTIL}, {}, "until.outcome is 'level' there, absent here; "),
        (
            {"until": UNTIL},
            {"until": {**UNTIL, "halfwidth": 0.2}},
            "until.halfwidth: the store has 0.1, an extension cannot go back to 0.2",
        ),
        ({"until": UNTIL}, {"until": {**UNTIL, "outcome": "walk"}}, "until.outcome is 'level' there, 'walk' here"),
        ({"until": UNTIL}, {"until": {**UNTIL, "confidence": 0.99}}, "until.confidence is 0.95 there, 0.99 here"),
        ({"until": UNTIL}, {"until": {**UNTIL, "min_draws": 16}}, "until.min_draws is 8 there, 16 here"),
        (
            {"until": UNTIL},
            {"until": {**UNTIL, "guarantee": "anytime"}},
            "until.guarantee is 'fixed' there, 'anytime' here",
        ),
    ],
    ids=str,
)
def test_what_is_no_extension_is_refused_with_the_difference(before: dict, after: dict, message: str) -> None:
    stored, wanted = Sweep.of(toy_spec(**before)), Sweep.of(toy_spec(**after))
    with pytest.raises(RefusedError) as error:
        extended(stored, wanted)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("until", "more", "message"),
    [
        (None, {"axes": {"shfit": [1.0]}}, "unknown axis 'shfit'; did you mean 'shift'? known: colour, shift, size"),
        (None, {"axes": {"steps": [4]}}, "unknown axis 'steps'; known: colour, shift, size"),
        (None, {"axes": {"shift": [11.0]}}, "axes.shift[0] should be less than or equal to 10, got 11.0"),
        (None, {"axes": {"size": [2.5]}}, "axes.size[0] should be a valid integer, got 2.5"),
        (None, {"axes": {"size": []}}, "axes.size is empty; give it at least one value"),
        (None, {"axes": {"size": [3, 3]}}, "axes.size has 3 twice"),
        (None, {"axes": {"size": {"linspce": [0, 1, 2]}}}, "axes.size: unknown kind of axis 'linspce'"),
        (None, {"draws": 25}, "draws must be a whole number of batches of draws_per_batch = 8, got 25"),
        (None, {"halfwidth": 0.1}, "the sweep has a fixed number of draws and no until.halfwidth; give it more draws"),
        (UNTIL, {"halfwidth": -0.1}, "until.halfwidth: should be greater than 0, got -0.1"),
    ],
    ids=str,
)
def test_what_cannot_be_added_is_said(until: dict | None, more: dict[str, Any], message: str) -> None:
    with pytest.raises(SweepsError) as error:
        grown(Sweep.of(toy_spec(until=until)), **more)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_less_is_refused_in_whichever_way_it_is_asked_for() -> None:
    stored = Sweep.of(toy_spec(until=UNTIL))
    for less in ({"draws": 16}, {"halfwidth": 0.2}):
        with pytest.raises(RefusedError, match="an extension cannot go back to"):
            extended(stored, grown(stored, **less))


@pytest.mark.timeout(60)
def test_a_long_axis_is_compared_quickly_and_shown_short() -> None:
    axis = {"linspace": [0, 1, 100_001]}
    stored, wanted = (Sweep.of(toy_spec(axes={"shift": axis}, seed=seed)) for seed in (1, 1))
    assert extended(stored, wanted).fingerprint == stored.fingerprint
    other = Sweep.of(toy_spec(axes={"shift": [0.5, 2.0]}, seed=1))
    assert len(difference(stored, other)) < 200
