from fractions import Fraction

import numpy as np
import pytest

from sweeps.networks.cantornet import network
from sweeps.networks.folds import fold
from sweeps.statistic import Networks, Points
from sweeps.statistics import cantornet as statistic
from sweeps.statistics.cantornet import CantorNetParameters
from sweeps.theory import cantornet as theory

FORMS = ["recursive", "three", "four"]
SEGMENT = [0, 0.75], [1, 0.75]


def height(times, x):
    """A applied `times` times, elementwise: of floats, or of Fractions in an object array."""
    for _ in range(times):
        x = np.maximum(np.maximum(1 - 3 * x, 3 * x - 2), 0)
    return x


def patterns(of, points):
    """Activation patterns (points, neurons)."""
    bits, H = [], points
    for W, b in zip(*of, strict=True):
        bits.append(H @ W.T + b > 0)
        H = np.maximum(H @ W.T + b, 0)
    return np.concatenate(bits, axis=1)


def chi_of(path):
    r1, r2 = (path != path[0]).sum(1).max(), (path[1:] != path[:-1]).sum()
    return float(1 - r1 / r2) if r2 else 0.0


def fractions(array):
    return np.vectorize(Fraction, otypes=[object])(array)


def outputs(times, form, points):
    """The last neuron's pre-activation, in exact arithmetic."""
    H = points
    for W, b in zip(*network(times, form), strict=True):
        Z = H @ fractions(W).T + fractions(b)
        H = np.maximum(Z, Fraction(0))
    return Z[:, 0]


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_all_forms_decide_the_same_set(times):
    rng = np.random.default_rng(times)
    thirds = [Fraction(i, 3**times) for i in range(3**times + 1)]
    grid = [(x, y) for x in thirds for y in (Fraction(1, 2), Fraction(3, 4), Fraction(1))]
    random = [(Fraction(int(a), 10**6), Fraction(int(b), 10**6)) for a, b in rng.integers(0, 10**6, (60, 2))]
    points = np.array([*grid[:: 1 + len(grid) // 80], *random], dtype=object)
    above = points[:, 1] - (height(times, points[:, 0]) + 1) * Fraction(1, 2)
    assert {bool(z > 0) for z in above} == {True, False}
    assert (above == 0).any()
    np.testing.assert_array_equal(outputs(times, "recursive", points), above)
    for form in ("three", "four"):
        np.testing.assert_array_equal(outputs(times, form, points), above)


def test_forms_decide_the_same_set_at_every_size():
    points = np.random.default_rng(0).random((500, 2))
    for times in range(1, statistic.MOST + 1):
        outside = points[:, 1] > (height(times, points[:, 0]) + 1) / 2
        for form in FORMS:
            np.testing.assert_array_equal(patterns(network(times, form), points)[:, -1], outside)


def test_sizes():
    assert [sum(map(len, network(k, "recursive").biases)) for k in (1, 2, 8)] == [6, 11, 41]
    assert [len(network(1, form).biases[0]) for form in ("three", "four")] == [5, 6]
    for form in ("three", "four"):
        sizes = [sum(map(len, network(k, form).biases)) for k in (6, 7, 8)]
        assert 1.9 < sizes[1] / sizes[0] < sizes[2] / sizes[1] < 2


@pytest.mark.parametrize("times", range(1, statistic.MOST + 1))
def test_the_published_segment_has_the_published_folding(times):
    found = fold(*network(times, "recursive"), *SEGMENT)
    assert (found.r1, found.r2) == (2 * times + 1, 5 * 2**times - 4)
    assert found.breakpoints == theory.published(times)["breakpoints"]


def test_eleven_samples_misread_five_folds():
    assert theory.sampled(5, 11) == pytest.approx(0.825, abs=1e-3)
    assert theory.published(5)["chi"] == pytest.approx(0.929, abs=1e-3)
    assert theory.sampled(5, 10_001) == theory.published(5)["chi"]


def slow_sampled(times, samples):
    rows = []
    for i in range(samples):
        a, row = Fraction(i, samples - 1), []
        for _ in range(times):
            row += [3 * a - 2 > 0, 1 - 3 * a > 0]
            a = max(1 - 3 * a, 3 * a - 2, Fraction(0))
            row += [a > 0]
        rows.append([*row, Fraction(3, 4) - a / 2 - Fraction(1, 2) > 0])
    return chi_of(np.array(rows))


def networks(draws, **values):
    points = Points(CantorNetParameters(**values).model_dump(), {}, draws)
    return Networks(points, np.full(draws, 3, np.uint64), np.arange(draws, dtype=np.uint64))


def at(draws=1, **values):
    return statistic.STATISTIC.sample(networks(draws, **values), "cpu")


@pytest.mark.parametrize("samples", [2, 7, 10, 11, 28, 55, 101, 487])  # with zeros at samples: thirds and their halves
@pytest.mark.parametrize("times", [1, 3, 8])
def test_samples_are_exact_at_zeros_too(times, samples):
    expected = theory.sampled(times, samples)
    assert slow_sampled(times, samples) == expected
    assert at(times=times, samples=samples)["chi_sampled"] == expected


@pytest.mark.parametrize("form", FORMS)
def test_many_samples_find_the_folding_of_a_random_segment(form):
    found = at(draws=8, times=2, form=form, segment="random", samples=10_001)
    close = np.abs(found["chi_sampled"] - found["chi"]) < 1e-12
    assert close.mean() > 0.7  # the others have two breakpoints between two samples
    np.testing.assert_array_equal(found["folded"], found["chi"] > 0)
    assert (found["regions"] <= found["breakpoints"] + 1).all()
    assert len(np.unique(found["r2"])) > 1


def test_regions_against_patterns_at_many_points():
    found = at(draws=6, times=2, segment="random", samples=2)
    ends = networks(6, times=2).words(0, 2, 2) / 2.0**32
    t = np.linspace(0, 1, 20_001)[:, None]
    for (x, y), regions in zip(ends, found["regions"], strict=True):
        met = patterns(network(2, "recursive"), (1 - t) * x + t * y)
        assert len(np.unique(met, axis=0)) == regions


def test_what_is_too_large_is_refused():
    with pytest.raises(ValueError, match="less than or equal to 8"):
        CantorNetParameters(times=9)
