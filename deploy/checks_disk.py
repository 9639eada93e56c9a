"""What `sweeps doctor` tries of storage: room on the disks, and a store, by writing to it and taking all away again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.doctor import FAULT, OK, WARNING, Finding, Patient
from deploy.screen import size
from storage.urls import is_local, local_path
from sweeps.errors import NoStoreError, StoreError

LITTLE, NONE = 2 * 10**9, 200 * 10**6  # bytes free
SHARED = 512 * 2**20  # bytes of /dev/shm; containers have 64 MiB unless told
RAY_FULL = 0.95  # of a disk, from where on Ray takes no more objects
PATIENCE = 10.0  # seconds that a bucket is tried for
SIZE, TIMES = 2**20, 8  # bytes of an object that is put over and over, and read meanwhile


def disk(patient: Patient) -> Iterator[Finding]:
    """Room where the store, Ray's sessions and compiled code lie, and for Ray's objects in memory."""
    places = {"Ray's sessions": _existing(Path(os.environ.get("RAY_TMPDIR") or "/tmp"))}
    if is_local(patient.store):
        places["the store"] = _existing(Path(local_path(patient.store)))
    if os.environ.get("NUMBA_CACHE_DIR"):
        places["compiled code"] = _existing(Path(os.environ["NUMBA_CACHE_DIR"]))
    for what, path in places.items():
        yield _room(what, path)
    shared = Path("/dev/shm")
    if not shared.exists() or shutil.disk_usage(shared).total < SHARED:
        text = f"/dev/shm has less than {size(SHARED)}: Ray keeps its objects on disk, which is slow"
        yield Finding("disk", WARNING, text, "give a container more, such as --shm-size=2g")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.is_dir())


def _room(what: str, path: Path) -> Finding:
    use, inodes = shutil.disk_usage(path), os.statvfs(path)
    text = f"{size(use.free)} of {size(use.total)} are free at {path}, for {what}"
    mend = "make room: what is committed stays whole, and running again resumes"
    full = what.startswith("Ray") and 1 - use.free / use.total > RAY_FULL
    if full:
        return Finding("disk", FAULT, f"{text}; over {RAY_FULL:.0%} full, Ray stores no more objects", mend)
    if inodes.f_files and inodes.f_favail < 1000:
        return Finding("disk", FAULT, f"{text}, but room for {inodes.f_favail} more files only", mend)
    if use.free < NONE:
        return Finding("disk", FAULT, text, mend)
    return Finding("disk", WARNING if use.free < LITTLE else OK, text, mend if use.free < LITTLE else "")


def store(patient: Patient) -> Iterator[Finding]:
    """A store that is there is opened; where it is or would be, objects are created, replaced, listed and deleted."""
    from storage.retries import impatient

    with impatient(PATIENCE):
        with contextlib.suppress(NoStoreError, FileNotFoundError):
            held = _held(patient.store)
            yield held
            if held.state == FAULT:
                return
        try:
            yield from _tried(patient.store)
        except (StoreError, OSError) as error:
            yield Finding("store", FAULT, str(error), "mend that, or give another store.url")


def _held(url: str) -> Finding:
    from storage.zarr_store import ZarrStore

    try:
        held = ZarrStore.open(url)
        done = held.done()
    except NoStoreError:
        raise
    except StoreError as error:
        return Finding("store", FAULT, str(error), "see docs/stores.md, Damage")
    return Finding("store", OK, f"{url} holds {held.sweep.name}: {done.sum()} of {len(done)} blocks are committed")


def _tried(url: str) -> Iterator[Finding]:
    from storage import objects

    place = str(_existing(Path(local_path(url)))) if is_local(url) else url
    there = objects.connect(place)
    prefix = f"sweeps-doctor-{secrets.token_hex(6)}"
    try:
        wrong = list(_wrong(there, prefix))
    finally:
        with contextlib.suppress(Exception):  # what could not be written cannot be removed
            _remove(there, prefix, place)
    for state, text, mend in wrong:
        yield Finding("store", state, f"{place}: {text}", mend)
    if not wrong:
        how = "objects were created once only, replaced whole, listed and deleted"
        yield Finding("store", OK, f"{place}: {how}")


def _wrong(there: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    """(state, what is wrong, what mends it), where something is."""
    from obstore.exceptions import BaseError

    from storage import objects
    from storage.reasons import first_line

    key = f"{prefix}/once"
    first, second = (secrets.token_bytes(32) for _ in range(2))
    objects.create_only(there, key, first)
    if objects.create_only(there, key, second) or objects.get(there, key) != first:
        why = "of two that extend a store at once, one would be lost"
        yield FAULT, f"an object was created where one was: {why}", "use a store that keeps If-None-Match"
    if torn := _torn(there, f"{prefix}/whole"):
        yield FAULT, f"{torn} of an object that was being replaced", "use a file system with atomic renames"
    listed = {path for path, _ in objects.listing(there, prefix)}
    if listed != {key, f"{prefix}/whole"}:
        yield FAULT, f"a listing shows {len(listed)} of 2 objects that are there", "use one with consistent listings"
    try:
        _delete(there, [key, f"{prefix}/whole"])
    except BaseError as error:
        why = f"what was tried cannot be deleted: {first_line(error)}"
        yield WARNING, why, f"sweeps delete nothing; remove {prefix}, or give the key s3:DeleteObject"
    else:
        if left := list(objects.listing(there, prefix)):
            yield FAULT, f"{len(left)} of 2 deleted objects are still listed", "use one with consistent listings"


def _torn(there: Any, key: str) -> str:
    """What a reader saw while an object was put over and over; empty if always one or the other whole."""
    from storage import objects

    contents = [bytes([i]) * SIZE for i in range(2)]
    objects.put(there, key, contents[0])
    seen: set[str] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                found = objects.get(there, key)
            except FileNotFoundError:
                seen.add("nothing")
            except StoreError as error:
                seen.add(f"an error ({error})")
            else:
                seen.update(["a part"] if found not in contents else [])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        for i in range(TIMES):
            objects.put(there, key, contents[(i + 1) % 2])
    finally:
        ended.set()
        reader.join()
    return f"a reader saw {' and '.join(sorted(seen))}" if seen else ""


def _delete(there: Any, keys: list[str]) -> None:
    import obstore

    from storage.retries import patiently

    for key in keys:
        with contextlib.suppress(FileNotFoundError):
            patiently(lambda key=key: obstore.delete(there, key))


def _remove(there: Any, prefix: str, place: str) -> None:
    from storage import objects

    if is_local(place):
        shutil.rmtree(Path(local_path(place)) / prefix, ignore_errors=True)
    else:
        _delete(there, [path for path, _ in objects.listing(there, prefix)])
