"""The runs of one store on one tracking server.

Runs are found again by their key, a tag, and there is one a slice in the end, whatever was lost on the way: an answer
that never came may still have made a run, and two drivers of one store may make the same. So after making runs one
looks again, and of those of one slice the first is kept, in an order that everybody sees alike; the others are deleted.
"""

from __future__ import annotations

import getpass
import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from storage import runs, slices
from storage.query import open_sweep
from storage.slices import WHOLE, Slice
from storage.snapshot import Snapshot
from storage.zarr_store import ZarrStore
from sweeps.agenda import Agenda
from sweeps.events import BlockFailed
from sweeps.sweep import TrackSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARTIFACTS = "sweeps.artifacts"  # committed blocks when they were last logged
QUIET = 900.0  # seconds without a committed block after which a sweep may be taken for dead


class Notebook:
    """The runs of one store on one tracking server. Its methods are idempotent, and raise what MLflow raises."""

    client: MlflowClient
    experiment: str

    def __init__(self, store: ZarrStore, settings: TrackSettings) -> None:
        self.store, self.settings = store, settings
        self.uri = runs.resolve(settings.uri)
        self.parts = slices.children(store.sweep, settings.by)
        self.unwanted = np.zeros(len(store.plan), dtype=bool)  # blocks that `until` will never ask for
        self.found: dict[str, runs.Run] = {}  # by slice
        self.made: set[str] = set()  # ids of the runs made here
        self.written: set[str] = set()  # ids of the runs whose slice was published here

    @property
    def key(self) -> str:
        """What the runs of this sweep in this store share; a hash, because a filter cannot quote every path."""
        text = f"{self.store.sweep.fingerprint}\n{slices.public(self.store.url)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def open(self, done: np.ndarray) -> None:
        """Connect, and look."""
        self.client = runs.connect(self.uri)
        self.experiment = runs.experiment(self.client, self.uri, self.settings.experiment)
        self.found = {}
        self.look(done)

    def look(self, done: np.ndarray) -> None:
        """Find the runs there are, make the parent if there is none, and leave one run a slice, under one parent."""
        self._find()
        if WHOLE.name not in self.found:
            span = slices.span(self.store, done)
            self._run(WHOLE, span[0] if span else time.time_ns() // 10**6)
            self._find()
        for name, run in self.found.items():
            run.tag({runs.PARENT: self.parent.id} if name != WHOLE.name else {})
        self.parent.add(slices.parameters(self.store.sweep, WHOLE), [])

    def _find(self) -> None:
        listed: dict[str, runs.Run] = {}
        for run in runs.find(self.client, self.experiment, self.key):
            if listed.setdefault(run.tags.get("sweeps.slice", ""), run) is not run:
                run.delete()
        self.found |= listed  # a listing may be late; what was made just now stays

    @property
    def parent(self) -> runs.Run:
        return self.found[WHOLE.name]

    def _run(self, part: Slice, start: int) -> runs.Run:
        if part.name not in self.found:
            tags = {**slices.tags(self.store, part), runs.KEY: self.key, **_origin(self.store)}
            tags |= {runs.PARENT: self.parent.id} if part.axis else self._parent_tags()
            name = part.name if part.axis else self.store.sweep.name
            self.found[part.name] = runs.create(self.client, self.experiment, name, tags, start)
            self.made.add(self.found[part.name].id)
        return self.found[part.name]

    def _parent_tags(self) -> dict[str, str]:
        why = slices.too_many(self.store.sweep, self.settings.by)
        return {"mlflow.note.content": slices.note(self.store), **({"sweeps.children": why} if why else {})}

    def is_published(self, part: Slice) -> bool:
        run = self.found.get(part.name)
        return run is not None and (run.id in self.written or (part != WHOLE and run.status == "FINISHED"))

    def replay(self) -> None:
        """Know from the store which blocks will never be asked for."""
        agenda = Agenda(self.store)
        for _ in agenda.start():
            pass
        self.unwanted = agenda.closed & ~agenda.done

    def settled(self, tile: int, batches: int) -> None:
        """A tile will ask for no batch beyond so many."""
        self.unwanted.reshape(self.store.plan.batches, -1)[batches:, tile] = True

    def is_complete(self, done: np.ndarray) -> bool:
        return bool((done | self.unwanted).all())

    def ready(self, done: np.ndarray) -> list[Slice]:
        """Slices that are complete and not yet published."""
        cut, sweep, closed = self.store.plan, self.store.sweep, done | self.unwanted
        parts = self.parts or (WHOLE,)
        return [p for p in parts if not self.is_published(p) and slices.complete(cut, sweep, p, closed)]

    def publish(self, done: np.ndarray) -> None:
        """Everything that the committed blocks settle."""
        if self._publish(self.ready(done), done):
            self.look(done)
            self._publish(self.ready(done), done)  # where another's run was kept
        self.parent.add({}, slices.progress(self.store, done))
        self.parent.tag(counts(done))

    def _publish(self, parts: Sequence[Slice], done: np.ndarray) -> bool:
        if parts:
            held, ds = Snapshot(self.store, done), open_sweep(self.store.url)
            for part in parts:
                self._write(part, held, ds)
        return bool(parts)

    def _write(self, part: Slice, held: Snapshot, ds: xr.Dataset) -> None:
        curve = slices.curve(self.store, held, ds, part, max(1, len(self.parts)))
        run = self._run(part, curve.start)
        run.add(slices.parameters(self.store.sweep, part), curve.entries)
        run.tag({"sweeps.steps": curve.steps} if curve.steps else {})
        if part != WHOLE:
            run.end("FINISHED", curve.end)
        self.written.add(run.id)

    def end(self, status: str, done: np.ndarray, failed: Sequence[BlockFailed] = (), spent: str = "") -> None:
        """Close the parent run, as of the last committed block; `spent` names the budget that ended the sweep."""
        span = slices.span(self.store, done)
        ended = span[1] if span else self.parent.ended or time.time_ns() // 10**6
        tags = {**counts(done), "sweeps.blocks_failed": str(len(failed))}
        if failed or "sweeps.failure" in self.parent.tags:
            tags["sweeps.failure"] = _failure(failed[0]) if failed else ""
        if spent or "sweeps.ended_by" in self.parent.tags:
            tags["sweeps.ended_by"] = spent
        self.parent.tag(tags)
        self.parent.end(status, ended)

    def settle(self, done: np.ndarray) -> None:
        """Close the parent run by what the store alone says. A failure noted before stays noted, and a run that
        somebody keeps stays open as long as blocks are committed."""
        if self.is_complete(done):
            self.end("FINISHED", done)
        elif self.parent.status != "FAILED" and not self._is_kept(done):
            self.end("KILLED", done)

    def _is_kept(self, done: np.ndarray) -> bool:
        span = slices.span(self.store, done)
        is_alive = span is not None and time.time() - span[1] / 1e3 < QUIET
        return self.parent.status == "RUNNING" and self.parent.id not in self.made and is_alive

    def illustrate(self, done: np.ndarray) -> None:
        """Spec, environment and figures of what is defined, once for every number of committed blocks."""
        drawn = str(int(done.sum()))
        if self.parent.tags.get(ARTIFACTS) == drawn:
            return
        self.parent.text("spec.json", slices.spec(self.store))
        self.parent.text("environment.json", slices.environment(self.store))
        if done.any():
            from storage.figures import draw

            ds = open_sweep(self.store.url)
            for outcome in self.store.sweep.definition.outcomes:
                if ds[outcome.name].notnull().any():
                    self.parent.figure(f"figures/{outcome.name}.png", draw(ds, outcome.name))
        self.parent.tag({ARTIFACTS: drawn})


def _failure(first: BlockFailed) -> str:
    return f"block {first.block}: {first.error}"[: slices.MAX_TEXT]


def counts(done: np.ndarray) -> dict[str, str]:
    return {"sweeps.blocks": str(len(done)), "sweeps.blocks_done": str(int(done.sum()))}


def _origin(store: ZarrStore) -> dict[str, str]:
    """Who and what made a run, as far as the store remembers."""
    made_by = slices.environment(store).get("made_by", {})
    found = {
        "mlflow.source.name": "sweeps",
        "mlflow.source.git.commit": made_by.get("git_commit", ""),
        "mlflow.user": _user(),
        "sweeps.ray_submission_id": made_by.get("ray_submission_id", ""),
    }
    return {key: value for key, value in found.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
