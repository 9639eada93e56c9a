"""The three small networks against the same ones written as a user of torch would, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sweeps.errors import UnknownNameError
from sweeps.inputs.labelled import Labelled
from sweeps.networks.lessons import order
from sweeps.networks.small_cnns import small_cnn
from sweeps.networks.stacked import Stacked, with_ones
from sweeps.networks.training import Recipe, train
from tests.sweeps.networks_of import gaussian_images, networks_of
from tests.sweeps.test_training import begun

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, SIDE, CLASSES = 3, 5, 4


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden = nn.Conv2d(2, WIDTH, SIDE, padding="same"), nn.Linear(WIDTH * 3 * 4, 4 * WIDTH)
        self.out = nn.Linear(4 * WIDTH, CLASSES)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return self.out(functional.relu(self.hidden(x.flatten(1))))


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = [(2, WIDTH, SIDE), (WIDTH, WIDTH, 3), (WIDTH, 2 * WIDTH, 3), (2 * WIDTH, 2 * WIDTH, 3)]
        made = [[nn.Conv2d(*size, padding="same"), nn.BatchNorm2d(size[1])] for size in sizes]
        self.made = nn.ModuleList([module for pair in made for module in pair])
        self.out = nn.Linear(2 * WIDTH, CLASSES)

    def forward(self, x):
        for i in range(0, 8, 2):
            x = functional.relu(self.made[i + 1](self.made[i](x)))
            if i in (2, 6):
                x = functional.max_pool2d(x, 2)
        return self.out(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH)
        self.second, self.other_norm = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH)

    def forward(self, x):
        inside = functional.relu(self.norm(self.first(x)))
        return functional.relu(x + self.other_norm(self.second(inside)))


class Resnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, WIDTH, SIDE, padding="same"), nn.BatchNorm2d(WIDTH)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.out = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        x = functional.max_pool2d(self.blocks[0](functional.relu(self.norm(self.conv(x)))), 2)
        return self.out(self.blocks[1](x).mean((2, 3)))


MODULES: dict[str, type[nn.Module]] = {"cnn": Cnn, "vgg": Vgg, "resnet": Resnet}


def with_weights(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]


def module(name: str, packed: np.ndarray) -> nn.Module:
    net, layered = MODULES[name]().double(), made(name)
    blocks = [[torch.tensor(block.T.copy()) for block in layer] for layer in layered.unpack(packed) if layer]
    for part, (weight, bias) in zip(with_weights(net), blocks, strict=True):
        part.weight.data, part.bias.data = weight.reshape(part.weight.shape), bias
    return net


def packed_of(net: nn.Module) -> np.ndarray:
    parts = [
        (part.weight.flatten(1).T if part.weight.dim() > 1 else part.weight, part.bias) for part in with_weights(net)
    ]
    return np.concatenate([block.detach().numpy().ravel() for pair in parts for block in pair])


def made(name: str):
    return small_cnn(name, (2, 6, 8), WIDTH, SIDE, CLASSES)


def data_of(n: int = 40) -> Labelled:
    images, labels = gaussian_images((n, 2, 6, 8)), np.random.default_rng(1).integers(0, CLASSES, n)
    return Labelled(images[:30], labels[:30], images[30:], labels[30:], CLASSES)


def with_statistics(net: nn.Module, images: torch.Tensor) -> nn.Module:
    """As at inference, with the means and variances of the whole training set."""

    def take(part, given, _) -> None:
        part.running_var, part.running_mean = torch.var_mean(given[0], (0, 2, 3), correction=0)

    hooks = [part.register_forward_hook(take) for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        net.train()(images)
    for hook in hooks:
        hook.remove()
    return net.eval()


def plainly_trained(net: nn.Module, data: Labelled, batches: list[np.ndarray], rate: float) -> nn.Module:
    optimiser, images, labels = torch.optim.SGD(net.parameters(), lr=rate), *map(torch.tensor, data[:2])
    for chosen in batches:
        optimiser.zero_grad()
        functional.cross_entropy(net(images[chosen].double()), labels[chosen]).backward()
        optimiser.step()
    return with_statistics(net, images.double())


def judged(layered, packed, images) -> np.ndarray:
    """Outputs (networks, images, classes)."""
    stack = Stacked(layered, len(packed), len(images), "cpu")
    stack.load(packed)
    rows = np.zeros((len(packed), stack.k, with_ones(images).shape[1]), np.float32)
    rows[:, : len(images)] = with_ones(images)
    return stack.outputs(torch.from_numpy(rows)).numpy().swapaxes(1, 2)[:, : len(images)]


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("name", MODULES)
@torch.inference_mode(False)
def test_steps_and_inference_are_those_of_torch(name, steps):
    layered, data, networks, n = made(name), data_of(), networks_of(2), 2
    start, rates = begun(layered, n), np.array([0.05, 0.02])
    labels = np.stack([data.train_labels, data.train_labels[::-1]])
    got = train(layered, start, data, labels, networks, Recipe(steps, 10, "sgd", (steps,)), rates, "cpu")
    orders = np.concatenate([order(networks, epoch, 30) for epoch in range(2)], axis=1)
    outputs = judged(layered, got.packed[0], data.validation_images)
    for i in range(n):
        batches = np.split(orders[i], 6)[:steps]
        net = plainly_trained(module(name, start[i]), data._replace(train_labels=labels[i].copy()), batches, rates[i])
        assert len(with_weights(net)) == sum(map(bool, layered.blocks))
        with torch.no_grad():
            expected = net(torch.tensor(data.validation_images).double()).numpy()
            loss = functional.cross_entropy(
                net(torch.tensor(data.train_images).double()), torch.tensor(labels[i].copy())
            )
        np.testing.assert_allclose(outputs[i], expected, atol=2e-4)
        np.testing.assert_allclose(got.loss[0, i], loss.item(), rtol=1e-4)
        assert got.accuracy[0, i] == (expected.argmax(1) == data.validation_labels).mean()
        if name == "cnn":
            np.testing.assert_allclose(got.packed[0, i], packed_of(net), atol=1e-5)


def test_layers_and_parameters():
    """Counted by hand, digits of one channel, K = 8, side 3."""
    sizes = {name: small_cnn(name, (1, 8, 8), 8, 3, 10).size for name in MODULES}
    assert sizes["cnn"] == (9 + 1) * 8 + (8 * 16 + 1) * 32 + (32 + 1) * 10
    assert sizes["vgg"] == 10 * 8 + 73 * 8 + 73 * 16 + 145 * 16 + 2 * (8 + 8 + 16 + 16) + 17 * 10
    assert sizes["resnet"] == 10 * 8 + 4 * 73 * 8 + 5 * 16 + 9 * 10


@pytest.mark.parametrize(("name", "image", "side", "said"), [
    ("vgg", (1, 8, 8), 4, "the side of filters must be odd, got 4"),
    ("cnn", (1, 8, 5), 7, "the side of filters must be at most that of the images, 5 pixels, got 7"),
    ("vgg", (3, 3, 9), 3, "a vgg halves images to pool them and needs 4 x 4 pixels, got (3, 3, 9)"),
    ("resnet", (3, 1, 9), 1, "a resnet halves images to pool them and needs 2 x 2 pixels, got (3, 1, 9)"),
])  # fmt: skip
def test_images_that_are_too_small(name, image, side, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        small_cnn(name, image, 4, side, 10)
    assert str(error.value) == said


def test_an_unknown_architecture():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet'"):
        small_cnn("resnets", (1, 8, 8), 4, 3, 10)  # pyright: ignore[reportArgumentType]
