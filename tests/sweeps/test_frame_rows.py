"""Rows of layers with a bias: polytopes by what is regular about them, laws by their moments."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.errors import UnknownNameError
from sweeps.frames.rows import GENERAL, POLYTOPES, draw, polytope, polytope_rows
from sweeps.networks import row_laws
from tests.sweeps.networks_of import networks_of

PHI = (1 + np.sqrt(5)) / 2
# rows, neighbours of a vertex, the largest inner product of two vertices
KNOWN = {
    ("simplex", 1): (2, 1, -1),
    ("simplex", 3): (4, 3, -1 / 3),
    ("simplex", 7): (8, 7, -1 / 7),
    ("cross", 2): (4, 2, 0),
    ("cross", 5): (10, 8, 0),
    ("cube", 1): (2, 1, -1),
    ("cube", 3): (8, 3, 1 / 3),
    ("cube", 6): (64, 6, 2 / 3),
    ("icosahedron", 3): (12, 5, 1 / np.sqrt(5)),
    ("dodecahedron", 3): (20, 3, np.sqrt(5) / 3),
    ("24-cell", 4): (24, 8, 1 / 2),
    ("600-cell", 4): (120, 12, PHI / 2),
}


@pytest.mark.parametrize(("law", "n"), KNOWN)
def test_polytopes_are_regular(law, n):
    """Every vertex has as many neighbours at the same distance, and sees all others at the same distances."""
    rows, neighbours, nearest = KNOWN[law, n]
    vertices = polytope(law, n)
    assert vertices.shape == (rows, n) == (polytope_rows(law, n), n)
    gram = vertices @ vertices.T
    assert np.allclose(np.diag(gram), 1, atol=1e-15)
    seen = np.sort(gram, axis=1)
    assert np.allclose(seen, seen[0], atol=1e-14)
    assert np.allclose(seen[:, -1 - neighbours : -1], nearest, atol=1e-14)
    assert rows == neighbours + 1 or (seen[:, -2 - neighbours] < nearest - 0.1).all()
    assert np.abs(vertices.sum(0)).max() < 1e-13
    assert np.allclose(vertices.T @ vertices, rows / n * np.eye(n), atol=1e-12)  # a tight frame


def test_polytopes_have_one_table():
    assert {law for law, _ in KNOWN} == set(POLYTOPES)


@pytest.mark.parametrize(
    ("law", "n", "message"),
    [
        ("icosahedron", 4, "the icosahedron is in 3 dimensions, and n is 4"),
        ("600-cell", 3, "the 600-cell is in 4 dimensions, and n is 3"),
        ("cube", 13, "a cube has 2^n vertices, and n must be at most 12, got 13"),
        ("simplex", 0, "a simplex needs at least 1 dimension, got 0"),
    ],
)
def test_polytopes_that_are_not_there(law, n, message):
    for function in (polytope, polytope_rows):
        with pytest.raises(ValueError, match="^" + message.replace("^", r"\^") + "$"):
            function(law, n)
    with pytest.raises(UnknownNameError, match="did you mean 'cube'"):
        polytope("cubes", 3)


def test_gaussian_rows_have_mean_square_length_one():
    squares = np.sum(draw(networks_of(500), "gaussian", 20, 6) ** 2, axis=2)
    assert abs(squares.mean() - 1) < 4 * np.sqrt(2 / 6 / squares.size)


def test_laws_are_those_of_layers_without_a_bias():
    networks = networks_of(3)
    assert np.array_equal(draw(networks, "sphere", 5, 3), row_laws.sphere(networks, 5, 3))
    assert np.array_equal(draw(networks, "orthogonal", 5, 3), row_laws.orthogonal(networks, 5, 3))
    matrix = np.arange(40.0).reshape(20, 2)
    assert np.array_equal(draw(networks, "file", 7, 2, matrix), row_laws.subset(networks, 7, matrix))


@pytest.mark.parametrize("law", sorted(GENERAL))
def test_every_network_is_by_itself(law):
    assert np.array_equal(draw(networks_of(1, first=6), law, 7, 3)[0], draw(networks_of(9), law, 7, 3)[6])


def test_polytopes_are_the_same_for_every_network():
    assert np.array_equal(draw(networks_of(2), "cross", 6, 3), [polytope("cross", 3)] * 2)


@pytest.mark.parametrize(
    ("law", "matrix", "message"),
    [
        ("cross", None, "a cross in 3 dimensions has 6 vertices, and m is 7"),
        ("file", None, r"m = 7 rows of n = 3 entries are asked for, and the file has \(0, 3\)"),
        ("file", np.ones((9, 4)), r"has \(9, 4\)"),
        ("file", np.ones((6, 3)), r"has \(6, 3\)"),
        ("trained", None, "unknown law of rows 'trained'"),
    ],
)
def test_what_does_not_fit_is_refused(law, matrix, message):
    with pytest.raises(ValueError, match=message):
        draw(networks_of(1), law, 7, 3, matrix)
