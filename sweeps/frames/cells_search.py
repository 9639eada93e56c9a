"""Flats of hyperplanes within the unit ball, depth first: the enumeration behind sweeps.frames.cells.

A node is a flat, where k of the hyperplanes <x, phi_i> = b_i vanish. Kept for it are x0, its point nearest to the
origin, and for every row that *crosses* it, vanishing somewhere on it inside the ball, <x0, phi_i> and what of phi_i
is along the flat. A row that does not cross it crosses no flat in it, so it is counted once, if positive, and
forgotten. |x0| only grows on the way down, and so does that count: a branch ends where the count reaches the best one
known, where a *wall*, one of the rows behind the first m, is negative throughout, and at lines, on which the crossings
are sorted: the flats are then C(m, n-1) instead of the C(m, n) vertices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sweeps.compiled import compiled

NEAR = 1e-9
"""A row of which less than this is along a flat is constant there."""

ZERO = np.int64(0)  # functions are compiled anew for a literal


class Levels(NamedTuple):
    """What is kept of the flats from the whole space, level 0, to the one being looked at."""

    member: np.ndarray  # (levels, rows): which rows cross the flat, ascending
    height: np.ndarray  # (levels, rows): <x0, phi_i> - b_i
    along: np.ndarray  # (levels, rows, n): what of phi_i is along the flat
    length: np.ndarray  # (levels, rows): its length
    size: np.ndarray  # (levels,): how many rows cross it
    on: np.ndarray  # (levels,): how many of the rest are positive
    foot: np.ndarray  # (levels, n): x0
    square: np.ndarray  # (levels,): |x0|^2


def levels(rows: np.ndarray, bias: np.ndarray) -> Levels:
    """Room for the flats of rows float64 (m, n), and at level 0 all of them."""
    m, n = rows.shape
    real, along, number = np.zeros((n, m)), np.zeros((n, m, n)), np.zeros(n, np.int64)
    member = np.repeat(np.arange(m)[None], n, axis=0)
    real[0], along[0] = -bias, rows
    return Levels(member, real, along, real.copy(), number, number.copy(), np.zeros((n, n)), np.zeros(n))


@compiled
def _keep_crossing(at, k, count, m):
    """Sort `count` rows just written to level k; whether no wall is negative throughout its flat."""
    n = at.foot.shape[1]
    reach = np.sqrt(max(0.0, 1 - at.square[k]))
    kept = 0
    for p in range(count):
        i, height, square = at.member[k, p], at.height[k, p], 0.0
        for q in range(n):
            square += at.along[k, p, q] * at.along[k, p, q]
        length = np.sqrt(square)
        if length > NEAR and abs(height) < reach * length:
            at.member[k, kept], at.height[k, kept], at.length[k, kept] = i, height, length
            for q in range(n):
                at.along[k, kept, q] = at.along[k, p, q]
            kept += 1
        elif i < m:
            at.on[k] += height > 0
        elif height <= 0:
            return False
    at.size[k] = kept
    return True


@compiled
def _descend(at, k, p, m):
    """Level k + 1: where the row at place p of level k vanishes too; whether no wall is negative throughout."""
    n, length = at.foot.shape[1], at.length[k, p]
    step = -at.height[k, p] / length
    at.on[k + 1], at.square[k + 1] = at.on[k], at.square[k] + step * step
    for q in range(n):
        at.foot[k + 1, q] = at.foot[k, q] + step * at.along[k, p, q] / length
    count = ZERO
    for other in range(at.size[k]):
        if other == p:
            continue
        slope = 0.0
        for q in range(n):
            slope += at.along[k, other, q] * at.along[k, p, q]
        slope /= length
        at.member[k + 1, count] = at.member[k, other]
        at.height[k + 1, count] = at.height[k, other] + step * slope
        for q in range(n):
            at.along[k + 1, count, q] = at.along[k, other, q] - slope / length * at.along[k, p, q]
        count += 1
    return _keep_crossing(at, k + 1, count, m)


@compiled
def _on_flat(at, k, inner, none):
    """Count beside a flat, or its points |x| = inner if it has some; `none` where rows cross them."""
    if at.square[k] >= inner * inner:
        return at.on[k] if at.size[k] == 0 else none
    reach, count = np.sqrt(inner * inner - at.square[k]), at.on[k]
    for p in range(at.size[k]):
        if abs(at.height[k, p]) < reach * at.length[k, p]:
            return none
        count += at.height[k, p] > 0
    return count


@compiled
def _cross(at, k, m, crossing, rises):
    """Sort where rows vanish on a line, x0 plus the first crossing row's direction times `crossing`.

    Returns how many rows do, and the ends of where no wall is negative. `rises` says which become positive there.
    """
    found, low, high = 0, -2.0, 2.0
    for p in range(at.size[k]):
        product = 0.0
        for q in range(at.foot.shape[1]):
            product += at.along[k, p, q] * at.along[k, 0, q]
        slope = at.length[k, p] if product > 0 else -at.length[k, p]
        where = -at.height[k, p] / slope
        if at.member[k, p] >= m:
            low, high = (max(low, where), high) if slope > 0 else (low, min(high, where))
            continue
        place = found
        while place > 0 and crossing[place - 1] > where:
            crossing[place], rises[place] = crossing[place - 1], rises[place - 1]
            place -= 1
        crossing[place], rises[place] = where, slope > 0
        found += 1
    return found, low, high


@compiled
def _on_segment(count, crossing, rises, found, low, high, best):
    """(count, middle) of the first interval between two crossings, and `low` and `high`, of fewest active rows."""
    for c in range(found):
        count += not rises[c]
    where, before = 0.0, low
    for c in range(found + 1):
        after = high if c == found else min(crossing[c], high)
        if after >= before and count < best:
            best, where = count, (before + after) / 2
        if c == found or crossing[c] >= high:
            break
        before = max(before, crossing[c])
        count += 1 if rises[c] else -1
    return best, where


@compiled
def _on_line(at, k, m, inner, crossing, rises, best):
    """(count, where) of the fewest active rows beside the part of a line in K, the count `best` if that is not less."""
    found, low, high = _cross(at, k, m, crossing, rises)
    outer = np.sqrt(max(0.0, 1 - at.square[k]))
    low, high = max(low, -outer), min(high, outer)
    if at.square[k] >= inner * inner:
        return _on_segment(at.on[k], crossing, rises, found, low, high, best)
    gap = np.sqrt(inner * inner - at.square[k])
    first, where = _on_segment(at.on[k], crossing, rises, found, low, -gap, best)
    second, there = _on_segment(at.on[k], crossing, rises, found, gap, high, first)
    return (second, there) if second < first else (first, where)


@compiled
def search(at, m, inner, best, stop, subset, point):
    """The least count below `best`, or `best`, and the size of the `subset` (n-1,) that vanishes there.

    `at` are the levels of rows of length 1, the first m of which count, and their biases, all in units of the ball's
    radius; K is |x| = 1 where inner = 1, else inner <= |x| <= 1. The first count of at most `stop` ends the search.
    `point` (n,) is on the flat, and in K but where no row crosses the flat and |x0| < inner: then it is x0.
    """
    rows, n = at.height.shape[1], at.foot.shape[1]
    chosen, place = np.zeros(n, np.int64), np.zeros(n, np.int64)
    crossing, rises = np.zeros(rows), np.zeros(rows, np.bool_)
    _keep_crossing(at, ZERO, rows, m)
    k, entered, size = ZERO, True, ZERO
    while k >= 0:
        if entered:
            where, line = 0.0, k == n - 1 and at.size[k] > 0
            if line:
                count, where = _on_line(at, k, m, inner, crossing, rises, best)
            else:
                count = _on_flat(at, k, inner, m + 1)
            if count < best:
                best, size = count, k
                for q in range(k):
                    subset[q] = chosen[q]
                for q in range(n):
                    point[q] = at.foot[k, q] + (where * at.along[k, 0, q] / at.length[k, 0] if line else 0.0)
                if best <= stop:
                    break
        entered = False
        if k == n - 1 or at.on[k] >= best or place[k] == at.size[k]:
            k -= 1
            continue
        p = place[k]
        place[k] += 1
        if k > 0 and at.member[k, p] < chosen[k - 1]:
            continue
        chosen[k] = at.member[k, p]
        if _descend(at, k, p, m):
            k, entered = k + 1, True
            place[k] = 0
    return best, size
