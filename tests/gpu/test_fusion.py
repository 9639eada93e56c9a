"""The Triton kernel's machine code has no fused multiply-add; compiled for NVIDIA GPUs, with or without one here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.paths import TRITON

COMPILE = """
import re, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sweeps.randomness_triton import fill

kinds = ["*fp32", "*fp32", "*i64", "*i64", "i64", "i64", "i64", "constexpr", "constexpr"]
source = ASTSource(fill, dict(zip(fill.arg_names, kinds, strict=True)), {"NORMAL": True, "COUNTERS": 256})
for capability in sys.argv[1:]:
    target = GPUTarget("cuda", int(capability), 32)
    for fusion in (False, True):
        ptx = triton.compile(source, target=target, options={"enable_fp_fusion": fusion}).asm["ptx"]
        print(*(len(re.findall(rf"\\b{op}(?:\\.rn)?\\.f32", ptx)) for op in ("fma", "mul", "add")), ".ftz" in ptx)
"""
CAPABILITIES = ("75", "80", "90")

pytestmark = pytest.mark.skipif(not TRITON, reason="needs Triton")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """By capability: fused multiply-adds, products, sums, flushes; without fusion and with it."""
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    root = str(Path(__file__).parents[2])
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [env.get("PYTHONPATH")])])
    ran = subprocess.run([sys.executable, "-c", COMPILE, *CAPABILITIES], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines()]
    return {capability: lines[2 * i : 2 * i + 2] for i, capability in enumerate(CAPABILITIES)}


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_products_and_sums_stay_apart(capability: str, compiled: dict[str, list[list[str]]]) -> None:
    apart, fused = compiled[capability]
    fmas, products, sums, flushes = apart
    normals = int(sums) // 3  # of a thread
    assert (fmas, int(products), int(sums), flushes) == ("0", 4 * normals, 3 * normals, "False")
    assert int(fused[0]) == int(sums) > 0  # what the launch option prevents
