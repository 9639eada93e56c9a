"""Compiled loops against the same layers as products of patches and torch's operations, which GPUs use."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sweeps.networks import layered, stacked_layers, stacked_loops
from sweeps.networks.stacked_layers import Layer, whole_lines

pytestmark = pytest.mark.usefixtures("one_thread")

N, K, BATCH = 3, 32, 20


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def both(layer: Layer, x: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, gradient of the inputs, gradients of the parameters; the second time round, so that nothing is left."""
    for _ in range(2):
        out = layer.forward(x).clone()
        found = layer.backward(gradient.clone(), inputs=True).clone()
    return [out, found, *layer.gradients]


def convolution(module, image, given: layered.Convolution) -> Layer:
    fan_in = image[0] * given.side**2
    weights = torch.zeros(N, given.filters, whole_lines(fan_in + 1))
    weights[..., : fan_in + 1] = numbers(N, given.filters, fan_in + 1)
    return module.Convolution([weights], [torch.zeros_like(weights)], image, K, given)


@pytest.mark.parametrize("image", [(1, 4, 6), (3, 5, 4)])
@pytest.mark.parametrize("given", [
    layered.Convolution(4, 3), layered.Convolution(7, 5), layered.Convolution(1, 1), layered.Convolution(2, 7),
    layered.Convolution(5, 3, "circular"), layered.Convolution(3, 7, "circular"),
])  # fmt: skip
def test_convolutions(given, image):
    x, gradient = numbers(N, *image, K, seed=1), numbers(N, given.filters, *image[1:], K, seed=2)
    expected, got = (both(convolution(module, image, given), x, gradient) for module in (stacked_layers, stacked_loops))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("batch", [BATCH, K, None])
def test_batch_normalisation(batch):
    x, gradient = 2 + 3 * numbers(N, 5, 3, 4, K, seed=1), numbers(N, 5, 3, 4, K, seed=2)
    gradient[..., batch:] = 0
    found = []
    for module in (stacked_layers, stacked_loops):
        layer = module.Affine([numbers(N, 5, seed=i) for i in (3, 4)], [torch.zeros(N, 5) for _ in range(2)], batch)
        layer.out = torch.empty_like(x)
        found.append(both(layer, x, gradient))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_bits_do_not_depend_on_company_or_place():
    given, image = layered.Convolution(7, 3), (3, 5, 6)
    x, gradient = numbers(N, *image, K, seed=1), numbers(N, 7, *image[1:], K, seed=2)
    usual = convolution(stacked_loops, image, given)
    moved = convolution(stacked_loops, image, given)
    order = torch.tensor([2, 0, 1])
    moved.parameters[0].copy_(usual.parameters[0][order])
    for a, b in zip(both(usual, x, gradient), both(moved, x[order], gradient[order]), strict=True):
        assert torch.equal(a[order], b)
