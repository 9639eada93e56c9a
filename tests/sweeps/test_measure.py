"""Measuring a block: tile shape, batch size, lanes and memory change no bit."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from relu_sweeps_toys import sample_toy

import sweeps.measure
from sweeps import statistics
from sweeps.blocks import plan
from sweeps.errors import LaunchMemoryError
from sweeps.measure import measure, numerics, sample_block
from sweeps.statistic import Networks, Statistic
from sweeps.sweep import Sweep
from tests.conftest import SpecMaker


def all_draws(sweep: Sweep) -> dict[str, np.ndarray]:
    """Every draw of a sweep, (*shape, *dims, draws) an outcome."""
    out: dict[str, np.ndarray] = {}
    for block in plan(sweep):
        for name, values in sample_block(sweep, block).items():
            shaped = values.reshape(*block.shape, *values.shape[1:])
            size = sweep.draws_per_batch
            whole = out.setdefault(name, np.empty((*sweep.shape, *values.shape[1:-1], sweep.draws)))
            whole[(*block.slices, ..., slice(block.batch * size, (block.batch + 1) * size))] = shaped
    return out


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}


@pytest.mark.parametrize(
    "changes",
    [{"points_per_block": 1}, {"points_per_block": 3}, {"draws_per_batch": 24}, {"draws_per_batch": 1}],
    ids=str,
)
def test_tile_and_batch_change_no_bit(toy: SpecMaker, changes: dict) -> None:
    assert_same_bits(all_draws(toy(**changes)), all_draws(toy()))


def test_splitting_for_memory_changes_no_bit(toy: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = all_draws(toy())
    monkeypatch.setattr(sweeps.measure, "LAUNCH_BYTES", 1500)
    assert_same_bits(all_draws(toy()), whole)


def test_more_draws_and_more_points_leave_the_old_ones_alone(toy: SpecMaker) -> None:
    old = all_draws(toy())
    longer = all_draws(toy(draws=48))
    assert_same_bits({k: v[..., :24] for k, v in longer.items()}, old)
    wider = all_draws(toy(axes={"size": [2, 5, 8], "shift": {"linspace": [-1, 1, 9]}, "colour": ["blue", "red"]}))
    assert_same_bits({k: v[::2, ::2, ::-1] for k, v in wider.items()}, old)


def _feels_its_neighbours(lane: int | None) -> Statistic:
    """A statistic that, like BLAS, gives other bits when a launch has another width."""
    toy = statistics.get("toy")

    def sample(networks, device):
        return {"level": networks.normals(0, 1)[:, 0].astype(np.float64) * (1 + 1e-15 * len(networks))}

    return replace(toy, sample=sample, outcomes=toy.outcomes[:1], lane=(lambda p: lane) if lane else None)


@pytest.mark.parametrize("lane", [16, None])
def test_lanes_have_one_width_whatever_the_tile(toy: SpecMaker, monkeypatch: pytest.MonkeyPatch, lane) -> None:
    statistic = _feels_its_neighbours(lane)
    monkeypatch.setattr(statistics, "get", lambda name: statistic)
    a, b = (all_draws(toy(draws_per_batch=n, points_per_block=m)) for n, m in ((6, 3), (24, 5)))
    assert (a["level"].tobytes() == b["level"].tobytes()) == (lane is not None)


def test_a_gpu_has_lanes_of_its_own(toy: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    both = replace(_feels_its_neighbours(16), gpu_lane=lambda p: 64)
    sweep = toy()
    for statistic, device, width in ((both, "cpu", 16), (both, "cuda", 64), (replace(both, gpu_lane=None), "cuda", 16)):
        monkeypatch.setattr(statistics, "get", lambda name, s=statistic: s)
        assert sweeps.measure._launch(sweep, plan(sweep)[0], device) == (width, True)


def test_moments_and_histograms_are_those_of_the_draws(toy: SpecMaker) -> None:
    sweep = toy(points_per_block=4)
    block = plan(sweep)[1]
    draws, measured = sample_block(sweep, block), measure(sweep, block)
    for name, values in draws.items():
        moments = measured.moments[name]
        assert moments.mean.shape == (*block.shape, *values.shape[1:-1])
        flat = values.reshape(*block.shape, *values.shape[1:])
        np.testing.assert_array_equal(moments.undefined, np.isnan(flat).sum(axis=-1))
        np.testing.assert_array_equal(moments.n, (~np.isnan(flat)).sum(axis=-1))
    assert set(measured.histograms) == {"level"}
    assert measured.histograms["level"].sum() == draws["level"].size


def test_undefined_draws_are_counted_and_never_zero(toy: SpecMaker) -> None:
    sweep = toy(axes={"shift": [-10.0]}, fixed={})
    root = measure(sweep, plan(sweep)[0]).moments["root"]
    assert (root.n.item(), root.undefined.item()) == (0, 8)
    assert np.isnan(root.mean.item())


def test_outcomes_that_were_not_declared_are_told(toy: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    statistic = replace(statistics.get("toy"), sample=lambda networks, device: {"levle": np.zeros(len(networks))})
    monkeypatch.setattr(statistics, "get", lambda name: statistic)
    with pytest.raises(ValueError, match=r"'toy' gave outcomes of shapes \{'levle': \(40,\)\}, and declares"):
        measure(toy(), plan(toy())[0])


def test_an_infinite_draw_is_refused(toy: SpecMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no moments, and "undefined" is NaN."""
    changed = replace(
        statistics.get("toy"), sample=lambda n, device: sample_toy(n, device) | {"level": np.full(len(n), np.inf)}
    )
    monkeypatch.setattr(statistics, "get", lambda name: changed)
    with pytest.raises(ValueError, match="'toy' gave an infinite 'level'; where a draw is undefined, give NaN"):
        measure(toy(), plan(toy())[0])


