"""Non-negative least squares in a few dimensions, compiled: projections on the cone of some generators.

    min |t - sum_k lambda_k g_k|,  lambda >= 0

by the active set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23). With w the rest of t,
the generator of largest <w, g> is taken in; where the least squares solution on those taken has negative weights, one
goes toward it as far as weights allow and leaves out what became 0. The taken ones are kept as an orthonormal basis,
Gram-Schmidt twice, not as a Gram matrix, whose Cholesky factor would lose generators closer than 1e-8 to dependent.
Then the part of t in their span and the rest are both exact to rounding, however small.

Where a generator is within rounding of the span of those taken it is passed over until the next is taken. Rounding may
make the method take and leave out the same generators for ever: it ends after `ROUNDS` times as many rounds as there
are generators, with weights that are feasible.

By Moreau the projection on {x: <x, g_k> <= 0 for all k} is the rest w.
"""

from __future__ import annotations

import numpy as np

from sweeps.compiled import compiled

TOLERANCE = 1e-12
"""<w, g> above this times |w| is positive; a generator that near to a subspace lies in it."""
ROUNDS = 4


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
def _take(generator, base, factor, rank):
    """Whether base[:rank] could be extended by a generator; its coordinates are row `rank` of the factor."""
    n = len(generator)
    _split(generator, base, rank, factor[rank], base[rank])
    length = np.sqrt(dot(base[rank], base[rank], n))
    if length <= TOLERANCE:
        return False
    for q in range(n):
        base[rank, q] /= length
    factor[rank, rank] = length
    return True


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
    """Go from the weights toward the solution as far as none is negative; whether all the way."""
    share, first = 1.0, -1
    for k in range(rank):
        if solution[k] <= 0 and weights[k] <= share * (weights[k] - solution[k]):
            share, first = weights[k] / (weights[k] - solution[k]), k
    for k in range(rank):
        weights[k] += share * (solution[k] - weights[k])
    if first >= 0:
        weights[first] = 0.0
    return first < 0


@compiled
def _leave(generators, taken, weights, rank, base, factor):
    """Keep the taken generators of positive weight, in their order, and their base anew: how many."""
    kept = 0
    for k in range(rank):
        if weights[k] > 0 and _take(generators[taken[k]], base, factor, kept):
            taken[kept], weights[kept] = taken[k], weights[k]
            kept += 1
    return kept


@compiled
def _next(generators, rest, passed):
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
def project(generators, target, rest):
    """The length of the projection of `target` (n,) on the cone of `generators` (k, n), all of length 1.

    What remains of the target is written to `rest` (n,).
    """
    count, n = generators.shape
    base, factor, along = np.empty((n, n)), np.empty((n, n)), np.empty(n)
    weights, solution = np.empty(n), np.empty(n)
    taken, passed = np.empty(n, np.int64), np.zeros(count, np.bool_)
    rank = 0
    _split(target, base, rank, along, rest)
    for _ in range(ROUNDS * count):
        k = _next(generators, rest, passed)
        if k < 0 or rank == n:
            break
        passed[k] = True
        if not _take(generators[k], base, factor, rank):
            continue
        along[rank] = dot(base[rank], rest, n)
        _solve(factor, along, rank + 1, solution)
        if solution[rank] <= 0:  # rounding alone made <w, g> positive
            continue
        taken[rank], weights[rank] = k, 0.0
        rank += 1
        _split(target, base, rank, along, rest)
        while not _step(weights, solution, rank):
            rank = _leave(generators, taken, weights, rank, base, factor)
            _split(target, base, rank, along, rest)
            _solve(factor, along, rank, solution)
        _pass_over(passed, taken, rank)
    return np.sqrt(dot(along, along, rank))
