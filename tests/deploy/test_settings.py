"""Settings: which place counts, what each error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import settings
from sweeps.errors import SpecError


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
    held = settings.resolve("slurm", more=["slurm.nodes=6", "kuberay.image=other"])
    assert held.model_dump()["nodes"] == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["slurm.nodes=0"], r"slurm\.nodes \(from --set slurm\.nodes\) .*greater than or equal to 1, got '0'"),
        (["slurm.nods=2"], r"--set slurm\.nods: unknown setting of slurm 'nods'; did you mean 'nodes'\?"),
        (["slum.nodes=2"], r"unknown section of settings 'slum'; did you mean 'slurm'\?"),
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


def test_a_setting_that_must_be_given_says_how() -> None:
    with pytest.raises(
        SpecError, match=r"kuberay\.image is not given; use --set kuberay\.image=\.\.\., SWEEPS_KUBERAY_IMAGE"
    ):
        settings.resolve("kuberay")
