"""README.md: its example of Python runs as it stands there, as a user would run it."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import copytree

import pytest
import torch
import yaml

from pcdet_distill.cli import main
from pcdet_distill.config import load_config, paths
from pcdet_distill.distill import DISTILL_LOSSES


def blocks(readme: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", readme.read_text(), flags=re.DOTALL)


@pytest.fixture
def folder_with_data(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of a user who installed the package, with simulated frames made in it."""
    package = tmp_path / "site-packages" / "pcdet_distill"
    copytree(repo / "cfgs", package / "cfgs")
    monkeypatch.setattr(paths, "PACKAGE", package)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    main(["data", "synthetic", "--out", "data/synthetic_kitti", "--frames", "6", "--workers", "1"])
    main(["data", "kitti", "synthetic/dataset.yaml", "--workers", "1"])
    return folder


def test_the_example_trains_a_student(repo: Path, folder_with_data: Path) -> None:
    (example,) = (code for code in blocks(repo / "README.md", "python") if "optimizer" in code)
    names: dict[str, object] = {}
    exec(example.replace("batch_size=2", "batch_size=2, workers=0"), names)
    weights = torch.load(folder_with_data / "student.pth", weights_only=True)
    student = names["student"]
    teacher = names["teacher"]
    assert isinstance(student, torch.nn.Module)
    assert isinstance(teacher, torch.nn.Module)
    assert weights.keys() == student.state_dict().keys()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_its_yaml_is_a_distillation(repo: Path, tmp_path: Path) -> None:
    (text,) = blocks(repo / "README.md", "yaml")
    terms = yaml.safe_load(text)["DISTILL"]["TERMS"]
    assert all(term["NAME"] in DISTILL_LOSSES for term in terms.values())
    file = repo / "cfgs" / "kitti_distill" / "pointpillar_4x.yaml"
    (tmp_path / "mine.yaml").write_text(
        text.replace("cfgs/kitti_distill/pointpillar_4x.yaml", str(file))
    )
    assert load_config(tmp_path / "mine.yaml").DISTILL.INIT_STUDENT == "SLICE"


def test_its_commands_name_files_that_exist(repo: Path) -> None:
    text = (repo / "README.md").read_text()
    for path in re.findall(r"(?:cfgs|tools)/[\w/]+\.(?:yaml|py|sh)", text):
        assert (repo / path).is_file(), path