def test_numerics_are_one_thread_of_full_float32_and_are_put_back() -> None:
    before = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    with numerics("float32"):
        assert torch.get_num_threads() == 1
        assert not torch.backends.cuda.matmul.allow_tf32
    with numerics("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
    assert (torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32) == before


LATE = """
import sys
from dataclasses import replace
from sweeps import statistics
from sweeps.blocks import plan
from sweeps.measure import measure
from sweeps.sweep import Sweep

threads = []

def sample(networks, device):
    import torch
    threads.append(torch.get_num_threads())
    return folding.sample(networks, device)

folding = statistics.get("folding")
statistics.get = lambda name: replace(folding, sample=sample)
sweep = Sweep.of({"name": "a", "statistic": "folding", "draws": 4, "draws_per_batch": 4,
                  "axes": {"width": [8]}, "fixed": {"depth": 2}})
assert "torch" not in sys.modules
measure(sweep, plan(sweep)[0])
print(len(threads), threads[-1])
"""


def test_torch_that_comes_in_while_sampling_is_set_to_one_thread_and_the_block_sampled_again() -> None:
    ran = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True)
    assert ran.stdout.split() == ["2", "1"], ran.stderr


class Hungry:
    """A sampler that holds an array a launch, and runs out of memory so many times."""

    def __init__(self, times: int) -> None:
        self.times, self.log, self.held = times, [], []

    def sample(self, networks: Networks, device: str) -> dict:
        tensor = torch.zeros(len(networks))
        self.held.append(weakref.ref(tensor))
        self.log.append(f"launch of {len(networks)}")
        if self.log.count(self.log[-1]) <= self.times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return sample_toy(networks, device)

    def empty_cache(self) -> None:
        self.log.append(f"freed, {sum(ref() is not None for ref in self.held)} held")


class TestOutOfMemory:
    @pytest.fixture
    def hungry(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Hungry]:
        def make(times: int) -> Hungry:
            hungry = Hungry(times)
            changed = replace(statistics.get("toy"), sample=hungry.sample, memory=lambda p: 10**6 * p.size)
            monkeypatch.setattr(statistics, "get", lambda name: changed)
            monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
            monkeypatch.setattr(torch.cuda, "empty_cache", hungry.empty_cache)
            return hungry

        return make

    def test_the_cache_is_freed_and_the_launch_tried_once_more(self, toy: SpecMaker, hungry) -> None:
        sweep = toy(points_per_block=1)
        block = plan(sweep)[0]
        expected = sample_block(sweep, block)
        glutton = hungry(1)
        assert_same_bits(sample_block(sweep, block), expected)
        assert glutton.log == ["launch of 8", "freed, 0 held", "launch of 8"]

    def test_the_second_time_it_says_what_the_launch_needs(self, toy: SpecMaker, hungry) -> None:
        sweep = toy(points_per_block=1)
        glutton = hungry(2)
        with pytest.raises(LaunchMemoryError) as error:
            measure(sweep, plan(sweep)[0])
        assert str(error.value) == (
            "a launch of 8 networks of 'toy' (colour = 'red', size = 2, steps = 3) needs 0.016 GB of memory, 0.002 GB "
            "a network, and found no room, twice; free the device of others, take one with more memory or "
            'device = "cpu", or make the networks smaller'
        )
        assert len(glutton.log) == 3
        assert isinstance(error.value, MemoryError)
