import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import binom

from sweeps.networks.folds import flips
from sweeps.theory import folding, folding_exact
from sweeps.theory.folding import HE, Law, segment, wide_folds


def gaussian(rng, widths, law=HE):
    """Weights (out, in) and biases; widths[0] is the input's."""
    pairs = list(pairwise(widths))
    weights = [rng.standard_normal((m, n)) * np.sqrt(law.weight_variance / n) for n, m in pairs]
    return weights, [rng.standard_normal(m) * np.sqrt(law.bias_variance) for _, m in pairs]


def orthogonal(rng, widths, law=HE):
    """Haar: orthonormal rows, or columns where a layer is wider than its inputs."""
    weights = []
    for n, m in pairwise(widths):
        Q, R = np.linalg.qr(rng.standard_normal((max(n, m), min(n, m))))
        Q = Q * np.sign(np.diag(R))
        weights.append(np.sqrt(law.weight_variance) * (Q if m >= n else Q.T))
    return weights, [rng.standard_normal(m) * np.sqrt(law.bias_variance) for m in widths[1:]]


def layers_at(weights, biases, points, slope=0.0):
    """Pre-activations and activations of every layer at points (P, inputs)."""
    H = points
    for W, b in zip(weights, biases, strict=True):
        Z = H @ W.T + b
        H = np.maximum(Z, 0) + slope * np.minimum(Z, 0)
        yield Z, H


def bits_at(*network, slope=0.0):
    return [Z > 0 for Z, _ in layers_at(*network, slope)]


def chi_of(bits):
    r1, r2 = (bits != bits[0]).sum(1).max(), (bits[1:] != bits[:-1]).sum()
    return 1 - r1 / r2 if r2 else 0.0


def line(points, samples):
    t = np.linspace(0, 1, samples)[:, None]
    return (1 - t) * points[0] + t * points[1]


def within(sample, expected, besides=1e-12):
    sample = np.asarray(sample, dtype=np.float64)
    errors = 4 * sample.std(0, ddof=1) / np.sqrt(len(sample))
    return np.all(np.abs(sample.mean(0) - expected) <= errors + besides)


def exactly(weights, biases, points):
    """(chi of layers 1 to l, chi of layer l alone, flips a layer), each (depth,), from every flip."""
    places, neurons = flips(weights, biases, *points)
    ends = np.cumsum([len(b) for b in biases])
    start = np.concatenate(bits_at(weights, biases, points[:1]), axis=1)[0]
    layer = np.searchsorted(ends, neurons, side="right")
    rows = []
    for mine in [*(layer <= k for k in range(len(ends))), *(layer == k for k in range(len(ends)))]:
        changed, distance, r1 = np.zeros_like(start), 0, 0
        for j in neurons[mine]:
            changed[j] ^= True
            distance += 1 if changed[j] else -1
            r1 = max(r1, distance)
        rows.append(1 - r1 / mine.sum())
    assert np.all(np.diff(places) >= 0)
    return *np.array(rows).reshape(2, -1), np.bincount(layer, minlength=len(ends))


WIDE = [
    pytest.param(HE, (1.0, 1.0), 1.9, id="he"),
    pytest.param(Law(2.0, 0.5), (1.0, 1.0), 1.9, id="biased"),
    pytest.param(Law(2.0, 2.0), (2.0, 0.5), 2.8, id="unequal norms"),
    pytest.param(Law(1.0, 0.3), (1.0, 3.0), 1.2, id="gain 1/2"),
    pytest.param(Law(4.0, 0.1), (1.0, 1.0), 3.0, id="gain 2"),
]


@pytest.mark.parametrize(("law", "norms", "angle"), WIDE)
def test_wide_networks_fold_as_chords_contract(law, norms, angle):
    widths, points = [200, 300, 250], segment(angle, norms)
    expected = wide_folds(widths, points, law)
    rng = np.random.default_rng(3)
    found = [exactly(*gaussian(rng, [2, *widths], law), points) for _ in range(25)]
    to_layer, by_layer, flipped = zip(*found, strict=True)
    assert within(to_layer, expected.chi, besides=1 / 200)
    assert within(by_layer, expected.chi_by_layer, besides=1 / 200)
    assert within(flipped, np.diff([0, *expected.r2]), besides=1)


