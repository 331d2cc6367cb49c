"""Importing the package is cheap: it loads no spconv, pcdet or matplotlib."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "spconv",
    "cumm",
    "pcdet",
    "matplotlib",
    "tensorboardX",
    "torchvision",
    "skimage",
    "open3d",
)
SPARE_SECONDS = 2.0

SCRIPT = """
import sys, time
import torch
before = set(sys.modules)
start = time.process_time()
import {module}
seconds = time.process_time() - start
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(seconds, *sorted(new & set({heavy})))
"""


def import_in_new_process(module: str) -> tuple[float, list[str]]:
    """(CPU seconds beyond torch's own import, heavy packages that came with it)."""
    script = SCRIPT.format(module=module, heavy=HEAVY)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, *heavy = run.stdout.split()
    return float(seconds), heavy


@pytest.mark.parametrize(
    "module", ["pcdet_distill", "pcdet_distill.config", "pcdet_distill.checkpoint"]
)
def test_import_is_fast_and_brings_nothing_heavy(module: str):
    seconds, heavy = import_in_new_process(module)
    assert heavy == []
    assert seconds < SPARE_SECONDS


@pytest.mark.parametrize(
    "module", ["models", "distill", "datasets", "evaluation", "engine", "integrations.openpcdet"]
)
def test_the_parts_bring_nothing_heavy(module: str):
    assert import_in_new_process(f"pcdet_distill.{module}")[1] == []


def test_the_package_itself_imports_no_part_of_itself():
    script = (
        "import sys, pcdet_distill; "
        "print(*[name for name in sys.modules if name.startswith('pcdet_distill.')])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
