"""`sweeps plot`: one outcome against another, logarithmic axes, and mistakes in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.conftest import Said

pytestmark = pytest.mark.usefixtures("mlflow_db", "no_figures")
Run = Callable[..., Said]


def test_on_the_command_line(sweeps: Run, spec, tmp_path: Path) -> None:
    assert sweeps("run", spec(store={"url": "a.zarr"}), "--inline").code == 0
    said = sweeps("plot", "a.zarr", "-o", "walk", "--against", "level", "-s", "step=2")
    assert said.out == "wrote a-walk-against-level.png\n"
    assert (tmp_path / "a-walk-against-level.png").read_bytes().startswith(b"\x89PNG")
    for arguments, words in (
        (("-o", "walk", "-o", "level", "--against", "root"), "--against is of one outcome, got walk, level"),
        (("--against", "level", "--histogram"), "--histogram goes without --against, --log-x and --log-y"),
        (("--histogram", "--log-y"), "--histogram goes without"),
        (("--against", "level"), "outcome 'level' is to be drawn against itself"),
        (("-o", "level", "--log-y"), "a logarithmic axis takes values above 0, and 'level' goes down to -"),
        (("-o", "level", "--log-x"), "a logarithmic axis takes values above 0, and 'shift' goes down to -1"),
    ):
        said = sweeps("plot", "a.zarr", *arguments)
        assert said.code == 2
        assert said.err.startswith(f"error: {words}")
        assert len(said.err.splitlines()) == 1
