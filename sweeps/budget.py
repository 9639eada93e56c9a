"""What a sweep may spend. A budget ends a run early; it decides no number and is no part of the fingerprint."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: Any) -> Any:
    """`"90 min"` as 5400.0; a number is seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*(s|min|h|d)\s*", value) if isinstance(value, str) else None
    try:
        seconds = float(found[1]) * UNITS[found[2]] if found else math.nan
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"takes seconds, or a text such as '90 min', '12 h' or '3 d', got {value!r}")
    return seconds


class Budget(BaseModel):
    """The wall-clock time of one run; the GPU-hours and draws of the sweep over all its runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    max_time: Annotated[float, BeforeValidator(_seconds)] | None = Field(
        None, gt=0, description="seconds of one run, or a text such as 90 min, 12 h, 3 d"
    )
    max_gpu_hours: float | None = Field(None, gt=0, strict=True, description="GPU-hours, over all runs")
    max_draws: int | None = Field(None, ge=1, strict=True, description="draws over all points and runs")
