import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from sweeps.networks.folds import flips, fold, fold_paths
from sweeps.networks.layered import fully_connected
from sweeps.networks.sparse_product import sparse_product
from sweeps.theory import cantornet as cantornet_theory
from sweeps.theory import folding as theory
from sweeps.theory import folding_exact
from sweeps.theory.arccos import angle_map, kappa1


def cantornet(times):
    block = [np.array([[3.0, 0], [-3, 0], [0, 1]]), np.array([[1.0, 1, 0], [0, 0, 1]])]
    shifts = [np.array([-2.0, 1, 0]), np.zeros(2)]
    return block * times + [np.array([[-0.5, 1]])], shifts * times + [np.array([-0.5])]


def he_network(rng, widths, bias_variance=0.0):
    """Weights (out, in) and biases; widths[0] is the input's."""
    pairs = list(pairwise(widths))
    weights = [rng.standard_normal((m, n)) * np.sqrt(2 / n) for n, m in pairs]
    return weights, [rng.standard_normal(m) * np.sqrt(bias_variance) for _, m in pairs]


def he_folds(seed, widths, angle, networks, bias_variance=0.0):
    """Folds (networks, 4) of random networks on the plane, as the statistic draws them."""
    rng = np.random.default_rng(seed)
    parts = []
    for n, m in zip([2, *widths[:-1]], widths, strict=True):
        parts.append(rng.standard_normal((networks, n * m)) * np.sqrt(2 / n))
        parts.append(rng.standard_normal((networks, m)) * np.sqrt(bias_variance))
    ends = np.sqrt(2) * np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    packed, paths = np.concatenate(parts, 1), np.tile(ends, (networks, 1, 1))
    found = fold_paths(fully_connected(2, widths), packed, np.arange(networks), paths)
    return np.stack([found.chi, found.r1, found.r2, found.breakpoints], axis=1)


def patterns(weights, biases, points):
    """Activation patterns (points, neurons)."""
    bits, H = [], points
    for W, b in zip(weights, biases, strict=True):
        Z = H @ W.T + b
        bits.append(Z > 0)
        H = np.maximum(Z, 0)
    return np.concatenate(bits, axis=1)


def fold_of(path):
    r1 = (path != path[0]).sum(axis=1).max()
    r2 = (path[1:] != path[:-1]).sum()
    return (1 - r1 / r2 if r2 else 0.0), r1, r2


def slow_places(weights, biases, x, y):
    """All breakpoints, one neuron and one interval at a time, every layer from the input again."""
    t = [0.0, 1.0]
    for layer in range(1, len(weights) + 1):
        new = []
        for lo, hi in pairwise(t):
            H = np.array([x + lo * (y - x), x + hi * (y - x)])
            for W, b in zip(weights[:layer], biases[:layer], strict=True):
                Z = H @ W.T + b
                H = np.maximum(Z, 0)
            for z0, z1 in Z.T:
                if z0 * z1 < 0:
                    new.append(lo + (hi - lo) * z0 / (z0 - z1))
        t = sorted([*t, *new])
    return np.array(t)


def slow_fold(weights, biases, x, y):
    t = slow_places(weights, biases, x, y)
    middle = (t[1:] + t[:-1])[:, None] / 2
    return fold_of(patterns(weights, biases, x + middle * (y - x)))


@pytest.mark.parametrize(("rows", "n", "m"), [(1, 1, 1), (8, 16, 16), (13, 37, 41), (33, 20, 3)])
def test_sparse_product_adds_in_order_with_one_rounding_a_term(rows, n, m):
    rng = np.random.default_rng(rows)
    H = rng.standard_normal((rows, n)) * (rng.random((rows, n)) < 0.3)
    W, b = rng.standard_normal((n, m)), rng.standard_normal(m)
    exact = np.vectorize(lambda h, w, z: float(Fraction(h) * Fraction(w) + Fraction(z)))
    expected = np.tile(b, (rows, 1))
    for k in range(n):
        expected = exact(H[:, k : k + 1], W[k], expected)
    np.testing.assert_array_equal(sparse_product(H, W, b), expected)


def within(sample, expected, errors=4):
    sample = np.asarray(sample, dtype=np.float64)
    return abs(sample.mean() - expected) < errors * sample.std(ddof=1) / np.sqrt(len(sample))


@pytest.mark.parametrize("times", range(1, 6))
def test_cantornet_is_exact(times):
    found = fold(*cantornet(times), [0, 0.75], [1, 0.75])
    expected = cantornet_theory.published(times)
    assert (found.r1, found.r2) == (2 * times + 1, 5 * 2**times - 4)
    assert (found.chi, found.r1, found.r2) == (expected["chi"], expected["r1"], expected["r2"])
    assert fold(*cantornet(times), [1, 0.75], [0, 0.75]).r2 == found.r2


