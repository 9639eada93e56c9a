"""What `sweeps doctor` tries of this machine: versions, token, open files, compiled code, GPUs."""

from __future__ import annotations

import os
import platform
import resource
import stat
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from deploy.doctor import FAULT, OK, WARNING, Finding, Patient
from deploy.payload import PACKAGE

SHOWN = ("ray", "torch", "numpy", "zarr", "mlflow")
OPEN_FILES = 4096
DRIVER = Path("/proc/driver/nvidia/version")


def versions(_: Patient) -> Iterator[Finding]:
    """Python and every package against what pyproject asks for."""
    try:
        ours, wanted = metadata.version(PACKAGE), metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield Finding("versions", FAULT, f"{PACKAGE} is not installed here", "pip install it, with its constraints.txt")
        return
    wrong = [text for text in map(_wrong, wanted) if text]
    for text in wrong:
        yield Finding("versions", FAULT, text, "pip install --constraint constraints.txt relu-sweeps")
    if not wrong:
        found = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
        yield Finding("versions", OK, f"{PACKAGE} {ours}, Python {platform.python_version()}, {found}")


def _wrong(line: str) -> str:
    """What is wrong with a package that is asked for; empty where nothing is."""
    from packaging.requirements import Requirement

    wanted = Requirement(line)
    if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
        return ""
    try:
        there = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed; {PACKAGE} needs {wanted.specifier}"
    fits = wanted.specifier.contains(there, prereleases=True)
    return "" if fits else f"{wanted.name} {there} is installed; {PACKAGE} needs {wanted.specifier}"


def token(_: Patient) -> Iterator[Finding]:
    """Ray's token: there, and its owner's alone. It is not read."""
    import actors  # noqa: F401  (sets RAY_AUTH_MODE where nobody did)

    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode != "token":
        text = f"RAY_AUTH_MODE is {mode!r}: clusters started here run code for whoever reaches them"
        yield Finding("token", FAULT, text, "unset RAY_AUTH_MODE")
        return
    if os.environ.get("RAY_AUTH_TOKEN"):
        yield Finding("token", OK, "from RAY_AUTH_TOKEN")
        return
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given).expanduser() if given else Path.home() / ".ray" / "auth_token"
    yield from _token_file(path, bool(given))


def _token_file(path: Path, given: bool) -> Iterator[Finding]:
    try:
        found = path.stat()
    except FileNotFoundError:
        if given:
            yield Finding("token", FAULT, f"RAY_AUTH_TOKEN_PATH {str(path)!r} is not there", "put the token there")
        else:
            how = f"for another's cluster, put its token into {path} (mode 600)"
            yield Finding("token", WARNING, "none; one is made when a cluster is first started here", how)
        return
    mode = stat.S_IMODE(found.st_mode)
    if not found.st_size:
        yield Finding("token", FAULT, f"{path} is empty", "remove it to have one made, or put the cluster's there")
    elif mode & 0o077:
        is_open = _can_enter(path.parent)
        what = "others on this machine can run code as you" if is_open else "only its folder keeps others from it"
        text = f"{path} has mode {mode:03o}: {what}"
        yield Finding("token", FAULT if is_open else WARNING, text, f"chmod 600 {path}")
    elif not os.access(path, os.R_OK):
        yield Finding("token", FAULT, f"{path} cannot be read", "give it to the user who runs sweeps")
    else:
        yield Finding("token", OK, f"{path}, mode {mode:03o}")


def _can_enter(folder: Path) -> bool:
    """Whether others may enter a folder and all above it."""
    return all(place.stat().st_mode & 0o011 for place in (folder.resolve(), *folder.resolve().parents))


def open_files(_: Patient) -> Iterator[Finding]:
    """Ray raises the soft limit to the hard one by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        text = f"at most {hard} files may be open at once; Ray on many cores wants {OPEN_FILES}"
        yield Finding("files", WARNING, text, "raise it: ulimit -Hn, nofile in /etc/security/limits.conf")
    else:
        yield Finding("files", OK, f"ulimit -n is {soft}, at most {most}")


def compiled_code(_: Patient) -> Iterator[Finding]:
    """Where loops in machine code are kept, and that nobody else can write there."""
    from sweeps.compiled import compiled

    place = getattr(compiled(_nothing)._cache, "cache_path", None)
    if place is None:
        text = "is kept nowhere, so that every process compiles for itself, which takes it some seconds"
        yield Finding("compiled", WARNING, text, "set NUMBA_CACHE_DIR to a folder of yours")
        return
    folder = Path(place)
    shared = next((p for p in (folder, *folder.parents) if p.exists() and _is_shared(p, folder)), None)
    if shared is not None:
        text = f"{shared} can be written by everybody, who can so have code of theirs run by you"
        yield Finding("compiled", FAULT, text, f"chmod o-w {shared}, or set NUMBA_CACHE_DIR to a folder of yours")
    else:
        yield Finding("compiled", OK, f"code is kept in {folder}")


def _is_shared(place: Path, folder: Path) -> bool:
    """Whether others can put something into a folder or, without a sticky bit, in the place of one on its path."""
    mode = place.stat().st_mode
    return bool(mode & 0o002) and (place == folder or not mode & stat.S_ISVTX)


def _nothing(x: float) -> float:
    return x


def gpus(_: Patient) -> Iterator[Finding]:
    """Whether torch sees what the driver has, and which generator gives the CPU's bits on each GPU."""
    import torch

    if not torch.cuda.is_available():
        if DRIVER.exists():
            built = torch.version.cuda or "no CUDA"
            text = f"this machine has an NVIDIA driver, but torch {torch.__version__} ({built}) sees no GPU"
            yield Finding("gpu", WARNING, text, "install torch for the driver's CUDA; see CUDA_VISIBLE_DEVICES")
        else:
            yield Finding("gpu", OK, f"none; sweeps run on {os.cpu_count()} CPU cores")
        return
    for number in range(torch.cuda.device_count()):
        yield _gpu(number)


def _gpu(number: int) -> Finding:
    import torch

    from sweeps.randomness_device import generator

    device, free = f"cuda:{number}", torch.cuda.mem_get_info(number)[0] / 1e9
    name = f"{device} {torch.cuda.get_device_name(number)}, {free:.0f} GB free"
    used = generator(device).__module__.removeprefix("sweeps.")
    if used == "randomness_triton":
        return Finding("gpu", OK, f"{name}; Triton's normals are the CPU's to the bit")
    if used == "randomness_torch":
        text = f"{name}; normals come from plain torch operations, right to the bit but slower"
        return Finding("gpu", WARNING, text, "install triton and a C compiler")
    text = f"{name}; no generator gives the CPU's bits here, so normals are copied from the CPU"
    return Finding("gpu", WARNING, text, "install torch and triton as in constraints.txt")
