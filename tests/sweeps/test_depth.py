import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.networks.depth import inactive_direction, injective, min_active
from sweeps.theory import injectivity as theory


def gaussian(seed, networks, m, n):
    return np.random.default_rng(seed).standard_normal((networks, m, n))


def slow_min_active(W, orthant=False):
    """Every (n-1)-subset's null vector by SVD, float64; on the orthant with the rows of the identity."""
    m, n = W.shape
    rows = np.vstack([W, np.eye(n)]) if orthant else W
    subsets = np.array(list(itertools.combinations(range(len(rows)), n - 1)), dtype=int)
    v = np.linalg.svd(rows[subsets])[2][:, -1] if n > 1 else np.ones((1, 1))
    heights = v @ rows.T
    np.put_along_axis(heights, subsets, 0, axis=1)
    sides = np.concatenate([heights, -heights])
    feasible = np.all(sides[:, m:] >= 0, axis=1)
    return int((sides[feasible, :m] > 0).sum(axis=1).min())


def planar_orthant(W):
    """n = 2: one direction between each two neighbouring angles of the quadrant at which a row vanishes."""
    angles = np.mod(np.arctan2(W[:, 1], W[:, 0]) + np.pi / 2, np.pi)
    angles = np.sort([0, *angles[angles < np.pi / 2], np.pi / 2])
    middle = (angles[1:] + angles[:-1]) / 2
    return int((W @ [np.cos(middle), np.sin(middle)] > 0).sum(axis=0).min())


SMALL = [
    *((1, m) for m in (1, 2, 9)),
    *((2, m) for m in (1, 2, 3, 16, 70)),
    *((3, m) for m in (1, 2, 3, 4, 17, 24, 66)),
    *((4, m) for m in (2, 4, 5, 12, 17)),
    *((5, m) for m in (3, 5, 10, 13)),
    *((6, m) for m in (4, 8, 12)),
    *((7, m) for m in (5, 9, 12)),
]


@pytest.mark.parametrize("orthant", [False, True])
@pytest.mark.parametrize(("n", "m"), SMALL)
def test_count_is_the_minimum_over_all_vertices(n, m, orthant):
    W = gaussian(10 * n + m, 3, m, n)
    if m <= n and not orthant:
        expected = [0] * 3 if n > 1 else [min((w > 0).sum(), (w < 0).sum()) for w in W]
    else:
        expected = [slow_min_active(w, orthant) for w in W]
    assert min_active(W, orthant).tolist() == expected
    assert injective(W, orthant).tolist() == [k >= n for k in expected]


@pytest.mark.parametrize("orthant", [False, True])
@pytest.mark.parametrize(("n", "m"), [*SMALL, (5, 25), (8, 20)])
def test_directions_have_fewer_than_n_active_rows(n, m, orthant):
    W = gaussian(n + 10 * m, 5, m, n)
    ok, x = inactive_direction(W, orthant)
    assert np.array_equal(ok, injective(W, orthant))
    assert np.all(np.isnan(x[ok]))
    for w, k, direction in zip(W[~ok], min_active(W, orthant)[~ok], x[~ok], strict=True):
        assert np.linalg.norm(direction) == pytest.approx(1)
        assert k <= (w @ direction > 0).sum() < n
        assert np.abs(w @ direction / np.linalg.norm(w, axis=1)).min() > 1e-9
        assert not orthant or direction.min() > 1e-9


@pytest.mark.parametrize("n", [2, 3, 4])
def test_directions_have_the_largest_margin_of_their_cell(n):
    W = gaussian(n, 30, 4 * n, n)
    ok, directions = inactive_direction(W)
    assert (~ok).sum() >= 10
    for w, x in zip(W[~ok], directions[~ok], strict=True):
        sides = -w[w @ x < 0] / np.linalg.norm(w[w @ x < 0], axis=1, keepdims=True)
        near = x + 0.01 * np.random.default_rng(0).standard_normal((5000, n))
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        assert (sides @ near.T).min(axis=0).max() <= (sides @ x).min() + 1e-12


@pytest.mark.parametrize("m", [1, 2, 5, 40])
def test_plane_by_a_sweep_of_the_quadrant(m):
    W = gaussian(m, 200, m, 2)
    assert min_active(W, orthant=True).tolist() == [planar_orthant(w) for w in W]


@pytest.mark.parametrize(("n", "m"), [(3, 12), (4, 20), (5, 18), (6, 16)])
def test_no_sampled_direction_of_the_orthant_has_fewer_active_rows(n, m):
    W = gaussian(n, 20, m, n)
    x = np.abs(np.random.default_rng(2).standard_normal((20, n, 20_000)))
    least = (W @ x > 0).sum(axis=1).min(axis=1)
    k = min_active(W, orthant=True)
    assert np.all(least >= k)
    assert n > 3 or np.mean(least == k) > 0.8


def test_no_sampled_direction_has_fewer_active_rows():
    W = gaussian(1, 5, 30, 5)
    x = np.random.default_rng(2).standard_normal((5, 5, 20_000))
    assert np.all((W @ x > 0).sum(axis=1).min(axis=1) >= min_active(W))


@pytest.mark.parametrize(("n", "m"), [(3, 64), (3, 65), (3, 130), (4, 64), (4, 65), (4, 70)])
def test_more_rows_than_words_have_bits(n, m):
    W = gaussian(0, 1, m, n)
    assert min_active(W)[0] == slow_min_active(W[0])


@pytest.mark.parametrize(("n", "m"), [(3, 62), (3, 127), (4, 62)])
def test_more_rows_and_constraints_than_words_have_bits(n, m):
    W = gaussian(0, 1, m, n)
    assert min_active(W, orthant=True)[0] == slow_min_active(W[0], orthant=True)


