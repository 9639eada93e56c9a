"""Adversarial examples against one network and one image at a time with autograd, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sweeps.inputs import labelled
from sweeps.networks.attacks import fgsm, pgd
from sweeps.networks.layered import Dense, Layered, fully_connected
from sweeps.networks.training import Recipe, train
from tests.sweeps.networks_of import gaussian_images, networks_of
from tests.sweeps.test_training import CLASSES, LAYERS, begun, made, plain

pytestmark = pytest.mark.usefixtures("one_thread")

BOUNDS = (-1.0, 1.5)


def judged(layered: Layered, packed: np.ndarray) -> torch.nn.Sequential:
    net = plain(layered, packed).eval()
    for module in net:
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0
            module.running_mean, module.running_var = torch.zeros(2, len(module.weight), dtype=torch.float64)
            module.running_var = module.running_var + 1
    return net


@torch.inference_mode(False)
@torch.enable_grad()
def attacked(net, image: np.ndarray, label: int, radius: float, steps: int) -> np.ndarray:
    """The textbook's loop, for one image (channels, rows, cols)."""
    start = torch.tensor(image)[None].double()
    x = start
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(functional.cross_entropy(net(x), torch.tensor([label])), x)
        moved = x + 2.5 * radius / steps * gradient.sign()
        x = torch.minimum(torch.maximum(moved, start - radius), start + radius).clamp(*BOUNDS)
    return x[0].detach().numpy()


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode(False)
def test_as_autograd(name, steps):
    layered, n, k = made(name, 0.3), 3, 5
    packed, radius = begun(layered, n), np.array([0.0, 0.05, 0.3])
    images = gaussian_images((n, k, *layered.image)).clip(*BOUNDS)
    labels = np.random.default_rng(1).integers(0, CLASSES, (n, k))
    got = pgd(layered, packed, images, labels, radius, steps, BOUNDS, "cpu")
    assert got.dtype == np.float32
    assert (np.abs(got - images) <= radius[:, None, None, None, None] + 1e-6).all()
    assert BOUNDS[0] <= got.min() <= got.max() <= BOUNDS[1]
    expected = np.empty_like(got)
    for i in range(n):
        net = judged(layered, packed[i])
        for j in range(k):
            expected[i, j] = attacked(net, images[i, j], labels[i, j], radius[i], steps)
    # float32 and float64 may see the sign of a gradient next to 0 differently
    assert np.mean(np.abs(got - expected) > 1e-5) < 0.002
    if steps == 1:
        np.testing.assert_array_equal(fgsm(layered, packed, images, labels, radius, BOUNDS, "cpu"), got)


def losses(layered, packed, images, labels) -> np.ndarray:
    with torch.no_grad():
        return np.array([
            functional.cross_entropy(judged(layered, p)(torch.tensor(x).double()), torch.tensor(y), reduction="none")
            for p, x, y in zip(packed, images, labels, strict=True)
        ])  # fmt: skip


def test_trained_networks_are_misled():
    layered, data, n = (
        Layered((1, 8, 8), (*fully_connected(64, [20, 20]).layers, Dense(10))),
        labelled.load("digits"),
        4,
    )
    recipe, targets = Recipe(220, 32, "adam", (220,)), np.tile(data.train_labels, (n, 1))
    trained = train(layered, begun(layered, n), data, targets, networks_of(n), recipe, np.full(n, 0.01), "cpu")
    images, labels = (np.stack([part[:50]] * n) for part in (data.validation_images, data.validation_labels))
    with torch.inference_mode(False):
        before = losses(layered, trained.packed[0], images, labels)
        once = losses(
            layered, trained.packed[0], fgsm(layered, trained.packed[0], images, labels, 0.1, (0, 1), "cpu"), labels
        )
        often = pgd(layered, trained.packed[0], images, labels, 0.1, 10, (0, 1), "cpu")
        after = losses(layered, trained.packed[0], often, labels)
    assert (after >= before - 1e-6).mean() > 0.99
    assert before.mean() < once.mean() < after.mean()
    assert after.mean() > 5 * before.mean()


def test_neither_place_nor_company_nor_a_lost_network_changes_a_bit():
    layered, n = made("convolutions"), 4
    packed, images = begun(layered, n), gaussian_images((n, 3, *layered.image)).clip(*BOUNDS)
    labels = np.arange(3 * n).reshape(n, 3) % CLASSES
    got = pgd(layered, packed, images, labels, 0.2, 3, BOUNDS, "cpu")
    packed[1] = np.nan
    order = np.array([2, 1, 3, 0])
    moved = pgd(layered, packed[order], images[order], labels[order], 0.2, 3, BOUNDS, "cpu")
    np.testing.assert_array_equal(moved, np.stack([got[2], images[1], got[3], got[0]]))
