"""A ReLU layer with a bias on a bounded domain: how much bias its rows bear, what is lost, and getting the input back.

The layer is ReLU(<w_i, x> - b_i). It is alpha-rectifying on K, and then injective there, if the rows active at x,
<w_i, x> > b_i, span for every x of K: two inputs with one output have the same active rows. Which bias each row bears
is estimated in two ways: by the facets of the rows' convex hull, exactly, and by sampled directions, from above; see
sweeps.frames. Biases of these estimates are of rows of length 1.
Haider, Ehler, Balazs, "Convex geometry of ReLU-layers, injectivity on the ball and local reconstruction", ICML 2023
(arXiv 2307.09672); "Injectivity of ReLU-layers: Perspectives from Frame Theory" (arXiv 2406.15856).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from sweeps import progress
from sweeps.errors import OutsideError
from sweeps.frames import cells, facets, on_data, pairs, rows, trained_rows
from sweeps.frames.active import MANY, active
from sweeps.frames.bounds import exact_bias
from sweeps.frames.domain import Domain
from sweeps.frames.polytope import covering_radius
from sweeps.frames.reconstruction import METHODS, reconstructed
from sweeps.frames.sampled import chunk, sampled_bias
from sweeps.inputs import files
from sweeps.statistic import Dim, Networks, Outcome, Points, Reference, Statistic, by_point
from sweeps.statistics._frames import POLYTOPES, UNIT, FramesParameters
from sweeps.theory import frames as theory
from sweeps.theory.injectivity import wendel
from sweeps.witness import Witness

POINTS, RADII, DIRECTIONS = 2**24, 2**24 + 1, 2**25
TOLERANCE, ITERATIONS = 1e-10, 10_000
TRIED = 10  # inputs from which two with one output are looked for
RECOVERED = 1e-6  # relative error
ROUNDING = 1e-9
RANDOM = {"rows": ("gaussian", "sphere"), "domain": ("sphere",)}
"""Where it is known which unbiased layers are injective."""


class Layer(NamedTuple):
    """One draw, and what is estimated of it: NaN or None where it is not."""

    W: np.ndarray
    domain: Domain
    facets: np.ndarray | None
    polytope: np.ndarray
    """Biases of rows of length 1, (m,); as the next two."""
    sampled: np.ndarray
    certified: np.ndarray
    covering_radius: float
    """Of the directions sampled."""
    bias: np.ndarray
    """Of the layer, in units of W x; (m,)."""


def _layer(p: FramesParameters, W: np.ndarray, network: Networks, device: str) -> Layer:
    lengths, domain = np.linalg.norm(W, axis=1), p.the_domain()
    unit, unknown = W / lengths[:, None], np.full(len(W), np.nan)
    found, polytope = _facets(p, unit, domain), unknown
    if found is not None:
        polytope = exact_bias(unit, domain, found)
    sampled, certified, radius = unknown, unknown, np.nan
    of_directions = _of_directions(p, unit, network, domain, device)
    if of_directions is not None:
        sampled = domain.scaled(of_directions)
        if p.certify:
            radius = _covering_radius(p, network, domain)
            certified = domain.scaled(_lowered(of_directions, radius, domain))
    base = {"zero": np.zeros(len(W)), "polytope": polytope * lengths, "sampled": sampled * lengths}[p.bias_from]
    bias = base + p.bias * (1.0 if p.bias_from == "zero" else lengths)
    return Layer(W, domain, found, polytope, sampled, certified, radius, bias)


def _facets(p: FramesParameters, unit: np.ndarray, domain: Domain) -> np.ndarray | None:
    if not p.by_polytope:
        return None
    try:
        return facets.facets(unit, positive=domain.positive)
    except OutsideError:
        return None


def _of_directions(
    p: FramesParameters, unit: np.ndarray, network: Networks, domain: Domain, device: str
) -> np.ndarray | None:
    """The sampled bias for directions, if it is asked for and the rows span."""
    if not p.by_samples:
        return None
    try:
        return sampled_bias(unit, _directions(p, network, domain), general=p.is_general, device=device)
    except OutsideError:
        return None


def _directions(p: FramesParameters, network: Networks, domain: Domain) -> Iterator[np.ndarray]:
    """Chunks (k, n) of directions, or of the data."""
    size = chunk(p.m, p.n)
    if domain.data is not None:
        yield from np.array_split(domain.shrunk, -(-len(domain.data) // size))
        return
    for i, start in enumerate(range(0, p.samples, size)):
        progress.tell(start / p.samples)
        yield domain.directions(network.normals(DIRECTIONS + i, min(size, p.samples - start), p.n)[0])


def _lowered(of_directions: np.ndarray, radius: float, domain: Domain) -> np.ndarray:
    """What is certain: inner products with rows fall by no more than the distance, and to -1 for directions."""
    return of_directions if domain.data is not None else np.maximum(of_directions - radius, -1)


def _covering_radius(p: FramesParameters, network: Networks, domain: Domain) -> float:
    if domain.data is not None:
        return 0.0
    directions = np.concatenate(list(_directions(p, network, domain)))
    return covering_radius(directions, positive=domain.positive)


def _estimates(p: FramesParameters, layer: Layer) -> dict[str, Any]:
    polytope, sampled, gap = layer.polytope, layer.sampled, layer.sampled - layer.polytope
    return {
        "inside": float(layer.facets is not None) if p.by_polytope else np.nan,
        "facets": np.nan if layer.facets is None else len(layer.facets),
        **_summary("polytope", polytope, p.listed, layer.domain),
        **_summary("sampled", sampled, p.listed, layer.domain),
        "gap": gap.mean(),
        "gap_of_smallest": sampled.min() - polytope.min(),
        "certified_mean": layer.certified.mean(),
        "certified_min": layer.certified.min(),
        "covering_radius": layer.covering_radius,
    }


def _summary(name: str, bias: np.ndarray, listed: int, domain: Domain) -> dict[str, Any]:
    allowed = np.where(np.isnan(bias), np.nan, bias >= -ROUNDING * domain.largest).mean()
    return {
        f"{name}_bias": bias[:listed],
        f"{name}_mean": bias.mean(),
        f"{name}_min": bias.min(),
        f"{name}_zero_allowed": allowed,
    }


def _points(p: FramesParameters, network: Networks, domain: Domain) -> np.ndarray:
    """Inputs (points, n) drawn from the domain."""
    uniforms = (network.words(RADII, p.points)[0] + 0.5) / 2.0**32
    return domain.points(network.normals(POINTS, p.points, p.n)[0], uniforms)


def _decided(p: FramesParameters, layer: Layer, few: np.ndarray) -> dict[str, float]:
    """Whether active rows span everywhere; `few` (k, n) are inputs where they do not."""
    fewest, spans, at = np.nan, not len(few) and _is_certified(layer), few[:TRIED]
    if (data := layer.domain.data) is not None:
        everywhere = active(layer.W, layer.bias, data)
        pair = on_data.pair(layer.W, layer.bias, data)
        fewest, spans = everywhere.count.min(), bool(everywhere.rank.min() == p.n)
        return _answers(fewest, spans, pair is None, pair is not None)
    if p.decide:
        fewest, x = cells.fewest_active(*_of_length_1(layer), layer.domain)
        spans = fewest >= p.n and (spans or p.is_general)
        at = np.concatenate([x[None], at]) if fewest < p.n else at
    certain = float(spans) if p.is_asked else np.nan
    return _answers(fewest, certain, certain, not spans and _pair(layer, at) is not None)


def _answers(fewest: float, spans: float, injective: float, not_injective: float) -> dict[str, float]:
    return {"fewest_active": fewest, "rectifying": spans, "injective": injective, "not_injective": not_injective}


def _is_certified(layer: Layer) -> bool:
    """Whether an estimate proves that active rows span everywhere."""
    lengths = np.linalg.norm(layer.W, axis=1)
    return any(bool(np.all(layer.bias <= unit * lengths)) for unit in (layer.polytope, layer.certified))


def _of_length_1(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Rows and biases."""
    lengths = np.linalg.norm(layer.W, axis=1)
    return layer.W / lengths[:, None], layer.bias / lengths


