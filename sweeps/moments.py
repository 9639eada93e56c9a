"""Moments of draws: number, undefined, mean, sum of squared deviations, least and greatest.

They merge by the rule of Chan, Golub and LeVeque (1983): numerically careful, and the same whichever way draws
were split, up to float64 rounding. Batches are merged in batch order, so a result does not depend on timing.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from sweeps.compiled import compiled

FIELDS = ("n", "undefined", "mean", "m2", "min", "max")


@dataclass(frozen=True)
class Moments:
    """Float64 arrays of one shape. Where n is 0, m2 is 0 and mean, min and max are NaN."""

    n: np.ndarray
    undefined: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    min: np.ndarray
    max: np.ndarray

    @classmethod
    def of(cls, draws: np.ndarray) -> Moments:
        """Moments along the last axis of (*shape, draws). NaN is an undefined draw: counted and left out.

        Every row is reduced by itself in one fixed order, so neighbours cannot change a bit of it.
        """
        draws = np.asarray(draws)
        rows = np.ascontiguousarray(draws, dtype=np.float64).reshape(-1, draws.shape[-1])
        return cls.unstack(_reduce(rows).reshape(*draws.shape[:-1], len(FIELDS)))

    @classmethod
    def unstack(cls, array: np.ndarray) -> Moments:
        """From (*shape, 6), the form they are stored in."""
        return cls(*np.moveaxis(np.asarray(array, dtype=np.float64), -1, 0))

    def stack(self) -> np.ndarray:
        """As one float64 array (*shape, 6) in the order of `FIELDS`."""
        return np.stack(astuple(self), axis=-1)

    def merge(self, other: Moments) -> Moments:
        """Moments of the draws of both."""
        n = self.n + other.n
        share = np.divide(other.n, n, out=np.zeros_like(n), where=n > 0)
        here, there = self.n > 0, other.n > 0
        a, b = np.where(here, self.mean, other.mean), np.where(there, other.mean, self.mean)
        delta = np.where(n > 0, b - a, 0.0)
        return Moments(
            n,
            self.undefined + other.undefined,
            np.where(there, np.where(here, a + delta * share, b), a),
            self.m2 + other.m2 + delta * delta * self.n * share,
            np.fmin(self.min, other.min),
            np.fmax(self.max, other.max),
        )

    def at(self, index: np.ndarray) -> Moments:
        """The entries at positions `index` along the first axis."""
        return Moments(*(a[index] for a in vars(self).values()))

    def where(self, which: np.ndarray, other: Moments) -> Moments:
        """These entries where `which` bool (first axis,) says so, those of `other` elsewhere."""
        mask = which.reshape(-1, *[1] * (self.n.ndim - 1))
        return Moments(*(np.where(mask, a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def variance(self) -> np.ndarray:
        """Unbiased; NaN below two draws."""
        return np.divide(self.m2, self.n - 1, out=np.full_like(self.n, np.nan), where=self.n > 1)


@compiled
def _reduce(rows: np.ndarray) -> np.ndarray:
    out = np.empty((rows.shape[0], 6))
    for i in range(rows.shape[0]):
        n, total, lost, least, greatest = 0, 0.0, 0.0, np.inf, -np.inf
        for x in rows[i]:
            if np.isnan(x):
                continue
            n += 1
            least, greatest = min(least, x), max(greatest, x)
            new = total + x  # Neumaier: what rounding lost is carried along
            lost += (total - new) + x if abs(total) >= abs(x) else (x - new) + total
            total = new
        mean = (total + lost) / n if n else np.nan
        m2, drift = 0.0, 0.0
        for x in rows[i]:
            if not np.isnan(x):
                m2 += (x - mean) * (x - mean)
                drift += x - mean
        out[i, 0], out[i, 1], out[i, 2] = n, rows.shape[1] - n, mean
        out[i, 3] = max(0.0, m2 - drift * drift / n) if n else 0.0
        out[i, 4], out[i, 5] = (least, greatest) if n else (np.nan, np.nan)
    return out


def histogram(draws: np.ndarray, bins: tuple[float, ...]) -> np.ndarray:
    """Counts int64 (*shape, bins) along the last axis of (*shape, draws); the end bins take what lies outside.

    Bins are closed on the left, the last on both sides; undefined draws are not counted.
    """
    draws = np.asarray(draws, dtype=np.float64)
    rows = draws.reshape(-1, draws.shape[-1])
    place = np.clip(np.searchsorted(np.asarray(bins), rows, side="right") - 1, 0, len(bins) - 2)
    flat = (np.arange(len(rows))[:, None] * (len(bins) - 1) + place)[~np.isnan(rows)]
    counts = np.bincount(flat, minlength=len(rows) * (len(bins) - 1))
    return counts.reshape(*draws.shape[:-1], len(bins) - 1).astype(np.int64)
