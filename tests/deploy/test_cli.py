"""The command line as a user meets it: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from storage.zarr_store import ZarrStore
from sweeps import catalog
from sweeps.sweep import Sweep
from tests.conftest import toy_spec
from tests.deploy.conftest import Said, faulty_spec
from tests.storage.test_damage import DAMAGED
from tests.sweeps.test_sweep import BAD

Run = Callable[..., Said]


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_validate_says_what_a_sweep_would_do(sweeps: Run, spec) -> None:
    said = sweeps("validate", spec())
    assert said.code == 0
    assert said.out.startswith("toy: toy, 20 points x 24 draws in 12 blocks\nfingerprint ")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://me:s3cr3t@bucket/a.zarr", "was given with credentials or a query"),
        ("s3://bucket/a.zarr?token=s3cr3t", "was given with credentials or a query"),
        ("s3://bucket/a#1.zarr", "has a '#'"),
        ("file:///data/run#1.zarr", "has a '#'"),
        ("file://results/a.zarr", "names a host, 'results'"),
        ("gopher://hole/a.zarr", "is not one that obstore takes"),
        ("s3://[b", "is no URL"),
        ("a\\u0000b", r"has a control character, '\x00'"),
    ],
)
@pytest.mark.parametrize("command", [("validate",), ("run", "--inline")])
def test_a_place_that_cannot_be_is_one_line(
    sweeps: Run, spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command, url: str, message: str
) -> None:
    """Without asking anybody: the spec may be for another machine."""
    monkeypatch.setattr(socket, "create_connection", None)
    path = spec(store={"url": url})
    before = tree(tmp_path)
    said = sweeps(command[0], path, *command[1:])
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert message in said.err
    assert "s3cr3t" not in said.err
    assert tree(tmp_path) == before


def test_a_bucket_is_valid_without_asking_for_it(sweeps: Run, spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    assert sweeps("validate", spec(store={"url": "s3://bucket/a.zarr"})).code == 0


TOML_CANNOT_SAY = {"one value for an axis"}


@pytest.mark.parametrize("command", ["validate", "run", "estimate"])
@pytest.mark.parametrize("case", [k for k in BAD])
def test_a_bad_spec_is_one_line_exit_2_and_nothing_written(sweeps: Run, spec, tmp_path: Path, command, case) -> None:
    changes, message = BAD[case]
    path = spec(**changes)
    before = tree(tmp_path)
    said = sweeps(command, path)
    assert said.code == 2
    assert said.out == ""
    assert message in said.err
    assert said.err.startswith(f"error: {path}: ")
    assert len(said.err.splitlines()) == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "folding-int"), "did you mean"),
        (("describe", "angel"), "unknown statistic 'angel'; did you mean 'angle'?"),
        (("catalog", "angle-photo"), "unknown catalog sweep 'angle-photo'; did you mean 'angle-photos'?"),
        (("show", "none.zarr"), "none.zarr: no store there"),
        (("plot", "none.zarr"), "none.zarr: no store there"),
        (("verify", "none.zarr"), "none.zarr: no store there"),
        (("gc", "none.zarr"), "none.zarr: no store there"),
        (("track", "none.zarr"), "none.zarr: no store there"),
    ],
)
def test_a_wrong_name_is_one_line_and_exit_2(sweeps: Run, tmp_path: Path, arguments, message: str) -> None:
    said = sweeps(*arguments)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert message in said.err
    assert tree(tmp_path) == {}


def test_a_run_is_shown_drawn_verified_and_resumed(sweeps: Run, spec, tmp_path: Path) -> None:
    path = spec(store={"url": "a.zarr"})
    first = sweeps("run", path, "--inline")
    assert first.code == 0, first.err
    assert "12/12 blocks done" in first.out
    assert "done: a.zarr" in first.out
    again = sweeps("run", path, "--inline")
    assert "all 12 blocks are done already" in again.out

    shown = sweeps("show", "a.zarr", "--select", "size=8", "--select", "colour=red")
    assert shown.code == 0
    assert len([line for line in shown.out.splitlines() if " 24 " in line]) == 5
    assert shown.out.splitlines()[1].split()[-2:] == ["theory", "z"]
    assert sweeps("show", "a.zarr", "--outcome", "positive").out.splitlines()[1].split()[-1] == "theory"
    assert sweeps("show", "a.zarr", "--select", "sise=8").err.startswith(
        "error: unknown axis 'sise'; did you mean 'size'?"
    )
    assert "unknown outcome 'wlk'; did you mean 'walk'?" in sweeps("show", "a.zarr", "--outcome", "wlk").err

    assert sweeps("plot", "a.zarr", "--outcome", "walk").out == "wrote a-walk.png\n"
    assert (tmp_path / "a-walk.png").read_bytes().startswith(b"\x89PNG")
    assert sweeps("plot", "a.zarr", "--outcome", "wlk").code == 2

    assert "4 of 4 blocks are equal to the byte (seed 5)" in sweeps("verify", "a.zarr", "--blocks", 4, "--seed", 5).out
    assert sweeps("gc", "a.zarr").out == "0 leftovers removed\n"


@pytest.mark.usefixtures("mlflow_db", "no_figures")
@pytest.mark.parametrize("out", ["no/such/folder/a.png", "a.jpeg", "a", "."])
def test_a_figure_that_cannot_be_written_is_one_line(sweeps: Run, spec, out: str) -> None:
    sweeps("run", spec(store={"url": "a.zarr"}), "--inline")
    said = sweeps("plot", "a.zarr", "--out", out)
    assert (said.code, len(said.err.splitlines())) == (2, 1)


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_verify_names_a_damaged_block_and_goes_on(sweeps: Run, spec, tmp_path: Path) -> None:
    sweeps("run", spec(store={"url": "a.zarr"}), "--inline")
    chunk = next(p for p in (tmp_path / "a.zarr" / "piece-0" / "walk" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(b"")
    said = sweeps("verify", "a.zarr", "--blocks", 12)
    assert said.code == 3
    assert "of 'walk' cannot be read" in said.err
    assert "11 of 12 blocks are equal" in said.out


READERS = [
    ("show", "a.zarr", "--outcome", "level"),
    ("show", "a.zarr", "--outcome", "level", "--quantiles", "0.5"),
    ("plot", "a.zarr", "--outcome", "level"),
    ("plot", "a.zarr", "--outcome", "level", "--histogram"),
    ("export", "a.zarr", "a.nc"),
    ("export", "a.zarr", "a.csv"),
    ("compact", "a.zarr", "b.zarr"),
]


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_a_damaged_chunk_is_named_by_whatever_reads_it(sweeps: Run, spec, tmp_path: Path) -> None:
    sweeps("run", spec(store={"url": "a.zarr"}), "--inline")
    for name in ("level", "level_histogram"):
        chunk = sorted(p for p in (tmp_path / "a.zarr" / "piece-0" / name / "c").rglob("*") if p.is_file())[-1]
        chunk.write_bytes(b"garbage")
    before, marks = tree(tmp_path), set()
    for command in READERS:
        said = sweeps(*command)
        assert (said.code, len(said.err.splitlines())) == (2, 1), command
        found = re.fullmatch(
            r"error: (?:/.*/)?a\.zarr: block 11 of 'level(?:_histogram)?' cannot be read: .*; "
            r"remove (piece-0/commit/c/.*) from the store and run again to measure it anew\n",
            said.err,
        )
        assert found, (command, said.err)
        marks.add(found[1])
        assert tree(tmp_path) == before
    (tmp_path / "a.zarr" / marks.pop()).unlink()
    assert not marks
    assert sweeps("resume", "a.zarr", "--inline").code == 0
    for command in READERS:
        assert sweeps(*command).code == 0


@pytest.mark.usefixtures("mlflow_db", "no_figures")
@pytest.mark.parametrize("how", ["truncated", "gone"])
def test_a_damaged_piece_is_one_line_of_every_command(sweeps: Run, spec, tmp_path: Path, how: str) -> None:
    path = spec(store={"url": "a.zarr"})
    sweeps("run", path, "--inline")
    DAMAGED[how](tmp_path / "a.zarr" / "piece-0" / "zarr.json")
    others = [("verify", "a.zarr"), ("gc", "a.zarr"), ("track", "a.zarr"), ("extend", "a.zarr", "--draws", 48)]
    others += [("run", path, "--inline"), ("resume", "a.zarr", "--inline")]
    for command in [*READERS, *(others if how == "truncated" else [])]:
        said = sweeps(*command)
        assert (said.code, len(said.err.splitlines())) == (2, 1), command
        assert "a.zarr: piece-0/zarr.json cannot be read: " in said.err
    (tmp_path / "a.zarr" / "piece-0" / "zarr.json").unlink(missing_ok=True)
    assert sweeps("resume", "a.zarr", "--inline").code == 0
    assert sweeps(*READERS[0]).code == 0


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_verify_ends_with_3_where_bytes_differ(sweeps: Run, spec) -> None:
    sweeps("run", spec(store={"url": "a.zarr"}), "--inline")
    ZarrStore.open("a.zarr").group(0)["level"][0, 0, 0, 0, 2] = 7.0
    said = sweeps("verify", "a.zarr", "--blocks", 12)
    assert said.code == 3
    assert "level differ from what measuring it again gives" in said.err
    assert "11 of 12 blocks are equal" in said.out


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_failed_blocks_are_listed_and_the_exit_is_3(sweeps: Run, tmp_path: Path) -> None:
    said = sweeps("run", faulty_spec(tmp_path / "f.toml", bad=3), "--inline")
    assert said.code == 3
    assert "block 3 failed 1 times: ArithmeticError: no answer at value 3" in said.err
    assert "4 blocks failed, 20 are in results/faulty.zarr; try them again with: sweeps run" in said.err


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_a_store_of_another_sweep_is_refused_and_kept(sweeps: Run, spec, tmp_path: Path) -> None:
    sweeps("run", spec(store={"url": "a.zarr"}), "--inline")
    path = spec(store={"url": "a.zarr"}, seed=9)
    before = tree(tmp_path)
    said = sweeps("run", path, "--inline")
    assert said.code == 2
    assert "a.zarr holds another sweep: seed is 3 there, 9 here" in said.err
    assert tree(tmp_path) == before


def test_the_schema_takes_what_we_take_and_refuses_a_typo(sweeps: Run) -> None:
    schema = json.loads(sweeps("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    import tomllib

    for name in catalog.names():
        check.validate(tomllib.loads(catalog.text(name)))
    check.validate(toy_spec(draws=None, batches=3))
    for bad in ({"drawz": 1}, {"statistic": "toi"}, {"axes": {"size": {"linspce": [0, 1, 2]}}}, {"batches": 2}):
        assert not check.is_valid(toy_spec(**bad))


def test_the_catalog_is_listed_printed_and_valid(sweeps: Run) -> None:
    listing = sweeps("catalog").out
    for name in catalog.names():
        assert name in listing
        assert Sweep.from_toml(name).name == name
        assert sweeps("catalog", name).out == catalog.text(name)


@pytest.mark.parametrize("name", ["angle", "folding", "injectivity", "toy"])
def test_describe_names_every_parameter_and_outcome(sweeps: Run, name: str) -> None:
    from sweeps import statistics

    text = sweeps("describe", name).out
    statistic = statistics.get(name)
    for word in (*statistic.parameters.model_fields, *(o.name for o in statistic.outcomes), statistic.source):
        assert word in text
    assert name in sweeps("statistics").out


def test_estimate_counts_and_times(sweeps: Run, spec) -> None:
    said = sweeps("estimate", spec(), "--workers", 2)
    assert said.code == 0, said.err
    assert "20 points, 12 blocks, 480 draws" in said.out
    assert said.out.count("pilot:") == 2
    assert "on 2 workers" in said.out


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_estimate_counts_objects_exactly(sweeps: Run, spec, tmp_path: Path) -> None:
    path = spec(store={"url": "a.zarr"})
    sweeps("run", path, "--inline")
    counted = len(tree(tmp_path / "a.zarr"))
    assert f"in {counted} objects" in sweeps("estimate", path).out


@pytest.mark.usefixtures("mlflow_db", "no_figures")
def test_the_device_is_that_of_the_spec_at_hand(sweeps, spec) -> None:
    """A store made for a GPU is measured on a CPU once its spec says so."""
    store = {"url": "a.zarr"}
    said = sweeps("run", spec(device="cuda", store=store), "--inline")
    assert (said.code, said.err) == (
        2,
        'error: device = "cuda", but this process sees no GPU; give device = "cpu" or "auto"\n',
    )
    assert sweeps("run", spec(device="cpu", store=store), "--inline").code == 0
