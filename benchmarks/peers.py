"""Environments of their own for what is compared with, so that nothing of it is installed beside the project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def python_with(package: str) -> str:
    """The Python of an environment with a package, in the user's cache folder; made if it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "relu-sweeps" / package
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)
        (home / "ready").touch()
    return str(python)
