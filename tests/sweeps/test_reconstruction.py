"""Inputs found again from outputs, against pseudo-inverses, plain loops, closed forms and every refusal."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from sweeps.errors import NotInjectiveError, NotInRangeError, UnknownNameError
from sweeps.frames.reconstruction import Method, reconstruct, reconstructed

METHODS = get_args(Method)
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)


def a_layer(m, n, k, bias=0.3, seed=0):
    """Rows of lengths .5 to 2, biases about -`bias` times these, and k points of the ball with their outputs."""
    rng = np.random.default_rng(seed)
    unit = rng.standard_normal((m, n))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    lengths = rng.uniform(0.5, 2, m)
    W, alpha = unit * lengths[:, None], -bias * lengths * rng.uniform(0.5, 1.5, m)
    x = rng.standard_normal((k, n))
    x *= (rng.uniform(size=k) ** (1 / n) / np.linalg.norm(x, axis=1))[:, None]
    return W, alpha, x, outputs(W, alpha, x)


def outputs(W, alpha, x):
    return np.maximum(x @ W.T - alpha, 0)


def hull(W):
    return ConvexHull(W / np.linalg.norm(W, axis=1, keepdims=True)).simplices


def facets_for(method, W):
    return {"facets": hull(W)} if method == "facet" else {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("m", "n"), [(8, 2), (24, 3), (40, 5)])
def test_every_method_finds_the_input(m, n, method):
    W, alpha, x, y = a_layer(m, n, 25)
    found = reconstruct(W, alpha, y, method, tolerance=1e-14, **facets_for(method, W))
    assert np.abs(found.x - x).max() < 1e-12
    assert found.residual.shape == found.iterations.shape == (25,)
    assert found.residual.max() < 1e-12
    assert (found.iterations > 0).all() == (method in ("iterative", "constrained"))
    assert found.iterations.max() < 1000


@pytest.mark.parametrize("method", METHODS)
def test_one_output_as_in_a_batch(method):
    W, alpha, x, y = a_layer(24, 3, 6)
    given = facets_for(method, W)
    batch = reconstruct(W, alpha, y, method, **given)
    for i in range(6):
        one = reconstruct(W.tolist(), alpha, y[i].tolist(), method, **given)
        np.testing.assert_array_equal(one.x, batch.x[i])
        assert (one.iterations, one.residual) == (batch.iterations[i], batch.residual[i])
        assert isinstance(one.iterations, int)
        np.testing.assert_allclose(one.x, x[i], atol=1e-10)


def test_one_bias_for_all():
    W, _, x, _ = a_layer(24, 3, 4)
    np.testing.assert_allclose(reconstruct(W, -0.2, outputs(W, -0.2, x)).x, x, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_bits_of_an_output_do_not_depend_on_the_others(method):
    W, alpha, _, y = a_layer(30, 4, 12, bias=0.05)
    facets = hull(W)
    first = reconstructed(W, alpha, y, method, facets)
    order = np.random.default_rng(1).integers(0, 12, 21)
    for got, want in zip(reconstructed(W, alpha, y[order], method, facets), first, strict=True):
        np.testing.assert_array_equal(got, want[order])


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_raises_nothing_and_says_nan(method):
    W, alpha, x, y = a_layer(7, 3, 200, bias=-0.1)
    found, steps = reconstructed(W, alpha, y, method, hull(W) if method == "facet" else None)
    spans = np.array([np.linalg.matrix_rank(W[row > 0]) == 3 if (row > 0).any() else False for row in y])
    told = ~np.isnan(found).any(axis=1)
    assert 5 < spans.sum() < 195
    assert (told <= spans).all() if method == "facet" else (told == spans).all()
    finished = told & (steps < 100_000)
    assert np.abs(found - x)[finished].max() < 1e-7  # a step below 1e-12 |x| leaves 1e-12 B/A
    assert np.isnan(found[~told]).all()


def test_no_outputs():
    x, steps = reconstructed(np.eye(2), np.zeros(2), np.zeros((0, 2)), "canonical")
    assert (x.shape, steps.shape) == ((0, 2), (0,))
    assert reconstruct(np.eye(2), 0, np.zeros((0, 2))).x.shape == (0, 2)


def test_no_facets():
    assert np.isnan(reconstructed(np.eye(2), np.zeros(2), np.ones((1, 2)), "facet", np.zeros((0, 2), int))[0]).all()


def test_canonical_is_the_pseudo_inverse_of_unit_rows():
    """On an output that is off by less than the range's tolerance, where methods differ."""
    W, alpha, _, y = a_layer(24, 3, 1)
    y = y[0] + 1e-7 * (y[0] > 0) * np.random.default_rng(2).standard_normal(24)
    chosen, lengths = y > 0, np.linalg.norm(W, axis=1)
    want = np.linalg.pinv(W[chosen] / lengths[chosen, None]) @ ((y + alpha) / lengths)[chosen]
    got = reconstruct(W, alpha, y)
    np.testing.assert_allclose(got.x, want, rtol=0, atol=1e-14)
    assert 1e-9 < got.residual < 1e-6


