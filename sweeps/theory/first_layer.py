"""Energy profile of the first layer: the one-parameter formula, and exact laws of a linear network.

u_i are the eigenvectors of the covariance of all patches of the training images, lambda_i^2 its eigenvalues. The
energy of K filters along u_i is e_i = sqrt(mean_k ((w_k - w_k(0)) . u_i)^2), the initial filters subtracted.

The formula (Chowers and Weiss, "What do CNNs Learn in the First Layer and Why? A Linear Systems Perspective",
arXiv 2206.02454) says that, up to a factor, e_i = s_i(tau) = (1 - exp(-tau lambda_i^2))/lambda_i: proportional to
lambda_i early, to 1/lambda_i (whitening) late, largest where tau lambda_i^2 = 1.2564, the root of exp(x) = 1 + 2x.

The linear network is that of `networks.pooled_linear`: convolution, mean over pixels, sum over K filters, squared
loss, full-batch gradient descent at rate eta. p are the images' average patches, centred over the N training images,
    A = mean p p^T = V diag(a) V^T,    b = mean p y,    h = 2 eta K,    D = 1 - h A.
Then wbar, the mean of the filters, follows wbar <- D wbar + (h/K) b, and all filters move as it does, so that
    w_k(t) - w_k(0) = (D^t - 1) wbar(0) + M b,    M = V diag([1 - (1 - h a)^t]/(K a)) V^T,
which is stable for h max a < 2. The energy of one network is e_i = |u_i . (w_k(t) - w_k(0))|. If initial weights are
independent of variance sigma^2 and b has mean m and covariance C,
    E e_i^2 = (sigma^2/K) u_i^T (1 - D^t)^2 u_i + (u_i^T M m)^2 + u_i^T M C M u_i,
and with the initial filters left in, first term sigma^2 (K-1)/K + (sigma^2/K) u_i^T D^(2t) u_i instead.

Where the J patches of an image are independent, A is about the patches' covariance over J: a_i = lambda_i^2/J, and for
random labels, h small and sigma 0, E e_i^2 is proportional to s_i(tau)^2 with tau = h t/J = 2 eta K t/J. Real patches
of an image are strongly correlated: there the formula is a fit, and not the law of the linear network. Initial filters
add (sigma^2/K)(lambda_i s_i)^2. These laws were derived for this project, and simulation tests them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import erf, lambertw, poch

PEAK = float(-0.5 - lambertw(-0.5 * np.exp(-0.5), -1).real)
"""root of exp(x) = 1 + 2x: 1.2564"""
NEGLIGIBLE = 1e-9  # of the largest eigenvalue: such components say nothing of a slope
EQUAL = 1e-18  # squared spread of log lambda that is none
EARLY, LATE = 1e-4, 100.0  # tau lambda^2 of the largest and the smallest component where a scan starts and ends
A_DECADE = 16
ZOOMS, FINER = 6, 8  # each of ZOOMS times the steps of tau become FINER times finer
TOGETHER = 32  # profiles that are fitted at once


class Fit(NamedTuple):
    """The formula s_i(tau) nearest to a profile."""

    tau: np.ndarray
    correlation: np.ndarray
    fitted: np.ndarray
    """c s_i(tau), float64 (..., d)"""


class Labels(NamedTuple):
    """Of b = mean over images of average patch times label."""

    mean: np.ndarray
    """(d,)"""
    covariance: np.ndarray
    """(d, d)"""


class Energies(NamedTuple):
    """Over networks, float64 (d,) each; NaN where it is not finite."""

    squared: np.ndarray
    """E e_i^2 of the filters less the initial ones"""
    raw_squared: np.ndarray
    """E e_i^2 of the filters themselves"""
    mean: np.ndarray
    """E e_i of the filters less the initial ones, if initial weights and b are Gaussian (or fixed)"""


def whitening(tau: float | np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """The formula s_i(tau), (..., d) for tau (...); 0 where an eigenvalue (d,) is 0. A fit to trained networks."""
    some = np.where(np.asarray(eigenvalues) > 0, eigenvalues, 1.0)
    found = -np.expm1(-np.asarray(tau, dtype=np.float64)[..., None] * some) / np.sqrt(some)
    return np.where(np.asarray(eigenvalues) > 0, found, 0.0)


def peak(tau: float) -> float:
    """The eigenvalue at which the formula is largest; exact."""
    return PEAK / tau


def fit(profiles: np.ndarray, eigenvalues: np.ndarray) -> Fit:
    """The tau whose s_i(tau) correlates best with profiles (..., d), and c s_i(tau) with the c of least squares.

    tau is found to about 1e-6 of itself, less well near the limits, where the correlation hardly depends on it; a
    profile that is best described by a limit gets an end of the range, about 1e-4 over the largest eigenvalue or 100
    over the smallest. All is NaN for a profile that is constant or not finite.
    """
    profiles, eigenvalues = _float64(profiles), _float64(eigenvalues)
    flat, grid = _standard(profiles.reshape(-1, profiles.shape[-1])), _grid(eigenvalues)
    shapes = _standard(whitening(np.exp(grid), eigenvalues))
    best = [_best(flat[i : i + TOGETHER], grid, shapes, eigenvalues) for i in range(0, max(len(flat), 1), TOGETHER)]
    tau, correlation = np.concatenate(best, axis=1).reshape(2, *profiles.shape[:-1])
    return Fit(tau, correlation, _scaled(whitening(tau, eigenvalues), profiles))


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's over the last axis: the consistency of two profiles; NaN where either is constant or not finite."""
    return np.clip((_standard(_float64(a)) * _standard(_float64(b))).sum(-1), -1, 1)


