"""Outcomes of one device against another's: exactly equal, or within the bounds stated in docs/randomness.md.

What a GPU would do to an outcome is done on the CPU too: products and norms summed in another order, and the last bit
of the machine's cosines, sines and arctangents changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sweeps import statistics
from sweeps.blocks import plan
from sweeps.inputs import sets
from sweeps.measure import sample_block
from sweeps.networks import gram
from sweeps.networks.architecture import Activation, Architecture
from sweeps.sweep import Sweep
from tests.gpu.paths import CUDA
from tests.sweeps.networks_of import networks_of

ULP = 2.0**-24  # of a float32 just below 1
OF_INPUTS = dict.fromkeys(("cosine_in", "alignment", "lower_bound", "upper_bound"), 0)
FOLDS = (
    "chi",
    "folded",
    "chi_if_folded",
    "breakpoints",
    "r1",
    "r2",
    "regions",
    "chi_reversed",
    "chi_sampled",
    "chi_subset",
    "chi_to_layer",
    "chi_of_layer",
    "interaction",
)
TRAINED = (
    *(name + end for name in ("phi", "folded", "chi", "phi_sampled", "breakpoints") for end in ("", "_untrained")),
    "phi_gain",
    "folded_gain",
    "chi_gain",
    "chi_of_layer",
    "chi_of_layer_untrained",
    "accuracy",
    "training_accuracy",
)
FIRST_LAYERS = {
    **{o.name: 0.0 for o in statistics.get("first_layer").outcomes},
    **dict.fromkeys(("energy", "energy_squared", "energy_fitted", "energy_raw", "energy_raw_squared"), 4 * ULP),
    **dict.fromkeys(("fit", "trained_against_initial"), 256 * ULP),
    "slope": 1024 * ULP,
    "log_tau": 2**20 * ULP,  # what 4 units of every energy do to it here: its fit is flat near a limit
    "consistency": 2**18 * ULP,  # of networks that a kink sent another way
    "loss": 8 * ULP,
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, float]]] = {
    "convolutional": (
        "angle",
        {"width": [16, 48], "correlation": [-0.95, 0.5, 0.999999], "activation": ["relu", "linear"]},
        {"network": "cnn", "side": 8, "depth": 20, "weight_variance": 1.0},
        {
            "cosine": 32 * ULP,
            "angle": 128 * ULP,
            "log_sin2": 2**16 * ULP,  # of angles of 1e-3
            "norm_ratio": 256 * ULP,
            "distortion": 256 * ULP,
            **OF_INPUTS,
        },
    ),
    "fully connected, weights drawn": (
        "angle",
        {"width": [64, 160], "correlation": [-0.95, 0.5, 0.999999], "activation": ["relu", "linear"]},
        {"network": "fnn", "side": 4, "depth": 50, "sampler": "direct", "weight_variance": 1.0},
        {
            "cosine": 256 * ULP,
            "angle": 1024 * ULP,
            "log_sin2": 2**21 * ULP,
            "norm_ratio": 2048 * ULP,
            "distortion": 2048 * ULP,
            **OF_INPUTS,
        },
    ),
    "fully connected": (
        "angle",
        {"width": [1, 16, 256], "correlation": [-0.95, 0.5, 1.0], "activation": ["relu", "linear"]},
        {"network": "fnn", "side": 8, "depth": 30, "sampler": "gram"},
        {"cosine": 0, "angle": 0, "log_sin2": 0, "norm_ratio": 0, "distortion": 0, **OF_INPUTS},
    ),
    "a data set": (
        "embedding",
        {"width": [16, 48], "network": ["fnn", "cnn"], "activation": ["relu", "gelu"]},
        {"side": 8, "depth": 10, "members": 4, "sampler": "direct", "bias_variance": 0.1},
        {
            "cosine": 256 * ULP,
            "mean_cosine": 128 * ULP,
            "participation": 256 * ULP,
            "max_distortion": 8192 * ULP,
            "max_deviation": 8192 * ULP,
            "max_stretch": 2**14 * ULP,
        },
    ),
    "cantornet": (
        "cantornet",
        {"form": ["recursive", "three", "four"], "times": [1, 4]},
        {"segment": "random"},
        {"chi": 0, "folded": 0, "r1": 0, "r2": 0, "breakpoints": 0, "regions": 0, "chi_sampled": 0},
    ),
    "folding": (
        "folding",
        {"width": [8, 40], "angle": [0.5, 2.0], "bias_variance": [0.0, 1.0]},
        {"depth": 4, "layers": 4},
        dict.fromkeys((*FOLDS, "arc", "length"), 0),
    ),
    "trained": (
        "trained_folding",
        {"learning_rate": [0.001, 0.003], "network": ["fnn", "cnn"]},
        {"width": 6, "depth": 2, "epochs": 1, "examples": 200, "paths": 10, "layers": 2},
        {**dict.fromkeys(TRAINED, 0), "loss": 4 * ULP},
    ),
    "first layers": (
        "first_layer",
        {"learning_rate": [0.01, 0.03], "architecture": ["cnn", "vgg", "resnet"]},
        {"width": 4, "examples": 200, "steps": 5, "checkpoints": 2, "reference": "same"},
        FIRST_LAYERS,
    ),
    "frames": (
        "frames",
        {"rows": ["sphere", "gaussian"], "domain": ["ball", "nonnegative"], "bias": [-0.2, 0.1]},
        {"n": 4, "redundancy": 4.0, "samples": 3000, "points": 50, "reconstructed": 3, "certify": True},
        {o.name: 0.0 for o in statistics.get("frames").outcomes},
    ),
    "injectivity": (
        "injectivity",
        {
            "n": [2, 3, 4],
            "alpha": [3.0, 6.0],
            "answer": ["count", "census"],
            "rows": ["gaussian", "orthogonal", "sparse"],
        },
        {},
        {"min_active": 0, "min_active_ratio": 0, "injective": 0, "vertices_below": 0},
    ),
    "injectivity, bounds": (
        "injectivity_bound",
        {"n": [3, 9], "alpha": [3.0, 6.0]},
        {"moves": 1000},
        {"min_active_bound": 0, "min_active_bound_ratio": 0, "not_injective": 0},
    ),
    "deep injectivity": (
        "deep_injectivity",
        {"n": [2, 3], "alpha": [3.0, 5.0]},
        {"depth": 2},
        {"min_active": 0, "enough_active": 0, "locally_injective": 0, "globally_injective": 0},
    ),
    "deep injectivity, bounds": (
        "deep_injectivity_bound",
        {"n": [3, 6], "alpha": [3.0, 5.0]},
        {"depth": 2, "moves": 100},
        {"active_bound": 0, "not_locally_injective": 0, "below_twice": 0},
    ),
}


def draws_of(
    case: str, device: str = "cpu", draws: int = 16, batch: int | None = None, tile: int | None = None
) -> dict[str, np.ndarray]:
    """Every draw of a case, (*axes, *dims, draws) an outcome."""
    statistic, axes, fixed, _ = CASES[case]
    sweep = Sweep.of({"name": "devices", "statistic": statistic, "seed": 11, "draws": draws,
                      "draws_per_batch": batch or draws, "points_per_block": tile,
                      "axes": axes, "fixed": fixed})  # fmt: skip
    size, out = sweep.draws_per_batch, {}
    for block in plan(sweep):
        for name, values in sample_block(sweep, block, device).items():
            whole = out.setdefault(name, np.empty((*sweep.shape, *values.shape[1:-1], draws)))
            at = (*block.slices, ..., slice(block.batch * size, (block.batch + 1) * size))
            whole[at] = values.reshape(*block.shape, *values.shape[1:])
    return out


def farthest(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each outcome; undefined draws must be the same ones."""
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(np.isnan(a[name]), np.isnan(b[name]))
    return {name: float(np.nanmax(np.abs(a[name] - b[name]))) for name in a}


