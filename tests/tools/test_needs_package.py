"""The scripts of tools/ without the package: one sentence and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = ("train", "test", "demo", "create_data", "study", "quickstart")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_python_without_the_package_is_one_sentence(
    name: str, repo: Path, tmp_path: Path
) -> None:
    # -S leaves out all installed packages.
    command = [sys.executable, "-S", str(repo / "tools" / f"{name}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "has no pcdet_distill: install it" in line
