"""Answers of slow solvers, kept on disk under the digest of what they came from.

An answer's name is the SHA-256 of the source of the module that solves it, of other modules named, of the function's
name and of its arguments: whoever changes a solver finds nothing that an older one left. Answers are JSON, which
gives every float back to the last bit. They lie in $XDG_CACHE_HOME/relu-sweeps/theory, or ~/.cache/relu-sweeps/theory;
where that cannot be read or written, or holds something else, they are computed again, silently.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

R = TypeVar("R")


def kept(*modules: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorate a function of positional numbers and texts, whose answer is made of what JSON has.

    `modules` are imported ones, by name, whose source the answer depends on beside the function's own.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @wraps(function)
        def answer(*arguments: Any) -> R:
            question = {"function": f"{function.__module__}.{function.__qualname__}", "arguments": list(arguments)}
            path = _path(question, [function.__module__, *modules])
            found = _read(path, question)
            if found is None:
                found = json.loads(json.dumps({**question, "answer": function(*arguments)}))  # as it will be read
                _write(path, found)
            return found["answer"]

        return answer

    return decorate


def folder() -> Path:
    """Where answers lie; RuntimeError where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "relu-sweeps" / "theory"


def _path(question: dict[str, Any], modules: list[str]) -> Path | None:
    """None where there is no source or no home: then nothing is kept."""
    digest = hashlib.sha256(json.dumps(question).encode())
    try:
        for name in modules:
            digest.update(Path(str(sys.modules[name].__file__)).read_bytes())
        return folder() / f"{digest.hexdigest()}.json"
    except (OSError, RuntimeError):
        return None


def _read(path: Path | None, question: dict[str, Any]) -> dict[str, Any] | None:
    """What was kept, if it is whole and answers `question`."""
    try:
        found = json.loads(path.read_text()) if path else None
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and "answer" in found and all(found.get(k) == v for k, v in question.items())
    return found if whole else None


def _write(path: Path | None, found: dict[str, Any]) -> None:
    """Whole or not at all: into a file of its own, then renamed."""
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(found, file)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