def _pair(layer: Layer, few: np.ndarray) -> Witness | None:
    found = (pairs.pair(layer.W, layer.bias, layer.domain, x) for x in few)
    return next((pair for pair in found if pair is not None), None)


def _reconstruction(p: FramesParameters, layer: Layer, inputs: np.ndarray) -> dict[str, float]:
    found = dict[str, float]()
    outputs = np.maximum(inputs @ layer.W.T - layer.bias, 0)
    for method in METHODS:
        error, taken = np.full(1, np.nan), np.full(1, np.nan)
        if len(inputs) and (method != "facet" or layer.facets is not None):
            x, taken = reconstructed(layer.W, layer.bias, outputs, method, layer.facets, TOLERANCE, ITERATIONS)
            lengths = np.linalg.norm(inputs, axis=1)
            error = np.linalg.norm(x - inputs, axis=1) / np.where(lengths > 0, lengths, 1)
        known = error[~np.isnan(error)]
        found[f"error_{method}"] = known.mean() if len(known) else np.nan
        found[f"recovered_{method}"] = (error <= RECOVERED).mean() if np.isfinite(taken).all() else np.nan
        found[f"iterations_{method}"] = taken[~np.isnan(error)].mean() if len(known) else np.nan
    return {name: value for name, value in found.items() if name in _NAMES}