@pytest.mark.parametrize("slope", [0.3, -1.0, -0.4])
@pytest.mark.parametrize("bias_variance", [0.0, 0.4])
def test_wide_networks_of_other_slopes(slope, bias_variance):
    law, widths, points = Law(2 / (1 + slope**2), bias_variance, slope), [250] * 3, segment(2.2, (1.0, 1.4))
    rng = np.random.default_rng(1)
    coarse, fine, flipped, chords = [], [], [], []
    for _ in range(14):
        bits = np.concatenate(bits_at(*gaussian(rng, [2, *widths], law), line(points, 401), slope=slope), axis=1)
        fine.append(chi_of(bits))
        coarse.append(chi_of(bits[::40]))
        flipped.append((bits[1:] != bits[:-1]).reshape(-1, 3, 250).sum((0, 2)))
        chords.append((bits[0] != bits[-1]).reshape(3, 250).sum(1))
    expected = wide_folds(widths, points, law)
    assert within(fine, expected.chi[-1], besides=1 / 250)
    assert within(coarse, folding.sampled_chi(widths, 2.2, 11, law, (1.0, 1.4)), besides=1 / 250)
    assert within(flipped, 250 * expected.arcs / np.pi, besides=1)
    assert within(chords, 250 * expected.chords / np.pi, besides=1)


def test_arcs_are_the_sums_of_many_small_chords():
    points = np.random.default_rng(0).standard_normal((3, 5))
    for law in (HE, Law(1.7, 0.6, 0.2), Law(3.0, 0.2), Law(1.0, 0.5, -1.0)):
        fine = wide_folds([1] * 4, points, law, samples=20_001)
        np.testing.assert_allclose(folding.arcs(4, points, law), fine.arcs, rtol=2e-4)


def test_wide_folds_along_a_polyline():
    rng = np.random.default_rng(5)
    points, widths, law = rng.standard_normal((3, 6)), [300, 300], Law(2.0, 0.2)
    corner = np.concatenate([line(points[:2], 301), line(points[1:], 301)[1:]])
    found = [chi_of(np.concatenate(bits_at(*gaussian(rng, [6, *widths], law), corner), axis=1)) for _ in range(30)]
    assert within(found, wide_folds(widths, points, law).chi[-1], besides=1 / 300)
    back = wide_folds(widths, points[[0, 1, 0]], law)
    assert back.chords == pytest.approx(0, abs=1e-7)
    there = wide_folds(widths, points[:2], law)
    np.testing.assert_allclose(back.r1, there.r1)
    np.testing.assert_allclose(back.r2, 2 * there.r2)


def test_one_layer_never_folds_and_a_still_path_neither():
    found = wide_folds([7], segment(2.0, (1.0, 3.0)), Law(2.0, 0.7))
    assert found.chi[0] == pytest.approx(0, abs=1e-14)
    assert found.r2[0] == pytest.approx(7 * folding_exact.biased_angle(2.0, 2.0, 0.7, (1.0, 3.0)) / np.pi)
    still = np.ones((2, 3))
    assert not wide_folds([5, 5], still, Law(2.0, 0.1)).chi.any()


def test_a_whole_line_breaks_once_a_neuron():
    far = np.array([[-1e9, 1.0], [1e9, 1.0]])
    np.testing.assert_allclose(folding.arcs(6, far, Law(2.0, 1.0)), np.pi, rtol=1e-7)


def test_the_first_layer_is_binomial_for_ends_of_any_length():
    width, law, points = 5, Law(1.3, 0.8), segment(2.0, (0.6, 2.5))
    (W,), (b,) = gaussian(np.random.default_rng(2), [2, width * 40_000], law)
    different = ((points[0] @ W.T + b > 0) != (points[1] @ W.T + b > 0)).reshape(-1, width).sum(1)
    angle = folding_exact.biased_angle(2.0, 1.3, 0.8, (0.6, 2.5))
    expected = folding_exact.hamming(width, angle)
    assert expected.sum() == pytest.approx(1)
    for k, p in enumerate(expected):
        assert within(different == k, p)


@pytest.mark.parametrize(
    ("widths", "angle", "slope"), [((3, 1, 4, 2), 2.0, 0.0), ((2, 3, 3), 1.0, 0.0), ((3, 2, 1, 3), 2.5, -1.0)]
)
@pytest.mark.parametrize("draw", [gaussian, orthogonal])
def test_mean_folds_are_exact_by_layer(draw, widths, angle, slope):
    rng = np.random.default_rng(8)
    points, expected = line(segment(angle), 2), folding_exact.mean_folds(widths, angle, slope)
    rows = [walk(*draw(rng, [2, *widths]), points, slope) for _ in range(600)]
    assert within(rows, [expected[name] for name in ("breakpoints", "r2", "arc")], besides=1e-6)
    totals = folding_exact.mean_breakpoints(widths, angle, slope)
    assert totals["r2"] == pytest.approx(expected["r2"].sum())


