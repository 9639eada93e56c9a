"""Settings that do not depend on where a sweep runs: the cluster of every day, the tracking server, the log."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from deploy.settings import Section


class Cluster(Section):
    """The Ray cluster that `submit`, `list`, `watch` and the others ask."""

    address: str | None = Field(None, description="the dashboard's, such as http://host:8265")

    @classmethod
    def others_call(cls, field: str) -> str:
        """Ray's own; RAY_ADDRESS is a dashboard's only where it is an HTTP address."""
        given = os.environ.get("RAY_API_SERVER_ADDRESS")
        usual = os.environ.get("RAY_ADDRESS", "").startswith(("http://", "https://"))
        return "RAY_ADDRESS" if usual and not given else "RAY_API_SERVER_ADDRESS"


class Tracking(Section):
    """Where runs are tracked whose spec does not say."""

    uri: str | None = Field(None, description="MLflow's tracking URI; a spec's track.uri comes before it")

    @classmethod
    def others_call(cls, field: str) -> str:
        return "MLFLOW_TRACKING_URI"


class Log(Section):
    """What a sweep says while it runs."""

    format: Literal["plain", "json"] = Field("plain", description="lines for people, or one JSON object a line")
