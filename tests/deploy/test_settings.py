"""Settings: which place counts, what each error says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import doctor, settings, variables
from sweeps.errors import SpecError
from sweeps.logs import SECRET_NAMES
from tests.deploy.conftest import Said


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in settings.names():
        for field in settings.section(name).model_fields:
            monkeypatch.delenv(settings.variable(name, field), raising=False)


def source(**options: object) -> tuple[object, str]:
    held = {s.name: s for s in settings.found("slurm", options)}
    return held["nodes"].value, held["nodes"].source


def test_the_first_place_that_has_a_setting_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source() == (1, "default")
    home = tmp_path / "home" / ".config" / "relu-sweeps"
    home.mkdir(parents=True)
    (home / settings.FILE).write_text("[slurm]\nnodes = 2\n")
    assert source() == (2, str(home / settings.FILE))
    Path(settings.FILE).write_text("[slurm]\nnodes = 3\n")
    assert source() == (3, settings.FILE)
    monkeypatch.setenv("SWEEPS_SLURM_NODES", "4")
    assert source() == ("4", "SWEEPS_SLURM_NODES")
    assert settings.resolve("slurm").model_dump()["nodes"] == 4
    assert source(nodes=5) == (5, "--nodes")
    held = settings.resolve("slurm", more=["slurm.nodes=6"])
    assert held.model_dump()["nodes"] == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["slurm.nodes=0"], r"slurm\.nodes \(from --set slurm\.nodes\) .*greater than or equal to 1, got '0'"),
        (["slurm.nods=2"], r"--set slurm\.nods: unknown setting of slurm 'nods'; did you mean 'nodes'\?"),
        (["slum.nodes=2"], r"unknown section of settings 'slum'; did you mean 'slurm'\?"),
        (["tracking.uri=http://a"], r"--set tracking\.uri is a setting of tracking, and here those of slurm count"),
        (["nodes=2"], r"--set reads section\.setting=value.*got 'nodes=2'"),
    ],
)
def test_a_mistake_is_one_line_with_its_source(more: list[str], said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        settings.resolve("slurm", more=more)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[slurm]\nnodes = 'many'\n", r"slurm\.nodes \(from sweeps\.toml\) .* got 'many'"),
        ("[slrm]\n", r"sweeps\.toml: unknown section of settings 'slrm'"),
        ("slurm = 3\n", r"sweeps\.toml: \[slurm\] is a table of settings, got 3"),
        ("[slurm\n", r"sweeps\.toml: "),
    ],
)
def test_a_wrong_file_is_one_line(text: str, said: str) -> None:
    Path(settings.FILE).write_text(text)
    with pytest.raises(SpecError, match=said):
        settings.resolve("slurm")


def test_a_file_that_others_can_write_is_refused() -> None:
    path = Path(settings.FILE)
    path.write_text("[slurm]\nnodes = 2\n")
    path.chmod(0o664)
    assert source() == (2, settings.FILE)
    path.chmod(0o666)
    with pytest.raises(SpecError, match=r"^sweeps\.toml can be written by others \(uid \d+, mode 666\)"):
        settings.resolve("slurm")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_refused() -> None:
    Path(settings.FILE).write_text("")
    os.chown(settings.FILE, 12345, -1)
    with pytest.raises(SpecError, match=r"can be written by others \(uid 12345"):
        settings.resolve("slurm")


def test_a_setting_that_must_be_given_says_how() -> None:
    with pytest.raises(
        SpecError, match=r"kuberay\.image is not given; use --set kuberay\.image=\.\.\., SWEEPS_KUBERAY_IMAGE"
    ):
        settings.resolve("kuberay")


# --- what is read from the environment everywhere ---


@pytest.fixture
def started(sweeps: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """A command with an environment of its own, which it may change."""

    def call(*arguments: str, **environment: str) -> tuple[int, str, str]:
        known = {k: v for k, v in os.environ.items() if k not in EVERYWHERE}
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", {**known, **environment})
            said = sweeps(*arguments)
        return said.code, said.out, said.err

    return call


Started = Callable[..., tuple[int, str, str]]
EVERYWHERE = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "SWEEPS_LOG_FORMAT")
NOBODY = "http://127.0.0.1:1"


def test_a_file_may_name_the_cluster_and_the_environment_comes_before_it(started: Started) -> None:
    Path(settings.FILE).write_text(f'[cluster]\naddress = "{NOBODY}"\n')
    assert started("list") == (2, "", f"error: no Ray dashboard at {NOBODY}: {REFUSED}\n")
    other = "http://127.0.0.1:2"
    assert started("list", RAY_ADDRESS=other) == (2, "", f"error: no Ray dashboard at {other}: {REFUSED}\n")
    assert started("list", RAY_API_SERVER_ADDRESS=other)[2].startswith(f"error: no Ray dashboard at {other}")
    assert started("list", "--address", other)[2].startswith(f"error: no Ray dashboard at {other}")


REFUSED = "nobody listens there ([Errno 111] Connection refused)"


def test_a_file_may_name_the_tracking_server_and_the_form_of_the_log(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(settings.FILE).write_text(f'[tracking]\nuri = "{NOBODY}"\n[log]\nformat = "json"\n')
    monkeypatch.setattr(doctor, "CHECKS", {"tracker": doctor.CHECKS["tracker"]})
    code, out, _ = started("doctor")
    assert code == 3
    assert f"tracker   {NOBODY} unreachable" in out
    code, out, err = started("show", "nothing.zarr")
    assert (code, out) == (2, "")
    assert json.loads(err)["message"].startswith("error: ")


@pytest.mark.parametrize("value", ["http://me:hush@host", "http://host?token=hush", "postgresql://me:hush#@h/d"])
@pytest.mark.parametrize("place", ["cluster.address", "tracking.uri"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(sweeps: Callable[..., Said], place: str, value: str) -> None:
    section, _, field = place.partition(".")
    Path(settings.FILE).write_text(f'[{section}]\n{field} = "{value}"\n')
    for command in (["list"], ["settings"]):
        said = sweeps(*command)
        assert said.code == 2
        assert said.err.startswith(f"error: sweeps.toml: {place} has an '@', a '?' or a '#', so perhaps a secret")
        assert "hush" not in said.out + said.err


def test_a_wrong_form_of_the_log_is_refused(sweeps: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS_LOG_FORMAT", "yaml")
    said = sweeps("catalog")
    assert said.code == 2
    assert "log.format (from SWEEPS_LOG_FORMAT)" in said.err


# --- the table ---


def test_the_table_says_where_each_setting_comes_from(started: Started) -> None:
    Path(settings.FILE).write_text(f'[cluster]\naddress = "{NOBODY}"\n[slurm]\nnodes = 3\n')
    code, out, err = started("settings", MLFLOW_TRACKING_URI="http://me:hush@host/a", SWEEPS_LOG_FORMAT="json")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["cluster.address"] == [NOBODY, "sweeps.toml", "RAY_API_SERVER_ADDRESS"]
    assert rows["tracking.uri"] == ["http://host/a", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI"]
    assert rows["log.format"] == ["json", "SWEEPS_LOG_FORMAT", "SWEEPS_LOG_FORMAT"]
    assert rows["slurm.nodes"] == ["3", "sweeps.toml", "SWEEPS_SLURM_NODES"]
    assert rows["kuberay.image"] == ["not", "given", "SWEEPS_KUBERAY_IMAGE"]


def test_no_secret_is_in_the_table(sweeps: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    held = [v for v in variables.KNOWN if v.kind != "plain"]
    for variable in held:
        monkeypatch.setenv(
            variable.name, "sentinel" if variable.kind == "secret" else "http://me:sentinel@host?sentinel"
        )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://me:sentinel@host/d?sslpassword=sentinel")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://me:sentinel@host")
    said = sweeps("settings")
    assert said.code == 0, said.err
    assert "sentinel" not in said.out + said.err
    assert said.out.count("set, not shown") == sum(v.kind == "secret" for v in held) > 5
    assert len(held) > 10


def test_every_variable_that_may_be_secret_by_its_name_is_masked() -> None:
    assert [v.name for v in variables.KNOWN if SECRET_NAMES.search(v.name) and v.kind != "secret"] == []
