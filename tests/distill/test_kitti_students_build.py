"""Every yaml file of cfgs/kitti_distill builds at full size: student, teacher and distiller."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import find_file, load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import build_distiller
from pcdet_distill.models import build_network

REPO = Path(__file__).parents[2]
FILES = sorted((REPO / "cfgs/kitti_distill").glob("*.yaml"))


def built(cfg):
    """The detector of a config, and its data."""
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    return build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec), spec


def size_of(model):
    """Number of its parameters."""
    return sum(tensor.numel() for tensor in model.parameters())


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory):
    """From a teacher's yaml file to its parameters' number and a checkpoint of it, untrained."""
    made = {}

    def make(file):
        if file not in made:
            model, _ = built(load_config(file))
            checkpoint = tmp_path_factory.mktemp("teacher") / "teacher.pth"
            save_checkpoint({"model_state": model.state_dict()}, checkpoint)
            made[file] = size_of(model), checkpoint
        return made[file]

    return make


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_builds(file, weights_of):
    cfg = load_config(file)
    student, spec = built(cfg)
    if "DISTILL" not in cfg:  # a plain student: building is all there is
        return
    teacher_size, checkpoint = weights_of(find_file(cfg.DISTILL.TEACHER.CFG_FILE, near=file))
    model = build_distiller(cfg, student, spec, teacher_ckpt=checkpoint)
    assert size_of(student) < 0.5 * teacher_size
    parts = [*model.head.named_terms(), *model.head.named_transforms()]
    assert {name for name, _ in parts} == set(cfg.DISTILL.TERMS)
    assert len(parts) == len(cfg.DISTILL.TERMS)
    assert cfg.DISTILL.TERMS or model.student_init is not None
