"""Folding of random ReLU networks along a segment: what is known in closed form.

Bias-free Gaussian layers see directions only, so a segment whose end points are at angle theta_0 is an arc of
that length. Write N_1, ..., N_L for the widths and f for the angle map of a wide ReLU layer
(sweeps.theory.arccos).

Wide networks. The arc keeps its length from layer to layer while its chord, the angle of its ends, contracts
to f(theta_0), f(f(theta_0)), ... A neuron of layer l flips length/pi times on average, and its bit differs at
the ends with probability chord/pi; r1 is attained at the far end. Hence
    r1 = sum_l N_l f^(l-1)(theta_0)/pi,    r2 = theta_0/pi sum_l N_l,    chi = 1 - r1/r2.

Any width, exactly. If k neurons are active, the speed of the arc after ReLU is a quotient of independent chi
variables with k - 1 and k degrees of freedom, of mean 1 for k >= 2; a single active neuron has one direction,
and with none the layer is dead. So, with s_l = 2^(-N_l),
    length_l = length_(l-1) [1 - (N_l + 1) s_l],
    deaths_l = 2 s_l N_l length_(l-1)/pi + deaths_(l-1) (1 - s_l),
where deaths counts passages between dead and alive, at each of which half of the next layer's bits flip, all
together:
    E breakpoints = sum_l N_l length_(l-1)/pi,    E r2 = E breakpoints + sum_l deaths_(l-1) N_l/2.
This is Crofton's formula layer by layer, as in Hanin & Rolnick, "Complexity of Linear Regions in Deep
Networks", ICML 2019; the finite-width factors were derived here and are tested by simulation.

CantorNet: Lewandowski, Eghbalzadeh, Moser, "CantorNet", arXiv 2411.19713.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeps.theory.arccos import angle_map


def wide_fold(widths: Sequence[int], angle: float) -> dict[str, float]:
    """chi, r1 and r2 of a wide bias-free network, end points at `angle` in (0, pi) radians."""
    angles = [angle]
    for _ in widths[1:]:
        angles.append(float(angle_map(angles[-1])))
    r1 = float(np.dot(widths, angles)) / np.pi
    r2 = angle * sum(widths) / np.pi
    return {"chi": 1 - r1 / r2, "r1": r1, "r2": r2}


def sampled_chi(widths: Sequence[int], angle: float, samples: int) -> float:
    """The chi of a wide bias-free network that `samples` equally spaced points would show."""
    t = np.linspace(0, 1, samples)
    x, y = 1 - t + t * np.cos(angle), t * np.sin(angle)  # the chord of two unit vectors
    ends, steps = np.float64(angle), np.diff(np.arctan2(y, x))
    r1 = r2 = 0.0
    for width in widths:
        r1 += width * ends
        r2 += width * steps.sum()
        ends, steps = angle_map(ends), angle_map(steps)
    return float(1 - r1 / r2)


def mean_breakpoints(widths: Sequence[int], angle: float) -> dict[str, float]:
    """Exact means of breakpoints and r2 of a bias-free network of any widths, `angle` in (0, pi) radians."""
    length, deaths, breakpoints, together = angle, 0.0, 0.0, 0.0
    for width in widths:
        rate, dead = width * length / np.pi, 0.5**width
        breakpoints += rate
        together += deaths * width / 2
        deaths = 2 * dead * rate + deaths * (1 - dead)
        length *= 1 - (width + 1) * dead
    return {"breakpoints": breakpoints, "r2": breakpoints + together}


def biased_angle(angle: float, weight_variance: float, bias_variance: float) -> float:
    """Angle of (sigma_w x, sigma_b) and (sigma_w y, sigma_b) for unit vectors x and y at `angle`."""
    x = np.array([1.0, 0.0]) * np.sqrt(weight_variance)
    y = np.array([np.cos(angle), np.sin(angle)]) * np.sqrt(weight_variance)
    half = np.hypot(*(x - y)) / np.hypot(np.hypot(*(x + y)), 2 * np.sqrt(bias_variance))
    return float(2 * np.arctan(half))


def cantornet(times: int) -> dict[str, float]:
    """CantorNet's recursive form applied `times` times, along y = 3/4 from x = 0 to 1."""
    r1, r2 = 2 * times + 1, 5 * 2**times - 4
    return {"chi": 1 - r1 / r2, "r1": r1, "r2": r2}
