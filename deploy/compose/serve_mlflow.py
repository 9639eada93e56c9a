"""Start the team's MLflow server: PostgreSQL behind it, artifacts in S3, every request with a name and a password.

The image of `compose.yaml` runs this file, and so does `deploy.servers`; there is no other place for the server's
flags. Secrets come from files and go on in the environment, which only the owner of a process can read: the command
line, which everybody can, has none. What it reads from the environment has the defaults of `compose.yaml`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

SECRETS = Path(os.environ.get("SWEEPS_SECRETS", "/run/secrets"))
DATABASE = os.environ.get("SWEEPS_DATABASE", "postgres:5432")
S3 = os.environ.get("SWEEPS_S3", "http://s3:9000")
LISTEN = os.environ.get("SWEEPS_MLFLOW_LISTEN", "0.0.0.0:5000")
HOSTS = os.environ.get("SWEEPS_MLFLOW_HOSTS", "")
"""Names under which it may be asked for, besides this machine's own: `mlflow.example.org`."""
BUCKETS = ("mlflow", "sweeps")
"""For the artifacts of runs, and for stores."""

LOCAL = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*")
AUTH = """\
[mlflow]
default_permission = EDIT
database_uri = {database}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""
"""EDIT: every user may log to every experiment, and delete only what is their own. Checking a password takes a
sixth of a second of a core, at every request; so each worker remembers for a minute that it was right."""


def flags() -> list[str]:
    host, _, port = LISTEN.rpartition(":")
    named = [name.strip() for name in HOSTS.split(",") if name.strip()]
    return [
        *("--app-name", "basic-auth", "--host", host, "--port", port, "--workers", "2"),
        *("--artifacts-destination", f"s3://{BUCKETS[0]}"),
        *("--allowed-hosts", ",".join([*LOCAL, *named])),
        *("--cors-allowed-origins", ",".join([f"https://{name}" for name in named] or ["http://localhost"])),
        *("--x-frame-options", "DENY"),
    ]


def environment(auth: Path) -> dict[str, str]:
    """What the server is told beside its flags; `auth` is where its settings of authentication lie."""
    return {
        "MLFLOW_BACKEND_STORE_URI": database("mlflow"),
        "PGPASSFILE": str(SECRETS / "mlflow_pgpass"),
        "MLFLOW_AUTH_CONFIG_PATH": str(auth),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secret("mlflow_admin_password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret("mlflow_flask_key"),
        "MLFLOW_S3_ENDPOINT_URL": S3,
        "AWS_ENDPOINT_URL": S3,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": secret("s3_user"),
        "AWS_SECRET_ACCESS_KEY": secret("s3_password"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # of language models; sweeps have none
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def database(name: str) -> str:
    """Without a password, which libpq finds in its file."""
    return f"postgresql+psycopg://mlflow@{DATABASE}/{name}"


def secret(name: str) -> str:
    return (SECRETS / name).read_text().strip()


def make_buckets() -> None:
    """What is missing; where all are there, the key need not be one that may list or make buckets."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    s3 = boto3.client("s3")
    for bucket in BUCKETS:
        try:
            if not _is_there(s3, bucket):
                s3.create_bucket(Bucket=bucket)
        except (BotoCoreError, ClientError) as error:
            raise SystemExit(f"error: bucket {bucket!r} of {S3} cannot be used or made: {error}") from None


def _is_there(s3: Any, bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return False
    return True


def main() -> None:
    auth = Path(tempfile.mkdtemp(prefix="mlflow-")) / "auth.ini"
    auth.write_text(AUTH.format(database=database("mlflow_auth")))
    os.environ.update(environment(auth))
    make_buckets()
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *flags()])


if __name__ == "__main__":
    main()
