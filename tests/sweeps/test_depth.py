import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.networks.depth import inactive_direction, injective, least_active_direction, min_active
from sweeps.theory import injectivity as theory


def gaussian(seed, networks, m, n):
    return np.random.default_rng(seed).standard_normal((networks, m, n))


def slow_min_active(W, orthant=False):
    """Every (n-1)-subset's null vector by SVD, float64; on the orthant with the rows of the identity."""
    m, n = W.shape
    rows = np.vstack([W, np.eye(n)]) if orthant else W
    best = m
    for subset in itertools.combinations(range(len(rows)), n - 1):
        v = np.linalg.svd(rows[list(subset)])[2][-1] if n > 1 else np.ones(1)
        heights = rows @ v
        heights[list(subset)] = 0
        for side in (heights, -heights):
            if np.all(side[m:] >= 0):
                best = min(best, int((side[:m] > 0).sum()))
    return best


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
    *((7, m) for m in (5, 9)),
]


@pytest.mark.parametrize("orthant", [False, True])
@pytest.mark.parametrize(("n", "m"), [*SMALL, (7, 14)])
def test_count_is_the_minimum_over_all_vertices(n, m, orthant):
    if (n, m, orthant) == (7, 14, True):
        pytest.skip("54,264 decompositions take too long")
    W = gaussian(10 * n + m, 3, m, n)
    if m <= n and not orthant:
        expected = [0] * 3 if n > 1 else [min((w > 0).sum(), (w < 0).sum()) for w in W]
    else:
        expected = [slow_min_active(w, orthant) for w in W]
    assert min_active(W, orthant).tolist() == expected
    assert injective(W, orthant).tolist() == [k >= n for k in expected]
