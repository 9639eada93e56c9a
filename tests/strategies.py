"""Sweeps of the toy statistic for property tests: the whole domain, kept small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import relu_sweeps_toys as toys
from hypothesis import strategies as st
from pydantic import Field

from tests.conftest import toy_spec

_values = {
    "size": st.integers(1, 64),
    "shift": st.floats(-10, 10, allow_nan=False).map(lambda x: x + 0.0),
    "colour": st.sampled_from(["red", "blue"]),
}


@st.composite
def specs(draw: st.DrawFn) -> dict:
    """A valid toy spec as plain data."""
    names = draw(st.lists(st.sampled_from(sorted(_values)), min_size=1, max_size=3, unique=True))
    axes = {n: draw(st.lists(_values[n], min_size=1, max_size=2 if n == "colour" else 7, unique=True)) for n in names}
    fixed = {"steps": draw(st.integers(1, 9))}
    fixed |= {
        n: draw(_values[n])
        for n in draw(st.sets(st.sampled_from(sorted(set(_values) - set(names)) or ["x"])))
        if n in _values
    }
    size = draw(st.integers(1, 6))
    return toy_spec(
        axes=axes,
        fixed=fixed,
        seed=draw(st.integers(0, 2**63 - 1)),
        draws_per_batch=size,
        draws=size * draw(st.integers(1, 4)),
        points_per_block=draw(st.none() | st.integers(1, 20)),
    )


class FlippedParameters(toys.ToyParameters):
    flip: bool = Field(False, description="a truth value, so that there is an axis of these too")


FLIPPED = replace(toys.TOY, parameters=FlippedParameters)
"""The toy with one more parameter; for tests that put it in the toy's place."""

POOLS: dict[str, list] = {
    "size": [1, 2, 5, 8],
    "shift": [-1.0, -0.5, 0.0, 0.25],
    "colour": ["red", "blue"],
    "flip": [False, True],
}


@st.composite
def growing(draw: st.DrawFn, **changes: Any) -> list[dict]:
    """Specs of the flipped toy, each with all of the one before and more of something, its values in any order."""
    names = draw(st.lists(st.sampled_from(sorted(POOLS)), min_size=1, max_size=3, unique=True))
    orders = {name: draw(st.permutations(POOLS[name])) for name in names}
    have, batches = dict.fromkeys(names, 1), draw(st.integers(1, 2))
    found = []
    for _ in range(draw(st.integers(2, 4))):
        have = {name: draw(st.integers(have[name], len(POOLS[name]))) for name in names}
        batches = draw(st.integers(batches, 3))
        axes = {name: draw(st.permutations(orders[name][: have[name]])) for name in names}
        found.append(toy_spec(**{"axes": axes, "fixed": {"steps": 2}, "draws": 4 * batches, "draws_per_batch": 4}))
    first = {"points_per_block": draw(st.none() | st.integers(1, 6))}
    return [{**spec, **first, **changes} for spec in found]
