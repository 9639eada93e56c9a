"""`sweeps needed`: a table, and mistakes in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage import needed, open_sweep
from tests.deploy.conftest import Said
from tests.storage.test_figures import opened

Run = Callable[..., Said]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = tmp_path_factory.mktemp("store") / "a.zarr"
    axes = {"size": [2, 4, 8, 16], "colour": ["red", "blue"]}
    opened(url, axes=axes, draws=500, draws_per_batch=500, keep="draws")
    return str(url)


def test_widths_needed_are_printed(sweeps: Run, store: str) -> None:
    said = sweeps("needed", store, "--outcome", "level", "--at-most", 0.5, "--confidence", 0.9, "--along", "size")
    assert (said.code, said.err) == (0, "")
    first, names, *rows = said.out.splitlines()
    assert first == "normals a draw from which on P(level <= 0.5) >= 0.9, 95% intervals"
    assert names.split() == ["colour", "needed", "ci_low", "ci_high"]
    found = needed(open_sweep(store), "level", 0.5, 0.9, along="size")
    for row, place in zip(rows, (0, 1), strict=True):
        expected = [f"{found[name].values[place]:.5g}" for name in ("needed", "ci_low", "ci_high")]
        assert row.split() == [found.colour.values[place], *expected]
    short = sweeps("needed", store, "-o", "level", "--at-most", 0.1, "--along", "size", "-s", "colour=red")
    assert "at size = 16 the 0.95 quantile is still" in " ".join(short.out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "lvel", "--at-most", 1), "unknown outcome 'lvel'; did you mean 'level'?"),
        (("-o", "level", "--at-most", 1), "unknown axis 'width'; known: colour, size"),
        (("-o", "level", "--at-most", "inf", "--along", "size"), "at_most must be a finite number, got inf"),
        (("-o", "level", "--at-most", 1, "--along", "size", "--confidence", 95), "confidence must lie between 0 and 1"),
        (("-o", "level", "--at-most", 1, "--along", "size", "-s", "size=2"), "axis 'size' has 1 of the at least 2"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(sweeps: Run, store: str, arguments: tuple, words: str) -> None:
    said = sweeps("needed", store, *arguments)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert said.err.startswith(f"error: {words}")


def test_an_error_bound_is_required(sweeps: Run, store: str) -> None:
    assert sweeps("needed", store, "-o", "level").code == 2
