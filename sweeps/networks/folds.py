"""Folds of a ReLU network along a straight segment: every breakpoint, exactly, without sampling.

The activation pattern of a point holds one bit a hidden neuron, 1 where its pre-activation is positive. Along
a segment the pattern changes at finitely many places; with pi_1, pi_2, ... the patterns met and d_H Hamming's
distance,
    r1 = max_i d_H(pi_1, pi_i),   r2 = sum_i d_H(pi_i, pi_{i+1}),   chi = 1 - r1/r2  (0 where r2 = 0).
Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, "On Space Folds of ReLU Neural Networks", TMLR 2025.

The walk goes layer by layer and keeps rows: the places t in [0, 1] where an earlier layer breaks, and the
layer's pre-activations there. They are affine between rows, so a neuron crosses zero at most once between two
(Sotoudeh & Thakur, "Computing Linear Restrictions of Neural Networks", NeurIPS 2019). For the next layer
    - a row is multiplied by the weights: O(N^2);
    - a crossing found at this very layer bends the next pre-activations by a multiple of one weight vector
      only, so its new row follows from the neighbours by two updates: O(N).
A breakpoint so costs its first full product only two layers on.

Signs at rows decide everything. Between rows a bit is 1 where one of the two values is positive, and flips
at the crossing if the other is negative. Values below TOLERANCE of the largest they could be are exactly 0,
and flips less than TOLERANCE of the segment apart are one transition, so neurons that vanish on a whole
stretch and segments through the origin come out as in exact arithmetic. Every sum has a fixed order and fused
multiply-adds: a network gives the same bits on every machine, alone or among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sweeps.compiled import compiled
from sweeps.networks.sparse_product import fma, sparse_product

TOLERANCE = 1e-12


class Fold(NamedTuple):
    """What a segment meets; NaN throughout if the network or an end point is not finite."""

    chi: float
    r1: float
    r2: float
    breakpoints: float
    """places where the pattern changes; r2 less the flips that coincide"""


def fold(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], start, end) -> Fold:
    """The fold of the segment from `start` to `end`; hidden layers only, weights (out, in), biases (out,)."""
    flat, widths, ends = pack(weights, biases, start, end)
    return Fold(*fold_many(flat[None], widths, ends[None])[0].tolist())


def flips(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], start, end):
    """Every flip in order: places in [0, 1] and neurons, numbered through the layers; (flips,) each.

    Raises:
        ValueError: the network or an end point is not finite.
    """
    places, neurons, finite = _walk(*pack(weights, biases, start, end))
    if not finite:
        raise ValueError("the network or an end point is not finite")
    return places, neurons


def pack(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], start, end):
    """One network as the kernel wants it: each layer's transposed weights, then its biases, in one row."""
    parts = [np.ravel(part) for W, b in zip(weights, biases, strict=True) for part in (np.transpose(W), b)]
    widths = np.array([np.shape(weights[0])[1], *(len(b) for b in biases)])
    return np.concatenate(parts).astype(np.float64), widths, np.array([start, end], dtype=np.float64)


@compiled
def fold_many(networks, widths, ends):
    """Folds (networks, 4) of packed float64 networks (networks, size) on end points (networks, 2, in)."""
    out = np.full((len(networks), 4), np.nan)
    for i in range(len(networks)):
        places, neurons, finite = _walk(networks[i], widths, ends[i])
        if finite:
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = _ranges(places, neurons, widths[1:].sum())
    return out


@compiled
def _ranges(places, neurons, total):
    """(chi, r1, r2, breakpoints) of flips in order of place."""
    changed = np.zeros(total, np.bool_)  # against the first pattern
    before = np.zeros(total, np.bool_)  # the same, before this transition
    r1, r2, breakpoints, distance = 0, 0, 0, 0
    i = 0
    while i < len(places):
        stop = i + 1
        changed[neurons[i]] ^= True
        while stop < len(places) and places[stop] - places[stop - 1] <= TOLERANCE:
            changed[neurons[stop]] ^= True
            stop += 1
        step = 0
        for k in range(i, stop):
            j = neurons[k]
            if changed[j] != before[j]:
                before[j] = changed[j]
                step += 1
                distance += 1 if changed[j] else -1
        r1 = max(r1, distance)
        r2 += step
        breakpoints += step > 0
        i = stop
    return (1 - r1 / r2 if r2 else 0.0), r1, r2, breakpoints


