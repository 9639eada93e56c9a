"""Angle of two vectors, without the cancellation of 1 - cos near 0 and near pi.

For unit vectors u, v, with d = |u - v| and t = |u + v|,
    tan(theta/2) = d/t,    cos(theta) = (t^2 - d^2)/(t^2 + d^2).
Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", 2006.
"""

from __future__ import annotations

import torch
from torch import Tensor


def between(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(cosine, angle in radians) of vectors along the last dimension, float64; NaN where one is zero.

    Differences and sums are taken in the precision of x and y.
    """
    u, v = _unit(x), _unit(y)
    difference, total = _squared_norm(u - v).to(torch.float64), _squared_norm(u + v).to(torch.float64)
    return (total - difference) / (total + difference), 2 * torch.atan2(difference.sqrt(), total.sqrt())


def _unit(z: Tensor) -> Tensor:
    return z / _squared_norm(z).sqrt()[..., None]


def _squared_norm(z: Tensor) -> Tensor:
    return (z * z).sum(-1)
