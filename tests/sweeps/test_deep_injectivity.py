import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import linprog

from sweeps.networks import circle, pieces
from sweeps.networks.deep import _pack, collision, decide
from sweeps.networks.depth import min_active
from sweeps.statistic import Networks, Points
from sweeps.statistics.deep_injectivity import STATISTIC, DeepInjectivityParameters
from sweeps.theory import injectivity as theory


def gaussian(seed, networks, n, *widths):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((networks, m, before)) for m, before in zip(widths, (n, *widths), strict=False)]


def layers(weights, x):
    """z_1, z_2, ... of inputs x (n, inputs), one network."""
    for A in weights:
        x = np.maximum(A @ x, 0)
        yield x


def directions(n, count):
    if n == 2:
        t = 2 * np.pi * (np.arange(count) + 0.5) / count
        return np.array([np.cos(t), np.sin(t)])
    return np.random.default_rng(count).standard_normal((n, count))


class Slow:
    """One network's pieces as sampled directions meet them: patterns, Jacobians, and a linear program a pair."""

    def __init__(self, weights, samples):
        self.n = weights[0].shape[1]
        x = directions(self.n, samples)
        self.patterns = [(z > 0) for z in layers(weights, x)]
        bits = np.concatenate(self.patterns)  # (neurons, samples)
        _, one = np.unique(2 ** np.arange(len(bits)) @ bits, return_index=True)
        self.pieces = [self._piece(weights, bits[:, i]) for i in one]

    def _piece(self, weights, bits):
        """(conditions, Jacobian, pattern of the last layer)."""
        J, conditions = np.eye(self.n), []
        for A, active in zip(weights, np.split(bits, np.cumsum([len(A) for A in weights])[:-1]), strict=True):
            H = A @ J
            conditions.append(np.where(active, 1, -1)[:, None] * H)
            J = active[:, None] * H
        return np.concatenate(conditions), J, active

    def least(self):
        return [int(z.sum(axis=0).min()) for z in self.patterns]

    def locally_injective(self):
        return all(np.linalg.matrix_rank(J) == self.n for _, J, _ in self.pieces)

    def globally_injective(self):
        pairs = itertools.combinations(self.pieces, 2)
        return self.locally_injective() and not any(np.array_equal(p[2], q[2]) and self._meet(p, q) for p, q in pairs)

    def _meet(self, p, q):
        """Most margin t of u inside p and v inside q, within the unit cube, with J_p u = J_q v."""
        n, (Cp, Jp, _), (Cq, Jq, _) = self.n, p, q
        Cp, Cq = ([row / np.linalg.norm(row) for row in C if row.any()] for C in (Cp, Cq))
        upper = np.block([[-np.array(Cp), np.zeros((len(Cp), n))], [np.zeros((len(Cq), n)), -np.array(Cq)]])
        upper = np.hstack([upper, np.ones((len(upper), 1))])
        equal = np.hstack([Jp, -Jq, np.zeros((len(Jp), 1))])
        bounds = [(-1, 1)] * (2 * n) + [(None, 1)]
        found = linprog(-np.eye(2 * n + 1)[-1], upper, np.zeros(len(upper)), equal, np.zeros(len(Jp)), bounds)
        assert found.success, found.message
        return found.x[-1] > 1e-7


def close(values, expected, slack=0.0):
    """Mean of the values within four standard errors, and `slack`, of the expected one."""
    return abs(np.mean(values) - expected) <= 4 * np.std(values) / math.sqrt(len(values)) + slack


PLANE = {  # 20,000 draws of an independent program: P(k_last* >= 2), locally, globally injective
    (8,): (0.630, 0.630, 0.630),
    (8, 8): (0.646, 0.428, 0.314),
    (10, 10): (0.849, 0.730, 0.637),
    (12, 12): (0.942, 0.890, 0.843),
    (14, 8): (0.678, 0.665, 0.473),
    (60, 7): (0.541, 0.541, 0.275),
}


