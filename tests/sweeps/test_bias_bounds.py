from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.errors import OutsideError
from sweeps.frames import Domain, bias_bounds, reconstruct
from sweeps.frames.on_data import pair, polytope_bias_on_data
from sweeps.frames.rows import polytope


def unit_rows(m: int, n: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(m, n))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("law", "domain", "want"),
    [
        ("simplex", "sphere", -1 / math.sqrt(3)),
        ("simplex", "ball", -1 / math.sqrt(3)),
        ("icosahedron", "sphere", 0.4472136),
        ("icosahedron", "ball", 0.0),
        ("icosahedron", Domain("donut", 2.0, 0.5), 0.5 / math.sqrt(5)),
        ("cross", "sphere", 0.0),
    ],
)
def test_known_polytopes(law: str, domain: Any, want: float) -> None:
    found = bias_bounds(polytope(law, 3), domain)
    assert (found.method, found.certified) == ("polytope", True)
    np.testing.assert_allclose(found.unit, want, atol=1e-7)
    sampled = bias_bounds(polytope(law, 3), domain, "sampled", samples=30_000)
    assert not sampled.certified
    assert np.all((sampled.unit >= found.unit - 1e-12) & (sampled.unit <= found.unit + 0.02))


def test_an_orthonormal_basis_has_no_facets_around_0_and_bears_no_bias_where_x_is_positive() -> None:
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    with pytest.raises(OutsideError, match="0 is not inside the convex hull of the rows"):
        bias_bounds(basis, method="polytope")
    found = bias_bounds(basis)  # all rows must be active, at -phi_i too
    assert (found.method, found.certified) == ("sampled", False)
    assert np.all((found.unit >= -1) & (found.unit < -0.95))
    np.testing.assert_allclose(bias_bounds(np.eye(4), "nonnegative").bias, 0, atol=1e-12)


def test_lengths_scale_the_bias() -> None:
    rows, lengths = unit_rows(20, 3), np.linspace(0.1, 9, 20)
    for method in ("polytope", "sampled"):
        unit = bias_bounds(rows, "sphere", method, samples=500)
        long = bias_bounds(rows * lengths[:, None], "sphere", method, samples=500)
        np.testing.assert_allclose(long.unit, unit.unit, atol=1e-12)
        np.testing.assert_allclose(long.bias, unit.unit * lengths, atol=1e-12)


def test_a_linear_layer_with_the_bias_it_bears_gives_every_input_back() -> None:
    layer = torch.nn.Linear(3, 18)
    with torch.no_grad():
        found = bias_bounds(layer, Domain("ball", 2.0))
        layer.bias.copy_(torch.from_numpy(-found.bias))
    held = bias_bounds(layer, Domain("ball", 2.0))
    assert np.all(held.holds | (np.abs(held.layer - held.bias) < 1e-6))
    W, alpha = layer.weight.detach().double().numpy(), found.bias
    x = Domain("ball", 2.0).points(np.random.default_rng(0).normal(size=(200, 3)), np.linspace(0.01, 1, 200))
    back = reconstruct(W, alpha, np.maximum(x @ W.T - alpha, 0))
    np.testing.assert_allclose(back.x, x, atol=1e-11)


def test_rows_said_to_be_general_give_the_same() -> None:
    rows = unit_rows(60, 12, 5)
    one, other = (bias_bounds(rows, "sphere", samples=2000, general=general).unit for general in (False, True))
    np.testing.assert_array_equal(one, other)


def test_holds_compares_row_by_row() -> None:
    layer = torch.nn.Linear(2, 6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(unit_rows(6, 2, 3)))
        layer.bias.copy_(torch.tensor([9.0, 9, 9, -9, -9, -9]))  # ReLU(W x + bias)
    found = bias_bounds(layer)
    np.testing.assert_array_equal(found.layer, [-9, -9, -9, 9, 9, 9])
    assert found.holds.tolist() == [True] * 3 + [False] * 3


def test_a_convolution_is_the_layer_of_its_matrix() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular")
    found = bias_bounds(layer, "ball", image=(4, 4), samples=300)
    assert found.bias.shape == (48,)
    assert (found.method, found.certified) == ("sampled", False)
    assert layer.bias is not None
    np.testing.assert_allclose(found.layer, -np.repeat(layer.bias.detach().double().numpy(), 16))


def test_a_file_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", polytope("icosahedron", 3))
    for given in (tmp_path / "w.npy", str(tmp_path / "w.npy")):
        np.testing.assert_allclose(bias_bounds(given, "sphere").bias, 1 / math.sqrt(5))


