"""Many networks trained at once against one at a time with torch's layers and optimisers, and their promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sweeps.inputs import labelled
from sweeps.inputs.labelled import Labelled
from sweeps.networks.layered import (
    Activation,
    Add,
    Affine,
    AveragePool,
    Convolution,
    Dense,
    GlobalAveragePool,
    Layered,
    MaxPool,
    Save,
    fully_connected,
)
from sweeps.networks.lessons import NOISE, SHUFFLES, check_epochs, noisy, order
from sweeps.networks.training import Optimiser, Recipe, lane, launch_bytes, seconds, train
from sweeps.statistic import Networks
from tests.sweeps.networks_of import gaussian_images, networks_of

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 3
LAYERS = {
    "dense": (Dense(7), Activation(), Dense(5), Activation()),
    "deep read-out": (Dense(4), Dense(6), Activation(), Dense(2)),
    "no hidden layer": (),
    "convolutions": (Convolution(5, 3), Activation(), Convolution(3, 5, "circular"), Activation()),
    "circular 5 on a small image": (AveragePool(), Convolution(4, 1), MaxPool(), Convolution(3, 5, "circular")),
    "pools": (Convolution(4, 3, "circular"), Activation(), MaxPool(), Convolution(6, 3), Activation(), AveragePool()),
    "normalised": (Dense(9), Affine(), Activation(), Dense(5), Affine(), Activation()),
    "normalised images": (Affine(), Convolution(4, 3), Affine(), Activation(), MaxPool(), Dense(5), Activation()),
    "channel means": (Convolution(4, 3), Affine(), Activation(), GlobalAveragePool(), Dense(5), Affine(), Activation()),
    "means first, and last": (GlobalAveragePool(), Dense(4), Activation(), GlobalAveragePool()),
    "activation first": (Activation(), MaxPool(), Dense(4), Affine(), Activation()),
}


def made(name: str, slope: float = 0.0) -> Layered:
    return Layered((2, 5, 6), (*LAYERS[name], Dense(CLASSES)), slope)


def begun(layered: Layered, n: int, seed: int = 0) -> np.ndarray:
    """He weights, small biases, scales near one."""
    rng = np.random.default_rng(seed)
    packed = 0.1 * rng.standard_normal((n, layered.size))
    for blocks in layered.unpack(packed):
        if blocks and blocks[0].ndim == 3:
            blocks[0][:] = rng.standard_normal(blocks[0].shape) * np.sqrt(2 / blocks[0].shape[1])
        elif blocks:
            blocks[0][:] += 1
    return packed


def data_of(n: int = 40, seed: int = 3) -> Labelled:
    labels = np.random.default_rng(seed).integers(0, CLASSES, n)
    images = gaussian_images((n, 2, 5, 6), seed) + labels[:, None, None, None].astype(np.float32)
    return Labelled(images[: n - 9], labels[: n - 9], images[n - 9 :], labels[n - 9 :], CLASSES)


def epochs(
    count: int, batch: int, optimiser: Optimiser, examples: int, *, taken: tuple[int, ...] | None = None
) -> Recipe:
    """Whole epochs, looked at at their end or after those `taken`."""
    each = examples // batch
    return Recipe(count * each, batch, optimiser, tuple(each * n for n in (taken or (count,))))


class Circular(nn.Module):
    def __init__(self, edge: int) -> None:
        super().__init__()
        self.edge = edge

    def forward(self, x):
        rows, cols = (torch.arange(-self.edge, n + self.edge) % n for n in x.shape[2:])
        return x[:, :, rows][:, :, :, cols]


def plain(layered: Layered, packed: np.ndarray) -> nn.Sequential:
    """The same network as a user of torch would write it, in float64."""
    modules: list[nn.Module] = []
    for layer, shape, blocks in zip(layered.layers, layered.shapes, layered.unpack(packed), strict=False):
        tensors = [torch.tensor(block) for block in blocks]
        match layer:
            case Dense(outputs):
                modules += [nn.Flatten(), nn.Linear(tensors[0].shape[0], outputs), nn.Unflatten(1, (outputs, 1, 1))]
                set_to(modules[-2], tensors[0].T, tensors[1])
            case Convolution(filters, side, padding):
                circular = padding == "circular"
                modules.append(Circular(side // 2) if circular else nn.Identity())
                modules.append(nn.Conv2d(shape[0], filters, side, padding=0 if circular else side // 2))
                set_to(modules[-1], tensors[0].T.reshape(filters, shape[0], side, side), tensors[1])
            case Affine():
                modules.append(nn.BatchNorm2d(shape[0], momentum=None))
                set_to(modules[-1], *tensors)
            case Activation():
                modules.append(nn.LeakyReLU(layered.slope))
            case AveragePool():
                modules.append(nn.AvgPool2d(2))
            case MaxPool():
                modules.append(nn.MaxPool2d(2))
            case GlobalAveragePool():
                modules.append(nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*modules, nn.Flatten())


def set_to(module, weight, bias) -> None:
    module.double()
    module.weight.data, module.bias.data = weight.contiguous(), bias.contiguous()


def packed_of(layered: Layered, net: nn.Sequential, images: torch.Tensor) -> np.ndarray:
    """The trained network in inference form: batch normalisation with the statistics of `images`."""
    found, x = [], images
    modules = iter(net)
    with torch.no_grad():
        for module in modules:
            if isinstance(module, nn.BatchNorm2d):
                variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
                scale = module.weight / (variance + 1e-5).sqrt()
                found.append([scale, module.bias - mean * scale])
                x = x * found[-1][0][:, None, None] + found[-1][1][:, None, None]
                continue
            x = module(x)
            if isinstance(module, nn.Linear | nn.Conv2d):
                found.append([module.weight.flatten(1).T, module.bias])
    flat = [block.detach().numpy().ravel() for blocks in found for block in blocks]
    return np.concatenate(flat)


def optimiser_of(name: str, net: nn.Module, rate: float) -> torch.optim.Optimizer:
    match name:
        case "adam":
            return torch.optim.Adam(net.parameters(), lr=rate)
        case "momentum":
            return torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    return torch.optim.SGD(net.parameters(), lr=rate)


@torch.inference_mode(False)
@torch.enable_grad()
def plainly_trained(layered, packed, data, networks: Networks, i, recipe: Recipe, rate, labels):
    """What `train` gives of network i: packed, loss, accuracies at the end."""
    net = plain(layered, packed).train()
    optimiser = optimiser_of(recipe.optimiser, net, rate)
    images, targets = torch.tensor(data.train_images).double(), torch.tensor(labels)
    each = len(labels) // recipe.batch_size
    for step in range(recipe.steps):
        words = networks.words(SHUFFLES + step // each, len(labels))[i]
        chosen = torch.tensor(np.argsort(words, kind="stable")[: each * recipe.batch_size])
        chosen = chosen.split(recipe.batch_size)[step % each]
        optimiser.zero_grad()
        functional.cross_entropy(net(images[chosen]), targets[chosen]).backward()
        optimiser.step()
    seen = recipe.judged or len(images)
    images, targets = images[:seen], targets[:seen]
    after = packed_of(layered, net, images)
    judge = plain(layered, after).eval()
    for module in judge:
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.running_mean = torch.zeros(len(module.weight), dtype=torch.float64)
            module.running_var = torch.ones(len(module.weight), dtype=torch.float64)
    with torch.no_grad():
        outputs = judge(images)
        others, their_labels = data.validation_images[: recipe.judged or None], data.validation_labels
        validated = judge(torch.tensor(others).double()).argmax(1).numpy() == their_labels[: len(others)]
        loss = functional.cross_entropy(outputs, targets).item()
    return after, loss, (outputs.argmax(1) == targets).double().mean().item(), validated.mean()


def assert_as_plain(layered, recipe: Recipe, rate: float, noise: float = 0.0, tolerance: float = 2e-4):
    data, networks = data_of(), networks_of(3)
    start, rates, noises = begun(layered, 3), rate * np.array([1, 0.5, 0.1]), np.array([0, noise, noise])
    labels = noisy(data, networks, noises)
    got = train(layered, start, data, labels, networks, recipe, rates, "cpu")
    for i in range(3):
        packed, *scores = plainly_trained(layered, start[i], data, networks, i, recipe, rates[i], labels[i])
        np.testing.assert_allclose(got.packed[-1, i], packed, atol=tolerance)
        np.testing.assert_allclose([values[-1, i] for values in got[1:]], scores, atol=tolerance)


@pytest.mark.parametrize("slope", [0.0, 0.2, -1.0])
@pytest.mark.parametrize("name", LAYERS)
def test_steps_of_every_layer(name, slope):
    assert_as_plain(made(name, slope), Recipe(6, 8, "sgd", (6,)), 0.01)


@pytest.mark.parametrize("name", ["dense", "normalised images"])
def test_stops_within_an_epoch_and_judges_by_some_examples(name):
    assert_as_plain(made(name), Recipe(7, 8, "momentum", (7,), judged=7), 0.01)  # epochs of 3 steps; 9 to validate with
    assert_as_plain(made(name), Recipe(4, 8, "momentum", (4,), judged=20), 0.01)


@pytest.mark.parametrize("batch", [1, 8, 16, 31])
@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_every_optimiser_and_batch(optimiser, batch):
    rate = 0.003 if optimiser == "adam" else 0.02
    assert_as_plain(made("dense", 0.1), epochs(3, batch, optimiser, 31), rate, noise=0.5)


def test_one_step_of_all_examples_by_hand():
    """Softmax regression: the gradient of the weights is the mean of x (softmax - one-hot)."""
    data, layered, networks = data_of(), made("no hidden layer"), networks_of(1)
    start = begun(layered, 1)
    labels = data.train_labels[None]
    got = train(layered, start, data, labels, networks, Recipe(1, 31, "sgd", (0, 1)), np.array([0.3]), "cpu")
    x, ((W, b),) = data.train_images.reshape(31, -1).astype(float), layered.unpack(start[0])
    p = np.exp(x @ W + b)
    error = p / p.sum(1, keepdims=True) - np.eye(CLASSES)[data.train_labels]
    np.testing.assert_allclose(
        got.packed[1, 0], layered.pack([W - 0.3 * x.T @ error / 31, b - 0.3 * error.mean(0)]), atol=1e-6
    )
    np.testing.assert_allclose(
        got.loss[0, 0], -np.log((p / p.sum(1, keepdims=True))[range(31), data.train_labels]).mean(), rtol=1e-6
    )


def digits_trained(layered, networks, recipe, rate=0.1, noise=0.0, seed=0):
    data, n = labelled.load("digits", examples=600), len(networks)
    labels = noisy(data, networks, np.full(n, noise))
    return train(layered, begun(layered, n, seed), data, labels, networks, recipe, np.full(n, rate), "cpu")


DIGITS = Layered((1, 8, 8), (*fully_connected(64, [20, 20]).layers, Dense(10)))


def test_digits_are_learnt():
    got = digits_trained(DIGITS, networks_of(16), epochs(12, 16, "adam", 480, taken=(0, 12)), 0.01)
    assert got.accuracy[1].min() > 0.8
    assert got.accuracy[1].mean() > 0.9
    assert got.accuracy[0].mean() < 0.2
    assert got.loss[1].max() < 0.1


def test_labels_that_are_all_noise_teach_nothing():
    got = digits_trained(DIGITS, networks_of(16), epochs(20, 16, "adam", 480), 0.01, noise=1.0)
    assert abs(got.accuracy.mean() - 0.1) < 4 * 0.1 / np.sqrt(16)  # networks differ by a few hundredths
    assert got.training_accuracy.mean() > 0.3  # learnt by heart


def test_noise_replaces_a_label_by_any_class():
    data, networks = labelled.load("digits"), networks_of(50)
    rates = np.repeat([0.0, 0.3, 1.0], [10, 20, 20])
    changed = noisy(data, networks, rates) != data.train_labels
    n = changed.shape[1]
    for rate in (0.0, 0.3, 1.0):
        p, count = 0.9 * rate, n * (rates == rate).sum()
        assert abs(changed[rates == rate].mean() - p) <= 4 * np.sqrt(p * (1 - p) / count)
    assert len({*map(bytes, networks.words(NOISE, 4)), *map(bytes, networks.words(NOISE + 1, 4))}) == 100


def test_checkpoints_are_shorter_trainings():
    networks = networks_of(4)
    whole = digits_trained(DIGITS, networks, Recipe(60, 32, "adam", (0, 1, 17, 60)), 0.01)
    for at, steps in ((0, 0), (1, 1), (2, 17)):
        short = digits_trained(DIGITS, networks, Recipe(steps, 32, "adam", (steps,)), 0.01)
        for got, expected in zip(whole, short, strict=True):
            np.testing.assert_array_equal(got[at], expected[0])
    np.testing.assert_array_equal(whole.packed[0], begun(DIGITS, 4).astype(np.float32))


NETWORKS = {
    "3 x 20": DIGITS,
    "odd widths": Layered((1, 8, 8), (*fully_connected(64, [13, 7, 5]).layers, Dense(10))),
    "normalised": Layered((1, 8, 8), (Dense(11), Affine(), Activation(), Dense(10))),
    "convolutions": Layered(
        (1, 8, 8),
        (Convolution(5, 3), Affine(), Activation(), MaxPool(), Convolution(3, 3, "circular"), Activation(), Dense(10)),
    ),
    "residual": Layered(
        (1, 8, 8),
        (
            Convolution(5, 3),
            Affine(),
            Activation(),
            Save(),
            Convolution(5, 3),
            Affine(),
            Add(),
            Activation(),
            MaxPool(),
            GlobalAveragePool(),
            Dense(10),
        ),
    ),
}


@pytest.mark.parametrize("width", [2, 8, 32])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("name", NETWORKS)
def test_neither_place_nor_company_changes_a_bit(name, optimiser, width):
    layered, data = NETWORKS[name], labelled.load("digits", examples=120)
    start, recipe = begun(layered, 2 * width), Recipe(18, 10, optimiser, (9, 18))
    rates, noises = np.linspace(0.001, 0.1, 2 * width), np.linspace(0, 1, 2 * width)
    networks = networks_of(2 * width)
    labels = noisy(data, networks, noises)

    def trained(index):
        some = Networks(networks.points.take(index), networks.keys[index], networks.draws[index])
        return train(layered, start[index], data, labels[index], some, recipe, rates[index], "cpu")

    usual, others = trained(np.arange(width)), np.random.default_rng(0).permutation(2 * width)[:width]
    moved = trained(others)
    for i in range(width):
        for at in np.flatnonzero(others == i):
            for a, b in zip(usual, moved, strict=True):
                np.testing.assert_array_equal(a[:, i], b[:, at])


@pytest.mark.parametrize("name", NETWORKS)
def test_one_that_diverges_disturbs_no_other(name):
    layered, networks = NETWORKS[name], networks_of(4)
    data = labelled.load("digits", examples=120)
    start, recipe = begun(layered, 4), Recipe(18, 10, "sgd", (9, 18))
    labels = np.tile(data.train_labels, (4, 1))
    with np.errstate(over="ignore"):
        lost = start.copy()
        lost[2] *= 1e30
        got, usual = (train(layered, s, data, labels, networks, recipe, np.full(4, 0.05), "cpu") for s in (lost, start))
    for a, b in zip(got, usual, strict=True):
        assert np.isnan(a[:, 2]).all()
        np.testing.assert_array_equal(a[:, [0, 1, 3]], b[:, [0, 1, 3]])


def test_orders_are_those_of_sorted_words():
    networks = networks_of(3)
    found = order(networks, 5, 40)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.argsort(networks.words(SHUFFLES + 5, 40), axis=1, kind="stable"))


def test_a_share_is_seen_after_every_step():
    shares, data = [], data_of()
    recipe = Recipe(5, 8, "sgd", (0, 5))
    train(made("dense"), begun(made("dense"), 1), data, data.train_labels[None], networks_of(1), recipe, np.ones(1),
          "cpu", shares.append)  # fmt: skip
    np.testing.assert_allclose(shares, [0.2, 0.4, 0.6, 0.8, 1])


def test_under_inference_mode():
    with torch.inference_mode():
        got = digits_trained(NETWORKS["convolutions"], networks_of(2), epochs(1, 32, "momentum", 480), 0.01)
    expected = digits_trained(NETWORKS["convolutions"], networks_of(2), epochs(1, 32, "momentum", 480), 0.01)
    np.testing.assert_array_equal(got.packed, expected.packed)


@pytest.mark.parametrize(("recipe", "said"), [
    (lambda: Recipe(2, 0, "sgd", (1,)), "batch_size must be at least 1, got 0"),
    (lambda: Recipe(2, 8, "adma", (1,)), "unknown optimiser 'adma'; did you mean 'adam'"),
    (lambda: Recipe(2, 8, "sgd", (1, 3)), "checkpoints must rise within 0 to steps = 2, got (1, 3)"),
    (lambda: Recipe(2, 8, "sgd", (2,), -1), "judged must be at least 1, or 0 for all examples, got -1"),
    (lambda: Recipe(2, 8, "sgd", (2, 1)), "checkpoints must rise"),
    (lambda: Recipe(2, 8, "sgd", ()), "checkpoints must rise"),
])  # fmt: skip
def test_recipes_that_are_refused(recipe, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        recipe()
    assert said in str(error.value)


@pytest.mark.parametrize(("layered", "batch", "said"), [
    (made("dense"), 32, "batch_size must be at most 31 examples, got 32"),
    (fully_connected(60, [3]), 8, "the last layer must be Dense(3)"),
    (Layered((60, 1, 1), (Dense(3),)), 8, "the networks take images (60, 1, 1), got (2, 5, 6)"),
])  # fmt: skip
def test_networks_that_do_not_fit(layered, batch, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        train(
            layered,
            begun(layered, 1),
            data_of(),
            data_of().train_labels[None],
            networks_of(1),
            Recipe(1, batch, "sgd", (1,)),
            np.ones(1),
            "cpu",
        )
    assert said in str(error.value)


def test_cost_and_lane():
    recipe = Recipe(440, 32, "adam", (220, 440))
    small, wide = (Layered((1, 8, 8), (*fully_connected(64, [w] * 3).layers, Dense(10))) for w in (20, 2000))
    assert lane(small, recipe, 1437) == 64
    assert lane(wide, recipe, 1437) == 1
    assert launch_bytes(wide, recipe, 1437) > 5 * 4 * wide.size
    assert 0 < 3 * seconds(small, recipe, 1437) < seconds(wide, recipe, 1437)
    assert seconds(small, Recipe(880, 32, "adam", (880,)), 1437) > seconds(small, recipe, 1437)
    assert seconds(small, Recipe(440, 32, "adam", (220, 440), judged=100), 1437) < seconds(small, recipe, 1437)


def test_more_epochs_than_orders_are_refused():
    check_epochs(2**18 * 2, 10, 4)
    with pytest.raises(ValueError, match="steps must be at most 524288, 262144 epochs of 10 examples, got 524289"):
        check_epochs(2**18 * 2 + 1, 10, 4)
