"""Normals by the randomness rule, in each of its implementations, against torch.randn on the same device.

    python benchmarks/generator.py [--repeats 9]

One thread on the CPU, float32. The contestants take turns, and the best turn of each counts. On a GPU, with one: the
Triton kernel, plain torch operations, and normals made on the CPU and copied.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch

from sweeps import randomness, randomness_torch

SHAPES = [(1, 2**18), (64, 4096), (2**12, 63)]
GPU_SHAPES = [(1, 2**26), (2**14, 4096), (2**20, 63)]


def streams(networks: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(networks, 7, np.uint64), np.arange(networks, dtype=np.uint64)


def on_cpu(networks: int, size: int) -> dict[str, Callable[[], object]]:
    of = *streams(networks), 0, size
    return {
        "torch.randn": lambda: torch.randn(networks, size),
        "numba": lambda: randomness.normals(*of),
        "plain torch": lambda: randomness_torch.normals(*of, "cpu"),
    }


def on_gpu(networks: int, size: int) -> dict[str, Callable[[], object]]:
    of = *streams(networks), 0, size
    contestants: dict[str, Callable[[], object]] = {
        "torch.randn": lambda: torch.randn(networks, size, device="cuda"),
        "plain torch": lambda: randomness_torch.normals(*of, "cuda"),
        "numba, copied": lambda: torch.from_numpy(randomness.normals(*of)).to("cuda"),
    }
    if find_spec("triton"):
        from sweeps import randomness_triton

        contestants["Triton"] = lambda: randomness_triton.normals(*of, "cuda")
    return contestants


def best(contestants: dict[str, Callable[[], object]], repeats: int, wait: Callable[[], object]) -> dict[str, float]:
    """Seconds of the best turn of each, after one turn to compile."""
    times = dict.fromkeys(contestants, float("inf"))
    for turn in range(repeats + 1):
        for name, run in contestants.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            if turn:
                times[name] = min(times[name], time.perf_counter() - start)
    return times


def report(device: str, networks: int, size: int, times: dict[str, float]) -> None:
    for name, seconds in times.items():
        ns, ratio = 1e9 * seconds / (networks * size), seconds / times["torch.randn"]
        print(f"| {device} | {networks} x {size} | {name} | {ns:.3g} | {ratio:.3g} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print("| device | networks x normals | generator | ns a normal | times torch.randn |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        report("CPU", *shape, best(on_cpu(*shape), repeats, lambda: None))
    for shape in GPU_SHAPES if torch.cuda.is_available() else []:
        report(torch.cuda.get_device_name(), *shape, best(on_gpu(*shape), repeats, torch.cuda.synchronize))


if __name__ == "__main__":
    main()
