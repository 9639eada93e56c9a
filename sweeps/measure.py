"""measure(sweep, block, device): from a block to the moments of its draws.

Networks are launched in lanes. A statistic whose kernels' last bits may depend on the batch shape gives its lane
width as a function of the shape parameters; every launch then has exactly that width, the last one padded with
repeats. So neither tile, batch size, memory nor worker count changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from sweeps import progress
from sweeps.blocks import Block, keys_of, points_of
from sweeps.devices import loaded_torch
from sweeps.errors import LaunchMemoryError
from sweeps.moments import Moments, histogram
from sweeps.statistic import Networks, Statistic
from sweeps.sweep import Sweep

LAUNCH_BYTES = 2**28  # memory of a launch whose width is free


@dataclass(frozen=True)
class Measured:
    """What a block yields: moments (*tile, *dims) of every outcome, counts (*tile, *dims, bins) where declared, and
    the draws themselves (*tile, *dims, draws) where the sweep keeps them."""

    moments: Mapping[str, Moments]
    histograms: Mapping[str, np.ndarray]
    draws: Mapping[str, np.ndarray]


def measure(sweep: Sweep, block: Block, device: str = "cpu") -> Measured:
    """Sample every draw of a block and reduce."""
    draws = sample_block(sweep, block, device)
    shaped = {k: v.reshape(*block.shape, *v.shape[1:]) for k, v in draws.items()}
    return Measured(
        {k: Moments.of(v) for k, v in shaped.items()},
        {o.name: histogram(shaped[o.name], o.bins) for o in sweep.definition.outcomes if o.bins is not None},
        shaped if sweep.keep == "draws" else {},
    )


def sample_block(sweep: Sweep, block: Block, device: str = "cpu") -> dict[str, np.ndarray]:
    """The draws themselves, float64 (points, *dims, draws) an outcome; draws last, ready to be reduced."""
    launch = _launch(sweep, block, device)  # which may bring torch in
    torch = loaded_torch()
    with numerics(sweep.precision):
        draws = _sample_block(sweep, block, device, *launch)
    if loaded_torch() is not torch:  # it came in meanwhile, with threads and precision of its own
        return sample_block(sweep, block, device)
    return draws


def _sample_block(sweep: Sweep, block: Block, device: str, width: int, padded: bool) -> dict[str, np.ndarray]:
    statistic, points = sweep.definition, points_of(sweep, block)
    keys, size = keys_of(sweep, points), sweep.draws_per_batch
    total = len(points) * size
    shapes = {o.name: tuple(int(sweep.fixed[d.length]) for d in o.dims) for o in statistic.outcomes}
    out: dict[str, np.ndarray] = {}
    for start in range(0, total, width):
        wanted = min(width, total - start)
        progress.launch(block.index, start / total, wanted / total)
        row = np.minimum(np.arange(start, start + (width if padded else wanted)), total - 1)
        networks = Networks(
            points.take(row // size),
            keys[row // size],
            np.uint64(block.batch * size) + (row % size).astype(np.uint64),
        )
        sampled = _launched(statistic, networks, device)
        _check(sampled, shapes, len(networks), statistic.name)
        for name, array in sampled.items():
            whole = out.setdefault(name, np.empty((total, *shapes[name]), dtype=np.float64))
            whole[start : start + wanted] = array[:wanted]
    return {k: np.moveaxis(v.reshape(len(points), size, *v.shape[1:]), 1, -1) for k, v in out.items()}


def _check(sampled: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], n: int, name: str) -> None:
    """A statistic must give what it declares, in finite numbers; a plugin may not."""
    given, declared = {k: v.shape for k, v in sampled.items()}, {k: (n, *v) for k, v in shapes.items()}
    if given != declared:
        raise ValueError(f"statistic {name!r} gave outcomes of shapes {given}, and declares {declared}")
    for outcome, values in sampled.items():
        if np.isinf(values).any():
            raise ValueError(f"statistic {name!r} gave an infinite {outcome!r}; where a draw is undefined, give NaN")


def _launch(sweep: Sweep, block: Block, device: str) -> tuple[int, bool]:
    """(networks a launch, whether the last one is padded)."""
    statistic, points = sweep.definition, points_of(sweep, block)
    parameters, total = statistic.parameters(**points.point(0)), len(points) * sweep.draws_per_batch
    lane = (statistic.gpu_lane if device == "cuda" else None) or statistic.lane
    if lane is not None:
        return lane(parameters), True
    return max(1, min(total, LAUNCH_BYTES // max(1, statistic.memory(parameters)))), False


def _launched(statistic: Statistic, networks: Networks, device: str) -> dict[str, np.ndarray]:
    """One launch. Where memory runs out the cache is freed and the launch tried once more; freeing waits until the
    frames of the first try, and the tensors they hold, are gone.

    Raises:
        LaunchMemoryError: it ran out again.
    """
    try:
        return _sampled(statistic, networks, device)
    except _out_of_memory():
        pass
    if (torch := loaded_torch()) and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    try:
        return _sampled(statistic, networks, device)
    except _out_of_memory():
        raise LaunchMemoryError(_too_large(statistic, networks)) from None


def _out_of_memory() -> tuple[type[BaseException], ...]:
    """What running out of a device's memory raises: nothing without torch."""
    torch = loaded_torch()
    return (torch.OutOfMemoryError,) if torch else ()


def _sampled(statistic: Statistic, networks: Networks, device: str) -> dict[str, np.ndarray]:
    return {name: _to_numpy(values) for name, values in statistic.sample(networks, device).items()}


def _too_large(statistic: Statistic, networks: Networks) -> str:
    each = statistic.memory(statistic.parameters(**networks.points.point(0)))
    shape = ", ".join(f"{name} = {networks[name]!r}" for name in sorted(statistic.shape))
    return (
        f"a launch of {len(networks)} networks of {statistic.name!r} ({shape}) needs {len(networks) * each / 1e9:.3g} "
        f"GB of memory, {each / 1e9:.3g} GB a network, and found no room, twice; free the device of others, take one "
        f'with more memory or device = "cpu", or make the networks smaller'
    )


def _to_numpy(values) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


@contextmanager
def numerics(precision: str) -> Iterator[None]:
    """One thread, and full float32 matrix products unless the sweep asks for TF32."""
    with threadpool_limits(1):
        if (torch := loaded_torch()) is None:
            yield
            return
        threads = torch.get_num_threads()
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.set_num_threads(1)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
