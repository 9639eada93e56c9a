"""Space folding of random fully connected ReLU networks along a segment, exactly.

A straight segment in input space crosses the faces of the network's linear regions. Its activation pattern
may come back towards where it started: the segment folds, and chi in [0, 1] says how much; see
sweeps.networks.folds. Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, "On Space Folds of ReLU Neural
Networks", TMLR 2025 (arXiv 2502.09954).

Weights are N(0, 2/fan-in) (He et al. 2015) and biases N(0, bias_variance). The end points x and y have mean
square 1, so |x|^2 = |y|^2 = input dimension, as hidden layers have on average without biases: bias_variance
compares to a variance 2 of the weights' part of every pre-activation, in the first layer as in the others.
Gaussian weights look the same from every direction, so the first layer needs drawing in the plane of x and y
only, and the results hold for every input dimension >= 2: the input dimension is no parameter.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from sweeps.networks.folds import fold_many
from sweeps.statistic import Networks, Outcome, Parameters, Points, Statistic, by_point
from sweeps.theory import folding as theory

LIMIT = 2**32  # bytes one network may need
GAIN = 2.0  # He: weight variance times fan-in


class FoldingParameters(Parameters):
    """One random network and one segment."""

    width: int = Field(ge=1, description="width N: neurons of every hidden layer", json_schema_extra={"unit": "1"})
    depth: int = Field(ge=1, description="depth L: number of hidden layers", json_schema_extra={"unit": "layer"})
    angle: float = Field(
        math.pi / 2,
        ge=0.01,
        le=3.13,
        description="angle of the end points at the origin; at pi the segment would run through it",
        json_schema_extra={"unit": "rad"},
    )
    bias_variance: float = Field(
        0.0,
        ge=0,
        description="variance of the biases; the weights' part of a pre-activation has variance 2",
        json_schema_extra={"unit": "1"},
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (needed := _memory(self)) > LIMIT:
            raise ValueError(
                f"width {self.width} and depth {self.depth} need {needed / 2**30:.1f} GiB a network, "
                f"more than {LIMIT / 2**30:.0f}; use a smaller width or depth"
            )
        return self


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    width, depth = networks["width"], networks["depth"]
    widths = np.array([2] + [width] * depth)
    half = networks.column("angle") / 2
    cos, sin = np.sqrt(2) * np.cos(half), np.sqrt(2) * np.sin(half)  # |x|^2 = 2, the dimension of the plane
    ends = np.stack([cos, -sin, cos, sin], axis=1).reshape(-1, 2, 2)
    folds = fold_many(_packed(networks, widths), widths, ends)
    chi, r1, r2, breakpoints = folds.T
    folded = np.where(np.isnan(chi), np.nan, chi > 0)
    return {"chi": chi, "folded": folded, "breakpoints": breakpoints, "r1": r1, "r2": r2}


def _packed(networks: Networks, widths: np.ndarray) -> np.ndarray:
    """Float64 (networks, size): layer by layer weights (in, out), then biases, as the kernel wants them."""
    fan_in, fan_out = widths[:-1], widths[1:]
    packed = np.empty((len(networks), int(np.sum((fan_in + 1) * fan_out))))
    bias_scale = np.sqrt(networks.column("bias_variance"))[:, None]
    at = 0
    for layer, (n, m) in enumerate(zip(fan_in.tolist(), fan_out.tolist(), strict=True)):
        weights, biases = packed[:, at : at + n * m], packed[:, at + n * m : at + (n + 1) * m]
        normals = networks.normals(2 * layer, n, m).reshape(len(networks), -1)
        np.multiply(normals, np.sqrt(GAIN / n), out=weights, dtype=np.float64)
        biases[:] = bias_scale * networks.normals(2 * layer + 1, m) if bias_scale.any() else 0.0
        at += (n + 1) * m
    return packed


def _theory(p: FoldingParameters) -> dict[str, float]:
    widths, nan = [p.width] * p.depth, math.nan
    if p.depth == 1:
        flips = p.width * theory.biased_angle(p.angle, GAIN, p.bias_variance) / math.pi
        return {"chi": 0.0, "folded": 0.0, "breakpoints": flips, "r1": flips, "r2": flips}
    if p.bias_variance > 0:
        return {"chi": nan, "folded": nan, "breakpoints": nan, "r1": nan, "r2": nan}
    wide, exact = theory.wide_fold(widths, p.angle), theory.mean_breakpoints(widths, p.angle)
    return {
        "chi": wide["chi"],
        "folded": nan,
        "breakpoints": exact["breakpoints"],
        "r1": wide["r1"],
        "r2": exact["r2"],
    }


def _exact(points: Points) -> dict[str, bool]:
    """One layer: everything. Deeper the theory of chi and r1 is that of infinite width."""
    shallow = points["depth"] == 1
    return {"chi": shallow, "folded": shallow, "breakpoints": True, "r1": shallow, "r2": True}


def _cost(p: FoldingParameters) -> float:
    """Fitted to one core of a 2023 Xeon: overhead, drawing, scanning rows, products from layer 3 on."""
    weights = p.width**2 * (p.depth - 1) + 2 * p.width
    rows = p.width * p.angle / math.pi  # breakpoints of a layer
    scanned = p.width * (p.depth + rows * p.depth * (p.depth - 1) / 2)
    products = p.width**2 * rows * (p.depth - 1) * (p.depth - 2) / 2
    return 5e-6 * p.depth + 9e-9 * weights + 4e-9 * scanned + 3e-11 * products


def _memory(p: FoldingParameters) -> int:
    weights = p.width**2 * (p.depth - 1) + 3 * p.width * p.depth
    rows = 16 + p.width * (1 + p.depth * p.angle / math.pi)
    return int(16 * weights + 40 * rows * p.width + 64 * rows)


STATISTIC = Statistic(
    name="folding",
    summary="Space folding of random ReLU networks along a segment",
    source="Lewandowski, Eghbalzadeh, Heinzl, Pisoni, Moser, TMLR 2025 (arXiv 2502.09954)",
    parameters=FoldingParameters,
    shape=frozenset({"width", "depth"}),
    outcomes=(
        Outcome("chi", "space folding measure chi", bins=tuple(i / 50 for i in range(51))),
        Outcome("folded", "segment folds (chi > 0)", kind="proportion"),
        Outcome("breakpoints", "places where the activation pattern changes", kind="count"),
        Outcome("r1", "largest Hamming distance from the first pattern", kind="count"),
        Outcome("r2", "Hamming length of the path of patterns", kind="count"),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    theory=by_point(_theory, FoldingParameters),
    exact=_exact,
    theory_note="one layer: exact; deeper, without biases: breakpoints and r2 exact at every width, "
    "chi and r1 limits of infinite width; with biases none",
)
