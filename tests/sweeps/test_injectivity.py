import itertools
import math

import numpy as np
import pytest
from pydantic import ValidationError

from sweeps.networks.depth import min_active
from sweeps.statistic import Networks, Points
from sweeps.statistics.injectivity import STATISTIC, InjectivityParameters, rows
from sweeps.theory import injectivity as theory


def gaussian(seed, networks, m, n):
    return np.random.default_rng(seed).standard_normal((networks, m, n))


def slow_min_active(W):
    """Every (n-1)-subset's null vector by SVD, float64."""
    m, n = W.shape
    best = m
    for subset in itertools.combinations(range(m), n - 1):
        v = np.linalg.svd(W[list(subset)])[2][-1] if n > 1 else np.ones(1)
        positive = int((np.delete(W, subset, axis=0) @ v > 0).sum())
        best = min(best, positive, m - n + 1 - positive)
    return best


def simulate(seed, draws, m, n):
    return min_active(gaussian(seed, draws, m, n))


def close(values, expected, slack=0.0):
    """Mean of the values within four standard errors, and `slack`, of the expected one."""
    return abs(np.mean(values) - expected) <= 4 * np.std(values) / math.sqrt(len(values)) + slack


@pytest.mark.parametrize("m", [5, 8, 12, 16])
def test_planar_law(m):
    k = simulate(m, 20_000, m, 2)
    for least in range(1, theory.largest_min_active(m, 2) + 1):
        assert close(k >= least, theory.planar_tail(m, least))
    assert close(k, theory.mean_min_active(m, 2))
    if m >= 5:
        assert theory.injective_probability(m, 2) == pytest.approx(1 - m * (m - 2) / 2 ** (m - 1))


@pytest.mark.parametrize("m", range(1, 9))
def test_planar_law_by_all_sign_patterns(m):
    """A symmetric law flips the rows of any fixed arrangement at random: 2^m equally likely cases."""
    fixed = gaussian(m, 1, m, 2)[0]
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=m)))
    k = np.array([slow_min_active(s[:, None] * fixed) for s in signs]) if m > 1 else np.zeros(2)
    for least in range(m + 2):
        assert np.mean(k >= least) == pytest.approx(theory.planar_tail(m, least))
    assert np.mean(k) == pytest.approx(theory.mean_min_active(m, 2))


@pytest.mark.parametrize(("m", "n"), [(5, 3), (8, 3), (9, 4), (10, 5), (13, 6), (14, 7)])
def test_wendel(m, n):
    assert close(simulate(m + n, 5000, m, n) >= 1, theory.wendel(m, n))


@pytest.mark.parametrize(("m", "n", "expected"), [(12, 3, 0.326), (14, 3, 0.611), (18, 4, 0.332)])
def test_measured_probabilities(m, n, expected):
    """Values of an independent enumeration; 0.01 for their rounding and unknown sampling error."""
    assert close(simulate(7, 20_000, m, n) >= n, expected, slack=0.01)


def test_first_moments():
    assert theory.expected_cells(13, 3, 3) == pytest.approx(1.7744, abs=5e-5)
    assert theory.expected_cells(25, 4, 4) == pytest.approx(0.3639, abs=5e-5)
    assert theory.euler_characteristic(13, 3, 3) == pytest.approx(0.8604, abs=5e-5)
    assert theory.euler_characteristic(25, 4, 4) == pytest.approx(0.1538, abs=5e-5)
    assert theory.euler_characteristic(20, 4, 21) == pytest.approx(0)  # the whole 3-sphere
    assert theory.euler_characteristic(20, 3, 21) == pytest.approx(2)  # the whole 2-sphere
    assert np.mean(simulate(8, 5000, 25, 4) < 4) <= theory.expected_cells(25, 4, 4)
    assert theory.expected_vertices(5, 2, 5) == 10


def networks(n, alpha, draws):
    points = Points({"n": n, "alpha": alpha}, size=len(draws))
    return Networks(points, np.full(len(draws), 11, np.uint64), np.asarray(draws, np.uint64))


def test_sample_is_a_function_of_the_draw_alone():
    whole = STATISTIC.sample(networks(4, 5.0, range(50)), "cpu")
    some = STATISTIC.sample(networks(4, 5.0, [7, 41]), "cpu")
    assert set(whole) == {"min_active", "injective"}
    for name, values in whole.items():
        assert values.dtype == np.float64
        assert values.shape == (50,)
        assert np.array_equal(values[[7, 41]], some[name])
    assert np.array_equal(whole["injective"], whole["min_active"] >= 4)
    layer = networks(4, 5.0, range(3)).normals(0, 20, 4)
    assert whole["min_active"][:3].tolist() == [slow_min_active(w) for w in layer.astype(np.float64)]


def test_sample_agrees_with_theory():
    p = InjectivityParameters(n=2, alpha=5.0)
    draws = STATISTIC.sample(networks(2, 5.0, range(20_000)), "cpu")
    expected = STATISTIC.theory(Points(p.model_dump()))
    for name in ("min_active", "injective"):
        assert close(draws[name], expected[name][0])


@pytest.mark.parametrize(
    ("n", "alpha", "min_active", "injective"),
    [(3, 2.0, math.nan, 0.0), (3, 8 / 3, math.nan, math.nan), (3, 4 / 3, 0.125, 0.0), (5, 0.2, 0.0, 0.0)],
)
def test_theory_where_there_is_one(n, alpha, min_active, injective):
    values = STATISTIC.theory(Points({"n": n, "alpha": alpha}))
    assert np.array_equal([values["min_active"][0], values["injective"][0]], [min_active, injective], True)


def test_rows_round_halves_up():
    assert [rows(2, 2.25), rows(3, 2.5), rows(4, 6.125), rows(7, 6.7)] == [5, 8, 25, 47]


@pytest.mark.parametrize(
    ("n", "alpha", "words"),
    [
        (8, 4.0, ["n", "less than or equal to 7"]),
        (1, 4.0, ["n", "greater than or equal to 2"]),
        (2, 0.2, ["without neurons", "alpha >= 0.25"]),
        (7, 20.0, ["m = 140", "null vectors", "use alpha <= 10"]),
        (4, -1.0, ["alpha", "greater than 0"]),
    ],
)
def test_refusals_say_what_would_be_right(n, alpha, words):
    with pytest.raises(ValidationError) as error:
        InjectivityParameters(n=n, alpha=alpha)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_the_largest_alpha_named_in_a_refusal_is_accepted():
    for n in range(2, 8):
        with pytest.raises(ValidationError) as error:
            InjectivityParameters(n=n, alpha=1e5)
        InjectivityParameters(n=n, alpha=float(str(error.value).split("use alpha <= ")[1].split()[0]))


def test_cost_and_memory_grow_with_the_layer():
    small, large = InjectivityParameters(n=5, alpha=4.0), InjectivityParameters(n=6, alpha=7.0)
    assert 0 < STATISTIC.cost(small) < STATISTIC.cost(large)
    assert 0 < STATISTIC.memory(small) < STATISTIC.memory(large)
