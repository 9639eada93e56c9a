"""Confidence sequences: intervals that hold a mean at every number of draws at once, so whenever one stops.

Both mix likelihood ratios against a mean p over a prior worth r draws. The mixture M_n(p) is a martingale of mean 1
under p, so by Ville's inequality it ever reaches 1/alpha with probability at most alpha (Robbins, "Statistical methods
related to the law of the iterated logarithm", Ann. Math. Statist. 1970).

Proportions, of S ones and F zeros: the beta-binomial mixture (Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Ann. Statist. 2021) with the prior Beta(r p, r q), q = 1 - p. Exact:

    M_n(p) = B(r p + S, r q + F) / (B(r p, r q) p^S q^F).

log M_n is a sum of log(r + j/p), j < S, and log(r + j/q), j < F, and a constant, so it is convex in p; at p = S/n it is
at most 0. The interval therefore ends at two roots, one on each side, which Newton's method reaches from outside.

Other means: the Gaussian mixture with the sample variance for the variance (Waudby-Smith, Arbour, Sinha, Kennedy,
Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", Ann. Statist. 2024; rho^2 is 1/r).
Asymptotic: right in the limit of a late first look, as the t interval is in the limit of many draws.

The Gaussian one is tightest at n draws if r = n / k, where k = log(1 + k) - 2 log(alpha).
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln, lambertw

STEPS = 200  # far more than bisection needs


def prior(confidence: float, about: int) -> float:
    """The draws r that the prior is worth, for an interval tightest at about `about` draws."""
    alpha = 1 - confidence
    return about / (-1 - float(lambertw(-(alpha**2) / np.e, -1).real))


def critical(n: np.ndarray, confidence: float, about: int) -> np.ndarray:
    """Standard errors that hold the mean at every n, in the place of 1.96; NaN at n = 0."""
    n = np.array(n, dtype=np.float64, order="C")  # numpy's logarithm of a strided array may differ in the last bit
    y = np.where(n > 0, n, np.nan) / prior(confidence, about)
    return np.sqrt((y + 1) / y * (np.log1p(y) - 2 * np.log1p(-confidence)))


def beta_binomial(mean: np.ndarray, n: np.ndarray, confidence: float, about: int) -> tuple[np.ndarray, np.ndarray]:
    """The confidence sequence (low, high) of a proportion, `mean` being the share of ones in n draws; NaN at n = 0."""
    mean, n = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(n, dtype=np.float64))
    low, high = np.full(n.shape, np.nan), np.full(n.shape, np.nan)
    ones = np.rint(mean[n > 0] * n[n > 0])
    zeros = n[n > 0] - ones
    many_ones = ones > zeros  # the rarer outcome is followed: a small share has more digits than one near 1
    rare, common = np.where(many_ones, zeros, ones), np.where(many_ones, ones, zeros)
    z, r, bound = critical(rare + common, confidence, about), prior(confidence, about), -np.log1p(-confidence)
    least = _end(rare, common, -z, r, bound)
    most = _end(rare, common, z, r, bound)
    low[n > 0], high[n > 0] = np.where(many_ones, 1 - most, least), np.where(many_ones, 1 - least, most)
    return low, high


def _end(rare: np.ndarray, common: np.ndarray, z: np.ndarray, r: float, bound: float) -> np.ndarray:
    """Where log M = bound, below the observed share if z < 0 and above it if z > 0; 0 or 1 if log M stays below.

    Newton's method within a bracket, from the end of the score interval of z standard errors. Every entry ends by
    itself, so that its bits do not depend on its neighbours.
    """
    n = rare + common
    limit, crosses = np.where(z > 0, 1.0, 0.0), np.where(z > 0, common, rare) > 1
    score = (rare + z * z / 2 + z * np.sqrt(rare * common / n + z * z / 4)) / (n + z * z)
    end, inside, outside = np.where(crosses, score, limit), rare / n, limit.copy()
    left = np.flatnonzero(crosses)
    for _ in range(STEPS):
        if not left.size:
            break
        p = end[left]
        log, slope = _log_mixture(p, rare[left], common[left], r)
        beyond = log > bound
        outside[left[beyond]], inside[left[~beyond]] = p[beyond], p[~beyond]
        near, far, step = inside[left], outside[left], p - (log - bound) / slope
        end[left] = np.where((step - near) * (step - far) < 0, step, (near + far) / 2)
        moved = np.abs(end[left] - p)
        left = left[moved > 1e-9 * np.abs(p - rare[left] / n[left]) + 4 * np.spacing(p)]
    return end


def _log_mixture(p: np.ndarray, ones: np.ndarray, zeros: np.ndarray, r: float) -> tuple[np.ndarray, np.ndarray]:
    """log M_n(p) and its derivative. Stirling's formula takes the large terms out of the logarithms of gamma functions,
    which would cancel: what they leave is n + r times a relative entropy."""
    n, q = ones + zeros, 1 - p
    total, a, b = n + r, r * p, r * q
    shift = (ones / n - p) * (n / total)  # the posterior mean less p
    up, down = np.log1p(shift / p), np.log1p(-shift / q)
    entropy = (p + shift) * up + (q - shift) * down
    rest = _beyond_stirling(a + ones) + _beyond_stirling(b + zeros) - _beyond_stirling(total)
    rest -= _beyond_stirling(a) + _beyond_stirling(b) - _beyond_stirling(np.asarray(r))
    log = total * entropy - (up + down - np.log(r / total)) / 2 + rest
    slope = r * (digamma(a + ones) - digamma(a) - digamma(b + zeros) + digamma(b)) - ones / p + zeros / q
    return log, slope


def _beyond_stirling(x: np.ndarray) -> np.ndarray:
    """log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2)."""
    small, y = np.minimum(x, 16), 1 / np.maximum(x, 16) ** 2
    series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) * np.sqrt(y)
    return np.where(x < 16, gammaln(small) - ((small - 0.5) * np.log(small) - small + np.log(2 * np.pi) / 2), series)
