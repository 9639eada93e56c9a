from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.frames.active import active
from sweeps.frames.reconstruction import reconstructed
from sweeps.frames.rows import draw
from sweeps.measure import numerics
from sweeps.statistic import Networks, Points
from sweeps.statistics import frames
from sweeps.statistics._frames import FramesParameters
from sweeps.statistics.frames import STATISTIC
from sweeps.sweep import Sweep

SMALL = {"estimates": "none", "decide": False}


def parameters(**values: Any) -> FramesParameters:
    return FramesParameters(**values)


def networks_of(count: int, key: int = 1, **values: Any) -> Networks:
    points = Points(FramesParameters(**values).model_dump(), {}, 1).take(np.zeros(count, int))
    return Networks(points, np.full(count, key, np.uint64), np.arange(count, dtype=np.uint64))


def sampled(networks: Networks) -> dict[str, np.ndarray]:
    with numerics("float32"):
        return {k: np.asarray(v) for k, v in STATISTIC.sample(networks, "cpu").items()}


def measured(count: int, key: int = 1, **values: Any) -> dict[str, np.ndarray]:
    return sampled(networks_of(count, key, **values))


def predicted(**values: Any) -> dict[str, float]:
    points = Points(FramesParameters(**values).model_dump(), {}, 1)
    assert STATISTIC.theory is not None
    return {k: float(v[0]) for k, v in STATISTIC.theory(points).items()}


