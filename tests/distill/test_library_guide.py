"""docs/library.md: its Python runs as printed, and its yaml is read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets import DataSpec
from pcdet_distill.distill import DISTILL_LOSSES
from pcdet_distill.models import build_network


def blocks(file: Path, language: str, heading: str | None = None) -> list[str]:
    """The code blocks of a page, or of one of its sections."""
    text = file.read_text()
    if heading is not None:
        text = re.split(r"\n## ", text.split(f"## {heading}\n")[1])[0]
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def batch(seed: int) -> dict:
    """Pillars of two frames on 32 x 32 cells, with labels and targets."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.cat([torch.randperm(1024, generator=generator)[:80] for _ in range(2)])
    frame = torch.arange(160) // 80
    boxes = torch.tensor([[[4.0, 0.0, -1.0, 3.9, 1.6, 1.5, 0.0, 1.0]]]).repeat(2, 1, 1)
    return {
        "voxels": torch.randn(160, 5, 4, generator=generator),
        "voxel_num_points": torch.full((160,), 5.0),
        "voxel_coords": torch.stack([frame, 0 * cells, cells // 32, cells % 32], dim=1).float(),
        "batch_size": 2,
        "targets": torch.rand(2, 1, 16, 16, generator=generator),
        "gt_boxes": boxes,
    }


def with_detectors(page: Path) -> dict:
    """What the page takes for given: two detectors like the one it shows, and a few batches."""
    names: dict = {"batches": [batch(seed) for seed in range(3)]}
    exec(next(code for code in blocks(page, "python") if "class MyDetector" in code), names)

    class Teacher(names["MyDetector"]):
        def forward(self, batch_dict):
            result = super().forward(batch_dict)
            if self.training:
                return result
            return [
                {**frame, "pred_boxes": torch.zeros(256, 7), "pred_labels": torch.ones(256)}
                for frame in result[0]
            ], {}

    names.update(student=names["MyDetector"](8), teacher=Teacher(16), torch=torch)
    return names


def test_every_block_of_the_page_runs(repo, tmp_path, monkeypatch, capsys):
    page = repo / "docs" / "library.md"
    names = with_detectors(page)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cfgs").symlink_to(repo / "cfgs")
    teacher_cfg = load_config(repo / "cfgs/synthetic/pointpillar_teacher.yaml")
    spec = DataSpec.from_config(teacher_cfg.DATA_CONFIG, teacher_cfg.CLASS_NAMES)
    save_checkpoint(
        {"model_state": build_network(teacher_cfg.MODEL, 3, spec).state_dict()},
        tmp_path / "teacher.pth",
    )
    python = blocks(page, "python")
    assert len(python) == 7
    for code in python:
        if "openpcdet" not in code:
            exec(code, names)
    assert (tmp_path / "student.pth").is_file()
    assert names["tb_dict"]["distill_map"] > 0
    assert torch.load(tmp_path / "student.pth").keys() == names["MyDetector"](8).state_dict().keys()
    assert "labelled boxes" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["docs/library.md", "README.md"])
def test_the_two_lines_of_openpcdet(repo, monkeypatch, page):
    """Their names and arguments; what they do is tried in tests/integrations."""
    (code,) = (text for text in blocks(repo / page, "python") if "openpcdet" in text)
    assert len([line for line in code.splitlines() if line]) == 2
    student = torch.nn.Identity()
    names = {"model": student, "cfg": {"DATA_CONFIG": {}}, "train_set": None, "logger": None}
    exec(code, names)
    assert names["model"] is student
    assert "pcdet" not in sys.modules


def test_its_yaml_is_of_losses_that_exist(repo):
    (text,) = blocks(repo / "docs" / "library.md", "yaml")
    terms = yaml.safe_load(text)["DISTILL"]["TERMS"]
    assert all(term["NAME"] in DISTILL_LOSSES for term in terms.values())
