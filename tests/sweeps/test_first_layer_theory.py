import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from sweeps.theory import first_layer
from sweeps.theory.first_layer import Labels, correlation, energies, fit, slope, whitening

EIGENVALUES = np.array([7.4789, 0.8009, 0.4549, 0.2560, 0.1409, 0.1010, 0.0530, 0.0458, 0.0238])
N, D, K = 30, 6, 3
RATE, STEPS, SIGMA = 0.02, 40, 0.3


def centred(x):
    return x - x.mean(0)


def rotation(rng, d=D):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


@pytest.fixture(scope="module")
def averages():
    rng = np.random.default_rng(3)
    return centred(rng.standard_normal((N, D)) * [3, 2, 1, 0.6, 0.3, 0.1] @ rotation(rng))


def bases(averages):
    """The network's own eigenvectors, and others."""
    return np.linalg.eigh(averages.T @ averages)[1], rotation(np.random.default_rng(9))


def agrees(sample, expected):
    return np.all(np.abs(sample.mean(0) - expected) <= 4 * sample.std(0, ddof=1) / np.sqrt(len(sample)) + 1e-15)


def descended(start, A, b, rate, steps):
    """Filters (draws, K, D) by gradient descent, step by step; b (draws, D)."""
    filters = start.copy()
    for _ in range(steps):
        filters += 2 * rate * (b - filters.sum(1) @ A)[:, None]
    return filters


# -- the laws of the linear network


@pytest.mark.parametrize("largest", [1e-8, 0.2, 1.1, 1.6])
def test_law1_is_gradient_descent(averages, largest):
    """With h a up to `largest`."""
    rng = np.random.default_rng(0)
    A, start, b = averages.T @ averages / N, rng.standard_normal((K, D)), rng.standard_normal(D)
    rate = largest / (2 * K * np.linalg.eigvalsh(A)[-1])
    for steps in (0, 1, 2, 75):
        expected = descended(start[None], A, b[None], rate, steps)[0]
        np.testing.assert_allclose(first_layer.law1(start, A, b, rate, steps), expected, rtol=1e-9, atol=1e-11)


def test_law1_is_linear_in_time_where_the_images_do_not_vary():
    A, b, start = np.diag([1.0, 0, 1e-30]), np.array([0.5, 2, 3]), np.zeros((2, 3))
    found = first_layer.law1(start, A, b, 0.01, 1000)
    np.testing.assert_allclose(found[:, 1:], [[2 * 0.01 * 1000 * 2, 2 * 0.01 * 1000 * 3]] * 2, rtol=1e-12)


def b_of(averages, labels):
    return labels @ averages / N


def permuted_labels(rng, draws):
    values = np.arange(N, dtype=float) ** 1.5
    return rng.permuted(np.tile(values, (draws, 1)), axis=1), lambda p: first_layer.permuted(p, values)


def noisy_labels(rng, draws, q=0.3):
    values, classes = np.arange(N) % 5 + 2.0, np.array([-1.0, 0.5, 4.0])
    labels = np.where(rng.random((draws, N)) < q, classes[rng.integers(0, 3, (draws, N))], values)
    return labels, lambda p: first_layer.noisy(p, values, q, classes.mean(), classes.var())


def planted_labels(rng, draws, averages):
    beta = np.array([1.0, -2, 0.5, 0, 3, 1])
    noise = 0.7 * rng.standard_normal((draws, N))
    return 0.4 * averages @ beta + noise, lambda p: first_layer.planted(p, beta, 0.4, 0.49)


def drawn(kind, rng, draws, averages):
    """Labels (draws, N) and their law."""
    if kind == "planted":
        labels, law = planted_labels(rng, draws, averages)
    else:
        labels, law = {"permuted": permuted_labels, "noisy": noisy_labels}[kind](rng, draws)
    return labels, law(averages)


KINDS = ["permuted", "noisy", "planted"]