def save(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


class TestTheory:
    @pytest.mark.parametrize("rows", ["gaussian", "sphere"])
    @pytest.mark.parametrize(
        "domain",
        [
            {"domain": "sphere", "radius": 2.0},
            {"domain": "ball"},
            {"domain": "donut", "inner": 0.5},
            {"domain": "nonnegative"},
        ],
    )
    def test_active_rows_are_binomial(self, rows: str, domain: dict) -> None:
        values = {"n": 4, "redundancy": 2.5, "rows": rows, "bias": 0.1, "points": 40, **domain, **SMALL}
        got, want = measured(500, **values), predicted(**values)
        for name in ("active", "too_few", "lost"):
            assert abs(got[name].mean() - want[name]) <= 4 * got[name].std() / math.sqrt(500), name
        np.testing.assert_array_less(got["too_few"] - 1e-12, got["lost"])

    def test_active_rows_of_others(self) -> None:
        for rows, n in (("orthogonal", 4), ("icosahedron", 3), ("simplex", 5)):
            values = {"n": n, "rows": rows, "bias": -0.2, "points": 500, **SMALL}
            values |= {"redundancy": 2.0} if rows == "orthogonal" else {}
            got, want = measured(60, **values)["active"], predicted(**values)
            assert abs(got.mean() - want["active"]) <= 4 * got.std() / math.sqrt(60), rows
            assert math.isnan(want["too_few"])

    @pytest.mark.parametrize("rows", ["gaussian", "orthogonal"])
    def test_wendel(self, rows: str) -> None:
        values = {"n": 3, "redundancy": 5 / 3, "rows": rows, "estimates": "polytope", "decide": False, "points": 1}
        got, want = measured(800, **values), predicted(**values)["inside"]
        assert want == pytest.approx(5 / 16)
        assert abs(got["inside"].mean() - want) <= 4 * math.sqrt(want * (1 - want) / 800)
        outside = got["inside"] == 0
        assert np.isnan(got["polytope_min"][outside]).all()
        assert np.isfinite(got["polytope_min"][~outside]).all()

    def test_facets(self) -> None:
        values = {"n": 4, "redundancy": 10.0, "estimates": "polytope", "decide": False, "points": 1}
        got, want = measured(100, **values)["facets"], predicted(**values)["facets"]
        assert abs(got.mean() - want) <= 4 * got.std() / 10
        assert STATISTIC.exact is not None
        few = Points(parameters(n=4, redundancy=2.0).model_dump(), {}, 1)
        assert not np.all(STATISTIC.exact(few)["facets"])


class TestBias:
    @pytest.mark.parametrize(
        ("rows", "domain", "radius", "want"),
        [
            ("simplex", "sphere", 1.0, -1 / math.sqrt(3)),
            ("simplex", "ball", 2.0, -2 / math.sqrt(3)),
            ("icosahedron", "sphere", 3.0, 3 / math.sqrt(5)),
            ("icosahedron", "ball", 3.0, 0.0),
        ],
    )
    def test_polytopes_by_both_estimates(self, rows: str, domain: str, radius: float, want: float) -> None:
        values = {"n": 3, "rows": rows, "domain": domain, "radius": radius, "samples": 20_000, "certify": True}
        got = measured(2, **values, points=1)
        np.testing.assert_allclose(got["polytope_mean"], want, atol=1e-12)
        assert predicted(**values)["polytope_min"] == pytest.approx(want)
        assert np.all((got["sampled_min"] >= want - 1e-12) & (got["sampled_min"] <= want + 0.02 * radius))
        assert np.all(got["certified_min"] <= want)
        assert np.all(got["sampled_min"] - got["certified_min"] <= got["covering_radius"] * radius + 1e-12)

    def test_a_donut_scales_both_signs(self) -> None:
        values = {"n": 3, "redundancy": 8.0, "points": 1, "listed": 24, "samples": 500}
        sphere = measured(3, domain="sphere", **values)
        donut = measured(3, domain="donut", inner=0.5, radius=3.0, **values)
        for name in ("polytope_bias", "sampled_bias"):
            want = np.where(sphere[name] >= 0, 0.5, 3.0) * sphere[name]
            np.testing.assert_allclose(donut[name], want, rtol=1e-12)

    def test_the_smallest_sampled_bias_is_never_below_the_exact_one(self) -> None:
        got = measured(40, n=3, redundancy=4.0, domain="sphere", samples=3000, points=1, decide=False)
        known = got["inside"] == 1
        assert np.all(got["gap_of_smallest"][known] >= -1e-12)
        assert np.isnan(got["gap"][~known]).all()

    def test_one_row_may_have_less_than_the_exact_one_gives_it(self, tmp_path: Path) -> None:
        """Two maximal biases need not be comparable: the n most correlated rows are not those of one facet."""
        at = np.deg2rad([0, 10, -10, 120, 240])
        matrix = save(tmp_path / "w.npy", np.stack([np.cos(at), np.sin(at)], axis=1))
        values = {"n": 2, "rows": "file", "matrix": matrix, "domain": "sphere", "listed": 5, "samples": 5000}
        got = measured(1, **values)
        first = np.argmax(got["polytope_bias"][0])  # the row at 0 degrees, between its neighbours at 10
        assert got["polytope_bias"][0, first] == pytest.approx(math.cos(math.radians(10)))
        assert got["sampled_bias"][0, first] == pytest.approx(math.cos(math.radians(60)), abs=0.01)

    def test_more_directions_never_raise_the_estimate(self) -> None:
        values = {"n": 5, "redundancy": 3.0, "estimates": "sampled", "decide": False, "points": 1, "domain": "sphere"}
        few, many = (measured(5, samples=samples, **values)["sampled_mean"] for samples in (1000, 20_000))
        assert np.all(many < few)

    def test_the_smallest_sampled_bias_is_the_largest_common_one(self) -> None:
        """Of all constant biases: just above it some inputs have too few active rows, just below it none."""
        values = {"n": 3, "redundancy": 4.0, "domain": "sphere", "points": 1}
        common = measured(6, **values, samples=200_000, estimates="sampled", decide=False)["sampled_min"]
        for key in range(6):
            above = measured(6, **values, estimates="none", bias=float(common[key]))["rectifying"][key]
            below = measured(6, **values, estimates="none", bias=float(common[key]) - 0.03)["rectifying"][key]
            assert (above, below) == (0, 1)

    def test_a_certified_bias_holds(self) -> None:
        values = {
            "n": 3,
            "redundancy": 5.0,
            "domain": "nonnegative",
            "points": 1,
            "samples": 2000,
            "estimates": "sampled",
        }
        low = measured(8, **values, certify=True, bias_from="sampled", bias=-0.15)
        assert np.all(low["covering_radius"] < 0.15)
        assert np.all(low["rectifying"] == 1)

    def test_on_data_every_input_counts(self, tmp_path: Path) -> None:
        data = np.random.default_rng(0).normal(size=(40, 3)) * 5
        values = {"n": 3, "redundancy": 4.0, "domain": "data", "inputs": save(tmp_path / "x.npy", data)}
        got = measured(5, **values, certify=True, listed=12)
        W = draw(networks_of(5, **values), "sphere", 12, 3)
        for i in range(5):
            heights = data @ W[i].T
            largest = np.linalg.norm(data, axis=1).max()
            want = np.full(12, largest)
            for h in heights:
                taken = np.argsort(-h)[:3]
                want[taken] = np.minimum(want[taken], h[taken])
            np.testing.assert_allclose(got["sampled_bias"][i], want, rtol=0, atol=1.001e-9 * largest)
        np.testing.assert_array_equal(got["certified_min"], got["sampled_min"])
        assert np.all(got["polytope_min"][got["inside"] == 1] <= got["sampled_min"][got["inside"] == 1] + 1e-12)
        for estimate in ("sampled", "polytope"):
            taken = measured(5, **values, bias_from=estimate)
            known = ~np.isnan(taken["active"])
            for name, want in (("rectifying", 1), ("injective", 1), ("too_few", 0), ("lost", 0), ("not_injective", 0)):
                assert np.all(taken[name][known] == want), (estimate, name)
            assert np.all(taken["fewest_active"][known] >= 3)
            assert np.all(taken["frame_lower"][known] > 0)


class TestInjectivity:
    def test_with_the_bias_of_the_facets_nothing_is_lost(self) -> None:
        for domain in ("sphere", "ball", "nonnegative"):
            values = {"n": 3, "redundancy": 6.0, "domain": domain, "bias_from": "polytope", "reconstructed": 20}
            got = measured(10, **values, bias=-1e-9)
            known = got["inside"] == 1
            assert known.sum() > 7
            for name, want in (("rectifying", 1), ("injective", 1), ("too_few", 0), ("most_lost", 0)):
                assert np.all(got[name][known] == want), (domain, name)
            for method in ("canonical", "facet"):
                assert np.all(got[f"recovered_{method}"][known] == 1)
                assert np.all(got[f"error_{method}"][known] < 1e-12)
            for method in ("iterative", "constrained"):
                assert np.all(got[f"recovered_{method}"][known] > 0.9)

    def test_where_no_facet_is_there_is_no_bias_to_count_from(self) -> None:
        got = measured(20, n=4, redundancy=1.25, bias_from="polytope", points=5)
        outside = got["inside"] == 0
        assert outside.any()
        for name in ("rectifying", "injective", "active", "too_few", "log_condition"):
            assert np.isnan(got[name][outside]).all()

    def test_a_decision_is_never_against_what_is_seen(self) -> None:
        domains: tuple[dict[str, Any], ...] = (
            {"domain": "sphere"},
            {"domain": "ball"},
            {"domain": "donut", "inner": 0.3},
        )
        for domain in domains:
            got = measured(60, n=3, redundancy=4.0, bias=-0.1, points=300, estimates="none", **domain)
            assert 0 < got["rectifying"].mean() < 1
            assert np.all(got["too_few"][got["rectifying"] == 1] == 0)
            assert np.all(got["fewest_active"] <= got["fewest_met"])
            if domain["domain"] != "sphere":
                np.testing.assert_array_equal(got["not_injective"], 1 - got["rectifying"])
            np.testing.assert_array_equal(got["injective"], got["rectifying"])

    def test_on_the_sphere_injective_needs_less(self) -> None:
        """n - 1 active rows leave a line, which meets the sphere in two points: mostly nothing is proven."""
        got = measured(80, n=3, redundancy=4.0, bias=0.0, domain="sphere", points=300, estimates="none")
        line = (got["rectifying"] == 0) & (got["fewest_active"] == 2)
        assert 0 < got["not_injective"][line].mean() < 1
        assert np.all(got["not_injective"][got["fewest_active"] < 2] == 1)
        assert np.all(got["injective"] + got["not_injective"] <= 1)

    def test_witnesses_are_two_inputs_of_the_domain_with_one_output(self) -> None:
        seen = 0
        for key in range(10):
            values = {"n": 3, "redundancy": 3.0, "bias": 0.05, "domain": "donut", "inner": 0.2, "estimates": "none"}
            networks = networks_of(1, key, **values)
            assert STATISTIC.witness is not None
            found = STATISTIC.witness(networks)
            assert (found is None) == (sampled(networks)["not_injective"][0] == 0)
            if found is not None:
                seen += 1
                W = draw(networks, "sphere", 9, 3)[0]
                outputs = [np.maximum(W @ x - 0.05, 0) for x in (found.first, found.second)]
                np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-12)
                assert found.distance > 1e-6
                assert all(0.2 <= np.linalg.norm(x) <= 1 for x in (found.first, found.second))
        assert seen > 3

    def test_data_are_injective_if_outputs_differ(self, tmp_path: Path) -> None:
        inputs = save(tmp_path / "x.npy", np.array([[1.0, 0.0], [0.5, 0.0], [-1.0, 0.0], [-2.0, 0.0]]))
        matrix = save(tmp_path / "w.npy", np.array([[1.0, 0.1], [1.0, -0.1]]))
        values = {"n": 2, "rows": "file", "matrix": matrix, "domain": "data", "inputs": inputs, "estimates": "none"}
        got = measured(1, **values)
        assert (got["injective"][0], got["not_injective"][0], got["rectifying"][0]) == (0, 1, 0)
        assert got["fewest_active"][0] == 0
        assert STATISTIC.witness is not None
        found = STATISTIC.witness(networks_of(1, **values))
        assert found is not None
        assert sorted([found.first[0], found.second[0]]) == [-2, -1]
        assert measured(1, **values, bias=-3.0)["injective"][0] == 1

    def test_bounds_and_condition_are_those_of_the_active_rows(self) -> None:
        networks = networks_of(2, n=3, redundancy=5.0, bias=-0.2, points=30, **SMALL)
        got, W = sampled(networks), draw(networks, "sphere", 15, 3)
        for i in range(2):
            one = frames._alone(networks, i)
            inputs = frames._points(FramesParameters(**one.points.point(0)), one, parameters(
                n=3, redundancy=5.0).the_domain())  # fmt: skip
            spectra = [np.linalg.svd(W[i][W[i] @ x > -0.2], compute_uv=False) for x in inputs]
            A, B = np.array([(s[-1] ** 2 if len(s) == 3 else 0, s[0] ** 2) for s in spectra]).T
            assert got["frame_lower"][i] == pytest.approx(A.min())
            assert got["frame_upper"][i] == pytest.approx(B.max())
            assert got["log_worst_condition"][i] == pytest.approx(np.log10((B / A)[A > 0].max()))
            assert got["lower_lipschitz"][i] == pytest.approx(math.sqrt(A.min()))
            assert got["upper_lipschitz"][i] == pytest.approx(np.linalg.norm(W[i], 2))
            np.testing.assert_allclose(active(W[i], np.full(15, -0.2), inputs).largest, B)

    def test_inputs_that_are_lost_count_as_no_iterations(self) -> None:
        values = {"n": 3, "redundancy": 2.0, "points": 40, "reconstructed": 40, "bias": 0.1, **SMALL}
        networks = networks_of(1, **values)
        got, W = sampled(networks), draw(networks, "sphere", 6, 3)[0]
        inputs = frames._points(parameters(**values), networks, parameters(**values).the_domain())
        at = active(W, np.full(6, 0.1), inputs)
        assert 0 < got["recovered_canonical"][0] == np.mean(at.rank == 3) < 1
        outputs = np.maximum(inputs @ W.T - 0.1, 0)[at.rank == 3]
        _, steps = reconstructed(W, np.full(6, 0.1), outputs, "iterative", None, frames.TOLERANCE, frames.ITERATIONS)
        assert got["iterations_iterative"][0] == steps.mean()

    def test_where_nothing_can_prove_it_nothing_is_said(self) -> None:
        got = measured(20, n=3, redundancy=3.0, bias=-0.2, estimates="sampled", decide=False, points=50)
        assert np.isnan(got["rectifying"]).all()
        assert np.isnan(got["injective"]).all()
        assert 0 < got["not_injective"].mean() < 1


