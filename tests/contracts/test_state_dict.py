"""A detector's state has OpenPCDet's names, survives a file, and depends on no forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint
from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.errors import CheckpointError
from pcdet_distill.models import Detector3DTemplate, build_network

TEACHER = "kitti_models/pointpillar.yaml"
STUDENTS = {"kitti_distill/pointpillar_4x.yaml": 4, "kitti_distill/pointpillar_16x.yaml": 16}
STUDENT = "kitti_distill/pointpillar_4x.yaml"


def build(repo: Path, config: str) -> Detector3DTemplate:
    cfg = load_config(repo / "cfgs" / config)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    return build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)


def layout(state: dict) -> list[list]:
    return [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in state.items()
    ]


def count(model: Detector3DTemplate) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_pointpillar_is_the_manifest(repo: Path) -> None:
    manifest = json.loads(
        (repo / "tests" / "golden" / "manifests" / "pointpillar.json").read_text()
    )
    assert layout(build(repo, TEACHER).state_dict()) == manifest["state_dict"]


def test_a_forward_pass_adds_nothing_to_the_state(repo: Path) -> None:
    model = build(repo, STUDENT).eval()
    before = layout(model.state_dict())
    batch = {
        "voxels": torch.zeros(1, 32, 4),
        "voxel_num_points": torch.ones(1),
        "voxel_coords": torch.zeros(1, 4),
        "batch_size": 1,
    }
    with torch.no_grad():
        model(batch)
    assert layout(model.state_dict()) == before


def test_through_a_file(repo: Path, tmp_path: Path) -> None:
    model = build(repo, STUDENT)
    other = build(repo, STUDENT)
    model.update_global_step()
    save_checkpoint(
        {**model.checkpoint_state(), "epoch": 3, "it": 7}, tmp_path / "checkpoint_epoch_3.pth"
    )
    other.load_checkpoint_state(
        load_checkpoint(tmp_path / "checkpoint_epoch_3.pth"), where="checkpoint_epoch_3.pth"
    )
    assert all(
        torch.equal(value, model.state_dict()[key]) for key, value in other.state_dict().items()
    )
    assert other.global_step.item() == 1


def test_a_student_refuses_the_teachers_weights(repo: Path) -> None:
    teacher = build(repo, TEACHER)
    student = build(repo, STUDENT)
    with pytest.raises(CheckpointError, match="teacher.pth"):
        student.load_checkpoint_state(teacher.checkpoint_state(), where="teacher.pth")


@pytest.mark.parametrize(("config", "factor"), STUDENTS.items())
def test_students_have_the_teachers_names_and_a_fraction_of_its_parameters(
    repo: Path, config: str, factor: int
) -> None:
    teacher = build(repo, TEACHER)
    student = build(repo, config)
    assert list(student.state_dict()) == list(teacher.state_dict())
    assert count(teacher) / count(student) == pytest.approx(factor, rel=0.05)
