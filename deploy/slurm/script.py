"""The batch script of a sweep, as text: what Slurm is asked for, the settings, and `cluster.sh`, which never differs.

It starts one Ray cluster in one allocation: a head that does no work, and a worker on every node, each by `srun`.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from deploy.slurm.settings import Slurm

FOLDER = ".sweeps/slurm"  # below the directory that one submits from
BODY = Path(__file__).with_name("cluster.sh")


def script(settings: Slurm, key: str, python: str) -> str:
    """The whole script of the sweep with this id, to run with this Python."""
    values = {
        "folder": f"{FOLDER}/{key}",
        "python": python,
        "gpus": settings.gpus_per_node,
        "requeues": settings.requeues,
        "temp_dir": settings.temp_dir,
    }
    return "\n".join(
        [
            "#!/bin/bash",
            "# A sweep with a Ray cluster of its own, as `sweeps submit --slurm` writes it.",
            *(f"#SBATCH --{option}" for option in options(settings, key)),
            "",
            *settings.setup,
            *(f"{name}={shlex.quote(str(value))}" for name, value in values.items()),
            BODY.read_text(),
        ]
    )


def options(settings: Slurm, key: str) -> list[str]:
    """What Slurm is asked for. `singleton` lets one of two that were submitted at once wait for the other."""
    whole = settings.cpus_per_node is None
    memory = settings.memory or ("0" if whole else None)
    given = {
        "job-name": key,
        "output": f"{FOLDER}/{key}/%j.log",
        "open-mode": "append",
        "dependency": "singleton",
        "nodes": settings.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": settings.cpus_per_node,
        "gpus-per-node": settings.gpus_per_node or None,
        "mem": memory,
        "time": settings.time,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "signal": f"B:TERM@{settings.grace}",
    }
    texts = [f"{name}={value}" for name, value in given.items() if value is not None]
    return texts + ["exclusive"] * whole + ["requeue"]