def test_facet_takes_the_best_conditioned_one():
    W, alpha, _, y = a_layer(24, 3, 1)
    y = y[0] + 1e-7 * (y[0] > 0) * np.random.default_rng(2).standard_normal(24)
    lengths, facets = np.linalg.norm(W, axis=1), hull(W)
    unit = W / lengths[:, None]
    inside = [f for f in facets if (y[f] > 0).all()]
    assert 1 < len(inside) < len(facets)
    best = min(inside, key=lambda f: np.linalg.cond(unit[f]))
    want = np.linalg.solve(unit[best], ((y + alpha) / lengths)[best])
    np.testing.assert_allclose(reconstruct(W, alpha, y, "facet", facets=facets).x, want, atol=1e-14)


def test_facets_are_found_where_none_are_given():
    W, alpha, x, y = a_layer(24, 3, 4)
    np.testing.assert_allclose(reconstruct(W, alpha, y, "facet").x, x, atol=1e-13)


def plain_loop(W, alpha, y, constrained, most, tolerance=1e-12):
    """The frame algorithm in a few lines; of the variant only what it promises, with B_J itself as the eigenvalue."""
    active, x = y > 0, np.zeros(W.shape[1])
    A, B = np.linalg.eigvalsh(W[active].T @ W[active])[[0, -1]]
    ceiling = np.linalg.eigvalsh(W.T @ W)[-1]
    steps, change = 0, np.inf
    while steps < most and np.linalg.norm(change) > tolerance * np.linalg.norm(x):
        gap = y + alpha - W @ x
        joins = ~active & (gap < 0) if constrained else np.zeros(len(W), bool)
        largest = min(B + (W[joins] ** 2).sum(), ceiling)
        change = 2 / (A + largest) * W[active | joins].T @ gap[active | joins]
        x, steps = x + change, steps + 1
    return x, steps


@pytest.mark.parametrize("method", ["iterative", "constrained"])
def test_the_frame_algorithm_against_a_plain_loop(method):
    W, alpha, _, y = a_layer(30, 8, 10, bias=0.1)
    for most in (1, 7, 100_000):
        x, steps = reconstructed(W, alpha, y, method, most=most)
        for i in range(10):
            want, count = plain_loop(W, alpha, y[i], method == "constrained", most)
            np.testing.assert_allclose(x[i], want, atol=1e-12)
            assert abs(steps[i] - count) <= 1


def test_the_rate_of_the_frame_algorithm():
    """W = diag(1, 2): A = 1, B = 4, and the errors are .6^t and (-.6)^t."""
    for t in range(1, 12):
        found = reconstruct(np.diag([1.0, 2]), 0, [3.0, 2], "iterative", most=t)
        np.testing.assert_allclose(found.x, [3 * (1 - 0.6**t), 1 - (-0.6) ** t], rtol=1e-13)
        assert found.iterations == t
        assert found.residual == pytest.approx(max(3 * 0.6**t, 2 * 0.6**t))


def errors_after(steps, method, W, alpha, x, y):
    """(len(steps), k)"""
    return np.array([np.linalg.norm(reconstructed(W, alpha, y, method, most=t)[0] - x, axis=1) for t in steps])


