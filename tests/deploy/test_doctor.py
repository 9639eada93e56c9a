"""`sweeps doctor`: each thing it looks at, really broken, is a fault with a remedy, and no secret is said."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.inline import Inline
from deploy import checks, checks_disk, checks_servers, doctor, heads
from deploy.doctor import FAULT, OK, WARNING, Finding, Patient
from storage import retries
from storage.zarr_store import ZarrStore
from sweeps.run import run
from tests.conftest import SpecMaker
from tests.deploy.conftest import Said, start
from tests.deploy.test_disks import BOUND, PAGE, disk, read_only, resize  # noqa: F401
from tests.proxy import Proxy
from tests.storage.conftest import Server, moto, s3, server  # noqa: F401

TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*TOKENS, "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(heads, "heads", list)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(checks_servers, "SECONDS", 2.0)


def found(name: str, **patient: Any) -> list[Finding]:
    return list(doctor.examine(Patient(**patient), [name]))


def one(name: str, **patient: Any) -> Finding:
    (finding,) = found(name, **patient)
    return finding


# --- the command ---


def test_a_machine_that_is_well_is_told_so_and_nothing_is_left_behind(
    sweeps: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_disk, "RAY_FULL", 1.0)  # this machine's own disk may be as full as it is
    monkeypatch.setattr(checks_disk, "NONE", 0)
    said = sweeps("doctor")
    assert said.code == 0, said.out
    lines = [line for line in said.out.splitlines() if "->" not in line]
    assert {line.split()[0] for line in lines} <= {OK, WARNING}
    assert {line.split()[1] for line in lines} == set(doctor.CHECKS)
    assert list(tmp_path.iterdir()) == []


def test_a_fault_is_exit_status_3_and_comes_with_its_remedy(
    sweeps: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(doctor, "CHECKS", {"token": doctor.CHECKS["token"]})
    said = sweeps("doctor")
    assert said.code == 3
    assert said.out.splitlines()[1].strip() == "-> unset RAY_AUTH_MODE"


def test_a_check_that_raises_is_a_fault_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t-of-mine"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", secret)

    def broken(_: Patient) -> Iterator[Finding]:
        raise ArithmeticError(f"no room for {secret}")

    monkeypatch.setattr(checks, "token", broken)
    first, second = doctor.examine(Patient(), ["token", "files"])
    assert (first.state, first.text) == (FAULT, f"the check itself failed: ArithmeticError: no room for {secret}")
    assert second.check == "files"
    written: list[str] = []
    console = SimpleNamespace(is_terminal=False, print=lambda text, **_: written.append(text))
    assert doctor.show(iter([first]), console)  # type: ignore[arg-type]
    assert secret not in "".join(written)
    assert "no room for ***" in "".join(written)


def test_a_check_that_hangs_is_a_fault_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    forever = threading.Event()
    monkeypatch.setattr(checks, "token", lambda _: iter([forever.wait()]))
    monkeypatch.setattr(doctor, "LIMIT", 0.2)
    assert one("token").text == "no answer in 0 s"
    forever.set()


def test_one_that_times_out_by_itself_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(_: Patient) -> Iterator[Finding]:
        raise TimeoutError("late")
        yield

    monkeypatch.setattr(checks, "token", late)
    assert one("token").text == "the check itself failed: TimeoutError: late"


# --- this machine ---


def test_a_package_that_is_missing_or_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one("versions").state == OK
    asked = ["zarr>=99", "no-such-package>=1", "also-not-there; extra == 'dev'", "numpy>=1"]
    monkeypatch.setattr(metadata, "requires", lambda name: asked)
    old, missing = found("versions")
    assert (old.state, missing.state) == (FAULT, FAULT)
    assert old.text == f"zarr {metadata.version('zarr')} is installed; relu-sweeps needs >=99"
    assert missing.text == "no-such-package is not installed; relu-sweeps needs >=1"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that others on this machine can enter."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_token_is_missing_empty_open_to_others_or_fine(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = one("token")
    assert (missing.state, missing.text.split(";")[0]) == (WARNING, "none")
    path = open_folder / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert one("token").text == f"RAY_AUTH_TOKEN_PATH {str(path)!r} is not there"
    path.touch()
    assert (one("token").state, one("token").text) == (FAULT, f"{path} is empty")
    path.write_text("hush" * 16)
    path.chmod(0o644)
    readable = one("token")
    assert readable.state == FAULT
    assert readable.text == f"{path} has mode 644: others on this machine can run code as you"
    assert readable.mend == f"chmod 600 {path}"
    open_folder.chmod(0o700)
    assert (one("token").state, one("token").mend) == (WARNING, f"chmod 600 {path}")
    path.chmod(0o600)
    assert one("token") == Finding("token", OK, f"{path}, mode 600")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hush")
    assert one("token") == Finding("token", OK, "from RAY_AUTH_TOKEN")


def test_a_token_that_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    made = tmp_path / "home" / ".ray" / "auth_token"
    heads.ensure_token({**os.environ, "RAY_AUTH_MODE": "token"})
    assert made.stat().st_mode & 0o777 == 0o600
    assert one("token") == Finding("token", OK, f"{made}, mode 600")


def test_few_open_files_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one("files").state == OK
    monkeypatch.setattr(checks.resource, "getrlimit", lambda _: (64, 256))
    assert (one("files").state, one("files").text.split(";")[0]) == (WARNING, "at most 256 files may be open at once")


def test_compiled_code_that_others_can_write_is_a_fault(tmp_path: Path) -> None:
    assert one("compiled").state == OK
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    process = start("doctor", env={**os.environ, "NUMBA_CACHE_DIR": str(shared), "HOME": str(tmp_path)})
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 3, out
    assert f"fault    compiled  {shared} can be written by everybody" in out, out


def test_a_driver_whose_gpu_torch_does_not_see_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert one("gpu").text == f"none; sweeps run on {os.cpu_count()} CPU cores"
    (tmp_path / "version").touch()
    monkeypatch.setattr(checks, "DRIVER", tmp_path / "version")
    assert one("gpu").state == WARNING


def test_a_gpu_is_told_by_the_generator_that_agrees_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of two GPUs as is asked; that a generator which does not agree is left out has tests of its own."""
    import torch

    from sweeps import randomness_device, randomness_torch

    known = {"is_available": True, "device_count": 2, "get_device_name": "H200", "mem_get_info": (9e9, 9e9)}
    for name, value in known.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    chosen = {"cuda:0": randomness_torch.normals, "cuda:1": randomness_device._from_cpu}
    monkeypatch.setattr(randomness_device, "generator", chosen.__getitem__)
    slower, copied = found("gpu")
    assert (slower.state, slower.text.split(";")[0]) == (WARNING, "cuda:0 H200, 9 GB free")
    assert "plain torch operations" in slower.text
    assert (copied.state, "no generator gives the CPU's bits" in copied.text) == (WARNING, True)