def _one(p: FramesParameters, W: np.ndarray, network: Networks, device: str) -> dict[str, Any]:
    nothing = {o.name: np.full(p.listed, np.nan) if o.dims else np.nan for o in OUTCOMES}
    if np.isnan(W).any():  # its training diverged
        return nothing
    layer = _layer(p, W, network, device)
    if np.isnan(layer.bias).any():  # it is counted from an estimate that there is not
        return nothing | _estimates(p, layer)
    inputs = _points(p, network, layer.domain)
    at = active(W, layer.bias, inputs)
    spanning = at.rank == p.n
    condition = np.log10(at.largest[spanning] / at.smallest[spanning])
    return {
        **_estimates(p, layer),
        **_decided(p, layer, inputs[~spanning]),
        **_reconstruction(p, layer, inputs[: p.reconstructed]),
        "active": at.count.mean(),
        "fewest_met": at.count.min(),
        "too_few": 1 - spanning.mean(),
        "lost": (p.n - at.rank).mean(),
        "most_lost": (p.n - at.rank).max(),
        "frame_lower": at.smallest.min(),
        "frame_upper": at.largest.max(),
        "log_condition": condition.mean() if len(condition) else np.nan,
        "log_worst_condition": condition.max() if len(condition) else np.nan,
        "lower_lipschitz": np.sqrt(at.smallest.min()),
        "upper_lipschitz": np.linalg.norm(W, 2),
    }


def _sample(networks: Networks, device: str) -> dict[str, np.ndarray]:
    drawn = _draw(networks, device)
    found = [
        _one(FramesParameters(**networks.points.point(i)), drawn[i], _alone(networks, i), device)
        for i in range(len(networks))
    ]
    return {o.name: np.stack([np.asarray(one[o.name], dtype=np.float64) for one in found]) for o in OUTCOMES}


def _alone(networks: Networks, i: int) -> Networks:
    """The run of one of the networks."""
    which = np.array([i])
    return Networks(networks.points.take(which), networks.keys[which], networks.draws[which], networks.first_tensor)


def _draw(networks: Networks, device: str) -> np.ndarray:
    p = FramesParameters(**networks.points.point(0))
    if p.rows == "trained":
        return trained_rows.trained(networks, p.m, p.trained_on, p.side, p.steps, device)
    return rows.draw(networks, p.rows, p.m, p.n, files.load(p.matrix) if p.matrix else None)


def _witness(networks: Networks) -> Witness | None:
    p = FramesParameters(**networks.points.point(0))
    layer = _layer(p, _draw(networks, "cpu")[0], networks, "cpu")
    if np.isnan(layer.bias).any():
        return None
    if layer.domain.data is not None:
        return on_data.pair(layer.W, layer.bias, layer.domain.data)
    inputs = _points(p, networks, layer.domain)
    few = inputs[active(layer.W, layer.bias, inputs).rank < p.n][:TRIED]
    if p.decide and (x := cells.decided(*_of_length_1(layer), layer.domain)) is not None:
        few = np.concatenate([x[None], few])
    return _pair(layer, few)


