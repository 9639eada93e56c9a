"""The contract of a statistic, met by every module of the folder: a new one gets these tests for its file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sweeps.measure
from sweeps import statistics
from sweeps.blocks import plan, points_of
from sweeps.intervals import deviation, sem
from sweeps.measure import measure, sample_block
from sweeps.moments import Moments
from sweeps.statistic import Statistic
from sweeps.sweep import Sweep

EXAMPLES: dict[str, dict] = {
    "angle": {
        "axes": {"correlation": [-0.5, 0.0, 0.9], "network": ["fnn", "cnn"]},
        "fixed": {"width": 16, "depth": 3, "side": 8},
    },
    "cantornet": {
        "axes": {"form": ["recursive", "three", "four"], "segment": ["published", "random"]},
        "fixed": {"times": 3},
    },
    "deep_injectivity": {"axes": {"n": [2, 3], "alpha": [3.0, 4.5]}, "fixed": {"depth": 2}},
    "deep_injectivity_bound": {"axes": {"n": [3, 6], "alpha": [3.0, 4.5]}, "fixed": {"depth": 2, "moves": 50}},
    "embedding": {
        "axes": {"correlation": [0.0, 0.4], "network": ["fnn", "cnn"], "activation": ["relu", "tanh"]},
        "fixed": {"width": 16, "depth": 2, "side": 4, "members": 3, "bias_variance": 0.1},
    },
    "first_layer": {
        "axes": {"architecture": ["linear", "cnn", "resnet"], "learning_rate": [0.01, 0.1], "label_noise": [0.0, 0.5]},
        "fixed": {"width": 2, "examples": 100, "steps": 6, "batch_size": 16, "checkpoints": 2, "reference": "same"},
    },
    "folding": {
        "axes": {"width": [8, 12], "angle": [0.5, 1.0, 2.0], "bias_variance": [0.0, 0.5]},
        "fixed": {"depth": 3, "layers": 4, "joins": 2},
    },
    "frames": {
        "axes": {"rows": ["sphere", "gaussian", "icosahedron"], "bias": [-0.5, 0.0], "domain": ["ball", "sphere"]},
        "fixed": {
            "n": 3,
            "redundancy": 4.0,
            "samples": 300,
            "points": 50,
            "reconstructed": 3,
            "listed": 2,
            "certify": True,
        },
    },
    "injectivity": {
        "axes": {"answer": ["count", "decision", "census"], "rows": ["gaussian", "sparse"]},
        "fixed": {"n": 3, "alpha": 4.0},
    },
    "injectivity_bound": {"axes": {"n": [2, 9], "alpha": [3.0, 5.0, 6.0]}, "fixed": {"moves": 1000}},
    "trained_folding": {
        "axes": {"learning_rate": [0.003, 0.03], "label_noise": [0.0, 0.5], "network": ["fnn", "cnn"]},
        "fixed": {"width": 4, "depth": 2, "epochs": 2, "checkpoints": 2, "examples": 100, "paths": 3, "layers": 2},
    },
    "toy": {"axes": {"shift": [-1.0, 0.0, 1.0], "size": [2, 8]}},
}
KNOWN = [n for n in statistics.names() if n != "faulty"]


def example(name: str, **changes) -> Sweep:
    return Sweep.of(
        {"name": name, "statistic": name, "seed": 5, "draws": 12, "draws_per_batch": 6, **EXAMPLES[name], **changes}
    )


def draws_of(sweep: Sweep) -> dict[str, np.ndarray]:
    """(*shape, *dims, draws) an outcome."""
    out: dict[str, np.ndarray] = {}
    size = sweep.draws_per_batch
    for block in plan(sweep):
        for name, values in sample_block(sweep, block).items():
            whole = out.setdefault(name, np.full((*sweep.shape, *values.shape[1:-1], sweep.draws), np.nan))
            whole[(*block.slices, ..., slice(block.batch * size, (block.batch + 1) * size))] = values.reshape(
                *block.shape, *values.shape[1:]
            )
    return out


def same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}


def test_every_statistic_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(KNOWN)


@pytest.fixture(params=KNOWN)
def statistic(request: pytest.FixtureRequest) -> Statistic:
    return statistics.get(request.param)


class TestContract:
    def test_it_is_documented(self, statistic: Statistic) -> None:
        assert statistic.summary
        assert statistic.source
        for name, field in statistic.parameters.model_fields.items():
            assert field.description, name
            if field.annotation in (int, float):
                assert isinstance(field.json_schema_extra, dict), name
                assert "unit" in field.json_schema_extra, name
        assert len({o.name for o in statistic.outcomes}) == len(statistic.outcomes)
        assert all(o.long_name and o.units for o in statistic.outcomes)
        assert statistic.shape <= set(statistic.parameters.model_fields)
        assert statistic.theory is None or statistic.theory_note

    def test_draws_have_the_declared_outcomes_and_shapes(self, statistic: Statistic) -> None:
        sweep = example(statistic.name)
        draws = draws_of(sweep)
        assert set(draws) == {o.name for o in statistic.outcomes}
        for outcome in statistic.outcomes:
            lengths = tuple(sweep.fixed[d.length] for d in outcome.dims)
            assert draws[outcome.name].shape == (*sweep.shape, *lengths, sweep.draws)
            defined = draws[outcome.name][~np.isnan(draws[outcome.name])]
            assert defined.size
            assert np.isfinite(defined).all()
            if outcome.kind == "proportion":
                assert set(np.unique(defined)) <= {0.0, 1.0}
            if outcome.kind == "count":
                assert (defined == defined.round()).all()

    @pytest.mark.parametrize("changes", [{"points_per_block": 1}, {"points_per_block": 2}, {"draws_per_batch": 1},
                                         {"draws_per_batch": 12}], ids=str)  # fmt: skip
    def test_tile_and_batch_change_no_bit(self, statistic: Statistic, changes: dict) -> None:
        assert same_bits(draws_of(example(statistic.name, **changes)), draws_of(example(statistic.name)))

    def test_memory_and_threads_change_no_bit(self, statistic: Statistic, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = draws_of(example(statistic.name))
        monkeypatch.setattr(sweeps.measure, "LAUNCH_BYTES", 1)
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if threads > 1 else 2)
        try:
            assert same_bits(draws_of(example(statistic.name)), whole)
        finally:
            torch.set_num_threads(threads)

    def test_more_draws_leave_the_first_ones_alone(self, statistic: Statistic) -> None:
        longer = draws_of(example(statistic.name, draws=24))
        assert same_bits({k: v[..., :12] for k, v in longer.items()}, draws_of(example(statistic.name)))

    def test_order_and_company_of_points_change_no_bit(self, statistic: Statistic) -> None:
        axes = {k: v[::-1] for k, v in EXAMPLES[statistic.name]["axes"].items()}
        turned = draws_of(example(statistic.name, axes=axes))
        flip = (slice(None, None, -1),) * len(axes)
        assert same_bits({k: v[flip] for k, v in turned.items()}, draws_of(example(statistic.name)))

    def test_another_seed_gives_other_draws(self, statistic: Statistic) -> None:
        assert not same_bits(draws_of(example(statistic.name, seed=6)), draws_of(example(statistic.name)))

    def test_theory_has_the_shape_of_what_it_predicts(self, statistic: Statistic) -> None:
        sweep = example(statistic.name)
        for block in plan(sweep):
            points = points_of(sweep, block)
            for name, values in (statistic.theory(points) if statistic.theory else {}).items():
                lengths = tuple(sweep.fixed[d.length] for d in statistic.outcome(name).dims)
                assert values.shape == (len(points), *lengths)

    def test_exactness_is_of_what_theory_predicts(self, statistic: Statistic) -> None:
        sweep = example(statistic.name)
        for block in plan(sweep):
            points = points_of(sweep, block)
            exact = statistic.exact(points) if statistic.exact else {}
            assert set(exact) <= set(statistic.theory(points) if statistic.theory else {})
            for name, values in exact.items():
                assert np.asarray(values).dtype == bool
                lengths = tuple(sweep.fixed[d.length] for d in statistic.outcome(name).dims)
                np.broadcast_to(values, (len(points), *lengths))

    def test_means_lie_within_four_standard_errors_of_exact_theory(self, statistic: Statistic) -> None:
        """A proportion that is the same in every draw has no standard error, but a chance of coming so."""
        sweep = example(statistic.name, draws=256, draws_per_batch=256) if statistic.exact else None
        for block in plan(sweep) if sweep else ():
            points, measured = points_of(sweep, block), measure(sweep, block)
            theory, exact = statistic.theory(points), statistic.exact(points)
            for name, true in exact.items():
                moments = Moments.unstack(measured.moments[name].stack().reshape(*theory[name].shape, -1))
                z = np.where(true, deviation(moments.mean, theory[name], sem(moments)), np.nan)
                assert not np.any(np.abs(z) >= 4), name
                if statistic.outcome(name).kind == "proportion":
                    same = true & np.isnan(z) & (moments.n > 0) & ~np.isnan(theory[name])
                    chance = np.where(moments.mean > 0.5, theory[name], 1 - theory[name]) ** moments.n
                    assert not np.any(same & (chance < 6e-5)), name

    def test_cost_memory_and_lane_are_positive(self, statistic: Statistic) -> None:
        sweep = example(statistic.name)
        parameters = sweep.parameters_at((0,) * len(sweep.shape))
        assert 0 < statistic.cost(parameters) < math.inf
        assert statistic.memory(parameters) > 0
        if statistic.lane is not None:
            assert statistic.lane(parameters) >= 1
            assert statistic.lane(parameters) * statistic.memory(parameters) <= 2**30
        if statistic.gpu_lane is not None:
            assert statistic.lane is not None
            assert statistic.lane(parameters) <= statistic.gpu_lane(parameters)
            assert statistic.gpu_lane(parameters) * statistic.memory(parameters) <= 2**32

    def test_histograms_count_every_defined_draw(self, statistic: Statistic) -> None:
        sweep = example(statistic.name)
        measured = measure(sweep, plan(sweep)[0])
        for outcome in statistic.outcomes:
            if outcome.bins is not None:
                counts = measured.histograms[outcome.name]
                assert counts.shape[-1] == len(outcome.bins) - 1
                np.testing.assert_array_equal(counts.sum(-1), measured.moments[outcome.name].n)