def slope(profiles: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """Slope (...) of log e_i on log lambda_i by least squares: 1 early, -1 late where the formula holds.

    Components count whose eigenvalue is above 1e-9 of the largest and whose energy is not 0; NaN if fewer than two.
    """
    profiles, eigenvalues = _float64(profiles), _float64(eigenvalues)
    counts = (eigenvalues > NEGLIGIBLE * eigenvalues.max()) & (profiles != 0)
    x, y = np.log(np.where(counts, eigenvalues, 1.0)) / 2, np.log(np.where(counts, profiles, 1.0))
    x = np.where(counts, x - x.sum(-1, keepdims=True) / np.maximum(counts.sum(-1, keepdims=True), 1), 0)
    spread = (x * x).sum(-1)
    with np.errstate(invalid="ignore"):
        found = (x * y).sum(-1) / np.where(spread > EQUAL, spread, np.nan)
    return np.where(np.isfinite(found), found, np.nan)


def permuted(
    averages: np.ndarray, values: np.ndarray, q: float = 0.0, replaced_mean: float = 0.0, replaced_variance: float = 0.0
) -> Labels:
    """Labels are `values` (n,) in uniformly random order, average patches (n, d) centred; then as in `noisy`. Exact.

    Labels have a common variance and, two by two, the covariance -(1-q)^2 var(values)/(n-1).
    """
    n, d = averages.shape
    given = np.var(values)
    variance = (1 - q) * given + q * replaced_variance + q * (1 - q) * (values.mean() - replaced_mean) ** 2
    spread = variance + (1 - q) ** 2 * given / (n - 1)
    return Labels(np.zeros(d), spread * (averages.T @ averages) / n**2)


def noisy(averages: np.ndarray, values: np.ndarray, q: float, replaced_mean: float, replaced_variance: float) -> Labels:
    """Each of the labels `values` (n,) is replaced with probability q by one of that mean and variance. Exact.

    Its mean is (1-q) y + q mean, its variance q variance + q (1-q) (y - mean)^2, and labels are independent.
    """
    n, wrong = len(averages), q * replaced_variance + q * (1 - q) * (values - replaced_mean) ** 2
    expected = (1 - q) * values + q * replaced_mean
    return Labels(expected @ averages / n, (averages.T * wrong) @ averages / n**2)


def planted(averages: np.ndarray, beta: np.ndarray, signal: float, noise_variance: float) -> Labels:
    """Labels are signal (beta . p) and independent noise. Exact."""
    A = averages.T @ averages / len(averages)
    return Labels(signal * A @ beta, noise_variance * A / len(averages))


def law1(start: np.ndarray, A: np.ndarray, b: np.ndarray, learning_rate: float, steps: int) -> np.ndarray:
    """Filters (K, d) after `steps` of gradient descent from `start` (K, d). Exact."""
    a, V = _spectrum(A)
    K, mean = len(start), start.mean(0) @ V
    with np.errstate(all="ignore"):
        _, gone, rate = _powers(2 * learning_rate * K, a, steps)
        return start + (rate / K * (b @ V) - gone * mean) @ V.T


def energies(
    averages: np.ndarray,
    basis: np.ndarray,
    labels: Labels,
    filters: int,
    start_variance: float,
    learning_rate: float,
    steps: int,
) -> Energies:
    """Expected energies of the linear network along the columns of `basis` (d, d), in any orthonormal basis.

    Squares are exact in expectation; `mean` is if b is Gaussian, as it nearly is for many images.
    """
    a, V = _spectrum(averages.T @ averages / len(averages))
    u = V.T @ basis
    with np.errstate(all="ignore"):
        kept, gone, rate = _powers(2 * learning_rate * filters, a, steps)
        Mu, each = (rate / filters)[:, None] * u, start_variance / filters * u**2
        learned = labels.mean @ V @ Mu
        spread = np.maximum((Mu * (V.T @ labels.covariance @ V @ Mu)).sum(0), 0)
        start, raw_start = gone**2 @ each, (filters - 1 + kept**2) @ each
        mean = _folded(learned, spread + start)
    found = learned**2 + spread
    return Energies(*(np.where(np.isfinite(x), x, np.nan) for x in (found + start, found + raw_start, mean)))


def fluctuation(m: int) -> float:
    """Standard deviation over mean of chi_m/sqrt(m): of the energy that m independent label directions give a component
    with random labels, whatever the number of images. Exact for Gaussian b; .7555 for one direction."""
    mean = np.sqrt(2) * poch(m / 2, 0.5)
    return float(np.sqrt(m - mean**2) / mean)


def _float64(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float64)


def _spectrum(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, V = np.linalg.eigh(A)
    return np.maximum(a, 0), V


def _powers(h: float, a: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(1 - h a)^t, what it lacks of 1, and that over a, which is h t at a = 0."""
    small = h * a < 0.5  # elsewhere 1 - h a is exact
    exponent = steps * np.log1p(-np.where(small, h * a, 0))
    large = (1 - np.where(small, 0, h * a)) ** steps
    gone = np.where(small, -np.expm1(exponent), 1 - large)
    return np.where(small, np.exp(exponent), large), gone, np.where(a > 0, gone / np.where(a > 0, a, 1), h * steps)


def _folded(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """E |x| of Gaussian x."""
    ratio = np.abs(mean) / np.sqrt(np.where(variance > 0, 2 * variance, 1))
    found = np.sqrt(2 * variance / np.pi) * np.exp(-(ratio**2)) + np.abs(mean) * erf(ratio)
    return np.where(variance == 0, np.abs(mean), found)


def _standard(values: np.ndarray) -> np.ndarray:
    """Centred and of length 1 over the last axis; NaN where constant or not finite."""
    low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
    fine = np.isfinite(low) & np.isfinite(high) & (low < high)
    scale = np.where(fine, np.maximum(np.abs(low), np.abs(high)), 1.0)
    found = np.where(fine, values, np.nan) / scale
    found -= found.mean(-1, keepdims=True)
    return found / np.sqrt((found * found).sum(-1, keepdims=True))


def _grid(eigenvalues: np.ndarray) -> np.ndarray:
    """Logarithms of the tau to be tried."""
    top = eigenvalues.max()
    if not top > 0:
        return np.zeros(2)
    first, last = EARLY / top, LATE / eigenvalues[eigenvalues > NEGLIGIBLE * top].min()
    return np.linspace(np.log(first), np.log(last), int(A_DECADE * np.log10(last / first)) + 2)


def _best(profiles: np.ndarray, grid: np.ndarray, shapes: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """tau and the correlation it gives (2, profiles) with profiles of `_standard`; those of the grid are `shapes`."""
    rows, places, step = np.arange(len(profiles)), np.tile(grid, (len(profiles), 1)), np.ptp(grid) / (len(grid) - 1)
    found = np.nan_to_num((profiles[:, None] * shapes).sum(-1), nan=-2)
    for _ in range(ZOOMS):
        near = places[rows, found.argmax(1), None] + step * np.linspace(-1, 1, 2 * FINER + 1)
        places, step = np.clip(near, grid[0], grid[-1]), step / FINER
        shapes = _standard(whitening(np.exp(places), eigenvalues))
        found = np.nan_to_num((profiles[:, None] * shapes).sum(-1), nan=-2)
    best = found.max(1)
    return np.where(best < -1.5, np.nan, [np.exp(places[rows, found.argmax(1)]), np.clip(best, -1, 1)])


def _scaled(shapes: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """c times `shapes`, nearest to the profiles."""
    length = (shapes * shapes).sum(-1, keepdims=True)
    return (shapes * profiles).sum(-1, keepdims=True) / np.where(length > 0, length, np.nan) * shapes
