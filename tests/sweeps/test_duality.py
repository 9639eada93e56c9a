"""Random duality theory against quoted values, slow optimisation, and what its parts must reduce to."""

from functools import partial

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize, minimize_scalar, root

from sweeps.theory import duality, perceptron
from sweeps.theory.calculus import gradient
from sweeps.theory.duality import chain_capacities, last_layer_capacity, row_growth, squared_width, squared_widths


@pytest.fixture(autouse=True, scope="module")
def nothing_kept_before(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize(("alpha", "quoted"), [(2.5, 0.9174), (4, 0.9493), (7.65, 0.9685), (20, 0.9822), (100, 0.9924)])
def test_squared_width(alpha, quoted):
    assert squared_width(alpha, 1.0) == pytest.approx(quoted, abs=5e-5)


def row_maximum(s, gamma, mu, g, h):
    """max over u of s h u_+ - mu u_+^2 - gamma (u-g)^2, the better of u > 0 and u <= 0."""
    positive = np.maximum((s * h + 2 * gamma * g) / (2 * (mu + gamma)), 0)
    kept = s * h * positive - mu * positive**2 - gamma * (positive - g) ** 2
    return np.maximum(kept, -gamma * np.maximum(g, 0) ** 2)


@pytest.mark.parametrize(("alpha", "omega"), [(2.5, 1.0), (7.65, 0.9), (1.6, 0.7)])
def test_squared_width_by_nested_optimisation(alpha, omega):
    """sqrt W = max over R of the dual, min over gamma and lambda, of max h.u_+/n over |u_+|^2 = R n."""
    angle = (np.arange(20_000) + 0.5) * 2 * np.pi / 20_000
    g, h = np.cos(angle), np.sin(angle)

    def dual(R):
        def goal(logs):
            gamma, lam = np.exp(logs)
            return 2 * alpha * row_maximum(1, gamma, lam, g, h).mean() + gamma * omega + lam * R

        return minimize(goal, [0, -1], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12}).fun

    best = minimize_scalar(lambda R: -dual(R) / np.sqrt(R), bounds=(0.02 * alpha, alpha), options={"xatol": 1e-4})
    assert best.fun**2 == pytest.approx(squared_width(alpha, omega), rel=1e-6)


def test_where_the_ball_does_not_bind():
    assert squared_width(1.2, 0.95) == 0.6
    assert squared_width(4 / 3 + 1e-6, 1.0) == pytest.approx(2 / 3, abs=1e-5)


def test_widths_grow_with_rows_and_with_what_comes_in_and_never_above_it():
    alphas, omegas = np.geomspace(1, 1e5, 21), np.linspace(0.05, 1, 9)
    W = np.array([[squared_width(alpha, omega) for omega in omegas] for alpha in alphas])
    assert np.all(np.diff(W, axis=0) > -1e-12)
    assert np.all(np.diff(W, axis=1) > -1e-12)
    assert np.all(omegas > W)
    assert W[-1] == pytest.approx(omegas, abs=3e-4)


def test_plain_chains():
    expected = [7.64769, 7.54067, 7.43733, 7.33749, 7.24099]
    assert chain_capacities(5) == pytest.approx(expected, abs=5e-6)
    assert chain_capacities(4, "global") == pytest.approx([7.64769, 11.46026, 11.36189, 11.26600], abs=5e-6)
    assert last_layer_capacity([6.698]) == pytest.approx(7.53077, abs=5e-6)
    assert last_layer_capacity([]) == pytest.approx(perceptron.threshold(0), abs=1e-13)
    widths = squared_widths([7.65, 4.0])
    assert widths == [1.0, squared_width(7.65, 1.0), squared_width(4.0, widths[1])]


