"""A small sweep, followed by MLflow, and all that its runs hold as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from actors.inline import Inline
from storage import runs
from storage.tracking import track
from storage.zarr_store import ZarrStore
from sweeps.events import BlockDone, Event, Notice
from sweeps.run import run
from sweeps.sweep import Sweep

BY_SIZE = {"by": "size"}
FIGURES = [f"figures/{name}.png" for name in ("level", "positive", "root", "walk")]


def small(**changes: Any) -> Sweep:
    """Two sizes by three shifts, three batches of four draws: 12 blocks, 6 a size."""
    spec = {
        "name": "small",
        "statistic": "toy",
        "draws": 12,
        "draws_per_batch": 4,
        "points_per_block": 2,
        "axes": {"size": [2, 8], "shift": [1.0, -1.0, 0.0]},
        "fixed": {"steps": 2},
        "track": BY_SIZE,
    }
    return Sweep.of({**spec, **changes})


def follow(sweep: Sweep, url: str = "sweep.zarr") -> list[Event]:
    store = ZarrStore.create(url, sweep)
    return list(track(run(store, Inline("cpu")), store, sweep.track))


def notices(events: list[Event]) -> list[str]:
    return [e.text for e in events if isinstance(e, Notice)]


def content(uri: str | None = None, experiment: str = "sweeps") -> dict[str, dict[str, Any]]:
    """All that the runs hold, by slice; run ids left out."""
    with runs.quiet():
        client = runs.connect(runs.resolve(uri))
        found = client.get_experiment_by_name(experiment)
        listed = client.search_runs([found.experiment_id]) if found else []
        read = {r.data.tags["sweeps.slice"]: _content(client, r) for r in listed}
    assert len(read) == len(listed), "a slice has two runs"
    return read


def _content(client: Any, run: Any) -> dict[str, Any]:
    histories = {k: client.get_metric_history(run.info.run_id, k) for k in run.data.metrics}
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "parameters": run.data.params,
        "tags": {k: v for k, v in run.data.tags.items() if k != runs.PARENT},
        "child": runs.PARENT in run.data.tags,
        "metrics": {k: sorted((m.step, m.value, m.timestamp) for m in h) for k, h in histories.items()},
        "times": (run.info.start_time if runs.PARENT in run.data.tags else None, run.info.end_time),
        "artifacts": sorted(_artifacts(client, run.info.run_id)),
    }


def _artifacts(client: Any, run_id: str, folder: str | None = None) -> Iterator[str]:
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from _artifacts(client, run_id, item.path)
        else:
            yield item.path


def identities(uri: str | None = None, experiment: str = "sweeps") -> dict[str, str]:
    """Run ids by slice; slices of which a run was deleted are marked."""
    from mlflow.entities import ViewType

    with runs.quiet():
        client = runs.connect(runs.resolve(uri))
        found = client.get_experiment_by_name(experiment)
        listed = client.search_runs([found.experiment_id], run_view_type=ViewType.ALL) if found else []
    deleted = {"deleted": " (deleted)"}
    return {f"{r.data.tags['sweeps.slice']}{deleted.get(r.info.lifecycle_stage, '')}": r.info.run_id for r in listed}


def tracked(uri: str, experiment: str, **changes: Any) -> Sweep:
    return small(name=experiment, track={**BY_SIZE, "uri": uri, "experiment": experiment}, **changes)


def follow_while(sweep: Sweep, deeds: dict[int, Callable[[], object]]) -> list[Event]:
    """Follow a sweep; something happens once a block is measured, before the tracker hears of it."""
    store = ZarrStore.create("sweep.zarr", sweep)

    def events() -> Iterator[Event]:
        for event in run(store, Inline("cpu")):
            if isinstance(event, BlockDone) and event.receipt.block in deeds:
                deeds[event.receipt.block]()
            yield event

    return list(track(events(), store, sweep.track))
