"""Angles of vectors, without the cancellation of 1 - cos near 0 and near pi.

For unit vectors u, v, with d = |u - v| and t = |u + v|,
    tan(theta/2) = d/t,    cos(theta) = (t^2 - d^2)/(t^2 + d^2).
Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", 2006.

Sums are in float64: on a CPU in loops of their own, which add in one order wherever a vector lies, on a GPU by torch.
Functions of numbers are numpy's: the last bit of torch's depends on a number's place in its array.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sweeps.compiled import compiled


def squares(vectors: Tensor) -> np.ndarray:
    """Squared lengths (lane, k), float64, of float32 vectors (lane, k, size)."""
    if vectors.device.type == "cpu":
        return _squares(vectors.contiguous().numpy())
    return (torch.linalg.vector_norm(vectors, dim=2, dtype=torch.float64) ** 2).cpu().numpy()


def of_pairs(vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(cosine, angle in radians), float64 (lane, pairs), of float32 vectors (lane, k, size); NaN where one is zero."""
    first, second = np.triu_indices(vectors.shape[1], 1)
    if vectors.device.type == "cpu":
        array = vectors.contiguous().numpy()
        difference, total = _differences(array, _squares(array), first, second)
    else:
        unit = vectors.to(torch.float64)
        unit = unit / (unit * unit).sum(-1, keepdim=True).sqrt()
        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        difference, total = (
            torch.stack([(unit[:, p] + sign * unit[:, q]).square().sum(-1) for p, q in pairs], 1).cpu().numpy()
            for sign in (-1, 1)
        )
    with np.errstate(invalid="ignore"):
        return (total - difference) / (total + difference), 2 * np.arctan2(np.sqrt(difference), np.sqrt(total))


@compiled
def _squares(vectors):
    out = np.empty(vectors.shape[:2])
    for i in range(vectors.shape[0]):
        for p in range(vectors.shape[1]):
            x = vectors[i, p]
            s0 = s1 = s2 = s3 = 0.0  # four sums, for which LLVM has vectors
            whole = len(x) // 4 * 4
            for e in range(0, whole, 4):
                s0 += np.float64(x[e]) ** 2
                s1 += np.float64(x[e + 1]) ** 2
                s2 += np.float64(x[e + 2]) ** 2
                s3 += np.float64(x[e + 3]) ** 2
            for e in range(whole, len(x)):
                s0 += np.float64(x[e]) ** 2
            out[i, p] = (s0 + s1) + (s2 + s3)
    return out


@compiled
def _differences(vectors, squares, first, second):
    """Squared lengths (lane, pairs) of differences and of sums of the unit vectors of pairs."""
    difference = np.empty((len(vectors), len(first)))
    total = np.empty((len(vectors), len(first)))
    for i in range(len(vectors)):
        for pair in range(len(first)):
            p, q = first[pair], second[pair]
            difference[i, pair] = total[i, pair] = np.nan
            if squares[i, p] == 0 or squares[i, q] == 0:
                continue
            x, y = vectors[i, p], vectors[i, q]
            a, b = 1 / np.sqrt(squares[i, p]), 1 / np.sqrt(squares[i, q])
            d0 = d1 = d2 = d3 = t0 = t1 = t2 = t3 = 0.0
            whole = len(x) // 4 * 4
            for e in range(0, whole, 4):
                d0 += (a * x[e] - b * y[e]) ** 2
                d1 += (a * x[e + 1] - b * y[e + 1]) ** 2
                d2 += (a * x[e + 2] - b * y[e + 2]) ** 2
                d3 += (a * x[e + 3] - b * y[e + 3]) ** 2
                t0 += (a * x[e] + b * y[e]) ** 2
                t1 += (a * x[e + 1] + b * y[e + 1]) ** 2
                t2 += (a * x[e + 2] + b * y[e + 2]) ** 2
                t3 += (a * x[e + 3] + b * y[e + 3]) ** 2
            for e in range(whole, len(x)):
                d0 += (a * x[e] - b * y[e]) ** 2
                t0 += (a * x[e] + b * y[e]) ** 2
            difference[i, pair] = (d0 + d1) + (d2 + d3)
            total[i, pair] = (t0 + t1) + (t2 + t3)
    return difference, total
