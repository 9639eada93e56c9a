"""What a job runs on the cluster: `python -m deploy.driver job.json`. The coordinator of one sweep.

It writes plain lines and boards to the job's log, and ends with the exit statuses of `sweeps run`. Ray stops a job
with SIGTERM and, 3 seconds later, SIGKILL: the command that resumes is said first, before anything can go wrong.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import sys
from contextlib import closing
from importlib import metadata
from pathlib import Path

from deploy import payload as travel
from deploy.board import board
from deploy.exits import FAILED, INTERRUPTED, LISTED, SPENT
from deploy.metrics import meter
from deploy.payload import Payload
from deploy.said import say
from deploy.screen import make_console, show
from deploy.session import Where, made_by, run_store
from storage.objects import is_local, local_path
from storage.zarr_store import ZarrStore
from sweeps import logs
from sweeps.errors import RefusedError, SweepsError
from sweeps.events import SweepDone
from sweeps.sweep import Sweep, TrackSettings

BOARD_LINES = 150  # between boards, at most: they are looked for in the end of the log


def main(arguments: list[str]) -> int:
    try:
        return drive(Payload.read(arguments[0]))
    except SweepsError as error:
        say(f"error: {error}", level=logging.ERROR)
        return 2


def drive(bag: Payload) -> int:
    """Run the sweep of a payload to its end; the exit status.

    Raises:
        RefusedError: client and cluster do not have the same versions.
        SweepsError: as `run_sweep`.
    """
    here = travel.versions()
    said = ", ".join(f"{k} {v}" for k, v in here.items())
    os.environ[logs.FORMAT] = bag.log
    logs.set_up("stdout")
    logs.about(sweep=bag.name, submission_id=bag.id)
    say(f"{bag.id}: {said}, Ray {metadata.version('ray')}, Python {platform.python_version()}")
    differing = travel.differing(bag.versions, here)
    if differing:
        raise RefusedError(f"{differing}; install the same on both, or send this one along with --ship")
    say(f"resume with: {again(bag)}")
    if bag.home is not None:
        os.chdir(bag.home)
    store = _store(bag)
    asked = Sweep.of(bag.sweep) if bag.sweep is not None else store.sweep
    tracking = _tracking(TrackSettings.model_validate(bag.track), bag)
    where = Where(address="auto", workers=bag.workers, nodes=bag.nodes, grows_to=travel.grows_to())
    end = None
    try:
        with closing(
            run_store(store, where, asked.budget, tracking, device=asked.device, tracked=tracking is not None)
        ) as run:
            boards = board(run, store, at_most=BOARD_LINES if bag.log == logs.JSON else math.inf)
            for event in show(meter(boards, store, bag.id), bag.name, make_console()):
                end = event if isinstance(event, SweepDone) else end
    except KeyboardInterrupt:
        say(f"stopped; what is committed is safe in {bag.store}; resume with: {again(bag)}")
        return INTERRUPTED
    return _report(end, bag)


def again(bag: Payload) -> str:
    return bag.again or "deploy.submit(...) of the same sweep"


def _store(bag: Payload) -> ZarrStore:
    if bag.sweep is None:
        return ZarrStore.open(bag.store)
    sent_by = {**(bag.made_by if bag.shipped else made_by()), "ray_submission_id": bag.id}
    return ZarrStore.create(bag.store, Sweep.of(bag.sweep), made_by=sent_by)


def _tracking(settings: TrackSettings, bag: Payload) -> TrackSettings | None:
    """A job's working directory does not last, so no MLflow database may lie there: without a server, the runs go to
    where the job was sent from, else beside the store, else nowhere."""
    if settings.uri or os.environ.get("MLFLOW_TRACKING_URI") or bag.home is not None:
        return settings
    if not is_local(bag.store):
        say("not tracked: set MLFLOW_TRACKING_URI on the cluster, or track.uri; later: sweeps track STORE")
        return None
    uri = f"sqlite:///{Path(local_path(bag.store)).parent / 'mlflow.db'}"
    return settings.model_copy(update={"uri": uri})


def _report(end: SweepDone | None, bag: Payload) -> int:
    if end is not None and end.ended and not end.failed:
        say(f"ended by {end.ended}; {end.missing} blocks are still to be measured")
        return SPENT
    if end is None or not end.failed:
        say(f"done: {bag.store}")
        return 0
    for failure in end.failed[:LISTED]:
        text = f"block {failure.block} failed {failure.attempts} times: {failure.error}"
        say(text, level=logging.ERROR, block=failure.block, attempt=failure.attempts)
    say(f"{len(end.failed)} blocks failed, {end.done} are in {bag.store}; try them again with: {again(bag)}")
    return FAILED


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status == INTERRUPTED:  # nothing is left to do, and to take this interpreter down takes seconds
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)
