"""Folding of wide random networks along a path: chords against arcs.

Activations are max(z, 0) + s min(z, 0). Weights have variance sigma_w^2 over the fan-in, biases sigma_b^2, and widths
N_1, ..., N_L go to infinity in fixed proportions. A neuron of layer l sees the input as a vector
    u_l = (sigma_w h_(l-1)/sqrt(N_(l-1)), sigma_b)
and its bit differs at two inputs with probability chord/pi, the chord being the angle of their u_l; along a path it
flips arc/pi times on average, the arc being the spherical length of u_l's curve (Crofton). Layers average over many
neurons, so
    r2 = sum_l N_l arc_l/pi,    r1 = max over the path of sum_l N_l chord_l/pi,    chi = 1 - r1/r2,
with the chord from the first point. A limit, exact at no width; what is exact is in `folding_exact`.

Chords follow the kernel map (`duals`; Neal 1996, Cho and Saul 2009): |h_l|^2/N_l = c |u_l|^2 with c = (1 + s^2)/2, and
the angle theta of two u_l becomes arccos kappa(theta), kappa = cos(theta) + w g(theta), g(t) = sin t - t cos t.

Arcs have a closed form. g(t) = t^3/3 + ... is of third order, so an activation changes no small angle to first order:
the spherical speed stays, and c scales the length. Hence |u_l'|^2 is multiplied by G = c sigma_w^2 at every layer, and
|u_l|^2 = G |u_(l-1)|^2 + sigma_b^2: u_l moves as the input itself with a larger bias,
    arc_l = angle of (sigma_w x, B_l) and (sigma_w y, B_l),    B_l^2 = sigma_b^2 (1 + 1/G + ... + G^(1-l)),
on each straight piece, x and y its ends over sqrt(n). Without biases it is the angle of x and y at every layer, for
every slope, and folding is the contraction of chords. With biases arc and chord both shrink; along a whole line every
arc is pi, so that a layer of N neurons breaks N times (Hanin and Rolnick, ICML 2019: linear in the neurons).

Seen at n equally spaced points only, the arc is replaced by the sum of the chords between consecutive points.

The bits of one layer alone give chi_l = 1 - max chord_l/arc_l. Orthogonal weights have the same limit: few entries of a
large uniform orthogonal matrix are nearly Gaussian.

r1, r2 and chi are from Lewandowski et al., TMLR 2025 (arXiv 2502.09954); the limit was derived here, and simulation
tests it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sweeps.theory import duals
from sweeps.theory.folding_exact import lifted

CHUNK = 2048  # places of a path that are in memory at once
GRID = 512  # intervals a straight piece on which the largest distance is looked for


@dataclass(frozen=True)
class Law:
    """How weights and biases are drawn, and the activation's slope below zero."""

    weight_variance: float = 2.0
    """times the fan-in"""
    bias_variance: float = 0.0
    slope: float = 0.0


HE = Law()


class WideFold(NamedTuple):
    """Of wide networks, float64 (depth,) each."""

    chi: np.ndarray
    """of the bits of layers 1 to l, as r1 and r2 are"""
    r1: np.ndarray
    r2: np.ndarray
    chi_by_layer: np.ndarray
    """of the bits of layer l alone"""
    chords: np.ndarray
    """between the first point and the last, radians, before the activation of layer l"""
    arcs: np.ndarray
    """spherical length before the activation of layer l; of a sampled path, the sum of its chords"""


