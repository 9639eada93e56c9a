"""The environment that a sweep reads besides its settings: whose variable, what for, and which are secrets."""

from __future__ import annotations

import os
from dataclasses import dataclass

NOT_SHOWN, NOT_SET, NOT_GIVEN = "set, not shown", "not set", "not given"


@dataclass(frozen=True)
class Variable:
    """`kind` is `secret`, `url` (shown without user, password and query) or `plain`."""

    name: str
    what: str
    kind: str = "plain"

    @property
    def shown(self) -> str:
        value = os.environ.get(self.name)
        if not value:
            return NOT_SET
        return masked(value) if self.kind == "url" else NOT_SHOWN if self.kind == "secret" else value


KNOWN = (
    Variable("RAY_AUTH_MODE", "whether Ray asks for a token: `token` unless you say otherwise"),
    Variable("RAY_AUTH_TOKEN", "Ray's token itself", "secret"),
    Variable("RAY_AUTH_TOKEN_PATH", "a file with Ray's token; default ~/.ray/auth_token"),
    Variable("RAY_ADDRESS", "a dashboard, if it is an http address; RAY_API_SERVER_ADDRESS comes before it", "url"),
    Variable("RAY_TMPDIR", "where Ray keeps its sessions; default /tmp/sweeps-UID"),
    Variable("MLFLOW_TRACKING_USERNAME", "who you are for the tracking server"),
    Variable("MLFLOW_TRACKING_PASSWORD", "and the password", "secret"),
    Variable("MLFLOW_TRACKING_TOKEN", "or a token instead", "secret"),
    Variable("MLFLOW_HTTP_REQUEST_TIMEOUT", "seconds a request to the tracking server; 5 unless you say otherwise"),
    Variable("PGPASSWORD", "of a tracking database on PostgreSQL", "secret"),
    Variable("AWS_ACCESS_KEY_ID", "the key of a bucket", "secret"),
    Variable("AWS_SECRET_ACCESS_KEY", "and its secret", "secret"),
    Variable("AWS_SESSION_TOKEN", "of a temporary key", "secret"),
    Variable("AWS_REGION", "of a bucket; default us-east-1"),
    Variable("AWS_ENDPOINT_URL_S3", "where a bucket is, if not at AWS", "url"),
    Variable("AWS_ENDPOINT_URL", "the same, after AWS_ENDPOINT_URL_S3", "url"),
    Variable("AWS_ENDPOINT", "the same, after AWS_ENDPOINT_URL", "url"),
    Variable("AWS_ALLOW_HTTP", "let an endpoint on another machine be http"),
    Variable("AWS_SKIP_SIGNATURE", "read a public bucket"),
    Variable("AWS_WEB_IDENTITY_TOKEN_FILE", "a role instead of a key"),
    Variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", "a role instead of a key", "url"),
    Variable("NUMBA_CACHE_DIR", "where compiled code is kept; default beside the package or in ~/.cache"),
    Variable("CUDA_VISIBLE_DEVICES", "which GPUs a process sees"),
    Variable("TMPDIR", "temporary files"),
    Variable("HTTPS_PROXY", "a proxy", "url"),
    Variable("HTTP_PROXY", "a proxy", "url"),
    Variable("NO_PROXY", "what is asked directly"),
)


def masked(url: str) -> str:
    """A URL without user, password, query and fragment."""
    from storage.runs import shown

    return shown(url)
