"""The architecture is a test: which room may import which, and that `sweeps` runs bare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import statistics

ROOT = Path(__file__).parents[1]
ROOMS = ("sweeps", "actors", "storage", "deploy", "tests", "benchmarks")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def test_import_contracts_hold() -> None:
    found = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "4 kept, 0 broken" in found.stdout


BARE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "zarr", "xarray", "mlflow", "typer", "rich", "matplotlib", "obstore",
                                      "sklearn", "skimage", "mlxtend"}:
            raise ImportError(f"sweeps must not need {name}")
sys.meta_path.insert(0, Refuse())
from sweeps import catalog, statistics
from sweeps.blocks import plan
from sweeps.measure import measure
from sweeps.sweep import Sweep
for name in catalog.names():
    assert len(plan(Sweep.from_toml(name)))
sweep = Sweep.of({"name": "a", "statistic": "folding", "draws": 4, "draws_per_batch": 4,
                  "axes": {"width": [8]}, "fixed": {"depth": 2}})
print(measure(sweep, plan(sweep)[0]).moments["chi"].n)
"""

LIGHT = [
    ("import deploy.cli", ["torch", "ray", "xarray", "mlflow"]),
    ("import actors.worker, storage.zarr_store", ["torch", "xarray", "mlflow"]),
    ("from sweeps import statistics; statistics.get('folding'), statistics.get('injectivity')", ["torch"]),
]


def test_sweeps_measures_with_torch_numpy_scipy_numba_and_pydantic_alone() -> None:
    ran = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[4.]"


@pytest.mark.parametrize(("code", "absent"), LIGHT)
def test_nothing_waits_for_an_import_it_does_not_need(code: str, absent: list[str]) -> None:
    """Torch alone takes longer to import than a worker takes to start without."""
    ask = f"{code}\nimport sys\nprint([name for name in {absent} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_much_over_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 440


@pytest.mark.parametrize("name", [n for n in statistics.names() if n not in ("toy", "faulty")])
def test_every_statistic_has_a_test_with_its_known_answer(name: str) -> None:
    text = (ROOT / "tests" / "sweeps" / f"test_{name}.py").read_text()
    assert "def test_" in text
    assert name in text
