"""Zarr metadata made in memory: what is to be put, and that of a group with its members' consolidated in it.

Zarr's own `consolidate_metadata` warns at every call that other readers may ignore what it makes, and a warning
cannot be silenced in one thread alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import zarr
from zarr.storage import MemoryStore

FILE = "zarr.json"


def made(fill: Callable[[zarr.Group], object]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A group with what `fill` creates in it: its metadata, and all other objects by key."""
    contents: dict[str, Any] = {}
    fill(zarr.create_group(MemoryStore(contents), zarr_format=3))
    objects = {key: contents[key].to_bytes() for key in sorted(contents)}
    root = json.loads(objects.pop(FILE))
    members = {k.removesuffix(f"/{FILE}"): json.loads(v) for k, v in objects.items() if k.endswith(f"/{FILE}")}
    return consolidated(root, members), objects


def consolidated(group: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a group, with its members' where readers such as xarray look for it."""
    return {**group, "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": members}}