def summed_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products 8 terms at a time, the last ones first."""
    bmm = torch.bmm

    def blocked(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        total = torch.zeros(len(a), a.shape[1], b.shape[2])
        for start in reversed(range(0, a.shape[2], 8)):
            total = total + bmm(a[:, :, start : start + 8].contiguous(), b[:, start : start + 8].contiguous())
        return total if out is None else out.copy_(total)

    monkeypatch.setattr(torch, "bmm", blocked)


@pytest.mark.parametrize("case", CASES)
def test_another_order_of_sums(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = draws_of(case)
    summed_otherwise(monkeypatch)
    apart, bounds = farthest(draws_of(case), usual), CASES[case][-1]
    assert set(apart) == set(bounds)
    for name, bound in bounds.items():
        assert apart[name] <= bound, (name, apart[name] / ULP)
        assert apart[name] > 0 or bound == 0, name  # or the order did not change


@pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu(case: str) -> None:
    apart = farthest(draws_of(case, "cuda"), draws_of(case))
    for name, bound in CASES[case][-1].items():
        assert apart[name] <= bound, (name, apart[name] / ULP)


@pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU")
@pytest.mark.parametrize("case", CASES)
def test_tile_and_batch_change_no_bit_on_a_gpu(case: str) -> None:
    whole, pieces = (draws_of(case, "cuda", batch=batch, tile=tile) for batch, tile in ((16, None), (4, 1)))
    for name, draws in whole.items():
        np.testing.assert_array_equal(draws, pieces[name], name)


def test_every_outcome_is_held_to_a_bound() -> None:
    for name in statistics.names():
        if name in ("toy", "faulty"):
            continue
        outcomes = {o.name for o in statistics.get(name).outcomes}
        bounds = [set(bounds) for statistic, _, _, bounds in CASES.values() if statistic == name]
        assert bounds
        assert all(b == outcomes for b in bounds)


def test_folding_does_not_feel_the_last_bit_of_its_end_points(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = draws_of("folding", draws=256)
    cos, sin = np.cos, np.sin
    monkeypatch.setattr(np, "cos", lambda x: np.nextafter(cos(x), 9))
    monkeypatch.setattr(np, "sin", lambda x: np.nextafter(sin(x), -9))
    apart = farthest(draws_of("folding", draws=256), usual)
    assert {apart[name] for name in FOLDS} == {0}
    assert 0 < max(apart["arc"], apart["length"]) < 2**-42


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("width", [16, 256])
def test_the_last_bit_of_the_first_angle_of_the_gram_sampler(width: int, activation: Activation) -> None:
    theta = np.repeat([1e-6, 0.5, 1.5, 3.0], 64)[:, None]
    given = np.zeros((len(theta), 2)), networks_of(len(theta)), Architecture(width, 100, activation)
    a, b = (gram.fnn(given[0], x, *given[1:]) for x in (theta, np.nextafter(theta, 9)))
    apart = farthest({"cosine": a.cosine, "angle": a.angle}, {"cosine": b.cosine, "angle": b.angle})
    assert 0 < max(apart.values()) < 2**-38


@pytest.mark.parametrize("correlation", [-0.95, 0.0, 0.5, 0.999999])
def test_the_cosine_of_the_inputs_in_another_order(correlation: float) -> None:
    for index in range(50):
        pair = sets.inputs("gaussian", 2, 32, correlation, index).reshape(2, -1).astype(np.float64)
        turned = np.random.default_rng(index).permutation(pair.shape[1])
        cosine, other = (gram.geometry(vectors).cosine[0] for vectors in (pair, pair[:, turned]))
        assert abs(cosine - other) <= 2**-50
