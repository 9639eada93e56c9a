"""What every test gets: the toy statistics as installed plugins (in Ray's workers too), and small specs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

PLUGIN = str(Path(__file__).parent / "plugin")
sys.path.insert(0, PLUGIN)
os.environ["PYTHONPATH"] = os.pathsep.join([PLUGIN, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import actors  # noqa: E402, F401  (sets what Ray reads when it is imported)
from sweeps.run import Store, run  # noqa: E402
from sweeps.sweep import Sweep  # noqa: E402

hypothesis.settings.register_profile("house", deadline=None)  # no test is about how busy the machine is
hypothesis.settings.load_profile("house")
SpecMaker = Callable[..., Sweep]


def toy_spec(**changes: Any) -> dict[str, Any]:
    """A toy sweep: 2 x 5 x 2 points, 3 batches of 8 draws."""
    spec = {
        "name": "toy",
        "statistic": "toy",
        "seed": 3,
        "draws": 24,
        "draws_per_batch": 8,
        "axes": {"size": [2, 8], "shift": {"linspace": [-1, 1, 5]}, "colour": ["red", "blue"]},
        "fixed": {"steps": 3},
    }
    return {k: v for k, v in {**spec, **changes}.items() if v is not None}


@pytest.fixture
def toy() -> SpecMaker:
    return lambda **changes: Sweep.of(toy_spec(**changes))


def measured_at_once(store: Store) -> None:
    """Measured whole in this process; `faulty` does not sleep, which changes no number."""
    import relu_sweeps_toys

    from actors.inline import Inline

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relu_sweeps_toys, "sleep", lambda seconds: None)
        list(run(store, Inline("cpu")))


class Scheduler(LoadScopeScheduling):
    """Two processes share the tests, `make test`: one at a time may start Ray clusters, which are found by whoever
    looks for one on this machine; elsewhere a file stays together, for what its tests share. Those with clusters take
    longest and come first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if _starts_clusters(self.config.rootpath / file) else file


@cache
def _starts_clusters(file: Path) -> bool:
    return "pytest.mark.cluster" in file.read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    config.option.loadscopereorder = False  # not by the number of tests
    return Scheduler(config, log)


@pytest.fixture(scope="session")
def ray_token() -> None:
    """A new machine has none; Ray's clients, and clusters that a test starts itself, need one."""
    from deploy.heads import ensure_token

    ensure_token(os.environ)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds, copying it none."""
    from storage import runs

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with runs.quiet():
        runs.connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def mlflow_db(database: Path, tmp_path: Path) -> Path:
    """The default tracking database of the working directory, set up."""
    return Path(shutil.copy(database, tmp_path / "mlflow.db"))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As blocks are measured; for tests of kernels whose bits may depend on it."""
    import torch  # noqa: F401  (which `numerics` sets only if it is there)

    from sweeps.measure import numerics

    with numerics("float32"):
        yield
