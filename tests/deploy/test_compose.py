"""The containers of a team's servers, as far as that can be seen without an engine: every key is one that Compose
knows, nothing is open to others, everything is pinned, and no secret is in a file that is not one."""

from __future__ import annotations

import copy
import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.stub import Stubber

from deploy.compose import make_secrets, serve_mlflow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = "owner"

ANY = None
"""A mapping whose keys are names."""
SERVICE = {
    "image", "build", "user", "restart", "read_only", "tmpfs", "cap_drop", "cap_add", "security_opt", "logging",
    "depends_on", "networks", "network_mode", "ports", "command", "entrypoint", "environment", "secrets", "volumes",
    "healthcheck",
}  # fmt: skip
KNOWN: dict[str, set[str] | None] = {
    "": {"name", "services", "networks", "volumes", "secrets"},
    "services": ANY,
    "services.*": SERVICE,
    "services.*.build": {"context", "dockerfile"},
    "services.*.logging": {"driver", "options"},
    "services.*.logging.options": {"max-size", "max-file"},
    "services.*.depends_on": ANY,
    "services.*.depends_on.*": {"condition"},
    "services.*.environment": ANY,
    "services.*.healthcheck": {"test", "interval", "timeout", "retries"},
    "services.*.volumes": {"type", "source", "target", "read_only", "volume"},
    "services.*.volumes.volume": {"nocopy"},
    "networks": ANY,
    "networks.*": {"internal"},
    "volumes": ANY,
    "volumes.*": set(),
    "secrets": ANY,
    "secrets.*": {"file"},
}


def unknown(node: Any, path: str = "") -> list[str]:
    """Keys that Compose does not have there, as far as this file needs to know it."""
    if isinstance(node, list):
        return [found for item in node for found in unknown(item, path)]
    if not isinstance(node, dict):
        return []
    known, found = KNOWN.get(path, set()), []
    for key, value in node.items():
        if path == "" and key.startswith("x-"):
            continue
        if known is not None and key not in known:
            found.append(f"{path}.{key}".lstrip("."))
        else:
            found += unknown(value, ".".join(filter(None, [path, "*" if known is None else key])))
    return found


def test_every_key_is_one_that_compose_knows() -> None:
    assert unknown(COMPOSE) == []
    dependencies = {name for s in SERVICES.values() for name in s.get("depends_on", {})}
    assert dependencies <= SERVICES.keys()
    conditions = {how["condition"] for s in SERVICES.values() for how in s.get("depends_on", {}).values()}
    assert conditions <= {"service_healthy", "service_completed_successfully"}
    assert {n for s in SERVICES.values() for n in s.get("networks", ())} == COMPOSE["networks"].keys()
    mounted = {v["source"] for s in SERVICES.values() for v in s.get("volumes", ()) if v["type"] == "volume"}
    assert mounted == COMPOSE["volumes"].keys()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda c: c.update(service={}), "service"),
        (lambda c: c["services"]["s3"].update(port=[]), "services.*.port"),
        (lambda c: c["services"]["s3"]["healthcheck"].update(intervall="5s"), "services.*.healthcheck.intervall"),
        (lambda c: c["services"]["mlflow"]["depends_on"]["s3"].update(when="x"), "services.*.depends_on.*.when"),
        (lambda c: c["services"]["s3"]["volumes"][0].update(readonly=True), "services.*.volumes.readonly"),
        (lambda c: c["secrets"]["s3_user"].update(files="x"), "secrets.*.files"),
    ],
)
def test_a_misspelt_key_is_found(spoil: Callable[[Any], None], told: str) -> None:
    spoilt = copy.deepcopy(COMPOSE)
    spoil(spoilt)
    assert unknown(spoilt) == [told]