def _theory(p: FramesParameters) -> dict[str, float]:
    names = ("inside", "facets", "polytope_min", "sampled_min", "active", "too_few", "lost")
    found: dict[str, float] = dict.fromkeys(names, np.nan)
    if p.rows in POLYTOPES and p.domain in ("sphere", "ball", "donut"):
        least = float(p.the_domain().scaled(np.array(theory.polytope_bias(p.rows, p.n))))
        found["polytope_min"] = least if p.by_polytope else np.nan
        found["sampled_min"] = least if p.by_samples and p.rows in theory.NEAREST else np.nan
    if p.rows in ("gaussian", "sphere", "orthogonal") and p.by_polytope and p.domain != "nonnegative":
        found["inside"] = wendel(p.m, p.n)
        found["facets"] = facets.expected_facets(p.n, p.m) if p.rows != "orthogonal" else np.nan
    if p.bias_from == "zero" and (p.rows == "gaussian" or p.rows in UNIT):
        found |= _active_theory(p)
    return found


def _active_theory(p: FramesParameters) -> dict[str, float]:
    domain = p.the_domain()
    if domain.data is not None:
        lengths = np.linalg.norm(domain.data, axis=1)
        weights = np.full(len(lengths), 1 / len(lengths))
    else:
        lengths, weights = theory.radii(p.n, p.bias, domain.smallest, domain.radius)
    expected = theory.active(p.m, p.n, p.bias, lengths, weights, gaussian=p.rows == "gaussian")
    if p.rows in ("gaussian", "sphere"):
        return expected._asdict()
    turned = p.rows == "orthogonal" or p.domain in ("sphere", "ball", "donut")
    return {"active": expected.active} if turned else {}


def _exact(points: Points) -> dict[str, Any]:
    """The mean number of facets is that of the draws in which 0 is inside, so of all only where it always is."""
    sure = [_theory(FramesParameters(**points.point(i)))["inside"] > 1 - 1e-9 for i in range(len(points))]
    return {"facets": np.array(sure)} | dict.fromkeys(("inside", "polytope_min", "active", "too_few", "lost"), True)


def _cost(p: FramesParameters) -> float:
    """Fitted to one core of an EPYC that others were using."""
    m, n, data = p.m, p.n, files.shape(p.inputs)[0] if p.domain == "data" else 0
    found = 1e-3 + (p.points + data) * (1.5e-5 + 1e-9 * m * n + 4e-10 * n**3)
    found += p.reconstructed * (3e-4 + 5e-9 * m * n)
    if p.by_polytope:
        found += 1e-3 + 1.5e-5 * facets.expected_facets(n, m) * (1 + 1e-3 * data)
    if p.by_samples:
        found += (data or p.samples) * (3e-7 + (1e-10 if p.is_general else 3e-9) * m * n)
    if p.certify and not data:
        found += 7e-6 * p.covering_facets
    if p.decide:
        found += cells.seconds(m, n, p.domain)
    if p.rows == "trained":
        found += trained_rows.seconds(m, p.trained_on, p.side, p.steps)
    return found


def _memory(p: FramesParameters) -> int:
    """Of one layer at a time, and of its training."""
    m, n, data = p.m, p.n, files.shape(p.inputs)[0] if p.domain == "data" else 0
    directions = p.samples if p.certify else min(chunk(m, n), p.samples)
    found = 24 * n * (directions + p.points) + 64 * m * n + 24 * data * (m + 2 * n) + 24 * p.reconstructed * m
    found += 8 * n * n * min(p.points + data, MANY)
    if p.by_polytope:
        found += int(8 * n * (n + 8) * facets.expected_facets(n, m))
    if p.certify and not data:
        found += int(64 * n * p.covering_facets)
    if p.rows == "trained":
        found += trained_rows.memory(m, p.trained_on, p.side, p.steps)
    return found


def _lane(p: FramesParameters) -> int:
    """Networks are trained together, and then looked at one by one."""
    return trained_rows.lane(p.m, p.trained_on, p.side, p.steps) if p.rows == "trained" else 1


