import itertools
import math

import numpy as np
import pytest
from pydantic import ValidationError

from sweeps.networks.depth import min_active
from sweeps.statistic import Networks, Points
from sweeps.statistics._layer import row_count
from sweeps.statistics.injectivity import STATISTIC, InjectivityParameters
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


def parameters(**changes):
    return InjectivityParameters(**{"n": 4, "alpha": 5.0, **changes})


def networks(draws, **changes):
    points = Points(parameters(**changes).model_dump(), size=len(draws))
    return Networks(points, np.full(len(draws), 11, np.uint64), np.asarray(draws, np.uint64))


def sample(draws, **changes):
    return STATISTIC.sample(networks(draws, **changes), "cpu")


def test_sample_is_a_function_of_the_draw_alone():
    whole, some = sample(range(50)), sample([7, 41])
    for name, values in whole.items():
        assert values.dtype == np.float64
        assert values.shape == (50,)
        assert np.array_equal(values[[7, 41]], some[name], equal_nan=True)
    assert np.array_equal(whole["injective"], whole["min_active"] >= 4)
    assert np.array_equal(whole["min_active_ratio"], whole["min_active"] / 4)
    layer = networks(range(3)).normals(0, 20, 4)
    assert whole["min_active"][:3].tolist() == [slow_min_active(w) for w in layer.astype(np.float64)]


@pytest.mark.parametrize("domain", ["space", "orthant"])
@pytest.mark.parametrize("rows", ["gaussian", "sphere", "orthogonal", "rademacher", "sparse", "convolution"])
def test_the_three_answers_agree(rows, domain):
    law = {"rows": rows, "domain": domain, "n": 3}
    count, decision, census = (sample(range(60), answer=a, **law) for a in ("count", "decision", "census"))
    assert np.array_equal(count["injective"], decision["injective"])
    assert np.array_equal(count["injective"], census["injective"])
    assert np.array_equal(count["min_active"], census["min_active"])
    assert np.isnan(decision["min_active"]).all()
    assert np.isnan(count["vertices_below"]).all()
    if rows in LAWS:  # elsewhere more rows than n need not span
        assert np.array_equal(census["injective"] == 0, census["vertices_below"] > 0)


@pytest.mark.parametrize("rows", ["sphere", "orthogonal"])
def test_in_the_plane_the_law_of_the_rows_does_not_matter(rows):
    """As long as they are in general position and change sign freely."""
    found = sample(range(8000), n=2, alpha=4.0, rows=rows)
    assert close(found["injective"], theory.injective_probability(8, 2))
    assert close(found["min_active"], theory.mean_min_active(8, 2))


LAWS = ("gaussian", "sphere", "orthogonal")


def test_a_layer_that_is_injective_is_so_on_the_orthant():
    space, orthant = (STATISTIC.sample(same_layers(domain), "cpu")["injective"] for domain in ("space", "orthant"))
    assert np.all(orthant >= space)
    assert orthant.mean() > space.mean()


def same_layers(domain):
    return networks(range(200), n=3, alpha=4.0, domain=domain)


def test_sample_agrees_with_theory():
    p = parameters(n=2, answer="census")
    draws = sample(range(10_000), n=2, answer="census")
    expected = STATISTIC.theory(Points(p.model_dump()))
    for name in ("min_active", "min_active_ratio", "injective", "vertices_below"):
        assert close(draws[name], expected[name][0]), name


@pytest.mark.parametrize("rows", LAWS)
@pytest.mark.parametrize("domain", ["space", "orthant"])
def test_vertices_agree_with_theory(rows, domain):
    changes = {"rows": rows, "domain": domain, "n": 3, "answer": "census", "alpha": 3.0}
    expected = STATISTIC.theory(Points(parameters(**changes).model_dump()))["vertices_below"][0]
    assert close(sample(range(3000), **changes)["vertices_below"], expected)


@pytest.mark.parametrize(
    ("n", "alpha", "min_active", "injective"),
    [(3, 2.0, math.nan, 0.0), (3, 8 / 3, math.nan, math.nan), (3, 4 / 3, 0.125, 0.0), (5, 0.2, 0.0, 0.0)],
)
def test_theory_where_there_is_one(n, alpha, min_active, injective):
    values = STATISTIC.theory(Points(parameters(n=n, alpha=alpha).model_dump()))
    assert np.array_equal([values["min_active"][0], values["injective"][0]], [min_active, injective], True)
    values = STATISTIC.theory(Points(parameters(n=n, alpha=alpha, rows="rademacher").model_dump()))
    assert np.isnan([v[0] for v in values.values()]).all()


