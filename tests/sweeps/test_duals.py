"""Dual activations against quadratures of the activations themselves, 40 digits, and limits."""

from __future__ import annotations

import math
from typing import Any, get_args

import mpmath
import numpy as np
import pytest
from scipy.special import erf, ndtr

from sweeps.networks.architecture import DEGREES, Activation
from sweeps.theory import duals
from sweeps.theory.arccos import angle_map

SLOPE = -0.3
HOMOGENEOUS = sorted(DEGREES)
SMOOTH = sorted(set(get_args(Activation)) - set(DEGREES))
FUNCTIONS: dict[str, Any] = {
    "erf": erf, "tanh": np.tanh, "gelu": lambda z: z * ndtr(z),
}  # fmt: skip
DERIVATIVES: dict[str, Any] = {
    "erf": lambda z: 2 / math.sqrt(math.pi) * np.exp(-z * z),
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "gelu": lambda z: ndtr(z) + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
}
BENT: dict[str, Any] = {
    "linear": lambda z: z, "relu": lambda z: max(z, 0), "leaky-relu": lambda z: z if z > 0 else mpmath.mpf(SLOPE) * z,
    "abs": abs, "sign": mpmath.sign, "step": lambda z: int(z > 0), "relu2": lambda z: max(z, 0) ** 2,
}  # fmt: skip


def along_the_circle(activation: str, theta: float) -> mpmath.mpf:
    """E[phi(u) phi(v)] at variances 1 in polar coordinates: the mean of R^(2 degree) times that over the circle."""
    phi, theta = BENT[activation], mpmath.mpf(theta)
    corners = sorted(x % (2 * mpmath.pi) for c in (0, theta) for x in (c + mpmath.pi / 2, c - mpmath.pi / 2))
    value = mpmath.mpf(0)
    for low, high in zip(corners, [*corners[1:], corners[0] + 2 * mpmath.pi], strict=True):
        if high > low:
            value += mpmath.quad(lambda t: phi(mpmath.cos(t)) * phi(mpmath.cos(t - theta)), [low, high])
    degree = DEGREES[activation]
    return value / (2 * mpmath.pi) * 2**degree * mpmath.factorial(degree)


def plane(function: Any, a: float, b: float, theta: float) -> float:
    """E[function(u, v)] by the trapezoid rule, which has converged at this step: one half of it gives the same."""
    z = np.arange(-9, 9, 0.1 / max(1, math.sqrt(max(a, b)) / 2))
    weights = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    u, v = math.sqrt(a) * z[:, None], math.sqrt(b) * (math.cos(theta) * z[:, None] + math.sin(theta) * z)
    return float(weights @ function(u, v) @ weights)


@pytest.mark.parametrize("activation", HOMOGENEOUS)
def test_homogeneous_duals_along_the_circle(activation: str) -> None:
    """To rounding, which in the covariance is one of the angle over its sine; the reference has 20 digits."""
    a, b = 2.0, 0.3
    with mpmath.workdps(20):
        for theta in (0.4, 1.5, 2.6):
            want = float(along_the_circle(activation, theta)) * math.sqrt(a * b) ** DEGREES[activation]
            got = duals.inner_product(activation, a, b, math.sqrt(a * b) * math.cos(theta), SLOPE)
            assert float(got) == pytest.approx(want, abs=2e-15)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.02, 2.0), (60.0, 40.0)])