def test_counts_grow_by_one_at_most_from_one_word_to_two():
    W = gaussian(3, 2, 67, 5)
    counts = [min_active(W[:, :m]) for m in (64, 65, 66, 67)]
    assert set(np.diff(counts, axis=0).flat) <= {0, 1}


def test_eight_inputs_by_enumeration():
    """C(15, 7) subsets of fifteen rows."""
    W = gaussian(8, 1, 15, 8)
    assert min_active(W)[0] == slow_min_active(W[0])


@pytest.mark.parametrize(("n", "m"), [(8, 26), (9, 26), (10, 27)])
def test_many_inputs_are_consistent(n, m):
    W = gaussian(n, 2, m, n)
    k, (ok, x) = min_active(W), inactive_direction(W)
    assert np.array_equal(injective(W), k >= n)
    assert np.array_equal(ok, k >= n)
    found = (np.einsum("kij,kj->ki", W, x) > 0).sum(axis=1)[~ok]
    assert np.all((k[~ok] <= found) & (found < n))
    assert set(k - min_active(W[:, 1:])) <= {0, 1}
    assert np.all(k <= theory.largest_min_active(m, n))


@pytest.mark.parametrize(
    ("W", "expected"),
    [
        (np.eye(3), 0),  # x = -(1, 1, 1)
        (np.vstack([np.eye(3), -np.ones(3)]), 1),  # a simplex around the origin
        (np.array([[np.cos(t), np.sin(t)] for t in 2 * np.pi * np.arange(7) / 7]), 3),  # regular heptagon
        (np.array([[1.0], [2.0], [-3.0]]), 1),
        (np.vander(np.arange(1.0, 9.0), 4), 0),  # polynomials negative everywhere
        (np.vander(np.arange(1.0, 9.0), 4) * (-1.0) ** np.arange(8)[:, None], 2),  # alternating, neighbourly
    ],
    ids=["orthant", "simplex", "heptagon", "line", "moment curve", "alternating"],
)
def test_small_exact_cases(W, expected):
    assert min_active(W[None].astype(np.float64)).tolist() == [expected]


@pytest.mark.parametrize(
    ("W", "expected"),
    [
        (np.eye(3) + 0.01, 3),  # all positive
        (-np.eye(3) - 0.01, 0),
        (np.array([[1.0, -0.3], [0.2, -1.0]]), 0),  # none beside the second axis
        (np.array([[1.0, -0.3], [-1.0, 0.5]]), 1),  # x_1 < 0.3 x_2 and x_1 > 0.5 x_2 exclude each other
        (np.array([[3.0]]), 1),
        (np.array([[3.0], [-1.0], [-2.0]]), 1),
    ],
)
def test_small_exact_cases_of_the_orthant(W, expected):
    assert min_active(W[None], orthant=True).tolist() == [expected]


matrices = st.integers(1, 6).flatmap(
    lambda n: st.tuples(st.integers(n, 4 * n + 4), st.just(n), st.integers(0, 2**32 - 1))
)


@settings(max_examples=40, deadline=None)
@given(matrices, st.booleans())
def test_invariances(shape, orthant):
    m, n, seed = shape
    W, rng = gaussian(seed, 1, m, n), np.random.default_rng(seed + 1)
    scaled = W * rng.lognormal(0, 3, (1, m, 1))
    inputs = W[:, :, rng.permutation(n)] * rng.lognormal(0, 1, n)  # keep the orthant
    others = [scaled, inputs, W[:, rng.permutation(m)], *([] if orthant else [W @ rng.standard_normal((n, n))])]
    k = min_active(W, orthant)[0]
    assert [min_active(V, orthant)[0] for V in others] == [k] * len(others)
    assert [injective(V, orthant)[0] for V in others] == [k >= n] * len(others)


@settings(max_examples=40, deadline=None)
@given(matrices, st.booleans())
def test_one_row_more_adds_nothing_or_one(shape, orthant):
    m, n, seed = shape
    W = gaussian(seed, 1, m + 1, n)
    assert min_active(W, orthant)[0] - min_active(W[:, :-1], orthant)[0] in (0, 1)


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_bounds(shape):
    m, n, seed = shape
    W = gaussian(seed, 1, m, n)
    k = min_active(W)[0]
    assert 0 <= k <= theory.largest_min_active(m, n)
    signs = [np.array(s) for s in itertools.product([1.0, -1.0], repeat=n)]
    if n < 5:  # every cell meets an orthant
        assert k == min(min_active(W * s, orthant=True)[0] for s in signs)


@pytest.mark.parametrize("spread", [1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("orthant", [False, True])
def test_signs_float32_cannot_see_are_decided_in_float64(spread, orthant):
    """Rows in tight bundles of n: their determinants are far below float32's rounding."""
    rng = np.random.default_rng(5)
    for n, m in [(3, 15), (4, 14), (5, 12)]:
        centres = np.repeat(rng.standard_normal((-(-m // n), n)), n, axis=0)[:m]
        W = centres + spread * rng.standard_normal((m, n))
        expected = slow_min_active(W, orthant)
        assert min_active(W[None], orthant)[0] == expected
        (ok,), (x,) = inactive_direction(W[None], orthant)
        assert ok == (expected >= n)
        assert ok or expected <= (W @ x > 0).sum() < n


def test_every_network_is_by_itself():
    W = gaussian(3, 40, 24, 4)
    alone = np.concatenate([min_active(w[None]) for w in W])
    assert np.array_equal(min_active(W), alone)
    assert np.array_equal(min_active(W[::-1].copy()), alone[::-1])
