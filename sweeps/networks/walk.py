"""Every place where the activation pattern changes along straight or broken lines, exactly.

A path runs through P >= 2 points, straight from one to the next; its place t in [0, P - 1] is i at point i. The walk
goes layer by layer and keeps rows: the places where an earlier layer bends, and the layer's values there. These are
affine between rows, so a neuron crosses zero at most once between two (Sotoudeh & Thakur, "Computing Linear
Restrictions of Neural Networks", NeurIPS 2019), and where it does a row is added for the next layer.
    - Rows go through a dense layer or a convolution as one product.
    - A crossing found at the very layer before a dense one bends its values by a multiple of one weight vector only,
      so its new row follows from the neighbours by two updates instead.
    - A maximum over pixels adds rows where another pixel becomes the largest.

Signs at rows decide everything. Between rows a bit is 1 where one of the two values is positive, and flips
at the crossing if the other is negative. Values below TOLERANCE of the largest they could be are exactly 0, so
neurons that vanish on a whole stretch and paths through the origin come out as in exact arithmetic. Every sum has a
fixed order and fused multiply-adds: a path gives the same bits on every machine, alone or among others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sweeps.compiled import compiled
from sweeps.networks.curves import add_lengths
from sweeps.networks.layered import ACTIVATION, AFFINE, CONVOLUTION, DENSE, MAX_POOL
from sweeps.networks.path_rows import (
    activated,
    affine,
    bent,
    convolved,
    crossings,
    grown,
    largest,
    no_cuts,
    overtakings,
    places,
    pooled,
    snap,
)
from sweeps.networks.sparse_product import fill_panels, from_line, panel_size

GROWTH = 1024


class Flips(NamedTuple):
    """In any order; the first `number` entries."""

    places: np.ndarray
    codes: np.ndarray
    """2 neuron + 1 where the bit becomes 1, 2 neuron where it becomes 0; neurons numbered through the hidden layers"""
    paths: np.ndarray
    number: int


class Walks(NamedTuple):
    """What paths meet."""

    flips: Flips
    arcs: np.ndarray
    """(paths, layers): spherical lengths of the curves of hidden activations"""
    lengths: np.ndarray
    """(paths, layers): Euclidean lengths"""
    finite: np.ndarray
    """(paths,) whether the network, the points and all values are"""


@compiled
def sizes(row):
    """Fan-in, parameters and panels of a layer, given its row of `Layered.program`."""
    kind, channels, rows, cols, outputs, side = row[0], row[1], row[2], row[3], row[4], row[5]
    if kind in (DENSE, CONVOLUTION):
        fan_in = channels * rows * cols if kind == DENSE else channels * side * side
        return fan_in, (fan_in + 1) * outputs, panel_size(fan_in, outputs)
    return 0, 2 * channels if kind == AFFINE else 0, 0


@compiled
def walk_paths(program, slope, networks, of_network, points, which, together, layers, room):
    """Walks of the paths `which` (paths,) of `points` (..., P, inputs) in packed networks; those of one network follow
    on one another, and as many as `together` are walked at once. The program ends with an activation. Curves of the
    first so many hidden `layers` are measured.

    `room` is where panels are laid out, (panels_size(program) + LINE,), made by numpy, which asks for large pages.
    """
    paths = len(which)
    found = Flips(np.empty(GROWTH), np.empty(GROWTH, np.int64), np.empty(GROWTH, np.int64), np.int64(0))  # pyright: ignore[reportArgumentType]
    out = Walks(found, np.zeros((paths, layers)), np.zeros((paths, layers)), np.zeros(paths, np.bool_))
    start, packed = 0, from_line(room)
    while start < paths:
        network, stop = of_network[which[start]], start
        while stop < paths and of_network[which[stop]] == network:
            stop += 1
        if fill(program, networks[network], packed):
            for first in range(start, stop, together):
                last = min(first + together, stop)
                out.finite[first:last] = True
                found = _walk(program, slope, networks[network], packed, points, which, first, last, found, out)
        start = stop
    return Walks(found, out.arcs, out.lengths, out.finite)


@compiled
def panels_size(program):
    total = 0
    for row in program:
        total += sizes(row)[2]
    return total


@compiled
def fill(program, network, packed):
    """Lay out all layers' panels, one behind the other; whether all parameters that the program uses are finite."""
    at = offset = 0
    for row in program:
        fan_in, parameters, size = sizes(row)
        if size:
            fill_panels(network, offset, fan_in, row[4], packed, at)
        at += size
        offset += parameters
    broken = 0
    for j in range(offset):
        broken += not abs(network[j]) < np.inf
    return broken == 0