class TestData:
    data = np.random.default_rng(4).normal(size=(60, 3)) * 3

    def test_facets_against_a_slow_look(self) -> None:
        from sweeps.frames.facets import facets

        rows = unit_rows(14, 3, 2)
        corners, want = facets(rows), np.full(14, np.inf)
        for x in self.data:
            inside = [f for f in corners if np.all(np.linalg.solve(rows[f].T, x) >= 0)]
            assert len(inside) == 1
            want[inside[0]] = np.minimum(want[inside[0]], rows[inside[0]] @ x)
        np.testing.assert_allclose(polytope_bias_on_data(rows, corners, self.data), want, atol=1e-12)

    def test_both_methods_are_certified_and_give_the_data_back(self) -> None:
        rows = unit_rows(14, 3, 2)
        for method in (None, "polytope", "sampled"):
            found = bias_bounds(rows, Domain("data", data=self.data), method)
            assert found.certified
            back = reconstruct(rows, found.bias, np.maximum(self.data @ rows.T - found.bias, 0))
            np.testing.assert_allclose(back.x, self.data, rtol=1e-10, atol=1e-10)

    def test_rows_are_active_where_they_are_needed_and_not_on_the_border(self) -> None:
        rows, data = np.array([[1.0, 0], [0, 1], [0, -1]]), np.array([[1.0, 1], [1, -1]])
        for method in ("polytope", "sampled"):
            given = rows if method == "sampled" else np.vstack([np.eye(2), -np.eye(2)])
            found = bias_bounds(given, Domain("data", data=data), method)
            outputs = np.maximum(data @ given.T - found.bias, 0)
            assert found.certified
            assert np.all((outputs > 0).sum(1) == 2)
            assert not np.array_equal(outputs[0], outputs[1])

    def test_inputs_with_one_output_to_rounding_are_found(self) -> None:
        v = np.array([1.0, -2.0, 1.0]) / math.sqrt(6)
        W = np.random.default_rng(0).normal(size=(8, 3))
        W -= np.outer(W @ v, v)
        x = np.array([0.3, 0.2, -0.1])
        data = np.vstack([self.data, x - 0.5 * v, x - 0.9 * v])
        found = pair(W, np.full(8, -0.1), data)
        assert found is not None
        assert {tuple(found.first), tuple(found.second)} == {tuple(data[-2]), tuple(data[-1])}
        assert found.difference < 1e-15
        assert pair(W, np.full(8, -0.1), data[:-1]) is None
        assert pair(W, np.full(8, -0.1), np.vstack([data[:-1], data[-2] + 1e-14])) is None  # one input twice

    def test_a_row_that_nothing_needs_may_be_silent(self) -> None:
        rows = np.vstack([np.eye(2), -np.eye(2)])
        found = bias_bounds(rows, Domain("data", data=np.array([[3.0, 4.0], [1.0, 0.5]])))
        np.testing.assert_allclose(found.bias, [1.0, 0.5, 5.0, 5.0], rtol=2e-8)

    def test_zeros_alone(self) -> None:
        found = bias_bounds(np.eye(2), Domain("data", data=np.zeros((2, 2))))
        np.testing.assert_array_equal(found.bias, [0, 0])


def test_one_input_is_too_few() -> None:
    with pytest.raises(ValueError, match="W must have at least 2 columns"):
        bias_bounds(np.array([[1.0], [-1.0]]), "sphere")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "bal"}, "unknown domain 'bal'; did you mean 'ball'?"),
        ({"method": "facets"}, "unknown method 'facets'"),
        ({"samples": 0}, "samples must be a whole number, at least 1, got 0"),
        ({"samples": 1e4}, "samples must be a whole number, at least 1, got 10000.0"),
        ({"seed": None}, "seed must be a whole number, at least 0, got None"),
        ({"device": "banana"}, "unknown device 'banana'"),
        ({"domain": np.ones((2, 3))}, "domain must be a Domain or the name of a kind, got ndarray"),
        ({"domain": Domain("data", data=np.ones((2, 4)))}, "data must have n = 3 columns as W has, got shape (2, 4)"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        bias_bounds(unit_rows(12, 3), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, "radius must be positive and finite, got 0.0"),
        ({"kind": "donut", "inner": 2.0}, "inner must be above 0 and at most radius = 1.0, got 2.0"),
        ({"inner": 0.5}, 'inner is for a "donut", and the domain is "ball"; leave it out'),
        ({"kind": "data"}, 'data is for the domain "data", and only for it'),
        ({"data": np.ones((1, 2))}, 'data is for the domain "data", and only for it'),
        (
            {"kind": "data", "data": np.ones(3)},
            "data must be finite inputs (inputs, n), at least one, got float64 (3,)",
        ),
        ({"kind": "data", "data": [["a", "b"]]}, "data must be finite inputs (inputs, n), at least one, got <U1"),
        (
            {"kind": "data", "data": np.ones((2, 2)) * 1j},
            "data must be finite inputs (inputs, n), at least one, got complex",
        ),
        ({"kind": "data", "data": [[1.0], [1.0, 2.0]]}, "data must be inputs (inputs, n); ValueError"),
        ({"radius": "1"}, "radius must be a number, got '1'"),
    ],
    ids=str,
)
def test_domains_that_do_not_fit_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Domain(**arguments)


@pytest.mark.parametrize(
    ("domain", "least", "most"),
    [
        (Domain("sphere", 3.0), 3, 3),
        (Domain("ball", 2.0), 0, 2),
        (Domain("donut", 2.0, 0.5), 0.5, 2),
        (Domain("nonnegative"), 0, 1),
    ],
    ids=str,
)
def test_points_are_uniform_by_volume(domain: Domain, least: float, most: float) -> None:
    rng = np.random.default_rng(0)
    x = domain.points(rng.normal(size=(4000, 3)).astype(np.float32), rng.random(4000))
    lengths = np.linalg.norm(x, axis=1)
    assert np.all((lengths >= least - 1e-12) & (lengths <= most + 1e-12))
    if least < most:
        share = (lengths**3 - least**3) / (most**3 - least**3)
        assert abs(share.mean() - 0.5) <= 4 * share.std() / math.sqrt(4000)
    assert (x.min() >= 0) == domain.positive