@compiled
def _walk(network, widths, ends):
    """All flips of a packed network: places in order, neurons, and whether every number was finite."""
    places, neurons = np.empty(0), np.empty(0, np.int64)
    t = np.array([0.0, 1.0])
    H = ends
    crossings = _no_crossings(len(t))
    offset, numbered = 0, 0
    for layer in range(1, len(widths)):
        n, m = widths[layer - 1], widths[layer]
        W = network[offset : offset + n * m].reshape(n, m)
        b = network[offset + n * m : offset + (n + 1) * m]
        tolerance = TOLERANCE * _largest(H, W, b)
        if not np.isfinite(tolerance.sum() + ends.sum()):
            return places, neurons, False
        t, Z = _insert(t, sparse_product(H, W, b), W, crossings)
        _snap(Z, tolerance)
        crossings = _find_crossings(Z)
        zero_row, zero_neuron = _flips_at_rows(Z)
        interval, neuron, fraction, _, _ = crossings
        inside = t[interval] + fraction * (t[interval + 1] - t[interval])
        places = np.concatenate((places, inside, t[zero_row]))
        neurons = np.concatenate((neurons, neuron + numbered, zero_neuron + numbered))
        H = np.maximum(Z, 0.0)
        offset += (n + 1) * m
        numbered += m
    order = np.argsort(places, kind="mergesort")
    return places[order], neurons[order], True


@compiled
def _largest(H, W, b):
    """Largest absolute value each next pre-activation could take, given the hidden rows H (rows, n)."""
    most = np.zeros(len(W))
    for i in range(len(H)):
        for k in range(len(W)):
            most[k] = max(most[k], abs(H[i, k]))
    bound = np.abs(b)
    for k in range(len(W)):
        for j in range(len(b)):
            bound[j] += abs(W[k, j]) * most[k]
    return bound


@compiled
def _snap(Z, tolerance):
    for i in range(Z.shape[0]):
        for j in range(Z.shape[1]):
            Z[i, j] = Z[i, j] if abs(Z[i, j]) > tolerance[j] else 0.0


@compiled
def _no_crossings(rows):
    nothing = np.empty(0, np.int64)
    return nothing, nothing, np.empty(0), np.empty(0), np.zeros(rows, np.int64)


@compiled
def _find_crossings(Z):
    """Zeros between rows: interval, neuron, place in it, change of slope; and the first of each interval.

    Sorted by interval and place. ReLU bends by |z_1 - z_0| whichever way the neuron crosses.
    """
    rows, m = Z.shape
    first = np.zeros(rows, np.int64)
    for i in range(rows - 1):
        count = 0
        for j in range(m):
            count += (Z[i, j] > 0) & (Z[i + 1, j] < 0) | (Z[i, j] < 0) & (Z[i + 1, j] > 0)
        first[i + 1] = first[i] + count
    total = first[rows - 1]
    interval, neuron = np.empty(total, np.int64), np.empty(total, np.int64)
    fraction, bend = np.empty(total), np.empty(total)
    for i in range(rows - 1):
        lo, hi = first[i], first[i + 1]
        if lo == hi:
            continue
        at = lo
        for j in range(m):
            z0, z1 = Z[i, j], Z[i + 1, j]
            if (z0 > 0) & (z1 < 0) | (z0 < 0) & (z1 > 0):
                interval[at], neuron[at], fraction[at], bend[at] = i, j, z0 / (z0 - z1), abs(z1 - z0)
                at += 1
        if hi - lo > 1:
            order = lo + np.argsort(fraction[lo:hi], kind="mergesort")
            neuron[lo:hi], fraction[lo:hi], bend[lo:hi] = neuron[order], fraction[order], bend[order]
    return interval, neuron, fraction, bend, first


@compiled
def _flips_at_rows(Z):
    """Neurons exactly 0 at a row and positive on one side of it only: (rows, neurons)."""
    rows, neurons = [], []
    for i in range(1, len(Z) - 1):
        zeros = 0
        for j in range(Z.shape[1]):
            zeros += Z[i, j] == 0
        if zeros:
            for j in range(Z.shape[1]):
                if Z[i, j] == 0 and (Z[i - 1, j] > 0) != (Z[i + 1, j] > 0):
                    rows.append(i)
                    neurons.append(j)
    return np.array(rows, np.int64), np.array(neurons, np.int64)


@compiled
def _insert(t, Z, W, crossings):
    """Rows with the previous layer's crossings among them: places (rows,), pre-activations (rows, m)."""
    _, neuron, fraction, bend, first = crossings
    rows, m = Z.shape
    places = np.empty(rows + len(neuron))
    out = np.empty((rows + len(neuron), m))
    slope = np.empty(m)
    for i in range(rows):
        at = i + first[i]
        places[at] = t[i]
        out[at] = Z[i]
        if i == rows - 1 or first[i] == first[i + 1]:
            continue
        slope[:] = Z[i + 1] - Z[i]
        for k in range(first[i], first[i + 1]):
            _add(slope, -bend[k] * (1 - fraction[k]), W[neuron[k]])
        done = 0.0
        for k in range(first[i], first[i + 1]):
            at += 1
            places[at] = t[i] + fraction[k] * (t[i + 1] - t[i])
            out[at] = out[at - 1]
            _add(out[at], fraction[k] - done, slope)
            _add(slope, bend[k], W[neuron[k]])
            done = fraction[k]
    return places, out


@compiled
def _add(z, a, x):
    for j in range(len(z)):
        z[j] = fma(a, x[j], z[j])  # pyright: ignore[reportCallIssue]