@pytest.mark.parametrize("rows", ["gaussian", "rademacher"])
@pytest.mark.parametrize("domain", ["space", "orthant"])
def test_every_draw_that_is_not_injective_has_a_witness(rows, domain):
    found = sample(range(12), rows=rows, domain=domain, alpha=4.75)["injective"]
    for draw, injective in enumerate(found):
        witness = STATISTIC.witness(networks([draw], rows=rows, domain=domain, alpha=4.75))
        assert (witness is None) == bool(injective)
        if witness is not None:
            assert witness.exact is not None
            assert witness.distance > 1e-8
            assert domain == "space" or min(*witness.first, *witness.second) >= 0


def test_limits_of_k_over_n():
    alpha = np.linspace(3, 10, 8)
    rs, two = (curve.values(alpha) for curve in STATISTIC.curves)
    np.testing.assert_allclose(rs, [0.0975, 0.2480, 0.4289, 0.6315, 0.8507, 1.0833, rs[6], 1.5803], atol=5e-5)
    np.testing.assert_allclose(two[[0, 3, 5]], [0.1176, 0.8054, 1.3841], atol=2e-3)


def test_limits_where_there_are_none():
    alpha = np.array([1.0, 2.0, 2.001, 2.1, 50.0, 100.0, 150.0])
    rs, two = (curve.values(alpha) for curve in STATISTIC.curves)
    assert rs[:2].tolist() == two[:2].tolist() == [0, 0]
    assert np.all(two[2:-1] > rs[2:-1])
    assert np.isnan(two[-1])
    for known in (*STATISTIC.curves, *STATISTIC.references):
        assert known.holds({"rows": ["gaussian"], "domain": ["space"], "n": [3]})
        assert known.holds({"rows": ["sparse", "sphere"]})
        assert not known.holds({"rows": ["gaussian"], "domain": ["orthant"]})
        assert not known.holds({"rows": ["sparse", "rademacher"]})


def test_rows_round_halves_up():
    assert [row_count(2, 2.25), row_count(3, 2.5), row_count(4, 6.125), row_count(7, 6.7)] == [5, 8, 25, 47]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 11}, ["n", "less than or equal to 10"]),
        ({"n": 1}, ["n", "greater than or equal to 2"]),
        ({"n": 2, "alpha": 0.2}, ["without neurons", "alpha >= 0.25"]),
        ({"n": 10, "alpha": 20.0}, ["m = 200", "s a draw", "use alpha <= "]),
        ({"n": 8, "alpha": 8.0, "answer": "census"}, ["m = 64", "answer = 'census'", "use alpha <= 7.5"]),
        ({"alpha": -1.0}, ["alpha", "greater than 0"]),
        ({"rows": "rademacher", "n": 9, "alpha": 9.0}, ["rows = 'rademacher'", "a smaller n"]),
        ({"rows": "convolution", "alpha": 4.75}, ["whole number of filters"]),
        ({"taps": 2}, ['taps is for rows = "convolution"']),
    ],
)
def test_refusals_say_what_would_be_right(changes, words):
    with pytest.raises(ValidationError) as error:
        parameters(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_the_largest_alpha_named_in_a_refusal_is_accepted():
    for n in range(2, 11):
        try:
            parameters(n=n, alpha=1e5)
        except ValidationError as error:
            largest = float(str(error).split("use alpha <= ")[1].split()[0])
            parameters(n=n, alpha=largest)
            with pytest.raises(ValidationError):
                parameters(n=n, alpha=largest + 2 / n)


@pytest.mark.parametrize("answer", ["count", "census"])
@pytest.mark.parametrize("n", range(2, 11))
def test_cost_rises_with_the_rows(n, answer):
    p = parameters(n=n, alpha=1.0, answer=answer)
    seconds = [p.seconds(m) for m in range(n, 300)]
    assert all(a < b for a, b in itertools.pairwise(seconds))


def test_a_large_file_counts(tmp_path):
    np.save(tmp_path / "large.npy", np.ones((100_000, 4), np.int8))
    large, small = parameters(rows="file", matrix=str(tmp_path / "large.npy")), parameters()
    assert STATISTIC.memory(large) > 10**6 > STATISTIC.memory(small)
    assert STATISTIC.cost(large) > STATISTIC.cost(small) + 0.01


def test_cost_and_memory_grow_with_the_layer():
    small, large = InjectivityParameters(n=5, alpha=4.0), InjectivityParameters(n=6, alpha=7.0)
    assert 0 < STATISTIC.cost(small) < STATISTIC.cost(large)
    assert 0 < STATISTIC.memory(small) < STATISTIC.memory(large)
