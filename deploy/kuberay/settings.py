"""What a RayJob or a RayCluster is made of."""

from __future__ import annotations

from pydantic import Field

from deploy.settings import Section


class Kuberay(Section):
    """Settings of `sweeps submit --kuberay`."""

    image: str = Field(description="container image that has this package, of the same version as the client")
