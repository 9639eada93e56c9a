import numpy as np
import pytest
import torch

from sweeps.networks import pooled_linear
from sweeps.theory import first_layer

K, SIDE, IMAGES, NETWORKS = 3, 3, 12, 4
D = 2 * SIDE * SIDE


def asymmetric_images(rng):
    """(n, 2, 6, 7): no channel, row or column is like another."""
    ramp = np.arange(2 * 6 * 7).reshape(2, 6, 7) / 40
    return rng.standard_normal((IMAGES, 2, 6, 7)) * (0.2 + ramp) + rng.standard_normal((IMAGES, 1, 1, 1)) * ramp


def centred_averages(images):
    rows, columns = images.shape[2] - SIDE + 1, images.shape[3] - SIDE + 1
    patches = [
        images[:, :, r : r + SIDE, c : c + SIDE].reshape(len(images), -1) for r in range(rows) for c in range(columns)
    ]
    averages = np.mean(patches, axis=0)
    return averages - averages.mean(0)


@pytest.fixture
def case():
    rng = np.random.default_rng(5)
    images = asymmetric_images(rng)
    averages, labels = centred_averages(images), rng.standard_normal((NETWORKS, IMAGES))
    top = np.linalg.eigvalsh(averages.T @ averages / IMAGES)[-1]
    rates = np.array([0.1, 0.5, 0.9, 0.2]) / (K * top)  # of 1/(K a), at which gradient descent diverges
    return images, averages, labels, rng.standard_normal((NETWORKS, K, D)), rates


@torch.inference_mode(False)
@torch.enable_grad()
def by_autograd(images, labels, start, rate, steps, batches=None):
    """Filters and losses after every step of torch's own convolution, mean and gradient."""
    x, y = torch.tensor(images), torch.tensor(labels)
    weight = torch.tensor(start.reshape(K, 2, SIDE, SIDE), requires_grad=True)
    filters, losses = [start], []
    for step in range(steps + 1):
        out = torch.nn.functional.conv2d(x, weight).mean((2, 3)).sum(1)
        out = out - out.mean()  # what centred averages are
        losses.append(((out - y) ** 2).mean().item())
        chosen = slice(None) if batches is None or step == steps else batches[step]
        (gradient,) = torch.autograd.grad(((out - y)[chosen] ** 2).mean(), weight)
        weight = (weight - rate * gradient).detach().requires_grad_()
        filters.append(weight.detach().numpy().reshape(K, D))
    return np.array(filters[: steps + 1]), np.array(losses)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("batch", [0, 5])
def test_training_is_torchs(case, batch):
    images, averages, labels, start, rates = case
    steps, rng = 40, np.random.default_rng(1)
    chosen = rng.integers(0, IMAGES, (steps, NETWORKS, batch))
    batches = (lambda step: chosen[step]) if batch else None
    found = pooled_linear.train(start, averages, labels, rates, (0, 1, 7, steps), batches)
    for n in range(NETWORKS):
        expected, losses = by_autograd(images, labels[n], start[n], rates[n], steps, chosen[:, n] if batch else None)
        np.testing.assert_allclose(found[:, n], expected[[0, 1, 7, steps]], rtol=1e-9, atol=1e-11)
        mine = [pooled_linear.losses(found[c, [n]], averages, labels[[n]])[0] for c in range(4)]
        np.testing.assert_allclose(mine, losses[[0, 1, 7, steps]], rtol=1e-9)


def test_a_full_batch_follows_the_closed_form(case):
    _, averages, labels, start, rates = case
    found = pooled_linear.train(start, averages, labels, rates, (0, 3, 1000, 20_000))
    A = averages.T @ averages / IMAGES
    for c, steps in enumerate((0, 3, 1000, 20_000)):
        for n in range(NETWORKS):
            expected = first_layer.law1(start[n], A, labels[n] @ averages / IMAGES, rates[n], steps)
            np.testing.assert_allclose(found[c, n], expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_a_batch_of_all_images_is_the_full_batch(case):
    _, averages, labels, start, rates = case
    everything = np.broadcast_to(np.arange(IMAGES), (NETWORKS, IMAGES))
    found = pooled_linear.train(start, averages, labels, rates, (200,), lambda step: everything)
    np.testing.assert_allclose(found, pooled_linear.train(start, averages, labels, rates, (200,)), rtol=1e-9)


@pytest.mark.parametrize("batch", [0, 5])
def test_bits_depend_on_no_other_network_and_no_checkpoint(case, batch):
    _, averages, labels, start, rates = case
    chosen = np.random.default_rng(1).integers(0, IMAGES, (30, NETWORKS, 5))

    def trained(networks, checkpoints):
        batches = (lambda step: chosen[step][networks]) if batch else None
        return pooled_linear.train(start[networks], averages, labels[networks], rates[networks], checkpoints, batches)

    together = trained([0, 1, 2, 3], (10, 30))
    np.testing.assert_array_equal(trained([2], (30,))[-1, 0], together[-1, 2])
    np.testing.assert_array_equal(trained([3, 1], (5, 10))[-1], together[0, [3, 1]])


@pytest.mark.parametrize("batch", [0, 5])
def test_a_diverged_network_is_nan_and_others_are_not_touched(case, batch):
    _, averages, labels, start, rates = case
    chosen = np.random.default_rng(1).integers(0, IMAGES, (3000, NETWORKS, 5))
    batches = (lambda step: chosen[step]) if batch else None
    fast = rates * np.array([1, 200, 1, 1])
    found = pooled_linear.train(start, averages, labels, fast, (1, 2000, 3000), batches)
    expected = pooled_linear.train(start, averages, labels, rates, (1, 2000, 3000), batches)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:, 1]).all()
    assert np.isnan(pooled_linear.losses(found[2], averages, labels)).tolist() == [False, True, False, False]
    np.testing.assert_array_equal(found[:, [0, 2, 3]], expected[:, [0, 2, 3]])


def test_a_start_that_is_not_finite_is_nan_at_once(case):
    _, averages, labels, start, rates = case
    start[1, 0, 4] = np.inf
    found = pooled_linear.train(start, averages, labels, rates, (0, 5))
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, [0, 2, 3]]).all()


def test_filters_in_another_order_move_alike(case):
    _, averages, labels, start, rates = case
    found = pooled_linear.train(start, averages, labels, rates, (50,))
    turned = pooled_linear.train(start[:, ::-1], averages, labels, rates, (50,))
    np.testing.assert_allclose(turned[:, :, ::-1], found, rtol=1e-11, atol=1e-13)