class TestRows:
    def test_a_file_is_decided_where_its_rows_are_said_to_be_general(self, tmp_path: Path) -> None:
        matrix = save(tmp_path / "w.npy", np.random.default_rng(2).normal(size=(30, 3)))
        values = {"n": 3, "redundancy": 4.0, "rows": "file", "matrix": matrix, "bias": -0.5, "estimates": "none"}
        unsaid, said = (measured(20, **values, general=general) for general in (False, True))
        assert np.all(unsaid["rectifying"] == 0)
        np.testing.assert_array_equal(said["rectifying"], unsaid["fewest_active"] >= 3)
        assert said["rectifying"].mean() > 0.5

    def test_rows_that_do_not_span_have_no_estimates(self, tmp_path: Path) -> None:
        matrix = save(tmp_path / "w.npy", np.vstack([np.eye(2), -np.eye(2)]))
        values = {"n": 2, "redundancy": 1.0, "rows": "file", "matrix": matrix, "decide": False, "points": 5}
        got = measured(30, **values, bias_from="sampled")
        spans = ~np.isnan(got["sampled_mean"])
        assert 0 < spans.mean() < 1
        np.testing.assert_array_equal(np.isnan(got["active"]), ~spans)

    def test_lengths_carry_the_bias_with_them(self) -> None:
        """Counted from an estimate the bias is of rows of length 1, so that lengths do not matter to what is active."""
        values = {"n": 3, "redundancy": 4.0, "bias_from": "sampled", "bias": 0.1, "samples": 500, "decide": False}
        unit, long = (measured(5, rows=rows, **values) for rows in ("sphere", "gaussian"))
        for name in ("active", "too_few", "sampled_mean", "polytope_min"):
            np.testing.assert_allclose(unit[name], long[name], rtol=1e-12)
        assert np.all(unit["frame_upper"] != long["frame_upper"])

    def test_trained_filters(self) -> None:
        values = {"n": 9, "redundancy": 2.0, "rows": "trained", "steps": 0, "estimates": "sampled", "samples": 200}
        start = measured(2, **values, decide=False, points=20)
        trained = measured(2, **values | {"steps": 20}, decide=False, points=20)
        assert np.all(start["sampled_mean"] != trained["sampled_mean"])
        assert np.all(np.isfinite(trained["active"]))

    def test_a_network_that_diverged_is_undefined(self, monkeypatch: pytest.MonkeyPatch) -> None:
        networks = networks_of(2, n=3, redundancy=2.0)
        W = draw(networks, "sphere", 6, 3)
        W[1] = np.nan
        monkeypatch.setattr(frames, "_draw", lambda *_: W)
        got = sampled(networks)
        assert all(np.isnan(values[1]).all() for values in got.values())
        assert np.isfinite(got["active"][0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 3}, "redundancy m/n must be given with rows = 'sphere'"),
        ({"n": 3, "redundancy": 0.5}, "redundancy must be at least 1, or the rows do not span, got 0.5"),
        ({"n": 4, "rows": "icosahedron"}, "the icosahedron is in 3 dimensions, and n is 4"),
        (
            {"n": 3, "rows": "icosahedron", "redundancy": 3.0},
            "redundancy must be 4, as the icosahedron has 12 vertices, or left out",
        ),
        ({"n": 3, "redundancy": 2.0, "listed": 7}, "listed must be at most the 6 rows, got 7"),
        ({"n": 9, "redundancy": 2.0}, "n 9 is more than 8 and has too many facets"),
        ({"n": 8, "redundancy": 100.0}, "facets, more than 1e"),
        (
            {"n": 3, "redundancy": 2.0, "bias_from": "polytope", "estimates": "sampled"},
            "bias_from 'polytope' needs that",
        ),
        ({"n": 3, "redundancy": 2.0, "certify": True, "estimates": "polytope"}, "certify is of the sampled estimate"),
        ({"n": 8, "redundancy": 2.0, "certify": True}, "the covering radius of 10000 directions at n 8 takes some"),
        ({"n": 8, "redundancy": 6.0, "estimates": "none"}, "use decide = false, or a smaller layer"),
        ({"n": 3, "redundancy": 2.0, "domain": "data"}, 'domain = "data" needs inputs, the path of a .npy file'),
        ({"n": 3, "redundancy": 2.0, "domain": "donut"}, "inner must be above 0 and at most radius = 1.0, got 0.0"),
        ({"n": 3, "redundancy": 2.0, "general": True}, "general is of rows = \"file\", and rows is 'sphere'"),
        (
            {"n": 3, "redundancy": 2.0, "points": 10, "reconstructed": 11},
            "reconstructed must be at most points = 10, got 11",
        ),
        ({"n": 10, "redundancy": 2.0, "rows": "trained", "estimates": "none"}, "n must be one of 9, 25, 49"),
        ({"n": 3, "redundancy": 2.0, "steps": 5}, 'trained_on and steps are for rows = "trained"'),
        ({"n": 3, "redundancy": 2.0, "rows": "file"}, 'rows = "file" needs matrix, the path of a .npy file'),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FramesParameters(**values)


