"""Non-negative least squares in a few dimensions, compiled: projections on the cone of some generators.

    min |t - sum_k lambda_k g_k|,  lambda >= 0

by the active set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23). With w the rest of t,
the generator of largest <w, g> is taken in; where the least squares solution on those taken has negative weights, one
goes toward it as far as weights allow and leaves out what became 0. The taken ones are kept as an orthonormal basis,
Gram-Schmidt twice, not as a Gram matrix, whose Cholesky factor would lose generators closer than 1e-8 to dependent.
Then the part of t in their span and the rest are both exact to rounding, however small.

Where rounding alone made <w, g> positive a generator is passed over until another is taken. Rounding could also have
the method take and leave out the same ones for ever: so it ends once neither |w| is less nor the part in the span more
than ever before; and after `ROUNDS` times as many rounds as there are generators, telling |t| for both, which bounds
them.

By Moreau the projection on {x: <x, g_k> <= 0 for all k} is the rest w.
"""

from __future__ import annotations

import numpy as np

from sweeps.compiled import compiled

TOLERANCE = 1e-12
"""<w, g> above this times |w| is positive; a generator that near to a subspace lies in it."""
ROUNDS = 10


@compiled
def dot(a, b, count):
    """The product of the first entries."""
    total = 0.0
    for q in range(count):
        total += a[q] * b[q]
    return total


@compiled
def _split(vector, base, rank, shares, rest):
    """A vector's coordinates in an orthonormal base[:rank], and what remains of it."""
    n = len(vector)
    for q in range(n):
        rest[q] = vector[q]
    for k in range(rank):
        shares[k] = 0.0
    for _ in range(2):  # twice, for the roundings
        for k in range(rank):
            share = dot(base[k], rest, n)
            shares[k] += share
            for q in range(n):
                rest[q] -= share * base[k, q]


@compiled
def _extend(generators, taken, start, stop, base, factor):
    """An orthonormal base of the taken generators from one of base[:start]; how many are in it.

    A generator's coordinates are its row of the factor. One in the span of those before it ends the base.
    """
    n = generators.shape[1]
    for k in range(start, stop):
        _split(generators[taken[k]], base, k, factor[k], base[k])
        length = np.sqrt(dot(base[k], base[k], n))
        if length <= TOLERANCE:
            return k
        for q in range(n):
            base[k, q] /= length
        factor[k, k] = length
    return stop


@compiled
def _solve(factor, along, rank, solution):
    """Weights of the taken generators in the target's projection on their span."""
    for k in range(rank - 1, -1, -1):
        solution[k] = along[k]
        for j in range(k + 1, rank):
            solution[k] -= factor[j, k] * solution[j]
        solution[k] /= factor[k, k]


@compiled
def _step(weights, solution, rank):
    """Go from the weights toward the solution as far as none is negative; the first that became 0, or -1."""
    share, found = 1.0, -1
    for k in range(rank):
        if solution[k] <= 0 and weights[k] <= share * (weights[k] - solution[k]):
            share, found = weights[k] / (weights[k] - solution[k]), k
    for k in range(rank):
        weights[k] = weights[k] + share * (solution[k] - weights[k]) if found >= 0 else solution[k]
    if found >= 0:
        weights[found] = 0.0
    return found


@compiled
def _leave(taken, weights, rank, passed):
    """Keep the taken generators of positive weight: how many, and how many before the first that left."""
    kept, same = 0, 0
    for k in range(rank):
        if weights[k] > 0:
            taken[kept], weights[kept] = taken[k], weights[k]
            same += kept == k
            kept += 1
        else:
            passed[taken[k]] = False
    return kept, same


@compiled
def _steepest(generators, rest, passed):
    """The generator of largest <rest, g> that was not passed over; -1 where none is positive."""
    n = len(rest)
    best, found = TOLERANCE * np.sqrt(dot(rest, rest, n)), -1
    for k in range(len(generators)):
        if not passed[k]:
            slope = dot(generators[k], rest, n)
            if slope > best:
                best, found = slope, k
    return found


@compiled
def _pass_over(passed, taken, rank):
    for k in range(len(passed)):
        passed[k] = False
    for k in range(rank):
        passed[taken[k]] = True


@compiled
def projections(generators, targets):
    """Lengths of the projections on cones, and of what is left: two times float64 (cones, targets).

    `generators` (cones, k, n) have length 1; `targets` (cones, targets, n) each have that cone. Both are contiguous.
    """
    cones, count, n = generators.shape
    lengths, rests = np.empty(targets.shape[:2]), np.empty(targets.shape[:2])
    base, factor, along, rest = np.empty((n, n)), np.empty((n, n)), np.empty(n), np.empty(n)
    weights, solution = np.empty(n), np.empty(n)
    taken, passed = np.empty(n, np.int64), np.empty(count, np.bool_)
    for pair in range(cones * targets.shape[1]):
        c, t = pair // targets.shape[1], pair % targets.shape[1]
        whole = np.sqrt(dot(targets[c, t], targets[c, t], n))
        lengths[c, t], rests[c, t], most, least = whole, whole, -1.0, np.inf
        rank, start = 0, 0
        _pass_over(passed, taken, 0)
        for _ in range(ROUNDS * count):
            rank = _extend(generators[c], taken, start, rank, base, factor)
            _split(targets[c, t], base, rank, along, rest)
            _solve(factor, along, rank, solution)
            if rank > 0 and weights[rank - 1] == 0:
                if solution[rank - 1] <= 0:  # rounding alone made <w, g> positive
                    rank = start = rank - 1
                    continue
                _pass_over(passed, taken, rank)
            if _step(weights, solution, rank) >= 0:
                rank, start = _leave(taken, weights, rank, passed)
                continue
            length, left = np.sqrt(dot(along, along, rank)), np.sqrt(dot(rest, rest, n))
            further = length > most or left < least
            k = _steepest(generators[c], rest, passed) if further and rank < n else -1
            if k < 0:
                lengths[c, t], rests[c, t] = length, left
                break
            most, least = max(most, length), min(least, left)
            passed[k], taken[rank], weights[rank] = True, k, 0.0
            rank, start = rank + 1, rank
    return lengths, rests
