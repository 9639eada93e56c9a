"""Fewest active rows over the cells of a domain, against every cell found by feasibility, arcs, and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import nnls

from sweeps.frames.cells import candidates, decided, fewest_active, seconds
from sweeps.frames.domain import Domain
from sweeps.networks.degenerate import examine
from sweeps.networks.depth import min_active

DOMAINS = {
    "sphere": Domain("sphere", 1.5),
    "ball": Domain("ball", 1.5),
    "donut": Domain("donut", 1.5, 0.9),
    "nonnegative": Domain("nonnegative", 1.5),
}


def unit(seed, m, n):
    rows = np.random.default_rng(seed).standard_normal((m, n))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def biased(seed, m, n, spread=0.6):
    return unit(seed, m, n), np.random.default_rng(seed + 1000).uniform(-spread, spread, m)


def nearest(G, h):
    """min |x| subject to G x >= h, inf where there is none (Lawson and Hanson, chapter 23)."""
    system = np.vstack([G.T, h])
    target = np.zeros(len(system))
    target[-1] = 1
    residual = target - system @ nnls(system, target)[0]
    return math.inf if np.linalg.norm(residual) < 1e-9 else float(np.linalg.norm(residual[:-1] / residual[-1]))


def over_all_cells(rows, bias, domain):
    """Every sign vector of a convex domain, a row at a time, as long as its cell meets the open ball."""
    n = rows.shape[1]
    walls = np.eye(n) if domain.positive else np.zeros((0, n))
    cells = [np.zeros(0)]
    for i in range(len(rows)):
        grown = [np.append(cell, sign) for cell in cells for sign in (-1.0, 1.0)]
        here, there = np.vstack([rows[: i + 1], walls]), np.append(bias[: i + 1], np.zeros(len(walls)))
        cells = []
        for cell in grown:
            signs = np.append(cell, np.ones(len(walls)))
            if nearest(signs[:, None] * here, signs * there + 1e-7) < domain.radius:
                cells.append(cell)
    return min(int((cell > 0).sum()) for cell in cells)


def over_arcs(rows, bias, radius):
    """n = 2: one point of every arc of a circle."""
    with np.errstate(invalid="ignore"):
        half = np.arccos(bias / radius)
    middle = np.arctan2(rows[:, 1], rows[:, 0])
    ends = np.concatenate([middle - half, middle + half])
    ends = np.sort(np.append(ends[~np.isnan(ends)] % math.tau, [0, math.tau]))
    angles = (ends[1:] + ends[:-1]) / 2
    points = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return int((points @ rows.T > bias).sum(axis=1).min())


def check_is_there(rows, bias, domain, count, x):
    length = np.linalg.norm(x)
    heights = rows @ x - bias
    assert (heights > 0).sum() == count
    assert np.abs(heights).min() > 1e-9
    assert domain.smallest * (1 - 1e-12) <= length <= domain.radius * (1 + 1e-12)
    assert not domain.positive or x.min() > 0


@pytest.mark.parametrize("kind", ["ball", "nonnegative"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (5, 1), (7, 2), (9, 2), (3, 3), (8, 3), (7, 4)])
def test_the_least_over_all_cells_of_a_convex_domain(kind, m, n):
    for seed in range(4):
        rows, bias = biased(seed, m, n)
        count, x = fewest_active(rows, bias, DOMAINS[kind])
        assert count == over_all_cells(rows, bias, DOMAINS[kind])
        check_is_there(rows, bias, DOMAINS[kind], count, x)


@pytest.mark.parametrize("m", [1, 2, 3, 8, 30])
def test_the_least_over_all_arcs_of_a_circle(m):
    for seed in range(10):
        rows, bias = biased(seed, m, 2, spread=1.6)
        count, x = fewest_active(rows, bias, DOMAINS["sphere"])
        assert count == over_arcs(rows, bias, 1.5)
        check_is_there(rows, bias, DOMAINS["sphere"], count, x)


@pytest.mark.parametrize("inner", [0.0, 0.3, 0.9, 1.4])
@pytest.mark.parametrize("m", [2, 7, 15])
def test_a_disc_and_a_ring_are_circles(m, inner):
    domain = Domain("donut", 1.5, inner) if inner else Domain("ball", 1.5)
    for seed in range(4):
        rows, bias = biased(seed, m, 2)
        circles = min(over_arcs(rows, bias, radius) for radius in np.linspace(max(inner, 1e-6), 1.5, 400))
        count, x = fewest_active(rows, bias, domain)
        assert count == circles
        check_is_there(rows, bias, domain, count, x)


@pytest.mark.parametrize("kind", DOMAINS)
@pytest.mark.parametrize(("m", "n"), [(6, 1), (9, 3), (20, 3), (10, 4), (14, 5)])
def test_no_sample_is_below_and_few_rows_are_met(kind, m, n):
    rng, domain = np.random.default_rng(m), DOMAINS[kind]
    points = domain.points(rng.standard_normal((50_000, n)), rng.random(50_000))
    for seed in range(3):
        rows, bias = biased(seed, m, n)
        sampled = (points @ rows.T > bias).sum(axis=1).min()
        count, x = fewest_active(rows, bias, domain)
        assert count == sampled if m < 10 else count <= sampled
        check_is_there(rows, bias, domain, count, x)


@pytest.mark.parametrize("n", [3, 4])
def test_a_donut_is_spheres(n):
    for seed in range(6):
        rows, bias = biased(seed, 9, n)
        spheres = [fewest_active(rows, bias, Domain("sphere", radius))[0] for radius in np.linspace(0.9, 1.5, 40)]
        assert fewest_active(rows, bias, DOMAINS["donut"])[0] == min(spheres)


@pytest.mark.parametrize(("m", "n"), [(3, 1), (4, 3), (25, 3), (16, 4), (13, 5), (11, 6)])
def test_without_a_bias_it_is_the_halfspace_depth(m, n):
    for seed in range(3):
        rows = unit(seed, m, n)
        for kind in DOMAINS:
            expected = min_active(rows[None], orthant=kind == "nonnegative")[0]
            assert fewest_active(rows, 0.0, DOMAINS[kind])[0] == expected


def polytopes():
    golden = (1 + math.sqrt(5)) / 2
    cyclic = [np.roll([0, a, b * golden], k) for k in range(3) for a in (1, -1) for b in (1, -1)]
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / math.sqrt(3)
    return tetrahedron, np.array(cyclic) / math.sqrt(1 + golden**2)


@pytest.mark.parametrize("kind", ["sphere", "donut", "ball"])
def test_polytopes_are_rectifying_up_to_their_bias(kind):
    """Where the known maximal constant bias is passed, the count falls below n, though ties are everywhere."""
    domain = {"sphere": Domain("sphere"), "donut": Domain("donut", 1.0, 0.5), "ball": Domain("ball")}[kind]
    tetrahedron, icosahedron = polytopes()
    most = domain.scaled(np.array([1 / math.sqrt(5)]))[0]
    for rows, bias in ((tetrahedron, -1 / math.sqrt(3)), (icosahedron, most)):
        assert fewest_active(rows, bias - 1e-3, domain)[0] >= 3
        assert decided(rows, bias - 1e-3, domain) is None
        assert fewest_active(rows, bias, domain)[0] >= 3
        below = decided(rows, bias + 1e-3, domain)
        assert below is not None
        assert (rows @ below > bias + 1e-3).sum() < 3


def test_rows_outside_general_position():
    B = np.linalg.qr(unit(0, 4, 4))[0]
    for kind in ("sphere", "ball", "donut"):
        assert fewest_active(np.vstack([B, -B]), 0.0, DOMAINS[kind])[0] == 4
    assert fewest_active(B, 0.0, DOMAINS["ball"])[0] == 0
    assert fewest_active(np.eye(4), 0.0, DOMAINS["nonnegative"])[0] == 4
    rng = np.random.default_rng(1)
    for _ in range(10):
        W = rng.integers(-1, 2, (9, 3)).astype(float)
        W = W[W.any(axis=1)]
        rows = W / np.linalg.norm(W, axis=1, keepdims=True)
        for kind in DOMAINS:
            expected = examine(W[None], orthant=kind == "nonnegative")[0]
            assert fewest_active(rows, 0.0, DOMAINS[kind])[0] == expected


@pytest.mark.parametrize("kind", DOMAINS)
def test_limits_and_scales(kind):
    rows, bias = biased(5, 12, 3)
    domain = DOMAINS[kind]
    assert fewest_active(rows, -np.inf, domain)[0] == 12
    assert fewest_active(rows, -1.5001, domain)[0] == 12
    assert fewest_active(rows, np.inf, domain)[0] == 0
    assert fewest_active(rows, domain.largest, domain)[0] == 0
    assert fewest_active(np.array([[1.0], [-1.0], [1.0]]), domain.largest, domain)[0] == 0
    count, x = fewest_active(rows, bias, domain)
    large, y = fewest_active(rows, 1e4 * bias, Domain(domain.kind, 1e4 * domain.radius, 1e4 * domain.inner))
    assert large == count
    np.testing.assert_allclose(y, 1e4 * x, rtol=1e-6)
    assert fewest_active(rows[::-1], bias[::-1], domain)[0] == count
    assert fewest_active(rows, bias - 0.2, domain)[0] >= count


@pytest.mark.parametrize("kind", DOMAINS)
def test_decided_agrees_with_the_count(kind):
    seen = set()
    for seed in range(20):
        rows = unit(seed, 14, 3)
        bias = np.random.default_rng(seed).uniform(-0.9, 0.5, 14)
        x = decided(rows, bias, DOMAINS[kind])
        seen.add(x is None)
        assert (x is None) == (fewest_active(rows, bias, DOMAINS[kind])[0] >= 3)
        if x is not None:
            check_is_there(rows, bias, DOMAINS[kind], (rows @ x > bias).sum(), x)
            assert (rows @ x > bias).sum() < 3
    assert seen == {True, False}


def test_data_are_looked_at_one_by_one():
    rows, bias = biased(0, 8, 3)
    data = np.random.default_rng(0).standard_normal((50, 3))
    count, x = fewest_active(rows, bias, Domain("data", data=data))
    assert count == (data @ rows.T > bias).sum(axis=1).min() == (rows @ x > bias).sum()
    assert (x == data).all(axis=1).any()
    assert (decided(rows, bias, Domain("data", data=data)) is None) == (count >= 3)


def test_how_many_flats_and_how_long():
    assert candidates(4, 3, "sphere") == candidates(4, 3, "ball") == 1 + 4 + 6
    assert candidates(4, 3, "nonnegative") == 1 + 7 + 21
    assert seconds(40, 5, "ball") < 1 < seconds(60, 6, "ball") < 100
    assert seconds(2000, 300, "ball") > 1e100