def test_domains_share_a_sweep(tmp_path: Path) -> None:
    """What only one of them looks at is no mistake at the others."""
    inputs = save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 3)))
    spec = {"name": "a", "statistic": "frames", "draws": 2, "draws_per_batch": 2, "fixed": {"n": 3, "redundancy": 2.0}}
    spec["axes"] = {"domain": ["sphere", "ball", "donut", "nonnegative", "data"]}
    spec["fixed"] |= {"inner": 0.5, "inputs": inputs}
    assert Sweep.of(spec).shape == (5,)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "zero.npy", np.eye(3)[[0, 1, 2, 2]] * [[1], [0], [1], [1]])
    with pytest.raises(ValueError, match="has rows of zeros, neurons that see nothing, the first is 1; leave them out"):
        parameters(n=3, rows="file", matrix=path)
    path = save(tmp_path / "w.npy", np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"matrix must have n = 3 columns, got shape \(5, 4\)"):
        parameters(n=3, rows="file", matrix=path)
    with pytest.raises(ValueError, match="inputs must have n = 3 columns"):
        parameters(n=3, redundancy=2.0, domain="data", inputs=path)
    with pytest.raises(ValueError, match="redundancy 2 asks for 8 rows, and matrix has 5"):
        parameters(n=4, redundancy=2.0, rows="file", matrix=path)