def test_smooth_duals_over_the_plane(activation: str, a: float, b: float) -> None:
    phi = FUNCTIONS[activation]
    for theta in (0.0, 0.4, 2.2, math.pi):
        want = plane(lambda u, v: phi(u) * phi(v), a, b, theta)
        got = duals.inner_product(activation, a, b, math.sqrt(a * b) * math.cos(theta))
        assert float(got) == pytest.approx(want, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("a", [1e-8, 0.1, 3.0, 1e3, 1e8])
def test_tanh_at_every_variance(a: float) -> None:
    """E tanh^2 in one dimension, pieces put where tanh turns; the reference has 25 digits."""
    with mpmath.workdps(25):
        s = mpmath.sqrt(a)
        pieces = [x for x in [0, *(c / s for c in (0.5, 1, 2, 4, 8, 16, 32)), 1, 2, 4, 8] if x <= 8]
        square = 2 * mpmath.quad(lambda z: mpmath.tanh(s * z) ** 2 * mpmath.npdf(z), [*sorted(pieces), 14])
    assert float(duals.inner_product("tanh", a, a, a)) == pytest.approx(float(square), rel=5e-14)


@pytest.mark.parametrize("activation", HOMOGENEOUS)
@pytest.mark.parametrize("theta", [1e-12, 1e-5, 0.999, 2.9])
def test_homogeneous_angles_to_rounding(activation: str, theta: float) -> None:
    """Relative; the reference takes the angle from its cosine at 40 digits."""
    with mpmath.workdps(40):
        cosine = along_the_circle(activation, theta) / along_the_circle(activation, 0)
        want = float(2 * mpmath.asin(mpmath.sqrt((1 - cosine) / 2)))
    assert float(duals.angle(activation, 0.0, 1.0, theta, SLOPE)) == pytest.approx(want, rel=2e-15)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("a", [0.01, 1.0, 50.0])
def test_smooth_angles_of_nearly_parallel_inputs(activation: str, a: float) -> None:
    """theta'/theta tends to sqrt(a E phi'(u)^2/E phi(u)^2), phi(v) - phi(u) being phi'(u) sqrt(a) theta z."""
    slope, phi = DERIVATIVES[activation], FUNCTIONS[activation]
    squares = [plane(lambda u, v, f=f: f(u) ** 2 + 0 * v, a, a, 0) for f in (slope, phi)]
    for theta in (1e-12, 1e-8):
        got = float(duals.angle(activation, math.log(a), math.log(a), theta))
        assert got == pytest.approx(theta * math.sqrt(a * squares[0] / squares[1]), rel=1e-11)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(("a", "b", "theta"), [(1.0, 1.002, 1e-3), (3.0, 3.0, 1e-3), (0.5, 2.0, 1e-6), (2.0, 1.0, 1.0)])
def test_smooth_angles_from_squared_differences(activation: str, a: float, b: float, theta: float) -> None:
    phi = FUNCTIONS[activation]
    norms = [math.sqrt(plane(lambda u, v: phi(u) ** 2 + 0 * v, x, x, 0)) for x in (a, b)]
    square = plane(lambda u, v: (phi(u) / norms[0] - phi(v) / norms[1]) ** 2, a, b, theta)
    got = float(duals.angle(activation, math.log(a), math.log(b), theta))
    assert got == pytest.approx(2 * math.asin(math.sqrt(square) / 2), rel=1e-10)


AT = [(1.0, 1.0, 1e-12), (1e4, 1e4, 1e-7), (2.0, 2.1, 1e-9), (1.0, 1.0 + 1e-7, 1e-8), (0.2, 7.0, 3.0)]


def test_erf_and_gelu_at_50_digits() -> None:
    """From the published kernels; at equal variances relative, else absolute."""
    with mpmath.workdps(50):
        for a, b, theta in AT:
            for activation, kernel in (("erf", erf_kernel), ("gelu", gelu_kernel)):
                x, y, c = mpmath.mpf(a), mpmath.mpf(b), mpmath.sqrt(mpmath.mpf(a) * b) * mpmath.cos(theta)
                want = float(mpmath.acos(kernel(x, y, c) / mpmath.sqrt(kernel(x, x, x) * kernel(y, y, y))))
                got = float(duals.angle(activation, math.log(a), math.log(b), theta))
                assert got == pytest.approx(want, rel=1e-13, abs=0 if a == b else 1e-15)


def erf_kernel(a: Any, b: Any, c: Any) -> Any:
    return 2 / mpmath.pi * mpmath.asin(2 * c / mpmath.sqrt((1 + 2 * a) * (1 + 2 * b)))


def gelu_kernel(a: Any, b: Any, c: Any) -> Any:
    """Tsuchida et al., AAAI 2021, in the form of a sum over E u v, E u v sign and the density at 0."""
    d = (1 + a) * (1 + b) - c * c
    arc = c / 4 + c * mpmath.asin(c / mpmath.sqrt((1 + a) * (1 + b))) / (2 * mpmath.pi)
    return arc + (a * b + c * c * (1 - a * b) / ((1 + a) * (1 + b))) / (2 * mpmath.pi * mpmath.sqrt(d))


def test_special_slopes_and_the_known_map() -> None:
    theta = np.linspace(0, np.pi, 101)
    np.testing.assert_allclose(duals.angle("relu", 0, 0, theta), angle_map(theta), rtol=1e-14)
    inside = theta[1:-1]  # abs is folded at pi/2; leaky-relu of slope -1 cancels near pi
    for slope, name, error in ((0, "relu", 1e-15), (1, "linear", 1e-15), (-1, "abs", 1e-11)):
        leaky = duals.angle("leaky-relu", 0, 0, inside, slope)
        np.testing.assert_allclose(leaky, duals.angle(name, 0, 0, inside), rtol=error)
    np.testing.assert_allclose(duals.angle("linear", 0, 0, theta), theta, rtol=1e-15)


@pytest.mark.parametrize("activation", ["erf", "tanh"])
def test_odd_activations_have_an_odd_map(activation: str) -> None:
    theta = np.array([1e-9, 0.3, 1.5])
    np.testing.assert_allclose(
        np.pi - duals.angle(activation, 1.0, 0.3, np.pi - theta), duals.angle(activation, 1.0, 0.3, theta), atol=1e-15
    )


@pytest.mark.parametrize(("activation", "limit"), [("tanh", "sign"), ("erf", "sign"), ("gelu", "relu")])
def test_large_variances_reach_the_homogeneous_limit(activation: str, limit: str) -> None:
    theta = np.array([0.5, 1.5, 3.0])
    errors = [np.abs(duals.angle(activation, x, x, theta) - duals.angle(limit, x, x, theta)).max() for x in (10, 30)]
    assert errors[1] < errors[0] / 1e3
    for log_variance in (93.0, 700.0, 5000.0):
        assert float(duals.log_square(activation, log_variance)) == pytest.approx(
            float(duals.log_square(limit, log_variance)), rel=1e-14, abs=1e-14
        )


@pytest.mark.parametrize(("activation", "slope"), [("tanh", 1.0), ("erf", 2 / math.sqrt(math.pi)), ("gelu", 0.5)])
def test_small_variances_are_linear(activation: str, slope: float) -> None:
    theta = np.array([1e-9, 0.3, 2.0])
    for log_variance in (-80.0, -93.0, -5000.0):
        assert float(duals.log_square(activation, log_variance)) == pytest.approx(log_variance + 2 * math.log(slope))
        np.testing.assert_allclose(duals.angle(activation, log_variance, log_variance, theta), theta, rtol=1e-13)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_nothing_comes_of_nothing(activation: str) -> None:
    assert duals.log_square(activation, -np.inf) == -np.inf
    assert duals.inner_product(activation, 0.0, 2.0, 0.0) == 0
