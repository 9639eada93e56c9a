"""Finite data: the polytope's bias for them, and whether a layer tells them apart.

An input needs the rows of one facet in whose cone it lies, and no others. Two inputs with one output have one product
with any vector of output space, so they are neighbours in the order of such products, but for coincidences.
"""

from __future__ import annotations

import numpy as np

from sweeps.compiled import compiled
from sweeps.frames.pairs import APART, EQUAL
from sweeps.witness import Witness

INSIDE = -1e-9  # of the largest coefficient: an input on the border of a cone is in it


def polytope_bias_on_data(rows: np.ndarray, facets: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Bias (m,) with which the rows of a facet are active at every one of the `data` (inputs, n).

    `rows` (m, n) have length 1; `facets` (facets, n) index them and their cones cover the data. Rows that no input
    needs have +inf.
    """
    inverses = np.linalg.inv(rows[facets])  # x = sum_j c_j phi_j, so c = x inverse
    return _on_data(rows, facets, inverses, np.ascontiguousarray(data, dtype=np.float64))


def pair(W: np.ndarray, alpha: np.ndarray, data: np.ndarray) -> Witness | None:
    """Two of the `data` (inputs, n), not the same, with one output of ReLU(W x - alpha) to rounding; None if none is.

    Inputs count as the same, and outputs as equal, by the tolerances of sweeps.frames.pairs.
    """
    outputs = np.maximum(data @ W.T - alpha, 0)
    order = np.argsort(outputs @ np.sqrt(1.0 + np.arange(len(W))), kind="stable")
    largest = np.linalg.norm(data, axis=1).max()
    equal = EQUAL * (np.linalg.norm(W, axis=1) * largest + np.abs(alpha))
    near = (np.abs(np.diff(outputs[order], axis=0)) <= equal).all(axis=1)
    for group in np.split(order, np.flatnonzero(~near) + 1):  # of inputs with one output
        far = np.linalg.norm(data[group] - data[group[0]], axis=1)
        if far.max() > APART * largest:
            one, other = data[group[0]], data[group[far.argmax()]]
            gap = float(np.abs(outputs[group[0]] - outputs[group[far.argmax()]]).max())
            return Witness(one, other, gap, f"two of {len(data)} given inputs, of {len(group)} with this output")
    return None


@compiled
def _on_data(rows, facets, inverses, data):
    n = rows.shape[1]
    bias = np.full(len(rows), np.inf)
    coefficients = np.empty(n)
    for x in data:
        for f in range(len(facets)):
            if _within(x, inverses[f], coefficients):
                for i in facets[f]:
                    height = 0.0
                    for c in range(n):
                        height += x[c] * rows[i, c]
                    bias[i] = min(bias[i], height)
                break
    return bias


@compiled
def _within(x, inverse, coefficients):
    """Whether x lies in the cone."""
    least, most = 0.0, 0.0
    for j in range(len(x)):
        total = 0.0
        for c in range(len(x)):
            total += x[c] * inverse[c, j]
        least, most = min(least, total), max(most, abs(total))
    return least >= INSIDE * most