def test_eleven_samples_misread_cantornet():
    t = np.linspace(0, 1, 11)[:, None]
    points = np.hstack([t, np.full_like(t, 0.75)])
    assert fold_of(patterns(*cantornet(5), points))[0] == pytest.approx(0.825, abs=0.01)


NETS = [
    pytest.param([3, 5, 4, 6], 0.0, id="small"),
    pytest.param([2, 7, 9, 3, 8], 0.5, id="biased, odd widths"),
    pytest.param([4, 33, 20, 17], 0.1, id="larger"),
    pytest.param([1, 6, 6, 6, 6, 6], 1.0, id="one input"),
    pytest.param([2, 1], 0.3, id="one neuron"),
    pytest.param([2, 1, 1, 1], 0.3, id="one neuron a layer"),
]


@pytest.mark.parametrize(("widths", "bias_variance"), NETS)
def test_equals_the_slow_walk_and_dense_sampling(widths, bias_variance):
    rng = np.random.default_rng(7)
    for _ in range(10):
        net = he_network(rng, widths, bias_variance)
        x, y = rng.standard_normal((2, widths[0]))
        found = fold(*net, x, y)
        chi, r1, r2 = slow_fold(*net, x, y)
        assert (found.r1, found.r2) == (r1, r2)
        assert found.chi == pytest.approx(chi)
        places, _ = flips(*net, x, y)
        assert len(places) == found.r2
        np.testing.assert_allclose(np.unique(places), np.unique(slow_places(*net, x, y)[1:-1]), atol=1e-9)

        dense = patterns(*net, x + np.linspace(0, 1, 20_001)[:, None] * (y - x))
        gaps = np.diff(np.concatenate([[0.0], places, [1.0]]))
        if gaps.min() > 1e-4:  # then no flip falls between two samples
            assert fold_of(dense)[1:] == (r1, r2)
        else:
            assert fold_of(dense)[2] <= r2


def test_reversal_keeps_the_path_and_whether_it_folds():
    rng = np.random.default_rng(3)
    for _ in range(300):
        net = he_network(rng, [2, 4, 4, 4], 0.2)
        x, y = rng.standard_normal((2, 2))
        there, back = fold(*net, x, y), fold(*net, y, x)
        assert there.r2 == back.r2
        assert (there.chi == 0) == (back.chi == 0)


def test_one_hidden_layer_is_binomial_and_never_folds():
    width, angle, bias_variance = 50, 1.0, 0.7
    chi, r1, r2, breakpoints = he_folds(0, [width], angle, 20_000, bias_variance).T
    p = math.acos((2 * math.cos(angle) + bias_variance) / (2 + bias_variance)) / math.pi
    assert folding_exact.biased_angle(angle, 2, bias_variance) == pytest.approx(p * math.pi)
    assert not chi.any()
    assert (r1 == r2).all()
    assert (breakpoints == r2).all()
    assert within(r2, width * p)
    assert within((r2 - width * p) ** 2, width * p * (1 - p))


def test_first_layer_without_biases_counts_the_hamming_distance():
    rng = np.random.default_rng(5)
    (W,), b = he_network(rng, [10, 200])
    x, y = rng.standard_normal((2, 10))
    assert fold([W], b, x, y).r2 == ((W @ x > 0) != (W @ y > 0)).sum()


@pytest.mark.parametrize(("depth", "chi"), [(2, 0.103115), (3, 0.178322), (5, 0.285070)])
def test_wide_networks_fold_as_their_angles_contract(depth, chi):
    widths = [256] * depth
    assert theory.wide_fold(widths, math.pi / 2)["chi"] == pytest.approx(chi, abs=1e-6)
    found = he_folds(depth, widths, math.pi / 2, 60)[:, 0]
    assert abs(found.mean() - chi) < 0.01


def test_wide_fold_of_uneven_widths():
    widths = [100, 400, 200]
    expected = theory.wide_fold(widths, 2.0)
    found = he_folds(1, widths, 2.0, 100)
    assert abs(found[:, 0].mean() - expected["chi"]) < 0.01
    assert found[:, 1].mean() == pytest.approx(expected["r1"], rel=0.02)


def test_sampled_chi_of_wide_networks():
    rng = np.random.default_rng(2)
    t = np.linspace(0, 1, 11)[:, None]
    points = np.hstack([1 - t, t])
    chi = [fold_of(patterns(*he_network(rng, [2, 400, 400, 400]), points))[0] for _ in range(60)]
    assert abs(np.mean(chi) - theory.sampled_chi([400] * 3, math.pi / 2, 11)) < 0.01
    many = theory.sampled_chi([1] * 5, 1.0, 100_001)
    assert many == pytest.approx(theory.wide_fold([1] * 5, 1.0)["chi"], abs=1e-4)