def test_everything_listens_on_loopback_alone() -> None:
    published = [port for s in SERVICES.values() for port in s.get("ports", ())]
    assert published == ["127.0.0.1:9000:9000", "127.0.0.1:5000:5000"]
    on_the_machine = {name for name, s in SERVICES.items() if s.get("network_mode") == "host"}
    assert on_the_machine == {"prometheus", "grafana"}
    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert SERVICES["postgres"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_hardened_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?[\w.-]*\d+[.-]\d+[\w.-]*$", service["image"]), "an exact version"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name == ONCE:
        assert (service["restart"], service["network_mode"], service["cap_add"]) == ("no", "none", ["CHOWN"])
        assert "secrets" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert "cap_add" not in service
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["user"].startswith("${SWEEPS_UID:?")


def test_what_is_mounted_is_there_and_every_variable_is_in_the_example() -> None:
    binds = [v for s in SERVICES.values() for v in s.get("volumes", ()) if v["type"] == "bind"]
    assert all(bind["read_only"] for bind in binds)
    assert [b["source"] for b in binds if "$" not in b["source"] and not (FOLDER / b["source"]).is_file()] == []
    build = SERVICES["mlflow"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()
    example = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == example.keys()
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/compose/.env", "deploy/compose/secrets/s3_user"], cwd=ROOT, capture_output=True
    )
    assert ignored.stdout.count(b"\n") == 2 or not (ROOT / ".git").exists()


def test_secrets_come_from_files_alone() -> None:
    assert COMPOSE["secrets"] == {name: {"file": f"./secrets/{name}"} for name in make_secrets.CONTENTS}
    used = {name for s in SERVICES.values() for name in s.get("secrets", ())}
    assert used == make_secrets.CONTENTS.keys()
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY|USER_FILE", name):
                assert value.startswith("/run/secrets"), name
    read = set(re.findall(r"/run/secrets/(\w+)", TEXT))
    assert read <= used


def test_the_image_is_pinned_and_is_not_run_as_root() -> None:
    lines = (FOLDER / "mlflow.Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == ["FROM python:3.12.13-slim-bookworm"]
    assert all("--constraint /opt/constraints.txt" in line for line in lines if "pip install" in line)
    assert "USER 65534:65534" in lines
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    [version] = [c.partition("==")[2] for c in constraints if c.startswith("mlflow==")]
    assert SERVICES["mlflow"]["image"] == f"relu-sweeps/mlflow:{version}"
    for package in ("boto3", "psycopg", "psycopg-binary", "Flask-WTF"):
        assert any(c.startswith(f"{package}==") for c in constraints), package


def test_grafana_is_given_its_source_and_its_dashboard() -> None:
    [source] = yaml.safe_load((FOLDER / "grafana" / "datasource.yml").read_text())["datasources"]
    listen = next(c for c in SERVICES["prometheus"]["command"] if "listen" in c).partition("=")[2]
    assert (source["type"], source["url"]) == ("prometheus", f"http://{listen}")
    [provider] = yaml.safe_load((FOLDER / "grafana" / "dashboards.yml").read_text())["providers"]
    place = next(v for v in SERVICES["grafana"]["volumes"] if v["source"] == "../grafana/sweeps.json")
    assert place["target"] == provider["options"]["path"] + "/sweeps.json"
    assert json.loads((FOLDER / place["source"]).read_text())["title"] == "Sweeps"


def test_secrets_are_made_once_each_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = [sys.executable, FOLDER / "make_secrets.py", folder]
    first, again = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    held = {path.name: path.read_text() for path in folder.iterdir()}
    assert held.keys() == make_secrets.CONTENTS.keys()
    assert len(set(held.values())) == len(held)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert first.stdout == f"made: {', '.join(make_secrets.CONTENTS)}\n"
    assert again.stdout == "made: nothing, all are there\n"
    assert not [secret for secret in held.values() if secret in first.stdout]


def test_the_server_of_mlflow_asks_for_a_password_and_has_none_in_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secrets.make(tmp_path)
    monkeypatch.setattr(serve_mlflow, "SECRETS", tmp_path)
    monkeypatch.setattr(serve_mlflow, "HOSTS", "mlflow.example.org, other.example.org")
    flags = serve_mlflow.flags()
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    assert given["--app-name"] == "basic-auth"
    assert (
        given["--allowed-hosts"] == "localhost,localhost:*,127.0.0.1,127.0.0.1:*,mlflow.example.org,other.example.org"
    )
    assert given["--cors-allowed-origins"] == "https://mlflow.example.org,https://other.example.org"
    held = [path.read_text() for path in tmp_path.iterdir()]
    assert not [secret for secret in held if secret in " ".join(flags)]
    known = serve_mlflow.environment(tmp_path / "auth.ini")
    assert known["MLFLOW_BACKEND_STORE_URI"] == "postgresql+psycopg://mlflow@postgres:5432/mlflow"
    auth = ConfigParser()
    auth.read_string(serve_mlflow.AUTH.format(database=serve_mlflow.database("mlflow_auth")))
    assert auth["mlflow"]["default_permission"] == "EDIT"
    assert auth["mlflow"]["database_uri"] == "postgresql+psycopg://mlflow@postgres:5432/mlflow_auth"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Answers what is laid out for it, in that order; whatever else it is asked is an error."""
    known = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = boto3.client("s3", **known)
    monkeypatch.setattr(boto3, "client", lambda name: client)
    with Stubber(client) as stub:
        yield stub


def test_only_buckets_that_are_missing_are_made(s3: Stubber) -> None:
    s3.add_response("head_bucket", {}, {"Bucket": "mlflow"})
    s3.add_client_error("head_bucket", "404", http_status_code=404)
    s3.add_response("create_bucket", {}, {"Bucket": "sweeps"})
    serve_mlflow.make_buckets()
    s3.assert_no_pending_responses()


def test_buckets_that_are_there_ask_no_right_to_list_or_to_make_them(s3: Stubber) -> None:
    for name in serve_mlflow.BUCKETS:
        s3.add_response("head_bucket", {}, {"Bucket": name})
    serve_mlflow.make_buckets()
    s3.assert_no_pending_responses()


@pytest.mark.parametrize("asked", ["head_bucket", "create_bucket"])
def test_a_bucket_that_is_not_for_us_is_one_line(s3: Stubber, asked: str) -> None:
    if asked == "create_bucket":
        s3.add_client_error("head_bucket", "404", http_status_code=404)
    s3.add_client_error(asked, "AccessDenied", "not yours", http_status_code=403)
    with pytest.raises(SystemExit) as end:
        serve_mlflow.make_buckets()
    said = str(end.value)
    assert said.startswith("error: bucket 'mlflow' of http://s3:9000 cannot be used or made: ")
    assert said.endswith(": not yours")
    assert "\n" not in said
