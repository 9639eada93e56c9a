"""Inputs of a deep ReLU network without biases for which few neurons of a layer are active: upper bounds on k_i*.

z_0 = x, z_i = ReLU(A_i z_{i-1}), h_i = A_i z_{i-1}. For each layer in turn, Metropolis annealing of its number of
active neurons by flips: a neuron of this layer or of one before, drawn at random, is pushed across zero,
    x <- x - (h + d) g / |g|^2,    g the gradient of its pre-activation h in x, d small and of the sign of h.
A move to c more active neurons is accepted with probability p^c; p falls from FIRST to LAST by the same factor in every
stage. Layer 1 starts at x = -A_1^T (1, ..., 1), every other layer at the best input of the layer before.

Any input is an upper bound. A neuron counts as active unless its pre-activation is below zero by more than
MARGIN of the layer's largest, far above any rounding, so the bounds are certain. Sums, products and square roots of
float64 alone decide, so that a walk is the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sweeps.compiled import compiled
from sweeps.randomness import philox

STAGES, FIRST, LAST = 64, 0.4, 0.01
FALL = 0.943128  # (LAST / FIRST)^(1 / 63), written out so that no machine's power function decides
OVERSHOOT = 0.1  # largest d, in root mean squares of the layer's pre-activations
MARGIN = 1e-10
_UNIT, _HIGH = 2.0**-32, np.uint64(32)


@njit(inline="always")
def _starts(widths):
    """Where each layer's weights begin."""
    starts = np.zeros(len(widths) - 1, np.int64)
    for i in range(1, len(starts)):
        starts[i] = starts[i - 1] + widths[i - 1] * widths[i]
    return starts


@compiled
def _forward(columns, starts, widths, layers, x, h):
    """Pre-activations h (layers, widest) of the first layers; how many neurons of the last may be active."""
    for i in range(layers):
        m = widths[i + 1]
        h[i, :m] = 0
        for k in range(widths[i]):
            z = x[k] if i == 0 else max(h[i - 1, k], 0.0)
            if z != 0:
                row = starts[i] + k * m
                for j in range(m):
                    h[i, j] += z * columns[row + j]
    last = h[layers - 1, : widths[layers]]
    return (last > -MARGIN * np.abs(last).max()).sum()


@compiled
def _gradient(rows, starts, widths, layer, j, h, g, spare):
    """The gradient in x of one pre-activation, in g; |g|^2."""
    before = widths[layer]
    g[:before] = rows[starts[layer] + j * before : starts[layer] + (j + 1) * before]
    for i in range(layer - 1, -1, -1):
        before = widths[i]
        spare[:before] = 0
        for k in range(widths[i + 1]):
            if h[i, k] > 0:
                row = starts[i] + k * before
                for q in range(before):
                    spare[q] += g[k] * rows[row + q]
        g[:before] = spare[:before]
    square = 0.0
    for q in range(before):
        square += g[q] * g[q]
    return square


@njit(inline="always")
def _drawn(word, widths, layers):
    """A neuron of the first layers, each with the same probability: (layer, neuron)."""
    neuron = np.int64((np.uint64(word) * np.uint64(widths[1 : layers + 1].sum())) >> _HIGH)
    layer = 0
    while neuron >= widths[layer + 1]:
        neuron -= widths[layer + 1]
        layer += 1
    return layer, neuron


@njit(inline="always")
def _moved(x, step, g, out):
    """x - step g, scaled to length 1."""
    length = 0.0
    for q in range(len(x)):
        out[q] = x[q] - step * g[q]
        length += out[q] * out[q]
    for q in range(len(x)):
        out[q] /= np.sqrt(length)


@compiled
def _anneal(columns, rows, widths, layers, x, moves, tensor, key, draw):
    """Least number of neurons of layer `layers` that may be active; x, the start, becomes an input with so few."""
    starts, widest = _starts(widths), widths.max()
    h, new = np.zeros((layers, widest)), np.zeros((layers, widest))
    g, spare, here, there = np.empty(widest), np.empty(widest), x.copy(), np.empty_like(x)
    count = _forward(columns, starts, widths, layers, here, h)
    best, keep, stage = count, FIRST, 0
    for move in range(moves):
        while stage < move * STAGES // moves:
            keep *= FALL
            stage += 1
        w = philox(move, tensor, draw, draw >> _HIGH, key, key >> _HIGH)
        layer, j = _drawn(w[0], widths, layers)
        square = _gradient(rows, starts, widths, layer, j, h, g, spare)
        if square == 0:
            continue
        size = np.sqrt((h[layer, : widths[layer + 1]] ** 2).sum() / widths[layer + 1])
        step = h[layer, j] + np.copysign(OVERSHOOT * size * _UNIT * w[1], h[layer, j])
        _moved(here, step / square, g, there)
        changed = _forward(columns, starts, widths, layers, there, new)
        chance = 1.0
        for _ in range(changed - count):
            chance *= keep
        if _UNIT * w[2] < chance:
            here, there, h, new, count = there, here, new, h, changed
            if count < best:
                best, x[:] = count, here
    return best


@compiled
def search(columns, rows, widths, moves, tensor, keys, draws):
    """Upper bounds on k_i*, int64 (networks, layers), and inputs that have them (networks, layers, n).

    `widths` (layers + 1,) begins with the inputs; `columns` and `rows` (networks, size) hold the layers, (m_{i-1}, m_i)
    and (m_i, m_{i-1}). `moves` are tried a layer, with the words of tensors `tensor`, `tensor` + 1, ... of the draws.
    """
    layers, n = len(widths) - 1, widths[0]
    bounds, inputs = np.empty((len(keys), layers), np.int64), np.empty((len(keys), layers, n))
    for k in range(len(keys)):
        x = np.zeros(n)
        for j in range(widths[1]):
            x -= rows[k, j * n : (j + 1) * n]
        x /= np.sqrt((x * x).sum())
        for i in range(layers):
            bounds[k, i] = _anneal(columns[k], rows[k], widths, i + 1, x, moves, tensor + i, keys[k], draws[k])
            inputs[k, i] = x
    return bounds, inputs
