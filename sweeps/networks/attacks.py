"""Adversarial examples: images near given ones that networks take for another class.

Projected gradient ascent on the cross-entropy with the true class within the ball of radius r in the largest entry
(Madry, Makelov, Schmidt, Tsipras, Vladu, arXiv 1706.06083), from the image itself, in steps of 2.5 r / steps:

    x <- clip(x + 2.5 r / steps sign(gradient), to the ball and to the range of the data).

One step of it is the fast gradient sign method (Goodfellow, Shlens, Szegedy, arXiv 1412.6572). Float32 networks that
are certain of an image have no gradient there, and it stays where it is.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sweeps.networks.layered import Layered
from sweeps.networks.stacked import Stacked
from sweeps.networks.stacked_layers import whole_lines
from sweeps.networks.training import of_loss


def fgsm(
    layered: Layered,
    packed: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    radius: np.ndarray | float,
    bounds: tuple[float, float],
    device: str,
) -> np.ndarray:
    """`pgd` in one step."""
    return pgd(layered, packed, images, labels, radius, 1, bounds, device)


def pgd(
    layered: Layered,
    packed: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    radius: np.ndarray | float,
    steps: int,
    bounds: tuple[float, float],
    device: str,
) -> np.ndarray:
    """Adversarial examples, float32 as `images` (networks, k, channels, rows, cols), of `labels` (networks, k).

    `packed` are networks at inference (networks, size) that end in a dense layer, `radius` one for all or one a network
    (networks,), and `bounds` the least and the largest entry that an image may have. A network's examples do not depend
    on the other networks of a launch; one that is not finite leaves its images as they are.
    """
    lane, k = labels.shape
    entries = math.prod(layered.image)
    stack = Stacked(layered, lane, k, device)
    stack.load(packed)
    start = torch.tensor(images, dtype=torch.float32, device=device).reshape(lane, k, entries)
    reach = torch.tensor(np.broadcast_to(radius, lane), dtype=torch.float32, device=device)[:, None, None]
    least, most = (start - reach).clamp_min_(bounds[0]), (start + reach).clamp_max_(bounds[1])
    rows = start.new_zeros(lane, stack.k, whole_lines(entries + 1))
    rows[..., entries] = 1
    found = rows[:, :k, :entries].copy_(start)
    classes = torch.zeros(lane, stack.k, dtype=torch.int64, device=device)
    classes[:, :k] = torch.tensor(labels, device=device)
    for _ in range(steps):
        uphill = stack.backward(of_loss(stack.outputs(rows), classes), inputs=True)[:, :k].sign()
        found.copy_(torch.clamp(found + uphill * (2.5 * reach / steps), least, most))
    return found.reshape(images.shape).cpu().numpy()