def test_lifted_chain():
    """9 digits of the first, as quoted. At the fifth layer lifting does not help any more."""
    expected = [7.448638726, 7.41126, 7.36810, 7.31528]
    found = chain_capacities(4, lifted=True)
    assert found[0] == pytest.approx(expected[0], abs=1e-9)
    assert found == pytest.approx(expected, abs=5e-6)
    assert last_layer_capacity(found, lifted=True) == last_layer_capacity(found)
    assert all(last_layer_capacity(found[:i], lifted=True) < last_layer_capacity(found[:i]) for i in range(4))


def test_lifted_global_is_below_plain():
    found = chain_capacities(3, "global", lifted=True)
    assert found == pytest.approx([7.44863873, 11.02902617, 11.00697957], abs=1e-7)  # found here
    assert found[1:] < chain_capacities(3, "global")[1:]


def test_lifted_single_layer_by_quadrature():
    """Least of (1 + log(1 + x/chi)/(2x)) x/(-log E exp(x f(z))), f as defined, by a plain search."""

    def ratio(logs):
        chi, x = np.exp(logs)
        b = np.sqrt(2 * chi)
        density = lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
        middle = quad(lambda z: np.exp(-x * z * z / (2 * chi)) * density(z), 0, b)[0]
        mean = 0.5 + middle + np.exp(-x) * quad(density, b, 12)[0]
        return (1 + np.log(1 + x / chi) / (2 * x)) * x / -np.log(mean)

    found = minimize(ratio, np.log([0.3, 0.5]), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    assert found.fun == pytest.approx(last_layer_capacity([], lifted=True), abs=1e-9)


def test_lifted_single_layer_is_one_step_with_q0_zero():
    S, F = perceptron.functional(0.3, (1e-9, 1.0), (0.7,))
    lifted = duality._ratio(1.0, (), np.log([0.3, 0.7, np.sqrt(1 / (0.3 * 1.0))]))  # beta stationary
    assert float((S - 1) / F) == pytest.approx(lifted, abs=1e-7)


@pytest.mark.parametrize(("s", "gamma", "mu"), [(0.3, 0.3, 0.1), (0.4, 0.57, 0.22), (0.05, 0.02, 0.3)])
def test_row_growth(s, gamma, mu):
    g, h = np.random.default_rng(4).standard_normal((2, 200_000))
    grown = np.exp(row_maximum(s, gamma, mu, g, h))
    assert abs(grown.mean() - np.exp(row_growth(s, gamma, mu))) < 4 * grown.std() / np.sqrt(grown.size)
    u = np.linspace(-5, 5, 20_001)
    for a, b in zip(g[:50], h[:50], strict=True):
        slow = np.max(s * b * np.maximum(u, 0) - mu * np.maximum(u, 0) ** 2 - gamma * (u - a) ** 2)
        assert slow == pytest.approx(row_maximum(s, gamma, mu, a, b), abs=1e-6)


def test_the_growth_behind_a_layer_is_that_of_a_lipschitz_function():
    """sqrt(omega) t <= Lambda(t) <= sqrt(omega) t + t^2/2 (Jensen; Gaussian concentration), equal as t -> 0."""
    alpha, omega = 5.0, squared_width(5.0, 1.0)
    free = duality._nearly_plain(1.0, [alpha])
    t, layer = np.exp(free[1] + free[2]), free[3:]
    for following in (0.003, 0.03, 0.3, 0.6):
        layer += np.log(following / t) * np.array([1, 1, 0, 1])
        t = following
        growth = partial(growth_behind, alpha, t)
        layer = root(partial(gradient, growth), layer, tol=1e-13).x
        above = (growth(layer) - np.sqrt(omega) * t) / t**2
        assert 0 < above < 0.5
        assert np.abs(gradient(growth, layer)).max() < 1e-9


def growth_behind(alpha, t, logs):
    return duality._growth(t, [alpha], np.exp(logs).reshape(1, 4))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: last_layer_capacity([5.0, -1.0]), "positive and finite"),
        (lambda: last_layer_capacity([np.inf]), "positive and finite"),
        (lambda: last_layer_capacity([], "weak"), "local or global"),
        (lambda: last_layer_capacity([1.0], lifted=True), "4/3"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