@pytest.mark.parametrize("widths", PLANE, ids=str)
def test_measured_probabilities_in_the_plane(widths):
    draws = 8_000
    found = decide(gaussian(len(widths), draws, 2, *widths))
    enough = found.min_active >= 2
    assert close(enough[:, 0], theory.injective_probability(widths[0], 2), slack=1e-12)
    for values, expected in zip(
        (enough[:, -1], enough.all(axis=1), found.first == len(widths)), PLANE[widths], strict=True
    ):
        error = math.sqrt(expected * (1 - expected) * (1 / draws + 1 / 20_000))
        assert abs(values.mean() - expected) <= 4 * error + 5e-4  # three digits


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("m", [1, 4, 11, 17])
def test_one_layer_is_what_its_own_kernel_says(n, m):
    (W,) = gaussian(n + m, 40, n, m)
    found = decide([W])
    assert np.array_equal(found.min_active[:, 0], min_active(W))
    assert np.array_equal(found.first == 1, min_active(W) >= n)


@pytest.mark.parametrize("widths", [(5, 6), (7, 7), (9, 6), (8, 3, 9), (9, 7, 8), (1, 2)], ids=str)
def test_plane_is_what_sampling_and_linear_programs_say(widths):
    weights = gaussian(sum(widths), 5, 2, *widths)
    found = decide(weights)
    for k in range(5):
        slow = Slow([A[k] for A in weights], 20_000)
        assert found.min_active[k].tolist() == slow.least()
        assert (found.min_active[k] >= 2).all() == slow.locally_injective()
        assert (found.first[k] == len(widths)) == slow.globally_injective()


@pytest.mark.parametrize(("widths", "draws"), [((11, 10), 3), ((14, 11), 3), ((6, 3, 5), 4)])
def test_space_is_what_sampling_and_linear_programs_say(widths, draws):
    """Samples may miss a piece where a collision is; test_collisions_are_collisions checks that it is one."""
    weights = gaussian(sum(widths), draws, 3, *widths)
    found = decide(weights)
    for k in range(draws):
        slow = Slow([A[k] for A in weights], 300_000)
        assert found.min_active[k].tolist() == slow.least()
        assert (found.min_active[k] >= 3).all() == slow.locally_injective()
        assert (found.first[k] < len(widths)) >= (not slow.globally_injective())


def test_every_cell_of_an_arrangement_is_found():
    """Schlaefli: m planes through the origin of R^n in general position have 2 sum_{i<n} C(m-1, i) cells."""
    for n, m in [(3, 9), (3, 14), (4, 7), (4, 10)]:
        (A,) = gaussian(n * m, 1, n, m)
        x, facets, ends = pieces._whole_space(n, 1)
        V, _, ends = pieces._cut(np.hstack([x, x @ A[0].T]), facets, ends, n, n + 1, 4 * (n + m))
        cells = {tuple((rays[:, n:] > 0).any(axis=0)) for rays in np.split(V, ends[:-1])}
        assert len(cells) == 2 * sum(math.comb(m - 1, i) for i in range(n))


@pytest.mark.parametrize("widths", [(8,), (8, 8), (14, 8), (3, 9), (10, 10, 10), (1, 1)], ids=str)
def test_arcs_and_cones_agree_in_the_plane(widths):
    widths, flat = _pack(gaussian(1, 200, 2, *widths))
    for arcs, general in zip(circle.decide(flat, widths)[:2], pieces.decide(flat, widths)[:2], strict=True):
        assert np.array_equal(arcs, general)


SOME = [(2, (8, 8, 8), 300), (2, (40, 7), 300), (3, (14, 14), 60), (3, (20, 9, 9), 30), (4, (16, 12), 2)]


@pytest.mark.parametrize(("n", "widths", "draws"), SOME)
def test_collisions_are_collisions(n, widths, draws):
    weights = gaussian(n, draws, n, *widths)
    found = decide(weights)
    where = set()
    for k, (first, pair) in enumerate(zip(found.first, found.pair, strict=True)):
        assert np.isnan(pair).all() == (first == len(widths))
        if first < len(widths):
            apart = np.abs(pair[0] - pair[1]).max() / np.abs(pair).max()
            *before, last = list(layers([A[k] for A in weights], pair.T))[: first + 1]
            assert apart > 1e-6
            assert np.abs(last[:, 0] - last[:, 1]).max() <= 1e-9 * apart * last.max()
            assert all(np.abs(z[:, 0] - z[:, 1]).max() > 1e-9 * apart * z.max() for z in before)
            where.add((int(first), bool(found.min_active[k, first] >= n)))
    assert n == 4 or any(local for _, local in where)  # pieces that are injective each, and overlap