@pytest.mark.parametrize("kind", KINDS)
def test_b_has_the_mean_and_covariance_of_its_law(averages, kind):
    labels, law = drawn(kind, np.random.default_rng(4), 40_000, averages)
    b = b_of(averages, labels)
    assert agrees(b, law.mean)
    off = b - law.mean
    assert agrees(off[:, :, None] * off[:, None], law.covariance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("basis", [0, 1], ids=["own", "other"])
def test_energies_are_those_of_trained_networks(averages, kind, basis):
    rng, draws, u = np.random.default_rng(6), 20_000, bases(averages)[basis]
    labels, law = drawn(kind, rng, draws, averages)
    start = SIGMA * rng.standard_normal((draws, K, D))
    filters = descended(start, averages.T @ averages / N, b_of(averages, labels), RATE, STEPS)
    found = energies(averages, u, law, K, SIGMA**2, RATE, STEPS)
    assert agrees((((filters - start) @ u) ** 2).mean(1), found.squared)
    assert agrees(((filters @ u) ** 2).mean(1), found.raw_squared)


@pytest.mark.parametrize("basis", [0, 1], ids=["own", "other"])
def test_the_mean_energy_is_that_of_gaussian_labels(averages, basis):
    rng, draws, u = np.random.default_rng(8), 20_000, bases(averages)[basis]
    labels, law = drawn("planted", rng, draws, averages)  # with Gaussian noise
    start = SIGMA * rng.standard_normal((draws, K, D))
    filters = descended(start, averages.T @ averages / N, b_of(averages, labels), RATE, STEPS)
    e = np.sqrt((((filters - start) @ u) ** 2).mean(1))
    assert agrees(e, energies(averages, u, law, K, SIGMA**2, RATE, STEPS).mean)


def test_energies_without_any_randomness(averages):
    A, b, u = averages.T @ averages / N, np.arange(D) - 2.0, bases(averages)[1]
    found = energies(averages, u, Labels(b, np.zeros((D, D))), K, 0.0, RATE, STEPS)
    expected = np.abs(first_layer.law1(np.zeros((K, D)), A, b, RATE, STEPS)[0] @ u)
    for e in (found.mean, np.sqrt(found.squared), np.sqrt(found.raw_squared)):
        np.testing.assert_allclose(e, expected, rtol=1e-10)


def test_energies_before_training(averages):
    found = energies(averages, np.eye(D), first_layer.permuted(averages, np.arange(N)), K, SIGMA**2, RATE, 0)
    np.testing.assert_array_equal(found.squared, 0)
    np.testing.assert_array_equal(found.mean, 0)
    np.testing.assert_allclose(found.raw_squared, SIGMA**2, rtol=1e-12)


def test_energies_turn_with_the_images(averages):
    turn, law = rotation(np.random.default_rng(2)), first_layer.permuted(averages, np.arange(N))
    turned = first_layer.permuted(averages @ turn, np.arange(N))
    one = energies(averages, np.eye(D), law, K, SIGMA**2, RATE, STEPS)
    other = energies(averages @ turn, turn.T, turned, K, SIGMA**2, RATE, STEPS)
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_energies_of_diverging_networks_are_huge_or_nan(averages):
    law = first_layer.permuted(averages, np.arange(N))
    huge = energies(averages, np.eye(D), law, K, SIGMA**2, 10 * RATE, 20)
    assert huge.squared.max() > 1e9
    assert np.isnan(energies(averages, np.eye(D), law, K, SIGMA**2, 10 * RATE, 100_000).squared).all()
    assert np.isnan(energies(averages, np.eye(D), law, K, SIGMA**2, 10 * RATE, 100_000).mean).all()


def test_only_rate_times_steps_counts_where_the_rate_is_small(averages):
    law = first_layer.permuted(averages, np.arange(N))
    found = [energies(averages, np.eye(D), law, K, SIGMA**2, 0.02 / c, 30 * c).squared for c in (10, 100, 1000)]
    errors = [np.abs(f / found[-1] - 1).max() for f in found[:2]]
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(11, rel=0.05)  # of first order: (1/10 - 1/1000)/(1/100 - 1/1000)


# -- patches that are independent within an image


def independent_patches(rng, images=4000, patches=25):
    """Average patches (images, d) and their covariance's eigenvalues over `patches`."""
    scale = np.sqrt(EIGENVALUES)
    p = np.zeros((images, len(scale)))
    for _ in range(patches):
        p += (rng.random((images, len(scale))) - 0.5) * np.sqrt(12) * scale / patches
    return p, EIGENVALUES / patches


def test_average_patches_have_the_patches_covariance_over_their_number():
    p, expected = independent_patches(np.random.default_rng(0))
    assert agrees(p**2, expected)


def test_random_labels_then_follow_the_formula():
    """With A exactly the patches' covariance over J = 25, factor and all: sqrt(J s_y^2/(N-1))/K."""
    p, a = independent_patches(np.random.default_rng(1))
    p = centred(p) @ np.linalg.inv(np.linalg.cholesky(np.cov(p.T, bias=True))).T * np.sqrt(a)
    values, eta, steps = np.arange(len(p)), 1e-4, 60_000
    found = energies(p, np.eye(len(a)), first_layer.permuted(p, values), K, 0.0, eta, steps)
    tau = 2 * eta * K * steps / 25
    expected = np.sqrt(25 * values.var() / (len(p) - 1)) / K * whitening(tau, EIGENVALUES)
    np.testing.assert_allclose(np.sqrt(found.squared), expected, rtol=1e-3)
    best = fit(np.sqrt(found.squared), EIGENVALUES)
    assert best.tau == pytest.approx(tau, rel=1e-3)
    assert best.correlation > 1 - 1e-6
    np.testing.assert_allclose(best.fitted, expected, rtol=2e-3)


def test_initial_filters_add_their_own_term_to_the_formula():
    p, a = independent_patches(np.random.default_rng(1))
    p = centred(p) @ np.linalg.inv(np.linalg.cholesky(np.cov(p.T, bias=True))).T * np.sqrt(a)
    still = Labels(np.zeros(len(a)), np.zeros((len(a), len(a))))
    found = energies(p, np.eye(len(a)), still, K, SIGMA**2, 1e-4, 60_000)
    expected = SIGMA**2 / K * EIGENVALUES * whitening(2e-4 * K * 60_000 / 25, EIGENVALUES) ** 2
    np.testing.assert_allclose(found.squared, expected, rtol=2e-3)


# -- the formula


def test_whitening_has_its_limits():
    early, late = whitening(np.array([1e-9, 1e9]), EIGENVALUES)
    np.testing.assert_allclose(early, 1e-9 * np.sqrt(EIGENVALUES), rtol=1e-8)
    np.testing.assert_allclose(late, 1 / np.sqrt(EIGENVALUES), rtol=1e-12)
    np.testing.assert_allclose(slope(np.stack([early, late]), EIGENVALUES), [1, -1], rtol=1e-7)
    np.testing.assert_array_equal(whitening(3.0, np.array([1.0, 0.0]))[1], 0)
    assert whitening(np.ones((2, 4)), EIGENVALUES).shape == (2, 4, 9)


def test_the_peak_is_where_the_formula_is_largest():
    assert np.exp(first_layer.PEAK) == pytest.approx(1 + 2 * first_layer.PEAK, rel=1e-14)
    found = minimize_scalar(lambda x: -whitening(3.0, np.array([x]))[0], (0.1, 0.4), tol=1e-10)
    assert first_layer.peak(3.0) == pytest.approx(found.x, rel=1e-6)


@pytest.mark.parametrize("tau", [0.05, 0.3, 4.0, 70.0])
def test_fit_finds_the_tau_of_a_profile(tau):
    found = fit(5 * whitening(tau, EIGENVALUES), EIGENVALUES)
    assert found.tau == pytest.approx(tau, rel=1e-5)
    assert found.correlation == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.fitted, 5 * whitening(tau, EIGENVALUES), rtol=1e-5)


