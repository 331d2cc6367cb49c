"""Every kernel compiles to machine code for old and new GPUs, on a machine without one."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CAPABILITIES = ["75", "90"]


def launched_kernels(folder: Path) -> set[str]:
    """Names of the functions that are launched: ``name[grid](...)``."""
    names = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
                names.add(ast.unparse(node.func.value))
    return names


def test_machine_code_of_every_kernel(repo: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join([str(repo), str(HERE)])
    done = subprocess.run(
        [sys.executable, HERE / "compile_for_gpu.py", *CAPABILITIES],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compiled = set(re.findall(r"^(\w+) (\d+) [1-9]\d*$", done.stdout, re.MULTILINE))
    kernels = launched_kernels(repo / "pcdet_distill" / "ops" / "accelerated" / "triton")
    assert kernels
    assert compiled == {(kernel, number) for kernel in kernels for number in CAPABILITIES}
