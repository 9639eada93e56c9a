"""Half-points and their extrapolation against exact laws, planted truths and slow implementations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import curve_fit, isotonic_regression
from scipy.special import ndtr

from storage import capacity, half_points, open_sweep, scaling
from storage.capacity import crossing
from storage.finite_size import EXPONENTS, fit
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import SpecError, UnknownNameError
from sweeps.run import perform
from sweeps.statistics._layer import row_count
from sweeps.sweep import Sweep
from sweeps.theory.injectivity import injective_probability
from tests.conftest import toy_spec

ALPHA = np.linspace(1.5, 8.5, 29)
PLANAR = 40 / 11  # half of the m where the exact law at n = 2 is 1/2: 29/64 at m = 7, 40/64 at m = 8


def swept(p: Any, draws: Any, undefined: Any = 0, seed: int = 0, **coords: Any) -> xr.Dataset:
    """What `open_sweep` gives of `injectivity`, with binomial counts of the probabilities p (*coords, alpha)."""
    coords = {"alpha": ALPHA} | coords
    dims = [d for d, v in coords.items() if d != "alpha" and np.ndim(v)] + ["alpha"]
    n = np.broadcast_to(draws, np.shape(p)) - undefined
    counts = np.random.default_rng(seed).binomial(n, p)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = counts / n
    variables = {
        "injective": (dims, mean, {"kind": "proportion"}),
        "injective_n": (dims, n),
        "injective_undefined": (dims, np.broadcast_to(undefined, np.shape(p))),
    }
    about = {"title": "a", "statistic": "injectivity", "fingerprint": "f0", "confidence": 0.95}
    return xr.Dataset(variables, coords, {**about, "fixed": json.dumps({})})


def planar(alpha: np.ndarray = ALPHA) -> np.ndarray:
    return np.array([injective_probability(row_count(2, a), 2) for a in alpha])


def covered(found: xr.Dataset, truth: float) -> float:
    return float(((found.ci_low <= truth) & (truth <= found.ci_high)).mean())


# --- half-points ---


def test_of_many_draws_is_the_half_point_of_the_exact_law() -> None:
    found = half_points(swept(planar(), 10**9, n=2))
    assert found.half_point.item() == pytest.approx(PLANAR, abs=1e-4)
    assert found.ci_low < PLANAR < found.ci_high
    assert found.ci_high - found.ci_low < 2e-4


@pytest.mark.parametrize(
    ("level", "draws", "truth"),
    [(0.5, 512, PLANAR), (0.5, 64, PLANAR), (0.9, 256, 5.5 + (0.9 - 0.9033203125) / (0.9033203125 - 0.84375) / 2)],
)
def test_the_interval_covers_the_exact_law_as_often_as_it_says(
    level: float, draws: int, truth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "REPLICATES", 400)
    sweeps = 200
    p = np.tile(planar(), (sweeps, 1))
    found = half_points(swept(p, draws, seed=1, n=2, sweep=np.arange(sweeps)), level=level)
    assert abs(covered(found, truth) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sweeps)
    error = found.half_point - truth
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(sweeps)
    drawn = found.replicates.where(np.isfinite(found.replicates))
    assert error.std().item() == pytest.approx(drawn.std("replicate").mean().item(), rel=0.2)


def test_a_curve_that_falls_is_the_mirror_image_of_one_that_rises() -> None:
    rising = swept(planar(), 200, n=2)
    falling = rising.assign(injective=(1 - rising.injective).assign_attrs(kind="proportion"))
    at = rising.alpha * 1.0
    up, down = half_points(rising, coordinate=at), half_points(falling, coordinate=at)
    for name, tolerance in (("half_point", 1e-12), ("ci_low", 0.02), ("ci_high", 0.02)):
        assert down[name].item() == pytest.approx(up[name].item(), abs=tolerance)


def test_points_lie_where_their_layers_are_and_those_of_one_layer_are_one() -> None:
    """m = 7 rows at alpha 3.25 and 3.5; the half-point is in m/n, and does not depend on how draws are shared out."""
    p = planar()
    both = swept(p, 100, n=2)
    m = np.array([row_count(2, a) for a in ALPHA])
    first = np.append(True, np.diff(m) > 0)
    counts = [np.bincount(m, both[v].values * w)[m][first] for v, w in (("injective", 100), ("injective_n", 1))]
    one = swept(p[first], 200, n=2, alpha=m[first] / 2)
    one = one.assign(
        injective=("alpha", counts[0] / counts[1], {"kind": "proportion"}), injective_n=("alpha", counts[1].astype(int))
    )
    xr.testing.assert_identical(half_points(both), half_points(one))
    assert half_points(both, coordinate=both.alpha).half_point != half_points(both).half_point


def slow_crossing(x: np.ndarray, successes: np.ndarray, draws: np.ndarray, level: float) -> float:
    x, successes, draws = x[draws > 0], successes[draws > 0], draws[draws > 0]
    p = isotonic_regression(successes / draws, weights=draws).x
    if p[0] > level + 1e-12:
        return -np.inf
    for i in range(len(p)):
        if abs(p[i] - level) < 1e-12:
            return x[i]
        if p[i] > level:
            return x[i - 1] + (level - p[i - 1]) / (p[i] - p[i - 1]) * (x[i] - x[i - 1])
    return np.inf


def test_crossing_is_that_of_the_isotonic_regression() -> None:
    random = np.random.default_rng(2)
    for _ in range(1000):
        points = int(random.integers(1, 8))
        x = np.cumsum(random.uniform(0.1, 1, points))
        draws = random.integers(0, 6, points).astype(float)
        draws[random.integers(points)] += 1
        successes = random.binomial(draws.astype(int), random.uniform(0, 1, points)).astype(float)
        level = random.choice([0.25, 0.5, 0.75])
        [found] = crossing(x, successes[None], draws, level)
        assert found == pytest.approx(slow_crossing(x, successes, draws, level), abs=1e-9)


STEP = np.where(ALPHA < 5, 0.0, 1.0)
UNFIT = {
    "below": (STEP * 0.3, 10**8, "below 0.5 at every alpha: at most 0.3"),
    "above": (0.7 + 0.3 * STEP, 10**8, "above 0.5 at every alpha: at least 0.7"),
    "empty": (STEP, 0, "0 points along alpha have draws that are defined"),
    "alone": (STEP, 9 * (np.arange(29) == 3), "1 points along alpha have draws that are defined"),
    "hump": (np.exp(-((ALPHA - 6) ** 2)), 400, "neither rises nor falls steadily along alpha"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_curve_without_a_half_point_says_why(case: str) -> None:
    p, draws, reason = UNFIT[case]
    found = half_points(swept(p, draws, n=2))
    assert found.reason.item().startswith(reason)
    for name in ("half_point", "ci_low", "ci_high", "if_true", "if_false", "replicates"):
        assert found[name].isnull().all()


def test_noise_is_not_taken_for_a_curve_that_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "REPLICATES", 2)
    p = np.tile(np.clip((ALPHA - 1) / 8, 0, 1) * 0.2 + 0.4, (300, 1))
    found = half_points(swept(p, 20, n=2, sweep=np.arange(300)))
    assert not found.reason.str.startswith("neither").any()


def test_an_interval_is_open_where_the_curve_may_cross_beyond_the_points() -> None:
    just = half_points(swept([0.1, 0.3, 0.52], 1000, n=2, alpha=[2.0, 3.0, 4.0], seed=4))
    assert just.ci_high == np.inf
    assert 2 < just.ci_low < just.half_point <= 4


def test_undefined_draws_count_for_nothing_and_how_much_they_could_is_told() -> None:
    clear = half_points(swept(planar(), 400, n=2))
    assert clear.half_point == clear.if_true == clear.if_false
    found = half_points(swept(planar(), 500, undefined=100, n=2))
    xr.testing.assert_identical(
        found.drop_vars(["undefined", "if_true", "if_false"]), clear.drop_vars(["undefined", "if_true", "if_false"])
    )
    assert found.undefined == 100 * len(ALPHA)
    assert found.if_true < found.half_point - 0.1 < found.half_point + 0.1 < found.if_false


def test_the_same_curve_gives_the_same_bits_in_any_company() -> None:
    p = np.stack([planar(), planar(ALPHA - 0.3)])
    ds = swept(p, 300, n=[2, 3])
    whole = half_points(ds)
    xr.testing.assert_identical(whole, half_points(ds))
    for n in (2, 3):
        xr.testing.assert_identical(whole.sel(n=n), half_points(ds.sel(n=n)))
        xr.testing.assert_identical(whole.sel(n=[n]), half_points(ds.sel(n=[n])))
    other = half_points(ds.assign_attrs(fingerprint="f1"))
    np.testing.assert_array_equal(other.half_point, whole.half_point)
    assert (other.replicates != whole.replicates).any()


def test_wrong_questions_are_refused() -> None:
    ds = swept(np.stack([planar()] * 2), 10, n=[2, 3])
    with pytest.raises(UnknownNameError, match="unknown outcome 'injectiv'; did you mean 'injective'"):
        half_points(ds, "injectiv")
    with pytest.raises(UnknownNameError, match="unknown axis 'alfa'; did you mean 'alpha'"):
        half_points(ds, axis="alfa")
    with pytest.raises(SpecError, match="level must lie between 0 and 1, got 1"):
        half_points(ds, level=1)
    with pytest.raises(SpecError, match="'alpha' has 1 of the at least 2 values"):
        half_points(ds.isel(alpha=0))
    with pytest.raises(SpecError, match="axis 'colour' is not numeric, its values are red, blue"):
        half_points(ds.rename(n="colour").assign_coords(colour=["red", "blue"]), axis="colour")
    with pytest.raises(SpecError, match="one number at every point"):
        half_points(ds, coordinate=ds.alpha.where(ds.alpha > 2))
    ds.injective.attrs["kind"] = "count"
    with pytest.raises(SpecError, match="only a proportion crosses a level; proportions: none"):
        half_points(ds)


def test_a_store_is_read_with_its_theory_and_its_other_dimensions() -> None:
    sweep = {"axes": {"size": [1, 4], "shift": {"linspace": [-2, 2, 9]}, "colour": ["red", "blue"]}, "draws": 64}
    store = ZarrStore.create("toy.zarr", Sweep.of(toy_spec(**sweep)))
    cut = plan(store.sweep)
    for i in range(len(cut)):
        perform(cut[i], store, "cpu")
    found = half_points(open_sweep("toy.zarr"), "positive", "shift")  # a mean of normals is above -shift: at 0
    assert dict(found.sizes) == {"size": 2, "colour": 2, "replicate": 2000}
    assert ((found.ci_low <= 0.1) & (found.ci_high >= -0.1)).all()
    assert found.theory.isnull().all()


def test_theory_is_shown_where_it_is_known_beside_the_crossing() -> None:
    ds = swept(planar(), 100, n=2)
    assert half_points(ds.assign(injective_theory=("alpha", planar()))).theory == pytest.approx(PLANAR, abs=1e-12)
    known = np.where(ALPHA > 3.6, np.nan, planar())
    assert half_points(ds.assign(injective_theory=("alpha", known))).theory.isnull()


# --- finite-size scaling ---

SIZES = np.arange(2, 8)
TRUTH = (6.698, 5.148, 0.75)


def planted(deviation: Any, sets: int, n: np.ndarray = SIZES, seed: int = 5, truth: tuple = TRUTH) -> xr.Dataset:
    """Half-points (set, n) of limit - amplitude n^-exponent with normal errors, and what a bootstrap would give."""
    random = np.random.default_rng(seed)
    limit, amplitude, exponent = truth
    shape = (sets, len(n))
    value = limit - amplitude * n**-exponent + deviation * random.standard_normal(shape)
    replicates = value[..., None] + np.broadcast_to(deviation, shape)[..., None] * random.standard_normal((*shape, 200))
    low, high = np.quantile(replicates, [0.025, 0.975], axis=-1)
    dims = ("set", "n")
    variables = {"half_point": (dims, value), "ci_low": (dims, low), "ci_high": (dims, high)}
    variables["replicates"] = ((*dims, "replicate"), replicates)
    about = {"title": "a", "statistic": "injectivity", "axis": "alpha", "outcome": "injective", "confidence": 0.95}
    return xr.Dataset(variables, {"n": n, "set": np.arange(sets)}, about)


@pytest.mark.parametrize("truth", [TRUTH, (2.0, -1.5, 1.3), (10.0, 4.0, 0.3)])
def test_a_planted_law_is_found_again(truth: tuple) -> None:
    found = scaling(planted(1e-7, 1, truth=truth)).squeeze("set")
    for without in (0, 1):
        for name, value, tolerance in zip(("limit", "amplitude", "exponent"), truth, (1e-3, 1e-3, 1e-3), strict=True):
            assert found[name].sel(without=without) == pytest.approx(value, rel=tolerance)
    assert found.dof.values.tolist() == [3, 2]
    assert found["sizes"].values.tolist() == [6, 5]


@pytest.mark.parametrize("exponent", [None, 0.75])
@pytest.mark.parametrize("deviation", [0.03, 0.005])
def test_the_interval_of_the_limit_covers_as_often_as_it_says(deviation: float, exponent: float | None) -> None:
    sets = 150
    found = scaling(planted(deviation, sets), exponent=exponent).sel(without=0)
    for name, truth in zip(
        ("limit", "amplitude") if exponent else ("limit", "amplitude", "exponent"), TRUTH, strict=False
    ):
        inside = (found[f"{name}_low"] <= truth) & (truth <= found[f"{name}_high"])
        assert abs(inside.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / sets)
    dof = 4 if exponent else 3
    assert (found.dof == dof).all()
    assert abs(found.chi2.mean() - dof) < 4 * np.sqrt(2 * dof / sets)


def test_the_fit_is_the_least_of_the_squares() -> None:
    half = planted(np.array([0.01, 0.02, 0.04, 0.02, 0.01, 0.05]), 5).isel(replicate=slice(0, 2))
    deviation = np.array([0.01, 0.02, 0.04, 0.02, 0.01, 0.05])
    made = fit(SIZES.astype(float), half.half_point.values, deviation)
    for i, y in enumerate(half.half_point.values):
        slow, _ = curve_fit(lambda n, c, a, b: c - a * n**-b, SIZES, y, TRUTH, deviation, ftol=1e-12, xtol=1e-12)
        least = (((y - slow[0] + slow[1] * SIZES ** -slow[2]) / deviation) ** 2).sum()
        assert made.chi2[i] == pytest.approx(least, rel=1e-5, abs=1e-9)
        assert [made.limit[i], made.amplitude[i], made.exponent[i]] == pytest.approx(slow, rel=0.01)


def test_growth_like_a_logarithm_has_no_limit() -> None:
    half = planted(0.001, 1)
    half["half_point"] = half.half_point * 0 + np.log(half.n)
    half["replicates"] = half.half_point + (half.replicates - half.replicates.mean("replicate"))
    half["ci_low"], half["ci_high"] = half.half_point - 0.002, half.half_point + 0.002
    found = scaling(half).isel(set=0, without=0)
    assert (found.limit, found.limit_high) == (np.inf, np.inf)
    assert found.exponent == EXPONENTS[0]


def test_leaving_out_the_smallest_size_shows_a_second_correction() -> None:
    half = planted(0.002, 1)
    half = half.assign({k: half[k] + 2 * half.n**-3.0 for k in ("half_point", "ci_low", "ci_high", "replicates")})
    found = scaling(half, exponent=0.75).isel(set=0)
    wrong = abs(found.limit - TRUTH[0])
    assert wrong.sel(without=1) < wrong.sel(without=0)
    assert abs(found.limit.diff("without").item()) > (found.limit_high - found.limit_low).sel(without=0)
    assert found.chi2.sel(without=0) > 20


def test_open_and_missing_half_points_are_left_out_and_too_few_give_no_fit() -> None:
    half = planted(0.01, 1)
    missing = half.copy(deep=True)
    missing["ci_high"][0, 0], missing["half_point"][0, 3], missing["ci_low"][0, 3] = np.inf, np.nan, np.nan
    kept = half.isel(n=[1, 2, 4, 5])
    xr.testing.assert_identical(scaling(missing), scaling(kept))
    few = scaling(half.isel(n=slice(0, 3)))
    assert few.dof.values.tolist() == [[0, 0]]
    assert few.limit.notnull().values.tolist() == [[True, False]]
    assert few.reason.values[0, 1] == "2 of the at least 3 sizes that a fit needs have a half-point"
    assert scaling(half.isel(n=slice(0, 3)), exponent=0.75).limit.notnull().all()


def test_sizes_are_numbers_above_0_in_any_order() -> None:
    half = planted(0.01, 2)
    xr.testing.assert_identical(scaling(half), scaling(half.isel(n=slice(None, None, -1))))
    with pytest.raises(UnknownNameError, match="unknown axis of sizes 'm'; known: n, set"):
        scaling(half, "m")
    with pytest.raises(SpecError, match="sizes must be above 0, 'set' has 0"):
        scaling(half, "set")
    with pytest.raises(SpecError, match="axis 'n' is not numeric"):
        scaling(half.assign_coords(n=list("abcdef")))
    with pytest.raises(SpecError, match="exponent must lie between"):
        scaling(half, exponent=-1)


def test_from_curves_to_the_limit() -> None:
    """Probit curves whose centres approach a planted limit; draws as in the catalog's sweep."""
    n = np.array([2, 3, 4, 5, 6])
    centre = TRUTH[0] - TRUTH[1] * n ** -TRUTH[2]
    x = xr.DataArray(np.stack([[row_count(k, a) / k for a in ALPHA] for k in n]), dims=("n", "alpha"))
    p = ndtr((x.values - centre[:, None]) / 0.8)
    half = half_points(swept(p, 20000, n=n))
    truth = [slow_crossing(x[i].values, p[i], np.ones(len(ALPHA)), 0.5) for i in range(len(n))]
    assert ((half.ci_low <= truth) & (truth <= half.ci_high)).all()
    found = scaling(half).sel(without=0)
    assert found.limit_low < TRUTH[0] < found.limit_high
    assert found.limit_high - found.limit_low < 0.8