def segment(angle: float, norms: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Points (2, 2) of root mean squares `norms` at `angle`."""
    directions = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    return np.sqrt(2) * np.asarray(norms)[:, None] * directions


def wide_folds(widths: Sequence[int], points: np.ndarray, law: Law = HE, samples: int | None = None) -> WideFold:
    """Folding of a polyline through `points` (P, inputs), as a wide network sees it; P >= 2.

    With `samples` the path is seen at as many points, equally spaced from piece to piece: the i-th at place
    (P - 1) i/(samples - 1). An interior largest distance is found to about 1e-6.
    """
    points, N = np.asarray(points, dtype=np.float64), np.asarray(widths, dtype=np.float64)[:, None]
    pieces, depth = len(points) - 1, len(N)
    places = np.linspace(0, pieces, samples or GRID * pieces + 1)
    length, r1, farthest, last = np.zeros((4, depth))
    for first in range(0, len(places) - 1, CHUNK):
        path = _along(points, places[first : first + CHUNK + 1])
        away = chords(depth, points[:1], path, law)  # (depth, places)
        r1 = np.maximum(r1, np.cumsum(N * away, axis=0).max(1) / np.pi)
        farthest, last = np.maximum(farthest, away.max(1)), away[:, -1]
        length = length + (chords(depth, path[:-1], path[1:], law).sum(1) if samples else 0)
    length = length if samples else arcs(depth, points, law)
    r2 = np.cumsum(N[:, 0] * length) / np.pi
    return WideFold(_chi(r1, r2), r1, r2, _chi(farthest, length), last, length)


def chords(depth: int, x: np.ndarray, y: np.ndarray, law: Law = HE) -> np.ndarray:
    """Angles (depth, ...) of the pre-activations at inputs x and y (..., inputs), before every activation."""
    a, b = (np.sqrt((z * z).mean(-1)) for z in (x, y))
    theta, found = _angle(x, y), []
    weight, bias = np.sqrt(law.weight_variance), np.sqrt(law.bias_variance)
    kept = np.sqrt((1 + law.slope**2) / 2)
    kind = "abs" if law.slope == -1 else "leaky-relu"
    for _ in range(depth):
        a, b, theta = lifted(weight * a, weight * b, theta, bias)
        found.append(theta)
        a, b, theta = kept * a, kept * b, duals.angle(kind, 0.0, 0.0, theta, law.slope)
    return np.stack(found)


def arcs(depth: int, points: np.ndarray, law: Law = HE) -> np.ndarray:
    """Spherical lengths (depth,) of the pre-activations along the polyline through `points` (P, inputs)."""
    gain = law.weight_variance * (1 + law.slope**2) / 2
    biases = np.zeros(depth)
    if law.bias_variance > 0:
        biases = np.sqrt(law.bias_variance * np.cumsum(gain ** -np.arange(depth, dtype=np.float64)))
    norms = np.sqrt(law.weight_variance * (points * points).mean(1))
    theta = _angle(points[:-1], points[1:])
    return np.array([lifted(norms[:-1], norms[1:], theta, bias)[2].sum() for bias in biases])


def wide_fold(
    widths: Sequence[int], angle: float, law: Law = HE, norms: tuple[float, float] = (1.0, 1.0)
) -> dict[str, float]:
    """chi, r1 and r2 of a wide network along a segment with ends of root mean squares `norms` at `angle`."""
    found = wide_folds(widths, segment(angle, norms), law)
    return {"chi": float(found.chi[-1]), "r1": float(found.r1[-1]), "r2": float(found.r2[-1])}


def sampled_chi(
    widths: Sequence[int], angle: float, samples: int, law: Law = HE, norms: tuple[float, float] = (1.0, 1.0)
) -> float:
    """The chi of a wide network that `samples` equally spaced points of the segment would show."""
    return float(wide_folds(widths, segment(angle, norms), law, samples).chi[-1])


def _chi(r1: np.ndarray, r2: np.ndarray) -> np.ndarray:
    return np.where(r2 == 0, 0, 1 - r1 / np.where(r2 == 0, 1, r2))


def _along(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    piece = np.minimum(places.astype(int), len(points) - 2)
    share = (places - piece)[:, None]
    return (1 - share) * points[piece] + share * points[piece + 1]


def _angle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    norms = (np.sqrt((z * z).sum(-1, keepdims=True)) for z in (x, y))
    u, v = (z / np.where(norm > 0, norm, 1) for z, norm in zip((x, y), norms, strict=True))
    return 2 * np.arctan2(np.sqrt(((u - v) ** 2).sum(-1)), np.sqrt(((u + v) ** 2).sum(-1)))
