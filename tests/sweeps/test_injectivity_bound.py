import numpy as np
import pytest
from pydantic import ValidationError

from sweeps.statistic import Networks, Points
from sweeps.statistics import injectivity
from sweeps.statistics.injectivity_bound import STATISTIC, InjectivityBoundParameters


def networks(n, alpha, moves, draws, **changes):
    p = InjectivityBoundParameters(n=n, alpha=alpha, moves=moves, **changes)
    points = Points({**p.model_dump(), "answer": "count", "domain": "space"}, size=len(draws))
    return Networks(points, np.full(len(draws), 11, np.uint64), np.asarray(draws, np.uint64))


@pytest.mark.parametrize(("n", "alpha"), [(2, 5.0), (4, 5.5), (6, 6.0)])
def test_it_bounds_the_exact_statistic_of_the_same_layers(n, alpha):
    some = networks(n, alpha, 5000, range(50))
    exact = injectivity.STATISTIC.sample(some, "cpu")
    found = STATISTIC.sample(some, "cpu")
    assert np.all(found["min_active_bound"] >= exact["min_active"])
    assert np.mean(found["min_active_bound"] == exact["min_active"]) >= 0.95
    assert np.all(found["not_injective"] <= 1 - exact["injective"])


def test_outcomes_are_of_one_bound():
    draws = STATISTIC.sample(networks(8, 6.0, 1000, range(20)), "cpu")
    assert all(values.dtype == np.float64 and values.shape == (20,) for values in draws.values())
    assert np.array_equal(draws["min_active_bound_ratio"], draws["min_active_bound"] / 8)
    assert np.array_equal(draws["not_injective"], draws["min_active_bound"] < 8)
    assert 0 < draws["not_injective"].mean() < 1


@pytest.mark.parametrize("rows", ["orthogonal", "rademacher", "sparse", "convolution"])
def test_it_bounds_layers_of_other_laws(rows):
    some = networks(4, 5.0, 2000, range(40), rows=rows)
    exact, found = injectivity.STATISTIC.sample(some, "cpu"), STATISTIC.sample(some, "cpu")
    assert np.all(found["min_active_bound"] >= exact["min_active"])
    assert np.all(found["not_injective"] <= 1 - exact["injective"])


@pytest.mark.parametrize("n", [6, 40])
def test_what_is_certified_has_a_witness(n):
    found = STATISTIC.sample(networks(n, 4.5, 2000, range(3)), "cpu")["not_injective"]
    assert found.any()
    for draw, certified in enumerate(found):
        witness = STATISTIC.witness(networks(n, 4.5, 2000, [draw]))
        assert (witness is not None) == bool(certified)
        assert witness is None or witness.exact is not None


def test_sample_is_a_function_of_the_draw_alone():
    whole = STATISTIC.sample(networks(10, 6.0, 1000, range(8)), "cpu")
    some = STATISTIC.sample(networks(10, 6.0, 1000, [7, 2]), "cpu")
    for name, values in whole.items():
        assert np.array_equal(values[[7, 2]], some[name])


def test_never_injective_far_below_the_rigorous_threshold():
    assert STATISTIC.sample(networks(60, 3.0, 1000, range(10)), "cpu")["not_injective"].all()


def test_a_search_cannot_beat_the_minimum_that_must_exist():
    """m < 3n - 1 is never injective, m <= n is never active: the search finds as much."""
    assert np.all(STATISTIC.sample(networks(5, 2.7, 1000, range(30)), "cpu")["min_active_bound"] < 5)
    for alpha in (0.4, 0.8, 1.0):
        assert np.all(STATISTIC.sample(networks(5, alpha, 1000, range(30)), "cpu")["min_active_bound"] == 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 501}, ["n", "less than or equal to 500"]),
        ({"n": 1}, ["n", "greater than or equal to 2"]),
        ({"n": 2, "alpha": 0.2}, ["without neurons", "alpha >= 0.25"]),
        ({"moves": 10}, ["moves", "greater than or equal to 1000"]),
    ],
)
def test_refusals_say_what_would_be_right(changes, words):
    with pytest.raises(ValidationError) as error:
        InjectivityBoundParameters(**{"n": 5, "alpha": 4.0, **changes})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_cost_and_memory_grow_with_layer_and_effort():
    small, large = InjectivityBoundParameters(n=50, alpha=4.0), InjectivityBoundParameters(n=100, alpha=6.0)
    longer = InjectivityBoundParameters(n=50, alpha=4.0, moves=10**7)
    assert 0 < STATISTIC.cost(small) < STATISTIC.cost(large)
    assert STATISTIC.cost(longer) == pytest.approx(10 * STATISTIC.cost(small), rel=0.05)
    assert 0 < STATISTIC.memory(small) < STATISTIC.memory(large)