def test_fit_is_the_best_of_all_tau_and_factors():
    profile = np.random.default_rng(0).random(9)
    found = fit(profile, EIGENVALUES)
    taus = np.geomspace(1e-5, 1e5, 501)
    start = taus[np.argmax([np.corrcoef(profile, whitening(t, EIGENVALUES))[0, 1] for t in taus])]
    near = (np.log(start) - 0.1, np.log(start) + 0.1)
    best = minimize_scalar(lambda x: -np.corrcoef(profile, whitening(np.exp(x), EIGENVALUES))[0, 1], near, tol=1e-12)
    assert found.correlation == pytest.approx(-best.fun, rel=1e-11)
    assert found.tau == pytest.approx(np.exp(best.x), rel=1e-5)
    shape = whitening(found.tau, EIGENVALUES)
    np.testing.assert_allclose(
        found.fitted, np.linalg.lstsq(shape[:, None], profile, rcond=None)[0] * shape, rtol=1e-12
    )


def test_a_profile_at_a_limit_gets_an_end_of_the_range():
    for limit, end in ((np.sqrt(EIGENVALUES), 1e-4 / 7.4789), (1 / np.sqrt(EIGENVALUES), 100 / 0.0238)):
        found = fit(limit, EIGENVALUES)
        assert found.correlation > 1 - 1e-8
        assert abs(np.log(found.tau / end)) < 2  # beyond, all tau are equally good
        np.testing.assert_allclose(found.fitted, limit, rtol=1e-3)


