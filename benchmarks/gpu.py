"""Networks with drawn weights on a GPU: the project's sampler, a plain torch script, and the same on one CPU core.

    python benchmarks/gpu.py [--repeats 3]

Wall time, the best of the repeats, which end when the GPU has. Two Gaussian inputs at cosine 0.5 through ReLU
layers; every contestant yields what gives the cosine after the last layer, the project's all layers' angles and
lengths. The plain script draws the weights with torch.randn on the GPU and multiplies with @ or conv2d, one network
after the other, and fetches one number a network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.angles import IMAGE, INPUTS, inputs_of, networks_of
from sweeps.measure import numerics
from sweeps.networks import direct
from sweeps.networks.architecture import Architecture, gpu_lane

CASES = [
    (Architecture(256, 10), (INPUTS, 1, 1)),
    (Architecture(1024, 10), (INPUTS, 1, 1)),
    (Architecture(4096, 10), (INPUTS, 1, 1)),
    (Architecture(512, 4, side=3), IMAGE),
]


def plain(a: Architecture, images: torch.Tensor) -> float:
    """The last cosine of one network, as a script would compute it."""
    hidden = images
    for _ in range(a.depth):
        fan_in = hidden.shape[1] * a.side**2
        weights = torch.randn(a.width, fan_in, device=images.device) * (2 / fan_in) ** 0.5
        if a.side > 1:
            padded = functional.pad(hidden, (a.side // 2,) * 4, mode="circular")
            hidden = functional.conv2d(padded, weights.unflatten(1, (-1, a.side, a.side))).relu()
        else:
            hidden = (hidden.flatten(1) @ weights.T).relu()
    x, y = hidden.flatten(1)
    return functional.cosine_similarity(x, y, dim=0).item()


def sampled(a: Architecture, images: np.ndarray, n: int, first: int, device: str) -> np.ndarray:
    shaped = images.reshape(1, 2, *images.shape[1:])
    return direct.sample(shaped, np.zeros(n, int), networks_of(n, first), a, device).cosine[:, -1, 0]


def best(cosines: Callable[[int, int], object], networks: int, repeats: int) -> tuple[float, float]:
    """Seconds a network, and the mean cosine, of `cosines(networks, first draw)`."""
    cosines(networks, 0)
    least, found = np.inf, []
    for repeat in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        found.append(np.ravel(np.asarray(cosines(networks, networks * repeat), dtype=float)))
        torch.cuda.synchronize()
        least = min(least, (time.perf_counter() - start) / networks)
    return least, float(np.mean(found))


def compared(a: Architecture, image: tuple[int, int, int], repeats: int) -> None:
    images, each = inputs_of(*image), direct.launch_bytes(a, 2, image)
    there, wide, narrow = torch.tensor(images, device="cuda"), gpu_lane(each), direct.lane(a, 2, image)
    found = {
        "plain torch, GPU": best(lambda n, first: [plain(a, there) for _ in range(n)], 64, repeats),
        f"ours, GPU, {wide} a launch": best(lambda n, first: sampled(a, images, n, first, "cuda"), wide, repeats),
        f"ours, CPU, {narrow} a launch": best(lambda n, first: sampled(a, images, n, first, "cpu"), narrow, 1),
    }
    name, of_plain = f"{'CNN' if a.side > 1 else 'FNN'}, N = {a.width}, {a.depth} layers", found["plain torch, GPU"][0]
    for contestant, (seconds, cosine) in found.items():
        cells = f"{1e3 * seconds:.3g} | {1 / seconds:.3g} | {of_plain / seconds:.3g} | {cosine:.3f}"
        print(f"| {name} | {contestant} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print("| network | sampler | ms a network | networks a second | times plain torch | mean cosine |")
    print(f"|{'---|' * 6}")
    with numerics("float32"), torch.inference_mode():
        for a, image in CASES:
            compared(a, image, repeats)


if __name__ == "__main__":
    main()
