"""Injectivity of one layer for n -> infinity, all in one table: thresholds of m/n and curves of lim k*/n.

    kinds:  rigorous   proved in the source named, or by an argument given in the solver's module
            replica    the replica method, conjectured
            heuristic  neither

The lower bound is that of x = -W^T 1, where a row is positive with probability P(z > 1/sqrt(alpha)): the layer is
not injective while alpha P(z > 1/sqrt(alpha)) < 1 (Puthawala et al., arXiv 2006.08464).

Full symmetry breaking is not solved here. Its threshold and its points are quoted from Maillard, Bandeira, Belius,
Dokmanic, Nakajima, arXiv 2302.14112. With k steps the distance to the limit falls like (k + 1/2)^-4, as seen at
k = 3, 4, 5, so that two solved numbers of steps extrapolate to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr

from sweeps.theory import counting, perceptron
from sweeps.theory.calculus import zero
from sweeps.theory.duality import last_layer_capacity

Kind = Literal["rigorous", "replica", "heuristic"]
Method = Literal["rs", "1rsb", "2rsb", "3rsb", "4rsb", "5rsb", "full", "extrapolated"]

FULL_THRESHOLD = 6.6980
"""Quoted; the source has it between 6.69793 and 6.69813."""

FULL_POINTS = {3: 0.1176, 4: 0.3106, 5: 0.5443, 6: 0.8054, 7: 1.0868, 8: 1.3841, 10: 2.0147}
"""e* at alpha with full symmetry breaking, quoted; good to 1e-4."""

_STEPS = {"rs": 0, **{f"{k}rsb": k for k in range(1, perceptron.STEPS + 1)}}
_REPLICA = "Maillard et al., arXiv 2302.14112"


@dataclass(frozen=True)
class Threshold:
    """One answer to: from which expansion ratio on is a wide random layer injective?"""

    name: str
    value: float
    kind: Kind
    bound: Literal["lower", "upper", "value"]
    "what it is, where `kind` is to be believed"
    source: str


def thresholds() -> list[Threshold]:
    """All of them, in the order of their values; a second of computing unless the solutions are kept already."""
    found = [
        Threshold("never below", never_below(), "rigorous", "lower", "Puthawala et al., arXiv 2006.08464"),
        Threshold("full RSB", FULL_THRESHOLD, "replica", "value", f"quoted: {_REPLICA}"),
        *(Threshold(f"{k}-step RSB", perceptron.threshold(k), "replica", "value", _REPLICA) for k in (3, 2, 1)),
        Threshold(
            "partially lifted RDT",
            last_layer_capacity([], lifted=True),
            "rigorous",
            "upper",
            "Gordon's comparison for exponentials, after Stojnic, arXiv 2410.20646; one step of RSB with q_0 = 0",
        ),
        Threshold("RS, plain RDT", perceptron.threshold(0), "rigorous", "upper", "Stojnic, arXiv 2410.20646"),
        Threshold("Euler characteristic", counting.euler_limit(), "heuristic", "value", f"refuted: {_REPLICA}"),
        Threshold("first moment over cells", counting.cells_limit(), "rigorous", "upper", "Markov's inequality"),
    ]
    return sorted(found, key=lambda threshold: threshold.value)


def never_below() -> float:
    """Below this ratio x = -W^T 1 has too few active neurons. 14 digits."""
    return zero(lambda alpha: alpha * ndtr(-1 / math.sqrt(alpha)) - 1, 1, 10)


def limit_curve(alpha: ArrayLike, method: Method) -> np.ndarray:
    """lim k*/n at every `alpha`, any shape; ValueError at another method.

    "rs" is a rigorous lower bound, all else replica. "1rsb" to "5rsb" rise with the steps, and are NaN
    between 2 and 2.01 and above 100. "full" interpolates the quoted points, divided by "rs", by monotone cubics: within
    5e-4 of "extrapolated" between the points, NaN outside [3, 10]. "extrapolated" is our own estimate of the same limit
    from 2 and 3 steps: within 1e-4 of the quoted points, and wherever "3rsb" is not NaN; a second for every new alpha.
    """
    alphas = np.asarray(alpha, dtype=np.float64)
    if method == "full":
        return _full_over_rs()(alphas) * limit_curve(alphas, "rs")
    if method == "extrapolated":
        two, three = limit_curve(alphas, "2rsb"), limit_curve(alphas, "3rsb")
        return three + (three - two) / ((3.5 / 2.5) ** 4 - 1)
    if method not in _STEPS:
        raise ValueError(f"method must be one of {', '.join((*_STEPS, 'full', 'extrapolated'))}, got {method!r}")
    values = [_at(float(one), _STEPS[method]) for one in alphas.ravel()]
    return np.array(values, dtype=np.float64).reshape(alphas.shape)


@cache
def _full_over_rs() -> PchipInterpolator:
    points = np.array(list(FULL_POINTS), dtype=np.float64)
    return PchipInterpolator(points, list(FULL_POINTS.values()) / limit_curve(points, "rs"), extrapolate=False)


def _at(alpha: float, steps: int) -> Any:
    if 0 <= alpha <= 2:
        return 0.0
    least, most = (perceptron.LOWEST, perceptron.LARGEST) if steps else (2, math.inf)
    return perceptron.ground_state(alpha, steps).value if least <= alpha <= most and alpha < math.inf else math.nan
