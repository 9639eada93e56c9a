"""A store with a damaged object: which one it is, what to do about it, and that this brings back what was there."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.zarr_store import ZarrStore
from sweeps.errors import StoreError
from sweeps.extension import grown
from tests.conftest import SpecMaker
from tests.storage.test_store import files, fill


@pytest.fixture
def store(toy: SpecMaker, tmp_path: Path) -> ZarrStore:
    return ZarrStore.create(str(tmp_path / "a.zarr"), toy())


def test_a_damaged_chunk_is_named_and_can_be_measured_anew(store: ZarrStore, tmp_path: Path) -> None:
    fill(store)
    whole = store.content_hash()
    [chunk, *_] = sorted(p for p in (tmp_path / "a.zarr" / "piece-0" / "level" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(
        StoreError, match=r"of 'level' cannot be read: .*; remove piece-0/commit/c/[0-9/]+ from the store"
    ) as error:
        store.content_hash()
    mark = str(error.value).split("remove ")[1].split(" ")[0]
    (tmp_path / "a.zarr" / mark).unlink()
    fill(store)
    assert store.content_hash() == whole


DAMAGED = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:100]),
    "empty": lambda file: file.write_bytes(b""),
    "no text": lambda file: file.write_bytes(b"\xff\xfe" * 50),
    "of somebody else": lambda file: file.write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}'),
    "without an array": lambda file: file.write_text(file.read_text().replace('"walk"', '"talk"')),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_piece_is_named_and_made_anew(store: ZarrStore, tmp_path: Path, how: str) -> None:
    fill(store)
    whole, file = store.content_hash(), tmp_path / "a.zarr" / "piece-0" / "zarr.json"
    before = file.read_bytes()
    DAMAGED[how](file)
    said = r"a\.zarr: piece-0/zarr\.json cannot be read: .*; remove what is left of it, and `sweeps resume` makes it"
    with pytest.raises(StoreError, match=said) as error:
        ZarrStore.open(store.url).content_hash()
    assert "\n" not in str(error.value)
    file.unlink(missing_ok=True)
    ZarrStore.open(store.url).prepare()
    assert file.read_bytes() == before
    assert ZarrStore.open(store.url).content_hash() == whole


def test_a_damaged_store_is_not_extended(store: ZarrStore, tmp_path: Path) -> None:
    DAMAGED["truncated"](tmp_path / "a.zarr" / "piece-0" / "zarr.json")
    before = files(tmp_path)
    with pytest.raises(StoreError, match=r"piece-0/zarr\.json cannot be read"):
        ZarrStore.extend(store.url, lambda now: grown(now, draws=48))
    assert files(tmp_path) == before


def test_a_damaged_root_or_extension_is_named(store: ZarrStore, tmp_path: Path) -> None:
    ZarrStore.extend(store.url, lambda now: grown(now, draws=48))
    for name in ("extension-1/zarr.json", "zarr.json"):
        DAMAGED["truncated"](tmp_path / "a.zarr" / name)
        with pytest.raises(StoreError, match=rf"a\.zarr: {name} is damaged: .*; put back a copy of it$"):
            ZarrStore.open(store.url)
