"""The executor on Ray: a bounded pool of long-lived actors, one per GPU, or per CPU core where there is none."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import ray

from actors.leases import Leases, Seat
from actors.limits import Limits
from actors.supply import Supply
from actors.worker import BESIDE, THREADS, Worker
from sweeps import logs
from sweeps.blocks import Block
from sweeps.errors import RefusedError
from sweeps.events import Event
from sweeps.run import Store


class RayPool:
    """Actors on the Ray cluster this process is connected to.

    Args:
        workers: how many; by default one per GPU of the cluster, else one per CPU core. A sweep with
            `device = "cpu"` takes cores even where there are GPUs.
        limits: of one worker.
        grows_to: what a cluster that grows on demand will have at most, by Ray's names of resources. Workers for
            which there is no room yet wait, and the waiting is what makes it grow; the others begin.

    Raises:
        RefusedError: the cluster lacks what is asked for.
    """

    kind: type[Worker] = Worker

    def __init__(
        self,
        workers: int | None = None,
        device: str = "auto",
        limits: Limits | None = None,
        grows_to: Mapping[str, float] | None = None,
    ) -> None:
        now = ray.cluster_resources()
        have = now | {name: max(now.get(name, 0), most) for name, most in (grows_to or {}).items()}
        gpus, cores = int(have.get("GPU", 0)), int(have.get("CPU", 0))
        self.device = "cpu" if device == "cpu" or (device == "auto" and gpus == 0) else "cuda"
        there = gpus if self.device == "cuda" else cores
        if there == 0:
            what = "GPU" if self.device == "cuda" else "CPU core"
            raise RefusedError(f"the Ray cluster has no {what}: it offers {have}; add a node or change `device`")
        if workers is not None and not 1 <= workers <= there:
            raise RefusedError(f"workers must be between 1 and the cluster's {there}, got {workers}")
        self.size = workers or there
        self.limits = limits or Limits()
        present = int(now.get("GPU" if self.device == "cuda" else "CPU", 0))
        if self.limits.resident is None and present and (memory := _memory()):
            self.limits = replace(self.limits, resident=memory // present)

    @property
    def workers(self) -> str:
        what = "GPU" if self.device == "cuda" else "CPU core"
        return f"{self.size} Ray actor{'s' * (self.size > 1)}, one per {what}"

    def run(self, blocks: Iterator[Block | None], store: Store) -> Generator[Event, None, None]:
        supply = Supply(blocks)
        if not supply.any():
            return
        seats: list[Seat] = []
        try:
            seats.extend(Seat(i, self.actor(store)) for i in range(self.size))
            yield from Leases(seats, supply, store, self.limits, lambda: self.actor(store)).events()
        finally:
            for seat in seats:
                ray.kill(seat.actor)

    def actor(self, store: Store) -> Any:
        """One worker. A CPU worker is shown no GPU; a GPU worker is shown the one Ray gave it."""
        gpu = self.device == "cuda"
        environment = {**THREADS, **logs.environment(), **({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})}
        options: dict[str, Any] = {
            "num_cpus": 0 if gpu else 1,
            "num_gpus": 1 if gpu else 0,
            "max_restarts": -1,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": environment},
        }
        return self._exported.options(**options).remote(store, self.device)

    @cached_property
    def _exported(self) -> Any:
        options: dict[str, Any] = {"concurrency_groups": {BESIDE: 1}}
        return ray.remote(**options)(self.kind)


def _memory() -> int:
    """Bytes of the nodes that can work: a head without work has memory too, but none for workers."""
    working = [n["Resources"] for n in ray.nodes() if n["Alive"] and {"CPU", "GPU"} & n["Resources"].keys()]
    return int(sum(resources.get("memory", 0) for resources in working))
