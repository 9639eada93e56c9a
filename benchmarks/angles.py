"""Angles of two inputs: the project's samplers, a plain torch script and neural_tangents, on the same networks' law.

    python benchmarks/angles.py [--repeats 5] [--python PYTHON]

One thread, CPU time, the best of the repeats. Two Gaussian inputs at cosine 0.5; every contestant yields what gives the
cosine after the last of 10 ReLU layers (CNN: of 4), and the means over networks must agree. The plain script draws the
weights with torch.randn and multiplies with @ or conv2d, one network after the other. neural_tangents is
`monte_carlo_kernel_fn`, the NNGP kernel, after its compilation, from an environment of its own (`--python` names one
that has it).
The direct and Gram samplers draw their normals by the project's randomness rule; the limit of a Gram sampler is the
time that its normals alone take from the project's generator, as arrays.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import torch
from torch.nn import functional

from sweeps import randomness
from sweeps.networks import direct, gram, gram_cnn
from sweeps.networks.architecture import Architecture
from sweeps.statistic import Networks, Points

INPUTS = 3072
WIDTHS = (256, 1024, 4096)
DEPTH = 10
CNN = Architecture(512, 4, side=3)
IMAGE = (3, 8, 8)
SAMPLES = 8  # of neural_tangents

PEER = """
import json, sys, time
import jax, numpy as np
import neural_tangents as nt
from neural_tangents import stax
width, depth, samples, repeats, image = json.loads(sys.argv[1])
inputs = np.load(sys.argv[2])
layers = []
for _ in range(depth):
    dense = stax.Dense(width, W_std=2**0.5)
    conv = stax.Conv(width, (3, 3), padding="CIRCULAR", W_std=2**0.5)
    layers += [conv if image else dense, stax.Relu()]
layers += [stax.Flatten()] if image else []
init, apply, _ = stax.serial(*layers)
kernel = nt.monte_carlo_kernel_fn(init, apply, jax.random.PRNGKey(0), samples, implementation=1)
K, best = np.asarray(kernel(inputs, None, "nngp")), 1e9
for _ in range(repeats):
    start = time.process_time()
    np.asarray(kernel(inputs, None, "nngp"))
    best = min(best, (time.process_time() - start) / samples)
print(json.dumps([best, float(K[0, 1] / (K[0, 0] * K[1, 1]) ** 0.5)]))
"""
REQUIREMENTS = ("jax==0.4.25", "jaxlib==0.4.25", "neural_tangents", "numpy<2", "scipy<1.13")

Timed = tuple[float, np.ndarray]
"""CPU seconds a network, and cosines (networks,)."""


def peer_python() -> str:
    """The Python of an environment with neural_tangents, made if it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "relu-sweeps" / "neural-tangents"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        (home / "ready").touch()
    return str(python)


def inputs_of(*image: int) -> np.ndarray:
    """Two Gaussian images at cosine 0.5, float32 (2, *image)."""
    x, y = np.random.default_rng(0).standard_normal((2, int(np.prod(image))))
    x, y = x / np.linalg.norm(x), y - (y @ x) / (x @ x) * x
    y /= np.linalg.norm(y)
    pair = np.stack([x, 0.5 * x + np.sqrt(0.75) * y]) * np.sqrt(x.size)
    return pair.reshape(2, *image).astype(np.float32)


def plain_fnn(images: np.ndarray, width: int) -> float:
    """The last cosine of one fully connected ReLU network, as a script would compute it."""
    hidden = torch.tensor(images).flatten(1).T
    for _ in range(DEPTH):
        fan_in = hidden.shape[0]
        hidden = (torch.randn(width, fan_in) * (2 / fan_in) ** 0.5 @ hidden).relu()
    return functional.cosine_similarity(hidden[:, 0], hidden[:, 1], dim=0).item()


