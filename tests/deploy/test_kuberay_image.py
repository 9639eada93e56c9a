"""The Dockerfile, read: there is no container engine where the tests run."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from deploy.kuberay import pods
from deploy.wheel import ROOMS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "kuberay" / "Dockerfile").read_text()
KNOWN = {"ARG", "FROM", "WORKDIR", "COPY", "ENV", "RUN", "USER"}


def lines() -> list[tuple[str, str]]:
    """(instruction, the rest), comments left out and continued lines joined."""
    whole = re.sub(r"\\\n\s*", "", "".join(line for line in TEXT.splitlines(True) if not line.startswith("#")))
    return [(line.split()[0], line.split(None, 1)[1].strip()) for line in whole.splitlines() if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = [[]]
    for line in lines():
        if line[0] == "FROM":
            found.append([])
        found[-1].append(line)
    return found[1:]


def test_every_instruction_is_one() -> None:
    assert {name for name, _ in lines()} == KNOWN


def test_both_stages_begin_at_one_pinned_base() -> None:
    [base] = [rest for name, rest in lines() if name == "ARG"]
    assert re.fullmatch(r"PYTHON=python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert [stage[0][1] for stage in stages()] == ["${PYTHON} AS build", "${PYTHON}"]
    assert "latest" not in TEXT


def test_it_ends_as_the_user_that_the_pods_are() -> None:
    last = stages()[-1]
    assert last[-1] == ("USER", f"{pods.USER}:{pods.USER}")
    [made] = [rest for name, rest in last if name == "RUN"]
    assert f"--gid {pods.USER}" in made
    assert f"--uid {pods.USER}" in made


def test_nothing_is_built_or_fetched_in_the_last_stage() -> None:
    for name, rest in stages()[-1]:
        assert not (name == "RUN" and re.search(r"\b(pip|apt|apt-get|curl|wget|gcc)\b", rest))
        assert name != "COPY" or rest.startswith("--from=build ")


def test_what_is_installed_is_pinned() -> None:
    build = stages()[0]
    environment = next(rest for name, rest in build if name == "ENV")
    assert "PIP_CONSTRAINT=/src/constraints.txt" in environment
    [install] = [rest for name, rest in build if name == "RUN" and "pip install" in rest]
    assert "--constraint constraints.txt" in install
    assert "--only-binary :all:" in install


def sources() -> set[str]:
    copied = [rest.split()[:-1] for name, rest in stages()[0] if name == "COPY"]
    return {source for several in copied for source in several}


def test_what_is_copied_is_there_and_is_what_the_wheel_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(ROOMS)
    needed = {*ROOMS, "pyproject.toml", "constraints.txt", project["project"]["readme"], "LICENSE"}
    assert sources() == needed
    assert all((ROOT / source).exists() for source in needed)


def test_nothing_else_gets_to_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources()
    assert any(fnmatch("deploy/__pycache__", rule) for rule in rules[1:])
    last = max(i for i, rule in enumerate(rules) if rule.startswith("!"))
    assert {"deploy/compose/secrets", "**/.env"} <= set(rules[last:]), "the last rule that fits counts"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {"/deploy/compose/secrets", "/deploy/compose/.env"} == set(project["tool"]["hatch"]["build"]["exclude"])


def test_ray_is_found_by_a_login_shell() -> None:
    """KubeRay starts Ray from `bash -lc`, and Debian's profile leaves a user /usr/local/bin and /usr/bin."""
    assert ("COPY", "--from=build /install /usr/local") in stages()[-1]
    assert ROOT.joinpath("deploy/kuberay/Dockerfile").read_text().count("/opt/") == 0
