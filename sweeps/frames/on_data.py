"""The polytope bias of a finite data set: an input needs the rows of one facet whose cone it lies in, and no others."""

from __future__ import annotations

import numpy as np

from sweeps.compiled import compiled

INSIDE = -1e-9  # of the largest coefficient: an input on the border of a cone is in it


def polytope_bias_on_data(rows: np.ndarray, facets: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Bias (m,) with which the rows of a facet are active at every one of the `data` (inputs, n).

    `rows` (m, n) have length 1; `facets` (facets, n) index them and their cones cover the data. Rows that no input
    needs have +inf.
    """
    inverses = np.linalg.inv(rows[facets])  # x = sum_j c_j phi_j, so c = x inverse
    return _on_data(rows, facets, inverses, np.ascontiguousarray(data, dtype=np.float64))


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