def walk(weights, biases, points, slope):
    """(breakpoints, r2, arc), each (depth,), by zeros of affine pieces found one layer after the other."""
    t, breakpoints, r2, arc = np.array([0.0, 1.0]), [], [], []
    for layer in range(1, len(weights) + 1):
        network = weights[:layer], biases[:layer]
        Z = list(layers_at(*network, (1 - t[:, None]) * points[0] + t[:, None] * points[1], slope))[-1][0]
        Z[np.abs(Z) < 1e-12] = 0
        i, j = np.nonzero(Z[:-1] * Z[1:] < 0)
        zeros = t[i] + (t[i + 1] - t[i]) * Z[i, j] / (Z[i, j] - Z[i + 1, j])
        breakpoints.append(len(zeros))
        t = np.unique([*t, *zeros])
        middle = (t[1:] + t[:-1])[:, None] / 2
        bits = bits_at(*network, (1 - middle) * points[0] + middle * points[1], slope=slope)[-1]
        r2.append((bits[1:] != bits[:-1]).sum())
        H = list(layers_at(*network, (1 - t[:, None]) * points[0] + t[:, None] * points[1], slope))[-1][1]
        H[np.abs(H) < 1e-12] = 0
        both = H.any(1)[1:] & H.any(1)[:-1]
        arc.append(folding._angle(H[:-1], H[1:])[both].sum())
    return breakpoints, r2, arc


@pytest.mark.parametrize("slope", [0.0, 0.25, -1.0])
@pytest.mark.parametrize(("draw", "law"), [(gaussian, Law(1.5, 0.3)), (orthogonal, Law(1.5, 0.3)), (gaussian, HE)])
def test_mean_lengths_are_exact(draw, law, slope):
    rng = np.random.default_rng(4)
    inputs, widths = 3, [2, 4, 3]
    x, velocity = rng.standard_normal((2, inputs))
    found = []
    for _ in range(1500):
        network, V, speeds = draw(rng, [inputs, *widths], law), velocity, []
        for W, (Z, _) in zip(network[0], layers_at(*network, x[None], slope), strict=True):
            V = np.where(Z[0] > 0, 1, slope) * (W @ V)
            speeds.append(np.linalg.norm(V))
        found.append(speeds)
    length, haar = float(np.linalg.norm(velocity)), draw is orthogonal
    assert within(found, folding_exact.mean_lengths(widths, inputs, length, law.weight_variance, slope, haar))


@pytest.mark.parametrize("width", [1, 2, 3, 10, 1000, 2**20])
def test_mean_norm_against_the_sum_over_active_neurons(width):
    def chi(k):
        return np.sqrt(2) * np.exp(gammaln((k + 1) / 2) - gammaln(k / 2))

    k = np.arange(1, width + 1)
    rounding = 1e-14 * width * max(1, math.log(width)) + 1e-13 if width < 2000 else 1e-8
    active = binom.pmf(k, width, 0.5) @ chi(k)
    assert folding_exact.mean_norm(width) == pytest.approx(active, rel=rounding)
    assert folding_exact.mean_norm(width, -1.0) == pytest.approx(chi(width), rel=rounding)
    assert folding_exact.mean_norm(width, 1.0) == folding_exact.mean_norm(width, -1.0)


def test_wide_layers_keep_lengths_up_to_one_over_width():
    for slope in (0.0, 0.3, -1.0):
        fourth = 3 * (1 + slope**4) / 2 / ((1 + slope**2) / 2) ** 2  # of a term of Q over its squared mean
        factor = folding_exact.mean_norm(2**20, slope) / math.sqrt(2**20 * (1 + slope**2) / 2)
        assert (1 - factor) * 2**20 == pytest.approx((fourth - 1) / 8, rel=1e-4)


def test_exact_means_of_other_slopes_are_refused():
    with pytest.raises(ValueError, match=r"slopes 0 and -1, got 0\.1"):
        folding_exact.mean_folds([3], 1.0, 0.1)
