"""Activations, in torch and in loops, scaled so that networks of any depth stay within the range of their numbers.

    linear z,  relu max(z, 0),  leaky-relu z or slope z below 0,  abs |z|,  sign (0 at 0),  step 1 above 0, else 0,
    relu2 max(z, 0)^2,  erf,  tanh,  gelu z Phi(z) with the normal distribution function Phi, exactly.

Each is 0 at 0, so that a place where an input has nothing keeps nothing.

Samplers carry a pre-activation as s z, its scale s = exp(log_scale) apart. A homogeneous activation of degree d is
s^d phi(z). Of the others, phi(s z)/s is computed, with s kept within exp(+-100) (float32: exp(+-40)): beyond, they are
linear or saturated to the last digit.

Differences phi(z + d) - phi(z) have full relative precision, however small d is, with
    tanh(z + d) - tanh(z) = tanh(d) (1 - tanh(z)^2)/(1 + tanh(z) tanh(d)),
    erf(z + d) - erf(z) = 2/sqrt(pi) exp(-m^2) (d + (4 m^2 - 2) d^3/24 + (16 m^4 - 48 m^2 + 12) d^5/1920 + ...),
where m = z + d/2.
"""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

import torch
from numba import njit
from torch import Tensor

from sweeps.compiled import compiled
from sweeps.networks.architecture import DEGREES, Activation, Architecture

LIMIT = 100.0
"""Most that the logarithm of a scale is, of either sign, in float64."""
LIMIT_FLOAT32 = 40.0
BOUNDED = frozenset({"erf", "tanh"})

_CODES: dict[Activation, int] = {"sign": 1, "step": 2, "relu2": 3, "erf": 4, "tanh": 5, "gelu": 6}
_PIECEWISE_LINEAR: dict[Activation, float] = {"linear": 1.0, "relu": 0.0, "abs": -1.0}
assert {*_CODES, *_PIECEWISE_LINEAR, "leaky-relu"} == {*get_args(Activation)}


class Code(NamedTuple):
    """What kernels know an activation by: 0 is linear on either side of 0, with `slope` below."""

    code: int
    slope: float
    degree: int
    """Of homogeneity, 1 where phi(s z)/s is computed instead."""
    bounded: bool


def seconds(architecture: Architecture) -> float:
    """Of an activation, or a difference of two, on one core, measured on an EPYC at 2.4 GHz."""
    return 1e-9 if architecture.activation in DEGREES else 4e-8


def code(architecture: Architecture) -> Code:
    name = architecture.activation
    slope = _PIECEWISE_LINEAR.get(name, architecture.slope)
    return Code(_CODES.get(name, 0), float(slope), DEGREES.get(name, 1), name in BOUNDED)


def activate(z: Tensor, architecture: Architecture, scale: Tensor) -> Tensor:
    """phi(z) of a homogeneous activation, phi(scale z)/scale of the others; `z` may be overwritten."""
    match architecture.activation:
        case "linear":
            return z
        case "relu":
            return z.relu_()
        case "leaky-relu":
            return torch.where(z > 0, z, architecture.slope * z)
        case "abs":
            return z.abs_()
        case "sign":
            return z.sign_()
        case "step":
            return (z > 0).to(z.dtype)
        case "relu2":
            return z.relu_().square_()
        case "erf":
            return torch.erf(scale * z).div_(scale)
        case "tanh":
            return torch.tanh(scale * z).div_(scale)
        case "gelu":
            return torch.erfc(scale * z * -math.sqrt(0.5)).mul_(0.5).mul_(z)


@compiled
def activate_row(z, scale, code, slope):
    """The same in place, of a row of float64."""
    n = len(z)
    if code == 0:
        if slope == 0:
            for j in range(n):
                z[j] = max(z[j], 0.0)
        elif slope != 1:
            for j in range(n):
                z[j] = z[j] if z[j] > 0 else slope * z[j]
    elif code == 1:
        for j in range(n):
            z[j] = _sign(z[j])
    elif code == 2:
        for j in range(n):
            z[j] = 1.0 if z[j] > 0 else 0.0
    elif code == 3:
        for j in range(n):
            z[j] = max(z[j], 0.0) ** 2
    elif code == 4:
        for j in range(n):
            z[j] = math.erf(scale * z[j]) / scale
    elif code == 5:
        for j in range(n):
            z[j] = math.tanh(scale * z[j]) / scale
    else:
        for j in range(n):
            z[j] *= _normal_distribution(scale * z[j])


@compiled
def difference_row(d, z, value, scale, code, slope):
    """Replace d by phi(z + d) - phi(z), of rows of float64; `value` is phi(z) from `activate_row`."""
    n = len(z)
    if code == 0:
        if slope == 0:  # LLVM makes vectors of this loop only without a slope
            for j in range(n):
                y = z[j] + d[j]
                same = d[j] if z[j] > 0 else 0.0
                d[j] = same if (z[j] > 0) == (y > 0) else max(y, 0.0) - value[j]
        elif slope != 1:
            for j in range(n):
                y = z[j] + d[j]
                same = d[j] if z[j] > 0 else slope * d[j]
                d[j] = same if (z[j] > 0) == (y > 0) else (y if y > 0 else slope * y) - value[j]
    elif code == 1:
        for j in range(n):
            d[j] = _sign(z[j] + d[j]) - value[j]
    elif code == 2:
        for j in range(n):
            d[j] = (1.0 if z[j] + d[j] > 0 else 0.0) - value[j]
    elif code == 3:
        for j in range(n):
            y = z[j] + d[j]
            d[j] = d[j] * (y + z[j]) if z[j] > 0 and y > 0 else max(y, 0.0) ** 2 - value[j]
    elif code == 4:
        for j in range(n):
            small, rise = _erf_rise(scale * z[j], scale * d[j])
            d[j] = rise / scale if small else math.erf(scale * (z[j] + d[j])) / scale - value[j]
    elif code == 5:
        for j in range(n):
            if abs(scale * d[j]) < 1:
                t, rise = scale * value[j], math.tanh(scale * d[j])
                d[j] = rise * (1 - t * t) / (1 + t * rise) / scale
            else:
                d[j] = math.tanh(scale * (z[j] + d[j])) / scale - value[j]
    else:
        half = scale * math.sqrt(0.5)
        for j in range(n):
            small, rise = _erf_rise(half * z[j], half * d[j])
            share = _normal_distribution(scale * (z[j] + d[j]))
            d[j] = d[j] * share + 0.5 * rise * z[j] if small else (z[j] + d[j]) * share - value[j]


@njit(inline="always")
def _sign(z):
    return (1.0 if z > 0 else 0.0) - (1.0 if z < 0 else 0.0)


@njit(inline="always")
def _normal_distribution(z):
    return 0.5 * math.erfc(-math.sqrt(0.5) * z)


@njit(inline="always")
def _erf_rise(z, d):
    """Whether d is small, and erf(z + d) - erf(z) if so."""
    m = (z + 0.5 * d) ** 2
    small = abs(d) * (1 + abs(z)) < 0.01
    series = 1 + d * d * ((4 * m - 2) / 24 + d * d * (16 * m * m - 48 * m + 12) / 1920)
    return small, 2 / math.sqrt(math.pi) * math.exp(-m) * d * series if small else 0.0