def test_the_rate_on_random_layers():
    W, alpha, x, y = a_layer(40, 10, 8)
    errors = errors_after((60, 90), "iterative", W, alpha, x, y)
    for i, row in enumerate(y):
        values = np.linalg.eigvalsh(W[row > 0].T @ W[row > 0])
        rate = (values[-1] - values[0]) / (values[-1] + values[0])
        assert errors[1, i] <= errors[0, i] * rate**30 * (1 + 1e-6)
        assert (errors[1, i] / errors[0, i]) ** (1 / 30) == pytest.approx(rate, rel=0.02)


def test_inactive_rows_bring_every_step_nearer():
    W, alpha, x, y = a_layer(60, 20, 12, bias=0.0)
    errors = errors_after(range(1, 40), "constrained", W, alpha, x, y)
    ceiling = np.linalg.eigvalsh(W.T @ W)[-1]
    A = np.array([np.linalg.eigvalsh(W[row > 0].T @ W[row > 0])[0] for row in y])
    assert (A > 1e-6).all()
    assert (errors[1:] <= errors[:-1] * (ceiling - A) / (ceiling + A) * (1 + 1e-12)).all()


def test_inactive_rows_help_where_few_are_active():
    """Not for every input, as the steps are shorter; in the mean."""
    layer = a_layer(60, 20, 100, bias=0.0)
    plain, constrained = (errors_after((10, 100), method, *layer) for method in ("iterative", "constrained"))
    gain = np.log(plain / constrained)
    assert (gain.mean(axis=1) > 4 * gain.std(axis=1) / 10).all()


def test_2_over_a_plus_b_of_the_active_rows_diverges_with_inactive_ones():
    W, alpha, _, y = a_layer(60, 20, 12, bias=0.0)
    grown = 0
    for row in y:
        A, B = np.linalg.eigvalsh(W[row > 0].T @ W[row > 0])[[0, -1]]
        x = np.zeros(20)
        for _ in range(300):
            gap = row + alpha - W @ x
            joins = (row > 0) | (gap < 0)
            x = x + 2 / (A + B) * W[joins].T @ gap[joins]
        grown += np.linalg.norm(x) > 100
    assert grown


@pytest.mark.parametrize(("W", "alpha", "x"), [
    (TETRAHEDRON, 0.0, np.zeros(3)),
    (np.array([[1.0, 0], [0, 1], [0, -1]]), 0.0, np.array([2.0, 0])),
    (np.array([[1.0, 0], [0, 3], [0, -2]]), np.array([-1, 1.5, -1]), np.array([0.25, 0.5])),
    (np.array([[1.0, 0, 0], [0, 1, 0], [0, -1, 2], [0, -1, -2]]), 0.0, np.array([1.0, 0, 0])),
])  # fmt: skip
def test_inactive_rows_pin_down_what_active_ones_do_not(W, alpha, x):
    y = outputs(W, alpha, x)
    with pytest.raises(NotInjectiveError):
        reconstruct(W, alpha, y)
    found = reconstruct(W, alpha, y, "constrained")
    np.testing.assert_allclose(found.x, x, atol=1e-14)
    assert found.residual < 1e-14


@pytest.mark.parametrize(("W", "alpha", "x"), [
    (TETRAHEDRON, 1e-5, np.zeros(3)),
    (TETRAHEDRON, 0.1, np.zeros(3)),
    (np.array([[1.0, 0], [0, 1], [0, -1]]), 1e-8, np.array([2.0, 0])),
    (np.array([[1.0, 0], [0, 1], [-1, -1]]), 0.0, np.array([2.0, 0])),
    (np.array([[1.0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]]), 0.0, np.array([1.0, 0, 0])),
])  # fmt: skip
def test_inactive_rows_that_leave_a_choice(W, alpha, x):
    with pytest.raises(NotInjectiveError, match="lost"):
        reconstruct(W, alpha, outputs(W, alpha, x), "constrained")


def test_not_injective_says_which_how_many_and_what_is_lost():
    W, alpha = np.vstack([np.eye(4), np.eye(4)[:2]]), np.zeros(6)
    y = outputs(W, alpha, np.array([[1.0, 1, 1, 1], [1, 2, -1, -3], [1, 1, 1, -1]]))
    for method in ("canonical", "iterative", "constrained"):
        with pytest.raises(NotInjectiveError) as caught:
            reconstruct(W, alpha, y, method)
        said = "output 1 does not tell its input: its 4 active rows of 6 span 2 of 4 dimensions, 2 are lost"
        assert str(caught.value) == said
    with pytest.raises(NotInjectiveError, match=r"output 0 .* 5 active rows of 6 span 3 of 4 dimensions, 1 is lost"):
        reconstruct(W, alpha, y[2])


