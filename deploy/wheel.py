"""A wheel of the package that runs here, be it installed or a checkout, for clusters that lack it.

It names no dependencies, so that installing it fetches nothing: a cluster's image has them. Its bytes are a function
of what it holds, and its build tag is their hash: Ray knows a wheel by its name, and would not send a changed one.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from deploy.payload import PACKAGE, versions

ROOMS = ("actors", "deploy", "storage", "sweeps")
LEFT = {"__pycache__", "secrets"}  # what `deploy/compose` keeps beside itself
DATE = (1980, 1, 1, 0, 0, 0)
FILE_MODE = 0o644 << 16


def build(folder: Path) -> Path:
    """Write the wheel into a folder; its path."""
    version = versions()[PACKAGE]
    stem = f"{PACKAGE.replace('-', '_')}-{version}"
    contents = dict(_sources())
    contents |= {f"{stem}.dist-info/{name}": text for name, text in _about(version)}
    content_hash = hashlib.sha256()
    for name, data in sorted(contents.items()):
        content_hash.update(f"{name}\0{len(data)}\0".encode() + data)
    tag = f"0x{content_hash.hexdigest()[:16]}"
    wheel = "Wheel-Version: 1.0\nGenerator: relu-sweeps\nRoot-Is-Purelib: true\n"
    contents[f"{stem}.dist-info/WHEEL"] = f"{wheel}Build: {tag}\nTag: py3-none-any\n".encode()
    contents[f"{stem}.dist-info/RECORD"] = _record(contents, f"{stem}.dist-info/RECORD").encode()
    path = folder / f"{stem}-{tag}-py3-none-any.whl"
    path.write_bytes(_zipped(contents))
    return path


def _sources() -> Iterator[tuple[str, bytes]]:
    for room in ROOMS:
        root = Path(str(import_module(room).__file__)).parent
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and not any(part.startswith(".") or part in LEFT for part in inside.parts):
                yield f"{room}/{inside.as_posix()}", path.read_bytes()


def _about(version: str) -> Iterator[tuple[str, bytes]]:
    found = metadata.distribution(PACKAGE)
    python = found.metadata["Requires-Python"]
    about = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n"
    yield "METADATA", (about + (f"Requires-Python: {python}\n" if python else "")).encode()
    yield "entry_points.txt", (found.read_text("entry_points.txt") or "").encode()


def _record(contents: dict[str, bytes], itself: str) -> str:
    lines = []
    for name, data in sorted(contents.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{itself},,"]) + "\n"


def _zipped(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(contents.items()):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, FILE_MODE
            archive.writestr(entry, data)
    return buffer.getvalue()