@compiled
def _walk(program, slope, network, packed, points, which, first, last, found, out):
    """Walk some paths of one network: arcs and lengths are filled in, the flips come back behind those found."""
    t, of, X, scale = _start(points, which, first, last)
    finite, arcs, lengths = out.finite[first:last], out.arcs[first:last], out.lengths[first:last]
    check(scale, X, of, finite)
    cuts, behind, pending = no_cuts(len(t)), 1.0, False  # an activation's, of which only signs are known so far
    offset = at = numbered = layer = np.int64(0)
    for row in program:
        kind, shape = row[0], (row[1], row[2], row[3])
        fan_in, parameters, size = sizes(row)
        split = offset + (row[1] if kind == AFFINE else fan_in * row[4])
        W, b, panels = network[offset:split], network[split : offset + parameters], packed[at : at + size]
        if pending and kind != DENSE:
            X = activated(X, cuts, behind)
            t, of = places(t, of, cuts)
            cuts, behind, pending = no_cuts(len(t)), 1.0, False
        if kind == ACTIVATION:
            snap(X, of, scale)
            cuts, behind, pending = crossings(X, of, slope), slope, True
            found = record(found, t, of, X, cuts, first, numbered)
            if layer < arcs.shape[1]:
                add_lengths(X, of, cuts, slope, scale, arcs, lengths, layer)
            scale = largest(X, of, slope, last - first)
            numbered += X.shape[1]
            layer += 1
        elif kind in (DENSE, CONVOLUTION):
            shape, side = ((fan_in, 1, 1), 1) if kind == DENSE else (shape, row[5])
            X, scale = convolved(X, scale, behind, W, b, panels, shape, side, row[6])
            if pending:
                X = bent(X, W, cuts)
                t, of = places(t, of, cuts)
                cuts, behind, pending = no_cuts(len(t)), 1.0, False
        elif kind == AFFINE:
            affine(X, W, b, row[2] * row[3], False)
            affine(scale, W, b, row[2] * row[3], True)
        else:
            if kind == MAX_POOL:
                corners = overtakings(X, of, scale, shape)
                X = activated(X, corners, 1.0)
                t, of = places(t, of, corners)
                cuts = no_cuts(len(t))
            X, scale = pooled(X, shape, kind == MAX_POOL), pooled(scale, shape, kind == MAX_POOL)
        check(scale, X, of, finite)
        offset += parameters
        at += size
    return found


@compiled
def _start(points, which, first, last):
    P, inputs = points.shape[1], points.shape[2]
    rows = (last - first) * P
    t, of, X = np.empty(rows), np.empty(rows, np.int64), np.empty((rows, inputs))
    scale = np.zeros((last - first, inputs))
    for i in range(rows):
        of[i], t[i] = i // P, i % P
        for j in range(inputs):
            X[i, j] = x = points[which[first + i // P], i % P, j]
            scale[of[i], j] = max(scale[of[i], j], abs(x)) if np.isfinite(x) else np.inf
    return t, of, X, scale


@compiled
def check(scale, X, of, finite):
    """Empty the rows of paths where something is not finite, so that they get no further and harm no others."""
    sound = True
    for p in range(scale.shape[0]):
        broken = 0
        for j in range(scale.shape[1]):
            broken += not scale[p, j] < np.inf
        if broken:
            sound = finite[p] = False
            for j in range(scale.shape[1]):
                scale[p, j] = 0.0
    if sound:
        return
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            X[i, j] = X[i, j] if finite[of[i]] else 0.0


@compiled
def record(found, t, of, Z, cuts, first, numbered):
    """Found flips and those of one layer, whose paths are numbered from `first` and its neurons from `numbered`."""
    rows, m = Z.shape
    more = cuts.first[rows - 1] + zeros(Z)
    at, codes = found.number, grown(found.codes, found.number, more)
    where, paths = grown(found.places, found.number, more), grown(found.paths, found.number, more)
    for i in range(rows - 1):
        for k in range(cuts.first[i], cuts.first[i + 1]):
            where[at] = t[i] + cuts.fraction[k] * (t[i + 1] - t[i])
            codes[at], paths[at] = 2 * (numbered + cuts.neuron[k]) + cuts.rises[k], first + of[i]
            at += 1
    if more == cuts.first[rows - 1]:
        return Flips(where, codes, paths, at)
    for i in range(1, rows - 1):
        if (of[i - 1] != of[i]) | (of[i] != of[i + 1]):
            continue
        for j in range(m):
            if Z[i, j] == 0 and (Z[i - 1, j] > 0) != (Z[i + 1, j] > 0):
                where[at], codes[at], paths[at] = t[i], 2 * (numbered + j) + (Z[i + 1, j] > 0), first + of[i]
                at += 1
    return Flips(where, codes, paths, at)


@compiled
def zeros(Z):
    count = 0
    for i in range(Z.shape[0]):
        for j in range(Z.shape[1]):
            count += Z[i, j] == 0
    return count
