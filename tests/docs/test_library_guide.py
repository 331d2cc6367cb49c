"""docs/library.md: its Python blocks run one after the other, and its yaml block is read."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DataSpec
from pcdet_distill.distill import DISTILL_LOSSES
from pcdet_distill.models import build_network

PAGE = Path("docs/library.md")


def code_blocks(file: Path, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", file.read_text(), flags=re.DOTALL)


def write_teacher_checkpoint(repo: Path, file: Path) -> None:
    """The teacher.pth that the page's section on detectors of this package uses."""
    cfg = load_config(repo / "cfgs/synthetic/pointpillar_teacher.yaml")
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    save_checkpoint({"model_state": model.state_dict()}, file)


def test_the_blocks_run_in_order(
    repo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each block sees the names of the blocks before it, and no others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cfgs").symlink_to(repo / "cfgs")
    write_teacher_checkpoint(repo, tmp_path / "teacher.pth")
    names: dict[str, Any] = {}
    num_run = 0
    for code in code_blocks(repo / PAGE, "python"):
        if "openpcdet" not in code:
            exec(code, names)
            num_run += 1
    assert num_run == 8
    assert names["tb_dict"]["distill_pillars"] > 0
    assert names["tb_dict"]["distill_map"] > 0
    saved = torch.load(tmp_path / "student.pth")
    assert saved.keys() == names["MyDetector"](8).state_dict().keys()
    # check_teacher ran the page's own detector, and found the cars.
    assert type(names["teacher"]) is names["MyDetector"]
    assert names["report"].recall["Car"].share > 0.9
    assert "of 20 labelled boxes" in capsys.readouterr().out
    assert names["report"].warnings == []


@pytest.mark.parametrize("page", ["docs/library.md", "README.md"])
def test_the_two_lines_of_openpcdet(repo: Path, page: str) -> None:
    """Their names and arguments; tests/integrations runs what they do."""
    (code,) = (text for text in code_blocks(repo / page, "python") if "openpcdet" in text)
    assert len([line for line in code.splitlines() if line]) == 2
    student = torch.nn.Identity()
    names = {"model": student, "cfg": {"DATA_CONFIG": {}}, "train_set": None, "logger": None}
    exec(code, names)
    assert names["model"] is student
    assert "pcdet" not in sys.modules


def test_the_yaml_block_names_losses_that_exist(repo: Path) -> None:
    (text,) = code_blocks(repo / PAGE, "yaml")
    terms = yaml.safe_load(text)["DISTILL"]["TERMS"]
    for term in terms.values():
        assert term["NAME"] in DISTILL_LOSSES