def test_profiles_are_fitted_one_by_one_and_to_scale():
    profiles = np.random.default_rng(0).random((4, 5, 9))
    together = fit(profiles, EIGENVALUES)
    assert together.tau.shape == together.correlation.shape == (4, 5)
    alone = fit(profiles[2, 3], EIGENVALUES)
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, many[2, 3])
    larger = fit(2.0**300 * profiles, EIGENVALUES)  # a power of two rounds nothing
    np.testing.assert_array_equal(larger.tau, together.tau)
    np.testing.assert_array_equal(larger.correlation, together.correlation)
    np.testing.assert_array_equal(larger.fitted, 2.0**300 * together.fitted)


def test_fit_sees_the_components_in_any_order():
    rng = np.random.default_rng(0)
    profile, order = rng.random(9), rng.permutation(9)
    one, other = fit(profile, EIGENVALUES), fit(profile[order], EIGENVALUES[order])
    assert one.tau == pytest.approx(other.tau, rel=1e-5)
    np.testing.assert_allclose(one.fitted[order], other.fitted, rtol=1e-5)


def test_components_that_do_not_vary_are_no_obstacle():
    eigenvalues = np.append(EIGENVALUES, [1e-17, 0.0])
    found = fit(whitening(2.0, eigenvalues), eigenvalues)
    assert found.tau == pytest.approx(2, rel=1e-5)
    assert slope(np.append(np.sqrt(EIGENVALUES), [5.0, 7.0]), eigenvalues) == pytest.approx(1, rel=1e-12)


def test_profiles_that_say_nothing_are_nan():
    rows = np.random.default_rng(0).random((5, 9))
    rows[1, 2], rows[2], rows[3, 0], rows[4] = np.nan, 0.1, np.inf, 0
    found = fit(rows, EIGENVALUES)
    for values in (found.tau, found.correlation, found.fitted[:, 0], correlation(rows, rows[0])):
        assert np.isfinite(values).tolist() == [True, False, False, False, False]
    assert all(np.isnan(values).all() for values in fit(rows[0], np.zeros(9)))
    assert np.isfinite(slope(rows, EIGENVALUES)).tolist() == [True, False, True, False, False]
    assert np.isnan(slope(rows[0], np.full(9, 0.3)))
    assert np.isnan(slope(np.eye(9)[0], EIGENVALUES))


def test_correlation_is_pearsons():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 9)), rng.random(9)
    np.testing.assert_allclose(correlation(a, b), [np.corrcoef(row, b)[0, 1] for row in a], rtol=1e-12)
    np.testing.assert_allclose(correlation(1e200 * a + 1e200, -1e-200 * b), -correlation(a, b), rtol=1e-12)
    np.testing.assert_array_equal(correlation(a, a) <= 1, True)


def test_slope_is_least_squares():
    profile = np.random.default_rng(0).random(9)
    profile[4] = 0  # left out
    kept = profile > 0
    expected = np.polyfit(np.log(EIGENVALUES[kept]) / 2, np.log(profile[kept]), 1)[0]
    assert slope(profile, EIGENVALUES) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("m", [1, 2, 9, 100])
def test_fluctuation_is_that_of_m_directions(m):
    rows = np.sqrt(np.random.default_rng(m).chisquare(m, (100, 20_000)) / m)
    sample = rows.std(1) / rows.mean(1)
    assert agrees(sample, first_layer.fluctuation(m))


def test_fluctuation_of_one_direction_and_of_many():
    assert first_layer.fluctuation(1) == pytest.approx(np.sqrt(np.pi / 2 - 1), rel=1e-14)
    assert first_layer.fluctuation(10**6) == pytest.approx(np.sqrt(0.5e-6), rel=1e-4)


def test_one_label_direction_fluctuates_as_much_whatever_the_number_of_images():
    rng = np.random.default_rng(0)
    for images in (50, 200):
        p = centred(rng.standard_normal((images, 4)))
        e = np.abs(rng.standard_normal((40, 2000, images)) @ p)
        assert agrees(e.std(1) / e.mean(1), first_layer.fluctuation(1))
