import numpy as np
import pytest
from pydantic import ValidationError

from sweeps.networks.deep import decide
from sweeps.networks.deep_search import FALL, FIRST, LAST, STAGES, search
from sweeps.networks.depth import min_active
from sweeps.statistic import Networks, Points
from sweeps.statistics.deep_injectivity_bound import STATISTIC, DeepInjectivityBoundParameters


def gaussian(seed, networks, n, *widths):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((networks, m, before)) for m, before in zip(widths, (n, *widths), strict=False)]


def found(weights, moves, key=5):
    rows = np.concatenate([A.reshape(len(A), -1) for A in weights], axis=1)
    columns = np.concatenate([A.swapaxes(1, 2).reshape(len(A), -1) for A in weights], axis=1)
    widths = np.array([weights[0].shape[2], *(A.shape[1] for A in weights)])
    draws = np.arange(len(rows), dtype=np.uint64)
    return search(columns, rows, widths, moves, len(weights), np.full(len(rows), key, np.uint64), draws)


def active(weights, x):
    """Active neurons of every layer at one input."""
    counts = []
    for A in weights:
        x = np.maximum(A @ x, 0)
        counts.append(int((x > 0).sum()))
    return counts


@pytest.mark.parametrize(("n", "widths"), [(2, (12, 12)), (3, (18, 18, 18)), (4, (12, 9))])
def test_bounds_are_never_below_the_minimum_and_mostly_reach_it(n, widths):
    weights = gaussian(n, 30 if n < 4 else 5, n, *widths)
    bounds, least = found(weights, 3000)[0], decide(weights).min_active
    assert (bounds >= least).all()
    assert (bounds == least).mean() > 0.8


def test_one_layer_of_more_inputs():
    for n, m in [(5, 20), (6, 24)]:
        weights = gaussian(n, 20, n, m)
        bounds, least = found(weights, 20_000)[0][:, 0], min_active(weights[0])
        assert (bounds >= least).all()
        assert (bounds - least).mean() < 0.7


def test_the_inputs_have_what_the_bounds_say():
    weights = gaussian(1, 4, 10, 60, 50, 40)
    bounds, inputs = found(weights, 2000)
    for k, layer in np.ndindex(4, 3):
        assert active([A[k] for A in weights], inputs[k, layer])[layer] == bounds[k, layer]
        assert np.linalg.norm(inputs[k, layer]) == pytest.approx(1)


def test_a_network_that_cannot_be_injective_is_proved_not_to_be():
    """m < 3n - 1: k* < n for every layer of Gaussian rows."""
    bounds = found(gaussian(2, 20, 8, 20), 20_000)[0]
    assert (bounds < 8).all()


def test_more_moves_help_and_another_key_walks_otherwise():
    weights = gaussian(3, 20, 8, 48)
    few, many = (found(weights, moves)[0].mean() for moves in (10, 3000))
    assert many < few
    assert not np.array_equal(found(weights, 300)[1], found(weights, 300, key=6)[1])


def test_every_network_is_by_itself():
    weights = gaussian(4, 6, 5, 20, 20)
    whole = found(weights, 500)
    again = found([A[:3] for A in weights], 500)
    assert all(np.array_equal(a[:3], b) for a, b in zip(whole, again, strict=True))


def test_the_last_acceptance_is_what_it_says():
    last = FIRST * FALL ** (STAGES - 1)
    assert last == pytest.approx(LAST, rel=1e-4)


def networks(draws, **values):
    points = Points(DeepInjectivityBoundParameters(**values).model_dump(), size=len(draws))
    return Networks(points, np.full(len(draws), 11, np.uint64), np.asarray(draws, np.uint64))


def test_sample_is_a_function_of_the_draw_alone():
    how = {"n": 6, "depth": 2, "alpha": 4.0, "moves": 200}
    whole, some = (STATISTIC.sample(networks(draws, **how), "cpu") for draws in (range(10), [3, 7]))
    for name, values in whole.items():
        assert values.shape == (10, 2)
        assert np.array_equal(values[[3, 7]], some[name])
    below = whole["active_bound"] < 6
    assert np.array_equal(whole["not_locally_injective"], np.logical_or.accumulate(below, axis=1))
    assert np.array_equal(whole["below_twice"], whole["active_bound"] < 12)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"n": 1, "depth": 2, "alpha": 4.0}, ["n", "greater than or equal to 2"]),
        ({"n": 2000, "depth": 2, "alpha": 6.0}, ["[12000, 12000]", "weights", "times as large"]),
        ({"n": 20, "depth": 2, "alpha": 6.0, "moves": 0}, ["moves"]),
        ({"n": 20, "depth": 1, "alpha": 6.0, "alpha_2": 3.0}, ["alpha_2 3.0", "beyond depth 1"]),
    ],
)
def test_refusals_say_what_would_be_right(how, words):
    with pytest.raises(ValidationError) as error:
        DeepInjectivityBoundParameters(**how)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_what_is_certified_has_a_witness():
    how = DeepInjectivityBoundParameters(n=6, depth=3, alpha=6.0, alpha_2=3.0, moves=500)
    points = Points(how.model_dump(), size=1)
    certified = 0
    for draw in range(6):
        one = Networks(points, np.full(1, 3, np.uint64), np.full(1, draw, np.uint64))
        few = STATISTIC.sample(one, "cpu")["not_locally_injective"][0].any()
        witness = STATISTIC.witness(one)
        assert (witness is not None) == few
        if witness is not None:
            certified += 1
            weights = [one.normals(i, *shape)[0].astype(np.float64) for i, shape in enumerate(how.shapes)]
            outputs = []
            for x in (witness.first, witness.second):
                for A in weights:
                    x = np.maximum(A @ x, 0)
                outputs.append(x)
            assert np.abs(outputs[0] - outputs[1]).max() <= 1e-12 * np.abs(outputs[0]).max()
            assert witness.distance > 1e-6
    assert certified
