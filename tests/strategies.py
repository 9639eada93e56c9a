"""Sweeps of the toy statistic for property tests: the whole domain, kept small."""

from __future__ import annotations

from hypothesis import strategies as st

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
