"""What travels with a job: places that mean the same on the cluster, versions, no secrets, and the package itself."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.inline import Inline
from deploy import driver, payload, wheel
from deploy.board import last
from deploy.payload import Payload
from storage.zarr_store import ZarrStore
from sweeps.errors import RefusedError, StoreError, SweepsError
from sweeps.run import run
from tests.conftest import SpecMaker
from tests.deploy.conftest import statuses


@pytest.mark.parametrize(
    ("url", "here", "expected"),
    [
        (None, True, "{cwd}/results/toy.zarr"),
        ("a.zarr", True, "{cwd}/a.zarr"),
        ("~/a.zarr", True, "{home}/a.zarr"),
        ("/shared/a.zarr", True, "/shared/a.zarr"),
        ("/shared/a.zarr", False, "/shared/a.zarr"),
        ("file:///shared/a.zarr", False, "file:///shared/a.zarr"),
        ("s3://bucket/a.zarr", False, "s3://bucket/a.zarr"),
    ],
)
def test_a_store_means_the_same_on_the_cluster(toy: SpecMaker, url: str | None, here: bool, expected: str) -> None:
    sweep = toy(store={"url": url} if url else None)
    placed = payload.placed(sweep, here)
    assert placed.store is not None
    assert placed.store.url == expected.format(cwd=Path.cwd(), home=Path.home())
    assert placed.fingerprint == sweep.fingerprint


def test_on_this_machine_the_tracking_server_of_the_environment_goes_along(
    toy: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert payload.placed(toy(), here=True).track.uri == "http://127.0.0.1:5000"
    assert payload.placed(toy(track={"uri": "http://b"}), here=True).track.uri == "http://b"
    assert payload.placed(toy(store={"url": "/a"}), here=False).track.uri is None


@pytest.mark.parametrize("secret", ["me:hush@host:5000", "me:hu/sh@host:5000", "me:hu#sh@host", "host/a?token=hush"])
def test_a_tracking_server_with_a_secret_does_not_travel_and_it_is_said(
    toy: SpecMaker, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    with pytest.raises(RefusedError, match=r"^track.uri 'http://.* was given with credentials") as refused:
        payload.placed(toy(track={"uri": f"http://{secret}"}), here=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{secret}")
    said: list[str] = []
    assert payload.placed(toy(), here=True, say=said.append).track.uri is None
    [told] = said
    assert told.startswith("MLFLOW_TRACKING_URI 'http://")
    assert told.endswith(f"else to {Path.cwd() / 'mlflow.db'}")
    for text in (told, str(refused.value)):
        assert not any(piece in text for piece in ("hush", "hu/sh", "hu#sh"))
    assert payload.placed(toy(track={"uri": "http://b"}), here=True, say=said.append).track.uri == "http://b"
    payload.placed(toy(store={"url": "/a"}), here=False, say=said.append)
    assert len(said) == 1, "elsewhere, and beside another URI, it means nothing"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, RefusedError, "store.url 'results/toy.zarr' is relative, and the cluster is not on this machine"),
        ({"store": {"url": "~/a.zarr"}}, RefusedError, "store.url '~/a.zarr' is relative"),
        ({"store": {"url": "s3://me:hush@bucket/a"}}, StoreError, "'s3://bucket/a' was given with credentials"),
        (
            {"store": {"url": "/a.zarr"}, "track": {"uri": "http://me:hush@host:5000"}},
            RefusedError,
            "'http://host:5000' was given with credentials .* set MLFLOW_TRACKING_URI on the cluster",
        ),
    ],
)
def test_what_cannot_travel_is_refused_without_showing_a_secret(toy: SpecMaker, changes, error, message: str) -> None:
    with pytest.raises(error, match=message) as refused:
        payload.placed(toy(**changes), here=False)
    assert isinstance(refused.value, SweepsError)
    assert "hush" not in str(refused.value)


def test_the_id_says_whether_two_submissions_mean_the_same(toy: SpecMaker) -> None:
    one = payload.key(toy().fingerprint, "/a/b.zarr")
    assert one == payload.key(toy(name="other", device="cpu").fingerprint, "/a/./b.zarr")
    assert one == "sweep-" + hashlib.sha256(f"{toy().fingerprint}\n/a/b.zarr".encode()).hexdigest()[:16]
    assert (
        len({one, payload.key(toy(seed=4).fingerprint, "/a/b.zarr"), payload.key(toy().fingerprint, "/a/c.zarr")}) == 3
    )


def test_a_mismatch_names_both_sides() -> None:
    mine = {"relu-sweeps": "1.2", "rule": "1", "layout": "3"}
    assert payload.differing(mine, dict(mine)) == ""
    assert payload.differing(mine, {**mine, "rule": "2"}) == "this client has rule 1, the cluster has rule 2"
    assert payload.differing(mine, {"relu-sweeps": "1.2", "rule": "1"}).endswith("the cluster has layout unknown")
    assert payload.differing_ray("2.60.0", "2.60.1") == ""
    assert payload.differing_ray("2.60.0", "2.59.0") == "this client has Ray 2.60.0, the cluster has Ray 2.59.0"


def test_a_payload_is_read_as_it_was_written(toy: SpecMaker, tmp_path: Path) -> None:
    sweep = toy(track={"by": "shift"})
    bag = Payload("sweep-1", "toy", "/a", sweep.model_dump(mode="json"), payload.versions(), "/home", "again", 3)
    bag.write(tmp_path)
    assert Payload.read(tmp_path / payload.FILE) == bag
    assert type(sweep).of(bag.sweep or {}) == sweep
    assert subprocess.run(["sh", "-n", tmp_path / payload.SCRIPT], check=False).returncode == 0


def test_the_script_falls_back_to_the_python_of_the_path(tmp_path: Path) -> None:
    """Where its parent is no Ray worker's raylet: a stub stands for Python and shows how it was called."""
    Payload("sweep-1", "toy", "/a", None, {}).write(tmp_path)
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$@" "$RAY_ADDRESS"\n')
    stub.chmod(0o755)
    known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_ADDRESS": "as-it-was"}
    ran = subprocess.run(payload.ENTRYPOINT, shell=True, cwd=tmp_path, env=known, capture_output=True, text=True)
    assert ran.stdout == "-m deploy.driver job.json as-it-was\n", ran.stderr


