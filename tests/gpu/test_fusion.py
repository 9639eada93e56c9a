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
target = GPUTarget("cuda", int(sys.argv[1]), 32)
for fusion in (False, True):
    ptx = triton.compile(source, target=target, options={"enable_fp_fusion": fusion}).asm["ptx"]
    print(*(len(re.findall(rf"\\b{op}(?:\\.rn)?\\.f32", ptx)) for op in ("fma", "mul", "add")), ".ftz" in ptx)
"""


@pytest.mark.parametrize("capability", ["75", "80", "90"] if TRITON else [])
def test_products_and_sums_stay_apart(capability: str, tmp_path: Path) -> None:
    env = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    root = str(Path(__file__).parents[2])
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [env.get("PYTHONPATH")])])
    ran = subprocess.run([sys.executable, "-c", COMPILE, capability], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    apart, fused = (line.split() for line in ran.stdout.splitlines())
    fmas, products, sums, flushes = apart
    normals = int(sums) // 3  # of a thread
    assert (fmas, int(products), int(sums), flushes) == ("0", 4 * normals, 3 * normals, "False")
    assert int(fused[0]) == int(sums) > 0  # what the launch option prevents