def test_one_network_and_its_collision():
    (A, B), found = (weights := gaussian(4, 50, 2, 8, 8)), decide(gaussian(4, 50, 2, 8, 8))
    assert len(weights) == 2
    for k in range(50):
        pair = collision([A[k], B[k]])
        assert (pair is None) == (found.first[k] == 2)
        if pair is not None:
            assert np.array_equal(pair, found.pair[k])


def test_a_layer_more_changes_nothing_before():
    for n, widths in [(2, (9, 9, 9)), (3, (14, 13))]:
        weights = gaussian(n, 50, n, *widths)
        whole, part = decide(weights), decide(weights[:-1])
        assert np.array_equal(whole.min_active[:, :-1], part.min_active)
        assert np.array_equal(np.minimum(whole.first, len(widths) - 1), part.first)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 3), st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_invariances(n, widths, seed):
    weights, rng = gaussian(seed, 1, n, *widths), np.random.default_rng(seed + 1)
    changed, turn = [], rng.standard_normal((n, n))
    for A in weights:  # other inputs, neurons scaled and in another order
        scale, order = rng.lognormal(0, 1, A.shape[1]), rng.permutation(A.shape[1])
        changed.append((scale[:, None] * A[0] @ turn)[order][None])
        turn = (np.eye(A.shape[1]) / scale)[:, order]
    one, other = decide(weights), decide(changed)
    assert np.array_equal(one.min_active, other.min_active)
    assert np.array_equal(one.first, other.first)


@pytest.mark.parametrize("n", [2, 3])
def test_twice_as_many_active_neurons_as_inputs_let_nothing_collide(n):
    found = decide(gaussian(9, 100, n, 8 * n, 9 * n))
    sure = (found.min_active[:, 0] >= n) & (found.min_active[:, 1] >= 2 * n)
    assert sure.sum() > 10
    assert (found.first[sure] == 2).all()


def test_every_network_is_by_itself():
    for n, widths in [(2, (9, 8, 9)), (3, (12, 11))]:
        weights = gaussian(3, 30, n, *widths)
        whole = decide(weights)
        for k in range(30):
            alone = decide([A[k : k + 1] for A in weights])
            assert all(np.array_equal(a[k], b[0], equal_nan=True) for a, b in zip(whole, alone, strict=True))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2, 3 or 4 inputs, got 5"):
        decide(gaussian(0, 1, 5, 6))
    with pytest.raises(ValueError, match="inputs being the neurons before"):
        decide([np.ones((1, 6, 2)), np.ones((1, 6, 5))])


def networks(draws, **values):
    points = Points(DeepInjectivityParameters(**values).model_dump(), size=len(draws))
    return Networks(points, np.full(len(draws), 11, np.uint64), np.asarray(draws, np.uint64))


def test_sample_is_a_function_of_the_draw_alone():
    how = {"n": 2, "depth": 3, "alpha": 5.0, "alpha_3": 3.5}
    whole = STATISTIC.sample(networks(range(50), **how), "cpu")
    some = STATISTIC.sample(networks([7, 41], **how), "cpu")
    for name, values in whole.items():
        assert values.dtype == np.float64
        assert values.shape == (50, 3)
        assert np.array_equal(values[[7, 41]], some[name])
    assert np.array_equal(whole["enough_active"], whole["min_active"] >= 2)
    assert np.array_equal(whole["locally_injective"], np.cumprod(whole["enough_active"], axis=1))
    assert (whole["globally_injective"] <= whole["locally_injective"]).all()
    assert (np.diff(whole["globally_injective"], axis=1) <= 0).all()
    drawn = networks(range(50), **how)
    weights = [drawn.normals(0, 10, 2), drawn.normals(1, 10, 10), drawn.normals(2, 7, 10)]
    assert np.array_equal(whole["min_active"], decide(weights).min_active)