@pytest.mark.parametrize("method", METHODS)
def test_out_of_range(method):
    W, alpha, _, y = a_layer(24, 3, 3)
    given = facets_for(method, W)
    y[2, 4] = -0.5
    with pytest.raises(NotInRangeError, match=r"output 2: its entry 4 is -0\.5, and none may be below 0"):
        reconstruct(W, alpha, y, method, **given)
    y[2] = outputs(W, alpha, np.array([0.1, 0.2, 0.3]))
    y[2, np.argmax(y[2])] += 1e-3
    with pytest.raises(NotInRangeError, match=r"output 2: .* row \d+ gives .* and not "):
        reconstruct(W, alpha, y, method, **given)


def test_an_inactive_row_that_ought_to_be_active():
    y = outputs(np.vstack([np.eye(2), [[3, 4]]]), 0, np.array([1.0, 2]))
    y[2] = 0
    with pytest.raises(NotInRangeError, match="its 2 active rows are met best, row 2 gives 11 and not 0"):
        reconstruct([[1, 0], [0, 1], [3, 4]], 0, y)
    with pytest.raises(NotInRangeError, match="output 0"):
        reconstruct([[1, 0], [0, 1], [3, 4]], 0, y, "constrained")


def test_outputs_in_float32_are_in_range():
    W, alpha, x, _ = a_layer(24, 3, 5)
    y = outputs(W.astype(np.float32), alpha.astype(np.float32), x.astype(np.float32))
    np.testing.assert_allclose(reconstruct(W, alpha, y).x, x, atol=1e-5)


def test_no_facet_is_active_though_the_rows_span():
    W = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    y = outputs(W, 0, np.array([1.0, 2]))
    with pytest.raises(ValueError, match=r'no facet of 3 has .* at output 0, though the 2 active .* "canonical"'):
        reconstruct(W, 0, y, "facet", facets=[[1, 2], [2, 3], [3, 0]])
    flat = [[0, 2], [0, 1]]
    np.testing.assert_allclose(reconstruct(W, 0, y, "facet", facets=flat).x, [1, 2])
    with pytest.raises(NotInjectiveError):
        reconstruct(W, 0, [1.0, 0, 0, 0], "facet", facets=flat)


@pytest.mark.parametrize(("changed", "message"), [
    ({"W": np.zeros(3)}, r"W must be \(m, n\), .* got \(3,\)"),
    ({"W": [[1.0, 0], [0, 0]]}, "row 1 of W is zero"),
    ({"W": [[1.0, np.nan], [0, 1]]}, "W must be finite, got nan"),
    ({"alpha": np.inf}, "alpha must be finite, got inf"),
    ({"alpha": [0.0, 0, 0]}, r"alpha must be a number or \(2,\)"),
    ({"y": [1.0, np.inf]}, "y must be finite, got inf"),
    ({"y": [1.0, 1, 1]}, r"y must be \(2,\) or \(k, 2\), .* got \(3,\)"),
    ({"y": np.ones((1, 1, 2))}, "y must be"),
    ({"tolerance": 0.0}, "tolerance must be"),
    ({"most": 0}, "most must be a whole number, at least 1"),
    ({"facets": [[0, 1]]}, 'facets are for the method "facet"'),
    ({"method": "facet", "facets": [[0.0, 1]]}, r"facets must be integers \(facets, 2\), .* float64"),
    ({"method": "facet", "facets": [[0, 2]]}, "facets must name rows 0 to 1, got 0 to 2"),
    ({"method": "facet", "facets": np.zeros((0, 2), int)}, "at least one"),
])  # fmt: skip
def test_what_does_not_fit(changed, message):
    with pytest.raises(ValueError, match=message):
        reconstruct(**{"W": np.eye(2), "alpha": 0.0, "y": [1.0, 2]} | changed)


def test_an_unknown_method():
    with pytest.raises(UnknownNameError, match="did you mean 'canonical'"):
        reconstruct(np.eye(2), 0, [1.0, 2], "canonic")  # pyright: ignore[reportArgumentType]
