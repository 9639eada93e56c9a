"""A sweep on S3: a real server on loopback, and everything that a network and a busy server do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import obstore
import pytest

from actors.inline import Inline
from deploy.cli import main
from storage import retries
from storage.objects import connect, get, listing
from storage.query import open_sweep
from storage.zarr_store import ZarrStore
from sweeps.blocks import plan
from sweeps.errors import StoreError
from sweeps.events import BlockDone, SweepDone
from sweeps.run import perform, run
from sweeps.sweep import Sweep
from tests.conftest import SpecMaker
from tests.proxy import Proxy
from tests.storage.test_objects import KINDS, URL, strike
from tests.storage.test_store import TestContract as StoreContract

SMALL: dict[str, Any] = {"axes": {"size": [2], "shift": [0, 1], "colour": ["red"]}, "draws": 16}  # two blocks
OBJECTS = 6  # of a block: four outcomes, a histogram, the mark


@pytest.fixture
def undisturbed(toy: SpecMaker, tmp_path: Any) -> Callable[..., str]:
    """The hash of the same sweep in a local store."""

    def content_hash(**changes: Any) -> str:
        return measured(str(tmp_path / "undisturbed.zarr"), toy(**changes)).content_hash()

    return content_hash


def measured(url: str, sweep: Sweep) -> ZarrStore:
    store = ZarrStore.create(url, sweep)
    *_, end = run(store, Inline("cpu"))
    assert end == SweepDone(len(plan(store.sweep)))
    return ZarrStore.open(url)


class TestContract(StoreContract):
    """What any store promises."""

    @pytest.fixture
    def store(self, toy: SpecMaker, s3: Proxy) -> ZarrStore:
        return ZarrStore.create(URL, toy())


# --- faults ---

STAGES = {
    "create": ("PUT", r"zarr\.json$"),
    "chunk": ("PUT", "/level/c/"),
    "mark": ("PUT", "/commit/c/"),
    "list": ("GET", "list-type=2"),
    "root": ("GET", r"/a\.zarr/zarr\.json$"),
    "get": ("GET", "/(level|commit)/c/"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_any_stage_changes_no_bit(
    s3: Proxy,
    toy: SpecMaker,
    undisturbed: Callable[..., str],
    kind: str | int,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, path = STAGES[stage]
    times = strike(s3, kind, monkeypatch, method=method, path=path)
    store = measured(URL, toy(**SMALL))
    assert store.content_hash() == undisturbed(**SMALL)
    assert [r.fault for r in s3.struck()] == [kind] * times
    assert len(store.receipts()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_that_is_not_there_is_not_there_whatever_happens(
    s3: Proxy, toy: SpecMaker, kind: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = strike(s3, kind, monkeypatch, method="GET", path="/commit/c/")
    store = ZarrStore.create(URL, toy(**SMALL))
    assert store.receipt(plan(store.sweep)[1]) is None
    assert [r.fault for r in s3.struck()] == [kind] * times


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_at_random_lose_and_tear_nothing(
    s3: Proxy, toy: SpecMaker, undisturbed: Callable[..., str], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "TIMEOUT", 2.0)
    s3.random.seed(seed)
    for kind in KINDS:
        rare = kind in ("slow", "stall")
        s3.fault(kind, 1 if rare else 30, chance=0.03, seconds=2.5 if rare else 0.1)
    store = measured(URL, toy())
    assert store.content_hash() == undisturbed()
    assert len({r.fault for r in s3.struck()}) >= 5
    s3.clear()
    assert store.content_hash() == undisturbed()
    assert all(store.verify(block, "cpu") == [] for block in plan(store.sweep))
    expected = {k for k, _ in listing(connect(measured("local.zarr", toy()).url))}
    assert {key for key, _ in listing(connect(URL))} == expected


@pytest.mark.parametrize("stage", STAGES)
def test_an_outage_ends_in_one_line_and_is_resumed(
    s3: Proxy,
    toy: SpecMaker,
    undisturbed: Callable[..., str],
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, path = STAGES[stage]
    if stage != "create":
        store = ZarrStore.create(URL, toy(**SMALL))
        perform(plan(store.sweep)[1], store, "cpu")
    s3.fault("reset", float("inf"), method=method, path=path)
    with monkeypatch.context() as short:
        short.setattr(retries, "PATIENCE", 1.0)
        with pytest.raises(StoreError) as error:
            measured(URL, toy(**SMALL)).content_hash()
    assert f"{s3.url} cannot be reached: connection lost; check AWS_ENDPOINT_URL" in str(error.value)
    assert str(error.value).startswith("s3://bucket/a.zarr cannot be ")
    assert "\n" not in str(error.value)
    assert s3.struck()
    s3.clear()
    assert measured(URL, toy(**SMALL)).content_hash() == undisturbed(**SMALL)


def test_reading_during_an_outage_is_an_error_and_never_a_gap(
    s3: Proxy, toy: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(URL, toy(**SMALL))
    monkeypatch.setattr(retries, "PATIENCE", 0.3)
    ds = open_sweep(URL)
    s3.fault(503, float("inf"), code="SlowDown")
    with pytest.raises(StoreError, match=r"s3://bucket/a\.zarr cannot be read: .* answered 503 .*, SlowDown"):
        ds.level.load()


# --- how much is asked ---


def asked(s3: Proxy) -> Counter[str]:
    return Counter(r.method + (" list" if "list-type" in r.path else "") for r in s3.seen)


def test_a_block_is_one_request_an_object(s3: Proxy, toy: SpecMaker) -> None:
    store = ZarrStore.create(URL, toy())
    perform(plan(store.sweep)[0], store, "cpu")  # the metadata is read once
    s3.clear()
    for block in plan(store.sweep):
        perform(block, store, "cpu")
    assert asked(s3) == {"PUT": OBJECTS * len(plan(store.sweep))}


def test_opening_is_lazy_and_a_selection_reads_its_chunks_alone(s3: Proxy, toy: SpecMaker) -> None:
    store = measured(URL, toy())
    local = open_sweep(measured("local.zarr", toy()).url)
    batches = store.sweep.batches
    s3.clear()
    ds = open_sweep(URL)
    assert asked(s3) == {"GET": 2, "GET list": 2}, "the root, its folders, the metadata of the piece, and the marks"
    s3.clear()
    chosen = ds.sel(size=8, shift=0.5, colour="red")
    assert asked(s3) == {}
    assert float(chosen.level) == float(local.level.sel(size=8, shift=0.5, colour="red"))
    assert asked(s3) == {"GET": batches}, "a chunk a batch"
    s3.clear()
    assert float(chosen.level_ci_low) < float(chosen.level) < float(chosen.level_ci_high)
    assert asked(s3) == {}, "what one selection has read is kept"


def test_a_thousand_marks_and_more_are_all_found(s3: Proxy, toy: SpecMaker) -> None:
    sweep = toy(draws=275, draws_per_batch=1)
    store = ZarrStore.create(URL, sweep)
    cut = plan(store.sweep)
    assert len(cut) == 1100
    perform(cut[0], store, "cpu")
    objects = connect(URL)
    [first] = [key for key, _ in listing(objects) if "commit/c/" in key]
    folder, mark = first.partition("commit/c/")[0], get(objects, first)
    present = [i for i in range(len(cut)) if i % 50]
    keys = [f"{folder}commit/c/" + "/".join(map(str, (*cut[i].tile, cut[i].batch))) for i in present]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: obstore.put(objects, key, mark), keys))
    s3.clear()
    s3.fault("half", 1, path="(continuation-token|start-after)=")
    assert np.flatnonzero(store.done()).tolist() == [0, *present]
    assert len(s3.struck()) == 1


# --- commands ---


def sweeps(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_commands_work_on_a_url(s3: Proxy, toy: SpecMaker, capsys: pytest.CaptureFixture[str]) -> None:
    store = measured(URL, toy())
    code, out, _ = sweeps("verify", URL, "--blocks", "12", capsys=capsys)
    assert (code, out.startswith("12 of 12 blocks are equal to the byte")) == (0, True)
    before = {key: get(connect(URL), key) for key, _ in listing(connect(URL))}
    assert sweeps("gc", URL, capsys=capsys)[:2] == (0, "0 leftovers removed\n")
    assert {key: get(connect(URL), key) for key, _ in listing(connect(URL))} == before
    assert sweeps("show", URL, "--select", "size=8", capsys=capsys)[0] == 0
    obstore.delete(connect(URL), next(key for key in sorted(before) if "walk/c/" in key))
    code, _, err = sweeps("verify", URL, "--blocks", "12", capsys=capsys)
    assert code == 3
    assert "block 0: walk differ" in err
    assert store.content_hash() != measured("local.zarr", toy()).content_hash()


@pytest.mark.parametrize("command", ["show", "verify", "gc", "plot", "track"])
def test_a_command_told_of_an_outage_is_one_line(
    s3: Proxy, toy: SpecMaker, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PATIENCE", 0.3)
    s3.fault(500, float("inf"), code="InternalError")
    code, _, err = sweeps(command, URL, capsys=capsys)
    assert code == 2
    reason = f"{s3.url} answered 500 Internal Server Error, InternalError"
    assert err == f"error: s3://bucket/a.zarr cannot be read: {reason}\n"


def test_two_writers_of_one_sweep_agree(s3: Proxy, toy: SpecMaker, undisturbed: Callable[..., str]) -> None:
    stores = [ZarrStore.create(URL, toy()) for _ in range(2)]
    events = [list(run(store, Inline("cpu"))) for store in stores]
    assert [sum(isinstance(e, BlockDone) for e in found) for found in events] == [12, 0]
    for block in plan(stores[1].sweep):
        perform(block, stores[1], "cpu")
    assert stores[0].content_hash() == undisturbed()
