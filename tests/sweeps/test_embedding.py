"""The embedding statistic: against matrices of drawn weights, closed forms and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweeps.inputs import sets
from sweeps.statistic import Networks, Points
from sweeps.statistics import get

STATISTIC = get("embedding")
PAIRS = np.triu_indices(4, 1)


def networks_of(n: int, key: int = 1, **values) -> Networks:
    """Draws 0 to n - 1 of one point."""
    shared = STATISTIC.parameters(**values).model_dump()
    return Networks(
        Points(shared, {}, 1).take(np.zeros(n, int)), np.full(n, key, np.uint64), np.arange(n, dtype=np.uint64)
    )


def sampled(networks: Networks) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in STATISTIC.sample(networks, "cpu").items()}


def limit(**values) -> dict[str, np.ndarray]:
    assert STATISTIC.theory is not None
    return {k: v[0] for k, v in STATISTIC.theory(Points(STATISTIC.parameters(**values).model_dump())).items()}


def by_hand(networks: Networks, width: int, images: np.ndarray) -> dict[str, np.ndarray]:
    """A linear fully connected layer of weight variance 1, its weights multiplied out in float64."""
    x = images.reshape(len(images), -1).astype(np.float64)
    gram = x @ x.T / x.shape[1]
    norms = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    distances = ((x[:, None] - x[None]) ** 2).mean(-1)
    found: dict[str, list] = {"max_distortion": [], "max_stretch": [], "cosine": []}
    for weights in networks.normals(0, width, x.shape[1]).astype(np.float64):
        h = x @ weights.T / math.sqrt(x.shape[1])
        after = h @ h.T / width
        stretched = ((h[:, None] - h[None]) ** 2).mean(-1)
        found["max_distortion"].append(np.abs((after - gram) / norms)[PAIRS].max())
        found["max_stretch"].append(np.abs(stretched[PAIRS] / distances[PAIRS] - 1).max())
        found["cosine"].append(after / np.sqrt(np.outer(np.diag(after), np.diag(after))))
    return {k: np.array(v) for k, v in found.items()}


def test_a_linear_layer_by_hand() -> None:
    values = {"width": 13, "depth": 1, "members": 4, "inputs": "photo-centred", "side": 5, "activation": "linear"}
    networks = networks_of(6, weight_variance=1, sampler="direct", **values)
    got, want = sampled(networks), by_hand(networks, 13, sets.inputs("photo-centred", 4, 5, 0.0, 0))
    for name, expected in want.items():
        np.testing.assert_allclose(got[name][:, 0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["max_deviation"], got["max_distortion"], rtol=1e-9)  # its limit is where it began
    np.testing.assert_allclose(got["mean_cosine"][:, 0], [c[PAIRS].mean() for c in want["cosine"]], atol=1e-5)
    np.testing.assert_allclose(got["participation"][:, 0], [16 / (c**2).sum() for c in want["cosine"]], rtol=1e-4)


def test_two_members_are_the_statistic_angle() -> None:
    values = {"width": 9, "depth": 3, "correlation": 0.3, "activation": "gelu", "bias_variance": 0.2}
    got = sampled(networks_of(20, members=2, sampler="direct", side=4, **values))
    angle = get("angle")
    shared = angle.parameters(sampler="direct", side=4, **values).model_dump()
    points = Points(shared, {}, 1).take(np.zeros(20, int))
    pair = angle.sample(Networks(points, np.full(20, 1, np.uint64), np.arange(20, dtype=np.uint64)), "cpu")
    np.testing.assert_array_equal(got["cosine"][..., 0, 1], np.asarray(pair["cosine"]))
    np.testing.assert_array_equal(got["mean_cosine"], np.asarray(pair["cosine"]))
    np.testing.assert_allclose(got["max_distortion"], np.abs(pair["distortion"]), rtol=1e-12)


@pytest.mark.parametrize("network", ["fnn", "cnn"])
def test_the_two_samplers_have_one_law(network: str) -> None:
    values = {"network": network, "width": 12, "depth": 2, "members": 4, "inputs": "photo-centred", "side": 4}
    direct = sampled(networks_of(2000, key=1, sampler="direct", **values))
    from_gram = sampled(networks_of(2000, key=2, sampler="gram", **values))
    for name in ("max_distortion", "max_stretch", "max_deviation", "mean_cosine", "participation"):
        for layer in range(2):
            a, b = direct[name][:, layer], from_gram[name][:, layer]
            assert stats.ks_2samp(a[~np.isnan(a)], b[~np.isnan(b)]).pvalue > 1e-3, (name, layer)


def test_deviations_fall_as_one_over_root_n() -> None:
    values = {"depth": 2, "members": 8, "correlation": 0.2}
    narrow, wide = (sampled(networks_of(200, width=w, **values))["max_deviation"].mean(0) for w in (256, 4096))
    np.testing.assert_allclose(narrow / wide, 4, rtol=0.15)


def test_one_layer_of_independent_inner_products() -> None:
    """k orthogonal Gaussian inputs in a wide linear layer: inner products are independent N(0, 1/N) in the limit, so
    sqrt(N) times the largest is that of |normals| as many as there are pairs."""
    draws = sampled(networks_of(2000, width=4096, depth=1, members=6, correlation=0.0, activation="linear",
                                weight_variance=1))["max_distortion"][:, 0]  # fmt: skip
    law = lambda x: (2 * stats.norm.cdf(x) - 1) ** 15  # noqa: E731
    assert stats.kstest(64 * draws, law).pvalue > 1e-3


def test_wide_networks_meet_the_limit() -> None:
    for network in ("fnn", "cnn"):
        values = {"network": network, "width": 512, "depth": 3, "members": 4, "inputs": "digits"}
        got, wide = sampled(networks_of(24, **values)), limit(**values)
        for name in ("cosine", "mean_cosine", "participation"):
            error = np.abs(got[name].mean(0) - wide[name])
            assert np.all(error <= 4 * stats.sem(got[name], axis=0) + 6 / 512 + 1e-12), (network, name)
        assert wide["mean_cosine"][-1] > limit(**values | {"depth": 1})["mean_cosine"][-1]


def test_inputs_collapse_with_depth() -> None:
    wide = limit(width=1, depth=100, members=10, correlation=0.0)
    assert wide["participation"][0] == pytest.approx(100 / (10 + 90 / math.pi**2))
    assert wide["participation"][-1] == pytest.approx(1, abs=0.01)
    assert np.all(np.diff(wide["participation"]) < 0)


def test_a_dead_network_is_undefined() -> None:
    got = sampled(networks_of(400, width=1, depth=1, members=3, correlation=0.0))
    dead = np.isnan(got["mean_cosine"][:, 0])
    assert 0.75 < dead.mean() < 0.95  # 7/8 but for the correlation
    np.testing.assert_array_equal(np.isnan(got["participation"][:, 0]), dead)
    diagonal = np.diagonal(got["cosine"][:, 0], axis1=-2, axis2=-1)
    assert set(np.unique(diagonal[~np.isnan(diagonal)])) == {1.0}
    assert np.isnan(diagonal).mean() == pytest.approx(0.5, abs=0.1)


def test_lanes_leave_room_for_what_is_made_of_the_cosines() -> None:
    p = STATISTIC.parameters(width=16, depth=100, members=128)
    assert p.launch_bytes > 5 * 100 * 128 * 128 * 8
    assert p.lane * STATISTIC.memory(p) <= 2**29
    with pytest.raises(ValueError, match="infinite-width theory of 128 inputs of 32 x 32 pixels needs"):
        STATISTIC.parameters(network="cnn", width=16, depth=2, members=128, pool_layers=1)
