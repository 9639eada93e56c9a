"""The secrets of a team's servers, each a file that its owner alone reads: `python make_secrets.py FOLDER`.

What is there already is kept, so a second run changes nothing. It needs Python alone, so that it runs where the
containers do. Nothing is printed but names.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

ADMIN = "admin"
"""MLflow's first user, and Grafana's."""


def _password() -> str:
    return secrets.token_urlsafe(24)


CONTENTS = {
    "postgres_password": _password,  # of the superuser, which only the first start needs
    "mlflow_pgpass": lambda: f"*:*:*:mlflow:{_password()}",  # a password file as PostgreSQL's clients read it
    "mlflow_admin_password": _password,
    "mlflow_flask_key": _password,  # signs MLflow's forms
    "s3_user": lambda: "sweeps-" + secrets.token_hex(4),
    "s3_password": _password,
    "grafana_admin_password": _password,
}


def make(folder: Path) -> list[str]:
    """Make what is missing; the names of what was made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    missing = [name for name in CONTENTS if not (folder / name).exists()]
    for name in missing:
        made = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(CONTENTS[name]())
    return missing


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {sys.argv[0]} FOLDER")
    print("made:", ", ".join(make(Path(sys.argv[1]))) or "nothing, all are there")