# --- the driver, where nothing is left to measure and Ray is not needed ---


@pytest.fixture
def whole(toy: SpecMaker) -> ZarrStore:
    store = ZarrStore.create(os.path.abspath("there/a.zarr"), toy())
    list(run(store, Inline("cpu")))
    return store


def bag_of(store: ZarrStore, /, **changes: object) -> Payload:
    bag = Payload("sweep-1", "toy", store.url, store.sweep.model_dump(mode="json"), payload.versions(), again="again")
    return dataclasses.replace(bag, **changes)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("resumed", [False, True])
def test_a_driver_runs_a_spec_or_what_a_store_says(
    whole: ZarrStore, resumed: bool, tmp_path: Path, database: Path, capsys
) -> None:
    shutil.copy(database, "there/mlflow.db")
    spec = {**whole.sweep.model_dump(mode="json"), "store": {"url": whole.url}}
    bag_of(whole, sweep=None if resumed else spec).write(tmp_path)
    assert driver.main([str(tmp_path / payload.FILE)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("sweep-1: relu-sweeps ")
    assert said[1] == "resume with: again"
    assert said[-1] == f"done: {whole.url}"
    assert last("\n".join(said)).end == "done"  # type: ignore[union-attr]
    assert statuses(tmp_path / "there" / "mlflow.db") == ["FINISHED"], "beside the store"
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_driver_tracks_to_where_it_was_sent_from(
    whole: ZarrStore, tmp_path: Path, database: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path / "there")
    (tmp_path / "home").mkdir()
    shutil.copy(database, tmp_path / "home" / "mlflow.db")
    assert driver.drive(bag_of(whole, sweep=None, home=str(tmp_path / "home"))) == 0
    assert statuses(tmp_path / "home" / "mlflow.db") == ["FINISHED"]


@pytest.mark.usefixtures("no_figures")
def test_a_driver_tracks_a_resumed_store_to_where_the_payload_says(
    whole: ZarrStore, tmp_path: Path, database: Path, capsys
) -> None:
    shutil.copy(database, tmp_path / "team.db")
    track = {"uri": f"sqlite:///{tmp_path / 'team.db'}", "experiment": "mine"}
    bag_of(whole, sweep=None, home=str(tmp_path), track=track).write(tmp_path)
    assert driver.main([str(tmp_path / payload.FILE)]) == 0
    assert statuses(tmp_path / "team.db") == ["FINISHED"]
    assert not (tmp_path / "mlflow.db").exists()


def test_a_driver_whose_store_is_a_bucket_tracks_only_to_a_server(whole: ZarrStore, monkeypatch, capsys) -> None:
    far = bag_of(whole, store="s3://bucket/a")
    assert driver._tracking(whole.sweep.track, far) is None
    assert "not tracked: set MLFLOW_TRACKING_URI on the cluster" in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert driver._tracking(whole.sweep.track, far) == whole.sweep.track


def test_a_mistake_is_one_line_of_the_log_and_exit_2(whole: ZarrStore, toy: SpecMaker, tmp_path: Path, capsys) -> None:
    other = toy(seed=4, store={"url": whole.url}).model_dump(mode="json")
    bag_of(whole, sweep=other).write(tmp_path)
    assert driver.main([str(tmp_path / payload.FILE)]) == 2
    assert f"error: {whole.url} holds another sweep: seed is 3 there, 4 here" in capsys.readouterr().out


# --- the wheel ---


def test_a_wheel_is_a_function_of_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = wheel.build(tmp_path / "a"), wheel.build(tmp_path / "b")
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())
    sources = dict(wheel._sources())
    monkeypatch.setattr(wheel, "_sources", lambda: iter({**sources, "sweeps/new.py": b""}.items()))
    changed = wheel.build(tmp_path / "a")
    assert changed.name != one.name, "Ray knows a wheel by its name"
    version = payload.versions()["relu-sweeps"]
    assert one.name.startswith(f"relu_sweeps-{version}-0x")
    assert one.name.endswith("-py3-none-any.whl")


def test_a_wheel_leaves_what_lies_in_the_package_and_is_not_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("__init__.py", "compose/compose.yaml", "compose/secrets/password", "compose/.env", "__pycache__/a"):
        path = tmp_path / "deploy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.setattr(wheel, "ROOMS", ("deploy",))
    monkeypatch.setattr(wheel, "import_module", lambda name: SimpleNamespace(__file__=tmp_path / name / "__init__.py"))
    assert [name for name, _ in wheel._sources()] == ["deploy/__init__.py", "deploy/compose/compose.yaml"]


@pytest.mark.parametrize("text", ["4", '{"GPU": "4"}', '{"GPU": -1}', "GPU=4", "[]"])
def test_what_a_cluster_grows_to_is_read_or_refused_in_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(payload.GROWS_TO, "")
    assert payload.grows_to() is None
    monkeypatch.setenv(payload.GROWS_TO, '{"GPU": 4, "CPU": 16}')
    assert payload.grows_to() == {"GPU": 4, "CPU": 16}
    monkeypatch.setenv(payload.GROWS_TO, text)
    with pytest.raises(RefusedError, match=rf"SWEEPS_GROWS_TO reads as JSON, .*, got {re.escape(repr(text))}$"):
        payload.grows_to()


def test_a_wheel_holds_the_package_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    path = wheel.build(tmp_path)
    with zipfile.ZipFile(path) as archive:
        names, about = archive.namelist(), path.name.split("-0x")[0] + ".dist-info"
        for line in archive.read(f"{about}/RECORD").decode().splitlines():
            name, digest, size = line.rsplit(",", 2)
            if digest:
                data = archive.read(name)
                hashed = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={hashed}", str(len(data)))
        assert sorted(names) == sorted(
            line.rsplit(",", 2)[0] for line in archive.read(f"{about}/RECORD").decode().splitlines()
        )
        archive.extractall(tmp_path / "there")
    for name in ("sweeps/normal_table.txt", "sweeps/catalog/folding-init.toml", "deploy/grafana/sweeps.json"):
        assert name in names
    assert not any("__pycache__" in name for name in names)
    installed = metadata.Distribution.at(tmp_path / "there" / about)
    assert installed.requires is None
    assert installed.metadata["Name"] == "relu-sweeps"
    assert [e.value for e in installed.entry_points if e.name == "sweeps"] == ["deploy.cli:main"]


def test_the_wheel_is_what_runs_where_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel.build(tmp_path)) as archive:
        archive.extractall(tmp_path / "there")
    code = "import json, sweeps, deploy.payload as p; print(json.dumps([sweeps.__file__, p.__file__, p.versions()]))"
    known = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(tmp_path / "there")}
    ran = subprocess.run([sys.executable, "-c", code], env=known, cwd=tmp_path, capture_output=True, text=True)
    *files, versions = json.loads(ran.stdout)
    assert all(file.startswith(str(tmp_path / "there")) for file in files), ran.stderr
    assert versions == payload.versions()
