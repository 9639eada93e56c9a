"""Layers as matrices, against what the layers make of an input, and against convolutions written out."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from sweeps.frames.layers import matrix_of

IMAGE = (6, 5)
CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "one pixel": {"kernel_size": 1},
    "stride": {"kernel_size": 3, "stride": (2, 1)},
    "padding": {"kernel_size": (3, 2), "padding": (2, 1)},
    "same": {"kernel_size": (4, 3), "padding": "same"},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "circular": {"kernel_size": 3, "padding": (1, 2), "padding_mode": "circular"},
    "circular, same": {"kernel_size": (4, 2), "padding": "same", "dilation": (1, 2), "padding_mode": "circular"},
    "circular, valid": {"kernel_size": 2, "padding": "valid", "padding_mode": "circular"},
    "reflected": {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    "replicated": {"kernel_size": 3, "padding": 2, "stride": 2, "padding_mode": "replicate"},
    "dilated": {"kernel_size": 2, "dilation": (3, 2), "padding": 1},
    "groups": {"kernel_size": 3, "groups": 2, "padding": 1},
    "no bias": {"kernel_size": 3, "bias": False},
}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def applied(layer: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return layer.double()(x[None]).flatten().numpy()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # of the layer's own
@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_the_matrix_of_a_convolution_does_what_it_does(settings):
    layer, x = nn.Conv2d(2, 4, **settings), torch.randn(2, *IMAGE, dtype=torch.float64)
    W, alpha = matrix_of(layer, IMAGE)
    assert W.dtype == alpha.dtype == np.float64
    assert np.allclose(W @ x.flatten().numpy() - alpha, applied(layer, x), rtol=0, atol=1e-13)


def test_rows_and_columns_are_in_the_order_channel_row_column():
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    W, alpha = matrix_of(layer, (4, 5))
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    expected = np.zeros((3, 2, 3, 2, 4, 5))
    for f, r, c, channel, i, j in np.ndindex(3, 2, 3, 2, 3, 3):
        row, column = 2 * r + i - 1, 2 * c + j - 1
        if 0 <= row < 4 and 0 <= column < 5:
            expected[f, r, c, channel, row, column] = weight[f, channel, i, j]
    assert np.array_equal(W, expected.reshape(18, 40))
    assert np.array_equal(alpha, -np.repeat(bias, 6))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers(bias):
    layer, x = nn.Linear(5, 7, bias=bias), torch.randn(5, dtype=torch.float64)
    W, alpha = matrix_of(layer)
    assert np.array_equal(W, layer.weight.detach().double().numpy())
    assert np.allclose(W @ x.numpy() - alpha, applied(layer, x), rtol=0, atol=1e-14)
    assert alpha.any() == bias


def test_arrays_tensors_lists_and_files_are_the_same_layer(tmp_path):
    array = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "w.npy", array)
    for layer in (array, torch.tensor(array, requires_grad=True), array.tolist(), tmp_path / "w.npy", "w.npy"):
        W, alpha = matrix_of(layer)
        assert W.dtype == np.float64
        assert np.array_equal(W, array)
        assert np.array_equal(alpha, np.zeros(3))
    W, _ = matrix_of(array)
    W[:] = 0
    assert array.all()


def zeros_in(row: int) -> np.ndarray:
    W = np.ones((4, 2))
    W[row:] = 0
    return W


WRONG = {
    "an image": ((np.ones((2, 2)), (3, 3)), "image is for a convolution, and the layer is numpy.ndarray; leave it out"),
    "no image": ((nn.Conv2d(1, 1, 3),), "a convolution needs image = (rows, cols), what it is applied to, got None"),
    "no sides": ((nn.Conv2d(1, 1, 3), (3, 0)), "a convolution needs image = (rows, cols)"),
    "small image": ((nn.Conv2d(1, 1, 3), (2, 4)), "the convolution does not fit images of 2 x 4: RuntimeError: "),
    "another module": ((nn.Conv1d(1, 1, 3),), "Conv2d, got torch.nn.modules.conv.Conv1d"),
    "no layer": ((3,), "the layer must be an array (m, n) of real numbers, the path of a .npy file of one"),
    "a vector": ((np.ones(3),), "got shape (3,)"),
    "nothing": ((np.ones((0, 3)),), "got shape (0, 3)"),
    "words": ((np.array([["a"]]),), "got <U1 (1, 1)"),
    "ragged": (([[1], [2, 3]],), "torch.nn.Conv2d; ValueError: "),
    "not finite": ((np.full((2, 2), np.nan),), "the layer has numbers that are not finite"),
    "a zero row": (
        (zeros_in(3),),
        "row 3 of the layer's 4 are zero: the neuron sees nothing, of a convolution only padding; leave it out, or pad",
    ),
    "zero rows": ((zeros_in(1),), "row 1 and 2 others of the layer's 4 are zero"),
    "no file": (("missing.npy",), "missing.npy"),
    "lazy": ((nn.LazyLinear(3),), "the layer has no weights yet; apply it to an input first"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_layer_is_refused_in_one_line(given, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        matrix_of(*given)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_not_read(tmp_path):
    np.save(tmp_path / "w.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"w\.npy"):
        matrix_of(tmp_path / "w.npy")


def test_arrays_need_no_torch():
    code = "import sys, numpy; from sweeps.frames.layers import matrix_of; matrix_of(numpy.eye(2))"
    code += "; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.returncode) == ("False", 0), ran.stderr
