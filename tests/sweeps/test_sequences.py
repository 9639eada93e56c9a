"""Confidence sequences against slow answers, and their promise: at all numbers of draws at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from scipy import integrate, optimize

from sweeps.intervals import interval, wilson
from sweeps.moments import Moments
from sweeps.sequences import beta_binomial, critical, prior


def log_mixture(p: float, ones: int, zeros: int, r: float) -> float:
    """log M_n(p) as a gambler's wealth: each draw multiplies it by the chance that an urn of r p ones and r q zeros
    gave it, over its chance under p; the urn then gains one like it."""
    wealth, urn = 0.0, [r * p, r * (1 - p)]
    for draw, chance in [(0, p)] * ones + [(1, 1 - p)] * zeros:
        wealth += math.log(urn[draw] / sum(urn) / chance)
        urn[draw] += 1
    return wealth


def end(ones: int, zeros: int, confidence: float, about: int) -> tuple[float, float]:
    low, high = beta_binomial(np.array(ones / (ones + zeros)), np.array(ones + zeros), confidence, about)
    return float(low), float(high)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("about", [1, 30, 10_000])
@pytest.mark.parametrize(("ones", "zeros"), [(2, 2), (2, 30), (30, 2), (7, 33), (0, 40), (5, 0), (150, 51), (3, 400)])
def test_ends_are_where_the_wealth_is_one_over_alpha(ones: int, zeros: int, about: int, confidence: float) -> None:
    low, high = end(ones, zeros, confidence, about)
    r, bound = prior(confidence, about), -math.log(1 - confidence)
    assert low == 0 or log_mixture(low, ones, zeros, r) == pytest.approx(bound, rel=1e-8)
    assert high == 1 or log_mixture(high, ones, zeros, r) == pytest.approx(bound, rel=1e-8)
    assert (low == 0, high == 1) == (ones < 2, zeros < 2)
    for p in np.linspace(0.001, 0.999, 49).tolist():
        assert (log_mixture(p, ones, zeros, r) < bound) == (low < p < high), p


def exact_ends(ones: int, n: int, confidence: float, about: int) -> tuple[float, float]:
    """By bisection with 60 digits."""
    with mpmath.workdps(60):
        r, gamma = mpmath.mpf(prior(confidence, about)), mpmath.loggamma

        def excess(p: mpmath.mpf) -> mpmath.mpf:
            a, b = r * p, r * (1 - p)
            log = gamma(a + ones) - gamma(a) + gamma(b + n - ones) - gamma(b) - gamma(r + n) + gamma(r)
            return log - ones * mpmath.log(p) - (n - ones) * mpmath.log(1 - p) + mpmath.log(1 - mpmath.mpf(confidence))

        tiny = mpmath.mpf(10) ** -30
        found = []
        for inside, outside in ((mpmath.mpf(ones) / n, tiny), (mpmath.mpf(ones) / n + (ones == 0) * tiny, 1 - tiny)):
            for _ in range(140):
                middle = (inside + outside) / 2
                inside, outside = (inside, middle) if excess(middle) > 0 else (middle, outside)
            found.append(float(inside))
        return (0.0 if ones < 2 else found[0]), found[1]


@pytest.mark.parametrize(("n", "about"), [(2**20, 256), (2**20, 2**20), (2**40, 4096), (2**40, 2**40)])
@pytest.mark.parametrize("share", [0, 2, 1e-3, 0.5])
def test_no_digits_are_lost_at_many_draws(share: float, n: int, about: int) -> None:
    ones = int(share if share > 1 else share * n)
    low, high = end(ones, n - ones, 0.95, about)
    expected = exact_ends(ones, n, 0.95, about)
    width = expected[1] - expected[0]
    np.testing.assert_allclose([low, high], expected, rtol=0, atol=1e-6 * width)


def test_of_half_of_many_draws_it_is_the_gaussian_mixture() -> None:
    low, high = end(2**39, 2**39, 0.95, 2**38)
    assert (high - low) / 2 == pytest.approx(float(critical(np.array(2.0**40), 0.95, 2**38)) * 0.5 / 2**20, rel=1e-6)


def test_ones_and_zeros_mirror_each_other() -> None:
    ones = np.arange(101.0)
    low, high = beta_binomial(ones / 100, np.full(101, 100.0), 0.95, 64)
    np.testing.assert_allclose(low, 1 - high[::-1], atol=1e-15)
    assert (np.diff(low[1:]) > 0).all()
    assert ((low <= ones / 100) & (ones / 100 <= high)).all()


def test_no_draw_no_interval() -> None:
    low, high = beta_binomial(np.array([np.nan, 0.5]), np.array([0.0, 2.0]), 0.95, 64)
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == (0, 1)
    assert np.isnan(critical(np.array([0.0]), 0.95, 64)).all()


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 50, 10_000])
def test_critical_is_where_the_gaussian_mixture_is_one_over_alpha(n: int, confidence: float) -> None:
    r, total = prior(confidence, 200), float(critical(np.array(n), confidence, 200)) * n**0.5
    middle, spread = total / (n + r), (n + r) ** -0.5  # of the posterior of a drift with the prior N(0, 1/r)

    def weight(drift: float) -> float:
        return np.exp(drift * total - drift * drift * (n + r) / 2) * np.sqrt(r / (2 * np.pi))

    mixed, _ = integrate.quad(weight, middle - 12 * spread, middle + 12 * spread, epsabs=0, epsrel=1e-10)
    assert mixed == pytest.approx(1 / (1 - confidence), rel=1e-8)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_prior_makes_it_tightest_where_asked(confidence: float) -> None:
    def squared(r: float) -> float:
        return (1000 + r) / 1000 * (np.log((1000 + r) / r) - 2 * np.log(1 - confidence))

    best = optimize.minimize_scalar(squared, bounds=(1, 5000), method="bounded", options={"xatol": 1e-6})
    assert prior(confidence, 1000) == pytest.approx(best.x, rel=1e-4)
    assert float(critical(np.array(1000), confidence, 1000)) == pytest.approx(best.fun**0.5, rel=1e-9)


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape)


def rare(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return (rng.random(shape) < 0.02).astype(float)


@pytest.mark.parametrize(
    ("draw", "kind", "mean", "first"),
    [(normal, "real", 0.0, 64), (rare, "proportion", 0.02, 1)],
    ids=["normal", "rare"],
)
def test_holds_at_all_numbers_of_draws_at_once_where_others_do_not(
    draw: Callable, kind: str, mean: float, first: int
) -> None:
    paths, draws = 2000, 3000
    x = draw(np.random.default_rng(11), (draws, paths))
    total, squares = np.cumsum(x, axis=0), np.cumsum(x * x, axis=0)
    missed = {0: np.zeros(paths, bool), 256: np.zeros(paths, bool)}  # by `anytime`
    for n in np.unique(np.geomspace(first, draws, 400).astype(int)):
        pairs, path = np.unique(np.stack([total[n - 1], squares[n - 1]]), axis=1, return_inverse=True)
        flat, share = np.zeros(pairs.shape[1]), pairs[0] / n
        m = Moments(flat + n, flat, share, pairs[1] - n * share**2, flat, flat)
        for anytime, ever in missed.items():
            low, high = interval(m, kind, 0.95, anytime)
            ever |= ((low > mean) | (high < mean))[path]
    assert 0.005 < missed[256].mean() < 0.05 + 4 * (0.05 * 0.95 / paths) ** 0.5
    assert missed[0].mean() > 0.2


def test_anytime_is_wider_than_fixed_and_by_how_much() -> None:
    mean, n = np.full(3, 0.3), np.array([256.0, 4096.0, 2.0**16])
    low, high = beta_binomial(mean, n, 0.95, 4096)
    plain = wilson(mean, n, 0.95)
    ratio = (high - low) / (plain[1] - plain[0])
    np.testing.assert_allclose(ratio, critical(n, 0.95, 4096) / 1.959964, rtol=0.03)
    assert (ratio > 1.5).all()
    assert ratio.argmin() == 1


def test_neighbours_and_memory_layout_change_no_bit() -> None:
    rng = np.random.default_rng(2)
    n = rng.integers(1, 10_000, 300).astype(float)
    mean = rng.binomial(n.astype(int), rng.random(300) ** 3) / n
    m = Moments.unstack(np.stack([n, 0 * n, mean, n * mean, 0 * n, 0 * n + 1], axis=-1))  # strided, as a store gives it
    for kind in ("proportion", "real"):
        together = np.stack(interval(m, kind, 0.95, 512))
        for i in range(300):
            one = Moments(*(np.array([x[i]]) for x in (m.n, m.undefined, m.mean, m.m2, m.min, m.max)))
            assert np.stack(interval(one, kind, 0.95, 512))[:, 0].tobytes() == together[:, i].tobytes()
