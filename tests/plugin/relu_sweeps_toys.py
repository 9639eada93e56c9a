"""Statistics for the tests of the engine, found through the entry-point group as a third party's would be.

`toy` has every feature and costs nothing; `faulty` sleeps and tells how far it is, raises, hangs, hoards or kills its
process on demand.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

import numpy as np
from pydantic import Field

from sweeps.progress import tell
from sweeps.statistic import Curve, Dim, Networks, Outcome, Parameters, Points, Reference, Statistic


class ToyParameters(Parameters):
    size: int = Field(4, ge=1, le=64, description="normals a draw", json_schema_extra={"unit": "1"})
    steps: int = Field(3, ge=1, le=9, description="length of the walk", json_schema_extra={"unit": "1"})
    shift: float = Field(0.0, ge=-10, le=10, description="added to every normal", json_schema_extra={"unit": "1"})
    colour: str = Field("red", pattern="^(red|blue)$", description="a name", json_schema_extra={"unit": ""})


def sample_toy(networks: Networks, device: str) -> dict:
    z = networks.normals(0, networks["steps"], networks["size"]).astype(np.float64)
    z += networks.column("shift")[:, None, None]
    means = z.mean(axis=2)
    return {
        "level": means[:, 0],
        "positive": np.where(means[:, 0] > 0, 1.0, 0.0),
        "walk": np.cumsum(means, axis=1),
        "root": np.sqrt(np.where(means[:, 0] > 0, means[:, 0], np.nan)),
    }


def theory_toy(points: Points) -> dict:
    shift = points.column("shift")
    return {"level": shift, "walk": shift[:, None] * np.arange(1, points["steps"] + 1)}


TOY = Statistic(
    name="toy",
    summary="means of normals",
    source="none",
    parameters=ToyParameters,
    shape=frozenset({"size", "steps", "colour"}),
    outcomes=(
        Outcome("level", "mean of the first normals", bins=(-1.0, -0.5, 0.0, 0.5, 1.0)),
        Outcome("positive", "whether the mean is positive", kind="proportion"),
        Outcome("walk", "walk of the means", dims=(Dim("step", "steps", "step of the walk"),)),
        Outcome("root", "square root of the mean, undefined below zero"),
    ),
    sample=sample_toy,
    cost=lambda p: 1e-6 * p.size,
    memory=lambda p: 64 * p.size * p.steps,
    theory=theory_toy,
    exact=lambda points: {"level": True, "walk": True},
    theory_note="exact",
    references=(Reference("shift", 1.0, "one", "none"),),
    curves=(
        Curve("root", "shift", "absolute", "none", np.abs),
        Curve("walk", "level", "twice", "none", lambda level: 2 * level, where={"step": (2,), "colour": ("red",)}),
    ),
)


class FaultyParameters(Parameters):
    seconds: float = Field(0.0, ge=0, description="sleep of a block", json_schema_extra={"unit": "s"})
    value: int = Field(0, description="anything", json_schema_extra={"unit": "1"})
    bad: int = Field(-1, description="the value at which things go wrong", json_schema_extra={"unit": "1"})
    how: str = Field(
        "raise", description="raise, die, oom, hang, hoard, wait, gate or sicken", json_schema_extra={"unit": ""}
    )
    marker: str = Field("", description="a file: nothing goes wrong if it is there", json_schema_extra={"unit": ""})


HOARD: list = []
NAP = 0.1  # seconds


def sample_faulty(networks: Networks, device: str) -> dict:
    sleep(networks["seconds"])
    if networks["how"] == "sicken":
        sicken(Path(networks["marker"]))
    if networks["how"] == "gate":
        pass_gate(Path(networks["marker"]), networks["value"])
    if networks["value"] == networks["bad"]:
        marker = networks["marker"] and Path(networks["marker"])
        if not marker or not marker.exists():
            if marker and networks["how"] != "wait":
                marker.touch()
            go_wrong(networks)
    return {"level": networks.normals(0, 1)[:, 0]}


def sleep(seconds: float) -> None:
    """In naps of NAP, and tell before each how much is over."""
    begun = time.monotonic()
    while (slept := time.monotonic() - begun) < seconds:
        tell(slept / seconds)
        time.sleep(min(NAP, seconds - slept))


def sicken(marker: Path) -> None:
    """The first process to come here raises for good, as one whose GPU has failed, and keeps a tally; the others wait
    until it has three times."""
    tally = marker.with_suffix(".tally")
    with contextlib.suppress(FileExistsError):
        marker.open("x").write(str(os.getpid()))
    if marker.read_text() == str(os.getpid()):
        tally.open("a").write("!")
        raise ArithmeticError("the GPU is lost")
    while not tally.exists() or tally.stat().st_size < 3:
        time.sleep(0.05)


def pass_gate(marker: Path, value: int) -> None:
    """Wait until the number that the file holds is above the value: a sweep comes as far as a test wants."""
    while not value < int(marker.read_text()):
        time.sleep(0.05)


def go_wrong(networks: Networks) -> None:
    match networks["how"]:
        case "raise":
            raise ArithmeticError(f"no answer at value {networks['value']}")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "oom":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        case "hang":
            time.sleep(3600)
        case "wait":
            while not Path(networks["marker"]).exists():
                time.sleep(0.05)
        case "hoard":
            HOARD.append(np.ones(2**26))  # 512 MiB


FAULTY = Statistic(
    name="faulty",
    summary="goes wrong on demand",
    source="none",
    parameters=FaultyParameters,
    shape=frozenset({"seconds", "value", "bad", "how", "marker"}),
    outcomes=(Outcome("level", "a normal"),),
    sample=sample_faulty,
    cost=lambda p: 1e-6,
    memory=lambda p: 64,
)
