"""Intervals that hold a mean with a given probability: Wilson for proportions, Student's t for the others.

They hold at a number of draws chosen beforehand. Those that hold whenever one stops are in `sweeps.sequences`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from sweeps import sequences
from sweeps.moments import Moments

ROUNDING = 1e-12
"""Relative differences that are put down to rounding."""


def wilson(mean: np.ndarray, n: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval (low, high): all p with |mean - p| <= z sqrt(p (1 - p) / n); NaN at n = 0."""
    z = float(ndtri((1 + confidence) / 2))
    n = np.where(n > 0, n, np.nan)
    middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(np.maximum(mean * (1 - mean), 0) / n + (z / (2 * n)) ** 2)
    return np.where(mean <= 0, 0.0, middle - half), np.where(mean >= 1, 1.0, middle + half)


def student(m: Moments, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """The t interval (low, high) of a mean; NaN below two draws."""
    different, place = np.unique(m.n, return_inverse=True)
    t = np.full(different.shape, np.nan)
    t[different > 1] = stdtrit(different[different > 1] - 1, (1 + confidence) / 2)
    half = t[place.reshape(m.n.shape)] * sem(m)
    return m.mean - half, m.mean + half


def sem(m: Moments) -> np.ndarray:
    """Standard error of the mean; NaN below two draws."""
    return np.sqrt(np.divide(m.variance, m.n, out=np.full_like(m.n, np.nan), where=m.n > 0))


def deviation(mean: np.ndarray, theory: np.ndarray, sem: np.ndarray) -> np.ndarray:
    """z = (mean - theory) / sem, where a spread of the draws is there to measure by.

    Where all draws are equal up to rounding it is 0 if they are what theory says, else NaN: no finite number of
    standard errors says how far off a constant is, and a proportion near 1 may show nothing but ones by chance. NaN
    too below two draws.
    """
    rounding = ROUNDING * np.maximum(np.abs(mean), np.abs(theory))
    apart = mean - theory
    z = np.divide(apart, sem, out=np.full_like(apart, np.nan), where=sem > rounding)
    return np.where((sem <= rounding) & (np.abs(apart) <= rounding), 0.0, z)


def interval(m: Moments, kind: str, confidence: float, anytime: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The interval (low, high) of a mean that suits the kind of an outcome.

    With `anytime` above 0 it is a confidence sequence, tightest at about that many draws, an exact one for proportions
    and an asymptotic one for the others.
    """
    if kind == "proportion":
        if anytime:
            return sequences.beta_binomial(m.mean, m.n, confidence, anytime)
        return wilson(m.mean, m.n, confidence)
    if anytime:
        half = sequences.critical(m.n, confidence, anytime) * sem(m)
        return m.mean - half, m.mean + half
    return student(m, confidence)
