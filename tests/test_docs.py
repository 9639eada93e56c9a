"""What README and docs say is run and followed here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import app, main
from storage.query import open_sweep
from sweeps import catalog, statistics
from sweeps.sweep import Sweep

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


def test_the_readmes_sweep_runs_and_its_snippet_prints(tmp_path: Path) -> None:
    spec = tmp_path / "angle-width.toml"
    spec.write_text(block("toml").replace("draws = 1024", "draws = 256"))
    with pytest.raises(SystemExit) as end:
        main(["run", str(spec), "--inline"])
    assert end.value.code in (0, None)
    code = "import sys; sys.path.insert(0, sys.argv[1])\n" + block("python")
    ran = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "width" in ran.stdout
    with pytest.raises(SystemExit) as end:
        main(["plot", "results/angle-width.zarr", "--select", "layer=1,3,10"])
    assert end.value.code in (0, None)
    ds = open_sweep("results/angle-width.zarr").sel(width=256, layer=1)
    assert abs(ds.cosine - ds.cosine_theory).max() < 0.02


def test_the_readmes_spec_has_at_most_a_dozen_lines_of_keys() -> None:
    assert len([line for line in block("toml").splitlines() if line.strip()]) <= 12


def test_every_command_and_statistic_is_in_the_docs() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert f"`{name}`" in text or f"sweeps {name}" in text, name
    for name in statistics.names():
        if name not in ("toy", "faulty"):
            assert (ROOT / "docs" / f"{name}.md").exists(), name


@pytest.mark.parametrize("name", catalog.names())
def test_every_catalog_sweep_has_its_figure_in_its_page(name: str) -> None:
    page = ROOT / "docs" / f"{Sweep.from_toml(name).statistic}.md"
    assert f"figures/{name}.png" in page.read_text()
    assert (ROOT / "docs" / "figures" / f"{name}.png").exists()
