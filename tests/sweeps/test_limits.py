"""Thresholds, curves and counts in the limit of many inputs, against quoted values and exact counts."""

import math
import subprocess
import sys

import numpy as np
import pytest

from sweeps.theory import injectivity, limits
from sweeps.theory.counting import cells_exponent, cells_limit, euler_exponent, euler_limit, half_point
from sweeps.theory.limits import FULL_POINTS, limit_curve, thresholds


@pytest.fixture(autouse=True, scope="module")
def nothing_kept_before(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_the_table():
    table = {threshold.name: threshold for threshold in thresholds()}
    expected = {
        "never below": 3.4028,
        "full RSB": 6.6980,
        "3-step RSB": 6.698688,
        "2-step RSB": 6.700392,
        "1-step RSB": 6.715697,
        "partially lifted RDT": 7.448639,
        "RS, plain RDT": 7.647695,
        "Euler characteristic": 8.34,
        "first moment over cells": 9.0886,
    }
    assert {name: threshold.value for name, threshold in table.items()} == pytest.approx(expected, abs=5e-3)
    for name, value in expected.items():
        digits = len(str(value).partition(".")[2])
        assert table[name].value == pytest.approx(
            value, abs=0.51 * 10**-digits if name != "Euler characteristic" else 5e-3
        )
    assert [threshold.name for threshold in thresholds()] == list(expected)  # by value
    lower = max(t.value for t in table.values() if (t.kind, t.bound) == ("rigorous", "lower"))
    upper = min(t.value for t in table.values() if (t.kind, t.bound) == ("rigorous", "upper"))
    assert all(lower < t.value < upper for t in table.values() if t.kind == "replica")
    assert table["Euler characteristic"].value > upper  # refuted


def test_the_lines_of_figures_are_what_the_solvers_find():
    low, full, plain = (reference.value for reference in injectivity.THRESHOLDS)
    assert low == pytest.approx(limits.never_below(), abs=5e-5)
    assert full == limits.FULL_THRESHOLD
    assert plain == pytest.approx(limits.perceptron.threshold(0), abs=1e-12)


def test_never_below_by_the_direction_it_is_named_after():
    """x = -W^T 1 has alpha P(z > 1/sqrt(alpha)) n active neurons, up to fluctuations."""
    n, alpha = 1500, 3.0
    W = np.random.default_rng(0).standard_normal((round(alpha * n), n))
    active = np.mean(W @ -W.sum(axis=0) > 0)
    expected = math.erfc(1 / math.sqrt(2 * alpha)) / 2
    assert abs(active - expected) < 4 * math.sqrt(expected / len(W))


def test_extrapolated_steps_meet_full_symmetry_breaking():
    alphas = np.array([5.0, 10.0])
    quoted = np.array([FULL_POINTS[alpha] for alpha in alphas])
    found = limit_curve(alphas, "extrapolated")
    assert found == pytest.approx(quoted, abs=1e-4)
    assert limit_curve(alphas, "full") == pytest.approx(quoted, abs=1e-12)
    steps = [limit_curve(alphas, method) for method in ("rs", "1rsb", "2rsb", "3rsb")]
    assert np.all(np.diff([*steps, found], axis=0) > 0)  # from below


def test_full_between_its_points():
    between = np.array([9.0])
    assert limit_curve(between, "full") == pytest.approx(limit_curve(between, "extrapolated"), abs=5e-4)
    fine = np.linspace(3, 10, 701)
    full = limit_curve(fine, "full")
    assert np.all(np.diff(full) > 0)
    assert np.all(full > limit_curve(fine, "rs"))
    assert full[np.searchsorted(fine, limits.FULL_THRESHOLD)] == pytest.approx(1, abs=1e-3)


def test_curves_where_there_is_none():
    rs = limit_curve([[0.0, 1.0, 2.0], [3.0, np.nan, np.inf]], "rs")
    assert np.array_equal(rs, [[0, 0, 0], [limit_curve(3, "rs"), np.nan, np.nan]], equal_nan=True)
    assert np.array_equal(np.isnan(limit_curve([2.9, 3, 10, 10.1], "full")), [True, False, False, True])
    assert np.array_equal(np.isnan(limit_curve([-1.0, 2.0, 3.0, 101.0], "1rsb")), [True, False, False, True])
    assert limit_curve([], "1rsb").shape == (0,)
    with pytest.raises(ValueError, match="method must be one of rs, 1rsb"):
        limit_curve(3.0, "6rsb")


def test_limits_of_counting():
    assert cells_limit() == pytest.approx(9.0886, abs=5e-5)
    assert euler_limit() == pytest.approx(8.34, abs=5e-3)
    assert cells_exponent(cells_limit()) == pytest.approx(0, abs=1e-13)
    with pytest.raises(ValueError, match="no exponent"):
        euler_exponent(6.8)


@pytest.mark.parametrize("alpha", [7.5, 8.5])
def test_exponents_are_those_of_the_exact_counts(alpha):
    """Per input, with corrections log(n)/n and 1/n removed by three sizes."""
    sizes = np.array([60, 120, 240])
    design = np.stack([np.ones(3), np.log(sizes) / sizes, 1 / sizes], axis=1)
    for count, exponent in [
        (injectivity.expected_cells, cells_exponent),
        (injectivity.euler_characteristic, euler_exponent),
    ]:
        found = [math.log(count(round(alpha * n), n, n)) / n for n in sizes.tolist()]
        assert np.linalg.solve(design, found)[0] == pytest.approx(exponent(alpha), abs=1e-3)


def slow_euler_characteristic(m, n, k):
    """Alternating sum over the faces of every dimension."""
    faces = [2 * math.comb(m, n - 1 - j) * sum(math.comb(m - n + j, i) for i in range(j + 1)) for j in range(n)]
    return sum((-1) ** j * faces[j] * injectivity.binomial_cdf(m - n + 1 + j, k - 1) for j in range(n))


@pytest.mark.parametrize(("m", "n", "k"), [(13, 3, 3), (25, 4, 4), (5, 1, 1), (9, 2, 4), (30, 6, 2), (20, 3, 21)])
def test_euler_characteristic_by_faces(m, n, k):
    assert injectivity.euler_characteristic(m, n, k) == pytest.approx(slow_euler_characteristic(m, n, k), abs=1e-9)


def test_half_points():
    assert [half_point(1, method) for method in ("cells", "euler")] == [2, 2]  # exact: P = 1 - 2^(1-m)
    measured = {2: 3.636, 3: 4.396, 4: 4.837, 5: 5.152, 6: 5.345}
    for n, value in measured.items():
        assert value < half_point(n, "euler") < half_point(n, "cells")
        m = math.ceil(n * half_point(n, "cells"))
        assert injectivity.expected_cells(m, n, n) <= 0.5 < injectivity.expected_cells(m - 1, n, n)
    # by hand: 21/32 at m = 7, 7/16 at m = 8
    assert half_point(2, "euler") == pytest.approx((7 + math.log(21 / 16) / math.log(3 / 2)) / 2)
    for method, limit in [("cells", cells_limit()), ("euler", euler_limit())]:
        points = [half_point(n, method) for n in (5, 10, 20, 40)]
        assert np.all(np.diff([*points, limit]) > 0)


@pytest.mark.parametrize("arguments", [(0, "cells"), (3, "vertices")])
def test_half_point_refuses(arguments):
    with pytest.raises(ValueError, match=r"at least one input|must be one of cells, euler"):
        half_point(*arguments)


def test_the_statistic_does_not_wait_for_the_solvers():
    ask = "import sys; from sweeps import statistics; statistics.get('injectivity')"
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            ask + "; print([m for m in sys.modules if m in ('sweeps.theory.perceptron', 'sweeps.theory.limits')])",
        ],
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "[]", ran.stderr
