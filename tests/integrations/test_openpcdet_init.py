"""DISTILL.INIT_STUDENT around OpenPCDet's detectors (stand_in/): weights before train.py starts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from easydict import EasyDict
from openpcdet_setup import (
    LOG,
    PILLARS,
    TrainSet,
    build,
    make_config,
    model_cfg,
    train_as_openpcdet,
    write_teacher,
)
from torch import Tensor, nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.integrations.openpcdet import build_openpcdet_teacher, distill_openpcdet
from pcdet_distill.integrations.openpcdet_init import RunnableDetector

WIDTH = 4  # of the student's pillars; its blocks are twice as wide
TEACHER_WIDTH = 6


def initialised(
    folder: Path, init: object, terms: dict[str, Any], **changes: Any
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The student, what distill_openpcdet makes of it, and the teacher."""
    train_set = TrainSet()
    cfg = make_config(folder, terms, teacher_width=TEACHER_WIDTH)
    cfg.DISTILL.INIT_STUDENT = init
    file = write_teacher(folder, cfg, train_set)
    cfg.MODEL.update(changes)
    student = build(cfg, train_set, seed=3)
    model = distill_openpcdet(student, cfg, train_set, file, logger=LOG)
    return student, model, build_openpcdet_teacher(cfg, train_set, file).model


def kept_rows(student: Tensor, teacher: Tensor) -> list[int]:
    """The rows of the teacher's matrix that the rows of the student's are."""
    rows = []
    for row in student:
        is_equal = (teacher == row).all(dim=1)
        rows += torch.nonzero(is_equal).flatten().tolist()
    return rows


def test_the_student_has_the_teachers_pillar_channels(tmp_path: Path) -> None:
    student, model, teacher = initialised(tmp_path, "SLICE", {})
    assert model is student  # without terms nothing is left to distil
    kept = kept_rows(student.vfe.linear.weight, teacher.vfe.linear.weight)
    assert len(kept) == WIDTH
    assert len(set(kept)) == WIDTH
    # The next layer reads these channels, and all its outputs are some of the teacher's.
    inputs = teacher.backbone_2d.blocks[0][0].weight[:, kept]
    own = student.backbone_2d.blocks[0][0].weight
    outputs = kept_rows(own.flatten(1), inputs.flatten(1))
    assert len(set(outputs)) == 2 * WIDTH
    predicted = teacher.dense_head.conv_cls.weight[:, outputs]
    assert torch.equal(student.dense_head.conv_cls.weight, predicted)


def test_a_fitted_student_predicts_like_its_teacher(tmp_path: Path) -> None:
    """Nearer than the copy of some of its channels, and than random weights."""
    distances = {}
    for mode in ("SLICE", "RECONSTRUCT"):
        student, _, teacher = initialised(tmp_path, {"MODE": mode, "FRAMES": 8}, {})
        distances[mode] = distance(student, teacher)
    random = build(EasyDict(MODEL=EasyDict(model_cfg(WIDTH))), TrainSet(), seed=3)
    assert distances["RECONSTRUCT"] < 0.5 * distances["SLICE"]
    assert distances["RECONSTRUCT"] < distance(random, teacher)


def distance(student: nn.Module, teacher: nn.Module) -> float:
    """Mean squared difference of the class logits on all frames."""
    train_set = TrainSet()
    batch = train_set.collate_batch([train_set[number] for number in range(len(train_set))])
    tensors = {}
    for key, value in batch.items():
        is_text = key in ("frame_id", "batch_size")
        tensors[key] = value if is_text else torch.from_numpy(value).float()
    logits = []
    for model in (student, teacher):
        model.eval()
        with torch.no_grad():
            filled = RunnableDetector(model).run_modules(dict(tensors))
        logits.append(filled["batch_cls_preds"])
    return float((logits[0] - logits[1]).square().mean())


def test_a_distillation_begins_from_there(tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.INFO):
        student, model, _ = initialised(tmp_path, "SLICE", {"PILLARS": PILLARS})
    assert "student initialised from its teacher (SLICE, magnitude channels)" in caplog.text
    assert model.student is student
    logs = train_as_openpcdet(model, TrainSet(), tmp_path / "ckpt", 1)
    assert logs[-1]["distill_pillars"] > 0


def test_modes_and_training_mode_stay(tmp_path: Path) -> None:
    student, _, _ = initialised(tmp_path, "SLICE", {})
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_student_of_another_kind_is_refused(tmp_path: Path) -> None:
    wider = {"VFE": EasyDict(NAME="PillarVFE", NUM_FILTERS=[9])}
    with pytest.raises(ConfigError, match="INIT_STUDENT: vfe.linear has 9 outputs in the student"):
        initialised(tmp_path, "SLICE", {}, **wider)
