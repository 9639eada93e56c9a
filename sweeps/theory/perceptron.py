"""The least number of active neurons as the ground state of a spherical perceptron, by replica symmetry breaking.

For W of m = alpha n Gaussian rows, e*(alpha) = lim k*/n, k* = min over |x| = 1 of #{i : <w_i, x> > 0}, is the energy
at temperature zero of the perceptron that pays 1 for every positive row; the layer x -> ReLU(W x) is injective as
long as e* >= 1 (Maillard, Bandeira, Belius, Dokmanic, Nakajima, arXiv 2302.14112). None of this is rigorous except
the replica symmetric value, which is a lower bound on e* (Stojnic, arXiv 2410.20646).

With k steps of replica symmetry breaking, 0 < q_0 < ... < q_k = 1 and 0 < x_0 < ... < x_{k-1},
    e* = max over chi, q, x of  S - alpha F,
    S = -1/2 [q_0/lambda_0 + sum_{i<k} log(lambda_i/lambda_{i+1})/x_i],
    lambda_k = chi,  lambda_i = lambda_{i+1} + (q_{i+1} - q_i) x_i,
    F = E f_0(sqrt(q_0) z),  f_i(h) = (1/x_i) log E exp(x_i f_{i+1}(h + sqrt(q_{i+1} - q_i) z)),
    f_k(h) = 0 for h < 0,  -h^2/(2 chi) for 0 < h < b = sqrt(2 chi),  -1 for h > b.
More steps can only raise the maximum. It crosses 1 at the least alpha = (1 - S)/(-F) over the order parameters.
With k = 0, chi solves alpha E[z^2; 0 < z < b] = 1, and e* = alpha P(z > b); at alpha <= 2, e* = 0.

f_{k-1} is a closed form. From there on everything is analytic, so that sums over an even grid converge
exponentially in its step. Gradients are complex steps, exact to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize, root
from scipy.special import ndtr

from sweeps.theory.calculus import gradient, zero
from sweeps.theory.solved import kept

STEPS = 5
"""Most steps that are solved; more would need a finer grid than `functional` takes."""

LOWEST = 2.01
"""Least alpha solved with symmetry breaking; nearer to 2 the search for a maximum has no scale to hold on to."""
LARGEST = 100.0
"""Largest expansion ratio: beyond, q_{k-1} comes closer to 1 than the grid is fine."""

_EDGE = 10.0  # of the grid of h: the Gaussian of variance q_0 < 1 beyond it is below 1e-22


@dataclass(frozen=True)
class GroundState:
    """Order parameters at one expansion ratio; `q` ends with q_k = 1 and `x` is empty without symmetry breaking."""

    alpha: float
    value: float
    "e* = lim k*/n"
    chi: float
    q: tuple[float, ...]
    x: tuple[float, ...]


def truncated_square(b: Any) -> Any:
    """E[z^2; 0 < z < b] for a standard normal z."""
    return ndtr(b) - 0.5 - b * np.exp(-b * b / 2) / np.sqrt(2 * np.pi)


def ground_state_rs(alpha: float) -> GroundState:
    """Replica symmetric; ValueError at alpha <= 2, where e* is 0 and chi infinite."""
    if not 2 < alpha < np.inf:
        raise ValueError(f"alpha must be finite and above 2, where k*/n stops being 0 in the limit, got {alpha}")
    b = zero(lambda b: alpha * truncated_square(b) - 1, 1e-9, 40)
    return GroundState(alpha, float(alpha * ndtr(-b)), b * b / 2, (1.0,), ())


def ground_state(alpha: float, steps: int) -> GroundState:
    """Of `steps` = 0 to 5 steps of symmetry breaking; takes up to seconds, and is kept.

    ValueError at alpha <= 2, at another number of steps, and below LOWEST or above LARGEST unless `steps` is 0. A finer
    grid changes the value by less than 1e-10.
    """
    _check(steps)
    if steps == 0:
        return ground_state_rs(alpha)
    if not LOWEST <= alpha <= LARGEST:
        raise ValueError(f"alpha must be from {LOWEST:g} to {LARGEST:g} with symmetry breaking, got {alpha}")
    return _record(_solve_at(float(alpha), steps))


def critical_state(steps: int) -> GroundState:
    """Where `steps` = 0 to 5 steps of symmetry breaking give e* = 1: alpha is the threshold."""
    _check(steps)
    if steps == 0:
        b = zero(lambda b: truncated_square(b) - ndtr(-b), 0.1, 5)
        return GroundState(float(1 / ndtr(-b)), 1.0, b * b / 2, (1.0,), ())
    return _record(_solve_critical(steps))


def threshold(steps: int) -> float:
    """Expansion ratio above which a random layer is injective, n -> infinity, by `steps` = 0 to 5 steps."""
    return critical_state(steps).alpha


def functional(chi: Any, q: Any, x: Any, refine: float = 1.0) -> tuple[Any, Any]:
    """S and F, so that the value is S - alpha F. `q` of k + 1 entries, the last 1, and `x` of k >= 1.

    The grid's step is 0.02/max(1, k - 1), divided by `refine`. Complex where an argument is.
    """
    steps = len(x)
    step = 0.02 / max(1, steps - 1) / refine
    half = round(_EDGE / step)
    h = np.arange(-half, half + 1) * step
    f = first_step(h, chi, q[-1] - q[-2], x[-1])
    for i in reversed(range(steps - 1)):
        f = np.log(_smooth(np.exp(x[i] * f), q[i + 1] - q[i], step)) / x[i]
    weights = np.exp(-h * h / (2 * q[0]))
    return _entropy(chi, q, x), weights @ f / weights.sum()


def _entropy(chi: Any, q: Any, x: Any) -> Any:
    low, total = chi, 0.0  # lambda_{i+1}
    for i in reversed(range(len(x))):
        high = low + (q[i + 1] - q[i]) * x[i]
        total = total + np.log(high / low) / x[i]
        low = high
    return -0.5 * (q[0] / low + total)


def first_step(h: Any, chi: Any, variance: Any, x: Any) -> Any:
    """f_{k-1}: the three pieces of exp(x f_k) against a Gaussian around h."""
    b, s, wide = np.sqrt(2 * chi), np.sqrt(variance), chi + x * variance
    scale = np.sqrt(chi / wide)
    inner = np.exp(-x * h * h / (2 * wide)) * scale
    inner = inner * (ndtr((b - h * scale**2) / (s * scale)) - ndtr(-h * scale / s))
    return np.log(ndtr(-h / s) + inner + np.exp(-x) * ndtr((h - b) / s)) / x


def _smooth(values: Any, variance: Any, step: float) -> Any:
    """Convolved with a Gaussian; beyond the grid the values are those at its ends."""
    reach = int(np.ceil(9 * np.sqrt(np.real(variance)) / step))
    weights = np.exp(-((np.arange(-reach, reach + 1) * step) ** 2) / (2 * variance))
    return np.convolve(np.pad(values, reach, mode="edge"), weights / weights.sum(), mode="valid")


# From here on: the search. Free parameters are log chi, log of the increments of q over the last, of those of x.


def _pack(chi: float, q: Any, x: Any) -> np.ndarray:
    gaps = np.diff(q, prepend=0)
    return np.concatenate([[np.log(chi)], np.log(gaps[:-1] / gaps[-1]), np.log(np.diff(x, prepend=0))])


def _unpack(free: Any) -> tuple[Any, Any, Any]:
    steps = len(free) // 2
    gaps = np.append(np.exp(free[1 : steps + 1]), 1)
    return np.exp(free[0]), np.cumsum(gaps) / gaps.sum(), np.cumsum(np.exp(free[steps + 1 :]))


def _minimise(goal: Callable[[Any], Any], start: np.ndarray) -> np.ndarray:
    """Descent from `start` to where rounding stops it, then Newton's method on the exact gradient."""
    near = minimize(goal, start, method="BFGS", options={"gtol": 1e-6}).x
    found = root(partial(gradient, goal), near, tol=1e-10)
    slope = np.abs(gradient(goal, found.x)).max()
    if slope > 1e-7 or goal(found.x) > goal(near) + 1e-9:
        raise ArithmeticError(f"the search for the order parameters ended at a slope of {slope:.1e}, not at a minimum")
    return found.x