_ROW = (Dim("row", "listed", "row of W"),)
OUTCOMES = (
    Outcome("inside", "0 is inside the convex hull of the rows, or their cone holds x >= 0", kind="proportion"),
    Outcome("facets", "facets of the rows' convex hull", kind="count"),
    Outcome("polytope_bias", "bias that a row bears, by facets", dims=_ROW),
    Outcome("polytope_mean", "mean over rows of the bias by facets"),
    Outcome("polytope_min", "smallest bias by facets"),
    Outcome("polytope_zero_allowed", "share of rows whose bias by facets is not negative"),
    Outcome("sampled_bias", "bias that a row bears, by sampling", dims=_ROW),
    Outcome("sampled_mean", "mean over rows of the sampled bias"),
    Outcome("sampled_min", "smallest sampled bias, which tends to the largest common to all rows"),
    Outcome("sampled_zero_allowed", "share of rows whose sampled bias is not negative"),
    Outcome("gap", "mean over rows of the sampled bias less that by facets"),
    Outcome("gap_of_smallest", "smallest sampled bias less the smallest by facets"),
    Outcome("certified_mean", "mean over rows of the certified sampled bias"),
    Outcome("certified_min", "smallest certified sampled bias"),
    Outcome("covering_radius", "covering radius of the sampled directions"),
    Outcome("active", "active rows, mean over inputs"),
    Outcome("fewest_met", "active rows, fewest at the inputs drawn", kind="count"),
    Outcome("too_few", "share of inputs whose active rows do not span"),
    Outcome("lost", "dimensions that active rows do not span, mean over inputs"),
    Outcome("most_lost", "dimensions that active rows do not span, most at the inputs drawn", kind="count"),
    Outcome("fewest_active", "active rows, fewest anywhere on the domain", kind="count"),
    Outcome("rectifying", "active rows are certain to span everywhere on the domain", kind="proportion"),
    Outcome("injective", "layer is certain to be injective on the domain", kind="proportion"),
    Outcome("not_injective", "two inputs of the domain with one output were found", kind="proportion"),
    Outcome("frame_lower", "smallest lower frame bound A of active rows at the inputs drawn"),
    Outcome("frame_upper", "largest upper frame bound B of active rows at the inputs drawn"),
    Outcome("log_condition", "log10 of B/A of active rows, mean over inputs where they span"),
    Outcome("log_worst_condition", "log10 of B/A of active rows, largest where they span"),
    Outcome("lower_lipschitz", "smallest singular value of active rows at the inputs drawn"),
    Outcome("upper_lipschitz", "largest singular value of W"),
    *(Outcome(f"error_{method}", f"relative error of reconstruction, {method}") for method in METHODS),
    *(Outcome(f"recovered_{method}", f"share of inputs reconstructed, {method}") for method in METHODS),
    *(Outcome(f"iterations_{method}", f"iterations of reconstruction, {method}") for method in METHODS[2:]),
)
_NAMES = frozenset(o.name for o in OUTCOMES)

STATISTIC = Statistic(
    name="frames",
    summary="Bias that the rows of a ReLU layer bear on a bounded domain, what is lost, and reconstruction",
    source="Haider, Ehler, Balazs, ICML 2023 (arXiv 2307.09672); arXiv 2406.15856",
    parameters=FramesParameters,
    shape=frozenset(FramesParameters.model_fields) - {"bias"},
    outcomes=OUTCOMES,
    sample=_sample,
    cost=_cost,
    memory=_memory,
    lane=_lane,
    theory=by_point(_theory, FramesParameters),
    exact=_exact,
    theory_note="Wendel's theorem, the mean number of facets, binomial numbers of active rows, known polytopes; "
    "of sampled_min the limit of many directions",
    references=(
        Reference(
            "redundancy", 2.0, "m = 2n", "Puthawala et al., arXiv 2006.08464: with fewer rows never", where=RANDOM
        ),
        Reference("redundancy", 6.7, "m = 6.7n", "Maillard et al., arXiv 2302.14112: for large n", where=RANDOM),
    ),
    realised={"redundancy": lambda p: p.m / p.n},
    witness=_witness,
)
