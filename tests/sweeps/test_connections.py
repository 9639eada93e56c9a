"""Residual connections and channel means against a layer-by-layer forward pass and autograd, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sweeps.networks.layered import (
    Activation,
    Add,
    Affine,
    Convolution,
    Dense,
    GlobalAveragePool,
    Layered,
    MaxPool,
    Save,
)
from sweeps.networks.stacked import Stacked, with_ones
from sweeps.networks.training import of_loss
from tests.sweeps.networks_of import gaussian_images
from tests.sweeps.test_training import begun

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE, CLASSES, K = (2, 4, 6), 3, 5
ACT, BN, MAX, MEAN, SAVE, ADD = Activation(), Affine(), MaxPool(), GlobalAveragePool(), Save(), Add()
LAYERS = {
    "round a convolution": (Convolution(4, 3), ACT, SAVE, Convolution(4, 3), ADD, ACT),
    "round two, normalised": (Convolution(3, 3), BN, ACT, SAVE, Convolution(5, 3), BN, ACT, Convolution(3, 1), BN, ADD),
    "round an activation": (Convolution(4, 3), SAVE, ACT, ADD, MAX, MEAN),
    "round nothing": (Convolution(4, 3), SAVE, ADD, ACT),
    "one in the other": (Dense(6), SAVE, ACT, SAVE, Dense(6), ADD, ACT, Dense(6), ADD, BN, ACT),
    "twice the same": (Dense(6), ACT, SAVE, SAVE, Dense(6), ACT, ADD, ADD),
    "one after the other": (Dense(6), ACT, SAVE, Dense(6), ADD, SAVE, Dense(6), ADD, ACT),
    "first": (SAVE, Convolution(2, 3, "circular"), ADD, ACT, MAX),
    "over means": (Convolution(4, 3), ACT, MEAN, SAVE, Dense(4), ACT, ADD),
}


def made(name: str) -> Layered:
    return Layered(IMAGE, (*LAYERS[name], Dense(CLASSES)), 0.1)


def convolved(x, weights, biases, layer: Convolution):
    edge = layer.side // 2
    padded = functional.pad(x, (edge,) * 4, mode="circular" if layer.padding == "circular" else "constant")
    return functional.conv2d(padded, weights.T.reshape(layer.filters, x.shape[1], layer.side, layer.side), biases)


def outputs(layered: Layered, parameters, x, training: bool):
    """Of images (n, channels, rows, cols), by the book."""
    kept = []
    for layer, blocks in zip(layered.layers, parameters, strict=True):
        match layer:
            case Dense():
                x = (x.flatten(1) @ blocks[0] + blocks[1])[:, :, None, None]
            case Convolution():
                x = convolved(x, *blocks, layer)
            case Affine():
                statistics = [torch.zeros_like(blocks[0]), torch.ones_like(blocks[0])]
                x = functional.batch_norm(x, *statistics, *blocks, training, eps=1e-5 if training else 0)
            case Activation():
                x = functional.leaky_relu(x, layered.slope)
            case MaxPool():
                x = functional.max_pool2d(x, 2)
            case GlobalAveragePool():
                x = x.mean((2, 3), keepdim=True)
            case Save():
                kept.append(x)
            case Add():
                x = x + kept.pop()
    return x.flatten(1)


def stacked(layered: Layered, packed, images, training: bool) -> tuple[Stacked, torch.Tensor]:
    stack = Stacked(layered, len(packed), K, "cpu", K if training else None)
    stack.load(packed)
    rows = np.zeros((len(packed), stack.k, with_ones(images[0]).shape[1]), np.float32)
    rows[:, :K] = [with_ones(of_one) for of_one in images]
    return stack, torch.from_numpy(rows)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode(False)
def test_outputs_and_gradients(name, training):
    layered, n = made(name), 3
    packed, images = begun(layered, n), gaussian_images((n, K, *IMAGE))
    labels = torch.from_numpy(np.arange(n * K).reshape(n, K) % CLASSES)
    stack, rows = stacked(layered, packed, images, training)
    got = stack.outputs(rows)
    gradient = torch.zeros_like(got)
    gradient[..., :K] = of_loss(got[..., :K].clone(), labels)
    to_images = stack.backward(gradient, inputs=True)[:, :K]
    for i in range(n):
        x = torch.tensor(images[i]).double().requires_grad_()
        blocks = [[torch.tensor(block).requires_grad_() for block in layer] for layer in layered.unpack(packed[i])]
        expected = outputs(layered, blocks, x, training)
        functional.cross_entropy(expected, labels[i], reduction="sum").backward()
        torch.testing.assert_close(got[i, :, :K].T.double(), expected.detach(), atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(to_images[i].double(), x.grad.flatten(1), atol=1e-4, rtol=1e-4)
        if training:
            wanted = np.concatenate([block.grad.numpy().ravel() for layer in blocks for block in layer])
            np.testing.assert_allclose(gradients(stack)[i], wanted, atol=2e-4, rtol=1e-4)


def gradients(stack: Stacked) -> np.ndarray:
    """(networks, size), as parameters are packed."""
    stack.flat.copy_(stack.gradient)
    return stack.packed()


@pytest.mark.parametrize(("layers", "said"), [
    ((Dense(3), ADD), "layer 1 is an Add, and no Save before it is left"),
    ((SAVE, ADD, ADD), "layer 2 is an Add, and no Save before it is left"),
    ((SAVE, ACT, SAVE, ADD), "layer 0 is a Save, and no Add after it is left"),
    ((SAVE, Convolution(3, 3), ADD), "layer 2 adds (2, 4, 6) of layer 0 to (3, 4, 6)"),
    ((SAVE, MAX, ADD), "layer 2 adds (2, 4, 6) of layer 0 to (2, 2, 3)"),
])  # fmt: skip
def test_connections_that_do_not_fit(layers, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Layered(IMAGE, layers)
    assert str(error.value) == said


def test_shapes():
    layered = made("over means")
    assert layered.shapes == (IMAGE, (4, 4, 6), (4, 4, 6), *((4, 1, 1),) * 5, (CLASSES, 1, 1))
    assert [bool(blocks) for blocks in layered.blocks] == [True, False, False, False, True, False, False, True]
