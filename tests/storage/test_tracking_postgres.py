"""MLflow on PostgreSQL, as a team has it: several sweeps at once, servers killed and restarted, answers lost.

In the end every slice has one run, every step of a metric is there once, and all is what the store alone gives.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.inline import Inline
from storage import runs
from storage.tracking import rebuild, track
from storage.zarr_store import ZarrStore
from sweeps.errors import SweepsError
from sweeps.events import BlockDone, SweepDone
from sweeps.run import run
from sweeps.sweep import Sweep
from tests.deploy.conftest import start, write_toml
from tests.notebook import follow, follow_while, identities, notices, tracked
from tests.proxy import Proxy
from tests.storage.conftest import Team

pytestmark = [pytest.mark.usefixtures("notebook"), pytest.mark.timeout(600)]

SLICES = {"all", "size=2", "size=8"}


# --- outages ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("brisk")
def test_a_server_killed_and_restarted_is_caught_up_with_by_itself(
    team: Team, experiment: str, check: Callable[..., None]
) -> None:
    before: dict[str, str] = {}

    def kill() -> None:
        before.update(identities(team.uri, experiment))
        team.kill()

    events = follow_while(tracked(team.uri, experiment), {4: kill, 7: team.start})
    assert isinstance(events[-1], SweepDone)
    lost, back = notices(events)
    assert lost.startswith(f"tracking server {team.uri} unreachable: connection ")  # refused; aborted as it dies
    assert "; the sweep goes on and tries it again; catch up with `sweeps track " in lost
    assert back == f"tracking server {team.uri} is back; its runs have caught up"
    check(team.uri, experiment)
    after = identities(team.uri, experiment)
    assert set(after) == SLICES
    assert set(before) == {"all"}
    assert before["all"] == after["all"], "the same parent goes on"


@pytest.mark.usefixtures("brisk")
def test_a_server_restarted_after_the_end_is_caught_up_with_by_hand(
    team: Team, experiment: str, check: Callable[..., None]
) -> None:
    events = follow_while(tracked(team.uri, experiment), {10: team.kill})  # half of the children are there
    first, last = notices(events)
    assert "unreachable: connection " in first
    assert last == f"tracking server still unreachable; catch up with `sweeps track {os.path.abspath('sweep.zarr')}`"
    store = ZarrStore.open("sweep.zarr")
    with pytest.raises(SweepsError, match="unreachable: connection refused"):
        rebuild(store, team.uri)
    team.start()
    before = identities(team.uri, experiment)
    rebuild(store, team.uri)
    after = identities(team.uri, experiment)
    assert before.items() <= after.items()
    check(team.uri, experiment)
    assert not notices(follow(tracked(team.uri, experiment))), "and a resumed sweep has nothing to add"
    assert identities(team.uri, experiment) == after
    check(team.uri, experiment)


@pytest.mark.usefixtures("brisk")
def test_a_database_restarted_under_the_server_goes_unnoticed_and_one_that_stays_away_is_told(
    team: Team, experiment: str, check: Callable[..., None]
) -> None:
    database = team.postgres

    def restart() -> None:
        database.kill()
        database.start()

    events = follow_while(tracked(team.uri, experiment), {2: restart, 5: database.kill, 8: database.start})
    lost, back = notices(events)
    assert f"tracking server {team.uri} unreachable: it answers with status 503; the sweep goes on" in lost
    assert "is back" in back
    check(team.uri, experiment)
    assert set(identities(team.uri, experiment)) == SLICES


@pytest.mark.usefixtures("brisk")
def test_an_interrupted_sweep_goes_on_in_the_same_parent(
    team: Team, experiment: str, check: Callable[..., None]
) -> None:
    sweep = tracked(team.uri, experiment)
    store = ZarrStore.create("sweep.zarr", sweep)
    following = track(run(store, Inline("cpu")), store, sweep.track)
    for event in following:
        if isinstance(event, BlockDone) and event.receipt.block == 5:
            team.kill()
        if isinstance(event, BlockDone) and event.receipt.block == 9:  # lost meanwhile
            team.start()
            break
    following.close()  # type: ignore[attr-defined]
    before = identities(team.uri, experiment)
    follow(sweep)
    after = identities(team.uri, experiment)
    assert set(after) == SLICES
    assert before["all"] == after["all"]
    check(team.uri, experiment)


# --- answers that are lost ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("how", ["lost", "reset"])
@pytest.mark.parametrize(
    ("path", "text", "skip"),
    [
        ("experiments/create", "", 0),
        ("runs/create", '"all"', 0),
        ("runs/create", "size=2", 0),
        ("runs/log-batch", '"draws_per_batch"', 1),
        ("runs/log-batch", '"level"', 1),
        ("runs/log-batch", "sweeps.blocks_done", 3),
        ("runs/update", "FINISHED", 0),
        ("runs/update", "FINISHED", 2),
        ("runs/search", "sweeps.key", 2),
        ("figures/level.png", "", 0),
    ],
    ids=[
        "experiment",
        "parent",
        "child",
        "parameters",
        "metrics",
        "tags",
        "end of a child",
        "end of the parent",
        "search",
        "artifact",
    ],
)
def test_a_request_or_an_answer_cut_off_is_asked_again_at_once(
    team: Team, experiment: str, check: Callable[..., None], path: str, text: str, skip: int, how: str
) -> None:
    with Proxy(team.port) as between:
        between.fault(how, path=f"{path}$", text=text, skip=skip)
        events = follow(tracked(between.url, experiment))
    assert [r.fault for r in between.struck()] == [how]
    assert not notices(events)
    assert set(identities(team.uri, experiment)) == SLICES, "and nothing was made twice"
    check(team.uri, experiment)


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("name", ["all", "size=2", "size=8"])
def test_of_two_runs_made_for_a_slice_one_is_left(
    team: Team, experiment: str, check: Callable[..., None], name: str
) -> None:
    with Proxy(team.port) as between:
        between.fault("late", path="runs/create$", text=f'"{name}"')  # comes after the second try, which found none
        follow(tracked(between.url, experiment))
        assert not between.held
    assert set(identities(team.uri, experiment)) == {*SLICES, f"{name} (deleted)"}
    check(team.uri, experiment)


def test_an_experiment_made_meanwhile_is_used(team: Team, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with runs.quiet():
        client = runs.connect(team.uri)
        made = runs.experiment(client, team.uri, experiment)
        look, looked = client.get_experiment_by_name, []
        late = lambda name: look(name) if looked else looked.append(name)  # noqa: E731
        monkeypatch.setattr(client, "get_experiment_by_name", late)
        assert runs.experiment(client, team.uri, experiment) == made


# --- several at once ----------------------------------------------------------------------------------------


def test_several_sweeps_at_once_share_an_experiment(
    team: Team, experiment: str, check: Callable[..., None], tmp_path: Path
) -> None:
    """Three processes make the same experiment; two of them follow the same store."""
    specs = []
    for i, (seed, url) in enumerate([(0, "own.zarr"), (1, "shared.zarr"), (1, "shared.zarr")]):
        (tmp_path / str(i)).mkdir()
        sweep = tracked(team.uri, experiment, seed=seed, store={"url": str(tmp_path / url)})
        specs.append(write_toml(tmp_path / str(i) / "spec.toml", sweep.model_dump(mode="json", exclude_defaults=True)))
    ZarrStore.create(str(tmp_path / "shared.zarr"), Sweep.from_toml(str(specs[1])))
    working = [start("run", path, "--inline", stderr=subprocess.STDOUT) for path in specs]
    said = [process.communicate()[0] for process in working]
    assert [process.returncode for process in working] == [0, 0, 0], said
    for url in ("own.zarr", "shared.zarr"):
        rebuild(ZarrStore.open(url))
    with runs.quiet():
        client = runs.connect(team.uri)
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        listed = client.search_runs([found.experiment_id])
    places = sorted((Path(r.data.tags["sweeps.store"]).name, r.data.tags["sweeps.slice"]) for r in listed)
    assert places == [(url, name) for url in ("own.zarr", "shared.zarr") for name in sorted(SLICES)]
    parents = {r.data.tags["sweeps.store"]: r.info.run_id for r in listed if runs.PARENT not in r.data.tags}
    for run_ in listed:
        assert run_.data.tags.get(runs.PARENT, run_.info.run_id) == parents[run_.data.tags["sweeps.store"]]
    # two drivers of one store may log a step twice, each with its ledger's time; the numbers are the same
    twice = "select count(distinct value) from metrics group by run_uuid, key, step having count(distinct value) > 1"
    assert team.postgres.query(twice, "mlflow") == []
