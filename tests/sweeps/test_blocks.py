"""Blocks partition the grid exactly, tiles never mix shapes, and keys are functions of values alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given

from sweeps import randomness
from sweeps.blocks import MAX_TILES, keys_of, plan, points_of, settled
from sweeps.errors import SpecError
from sweeps.sweep import MAX_BLOCK_VALUES, Sweep
from tests.conftest import toy_spec
from tests.strategies import specs


@given(specs())
def test_blocks_partition_points_and_batches_exactly(spec: dict) -> None:
    sweep = Sweep.of(spec)
    covered = np.zeros((*sweep.shape, sweep.batches), dtype=int)
    for i, block in enumerate(plan(sweep)):
        assert block.index == i == plan(sweep).index_of(0, block.tile, block.batch)
        covered[(*block.slices, block.batch)] += 1
    assert (covered == 1).all()


@given(specs())
def test_a_tile_owns_whole_chunks_and_one_shape(spec: dict) -> None:
    sweep = Sweep.of(spec)
    cut = plan(sweep)
    for block in cut:
        for name, start, stop, tile, n in zip(
            sweep.axes, block.starts, block.stops, cut.pieces[0].tile, sweep.shape, strict=True
        ):
            assert start % tile == 0
            assert stop == min(start + tile, n)
            assert stop - start == 1 or name not in sweep.definition.shape


@given(specs())
def test_points_of_a_block_are_the_grids(spec: dict) -> None:
    sweep = Sweep.of(spec)
    for block in plan(sweep):
        points = points_of(sweep, block)
        where = np.indices(block.shape).reshape(len(block.shape), -1).T + np.array(block.starts)
        expected = [sweep.parameters_at(tuple(index)).model_dump() for index in where]
        assert [points.point(i) for i in range(len(points))] == expected


def _key(axes: dict, fixed: dict, **changes) -> int:
    sweep = Sweep.of(toy_spec(axes=axes, fixed=fixed, **changes))
    return int(keys_of(sweep, points_of(sweep, plan(sweep)[0]))[0])


def test_a_key_depends_on_values_and_not_on_where_they_stand() -> None:
    here = _key({"shift": [1.0]}, {"size": 8, "colour": "blue"})
    assert here == _key({"size": [8]}, {"shift": 1, "colour": "blue"})
    assert here == _key({"colour": ["blue"], "size": [8, 9]}, {"shift": 1.0, "steps": 3}, draws=8)
    assert here != _key({"shift": [1.5]}, {"size": 8, "colour": "blue"})
    assert here != _key({"shift": [1.0]}, {"size": 8, "colour": "blue"}, seed=4)


@given(specs())
def test_keys_of_many_points_are_those_of_each(spec: dict) -> None:
    sweep = Sweep.of(spec)
    defaults = {k: f.default for k, f in sweep.definition.parameters.model_fields.items()}
    for block in plan(sweep):
        points = points_of(sweep, block)
        each = [{k: v for k, v in points.point(i).items() if v != defaults[k]} for i in range(len(points))]
        expected = [randomness.key(sweep.seed, sweep.statistic, values) for values in each]
        assert keys_of(sweep, points).tolist() == expected


def test_a_parameter_at_its_default_is_left_out_so_that_statistics_can_grow() -> None:
    assert _key({"shift": [1.0]}, {}) == randomness.key(3, "toy", {"shift": 1.0})


@pytest.mark.parametrize("draws_per_batch", [1, 2**10])
def test_a_settled_sweep_is_a_valid_one_and_cut_alike(draws_per_batch: int) -> None:
    for axes in ({"shift": {"linspace": [0, 1, 2_000_000]}}, {"shift": [0.5]}):
        sweep = Sweep.of(toy_spec(axes=axes, fixed={"size": 1}, draws=draws_per_batch, draws_per_batch=draws_per_batch))
        again = Sweep.of(json.loads(settled(sweep).to_json()))
        assert plan(again) == plan(sweep)
        assert again.fingerprint == sweep.fingerprint


def test_too_many_blocks_are_refused_with_what_to_change() -> None:
    with pytest.raises(SpecError, match=r"draws_per_batch: .* make 21990232555520 blocks, over the limit of 10000000"):
        plan(Sweep.of(toy_spec(draws=2**40, draws_per_batch=1, points_per_block=1)))


def test_too_large_blocks_are_refused_with_what_would_fit() -> None:
    """Six numbers a draw: three outcomes of one, and a walk of three steps."""
    spec = toy_spec(axes={"shift": {"linspace": [0, 1, 5000]}}, draws=2**16, draws_per_batch=2**16)
    assert max(plan(Sweep.of(spec)).points) * 6 * 2**16 <= MAX_BLOCK_VALUES
    said = (
        r"points_per_block = 4096 makes blocks of 4096 points x 393216 numbers, .* limit of 67108864; at most 170 here"
    )
    with pytest.raises(SpecError, match=said):
        plan(Sweep.of(spec | {"points_per_block": 4096}))
    assert max(plan(Sweep.of(spec | {"points_per_block": 170})).points) == 170


def test_a_million_points_make_thousands_of_blocks() -> None:
    axes = {"shift": {"linspace": [0, 1, 15625]}, "size": {"range": [1, 64]}}
    cut = plan(Sweep.of(toy_spec(axes=axes, draws=8)))
    assert np.prod(cut.pieces[0].shape) == 1_000_000
    assert len(cut) <= MAX_TILES
    assert cut[len(cut) - 1].stops == cut.pieces[0].shape
