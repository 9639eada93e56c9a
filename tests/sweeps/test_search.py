import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.networks.depth import min_active
from sweeps.networks.search import active, search

MARGIN = 1e-9


def gaussian(seed, networks, m, n):
    return np.random.default_rng(seed).standard_normal((networks, m, n))


def find(W, moves=1000, key=3, draws=None, tensor=1, margin=MARGIN):
    draws = np.arange(len(W)) if draws is None else np.asarray(draws)
    return search(W, np.full(len(W), key, np.uint64), draws.astype(np.uint64), tensor, moves, margin)


def counted(W, x, margin=MARGIN):
    """Active rows by NumPy, among them those that nearly vanish at x, but not zero rows."""
    lengths = np.linalg.norm(W, axis=-1) * np.linalg.norm(x, axis=-1)[:, None]
    return ((np.einsum("kij,kj->ki", W, x) >= -margin * lengths) & (lengths > 0)).sum(axis=1)


@pytest.mark.parametrize(("n", "m"), [(2, 9), (3, 16), (4, 22), (5, 28), (6, 34)])
def test_finds_the_minimum_of_small_layers(n, m):
    W = gaussian(n, 40, m, n)
    least = min_active(W)
    for moves in (100, 1000, 10_000):
        count, _ = find(W, moves)
        assert np.all(count >= least)
    assert np.mean(count == least) >= 0.95


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_every_direction_has_the_count_told(n, m, seed, moves):
    W = gaussian(seed, 2, m, n)
    count, x = find(W, moves)
    assert np.array_equal(count, counted(W, x))
    assert np.allclose(np.linalg.norm(x, axis=1), 1)
    if m > n:
        assert np.all(count >= min_active(W))


@pytest.mark.parametrize(("n", "m"), [(n, m) for n in (1, 2, 3, 5, 20, 60) for m in {1, n - 1, n} - {0}])
def test_up_to_n_rows_can_all_be_negative(n, m):
    W = gaussian(m, 20, m, n)
    count, x = find(W, 0)
    assert np.all(count == 0)
    assert np.all(np.einsum("kij,kj->ki", W, x) < -1e-9 * np.linalg.norm(W, axis=2))
    assert np.allclose(np.linalg.norm(x, axis=1), 1)


def test_large_layers_are_certified_with_little_effort():
    n = 100
    W = gaussian(0, 2, 4 * n, n)
    count, x = find(W, 5000)
    assert np.array_equal(count, counted(W, x))
    assert np.all(count < n)
    assert np.all(count > 0.31 * n)  # the limit of k*/n, full replica symmetry breaking
    assert np.all((np.einsum("kij,kj->ki", W, x) > 0).sum(axis=1) == count)


def test_moves_go_far_below_the_start():
    W = gaussian(1, 4, 240, 40)
    start, short, long = (find(W, moves)[0].mean() for moves in (0, 1000, 20_000))
    assert long < short < start


def test_rows_within_the_margin_count_as_active():
    W = np.array([[1.0, 0.0], [-1e-7, 1.0], [0.0, 0.0], [-1.0, 0.0], [-2.0, 1e-12]])
    x = np.array([-3.0, 0.0])
    assert [active(W, x, margin) for margin in (0.0, 1e-9, 1e-6)] == [3, 3, 3]
    assert [active(-W, x, margin) for margin in (0.0, 1e-9, 1e-6)] == [1, 1, 2]
    assert active(W[:2], 1e-3 * x, 0.0) == active(W[:2], 1e3 * x, 0.0) == 1


def test_a_wide_margin_is_obeyed():
    W = gaussian(2, 3, 60, 10)
    count, x = find(W, 2000, margin=0.02)
    assert np.array_equal(count, counted(W, x, 0.02))
    assert np.all(count >= find(W, 2000)[0])


def test_every_network_is_by_itself():
    W = gaussian(3, 6, 60, 12)
    whole = find(W)
    for k in range(6):
        count, x = find(W[k : k + 1], draws=[k])
        assert count[0] == whole[0][k]
        assert x.tobytes() == whole[1][k].tobytes()
    turned = find(W[::-1].copy(), draws=range(6)[::-1])
    assert turned[1][::-1].tobytes() == whole[1].tobytes()


def test_words_are_addressed_by_key_draw_and_tensor():
    W = np.repeat(gaussian(4, 1, 120, 20), 2, axis=0)
    same = find(W, draws=[0, 0])[1]
    assert np.array_equal(same[0], same[1])
    others = [find(W, draws=[0, 1])[1][1], find(W, key=4)[1][0], find(W, tensor=2)[1][0]]
    assert all(not np.array_equal(same[0], x) for x in others)


def test_scaled_rows_have_the_same_minimum_found():
    W = gaussian(5, 4, 34, 6)
    scaled = W * np.random.default_rng(0).lognormal(0, 3, (4, 34, 1))
    assert np.array_equal(find(W, 10_000)[0], find(scaled, 10_000)[0])


DEGENERATE = {
    "no rows but zeros": (np.zeros((4, 3)), 0),
    "a zero row": (np.vstack([np.eye(3), np.zeros((1, 3))]), 0),
    "repeated rows": (np.repeat(np.eye(3), 5, axis=0), 0),
    "antiparallel": (np.vstack([np.eye(3), -np.eye(3)]), 3),
    "antiparallel, thrice": (np.repeat(np.vstack([np.eye(4), -np.eye(4)]), 3, axis=0), 12),
    "one direction": (np.ones((9, 4)), 0),
    "a plane of three dimensions": (np.array([[1.0, 0, 0], [-1, 1, 0], [-1, -1, 0], [0, 1, 0], [2, 1, 0]]), 1),
    "one row": (np.ones((1, 4)), 0),
    "one input": (np.array([[1.0], [2.0], [-3.0]]), 1),
}


@pytest.mark.parametrize(("W", "least"), DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("moves", [0, 2000])
def test_rows_outside_general_position(W, least, moves):
    count, x = find(W[None].astype(np.float64), moves)
    assert np.isfinite(x).all()
    assert count[0] == counted(W[None], x)[0] >= least
    if moves:
        assert count[0] <= least + 1
