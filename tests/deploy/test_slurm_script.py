"""The batch script as text, and what is refused before Slurm is asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from deploy.cluster import await_nodes
from deploy.settings import resolve, variable
from deploy.slurm import settings
from deploy.slurm.script import BODY, script
from deploy.slurm.settings import Slurm
from deploy.slurm.submit import environment
from sweeps.errors import SpecError
from tests.deploy.conftest import Said, faulty_spec

ROOT = Path(__file__).parents[2]
KEY = "sweep-0123456789abcdef"
Run = Callable[..., Said]

WHOLE_NODES = """\
#!/bin/bash
# A sweep with a Ray cluster of its own, as `sweeps submit --slurm` writes it.
#SBATCH --job-name=sweep-0123456789abcdef
#SBATCH --output=.sweeps/slurm/sweep-0123456789abcdef/%j.log
#SBATCH --open-mode=append
#SBATCH --dependency=singleton
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --mem=0
#SBATCH --signal=B:TERM@120
#SBATCH --exclusive
#SBATCH --requeue

folder=.sweeps/slurm/sweep-0123456789abcdef
python=/opt/python
gpus=0
requeues=10
temp_dir=/tmp
"""
PARTS = """\
#!/bin/bash
# A sweep with a Ray cluster of its own, as `sweeps submit --slurm` writes it.
#SBATCH --job-name=sweep-0123456789abcdef
#SBATCH --output=.sweeps/slurm/sweep-0123456789abcdef/%j.log
#SBATCH --open-mode=append
#SBATCH --dependency=singleton
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=2
#SBATCH --mem=64G
#SBATCH --time=1-12:00:00
#SBATCH --partition=gpu,long
#SBATCH --account=group.x
#SBATCH --qos=normal
#SBATCH --signal=B:TERM@300
#SBATCH --requeue

