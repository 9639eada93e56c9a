"""Zeros and slopes to the last digits, for the solvers of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq


def zero(function: Callable[[float], Any], low: float, high: float) -> float:
    """Where a continuous function vanishes; ValueError where its signs at `low` and `high` do not differ."""
    found: Any = brentq(function, low, high, xtol=1e-16)
    return float(found)


def gradient(goal: Callable[[Any], Any], at: np.ndarray) -> np.ndarray:
    """Of an analytic function that takes complex arguments, exact to rounding: f(x + i e)/e has no difference in it.

    Squire and Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 1998.
    """
    return np.array([np.imag(goal(at + 1e-30j * direction)) / 1e-30 for direction in np.eye(len(at))])
