"""Metadata made in memory is that of Zarr's own consolidation, and silent in every thread."""

from __future__ import annotations

import json

import pytest
import zarr
from zarr.storage import MemoryStore

from storage import metadata


def fill(group: zarr.Group) -> None:
    for name in ("b", "a"):
        group.create_array(name, shape=(4, 2), chunks=(2, 2), dtype="f8", dimension_names=["x", "y"])
    group["a"][:] = 1.0  # pyright: ignore[reportIndexIssue]


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # Zarr's, which is the answer here
def test_it_is_what_zarr_consolidates() -> None:
    contents: dict = {}
    fill(zarr.create_group(MemoryStore(contents), zarr_format=3))
    zarr.consolidate_metadata(MemoryStore(contents))
    theirs = {key: content.to_bytes() for key, content in contents.items()}
    root, members = metadata.made(fill)
    assert json.loads(theirs.pop("zarr.json")) == root
    assert theirs == members
    assert [key for key in members if "/c/" in key] == ["a/c/0/0", "a/c/1/0"]


def test_it_does_not_warn() -> None:
    """Warnings are errors here."""
    root, _ = metadata.made(fill)
    assert list(root["consolidated_metadata"]["metadata"]) == ["a", "b"]
