"""Geometry of k images in a convolutional network with Gaussian weights, sampled without the weights.

Let H (channels, P) be activations at the P = k rows cols places of all images, and G = H^T H/channels. The next layer's
filters are, given H, independent: the P pre-activations of each are a draw of a Gaussian of covariance

    C = weight_variance box(G) + bias_variance,    box(G)[p, q] = mean over the side^2 shifts d of G[p + d, q + d],

p + d wrapping round the image, or G being 0 outside it. So a layer costs one normal for each filter and place, and
N P^2 operations instead of N^2 side^2 P.

As in `gram`, the places of the first image are carried as they are, and those of the others as differences from the
first, which keep their relative precision; a bias is then in the first image's block of C alone. C is scaled to a
diagonal of ones and factored by Cholesky's method in the order of the places. Where C has not full rank, as in a
first layer of few channels, it is factored with pivoting (LAPACK's pstrf), which stops when no place has more than
P x 2.2e-16 of its variance left, and costs as many normals as its rank. All in float64; layer l draws the normals of
tensor l, (row of the factor, filter). Lengths are carried as in `gram`; an image that dies where no bias can wake it is
left out of C.

Networks are computed one at a time, in arrays of one shape, so that a network's bits are its own.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from scipy.linalg.blas import dgemm, dsyrk, dtrmm  # pyright: ignore[reportAttributeAccessIssue]
from scipy.linalg.lapack import dpotrf, dpstrf  # pyright: ignore[reportAttributeAccessIssue]

from sweeps.compiled import compiled
from sweeps.networks import activations
from sweeps.networks.activations import LIMIT, activate_row, difference_row
from sweeps.networks.architecture import Architecture, Geometry, lane_within
from sweeps.networks.gram import dot, pairs, square_of_sum
from sweeps.randomness import normals
from sweeps.statistic import Networks


def sample(images: np.ndarray, of_network: np.ndarray, networks: Networks, architecture: Architecture) -> Geometry:
    """Geometry (networks, depth, ...) of the sets of k `images` (sets, k, channels, rows, cols), network i seeing set
    `of_network[i]`; the law of the weights must be gaussian."""
    n, k, depth = len(networks), images.shape[1], architecture.depth
    out = Geometry(np.empty((n, depth, k)), *np.empty((2, n, depth, k * (k - 1) // 2)))
    for i in range(n):
        _network(images[of_network[i]], networks.keys[i : i + 1], networks.draws[i : i + 1], architecture, out, i)
    return out


def seconds(architecture: Architecture, k: int, image: tuple[int, int, int]) -> float:
    """Of a network with k images (channels, rows, cols), on one core."""
    a, shapes = architecture, architecture.shapes(image)
    total = 0.0
    for channels, rows, cols in shapes[:-1]:
        P = k * rows * cols
        covariance = P**2 * (3e-11 * channels + 3e-9 * a.side + 3e-11 * P)
        total += 3e-4 + covariance + a.width * P * (3e-11 * P + 1e-8 + activations.seconds(a) / 2)
    return total


def launch_bytes(architecture: Architecture, k: int, image: tuple[int, int, int]) -> int:
    """That a network needs at once; networks are computed one at a time, so a launch needs no more."""
    P = k * image[1] * image[2]
    return 8 * P * (4 * P + 4 * max(architecture.width, image[0]))


def lane(architecture: Architecture, k: int, image: tuple[int, int, int]) -> int:
    """Networks a launch, a power of two; their bits do not depend on it."""
    return lane_within(2**28, launch_bytes(architecture, k, image), 16)


def _network(images: np.ndarray, keys, draws, a: Architecture, out: Geometry, i: int) -> None:
    k = len(images)
    own, how = a.homogeneous, activations.code(a)
    log_w, log_b = (0.5 * math.log(v) if v > 0 else -math.inf for v in (a.weight_variance, a.bias_variance))
    H = np.ascontiguousarray(images.transpose(0, 2, 3, 1), dtype=np.float64)  # (k, rows, cols, channels)
    H[1:] -= H[0]
    alive, discarded = np.ones(k, bool), np.empty(k * (k - 1) // 2)
    rescaled = partial(_rescaled, alive=alive, own=own, woken=a.bias_variance > 0)
    H, log_scale = rescaled(H, np.zeros(k), np.empty(k), discarded, discarded)
    for layer in range(a.depth):
        places = H.shape[:3]
        if own:
            weight, bias = 1.0, 0.0
            log_scale = log_scale + log_w
        else:
            largest = max(log_scale[0] + log_w, log_b)
            largest = 0.0 if largest == -math.inf else largest  # nothing is left
            weight, bias = math.exp(2 * (log_scale[0] + log_w - largest)), math.exp(2 * (log_b - largest))
            log_scale = np.full(k, largest)
        C = _covariance(H, a.side, a.padding == "circular", weight, bias)
        H = _draw(C, keys, draws, layer, a.width).reshape(*places, a.width)
        log_scale = _activate(H.reshape(k, -1, a.width), log_scale, *how)
        if layer < a.pool_layers:
            H = _pooled(H, a.pool == "max")
        H, log_scale = rescaled(H, log_scale, *(values[i, layer] for values in out))


def _covariance(H: np.ndarray, side: int, wrap: bool, weight: float, bias: float) -> np.ndarray:
    """C (P, P), from activations (k, rows, cols, channels)."""
    k, rows, cols, channels = H.shape
    G = dsyrk(weight / (channels * side**2), H.reshape(-1, channels).T, trans=1, lower=1).T
    C = _box(G, k, rows, cols, side, wrap)
    C[: rows * cols, : rows * cols] += bias
    return C


@compiled
def _box(G, k, rows, cols, side, wrap):
    """Sums over shifts of both places, of a symmetric matrix of which the upper triangle is given."""
    P, half = len(G), side // 2
    for p in range(P):
        for q in range(p):
            G[p, q] = G[q, p]
    if side == 1:
        return G
    T, C = np.zeros((P, P)), np.zeros((P, P))
    for p in range(P):
        image, a, b = p // (rows * cols), p // cols % rows, p % cols
        for d in range(-half, half + 1):
            if not (wrap or 0 <= a + d < rows):
                continue
            row = G[(image * rows + (a + d) % rows) * cols + b]
            for other in range(k):
                for a2 in range(rows):
                    if wrap or 0 <= a2 + d < rows:
                        to, start = (other * rows + a2) * cols, (other * rows + (a2 + d) % rows) * cols
                        for b2 in range(cols):
                            T[p, to + b2] += row[start + b2]
    for p in range(P):
        b = p % cols
        for d in range(-half, half + 1):
            if not (wrap or 0 <= b + d < cols):
                continue
            row = T[p - b + (b + d) % cols]
            for line in range(0, P, cols):
                for b2 in range(cols):
                    if 0 <= b2 + d < cols:
                        C[p, line + b2] += row[line + b2 + d]
                    elif wrap:
                        C[p, line + b2] += row[line + (b2 + d) % cols]
    return C


def _draw(C: np.ndarray, keys, draws, tensor: int, width: int) -> np.ndarray:
    """`width` draws of a Gaussian of covariance C, (P, width); C is spent."""
    P = len(C)
    deviation = np.sqrt(C.diagonal())
    inverse = np.divide(1, deviation, out=np.zeros(P), where=deviation > 0)
    C *= inverse[:, None]
    C *= inverse
    np.fill_diagonal(C, 1)  # also of places where nothing is, whose deviation is 0
    L, indefinite = dpotrf(C.T, lower=1)
    if indefinite or L.diagonal().min() ** 2 < P * np.finfo(float).eps:
        np.fill_diagonal(C, deviation > 0)
        L, order, rank, _ = dpstrf(C.T, lower=1, overwrite_a=1)
        order = order - 1
    else:
        order, rank = np.arange(P), P
    L *= deviation[order, None]
    g = normals(keys, draws, tensor, rank * width).reshape(rank, width).astype(np.float64)
    top = dtrmm(1.0, L[:rank, :rank], g.T, side=1, lower=1, trans_a=1, overwrite_b=rank == P).T
    if rank == P:
        return top
    Z = np.empty((P, width))
    Z[order[:rank]] = top
    Z[order[rank:]] = dgemm(1.0, g.T, L[rank:, :rank], trans_b=1).T
    return Z


@compiled
def _activate(H, log_scale, code, slope, degree, bounded):
    """Activations in place of pre-activations (k, pixels, width), and the scales they have then."""
    s = math.exp(min(max(log_scale[0], -LIMIT), LIMIT))
    z = np.empty(H.shape[2])
    for p in range(H.shape[1]):
        z[:] = H[0, p]
        activate_row(H[0, p], s, code, slope)
        for j in range(1, len(H)):
            difference_row(H[j, p], z, H[0, p], s, code, slope)
    return degree * np.minimum(log_scale, LIMIT if bounded else np.inf)


@compiled
def _pooled(H, largest):
    """2 x 2 pooling of stride 2, of (k, rows, cols, width); a last odd row or column is left out."""
    k, rows, cols, width = H.shape
    out = np.empty((k, rows // 2, cols // 2, width))
    for a in range(rows // 2):
        for b in range(cols // 2):
            for i in range(width):
                if not largest:
                    for j in range(k):
                        out[j, a, b, i] = 0.25 * (
                            (H[j, 2 * a, 2 * b, i] + H[j, 2 * a, 2 * b + 1, i])
                            + (H[j, 2 * a + 1, 2 * b, i] + H[j, 2 * a + 1, 2 * b + 1, i])
                        )
                    continue
                first = 0
                for at in range(1, 4):
                    if H[0, 2 * a + at // 2, 2 * b + at % 2, i] > H[0, 2 * a + first // 2, 2 * b + first % 2, i]:
                        first = at
                x = H[0, 2 * a + first // 2, 2 * b + first % 2, i]
                out[0, a, b, i] = x
                for j in range(1, k):
                    best = H[j, 2 * a + first // 2, 2 * b + first % 2, i]  # of the differences from x
                    for at in range(4):
                        u, v = 2 * a + at // 2, 2 * b + at % 2
                        best = max(best, (H[0, u, v, i] - x) + H[j, u, v, i])
                    out[j, a, b, i] = best
    return out


def _rescaled(
    H: np.ndarray, log_scale: np.ndarray, *geometry: np.ndarray, alive: np.ndarray, own: bool, woken: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Activations of mean square one, each image's or that of the longest, and their scales; fills in the geometry.

    An image that is not `alive` stands where the first one does, and counts as zero; so does, from now on, one that is
    zero, unless it may be `woken`.
    """
    flat = H.reshape(len(H), -1)
    unit, square = np.empty_like(flat), np.empty(len(H))
    _unit(flat, alive, square, unit)
    pairs(unit, square, *geometry[1:])
    with np.errstate(divide="ignore"):
        logs = np.log(square)
    geometry[0][:] = np.where(square > 0, 2 * log_scale + logs, np.nan)
    if not woken:
        alive &= square > 0
        flat[1:][~alive[1:]] = 0
    if own:
        unit *= math.sqrt(flat.shape[1])
        return unit.reshape(H.shape), log_scale + np.where(square > 0, 0.5 * logs, 0)
    if (longest := square.max()) > 0:
        flat /= math.sqrt(longest)
    return H, log_scale + 0.5 * logs.max()


@compiled
def _unit(H, alive, square, unit):
    """Unit vectors along those of H (k, n) that are alive, else 0, and their mean squares; all but the first are less
    the first, in H and in `unit`."""
    k, n = H.shape
    square[0] = dot(H[0], H[0])
    first = math.sqrt(square[0])
    unit[0] = H[0] / (first if first > 0 else 1.0)
    for j in range(1, k):
        square[j] = square_of_sum(H[0], H[j]) if alive[j] else 0.0
        length = math.sqrt(square[j])
        if length == 0:
            unit[j] = 0
        elif first == 0:
            unit[j] = H[j] / length
        else:
            excess = (2 * dot(H[0], H[j]) + dot(H[j], H[j])) / square[0]  # of the squared lengths' ratio
            share = excess / (1 + length / first)
            for e in range(n):
                unit[j, e] = (H[j, e] - share * H[0, e]) / length
    square /= n