module load cuda
source ~/it\\'s/bin/activate
folder=.sweeps/slurm/sweep-0123456789abcdef
python='/opt/my python'"'"'s'
gpus=2
requeues=0
temp_dir=/scratch/local
"""
MANY = {
    **{"nodes": 4, "cpus_per_node": 16, "gpus_per_node": 2, "memory": "64G", "time": "1-12:00:00", "grace": 300},
    **{"partition": "gpu,long", "account": "group.x", "qos": "normal", "requeues": 0, "temp_dir": "/scratch/local"},
    "setup": ["module load cuda", "source ~/it\\'s/bin/activate"],
}


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for field in Slurm.model_fields:
        monkeypatch.delenv(variable("slurm", field), raising=False)


@pytest.mark.parametrize(
    ("given", "python", "head"), [({}, "/opt/python", WHOLE_NODES), (MANY, "/opt/my python's", PARTS)]
)
def test_the_script_is_what_was_asked_for_and_a_body_that_never_differs(
    given: dict[str, object], python: str, head: str
) -> None:
    text = script(Slurm.model_validate(given), KEY, python)
    assert text == head + BODY.read_text()
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_reads_the_values_as_they_are_and_nothing_of_them_is_run() -> None:
    odd = "/a b/$(touch bad)`touch bad`\n#SBATCH --wrap=x'\""
    text = script(Slurm(), KEY, odd).removesuffix(BODY.read_text()) + '\nprintf %s "$python"'
    ran = subprocess.run(["bash"], input=text, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == (odd, "")
    assert not Path("bad").exists()


def test_the_script_ends_only_what_it_has_started() -> None:
    text = BODY.read_text()
    for word in ("ray stop", "pkill", "killall", "kill -9", "scancel"):
        assert word not in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("12:00:00", 43200),
        ("1:2:3", 3723),
        ("2-3", 183600),
        ("2-3:4", 183840),
        ("2-03:04:05", 183845),
    ],
)
def test_times_are_slurms(text: str, seconds: int) -> None:
    assert settings.seconds(text) == seconds
    assert resolve("slurm", {"time": text}).model_dump()["time"] == text


FORMS = "is minutes, minutes:seconds, hours:minutes:seconds, days-hours"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("time", "1h", FORMS),
        ("time", "12:00:00:00", FORMS),
        ("time", "5\n#SBATCH --uid=0", FORMS),
        ("time", "٣", FORMS),
        ("time", "0", "is above 0"),
        ("partition", "gpu --uid=0", "is letters, digits and"),
        ("partition", "gpu\n#SBATCH --uid=0", "is letters, digits and"),
        ("partition", "--wrap", "is letters, digits and"),
        ("account", "$(id)", "is letters, digits and"),
        ("qos", "", "is letters, digits and"),
        ("memory", "64 G", "is a number with K, M, G or T"),
        ("memory", "lots", "is a number with K, M, G or T"),
        ("temp_dir", "tmp", "is a path from / of at most 20"),
        ("temp_dir", "/tmp/$(id)", "is a path from / of at most 20"),
        ("temp_dir", "/scratch/of/a/group/1", "is a path from / of at most 20"),
        ("setup", ["a\nb"], "has lines of shell, each a text without line breaks"),
        ("nodes", 0, "should be greater than or equal to 1"),
        ("grace", 5, "should be greater than or equal to 30"),
        ("requeues", -1, "should be greater than or equal to 0"),
    ],
)
def test_a_wrong_setting_is_one_line(field: str, value: object, said: str) -> None:
    with pytest.raises(SpecError) as error:
        resolve("slurm", {field: value})
    assert str(error.value).startswith(f"slurm.{field}")
    assert said in str(error.value)
    assert repr(value if field != "setup" else "a\nb") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_time_within_the_grace_is_refused() -> None:
    said = r"^slurm\.time \(from --time\) leaves nothing before the 120 s of grace; give more, or a shorter grace"
    with pytest.raises(SpecError, match=said):
        resolve("slurm", {"time": "2"})
    assert resolve("slurm", {"time": "2", "grace": 60})


def test_numbers_of_a_settings_file_are_times_and_memory_too() -> None:
    Path("sweeps.toml").write_text("[slurm]\ntime = 90\nmemory = 4000\nsetup = ['module load cuda']\n")
    held = resolve("slurm").model_dump()
    assert (held["time"], held["memory"], held["setup"]) == ("90", "4000", ("module load cuda",))


def test_a_dry_run_prints_the_script_and_does_nothing(
    sweeps: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@host")
    spec = faulty_spec(tmp_path / "a.toml")
    said = sweeps("submit", spec, "--slurm", "--dry-run", "--nodes", 3, "--time", "1:00:00", "--set", "slurm.qos=low")
    assert (said.code, said.err) == (0, "")
    assert {"#SBATCH --nodes=3", "#SBATCH --time=1:00:00", "#SBATCH --qos=low"} <= set(said.out.splitlines())
    assert said.out.endswith(BODY.read_text())
    assert "hush" not in said.out
    assert [p.name for p in tmp_path.iterdir()] == ["a.toml"]


def test_a_machine_without_slurm_says_so(sweeps: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = sweeps("submit", faulty_spec(tmp_path / "a.toml"), "--slurm")
    assert (said.code, said.out) == (2, "")
    assert said.err == "error: no squeue here; submit from a login node of the cluster, or look with --dry-run\n"
    assert not Path(".sweeps").exists()


def test_sbatch_hears_of_no_variable_that_counts_more_than_the_script() -> None:
    ours = {"SBATCH_ARRAY_INX", "SBATCH_ERROR", "SBATCH_GPUS_PER_NODE", "SBATCH_JOB_NAME", "SBATCH_NO_REQUEUE"}
    ours |= {"SBATCH_OPEN_MODE", "SBATCH_OUTPUT", "SBATCH_SIGNAL", "SBATCH_WAIT"}
    others = {"SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_TIMELIMIT", "SBATCH_MEM_PER_NODE"}
    per_part = {"SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU"}
    theirs = {"PATH", "WAIT", "SBATCH_CLUSTERS", "SBATCH_CONSTRAINT", "SBATCH_EXPORT"}
    known = dict.fromkeys(ours | others | per_part | theirs, "x")
    assert set(environment(Slurm(), known)) == theirs | others
    assert set(environment(Slurm(cpus_per_node=2), known)) == theirs | others | per_part
    assert set(environment(Slurm.model_validate(MANY), known)) == theirs


def test_the_guide_lists_every_setting_with_what_it_says_of_itself() -> None:
    guide = (ROOT / "docs" / "slurm.md").read_text()
    for name, field in Slurm.model_fields.items():
        default = "" if field.default in (None, ()) else f"{field.default}"
        assert f"| `{name}` | {default} | {field.description} |" in guide, name


def nodes(*cores: float) -> list[dict[str, object]]:
    """As Ray lists them: a head without cores, a node that is gone, and others."""
    alive = [{"Alive": True, "Resources": {"memory": 1.0, "CPU": n}} for n in (0.0, *cores)]
    return [*alive, {"Alive": False, "Resources": {"CPU": 4.0}}]


def test_the_work_begins_when_all_nodes_that_can_do_it_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([nodes(), nodes(2.0), nodes(2.0, 2.0)])
    monkeypatch.setattr(ray, "nodes", lambda: next(seen))
    await_nodes(2)
    assert next(seen, None) is None


def test_the_work_begins_without_nodes_that_do_not_come(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: nodes(2.0))
    await_nodes(2, seconds=0.0)
    assert caplog.messages == ["only 1 of 2 nodes have come in 0 s; going on without the others"]