def _another_step(state: GroundState) -> np.ndarray:
    """Where to look with one step more: the last interval of q in two."""
    if not state.x:
        x = 5.7 * (state.alpha - 2) ** -0.4  # within a tenth at alpha from 2.2 to 100
        return _pack(state.chi / 2, [0.78, 1], [x])
    q = [*state.q[:-1], 1 - 0.25 * (1 - state.q[-2]), 1]
    return _pack(0.9 * state.chi, q, [*state.x[:-1], 0.9 * state.x[-1], 2 * state.x[-1]])


@kept("sweeps.theory.calculus")
def _solve_at(alpha: float, steps: int) -> list[Any]:
    less = ground_state(alpha, steps - 1)

    def goal(free: Any) -> Any:
        S, F = functional(*_unpack(free))
        return (alpha * F - S) / less.value

    free = _minimise(goal, _another_step(less))
    return _plain(alpha, -goal(free) * less.value, free)


@kept("sweeps.theory.calculus")
def _solve_critical(steps: int) -> list[Any]:
    def goal(free: Any) -> Any:
        S, F = functional(*_unpack(free))
        return (S - 1) / F

    free = _minimise(goal, _another_step(critical_state(steps - 1)))
    return _plain(goal(free), 1.0, free)


def _plain(alpha: float, value: float, free: np.ndarray) -> list[Any]:
    chi, q, x = _unpack(free)
    return [float(alpha), float(value), float(chi), q.tolist(), x.tolist()]


def _record(plain: list[Any]) -> GroundState:
    alpha, value, chi, q, x = plain
    return GroundState(alpha, value, chi, tuple(q), tuple(x))


def _check(steps: int) -> None:
    if steps not in range(STEPS + 1):
        raise ValueError(f"steps must be a whole number from 0 to {STEPS}, got {steps}")