@pytest.mark.parametrize("n", [2, 3])
def test_first_layer_agrees_with_theory(n):
    how = {"n": n, "depth": 2, "alpha_1": 5 / n * 2 if n == 2 else 2.0, "alpha_2": 2.0}
    draws = STATISTIC.sample(networks(range(5_000 if n == 2 else 300), **how), "cpu")
    expected = STATISTIC.theory(Points(DeepInjectivityParameters(**how).model_dump()))
    for name, values in draws.items():
        assert np.isnan(expected[name][0, 1])
        assert np.isnan(expected[name][0, 0]) or close(values[:, 0], expected[name][0, 0])
    assert not np.isnan(expected["globally_injective"][0, 0])


@pytest.mark.parametrize(
    ("how", "widths"),
    [
        ({"depth": 3, "alpha": 4.0}, [8, 8, 8]),
        ({"depth": 3, "alpha": 6.7, "alpha_3": 2.25}, [13, 13, 5]),
        ({"depth": 2, "alpha_1": 3.0, "alpha_2": 4.0}, [6, 8]),
    ],
)
def test_widths(how, widths):
    assert DeepInjectivityParameters(n=2, **how).widths == widths


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"n": 5, "depth": 2, "alpha": 4.0}, ["n", "less than or equal to 4"]),
        ({"n": 2, "depth": 5, "alpha": 4.0}, ["depth", "less than or equal to 4"]),
        ({"n": 2, "depth": 2, "alpha_1": 4.0}, ["layer 2 has no expansion ratio", "alpha_2"]),
        ({"n": 2, "depth": 2, "alpha": 4.0, "alpha_3": 4.0}, ["alpha_3 4.0", "beyond depth 2"]),
        ({"n": 2, "depth": 1, "alpha": 4.0, "alpha_1": 4.0}, ["alpha 4.0 is for no layer", "leave it out"]),
        ({"n": 2, "depth": 2, "alpha": 4.0, "alpha_2": 0.2}, ["layer 2", "no neuron", ">= 0.25"]),
        ({"n": 4, "depth": 2, "alpha": 10.0}, ["[40, 40]", "<= 9"]),
    ],
)
def test_refusals_say_what_would_be_right(how, words):
    with pytest.raises(ValidationError) as error:
        DeepInjectivityParameters(**how)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_the_largest_ratio_named_in_a_refusal_is_accepted():
    for n, depth in itertools.product((2, 3, 4), (1, 2, 3, 4)):
        with pytest.raises(ValidationError) as error:
            DeepInjectivityParameters(n=n, depth=depth, alpha=1e5)
        ratio = float(str(error.value).split("own, <= ")[1].split()[0])
        DeepInjectivityParameters(n=n, depth=depth, alpha=ratio)


def test_cost_and_memory_grow_with_the_network():
    small = DeepInjectivityParameters(n=3, depth=2, alpha=4.0)
    large = DeepInjectivityParameters(n=3, depth=3, alpha=4.0)
    assert 0 < STATISTIC.cost(small) < STATISTIC.cost(large)
    assert 0 < STATISTIC.memory(small) < STATISTIC.memory(large)


@pytest.mark.parametrize("n", [2, 3])
def test_every_draw_that_is_not_injective_has_a_witness(n):
    how = {"n": n, "depth": 2, "alpha": 5.0 if n == 2 else 6.0}
    injective = STATISTIC.sample(networks(range(8), **how), "cpu")["globally_injective"][:, -1]
    assert 0 < injective.mean() < 1
    for draw, yes in enumerate(injective):
        drawn = networks([draw], **how)
        witness = STATISTIC.witness(drawn)
        assert (witness is None) == bool(yes)
        if witness is not None:
            m = round(how["alpha"] * n)
            weights = [drawn.normals(0, m, n)[0], drawn.normals(1, m, m)[0]]
            one, other = ([*layers(weights, x)][-1] for x in (witness.first, witness.second))
            assert np.abs(one - other).max() <= max(witness.difference, 1e-9 * witness.distance)
            assert witness.distance > 1e-6
