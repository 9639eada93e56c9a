"""stand-in"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sweeps.intervals import interval
from sweeps.moments import Moments


class Until(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    outcome: str
    halfwidth: float = Field(gt=0)
    confidence: float = Field(0.95, gt=0, lt=1)
    min_draws: int = Field(256, ge=2)
    guarantee: Literal["fixed", "anytime"] = "fixed"


def first_look(until: Until, draws_per_batch: int, batches: int) -> int:
    return min(batches, -(-until.min_draws // draws_per_batch))


def narrow(until: Until, kind: str, total: Moments) -> np.ndarray:
    low, high = interval(total, kind, until.confidence)
    ok = (high - low) / 2 <= until.halfwidth
    return ok.reshape(len(ok), -1).all(axis=1)


def next_look(until, kind, total, looked, draws_per_batch, batches):
    low, high = interval(total, kind, until.confidence)
    w = np.nan_to_num(((high - low) / 2).reshape(len(total.n), -1).max(axis=1), nan=np.inf)
    looked = np.broadcast_to(looked, w.shape)
    want = np.minimum(np.ceil(looked * np.minimum((w / until.halfwidth) ** 2, 4.0)), batches).astype(np.int64)
    return np.where(narrow(until, kind, total), looked, np.clip(want, np.minimum(looked + 1, batches), batches))
