"""What a Slurm allocation is asked for. Everything here ends up in a batch script, and is checked for what it may be.

What is not here can be told to `sbatch` by its own environment variables, such as SBATCH_CONSTRAINT.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from deploy.settings import Section, matching

TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)
WORD = re.compile(r"[\w.+@][\w.+@,-]*", re.ASCII)
MEMORY = re.compile(r"\d+[KMGT]?", re.ASCII)
FOLDER = re.compile(r"(?:/[\w.+-]+)+", re.ASCII)
LONGEST = 20  # characters of a folder that Ray's sockets lie deep below, where names may have 107


def seconds(time: str) -> int:
    """Of a time limit in one of Slurm's forms: 90, 90:00, 12:00:00, 1-12, 1-12:00, 1-12:00:00.

    Raises:
        ValueError: it is none, or no time at all.
    """
    found = TIME.fullmatch(time)
    if found is None:
        raise ValueError("is minutes, minutes:seconds, hours:minutes:seconds, days-hours or days-hours:minutes:seconds")
    days, *rest = found.groups()
    numbers = [int(n) for n in rest if n is not None]
    if days is None and len(numbers) < 3:  # minutes come first
        numbers.insert(0, 0)
    hours, minutes, more = [*numbers, 0, 0][:3]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + more
    if total == 0:
        raise ValueError("is above 0; without one, the partition's own limit holds")
    return total


def _time(text: str) -> str:
    seconds(text)
    return text


def _folder(text: str) -> str:
    if not FOLDER.fullmatch(text) or len(text) > LONGEST:
        raise ValueError(f"is a path from / of at most {LONGEST} letters, digits and . + - _")
    return text


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has lines of shell, each a text without line breaks")
    return text


def _as_text(value: Any) -> Any:
    """A number of a settings file, where Slurm takes `90` as well as `90:00`."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Word = Annotated[str, matching(WORD, "is letters, digits and . , + @ - _")]
Time = Annotated[str, BeforeValidator(_as_text), AfterValidator(_time)]
Memory = Annotated[str, BeforeValidator(_as_text), matching(MEMORY, "is a number with K, M, G or T, such as 64G")]


class Slurm(Section):
    """Settings of `sweeps submit --slurm`."""

    nodes: int = Field(1, ge=1, le=10_000, description="nodes of the allocation, one Ray worker node each")
    gpus_per_node: int = Field(0, ge=0, le=64, description="GPUs of a node; 0 measures on CPU cores")
    cpus_per_node: int | None = Field(
        None, ge=1, le=4096, description="cores of a node, which others may share then; by default whole nodes"
    )
    memory: Memory | None = Field(
        None,
        description="of a node, such as 64G; by default all of a whole node's, else the partition's default",
    )
    grace: int = Field(
        120, ge=30, le=3600, description="seconds before the time limit at which the sweep stops and is requeued"
    )
    time: Time | None = Field(
        None, description="limit of one run, in Slurm's forms, such as 12:00:00; by default the partition's"
    )
    partition: Word | None = Field(None, description="one, or several with commas; by default the cluster's")
    account: Word | None = Field(None, description="whom it is charged to; by default your own")
    qos: Word | None = Field(None, description="quality of service; by default the account's")
    requeues: int = Field(10, ge=0, le=1000, description="times that it may requeue itself when its time is up")
    setup: tuple[Annotated[str, AfterValidator(_line)], ...] = Field(
        (), description="lines of shell to begin with, such as module load cuda"
    )
    temp_dir: Annotated[str, AfterValidator(_folder)] = Field(
        "/tmp", description="folder on each node's own disk for Ray's sockets and logs"
    )

    @field_validator("time")
    @classmethod
    def _grace_fits(cls, time: str | None, others: ValidationInfo) -> str | None:
        grace = others.data.get("grace", 0)
        if time is not None and seconds(time) <= grace:
            raise ValueError(f"leaves nothing before the {grace} s of grace; give more, or a shorter grace")
        return time
