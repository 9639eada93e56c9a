"""Energy profiles of filter banks.

The profile of K filters w_k in an orthonormal basis u_1 ... u_d is e_i = sqrt(1/K sum_k (w_k . u_i)^2). Chowers, Weiss,
"What do CNNs Learn in the First Layer and Why? A Linear Systems Perspective", ICML 2023 (arXiv 2206.02454).
"""

from __future__ import annotations

import numpy as np

from sweeps.compiled import compiled


def squared_energies(filters: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """e_i^2, float64 (..., n), of banks (..., K, d) along the columns u_i of (d, n)."""
    flat = np.ascontiguousarray(filters.reshape(-1, *filters.shape[-2:]), dtype=np.float64)
    found = _squared(flat, np.ascontiguousarray(basis.T, dtype=np.float64))
    return found.reshape(*filters.shape[:-2], basis.shape[1])


@compiled
def _squared(filters, vectors):
    """Bank by bank and in one order: a product of matrices could round a bank by its place."""
    banks, count, d = filters.shape
    found = np.zeros((banks, len(vectors)))
    for bank in range(banks):
        for k in range(count):
            for i in range(len(vectors)):
                along = 0.0
                for j in range(d):
                    along += filters[bank, k, j] * vectors[i, j]
                found[bank, i] += along * along
        for i in range(len(vectors)):
            found[bank, i] /= count
    return found