@pytest.mark.parametrize(
    ("widths", "angle"),
    [((1, 1), 1.0), ((2, 2, 2), 1.0), ((1, 5, 2, 4), 2.0), ((4, 4, 4, 4, 4), 3.0), ((6,) * 3, 0.3)],
)
def test_mean_breakpoints_are_exact_at_any_width(widths, angle):
    _, _, r2, breakpoints = he_folds(11, widths, angle, 40_000).T
    expected = folding_exact.mean_breakpoints(widths, angle)
    assert within(breakpoints, expected["breakpoints"])
    assert within(r2, expected["r2"])


def test_degenerate_segments():
    rng = np.random.default_rng(9)
    weights, biases = he_network(rng, [3, 20, 20, 20])
    x = rng.standard_normal(3)
    nothing = (0, 0, 0, 0)
    assert fold(weights, biases, x, x) == nothing
    assert fold(weights, biases, x, 2 * x) == nothing
    assert fold(weights, biases, 0 * x, x) == nothing

    through = fold(weights, biases, x, -0.3 * x)  # every neuron changes at the origin, together
    start, end = patterns(weights, biases, np.array([x, -x]))
    assert through == (0, (start != end).sum(), (start != end).sum(), 1)

    shifted = [b + 0.1 for b in biases]
    along = [np.vstack([[0.0, 0, 1], weights[0][1:]]), *weights[1:]]  # neuron 0 vanishes along the segment
    shifted[0][0] = 0.0
    a, b = np.array([1.0, 2, 0]), np.array([-2.0, 1, 0])
    assert fold(along, shifted, a, b)[1:3] == slow_fold(along, shifted, a, b)[1:]

    dead = [-np.abs(b) - 100 for b in biases]
    assert fold(weights, dead, x, -x) == nothing
    assert fold([np.zeros_like(W) for W in weights], biases, x, -x) == nothing


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_network_that_is_not_finite_has_no_fold(bad):
    weights, biases = he_network(np.random.default_rng(0), [2, 4, 4])
    broken = [weights[0], weights[1].copy()]
    broken[1][2, 1] = bad
    assert np.isnan(fold(broken, biases, [1, 0], [0, 1])).all()
    assert np.isnan(fold(weights, biases, [1, bad], [0, 1])).all()
    assert np.isnan(fold(weights, [biases[0], biases[1] + bad], [1, 0], [0, 1])).all()
    with pytest.raises(ValueError, match="not finite"):
        flips(broken, biases, [1, 0], [0, 1])


def test_twin_neurons_flip_together():
    weights, biases = he_network(np.random.default_rng(4), [2, 9, 9], 0.1)
    x, y = [3.0, -1.0], [-2.0, 2.0]
    once = fold(weights, biases, x, y)
    twins = [np.repeat(weights[0], 2, axis=0), np.repeat(np.repeat(weights[1] / 2, 2, axis=0), 2, axis=1)]
    twice = fold(twins, [np.repeat(b, 2) for b in biases], x, y)
    assert twice == (once.chi, 2 * once.r1, 2 * once.r2, once.breakpoints)


def test_scaling_changes_nothing():
    rng = np.random.default_rng(6)
    weights, biases = he_network(rng, [5, 40, 40, 40])
    x, y = rng.standard_normal((2, 5))
    expected = fold(weights, biases, x, y)
    for scale in (1e-9, 0.37, 1e9):
        assert fold([scale * W for W in weights], biases, x, y) == expected
        assert fold(weights, biases, scale * x, scale * y) == expected


def test_a_network_gives_the_same_bits_at_any_address():
    weights, biases = he_network(np.random.default_rng(8), [2, 37, 29, 41], 0.1)
    expected = flips(weights, biases, [1, 0], [0, 1])
    for shift in range(8):
        moved = [np.empty(W.size + shift)[shift:].reshape(W.shape) for W in weights]
        for W, copy in zip(weights, moved, strict=True):
            copy[:] = W
        found = flips(moved, biases, [1, 0], [0, 1])
        assert all(a.tobytes() == b.tobytes() for a, b in zip(expected, found, strict=True))


def test_angle_map_and_kernel_are_one_map_at_full_precision():
    theta = np.linspace(0, np.pi, 1001)
    np.testing.assert_allclose(np.cos(angle_map(theta)), kappa1(np.cos(theta)), atol=1e-14)
    np.testing.assert_allclose(kappa1([1, 0, -1]), [1, 1 / np.pi, 0], atol=1e-16)
    rho = np.linspace(-1, 1, 1001)
    np.testing.assert_allclose(kappa1(rho) - kappa1(-rho), rho, atol=1e-15)
    small = np.array([1e-12, 1e-6, 1e-3])
    np.testing.assert_allclose(angle_map(small), small - small**2 / (3 * np.pi), rtol=1e-7)
    assert np.isnan(kappa1(np.nan))
    cosines, rho = [], 0.0
    for _ in range(20):
        rho = kappa1(rho)
        cosines.append(rho)
    expected = [0.318310, 0.493731, 0.604826, 0.735946, 0.871536, 0.948428]
    np.testing.assert_allclose(np.array(cosines)[[0, 1, 2, 4, 9, 19]], expected, atol=1e-6)
