"""What a RayJob would run, run: its entrypoint and its ConfigMap on a real head, given as the operator gives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from actors.inline import Inline
from deploy import heads, jobs
from deploy import payload as travel
from deploy.kuberay import manifests
from deploy.kuberay.pods import JOB
from deploy.kuberay.settings import Kuberay
from storage.zarr_store import ZarrStore
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.deploy.conftest import Said, write_toml
from tests.deploy.test_jobs import ended, short_folder, token

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_token", "mlflow_db"), pytest.mark.timeout(300)]
Run = Callable[..., Said]


@pytest.fixture
def head() -> Iterator[heads.Head]:
    with short_folder() as folder:
        here = heads._start(folder)
        yield here
        os.kill(here.parent, signal.SIGTERM)
        assert ended(here.session)


def undisturbed(sweep: Sweep) -> str:
    store = ZarrStore.create("undisturbed.zarr", sweep)
    list(run(store, Inline("cpu")))
    return store.content_hash()


def mounted(config_map: dict[str, Any], folder: Path) -> Path:
    folder.mkdir()
    for name, text in config_map["data"].items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o444)
    folder.chmod(0o555)
    return folder


def asked(url: str, job: dict[str, Any], folder: Path, secret: str | None) -> requests.Response:
    """As the operator asks in HTTPMode."""
    spec = job["spec"]
    body = {key: spec[key] for key in ("entrypoint", "metadata")} | {"submission_id": spec["jobId"]}
    body["entrypoint"] = body["entrypoint"].replace(JOB, str(folder))
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return requests.post(f"{url}/api/jobs/", json=body, headers=headers, timeout=60)


def test_the_job_measures_the_same_bits_and_nobody_without_the_token_starts_it(
    sweeps: Run, head: heads.Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://{head.dashboard}"
    store = tmp_path / "toy.zarr"
    spec = write_toml(tmp_path / "toy.toml", toy_spec(store={"url": str(store)}, axes={"size": [2, 8]}))
    bag = travel.made(str(spec), here=False, again=["--kuberay"])
    _, config_map, job = manifests.job(bag, Kuberay(image="relu-sweeps:1"))
    folder = mounted(config_map, tmp_path / "job")

    # `python` is the image's there, and this one here
    subprocess.run(["sed", "-i", f"s,^python ,{sys.executable} ,", folder / manifests.SCRIPT], check=True)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert asked(url, job, folder, None).status_code == 401
    assert asked(url, job, folder, "wrong").status_code == 403
    assert not store.exists()
    answer = asked(url, job, folder, token())
    assert answer.status_code == 200, answer.text

    shown = sweeps("watch", bag.id, "--address", url)
    assert shown.code == 0, "".join(jobs.find(jobs.connect(url), bag.id).log())
    held = jobs.find(jobs.connect(url), bag.id)
    assert (held.name, held.store, held.again) == ("toy", str(store), f"sweeps submit {spec} --kuberay")
    assert ZarrStore.open(str(store)).content_hash() == undisturbed(Sweep.from_toml(spec))
    assert ZarrStore.open(str(store)).attributes["made_by"]["ray_submission_id"] == bag.id
