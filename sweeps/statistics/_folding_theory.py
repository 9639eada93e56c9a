"""What is known of the outcomes of `folding` at a point: see sweeps.theory.folding and folding_exact."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.theory import folding_exact
from sweeps.theory.folding import Law, WideFold, wide_folds

if TYPE_CHECKING:
    from sweeps.statistics.folding import FoldingParameters

LIMITS = ("chi", "r1", "r2", "breakpoints", "regions", "chi_reversed", "chi_sampled", "chi_subset")
STRAIGHT = math.pi - 1e-6
BY_LAYER = ("chi_to_layer", "chi_of_layer", "arc", "length")


def predicted(p: FoldingParameters, path: np.ndarray) -> dict[str, Any]:
    """Means along a path (points, inputs); NaN where nothing is known."""
    found: dict[str, Any] = {name: math.nan for name in (*LIMITS, "folded")}
    found |= {name: np.full(p.layers, math.nan) for name in BY_LAYER}
    found["interaction"] = np.full(p.joins, math.nan)
    if p.network == "cnn":
        return found
    found["length"] = _padded(p, _lengths(p, path))
    if p.bias_variance == 0 and not (_angles(path) < STRAIGHT).all():
        return found  # through the origin all neurons flip at once, or an input is zero
    if p.initialisation != "xavier" or p.bias_variance == 0:
        found |= _wide(p, _turned(path))
    if _shallow(p):
        found |= _one_layer(p, path)
    if _crofton(p):
        found |= _exact_means(p, path)
    return found


def exact(p: FoldingParameters) -> dict[str, np.ndarray | bool]:
    """Where these are means of a draw at the point's own width.

    One layer never folds along a segment, and its bits are independent coins; deeper, breakpoints and lengths. These
    are products of a factor a layer: in networks deeper than wide their mean is that of rare draws, and no mark.
    """
    known, layer = p.network == "fnn", np.arange(1, p.layers + 1)
    shallow, straight = known and _shallow(p), known and p.points == 2
    coins = shallow and _coins(p)
    crofton = known and _crofton(p) and p.depth <= p.width
    never = ("chi", "folded", "chi_reversed", "chi_sampled", "chi_subset")
    return {
        **dict.fromkeys(never, shallow),
        "interaction": np.full(p.joins, shallow),
        **dict.fromkeys(("breakpoints", "r2"), coins or crofton),
        "regions": coins or (crofton and straight),
        "r1": coins,
        "chi_to_layer": (layer == 1) & straight,
        "chi_of_layer": (layer == 1) & straight,
        "arc": (layer <= p.width) & known & _crofton(p),
        "length": (layer <= p.width) & known,
    }


def _crofton(p: FoldingParameters) -> bool:
    return p.bias_variance == 0 and p.layered.slope in (0, -1)


def _shallow(p: FoldingParameters) -> bool:
    return p.depth == 1 and p.points == 2


def _coins(p: FoldingParameters) -> bool:
    """Whether the bits of the first layer that differ have a known mean."""
    return p.initialisation != "orthogonal" or p.bias_variance == 0


def _law(p: FoldingParameters) -> Law:
    slope = p.layered.slope
    if p.bias_variance == 0:  # any variance is alike; this one keeps lengths
        return Law(2 / (1 + slope**2), 0.0, slope)
    return Law(2 * p.scale**2, p.bias_variance, slope)


def _wide(p: FoldingParameters, path: np.ndarray) -> dict[str, Any]:
    widths, law = [p.width] * p.depth, _law(p)
    there, back = wide_folds(widths, path, law), wide_folds(widths, path[::-1], law)
    cuts = [_cut(path, join / (p.joins + 1)) for join in range(1, p.joins + 1)]
    parts = [[wide_folds(widths, part, law).chi[-1] for part in cut] for cut in cuts]
    return {
        "chi": there.chi[-1],
        "r1": there.r1[-1],
        **_of_flips(p, there.r2[-1]),
        "chi_reversed": back.chi[-1],
        "chi_sampled": wide_folds(widths, path, law, p.samples).chi[-1],
        "chi_subset": there.chi[-1],
        "chi_to_layer": _padded(p, there.chi),
        "chi_of_layer": _padded(p, there.chi_by_layer),
        "arc": _padded(p, _wide_arcs(p, there)),
        "interaction": np.array([abs(there.chi[-1] - sum(chi)) for chi in parts]),
    }


def _of_flips(p: FoldingParameters, flips: float) -> dict[str, float]:
    return {"r2": flips, "breakpoints": flips, "regions": flips + 1 if p.points == 2 else math.nan}


def _one_layer(p: FoldingParameters, path: np.ndarray) -> dict[str, Any]:
    """Along a segment."""
    found: dict[str, Any] = dict.fromkeys(("chi", "folded", "chi_reversed", "chi_sampled", "chi_subset"), 0.0)
    found["interaction"] = np.zeros(p.joins)
    found |= {name: _padded(p, np.zeros(1)) for name in ("chi_to_layer", "chi_of_layer")}
    if _coins(p):
        flips = _first_layer(p, path)
        found |= {"r1": flips, **_of_flips(p, flips)}
    return found


def _wide_arcs(p: FoldingParameters, wide: WideFold) -> np.ndarray:
    """Of the activations, which without biases have the length of the pre-activations."""
    return wide.arcs if p.bias_variance == 0 else np.full(p.depth, math.nan)


def _first_layer(p: FoldingParameters, path: np.ndarray) -> float:
    """Mean number of bits of one layer that differ at the ends of a segment."""
    fan_in = path.shape[1]
    variance = p.scale**2 * (2 * fan_in / (fan_in + p.width) if p.initialisation == "xavier" else 2)
    ends = np.sqrt((path * path).mean(1))
    angle = folding_exact.biased_angle(_angles(path)[0], variance, p.bias_variance, (ends[0], ends[1]))
    return p.width * angle / math.pi


def _exact_means(p: FoldingParameters, path: np.ndarray) -> dict[str, Any]:
    """Summed over the segments of a path."""
    segments = [folding_exact.mean_folds([p.width] * p.depth, angle, p.layered.slope) for angle in _angles(path)]
    total = {name: np.sum([of[name] for of in segments], axis=0) for name in segments[0]}
    breakpoints = total["breakpoints"].sum()
    return {
        "breakpoints": breakpoints,
        "r2": total["r2"].sum(),
        "regions": breakpoints + 1 if p.points == 2 else math.nan,
        "arc": _padded(p, total["arc"]),
    }


def _lengths(p: FoldingParameters, path: np.ndarray) -> np.ndarray:
    fan_in = path.shape[1]
    length = float(np.sqrt((np.diff(path, axis=0) ** 2).sum(1)).sum())
    means = folding_exact.mean_lengths(
        [p.width] * p.depth, fan_in, length, 2 * p.scale**2, p.layered.slope, p.initialisation == "orthogonal"
    )
    if p.initialisation == "xavier":
        return means * math.sqrt(fan_in / (fan_in + p.width)) * 0.5 ** (np.arange(p.depth) / 2)
    if p.initialisation == "orthogonal":  # columns of a wide layer are the longer
        return means * math.sqrt(max(p.width, fan_in) / fan_in)
    return means


def _turned(path: np.ndarray) -> np.ndarray:
    """The same path in as many dimensions as it has points, if these are fewer, mean squares as before."""
    points, inputs = path.shape
    if inputs <= points:
        return path
    _, turned = np.linalg.qr(path.T)
    return turned.T * math.sqrt(points / inputs)


def _angles(path: np.ndarray) -> np.ndarray:
    """Of successive points, (points - 1,) radians."""
    norms = np.sqrt((path * path).sum(1, keepdims=True))
    unit = path / np.where(norms > 0, norms, math.nan)
    apart, together = (np.sqrt((z * z).sum(1)) for z in (unit[1:] - unit[:-1], unit[1:] + unit[:-1]))
    return 2 * np.arctan2(apart, together)


def _cut(path: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of a path cut at a share of its places."""
    place = share * (len(path) - 1)
    piece = min(int(place), len(path) - 2)
    middle = path[piece] + (place - piece) * (path[piece + 1] - path[piece])
    return np.vstack([path[: piece + 1], middle]), np.vstack([middle, path[piece + 1 :]])


def _padded(p: FoldingParameters, values: np.ndarray) -> np.ndarray:
    """(layers,): NaN beyond the depth."""
    found = np.full(p.layers, math.nan)
    found[: min(p.layers, p.depth)] = values[: p.layers]
    return found
