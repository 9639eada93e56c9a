"""The file for `ray up`: Ray and AWS would understand it, and it opens nothing. No cloud is asked."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[2] / "deploy" / "ray_up" / "aws.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def filled(config: dict[str, Any]) -> dict[str, Any]:
    """With what Ray adds before it asks the cloud."""
    return prepare_config(copy.deepcopy(config))


def test_ray_takes_it(config: dict[str, Any]) -> None:
    validate_config(filled(config))


@pytest.mark.parametrize(
    "path",
    [
        ("max_workers",),
        ("idle_timeout_minutes",),
        ("file_mounts",),
        ("head_start_ray_commands",),
        ("auth", "ssh_user"),
        ("available_node_types", "worker", "max_workers"),
        ("available_node_types", "worker", "resources"),
    ],
    ids=".".join,
)
def test_a_misspelt_field_is_refused(config: dict[str, Any], path: tuple[str, ...]) -> None:
    whole = filled(config)
    place: Any = whole
    for step in path[:-1]:
        place = place[step]
    place[f"{path[-1]}s_"] = place.pop(path[-1])
    with pytest.raises(jsonschema.ValidationError):
        validate_config(whole)


def complaints(machine: dict[str, Any]) -> str:
    """What AWS's own model of a machine has against one; `SubnetIds` is Ray's, which takes the first that has room."""
    operation = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    asked = {key: value for key, value in machine.items() if key != "SubnetIds"}
    return ParamValidator().validate({**asked, "MinCount": 1, "MaxCount": 1}, operation.input_shape).generate_report()


def test_aws_knows_every_field_of_a_machine(config: dict[str, Any]) -> None:
    for kind in config["available_node_types"].values():
        machine = kind["node_config"]
        assert complaints(machine) == ""
        assert 'Unknown parameter in input: "ImagId"' in complaints({**machine, "ImagId": "a"})
        deep = {**machine, "MetadataOptions": {"HttpToken": "required"}}
        assert 'Unknown parameter in MetadataOptions: "HttpToken"' in complaints(deep)


def test_it_opens_nothing(config: dict[str, Any]) -> None:
    assert "security_group" not in config["provider"], "Ray would open SSH to all addresses"
    for kind in config["available_node_types"].values():
        assert kind["node_config"]["SecurityGroupIds"], "without one, Ray makes one that is open"
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in kind["node_config"]["BlockDeviceMappings"])
    starts = " ".join(config["head_start_ray_commands"] + config["worker_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in starts
    assert "0.0.0.0" not in FILE.read_text()
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert {"/servers", "secrets", ".env", ".sweeps"} <= set(config["rsync_exclude"])


def test_the_head_has_no_work_and_says_how_far_the_cluster_grows(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"]
    head, worker = kinds["head"], kinds["worker"]
    assert head["resources"] == {"CPU": 0}
    assert config["max_workers"] == worker["max_workers"] > worker["min_workers"]
    start = config["head_start_ray_commands"][-1]
    most = json.loads(start.split("SWEEPS_GROWS_TO='")[1].split("'")[0])
    assert most == {name: number * worker["max_workers"] for name, number in worker["resources"].items()}
