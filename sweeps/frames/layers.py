"""A layer as a matrix and biases: x -> ReLU(W x - alpha).

Torch adds its bias, so alpha is its negative. Of a convolution W has a row for every channel and pixel of its output,
and a column for every channel, row and column of its image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.devices import loaded_torch
from sweeps.errors import in_one_line
from sweeps.inputs import files

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Conv2d

MOST = 2**26
"""Entries of the images that a convolution is applied to, one for each pixel."""
KINDS = "an array (m, n) of real numbers, the path of a .npy file of one, a torch.nn.Linear or a torch.nn.Conv2d"


def matrix_of(layer: Any, image: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """W, float64 (m, n), and alpha, float64 (m,), of a layer; `image` is (rows, cols) of what a convolution sees.

    `layer` is an array or the path of a .npy file of one, without biases, a torch.nn.Linear or a torch.nn.Conv2d of any
    stride, padding, dilation and groups.

    Raises:
        ValueError: the layer is none of these, has numbers that are not finite or rows of zeros, or the image is
            missing, not wanted, or too small; in one line.
    """
    torch = loaded_torch()
    if torch is not None and isinstance(layer, torch.nn.Conv2d):
        W, alpha = _of_convolution(layer, image)
    elif image is not None:
        raise ValueError(f"image is for a convolution, and the layer is {_named(layer)}; leave it out")
    elif torch is not None and isinstance(layer, torch.nn.Linear):
        W, alpha = _numbers(layer.weight), _alpha(layer)
    else:
        W, alpha = _read(Path(layer)) if isinstance(layer, str | Path) else _array(layer), None
    return _checked(W, np.zeros(len(W)) if alpha is None else alpha)


def _read(path: Path) -> np.ndarray:
    array = files.mapped(path)
    files.check_finite(path, array, np.float64)
    return _array(array)


def _array(layer: Any) -> np.ndarray:
    array = numbers(layer, f"the layer must be {KINDS}")
    if array.ndim != 2 or not array.size:
        raise ValueError(f"the layer must be {KINDS}, got shape {array.shape}")
    return array


def numbers(values: Any, wanted: str) -> np.ndarray:
    """Real numbers as float64; from an array, a torch tensor, a number or nested lists of them.

    Raises:
        ValueError: these are no real numbers; it begins with what is `wanted`.
    """
    torch = loaded_torch()
    if torch is not None and isinstance(values, torch.Tensor):
        return _numbers(values) if not values.is_complex() else numbers(values.detach().cpu().numpy(), wanted)
    if not isinstance(values, np.ndarray | np.generic | Sequence | Real):
        raise ValueError(f"{wanted}, got {_named(values)}")
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{wanted}; {in_one_line(error)}") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{wanted}, got {array.dtype} {array.shape}")
    return np.array(array, np.float64, order="C")


def _checked(W: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not (np.isfinite(W).all() and np.isfinite(alpha).all()):
        raise ValueError("the layer has numbers that are not finite")
    if len(zero := np.flatnonzero(~W.any(axis=1))):
        others = f" and {len(zero) - 1} others" if len(zero) > 1 else ""
        raise ValueError(
            f"row {zero[0]}{others} of the layer's {len(W)} are zero: the neuron sees nothing, of a convolution only "
            f"padding; leave it out, or pad less"
        )
    return W, alpha


def _of_convolution(layer: Conv2d, image: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The columns are what it makes of images of one pixel each."""
    import torch

    if image is None or len(image) != 2 or not all(isinstance(side, int) and side > 0 for side in image):
        raise ValueError(f"a convolution needs image = (rows, cols), what it is applied to, got {image}")
    n = layer.in_channels * image[0] * image[1]
    if n * n > MOST:
        raise ValueError(
            f"the matrix of a convolution on {layer.in_channels} x {image[0]} x {image[1]} has {n} columns, more than "
            f"{math.isqrt(MOST)}; a smaller image has the same rows"
        )
    pixels = torch.eye(n, dtype=torch.float64).view(n, layer.in_channels, *image)
    try:
        made = _convolved(layer, pixels)
    except RuntimeError as error:
        raise ValueError(
            f"the convolution does not fit images of {image[0]} x {image[1]}: {in_one_line(error)}"
        ) from None
    alpha = _alpha(layer)
    if alpha is not None:
        alpha = np.repeat(alpha, made[0, 0].numel())
    return np.ascontiguousarray(made.flatten(1).numpy().T), alpha


def _convolved(layer: Conv2d, images: Tensor) -> Tensor:
    """Of images float64 (n, channels, rows, cols), without the bias."""
    import torch
    from torch.nn import functional

    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(images, _around(layer), mode=mode)
    weight = torch.from_numpy(_numbers(layer.weight))
    return functional.conv2d(padded, weight, None, layer.stride, 0, layer.dilation, layer.groups)


def _around(layer: Conv2d) -> list[int]:
    """Pixels left, right, above and below; of "same" padding the odd one is on the right and below."""
    if layer.padding == "same":
        added = [d * (side - 1) for d, side in zip(layer.dilation, layer.kernel_size, strict=True)]
        both = [(total // 2, total - total // 2) for total in added]
    else:
        both = [(0, 0)] * 2 if isinstance(layer.padding, str) else [(side, side) for side in layer.padding]
    return [*both[1], *both[0]]


def _alpha(layer: Any) -> np.ndarray | None:
    return None if layer.bias is None else -_numbers(layer.bias)


def _numbers(tensor: Tensor) -> np.ndarray:
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        raise ValueError("the layer has no weights yet; apply it to an input first")
    return tensor.detach().cpu().double().numpy()


def _named(layer: Any) -> str:
    kind = type(layer)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
