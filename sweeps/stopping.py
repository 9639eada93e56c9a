"""When a point has been drawn often enough: as soon as the interval of an outcome is narrow.

A point is looked at after whole batches only, in batch order, and what follows is a function of the spec and of the
moments of those batches. Who measured them, and when, cannot change it.

The first look comes after `min_draws` draws; the next ones where the width is predicted to reach the goal, as it
shrinks like one over the root of the number of draws. An interval made for a number of draws fixed beforehand is right
at a number that the draws decide in the limit of narrow intervals only (Chow, Robbins, Ann. Math. Statist. 1965; Glynn,
Whitt, Ann. Appl. Probab. 1992). Short of it, harm is done early, where few draws underestimate a variance: hence
`min_draws`. docs/precision.md has the coverage.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import ndtri

from sweeps.intervals import interval
from sweeps.moments import Moments

MARGIN = 1.02  # draws beyond the predicted ones, so that the look after the last but one is mostly the last
GROWTH = 2.0  # at most twice the draws between looks, so that one wild early width cannot order the maximum


class Until(BaseModel):
    """The precision at which a point stops."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    outcome: str = Field(description="the outcome whose interval is looked at, in every entry of its dimensions")
    halfwidth: float = Field(gt=0, strict=True, description="half of high - low of the interval, at most")
    confidence: float = Field(0.95, gt=0, lt=1, strict=True, description="probability that the interval holds the mean")
    min_draws: int = Field(256, ge=2, le=2**40, strict=True, description="defined draws before any decision")
    guarantee: Literal["fixed", "anytime"] = Field("fixed", description="anytime: a confidence sequence, for any stop")


def tuned_to(until: Until, kind: str) -> int:
    """The `anytime` of `interval` for outcomes of this kind: the draws at which it is tightest; 0 for "fixed".

    No function of the largest number of draws, which an extension may raise. An interval tuned too early widens like
    the root of a logarithm, one tuned too late is useless before. Proportions: the geometric middle of z^2 / 2 h and
    z^2 / 4 h^2, which a half-width h takes at p = 0 and 1/2. Others, of unknown scale: four times `min_draws`.
    """
    if until.guarantee == "fixed":
        return 0
    least = 4 * until.min_draws
    if kind != "proportion":
        return least
    z, h = float(ndtri((1 + until.confidence) / 2)), max(until.halfwidth, 2.0**-40)
    return max(least, int(min(z * z / (8 * h**3) ** 0.5, 2**40)))


def first_look(until: Until, draws_per_batch: int, batches: int) -> int:
    """Batches after which a point is looked at first."""
    return min(-(-until.min_draws // draws_per_batch), batches)


def narrow(until: Until, kind: str, total: Moments) -> np.ndarray:
    """Which points may stop, bool (points,), given their moments (points, *dims): the interval is narrow and holds at
    least `min_draws` defined draws in every entry."""
    return _draws_wanted(until, kind, total) <= 1


def next_look(
    until: Until, kind: str, total: Moments, looked: int | np.ndarray, draws_per_batch: int, batches: int
) -> np.ndarray:
    """Batches after which each point is looked at next, int64 (points,), given the moments (points, *dims) of its
    first `looked` batches. Equal to `looked` where it stops: narrow enough, or `batches` reached."""
    wanted, looked = _draws_wanted(until, kind, total), np.asarray(looked, dtype=np.int64)
    draws = looked * draws_per_batch * np.minimum(MARGIN * np.minimum(wanted, GROWTH), GROWTH)
    ahead = np.maximum(np.ceil(draws / draws_per_batch).astype(np.int64), looked + 1)
    return np.where(wanted <= 1, looked, np.minimum(ahead, batches))


def _draws_wanted(until: Until, kind: str, total: Moments) -> np.ndarray:
    """What the widest entry wants, as a multiple of the draws there are (points,): at most 1 where all are narrow,
    infinite where one is not defined. Undefined draws need no care: their share stays what it is as draws grow."""
    with np.errstate(over="ignore"):
        by_width = (_halfwidth(until, kind, total) / until.halfwidth) ** 2
    by_number = np.divide(until.min_draws, total.n, out=np.full_like(total.n, np.inf), where=total.n > 0)
    wanted = np.maximum(np.where(np.isnan(by_width), np.inf, by_width), by_number)
    return wanted.max(axis=tuple(range(1, wanted.ndim)))


def _halfwidth(until: Until, kind: str, total: Moments) -> np.ndarray:
    """Half of high - low (points, *dims); NaN where too few draws are defined.

    Draws that are all equal show no variance, which says nothing of draws to come. They count as a proportion of which
    nothing was seen, as if a draw that differs lay 1 away.
    """
    anytime = tuned_to(until, kind)
    low, high = interval(total, kind, until.confidence, anytime)
    half, equal = np.asarray((high - low) / 2), total.min == total.max
    if kind != "proportion" and equal.any():
        n, none = total.n[equal], np.zeros(int(equal.sum()))
        low, high = interval(Moments(n, none, none, none, none, none), "proportion", until.confidence, anytime)
        half[equal] = (high - low) / 2
    return half
