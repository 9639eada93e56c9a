"""What a Slurm allocation is asked for."""

from __future__ import annotations

from pydantic import Field

from deploy.settings import Section


class Slurm(Section):
    """Settings of `sweeps submit --slurm`."""

    nodes: int = Field(1, ge=1, le=10_000, description="nodes of the allocation, one Ray worker node each")
