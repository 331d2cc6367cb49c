"""The words that start a tool, in a checkout and for an installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pcdet_distill.apps.tools import SCRIPTS, read_experiment, tool_words


@pytest.mark.parametrize("subcommand", SCRIPTS)
def test_the_words_start_the_tool(subcommand: str, repo: Path, tmp_path: Path) -> None:
    for root in (repo, tmp_path):
        command = [sys.executable, *tool_words(subcommand, root), "--help"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage:")


def test_a_checkout_uses_its_own_scripts(repo: Path, tmp_path: Path) -> None:
    assert tool_words("train", repo) == ["tools/train.py"]
    assert tool_words("train", tmp_path) == ["-m", "pcdet_distill", "train"]


def test_an_experiment_is_read_from_any_folder(tmp_path: Path) -> None:
    cfg = read_experiment(
        "cfgs/synthetic/pointpillar_teacher.yaml", tmp_path, ["OPTIMIZATION.LR", "0.5"]
    )
    assert cfg.MODEL.NAME == "PointPillar"
    assert cfg.OPTIMIZATION.LR == 0.5
