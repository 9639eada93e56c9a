"""Images made to show how little or how much one convolutional ReLU layer contracts an angle.

With x_p the r x r patch of x at pixel p, all patches alike, rho the cosine of two images, and kappa1 the arc-cosine
kernel, infinitely many filters take it to

    rho' = sum_p |x_p||y_p| kappa1(cos(x_p, y_p)) / Z,    max(rho, 0) <= rho' <= (1 + rho)/2.

Nachum, Hazla, Gastpar, Khina, "A Johnson-Lindenstrauss Framework for Randomly Initialized CNNs", ICLR 2022
(arXiv 2111.02155): both bounds are attained.

- *Parallel patches* attain the lower one. Every pair of patches is of equal patches, or one of the two is zero: a band
  that all members share, with energy rho, and a band of each member's own, with energy 1 - rho, black elsewhere. Black
  gaps keep the bands apart, so this holds exactly where filters do not see across one: 2 (r // 2) <= gap, and, with
  more layers, the sum of that over layers <= gap.
- *Blobs* attain the upper one as they grow: images of +1 and -1 in squares, whose patches are x_p = +-y_p but where the
  filter sees two squares.
- *Rectangles*, non-negative on black as in a drawing, have energy in different places and lie between, near the lower.
"""

from __future__ import annotations

import math

import numpy as np

from sweeps.compiled import compiled
from sweeps.inputs import choice

CHANNELS = 3
RECTANGLES = 8


def parallel_patches(count: int, side: int, correlation: float, index: int, gap: int) -> np.ndarray:
    """The `index`-th set, float32 (count, 3, side, side), non-negative, of norm sqrt(3 side^2) and cosine `correlation`
    between every two; 0 <= correlation < 1 and (count + 1)(gap + 1) <= side.

    Bands are columns or rows, of one colour each; which, where the first begins and the colours vary with `index`.
    """
    bands = count + 1
    values = {"count": count, "side": side, "gap": gap}
    down, start, *colours = choice.words("parallel-patches", values, index, 0, 2 + bands * CHANNELS)
    shared = np.zeros((CHANNELS, side, side))
    own = np.zeros((count, CHANNELS, side, side))
    ends = np.arange(bands + 1) * (side - bands * gap) // bands  # of bands pushed together
    colour = 0.5 + np.reshape(colours, (bands, CHANNELS)) / 2**33
    for band in range(bands):
        columns = (choice.below(start, side) + band * gap + np.arange(ends[band], ends[band + 1])) % side
        target = shared if band == count else own[band]
        target[:, :, columns] = colour[band, :, None, None]
        target *= math.sqrt(target.size / np.square(target).sum())
    images = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
    return np.ascontiguousarray(images.swapaxes(2, 3) if choice.below(down, 2) else images, dtype=np.float32)


def blobs(count: int, side: int, correlation: float, index: int, cell: int) -> np.ndarray:
    """The `index`-th set, float32 (count, 3, side, side) of +1 and -1, `cell` dividing `side`.

    Members differ by signs, one a square of `cell` pixels a side and the same in all channels. The cosine of two is as
    near `correlation` as whole squares allow; of more, to within a few squares.
    """
    across = side // cell
    squares = across**2
    values = {"side": side, "cell": cell}
    first = np.array(choice.words("blobs", values, index, 0, CHANNELS * squares), np.int64) >> 31
    order = np.argsort(choice.words("blobs", values, index, 1, squares), kind="stable")
    ties = np.array(choice.words("blobs", values, index, 2, count * squares), np.int64) >> 31
    signs = np.empty((count, squares))
    _balance(correlation, order, (2.0 * ties - 1).reshape(count, squares), signs)
    coarse = (2.0 * first - 1).reshape(1, CHANNELS, across, across) * signs.reshape(count, 1, across, across)
    return coarse.repeat(cell, axis=2).repeat(cell, axis=3).astype(np.float32)


@compiled
def _balance(rho, order, ties, signs):
    """Fill `signs` (count, squares) square by square in `order`: each sign that which keeps the sums of products with
    the members before nearest rho times the number of squares; `ties` (count, squares) of +1 and -1 decide ties."""
    count = len(signs)
    ahead = np.zeros((count, count))  # the sums, less what they should be
    for s in order:
        for i in range(count):
            pull = 0.0
            for j in range(i):
                pull += signs[j, s] * (ahead[i, j] - rho)
            sign = 1.0 if pull < 0 else -1.0
            if i == 0:
                sign = 1.0
            elif pull == 0:
                sign = ties[i, s]
            signs[i, s] = sign
            for j in range(i):
                ahead[i, j] += signs[i, s] * signs[j, s] - rho


def rectangles(count: int, side: int, index: int) -> np.ndarray:
    """The `index`-th set, float32 (count, 3, side, side) in [0, 1]: eight rectangles an image, each of one colour,
    of any two corners, the later ones over the earlier."""
    words = choice.words("rectangles", {"side": side}, index, 0, count * RECTANGLES * (4 + CHANNELS))
    images = np.zeros((count, CHANNELS, side, side), np.float32)
    for i, drawn in enumerate(np.reshape(words, (count * RECTANGLES, 4 + CHANNELS)).tolist()):
        corners = [choice.below(word, side) for word in drawn[:4]]
        (top, bottom), (left, right) = sorted(corners[:2]), sorted(corners[2:])
        colour = (np.array(drawn[4:]) + 0.5) / 2**32
        images[i // RECTANGLES, :, top : bottom + 1, left : right + 1] = colour[:, None, None]
    return images
