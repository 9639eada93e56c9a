"""Space folding of CantorNet along a segment of the unit square, exactly and as samples show it.

CantorNet is a family of ReLU networks with known decision boundaries; see sweeps.networks.cantornet for its three
forms, and sweeps.networks.folds for the folding measure chi. Published studies read chi off the activation patterns at
a number of equally spaced points. Here are both, every breakpoint and the samples, on networks of one function whose
folding is very different. Lewandowski, Eghbalzadeh, Moser, "CantorNet", 2024 (arXiv 2411.19713).

The networks are not random. On the published segment, y = 3/4 from x = 0 to 1, neither is anything else: all draws
are equal.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from sweeps.networks.cantornet import Form, network
from sweeps.networks.folds import fold_paths
from sweeps.networks.layered import Layered, fully_connected
from sweeps.statistic import Curve, Networks, Outcome, Parameters, Points, Statistic, by_point
from sweeps.theory import cantornet as theory

PUBLISHED = np.array([[[0.0, 0.75], [1.0, 0.75]]])
NAMES = ("chi", "folded", "r1", "r2", "breakpoints", "regions", "chi_sampled")
MOST = 8
"""Times: beyond, the recursive form multiplies roundings by more than the tolerance of exact zeros allows."""


class CantorNetParameters(Parameters):
    """One network and one segment."""

    times: int = Field(
        ge=1, le=MOST, description="how many times the set is folded, k", json_schema_extra={"unit": "1"}
    )
    form: Form = Field(
        "recursive",
        description='"recursive", with 5 k + 1 neurons; or a union of convex sets, minima and maxima taken by three '
        'ReLUs each, "three", or by four, "four", with about 2^k neurons',
    )
    segment: Literal["published", "random"] = Field(
        "published",
        description='"published": y = 3/4 from x = 0 to 1; "random": between two uniform points of the unit square',
    )
    samples: int = Field(
        11,
        ge=2,
        le=10**6,
        description="equally spaced points of the segment that chi_sampled looks at, its ends included",
        json_schema_extra={"unit": "1"},
    )


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    layered, packed = _packed(networks["times"], networks["form"])
    published = networks["segment"] == "published"
    segments = PUBLISHED if published else networks.words(0, 2, 2) / 2.0**32
    of_network = np.zeros(len(segments), np.int64)
    folds = fold_paths(layered, packed[None], of_network, segments, samples=networks["samples"])._asdict()
    found = {**{name: folds[name] for name in NAMES if name != "folded"}, "folded": (folds["chi"] > 0).astype(float)}
    return {name: np.tile(values, len(networks) if published else 1) for name, values in found.items()}


def _packed(times: int, form: Form) -> tuple[Layered, np.ndarray]:
    weights, biases = network(times, form)
    layered = fully_connected(2, [len(b) for b in biases])
    return layered, layered.pack(*(part for W, b in zip(weights, biases, strict=True) for part in ((W.T, b), ())))


def _theory(p: CantorNetParameters) -> dict[str, float]:
    if p.form != "recursive" or p.segment != "published":
        return dict.fromkeys(NAMES, math.nan)
    return {**theory.published(p.times), "folded": 1.0, "chi_sampled": theory.sampled(p.times, p.samples)}


def _exact(points: Points) -> dict[str, bool]:
    return dict.fromkeys(NAMES, True)


def _size(p: CantorNetParameters) -> tuple[int, int, int]:
    """Weights, neurons of the widest layer, and roughly the breakpoints."""
    weights, biases = network(p.times, p.form)
    return sum(W.size for W in weights), max(len(b) for b in biases), 4 * 2**p.times


def _cost(p: CantorNetParameters) -> float:
    """Of one core of a 2023 Xeon; on the published segment a launch costs as much as one draw."""
    weights, _, rows = _size(p)
    return 3e-5 + 2e-7 * rows + 1.7e-11 * weights * rows


def _memory(p: CantorNetParameters) -> int:
    weights, widest, rows = _size(p)
    return 32 * weights + 40 * widest * rows


STATISTIC = Statistic(
    name="cantornet",
    summary="Space folding of CantorNet's three forms along a segment",
    source="Lewandowski, Eghbalzadeh, Moser, 2024 (arXiv 2411.19713)",
    parameters=CantorNetParameters,
    shape=frozenset({"times", "form", "segment", "samples"}),
    outcomes=(
        Outcome("chi", "space folding measure chi"),
        Outcome("folded", "segment folds (chi > 0)", kind="proportion"),
        Outcome("r1", "largest Hamming distance from the first pattern", kind="count"),
        Outcome("r2", "Hamming length of the path of patterns", kind="count"),
        Outcome("breakpoints", "places where the activation pattern changes", kind="count"),
        Outcome("regions", "different activation patterns between breakpoints", kind="count"),
        Outcome("chi_sampled", "chi of the patterns at equally spaced points"),
    ),
    sample=_sample,
    cost=_cost,
    memory=_memory,
    theory=by_point(_theory, CantorNetParameters),
    exact=_exact,
    theory_note="the recursive form on the published segment: exact; none otherwise",
    curves=(
        Curve(
            "chi_sampled",
            "times",
            "every breakpoint",
            "Lewandowski, Eghbalzadeh, Moser, 2024 (arXiv 2411.19713)",
            lambda times: theory.published(times)["chi"],
            where={"form": ("recursive",), "segment": ("published",)},
        ),
    ),
)