# --- storage ---


def test_a_store_that_is_there_is_opened_and_one_that_is_not_is_tried_beside(toy: SpecMaker, tmp_path: Path) -> None:
    held = ZarrStore.create("toy.zarr", toy())
    list(run(held, Inline("cpu")))
    before = held.content_hash()
    files = sorted(p.name for p in Path("toy.zarr").iterdir())
    holds, tried = found("store", store="toy.zarr")
    assert (holds.state, holds.text) == (OK, "toy.zarr holds toy: 12 of 12 blocks are committed")
    assert (tried.state, tried.text.split(":")[0]) == (OK, str(tmp_path / "toy.zarr"))
    assert held.content_hash() == before
    assert sorted(p.name for p in Path("toy.zarr").iterdir()) == files
    assert one("store", store="results/other.zarr").text.split(":")[0] == str(tmp_path)
    Path("toy.zarr/zarr.json").write_text("{")
    assert found("store", store="toy.zarr")[0].state == FAULT


def test_a_place_that_is_read_only_is_a_fault(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    with read_only(closed):
        process = start("doctor", closed / "a.zarr", prefix=BOUND)
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 3, out
    [line] = [line for line in out.splitlines() if line.startswith("fault    store")]  # whose clusters run here is open
    assert line.startswith(f"fault    store     {closed} cannot be written: ")
    assert "Permission denied" in line
    assert list(closed.iterdir()) == []


def test_a_full_disk_is_a_fault_of_the_disk_and_of_the_store(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("RAY_TMPDIR", str(disk))
    resize(disk, 2 * 2**20)
    (disk / "filler").write_bytes(b"x" * (2 * 2**20 - PAGE))
    states = {f.text.rpartition(", for ")[2].split(";")[0]: f.state for f in found("disk", store=str(disk / "a.zarr"))}
    assert states == {"Ray's sessions": FAULT, "the store": FAULT}
    assert "Ray stores no more objects" in found("disk", store=str(disk))[0].text
    (tried,) = found("store", store=str(disk / "a.zarr"))
    assert tried.state == FAULT
    assert "No space left on device" in tried.text
    assert [p.name for p in disk.iterdir()] == ["filler"], "what could not be written whole is taken away"


def test_a_folder_of_rays_yet_to_come_is_one_above(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("RAY_TMPDIR", str(disk / "ray" / "later"))
    resize(disk, 1000 * 2**20)
    [room] = [f for f in found("disk", store=str(disk)) if "Ray's sessions" in f.text]
    assert (room.state, f"free at {disk}, for" in room.text) == (WARNING, True), room


def test_little_room_is_a_warning(disk: Path) -> None:  # noqa: F811
    resize(disk, 1000 * 2**20)
    assert [f.state for f in found("disk", store=str(disk)) if "the store" in f.text] == [WARNING]


class Clobbering:
    """A store that creates where something is, as one that takes no notice of If-None-Match."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import obstore

        put = obstore.put
        monkeypatch.setattr(obstore, "put", lambda *a, **k: put(*a, **{n: v for n, v in k.items() if n != "mode"}))


def test_a_store_that_creates_twice_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clobbering(monkeypatch)
    twice = one("store")
    assert (twice.state, twice.mend) == (FAULT, "use a store that keeps If-None-Match")
    assert "an object was created where one was" in twice.text
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_writes_in_place_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage import objects

    def in_place(there: Any, key: str, content: bytes) -> None:
        path = Path(str(there.prefix), key)
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            for i in range(0, len(content), 2**17):
                file.write(content[i : i + 2**17])
                file.flush()
                time.sleep(0.01)

    monkeypatch.setattr(objects, "put", in_place)
    torn = one("store")
    assert (torn.state, torn.mend) == (FAULT, "use a file system with atomic renames")
    assert "a reader saw" in torn.text
    assert list(tmp_path.iterdir()) == []


def keys(proxy: Proxy) -> set[str]:
    from storage import objects

    return {path for path, _ in objects.listing(objects.connect("s3://bucket/a"))}


def test_a_bucket_is_tried_and_left_as_it_was(s3: Proxy) -> None:  # noqa: F811
    well = one("store", store="s3://bucket/a/b.zarr")
    assert (well.state, well.text.split(": ")[0]) == (OK, "s3://bucket/a/b.zarr")
    assert {r.method for r in s3.seen} >= {"PUT", "GET", "POST"}, "it deletes by POST"
    assert keys(s3) == set()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": 403, "method": "PUT", "times": 99, "code": "AccessDenied"}, "check the access key and its rights"),
        ({"kind": 403, "method": "PUT", "times": 99, "code": "RequestTimeTooSkewed"}, "clock, which is more than 15"),
        ({"kind": "stall", "method": "PUT", "times": 99, "seconds": 1.0}, "cannot be reached"),
    ],
    ids=["forbidden", "late", "lost"],
)
def test_a_bucket_that_may_not_be_written_or_is_lost_is_a_fault(
    s3: Proxy,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setattr(checks_disk, "PATIENCE", 0.5)
    s3.fault(**fault)
    broken = one("store", store="s3://bucket/a/b.zarr")
    assert broken.state == FAULT
    assert said in broken.text
    assert retries.PATIENCE == 100.0, "others are as patient as before"


def test_a_key_that_may_not_delete_is_a_warning_as_sweeps_delete_nothing(s3: Proxy) -> None:  # noqa: F811
    s3.fault(403, method="POST", times=99, code="AccessDenied")
    kept = one("store", store="s3://bucket/a/b.zarr")
    assert (kept.state, "give the key s3:DeleteObject" in kept.mend) == (WARNING, True), kept
    assert "cannot be deleted: forbidden by" in kept.text


def test_a_bucket_that_is_not_there_is_a_fault(s3: Proxy) -> None:  # noqa: F811
    assert "has no such bucket" in one("store", store="s3://other/a.zarr").text