def plain_cnn(images: np.ndarray) -> float:
    """The last cosine of one circularly padded convolutional ReLU network."""
    hidden = torch.tensor(images)
    for _ in range(CNN.depth):
        channels = hidden.shape[1]
        weights = torch.randn(CNN.width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
        hidden = functional.conv2d(functional.pad(hidden, (1, 1, 1, 1), mode="circular"), weights).relu()
    x, y = hidden.flatten(1)
    return functional.cosine_similarity(x, y, dim=0).item()


def networks_of(n: int, first: int) -> Networks:
    return Networks(Points({}, {}, n), np.full(n, 1, np.uint64), np.arange(first, first + n, dtype=np.uint64))


def timed(cosines: Callable[[int, int], object], networks: int, repeats: int) -> Timed:
    """Of `cosines(networks, first draw)`, run once before it counts."""
    cosines(networks, 0)
    best, found = np.inf, []
    for repeat in range(repeats):
        start = time.process_time()
        found.append(cosines(networks, networks * repeat))
        best = min(best, (time.process_time() - start) / networks)
    return best, np.ravel(np.asarray(found, dtype=float))


def peer(python: str, images: np.ndarray, a: Architecture, samples: int, repeats: int, folder: Path) -> Timed:
    np.save(folder / "inputs.npy", images.transpose(0, 2, 3, 1) if images.ndim == 4 else images)
    (folder / "peer.py").write_text(PEER)
    given = json.dumps([a.width, a.depth, samples, repeats, images.ndim == 4])
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    done = subprocess.run([python, str(folder / "peer.py"), given, str(folder / "inputs.npy")], check=True,
                          capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": flags})  # fmt: skip
    seconds, cosine = json.loads(done.stdout.splitlines()[-1])
    return seconds, np.array([cosine])


def contestants(a: Architecture, images: np.ndarray, python: str, repeats: int, folder: Path) -> dict[str, Timed]:
    convolutional = a.side > 1
    shaped = images[None] if convolutional else images.reshape(1, 2, -1, 1, 1)
    size = direct.lane(a, 2, IMAGE if convolutional else (INPUTS, 1, 1))

    def drawn(n: int, first: int) -> np.ndarray:
        return direct.sample(shaped, np.zeros(n, int), networks_of(n, first), a, "cpu").cosine[:, -1, 0]

    def from_gram(n: int, first: int) -> np.ndarray:
        if convolutional:
            return gram_cnn.sample(shaped, np.zeros(n, int), networks_of(n, first), a).cosine[:, -1, 0]
        return gram.fnn(np.zeros((n, 2)), np.full((n, 1), np.pi / 3), networks_of(n, first), a).cosine[:, -1, 0]

    def normals(n: int, first: int) -> None:
        networks, places = networks_of(n, first), 2 * (64 if convolutional else 1)
        for layer in range(a.depth):
            rank = 27 if convolutional and layer == 0 else places  # of the first layer's covariance: 3 channels
            randomness.normals(networks.keys, networks.draws, layer, rank * a.width)

    def plain(n: int, first: int) -> list[float]:
        return [plain_cnn(images) if convolutional else plain_fnn(images, a.width) for _ in range(n)]

    many = 4 if convolutional else max(4, 2**18 // a.width)
    return {
        "plain torch": timed(plain, size, repeats),
        "neural_tangents": peer(
            python, images if convolutional else images.reshape(2, -1), a, SAMPLES, repeats, folder
        ),
        "direct": timed(drawn, size, repeats),
        "Gram": timed(from_gram, many, repeats),
        "normals alone": (timed(normals, many, repeats)[0], np.empty(0)),
    }


def rows(name: str, found: dict[str, Timed]) -> list[str]:
    """Of the table; exits where two means are more than 5 standard errors apart."""
    plain, fastest, exact = found["plain torch"][0], found["normals alone"][0], found["Gram"][1]
    spread, out = exact.std(), []
    for contestant, (seconds, cosines) in found.items():
        if cosines.size:
            samples = SAMPLES if contestant == "neural_tangents" else cosines.size
            if abs(cosines.mean() - exact.mean()) > 5 * spread * (1 / samples + 1 / exact.size) ** 0.5:
                raise SystemExit(f"{name}: mean cosine {cosines.mean()} of {contestant}, {exact.mean()} of Gram")
        share = f"{fastest / seconds:.2g}" if contestant == "Gram" else ""
        mean = f"{cosines.mean():.4f}" if cosines.size else ""
        cells = (name, contestant, f"{1e3 * seconds:.3g}", f"{1 / seconds:.3g}", f"{plain / seconds:.3g}", share, mean)
        out.append(f"| {' | '.join(cells)} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--python", help="a Python that has neural_tangents")
    given = parser.parse_args()
    python = given.python or peer_python()
    torch.set_num_threads(1)
    columns = ("network", "sampler", "ms a network", "networks a second", "times plain torch", "share of the limit")
    print(f"| {' | '.join(columns)} | mean cosine |\n|{'---|' * 7}")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for width in WIDTHS:
            found = contestants(Architecture(width, DEPTH), inputs_of(INPUTS), python, given.repeats, Path(folder))
            print(*rows(f"FNN, N = {width}, {DEPTH} layers", found), sep="\n", flush=True)
        found = contestants(CNN, inputs_of(*IMAGE), python, given.repeats, Path(folder))
        print(*rows(f"CNN, N = {CNN.width}, 8 x 8, {CNN.depth} layers", found), sep="\n")


if __name__ == "__main__":
    main()
