"""The rows of layers with a bias: random ones, vertices of regular polytopes, and a user's.

- gaussian: independent N(0, 1/n) entries, so that lengths are about 1.
- sphere, orthogonal: of length 1, see sweeps.networks.row_laws.
- simplex (n + 1), cross (the 2 n of the basis and its opposite), cube (2^n), icosahedron (12) and dodecahedron (20) in
  R^3, 24-cell (24) and 600-cell (120) in R^4: vertices of length 1, the same for every network. Coxeter, "Regular
  Polytopes", sections 3.7 and 8.7.
- file: m of a user's rows, see sweeps.networks.row_laws.

Trained rows are in sweeps.frames.trained_rows.
"""

from __future__ import annotations

import math
from itertools import permutations, product
from typing import Literal, get_args

import numpy as np

from sweeps.errors import unknown
from sweeps.networks import row_laws
from sweeps.statistic import Networks

Polytope = Literal["simplex", "cross", "cube", "icosahedron", "dodecahedron", "24-cell", "600-cell"]
Law = Literal["gaussian", "sphere", "orthogonal", Polytope, "trained", "file"]

POLYTOPES: tuple[str, ...] = get_args(Polytope)
GENERAL = row_laws.GENERAL
"""Laws whose rows are in general position almost surely."""
VERTICES = {"icosahedron": (3, 12), "dodecahedron": (3, 20), "24-cell": (4, 24), "600-cell": (4, 120)}
"""The dimension of those that exist in one, and how many vertices they have."""
LARGEST_CUBE = 12
GOLDEN = (1 + math.sqrt(5)) / 2


def draw(networks: Networks, law: Law, m: int, n: int, matrix: np.ndarray | None = None) -> np.ndarray:
    """The layers, float64 (networks, m, n); `matrix` (rows, n) are the rows of a file.

    Raises:
        UnknownNameError, ValueError: rows of that law are not drawn here; m or n do not fit it; in one line.
    """
    if law in POLYTOPES:
        vertices = polytope(law, n)
        if m != len(vertices):
            raise ValueError(f"a {law} in {n} dimensions has {len(vertices)} vertices, and m is {m}")
        return np.tile(vertices, (len(networks), 1, 1))
    match law:
        case "gaussian":
            return row_laws.gaussian(networks, m, n) / math.sqrt(n)
        case "sphere":
            return row_laws.sphere(networks, m, n)
        case "orthogonal":
            return row_laws.orthogonal(networks, m, n)
        case "file":
            held = (0, n) if matrix is None else matrix.shape
            if matrix is None or held[0] < m or held[1] != n:
                raise ValueError(f"m = {m} rows of n = {n} entries are asked for, and the file has {held}")
            return row_laws.subset(networks, m, matrix)
    raise unknown("law of rows", law, ("gaussian", "sphere", "orthogonal", *POLYTOPES, "file"))


def polytope_rows(law: str, n: int) -> int:
    """How many vertices a polytope has.

    Raises:
        UnknownNameError, ValueError: no such polytope, or not in n dimensions; in one line.
    """
    if law not in POLYTOPES:
        raise unknown("polytope", law, POLYTOPES)
    if n < 1:
        raise ValueError(f"a {law} needs at least 1 dimension, got {n}")
    if law in VERTICES:
        dimension, rows = VERTICES[law]
        if n != dimension:
            raise ValueError(f"the {law} is in {dimension} dimensions, and n is {n}")
        return rows
    if law == "cube" and n > LARGEST_CUBE:
        raise ValueError(f"a cube has 2^n vertices, and n must be at most {LARGEST_CUBE}, got {n}")
    return {"simplex": n + 1, "cross": 2 * n, "cube": 2**n}[law]


def polytope(law: str, n: int) -> np.ndarray:
    """The vertices, of length 1 and mean 0, float64 (m, n); raises as `polytope_rows` does."""
    polytope_rows(law, n)
    match law:
        case "simplex":
            return _simplex(n)
        case "cross":
            return np.vstack([np.eye(n), -np.eye(n)])
        case "cube":
            found = _signs(*[1.0] * n)
        case "icosahedron":
            found = _cyclic(_signs(0, 1, GOLDEN))
        case "dodecahedron":
            found = np.vstack([_signs(1, 1, 1), _cyclic(_signs(0, 1 / GOLDEN, GOLDEN))])
        case "24-cell":
            found = np.vstack([2 * np.eye(4), -2 * np.eye(4), _signs(1, 1, 1, 1)])
        case _:
            even = [p for p in permutations(range(4)) if np.linalg.det(np.eye(4)[list(p)]) > 0]
            found = np.vstack([polytope("24-cell", 4) * 2, *(_signs(GOLDEN, 1, 1 / GOLDEN, 0)[:, p] for p in even)])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _simplex(n: int) -> np.ndarray:
    """Vertex i is at 0 in the coordinates below i - 1, and opposite to all that come later in coordinate i - 1."""
    found = np.zeros((n + 1, n))
    for k in range(n):
        found[k, k] = math.sqrt((n + 1) * (n - k) / (n * (n - k + 1)))
        found[k + 1 :, k] = -found[k, k] / (n - k)
    return found


def _signs(*values: float) -> np.ndarray:
    """All different points with these coordinates and any signs."""
    return np.array(list(product(*({value: 0, -value: 0} for value in map(float, values)))))


def _cyclic(points: np.ndarray) -> np.ndarray:
    return np.vstack([np.roll(points, k, axis=1) for k in range(points.shape[1])])
