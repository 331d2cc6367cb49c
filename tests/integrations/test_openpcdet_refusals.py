"""What distill_openpcdet refuses: each in one sentence that names the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from easydict import EasyDict
from openpcdet_setup import (
    LOG,
    PILLARS,
    TrainSet,
    build,
    make_config,
    make_distilled,
    model_cfg,
    train_as_openpcdet,
    write_teacher,
)

from pcdet_distill.errors import CheckpointError, ConfigError
from pcdet_distill.integrations.openpcdet import distill_openpcdet


def refusal(
    folder: Path,
    error: type[Exception],
    change: Callable[[EasyDict], object] | None = None,
    with_teacher_ckpt: bool = True,
    **arguments: Any,
) -> str:
    """The message of ``error`` for a config that is changed by ``change``."""
    train_set = TrainSet()
    cfg = make_config(folder, {"PILLARS": PILLARS})
    file = write_teacher(folder, cfg, train_set)
    if change is not None:
        change(cfg)
    student = build(cfg, train_set)
    teacher_ckpt = file if with_teacher_ckpt else None
    with pytest.raises(error) as caught:
        distill_openpcdet(student, cfg, train_set, teacher_ckpt, **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda cfg: cfg.DISTILL.update(TERM={}),
            "DISTILL: unknown key 'TERM'; did you mean 'TERMS'",
        ),
        (lambda cfg: cfg.DISTILL.pop("TERMS"), "DISTILL.TERMS is missing"),
        (
            lambda cfg: cfg.DISTILL.update(INIT_STUDENT="SLICED"),
            "DISTILL.INIT_STUDENT: unknown value 'SLICED'; did you mean 'SLICE'",
        ),
        (
            lambda cfg: cfg.DISTILL.update(TERMS={}),
            "DISTILL.TERMS: expected at least one term, or INIT_STUDENT",
        ),
        (
            lambda cfg: cfg.DISTILL.TEACHER.update(CACHE="predictions"),
            "DISTILL.TEACHER.CACHE: not available around OpenPCDet's datasets",
        ),
        (
            lambda cfg: cfg.DISTILL.TEACHER.update(REUSE=2),
            "DISTILL.TEACHER.REUSE: not available around OpenPCDet's datasets",
        ),
        (lambda cfg: cfg.DISTILL.TEACHER.pop("CFG_FILE"), "DISTILL.TEACHER.CFG_FILE is missing"),
        (
            lambda cfg: cfg.DISTILL.TEACHER.update(CFG_FILE="cfgs/nowhere.yaml"),
            "paths in OpenPCDet's yaml files count",
        ),
        (
            lambda cfg: cfg.DATA_CONFIG.update(POINT_CLOUD_RANGE=[0, 0, 0, 1, 1, 1]),
            "both share one batch",
        ),
        (
            lambda cfg: cfg.DISTILL.TERMS.PILLARS.update(STUDENT="vfe@pillars"),
            "no 'pillars' in the output of vfe",
        ),
    ],
)
def test_wrong_blocks(tmp_path: Path, change: Callable[[EasyDict], object], words: str) -> None:
    assert words in refusal(tmp_path, ConfigError, change)


def test_a_teacher_without_a_checkpoint(tmp_path: Path) -> None:
    message = refusal(tmp_path, ConfigError, with_teacher_ckpt=False)
    assert "DISTILL.TEACHER.CKPT: the teacher has no checkpoint" in message


def test_a_checkpoint_of_another_teacher(tmp_path: Path) -> None:
    def widen_teacher(cfg: EasyDict) -> None:
        cfg.DISTILL.TEACHER.CFG_FILE = None
        cfg.DISTILL.TEACHER.MODEL = EasyDict(model_cfg(10))

    message = refusal(tmp_path, CheckpointError, widen_teacher)
    assert "teacher.pth, as the teacher: does not fit the model" in message


def test_a_teacher_with_other_voxels_or_given_twice(tmp_path: Path) -> None:
    other = build(make_config(tmp_path, {}), TrainSet(voxel_size=[1.0, 1.0, 4.0]))
    message = refusal(tmp_path, ConfigError, teacher=other)
    assert "both a teacher and teacher_ckpt were given" in message
    message = refusal(tmp_path, ConfigError, teacher=other, with_teacher_ckpt=False)
    assert "the teacher's voxel_size is [1.0, 1.0, 4.0], the student's [0.5, 0.5, 4.0]" in message


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_predictions_of_other_heads(tmp_path: Path, side: str) -> None:
    """OpenPCDet's CenterHead has other attributes than this package's."""
    train_set = TrainSet()
    term = {"NAME": "LogitBoxLoss", "STUDENT": "dense_head", "TEACHER": "dense_head"}
    cfg = make_config(tmp_path, {"LOGITS": term})
    models: dict[str, Any] = {"student": build(cfg, train_set), "teacher": build(cfg, train_set)}
    head = models[side].dense_head
    module = "pcdet.models.dense_heads.center_head"
    head.__class__ = type("CenterHead", (type(head),), {"__module__": module})
    words = (
        f"LOGITS.{side.upper()}: predictions of OpenPCDet's CenterHead cannot be read, those of "
        "AnchorHeadSingle can"
    )
    with pytest.raises(ConfigError, match=words):
        distill_openpcdet(models["student"], cfg, train_set, teacher=models["teacher"])


@pytest.mark.parametrize("start", ["START", "SHARE"])
def test_a_weight_that_changes_needs_the_number_of_steps(tmp_path: Path, start: str) -> None:
    changing = {**PILLARS, "WEIGHT": {start: 1.0, "END": 0.0, "SCHEDULE": "linear"}}
    words = "PILLARS.WEIGHT: it changes with the progress of the training"
    with pytest.raises(ConfigError, match=words):
        make_distilled(tmp_path, {"PILLARS": changing})


def test_a_constant_share_of_the_gradient_needs_no_number_of_steps(tmp_path: Path) -> None:
    shared = {**PILLARS, "WEIGHT": {"SHARE": 0.2}}
    _, train_set, _, model = make_distilled(tmp_path, {"PILLARS": shared})
    logs = train_as_openpcdet(model, train_set, tmp_path / "ckpt", 1)
    assert logs[-1]["distill_pillars_weight"] > 0
    assert 0 < logs[-1]["distill_pillars_share"] < 1


def test_resuming_from_a_plain_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg, train_set, _, model = make_distilled(tmp_path, {"PILLARS": PILLARS})
    train_as_openpcdet(build(cfg, train_set), train_set, tmp_path / "plain", 1)
    file = tmp_path / "plain" / "checkpoint_epoch_1.pth"
    with pytest.raises(CheckpointError, match="no distill_state in it"):
        model.load_params_with_optimizer(str(file), logger=LOG)
    assert "give it as --pretrained_model" in caplog.text


def test_soft_targets_on_frames_without_labels(tmp_path: Path) -> None:
    words = "DISTILL.TERMS.SOFT.NAME: SoftTargets leaves frames out .* AnchorHeadSingle of the"
    with pytest.raises(ConfigError, match=words):
        make_distilled(tmp_path, {"PILLARS": PILLARS, "SOFT": {"NAME": "SoftTargets"}})
